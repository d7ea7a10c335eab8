/* SPDX-License-Identifier: Apache-2.0 */
/* Loading code, asking about it, launching it: results and errors as programs know them. */
#include <dlfcn.h>
#include <unistd.h>

#include "cuda/cuda_name.h"
#include "simcu.h"

static CUcontext ctx;
static CUmodule mod;

static int setup(void **state)
{
	ctx = simtest_context(0);
	mod = simcu_kernels();
	return 0;
}

static const char vars[] = ".version 8.0\n.target sm_80\n.address_size 64\n"
			   ".visible .global .align 8 .u64 counter = 7;\n"
			   ".visible .global .align 4 .b8 table[12] = {1, 2, 3, 0, 5};\n"
			   ".const .align 4 .f32 half = 0f3F000000;\n"
			   ".global .align 4 .b8 large[100000];\n"
			   "// a comment with .entry not_me(\n"
			   ".visible .entry params(.param .u64 a, .param .u8 b,\n"
			   "  .param .align 16 .b8 c[48], .param .v2 .f32 d)\n"
			   ".maxntid 256, 1, 1\n"
			   "{ .shared .align 4 .b8 buffer[1024]; .reg .u32 %r<3>; /* } */ ret; }\n"
			   ".entry empty() { ret; }\n";

static CUresult load(const char *text)
{
	CUmodule m = NULL;
	CUresult r = cuModuleLoadData(&m, text);

	if (r == CUDA_SUCCESS)
		ok(cuModuleUnload(m));
	return r;
}

static void test_sim_exec_code__bad_text_is_refused(void **state)
{
	char error[256], huge[64];
	CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
	void *values[] = {error, (void *)sizeof(error)};
	CUmodule m;

	FAILS(CUDA_ERROR_INVALID_VALUE, cuModuleLoadData(NULL, vars));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuModuleLoadData(&m, NULL));
	FAILS(CUDA_ERROR_INVALID_PTX, load("hello"));
	FAILS(CUDA_ERROR_INVALID_IMAGE, load(""));
	FAILS(CUDA_ERROR_INVALID_IMAGE, load("\x7f\x80\x81\x82\x83"));
	FAILS(CUDA_ERROR_INVALID_PTX, load(".version 8.0\n.target sm_80\n.entry a( {"));
	FAILS(CUDA_ERROR_INVALID_PTX, load(".version 8.0\n.target sm_999\n.entry a() { }"));
	FAILS(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, load(".version 99.0\n.target sm_80\n"));
	FAILS(CUDA_ERROR_INVALID_PTX, load(".version 8.0\n.target sm_80\n.entry a() { }\n"
					   ".entry a() { }"));
	FAILS(CUDA_ERROR_INVALID_PTX,
	      cuModuleLoadDataEx(&m, ".version 8.0\n.target sm_80\n.entry a(", 2, options, values));
	assert_non_null(strstr(error, "line 3"));
	assert_true((size_t)values[1] == strlen(error) + 1);
	options[0] = 999;
	FAILS(CUDA_ERROR_INVALID_VALUE, cuModuleLoadDataEx(&m, vars, 2, options, values));
	FAILS(CUDA_ERROR_FILE_NOT_FOUND, cuModuleLoad(&m, "/nonexistent/code"));
	snprintf(huge, sizeof(huge), "/tmp");
	FAILS(CUDA_ERROR_FILE_NOT_FOUND, cuModuleLoad(&m, huge));
}

