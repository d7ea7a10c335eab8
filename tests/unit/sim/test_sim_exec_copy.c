/* SPDX-License-Identifier: Apache-2.0 */
/* The rarer copies: boxes of three dimensions, runs of arrays, batches; whole contexts' events. */
#include "simcu.h"

static CUcontext ctx;
static CUmodule mod;
static CUstream s;

static int setup(void **state)
{
	ctx = simtest_context(0);
	mod = simcu_kernels();
	ok(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	return 0;
}

static void fill(uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(i * 31 + (i >> 8) * 7);
}

/* A box inside a volume, to the device and back, with nothing around it touched. */
static void test_sim_exec_copy__volumes(void **state)
{
	const size_t pitch = 64, rows = 10, layers = 5, bytes = 64 * 10 * 5;
	uint8_t in[64 * 10 * 5], out[64 * 10 * 5];
	CUdeviceptr d = simcu_alloc(bytes);
	CUDA_MEMCPY3D c = {
		.srcXInBytes = 3,
		.srcY = 2,
		.srcZ = 1,
		.srcMemoryType = CU_MEMORYTYPE_HOST,
		.srcHost = in,
		.srcPitch = pitch,
		.srcHeight = rows,
		.dstXInBytes = 5,
		.dstY = 1,
		.dstZ = 2,
		.dstMemoryType = CU_MEMORYTYPE_DEVICE,
		.dstDevice = d,
		.dstPitch = pitch,
		.dstHeight = rows,
		.WidthInBytes = 20,
		.Height = 4,
		.Depth = 3,
	};

	fill(in, sizeof(in));
	ok(cuMemsetD8_v2(d, 0xee, bytes));
	ok(cuMemcpy3D_v2(&c));
	ok(cuMemcpyDtoH_v2(out, d, bytes));
	for (size_t z = 0; z < layers; z++)
		for (size_t y = 0; y < rows; y++)
			for (size_t x = 0; x < pitch; x++) {
				bool inside =
					z >= 2 && z < 5 && y >= 1 && y < 5 && x >= 5 && x < 25;
				uint8_t want = 0xee;

				if (inside)
					want = in[((z - 1) * rows + y + 1) * pitch + x - 2];
				assert_int_equal(out[(z * rows + y) * pitch + x], want);
			}
	c.Depth = 4; /* out of the allocation */
	FAILS(CUDA_ERROR_INVALID_VALUE, cuMemcpy3D_v2(&c));
	c.Depth = 3;
	c.dstHeight = 4; /* rows that overlap the next layer */
	FAILS(CUDA_ERROR_INVALID_VALUE, cuMemcpy3D_v2(&c));
	c.dstHeight = rows;
	c.srcLOD = 1;
	FAILS(CUDA_ERROR_INVALID_VALUE, cuMemcpy3D_v2(&c));
	c.srcLOD = 0;
	c.Height = 0;
	ok(cuMemcpy3D_v2(&c));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuMemcpy3D_v2(NULL));
	ok(cuMemFree_v2(d));
}

static void test_sim_exec_copy__runs_of_arrays(void **state)
{
	CUDA_ARRAY_DESCRIPTOR desc = {
		.Width = 256,
		.Height = 0,
		.Format = CU_AD_FORMAT_UNSIGNED_INT8,
		.NumChannels = 1,
	};
	uint8_t in[256], out[256] = {0};
	CUdeviceptr d = simcu_alloc(256);
	CUarray a, b;

	fill(in, sizeof(in));
	ok(cuArrayCreate_v2(&a, &desc));
	ok(cuArrayCreate_v2(&b, &desc));
	ok(cuMemcpyHtoA_v2(a, 0, in, 256));
	ok(cuMemcpyAtoA_v2(b, 10, a, 20, 100));
	ok(cuMemcpyAtoD_v2(d, b, 10, 100));
	ok(cuMemcpyDtoA_v2(a, 200, d, 50));
	ok(cuMemcpyAtoHAsync_v2(out, a, 200, 50, s));
	ok(cuStreamSynchronize(s));
	assert_memory_equal(out, in + 20, 50);
	FAILS(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoA_v2(a, 200, in, 100));
	FAILS(CUDA_ERROR_INVALID_HANDLE, cuMemcpyHtoA_v2(NULL, 0, in, 1));
	ok(cuArrayDestroy(a));
	ok(cuArrayDestroy(b));
	ok(cuMemFree_v2(d));
}