static void test_sim_exec_code__variables_are_memory(void **state)
{
	CUdeviceptr p, q;
	size_t bytes;
	uint64_t counter = 0;
	uint8_t table[12];
	float half;
	CUmodule m;

	ok(cuModuleLoadData(&m, vars));
	ok(cuModuleGetGlobal_v2(&p, &bytes, m, "counter"));
	assert_int_equal(bytes, 8);
	ok(cuMemcpyDtoH_v2(&counter, p, 8));
	assert_true(counter == 7);
	ok(cuMemsetD32_v2(p, 9, 1));
	ok(cuModuleGetGlobal_v2(&q, NULL, m, "table"));
	ok(cuMemcpyDtoH_v2(table, q, 12));
	assert_memory_equal(table, "\1\2\3\0\5\0\0\0\0\0\0\0", 12);
	ok(cuModuleGetGlobal_v2(&q, &bytes, m, "half"));
	ok(cuMemcpyDtoH_v2(&half, q, 4));
	assert_true(half == 0.5f);
	ok(cuModuleGetGlobal_v2(NULL, &bytes, m, "large"));
	assert_int_equal(bytes, 100000);
	FAILS(CUDA_ERROR_NOT_FOUND, cuModuleGetGlobal_v2(&p, &bytes, m, "absent"));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuModuleGetGlobal_v2(NULL, NULL, m, "counter"));
	ok(cuModuleUnload(m));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH_v2(&counter, p, 8));
}

static void test_sim_exec_code__functions_tell(void **state)
{
	size_t offset, size;
	const char *name;
	CUfunction f, all[3];
	unsigned int n;
	int value;
	CUmodule m, back;

	ok(cuModuleLoadData(&m, vars));
	FAILS(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&f, m, "not_me"));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuModuleGetFunction(NULL, m, "params"));
	ok(cuModuleGetFunctionCount(&n, m));
	assert_int_equal(n, 2);
	ok(cuModuleEnumerateFunctions(all, 3, m));
	assert_null(all[2]);
	ok(cuModuleGetFunction(&f, m, "params"));
	ok(cuFuncGetName(&name, f));
	assert_string_equal(name, "params");
	ok(cuFuncGetModule(&back, f));
	assert_ptr_equal(back, m);
	ok(cuFuncGetParamInfo(f, 1, &offset, &size));
	assert_true(offset == 8 && size == 1);
	ok(cuFuncGetParamInfo(f, 2, &offset, &size));
	assert_true(offset == 16 && size == 48);
	ok(cuFuncGetParamInfo(f, 3, &offset, NULL));
	assert_true(offset == 64);
	FAILS(CUDA_ERROR_INVALID_VALUE, cuFuncGetParamInfo(f, 4, &offset, NULL));
	ok(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, f));
	assert_int_equal(value, 256);
	ok(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, f));
	assert_int_equal(value, 1024);
	ok(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_BINARY_VERSION, f));
	assert_int_equal(value, 90);
	ok(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 200000));
	FAILS(CUDA_ERROR_INVALID_VALUE,
	      cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 300000));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuFuncGetAttribute(NULL, 0, f));
	FAILS(CUDA_ERROR_INVALID_HANDLE, cuFuncGetAttribute(&value, 0, NULL));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuFuncGetAttribute(&value, 99, f));
	ok(cuModuleUnload(m));
}

static void test_sim_exec_code__launches_are_checked(void **state)
{
	CUfunction nothing, params;
	CUdeviceptr a = 0;
	uint8_t b = 0, c[48] = {0};
	float d[2] = {0};
	void *args[] = {&a, &b, c, d};
	char packed[80];
	size_t bytes = 72;
	void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, packed, CU_LAUNCH_PARAM_BUFFER_SIZE,
			 &bytes, CU_LAUNCH_PARAM_END};
	CUmodule m;

	ok(cuModuleLoadData(&m, vars));
	ok(cuModuleGetFunction(&nothing, m, "empty"));
	ok(cuModuleGetFunction(&params, m, "params"));
#define LAUNCH(f, gx, gy, gz, bx, by, bz, shared, p, e)                                            \
	cuLaunchKernel(f, gx, gy, gz, bx, by, bz, shared, NULL, p, e)
	ok(LAUNCH(nothing, 1, 1, 1, 1024, 1, 1, 49152, NULL, NULL));
	ok(LAUNCH(params, 7, 1, 1, 256, 1, 1, 0, args, NULL));
	ok(LAUNCH(params, 7, 1, 1, 256, 1, 1, 0, NULL, extra));
	FAILS(CUDA_ERROR_INVALID_HANDLE, LAUNCH(NULL, 1, 1, 1, 1, 1, 1, 0, NULL, NULL));
	FAILS(CUDA_ERROR_INVALID_VALUE, LAUNCH(nothing, 0, 1, 1, 1, 1, 1, 0, NULL, NULL));
	FAILS(CUDA_ERROR_INVALID_VALUE, LAUNCH(nothing, 1, 65536, 1, 1, 1, 1, 0, NULL, NULL));
	FAILS(CUDA_ERROR_INVALID_VALUE, LAUNCH(nothing, 1, 1, 1, 1025, 1, 1, 0, NULL, NULL));
	FAILS(CUDA_ERROR_INVALID_VALUE, LAUNCH(nothing, 1, 1, 1, 1, 1, 65, 0, NULL, NULL));
	FAILS(CUDA_ERROR_INVALID_VALUE, LAUNCH(nothing, 1, 1, 1, 64, 32, 1, 0, NULL, NULL));
	FAILS(CUDA_ERROR_INVALID_VALUE, LAUNCH(nothing, 1, 1, 1, 1, 1, 1, 49153, NULL, NULL));
	FAILS(CUDA_ERROR_INVALID_VALUE, LAUNCH(params, 1, 1, 1, 257, 1, 1, 0, args, NULL));
	FAILS(CUDA_ERROR_INVALID_VALUE, LAUNCH(params, 1, 1, 1, 1, 1, 1, 0, NULL, NULL));
	FAILS(CUDA_ERROR_INVALID_VALUE, LAUNCH(params, 1, 1, 1, 1, 1, 1, 0, args, extra));
	bytes = 71;
	FAILS(CUDA_ERROR_INVALID_VALUE, LAUNCH(params, 1, 1, 1, 1, 1, 1, 0, NULL, extra));
	FAILS(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE,
	      cuLaunchCooperativeKernel(nothing, 1 << 20, 1, 1, 1024, 1, 1, 0, NULL, NULL));
	ok(cuLaunchCooperativeKernel(nothing, 132, 1, 1, 1024, 1, 1, 0, NULL, NULL));
	ok(cuCtxSetCurrent(NULL));
	FAILS(CUDA_ERROR_INVALID_CONTEXT, LAUNCH(nothing, 1, 1, 1, 1, 1, 1, 0, NULL, NULL));
	ok(cuCtxSetCurrent(ctx));
	ok(cuModuleUnload(m));
}

static void test_sim_exec_code__launch_with_attributes(void **state)
{
	CUlaunchAttribute attrs[2] = {{.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION}};
	CUlaunchConfig config = {
		.gridDimX = 8,
		.gridDimY = 1,
		.gridDimZ = 1,
		.blockDimX = 32,
		.blockDimY = 1,
		.blockDimZ = 1,
		.attrs = attrs,
		.numAttrs = 1,
	};
	uint64_t ns = 1000;
	void *params[] = {&ns};
	CUfunction f = simcu_function(mod, "aq_spin_ns");
	CUevent e;

	attrs[0].value.clusterDim.x = 4;
	attrs[0].value.clusterDim.y = 1;
	attrs[0].value.clusterDim.z = 1;
	ok(cuLaunchKernelEx(&config, f, params, NULL));
	attrs[0].value.clusterDim.x = 3;
	FAILS(CUDA_ERROR_INVALID_CLUSTER_SIZE, cuLaunchKernelEx(&config, f, params, NULL));
	ok(cuEventCreate(&e, CU_EVENT_DISABLE_TIMING));
	attrs[0].id = CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT;
	attrs[0].value.launchCompletionEvent.event = e;
	ok(cuLaunchKernelEx(&config, f, params, NULL));
	ok(cuEventSynchronize(e));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuLaunchKernelEx(NULL, f, params, NULL));
	ok(cuEventDestroy_v2(e));
}