static void test_sim_exec_copy__batches(void **state)
{
	CUdeviceptr d = simcu_alloc(4096), dsts[3], srcs[3];
	uint8_t in[3][100], out[300];
	size_t sizes[3] = {100, 50, 100}, attr_idx[1] = {0}, failed;
	CUmemcpyAttributes attrs = {.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM};

	for (int i = 0; i < 3; i++) {
		memset(in[i], i + 1, sizeof(in[i]));
		dsts[i] = d + 100 * (CUdeviceptr)i;
		srcs[i] = (CUdeviceptr)(uintptr_t)in[i];
	}
	ok(cuMemsetD8Async(d, 9, 4096, s));
	ok(cuMemcpyBatchAsync_v2(dsts, srcs, sizes, 3, &attrs, attr_idx, 1, s));
	ok(cuMemcpyDtoHAsync_v2(out, d, 300, s));
	ok(cuStreamSynchronize(s));
	assert_int_equal(out[99], 1);
	assert_int_equal(out[149], 2);
	assert_int_equal(out[150], 9);
	assert_int_equal(out[200], 3);
	dsts[1] = 0;
	FAILS(CUDA_ERROR_INVALID_VALUE,
	      cuMemcpyBatchAsync(dsts, srcs, sizes, 3, &attrs, attr_idx, 1, &failed, s));
	assert_int_equal(failed, 1);
	FAILS(CUDA_ERROR_INVALID_VALUE,
	      cuMemcpyBatchAsync_v2(NULL, srcs, sizes, 3, &attrs, attr_idx, 1, s));
	FAILS(CUDA_ERROR_INVALID_HANDLE,
	      cuMemcpyBatchAsync_v2(dsts, srcs, sizes, 1, &attrs, attr_idx, 1, NULL));
	ok(cuMemcpyWithAttributesAsync(d, srcs[2], 100, &attrs, s));
	ok(cuMemcpyDtoHAsync_v2(out, d, 300, s));
	ok(cuStreamSynchronize(s));
	assert_int_equal(out[99], 3);
	attrs.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_INVALID;
	FAILS(CUDA_ERROR_INVALID_VALUE, cuMemcpyWithAttributesAsync(d, srcs[2], 100, &attrs, s));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuMemcpyWithAttributesAsync(d, srcs[2], 100, NULL, s));
	ok(cuMemFree_v2(d));
}

static void test_sim_exec_copy__events_of_whole_contexts(void **state)
{
	CUfunction spin = simcu_function(mod, "aq_spin_ns");
	CUstream t;
	CUevent a, b;

	ok(cuStreamCreate(&t, CU_STREAM_NON_BLOCKING));
	ok(cuEventCreate(&a, 0));
	ok(cuEventCreate(&b, 0));
	ok(simcu_spin(spin, s, 5 * MS));
	ok(cuEventRecord(a, s));
	ok(simcu_spin(spin, t, 10 * MS));
	ok(cuCtxRecordEvent(ctx, b));
	FAILS(CUDA_ERROR_NOT_READY, cuEventQuery(b));
	ok(cuEventSynchronize(b));
	ok(cuStreamQuery(t));
	assert_in_range((uint64_t)(simcu_elapsed_ms(a, b) * 1000 + 0.5f), 10000, 10000);
	ok(cuCtxWaitEvent(ctx, b));
	ok(cuStreamSynchronize(t));
	ok(cuEventDestroy_v2(a));
	ok(cuEventDestroy_v2(b));
	ok(cuStreamDestroy_v2(t));
}

/* A kernel that the simulator does not know takes ten microseconds, or what it was told. */
static void test_sim_exec_copy__unknown_kernels(void **state)
{
	CUevent a, b;
	CUfunction f;
	CUmodule m;

	ok(cuModuleLoadData(&m, ".version 7.0\n.target sm_70\n.address_size 64\n"
				".visible .entry nothing()\n{\n ret;\n}\n"));
	ok(cuModuleGetFunction(&f, m, "nothing"));
	ok(cuEventCreate(&a, 0));
	ok(cuEventCreate(&b, 0));
	ok(simcu_spin(simcu_function(mod, "aq_spin_ns"), s, 5 * MS));
	ok(cuEventRecord(a, s));
	for (int i = 0; i < 100; i++)
		ok(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, s, NULL, NULL));
	ok(cuEventRecord(b, s));
	ok(cuStreamSynchronize(s));
	assert_in_range((uint64_t)(simcu_elapsed_ms(a, b) * 1000 + 0.5f), 1000, 1000);
	ok(cuEventDestroy_v2(a));
	ok(cuEventDestroy_v2(b));
	ok(cuModuleUnload(m));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sim_exec_copy__volumes),
		cmocka_unit_test(test_sim_exec_copy__runs_of_arrays),
		cmocka_unit_test(test_sim_exec_copy__batches),
		cmocka_unit_test(test_sim_exec_copy__events_of_whole_contexts),
		cmocka_unit_test(test_sim_exec_copy__unknown_kernels),
	};

	simtest_begin("h100");
	unsetenv("ALIQUOT_SIM_KERNEL_US");
	return cmocka_run_group_tests(tests, setup, NULL);
}