/* The launches of CUDA 3. */
static void test_sim_exec_code__old_launches(void **state)
{
	CUfunction f = simcu_function(mod, "aq_fill");
	CUdeviceptr p = simcu_alloc(400);
	uint32_t host[100];
	uint64_t n = 100;

	ok(cuFuncSetBlockShape(f, 32, 1, 1));
	ok(cuParamSetSize(f, 24));
	ok(cuParamSetv(f, 0, &p, 8));
	ok(cuParamSeti(f, 8, 321));
	ok(cuParamSetv(f, 16, &n, 8));
	ok(cuLaunchGrid(f, 4, 1));
	ok(cuMemcpyDtoH_v2(host, p, 400));
	assert_int_equal(host[0], 321);
	assert_int_equal(host[99], 321);
	FAILS(CUDA_ERROR_INVALID_VALUE, cuParamSetSize(f, 5000));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuLaunchGrid(f, 0, 1));
	ok(cuMemFree_v2(p));
}

static void test_sim_exec_code__a_loop_takes_its_steps(void **state)
{
	static const char text[] = ".version 7.0\n.target sm_70\n.address_size 64\n"
				   ".visible .entry aq_spin_ns(.param .u64 ns)\n{\n    ret;\n}\n"
				   ".visible .entry aq_loop(.param .u64 steps, .param .u64 out)\n"
				   "{\n    ret;\n}\n";
	uint64_t steps[3] = {0, 250000, 1000000};
	CUdeviceptr out = 0;
	CUevent before, after;
	CUmodule loops;
	CUfunction f;

	ok(cuModuleLoadData(&loops, text));
	f = simcu_function(loops, "aq_loop");
	ok(cuEventCreate(&before, CU_EVENT_DEFAULT));
	ok(cuEventCreate(&after, CU_EVENT_DEFAULT));
	for (size_t i = 0; i < 3; i++) {
		void *params[] = {&steps[i], &out};

		/* All is queued behind it, so that no pause of the host is in between. */
		ok(simcu_spin(simcu_function(loops, "aq_spin_ns"), NULL, 20000000));
		ok(cuEventRecord(before, NULL));
		ok(simcu_launch(f, NULL, params));
		ok(cuEventRecord(after, NULL));
		ok(cuEventSynchronize(after));
		/* A nanosecond a step. */
		assert_float_equal(simcu_elapsed_ms(before, after), (double)steps[i] / 1e6, 0.05);
	}
	ok(cuEventDestroy_v2(before));
	ok(cuEventDestroy_v2(after));
	ok(cuModuleUnload(loops));
}

static void test_sim_exec_code__known_kernels_compute(void **state)
{
	CUdeviceptr a = simcu_alloc(40000), b = simcu_alloc(40000), c = simcu_alloc(40000);
	uint64_t n = 10000, total = 0, want = 0, bytes = 40000;
	float *x = malloc(40000), *y = malloc(40000);
	CUdeviceptr out = simcu_alloc(8);
	uint32_t *u = (uint32_t *)x;

	for (uint32_t i = 0; i < n; i++)
		x[i] = (float)i;
	ok(cuMemcpyHtoD_v2(a, x, 40000));
	ok(cuMemcpyHtoD_v2(b, x, 40000));
	{
		void *p[] = {&c, &a, &b, &n};

		ok(simcu_launch(simcu_function(mod, "aq_add"), NULL, p));
	}
	ok(cuMemcpyDtoH_v2(y, c, 40000));
	for (uint32_t i = 0; i < n; i++)
		assert_true(y[i] == 2 * (float)i);
	for (uint32_t i = 0; i < n; i++) {
		u[i] = i * 77;
		want += u[i];
	}
	ok(cuMemcpyHtoD_v2(a, u, 40000));
	{
		void *copy[] = {&b, &a, &n}, *sum[] = {&out, &b, &n}, *read[] = {&out, &b, &bytes};

		ok(simcu_launch(simcu_function(mod, "aq_copy"), NULL, copy));
		ok(cuMemsetD32_v2(out, 0, 2));
		ok(simcu_launch(simcu_function(mod, "aq_sum"), NULL, sum));
		ok(cuMemcpyDtoH_v2(&total, out, 8));
		assert_true(total == want);
		ok(cuMemsetD32_v2(out, 0, 2));
		ok(simcu_launch(simcu_function(mod, "aq_read_bytes"), NULL, read));
		ok(cuMemcpyDtoH_v2(&total, out, 8));
		want = 0;
		for (uint32_t i = 0; i < n; i++)
			want ^= u[i];
		assert_true(total == want);
	}
	ok(cuMemFree_v2(a));
	ok(cuMemFree_v2(b));
	ok(cuMemFree_v2(c));
	ok(cuMemFree_v2(out));
	free(x);
	free(y);
}

/* A roofline: bytes by the memory's speed, operations by the tensor cores', whichever is longer. */
static void test_sim_exec_code__known_kernels_cost_a_roofline(void **state)
{
	CUfunction gemm = simcu_function(mod, "aq_gemm_bf16"), spin;
	CUdeviceptr a = 0, b = 0;
	uint32_t m, n = 8192, k = 8192;
	void *p[] = {&a, &b, &m, &n, &k};
	CUevent e[3];
	CUstream s;

	spin = simcu_function(mod, "aq_spin_ns");
	ok(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	for (int i = 0; i < 3; i++)
		ok(cuEventCreate(&e[i], 0));
	ok(simcu_spin(spin, s, 5000000));
	ok(cuEventRecord(e[0], s));
	m = 1; /* streams 134 MB of weights */
	ok(simcu_launch(gemm, s, p));
	ok(cuEventRecord(e[1], s));
	m = 8192; /* 1.1 TFLOP */
	ok(simcu_launch(gemm, s, p));
	ok(cuEventRecord(e[2], s));
	ok(cuStreamSynchronize(s));
	/* Of 3.35 TB/s and of 989 TFLOP/s: between half and all. */
	assert_in_range((uint64_t)(simcu_elapsed_ms(e[0], e[1]) * 1000), 40, 80);
	assert_in_range((uint64_t)(simcu_elapsed_ms(e[1], e[2]) * 1000), 1111, 2222);
	for (int i = 0; i < 3; i++)
		ok(cuEventDestroy_v2(e[i]));
	ok(cuStreamDestroy_v2(s));
}

static void test_sim_exec_code__libraries(void **state)
{
	CUfunction f, same;
	CUkernel k, all[2];
	CUlibrary lib, back;
	CUdeviceptr p;
	unsigned int n;
	const char *name;
	size_t bytes;
	CUmodule m;
	int value;

	FAILS(CUDA_ERROR_INVALID_VALUE,
	      cuLibraryLoadData(NULL, vars, NULL, NULL, 0, NULL, NULL, 0));
	FAILS(CUDA_ERROR_INVALID_PTX,
	      cuLibraryLoadData(&lib, "nonsense", NULL, NULL, 0, NULL, NULL, 0));
	ok(cuLibraryLoadData(&lib, vars, NULL, NULL, 0, NULL, NULL, 0));
	ok(cuLibraryGetKernelCount(&n, lib));
	assert_int_equal(n, 2);
	ok(cuLibraryEnumerateKernels(all, 2, lib));
	ok(cuLibraryGetKernel(&k, lib, "empty"));
	assert_ptr_equal(k, all[1]);
	FAILS(CUDA_ERROR_NOT_FOUND, cuLibraryGetKernel(&k, lib, "absent"));
	ok(cuKernelGetName(&name, k));
	assert_string_equal(name, "empty");
	ok(cuKernelGetLibrary(&back, k));
	assert_ptr_equal(back, lib);
	ok(cuKernelGetFunction(&f, k));
	ok(cuKernelGetFunction(&same, k));
	assert_ptr_equal(f, same);
	ok(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL));
	ok(cuLaunchKernel((CUfunction)k, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL));
	ok(cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 100000, k, 0));
	ok(cuKernelGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, k, 0));
	assert_int_equal(value, 100000);
	ok(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 100000, NULL, NULL, NULL));
	ok(cuLibraryGetModule(&m, lib));
	FAILS(CUDA_ERROR_NOT_PERMITTED, cuModuleUnload(m));
	ok(cuLibraryGetGlobal(&p, &bytes, lib, "counter"));
	assert_int_equal(bytes, 8);
	FAILS(CUDA_ERROR_NOT_FOUND, cuLibraryGetManaged(&p, &bytes, lib, "counter"));
	ok(cuLibraryUnload(lib));
	FAILS(CUDA_ERROR_INVALID_HANDLE, cuLibraryUnload(NULL));
}

static void test_sim_exec_code__linking(void **state)
{
	CUlinkState state_handle;
	size_t size;
	void *image;
	CUfunction f;
	CUmodule m;

	ok(cuLinkCreate_v2(0, NULL, NULL, &state_handle));
	FAILS(CUDA_ERROR_INVALID_PTX,
	      cuLinkAddData_v2(state_handle, CU_JIT_INPUT_PTX, "bad", 4, "bad", 0, NULL, NULL));
	ok(cuLinkAddData_v2(state_handle, CU_JIT_INPUT_PTX, (void *)vars, sizeof(vars), "vars", 0,
			    NULL, NULL));
	ok(cuLinkComplete(state_handle, &image, &size));
	ok(cuModuleLoadData(&m, image));
	ok(cuLinkDestroy(state_handle));
	ok(cuModuleGetFunction(&f, m, "empty"));
	ok(cuModuleUnload(m));
}

static void test_sim_exec_code__occupancy(void **state)
{
	CUfunction f = simcu_function(mod, "aq_fill");
	int blocks, min_grid, size;
	size_t shared;

	ok(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 1024, 0));
	assert_int_equal(blocks, 2);
	ok(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 32, 0));
	assert_int_equal(blocks, 32);
	ok(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 128, 48 * 1024));
	assert_int_equal(blocks, 4);
	ok(cuOccupancyMaxPotentialBlockSize(&min_grid, &size, f, NULL, 0, 0));
	assert_true(size == 1024 && min_grid == 264);
	ok(cuOccupancyAvailableDynamicSMemPerBlock(&shared, f, 8, 128));
	assert_in_range(shared, 20000, 29184);
	FAILS(CUDA_ERROR_INVALID_VALUE, cuOccupancyMaxActiveBlocksPerMultiprocessor(NULL, f, 1, 0));
	FAILS(CUDA_ERROR_INVALID_VALUE,
	      cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 0, 0));
}

static void test_sim_exec_code__errors_have_names(void **state)
{
	const char *text;

	ok(cuGetErrorName(CUDA_ERROR_OUT_OF_MEMORY, &text));
	assert_string_equal(text, "CUDA_ERROR_OUT_OF_MEMORY");
	ok(cuGetErrorString(CUDA_ERROR_OUT_OF_MEMORY, &text));
	assert_string_equal(text, "out of memory");
	ok(cuGetErrorString(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, &text));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGetErrorName((CUresult)12345, &text));
	assert_null(text);
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGetErrorName(CUDA_SUCCESS, NULL));
}

/* Every entry point that cuGetProcAddress gives is the very symbol of that name. */
static void test_sim_exec_code__proc_address_is_dlsym(void **state)
{
	void *self = dlopen("libcuda.so.1", RTLD_NOW), *pfn;
	CUdriverProcAddressQueryResult status;
	unsigned int found = 0;

	assert_non_null(self);
	for (size_t i = 0; i < aq_cuda_n_entries; i++) {
		const struct aq_cuda_entry *e = &aq_cuda_entries[i];
		int flags = e->per_thread ? CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM
					  : CU_GET_PROC_ADDRESS_LEGACY_STREAM;
		char base[AQ_CUDA_NAME_MAX];

		if (e->kind != AQ_CUDA_FUNCTION || e->since > 13000)
			continue;
		memcpy(base, e->sym, e->base_len);
		base[e->base_len] = '\0';
		ok(cuGetProcAddress_v2(base, &pfn, e->since, (cuuint64_t)flags, &status));
		assert_int_equal(status, CU_GET_PROC_ADDRESS_SUCCESS);
		if (pfn != dlsym(self, e->sym)) {
			Dl_info info = {0};

			/* Two variants of one version: the other one is as good. */
			dladdr(pfn, &info);
			if (!info.dli_sname || strncmp(info.dli_sname, base, e->base_len))
				fail_msg("%s: not its symbol but %s", e->sym, info.dli_sname);
			continue;
		}
		found++;
	}
	assert_true(found > 600);
}

static void test_sim_exec_code__proc_address_errors(void **state)
{
	CUdriverProcAddressQueryResult status;
	void *pfn = &status;

	ok(cuGetProcAddress_v2("cuNoSuchThing", &pfn, 13000, 0, &status));
	assert_null(pfn);
	assert_int_equal(status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
	ok(cuGetProcAddress_v2("cuGraphAddNode", &pfn, 11000, 0, &status));
	assert_null(pfn);
	assert_int_equal(status, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
	ok(cuGetProcAddress_v2("", &pfn, 0, 0, &status));
	assert_int_equal(status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
	pfn = &status;
	FAILS(CUDA_ERROR_NOT_FOUND, cuGetProcAddress("cuNoSuchThing", &pfn, 13000, 0));
	assert_ptr_equal(pfn, &status);
	ok(cuGetProcAddress("cuMemAlloc", &pfn, 2000, 0));
	assert_ptr_equal(pfn, (void *)cuMemAlloc);
	ok(cuGetProcAddress("cuMemAlloc", &pfn, 99000, 0));
	assert_ptr_equal(pfn, (void *)cuMemAlloc_v2);
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGetProcAddress_v2(NULL, &pfn, 0, 0, &status));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGetProcAddress_v2("cuInit", NULL, 0, 0, &status));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGetProcAddress_v2("cuInit", &pfn, 2000, 64, &status));
}

static void test_sim_exec_code__export_tables_are_refused(void **state)
{
	const CUuuid id = {{1, 2, 3}};
	const void *table = NULL;

	assert_int_not_equal(cuGetExportTable(&table, &id), CUDA_SUCCESS);
	assert_null(table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sim_exec_code__bad_text_is_refused),
		cmocka_unit_test(test_sim_exec_code__variables_are_memory),
		cmocka_unit_test(test_sim_exec_code__functions_tell),
		cmocka_unit_test(test_sim_exec_code__launches_are_checked),
		cmocka_unit_test(test_sim_exec_code__launch_with_attributes),
		cmocka_unit_test(test_sim_exec_code__old_launches),
		cmocka_unit_test(test_sim_exec_code__a_loop_takes_its_steps),
		cmocka_unit_test(test_sim_exec_code__known_kernels_compute),
		cmocka_unit_test(test_sim_exec_code__known_kernels_cost_a_roofline),
		cmocka_unit_test(test_sim_exec_code__libraries),
		cmocka_unit_test(test_sim_exec_code__linking),
		cmocka_unit_test(test_sim_exec_code__occupancy),
		cmocka_unit_test(test_sim_exec_code__errors_have_names),
		cmocka_unit_test(test_sim_exec_code__proc_address_is_dlsym),
		cmocka_unit_test(test_sim_exec_code__proc_address_errors),
		cmocka_unit_test(test_sim_exec_code__export_tables_are_refused),
	};

	simtest_begin("h100");
	return cmocka_run_group_tests(tests, setup, NULL);
}
