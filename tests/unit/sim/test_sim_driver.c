/* SPDX-License-Identifier: Apache-2.0 */
/* Initialising, devices, contexts and faults of the simulated driver. What depends on the
 * environment runs in children of this program, which itself stays uninitialised up to the tests of
 * contexts. */
#include "simtest.h"

#include <dlfcn.h>
#include <errno.h>
#include <sys/stat.h>

#include "base/paths.h"

/*
 * Before cuInit.
 */

static int uninitialised(void *arg)
{
	CUcontext ctx;
	CUdeviceptr p;
	int n;

	CHECK(cuDeviceGetCount(&n) == CUDA_ERROR_NOT_INITIALIZED);
	CHECK(cuMemAlloc_v2(&p, 1) == CUDA_ERROR_NOT_INITIALIZED);
	CHECK(cuCtxGetCurrent(&ctx) == CUDA_ERROR_NOT_INITIALIZED);
	CHECK(cuDriverGetVersion(&n) == CUDA_SUCCESS && n == 13000);
	CHECK(cuDriverGetVersion(NULL) == CUDA_ERROR_INVALID_VALUE);
	CHECK(cuInit(1) == CUDA_ERROR_INVALID_VALUE);
	CHECK(cuInit(0) == CUDA_SUCCESS);
	CHECK(cuInit(0) == CUDA_SUCCESS);
	CHECK(cuMemAlloc_v2(&p, 1) == CUDA_ERROR_INVALID_CONTEXT);
	return 0;
}

static void test_driver__nothing_works_before_cuInit(void **state)
{
	assert_int_equal(simtest_wait(simtest_fork(uninitialised, NULL)), 0);
}

static int no_machine(void *arg)
{
	int n;

	setenv("ALIQUOT_SIM_DIR", "/tmp/simtest-nowhere", 1);
	unsetenv("ALIQUOT_SIM");
	CHECK(cuInit(0) == CUDA_ERROR_NO_DEVICE);
	CHECK(cuDeviceGetCount(&n) == CUDA_ERROR_NOT_INITIALIZED);
	/* A later try may find one. */
	setenv("ALIQUOT_SIM_DIR", simtest_dir, 1);
	CHECK(cuInit(0) == CUDA_SUCCESS);
	return 0;
}

static void test_driver__without_a_machine_there_is_no_device(void **state)
{
	assert_int_equal(simtest_wait(simtest_fork(no_machine, NULL)), 0);
}

/* What a child sees with CUDA_VISIBLE_DEVICES=arg: the exit status is the decimal number of the
 * machine's indices + 1 in order; 0: no device. */
static int visible(void *arg)
{
	struct sim_machine m;
	int n, digits = 0;

	setenv("CUDA_VISIBLE_DEVICES", arg, 1);
	if (cuInit(0) == CUDA_ERROR_NO_DEVICE)
		return 0;
	CHECK(sim_machine_open(&m, simtest_dir) == 0);
	CHECK(cuDeviceGetCount(&n) == CUDA_SUCCESS);
	for (int i = 0; i < n; i++) {
		CUuuid uuid;

		CHECK(cuDeviceGetUuid_v2(&uuid, i) == CUDA_SUCCESS);
		for (int j = 0; j < 3; j++) {
			if (memcmp(m.shared->devices[j].uuid, uuid.bytes, 16) == 0)
				digits = digits * 4 + j + 1;
		}
	}
	return digits;
}

static void test_driver__visible_devices(void **state)
{
	char uuid[64], both[160];
	struct sim_machine m;
	const uint8_t *u;

	assert_int_equal(sim_machine_open(&m, simtest_dir), 0);
	u = m.shared->devices[2].uuid;
	snprintf(uuid, sizeof(uuid), "GPU-%02x%02x%02x%02x-%02X", u[0], u[1], u[2], u[3], u[4]);
	snprintf(both, sizeof(both), "%s, 0", uuid);
	const struct {
		const char *list;
		int seen;
	} cases[] = {
		{"0", 1},	 {"2,0", 3 * 4 + 1}, {" 1 , 2", 2 * 4 + 3},
		{"", 0},	 {"-1", 0},	     {"0,7,1", 1},
		{"0,-1,1", 1},	 {"0,x", 1},	     {"0x,1", 0},
		{"1,1", 2},	 {uuid, 3},	     {both, 3 * 4 + 1},
		{"GPU-zzzz", 0}, {"NoDevFiles", 0},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(simtest_wait(simtest_fork(visible, (void *)cases[i].list)),
				 cases[i].seen);
	sim_machine_close(&m);
}

static int faults(void *arg)
{
	CUmemGenericAllocationHandle h;
	CUcontext ctx;
	CUdeviceptr p;

	setenv("ALIQUOT_SIM_FAULT", "cuMemAlloc_v2:3=2,cuMemCreate:2+=999,cuMemFree_v2:*=1", 1);
	CHECK(cuInit(0) == CUDA_SUCCESS);
	CHECK(cuDevicePrimaryCtxRetain(&ctx, 0) == CUDA_SUCCESS);
	CHECK(cuCtxSetCurrent(ctx) == CUDA_SUCCESS);
	for (int i = 1; i <= 5; i++)
		CHECK(cuMemAlloc_v2(&p, 512) == (i == 3 ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS));
	CHECK(cuMemCreate(&h, 0, NULL, 0) == CUDA_ERROR_INVALID_VALUE);
	CHECK(cuMemCreate(&h, 0, NULL, 0) == CUDA_ERROR_UNKNOWN);
	CHECK(cuMemCreate(&h, 0, NULL, 0) == CUDA_ERROR_UNKNOWN);
	CHECK(cuMemFree_v2(p) == CUDA_ERROR_INVALID_VALUE);
	return 0;
}

static int init_fault(void *arg)
{
	setenv("ALIQUOT_SIM_FAULT", "cuInit:1=100", 1);
	CHECK(cuInit(0) == CUDA_ERROR_NO_DEVICE);
	CHECK(cuInit(0) == CUDA_SUCCESS);
	return 0;
}

static void test_driver__faults_come_when_asked_for(void **state)
{
	assert_int_equal(simtest_wait(simtest_fork(faults, NULL)), 0);
	assert_int_equal(simtest_wait(simtest_fork(init_fault, NULL)), 0);
}

/*
 * Machines.
 */

static void test_driver__specs_are_checked(void **state)
{
	static const char *const bad[] = {"",
					  "h1000",
					  "h100:",
					  "h100:0",
					  "h100:17",
					  "h100,",
					  ",h100",
					  "h100:2x",
					  "h100:-1",
					  "h100 :1",
					  "h100:9999999999999999999"};
	char dir[] = "/tmp/simtest-XXXXXX";
	struct sim_machine m;

	assert_non_null(mkdtemp(dir));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(sim_machine_add(dir, bad[i]), -EINVAL);
	assert_int_equal(sim_machine_add(dir, "h100:9,h200:9"), -ENOSPC);
	assert_int_equal(sim_machine_open(&m, dir), -ENOENT);

	/* Adding makes sure that there are as many, and no more. */
	assert_int_equal(sim_machine_add(dir, "H200:2"), 0);
	assert_int_equal(sim_machine_add(dir, "h200,rtx4090"), 0);
	assert_int_equal(sim_machine_add(dir, "h200,h200,h200"), 0);
	assert_int_equal(sim_machine_open(&m, dir), 0);
	assert_int_equal(sim_machine_n_devices(&m), 4);
	assert_string_equal(sim_machine_profile(&m, 2)->id, "rtx4090");
	sim_machine_close(&m);
	assert_int_equal(sim_machine_remove(dir), 0);
	assert_int_equal(sim_machine_remove(dir), -ENOENT);
	assert_int_equal(rmdir(dir), 0); /* nothing was left */
}

/* What is on a device is in files: nobody but the user and, with root's, the group opens them. */
static void test_driver__a_machine_is_closed_to_others(void **state)
{
	mode_t extra = geteuid() == 0 ? 0070 : 0;
	char dir[] = "/tmp/simtest-XXXXXX", path[AQ_PATH_BYTES];
	struct sim_machine m;
	struct stat st;

	assert_non_null(mkdtemp(dir));
	assert_int_equal(sim_machine_add(dir, "h100"), 0);
	assert_int_equal(sim_machine_open(&m, dir), 0);
	assert_int_equal(stat(m.backing, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700 | extra);
	assert_int_equal(st.st_gid, getegid());
	assert_int_equal(aq_paths_join(path, m.backing, SIM_STATE_FILE), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600 | (extra & 0060));
	assert_int_equal(aq_paths_join(path, m.backing, "memory-0"), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600 | (extra & 0060));
	sim_machine_close(&m);
	assert_int_equal(sim_machine_remove(dir), 0);
	assert_int_equal(rmdir(dir), 0);
}

/* Many processes find no machine at once: they get one together. */
static int creator(void *arg)
{
	int n;

	setenv("ALIQUOT_SIM_DIR", arg, 1);
	setenv("ALIQUOT_SIM", "a100-80:2,l40s", 1);
	CHECK(cuInit(0) == CUDA_SUCCESS);
	CHECK(cuDeviceGetCount(&n) == CUDA_SUCCESS);
	return n;
}

static void test_driver__a_machine_is_created_once(void **state)
{
	char dir[] = "/tmp/simtest-XXXXXX";
	pid_t pid[20];

	assert_non_null(mkdtemp(dir));
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 20; i++)
			pid[i] = simtest_fork(creator, dir);
		for (int i = 0; i < 20; i++)
			assert_int_equal(simtest_wait(pid[i]), 3);
		assert_int_equal(sim_machine_remove(dir), 0);
	}
	assert_int_equal(rmdir(dir), 0);
}

static void test_driver__profiles_hold_together(void **state)
{
	for (size_t i = 0; i < sim_n_profiles; i++) {
		const struct sim_profile *p = &sim_profiles[i];

		assert_ptr_equal(sim_profile_find(p->id, strlen(p->id)), p);
		assert_true(p->name && p->architecture && p->cc_major && p->sm_count);
		assert_true(p->reserved_bytes > 100 * MIB && p->reserved_bytes < 2000 * MIB);
		assert_true(p->nvml_total_bytes < SIM_MAX_FRAMES * FRAME);
		assert_true(p->memory_bytes_per_s && p->bf16_flops_per_s && p->h2d_bytes_per_s &&
			    p->d2h_bytes_per_s && p->peer_bytes_per_s);
		assert_true(p->slice_ns >= MIB && p->slice_ns <= 2000000);
		/* The data sheet's bandwidth is clock x width x 2, within a few per cent. */
		double derived = 2.0 * p->memory_clock_khz * 1000 * p->bus_bits / 8;

		assert_true(derived / (double)p->memory_bytes_per_s > 0.95 &&
			    derived / (double)p->memory_bytes_per_s < 1.05);
	}
	assert_null(sim_profile_find("h100x", 5));
	assert_non_null(sim_profile_find("h100x", 4));
}

/*
 * From here on this process is initialised.
 */

static void test_driver__every_symbol_is_there(void **state)
{
	void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);

	assert_non_null(lib);
#define AQ_API(sym, since, role, params, args) assert_non_null(dlsym(lib, #sym));
#define AQ_API_UNTYPED(sym, since, role) assert_non_null(dlsym(lib, #sym));
#define AQ_API_DATA(sym)
#define AQ_ALIAS(base, since, sym)
#include "cuda/cuda_api.def"
#undef AQ_API
#undef AQ_API_UNTYPED
#undef AQ_API_DATA
#undef AQ_ALIAS
	assert_null(dlsym(lib, "sim_enter_slow"));
	dlclose(lib);
}

static void test_driver__devices(void **state)
{
	CUdevice dev = -1, again = -1;
	char name[64], bus[16];
	int n, known = 0;
	size_t total;

	ok(cuInit(0));
	ok(cuDeviceGetCount(&n));
	assert_int_equal(n, 3);
	assert_int_equal(cuDeviceGet(&dev, 3), CUDA_ERROR_INVALID_DEVICE);
	assert_int_equal(cuDeviceGet(&dev, -1), CUDA_ERROR_INVALID_DEVICE);
	assert_int_equal(cuDeviceGet(NULL, 0), CUDA_ERROR_INVALID_VALUE);
	ok(cuDeviceGet(&dev, 2));
	ok(cuDeviceGetName(name, sizeof(name), dev));
	assert_string_equal(name, "NVIDIA L40S");
	ok(cuDeviceGetName(name, 7, dev));
	assert_string_equal(name, "NVIDIA");
	ok(cuDeviceTotalMem_v2(&total, 0));
	assert_int_equal(total, 85045477376);
	ok(cuDeviceGetPCIBusId(bus, sizeof(bus), dev));
	ok(cuDeviceGetByPCIBusId(&again, bus));
	assert_int_equal(again, dev);
	ok(cuDeviceGetByPCIBusId(&again, bus + 5));
	assert_int_equal(cuDeviceGetByPCIBusId(&again, "0000:00:00.0"), CUDA_ERROR_INVALID_DEVICE);
	assert_int_equal(cuDeviceGetByPCIBusId(&again, "nonsense"), CUDA_ERROR_INVALID_VALUE);
	for (int i = 0; i < CU_DEVICE_ATTRIBUTE_MAX; i++) {
		CUresult r = cuDeviceGetAttribute(&n, (CUdevice_attribute)i, 0);

		assert_true(r == CUDA_SUCCESS || r == CUDA_ERROR_INVALID_VALUE);
		known += r == CUDA_SUCCESS;
	}
	assert_true(known > 135);
	ok(cuDeviceGetAttribute(&n, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0));
	assert_int_equal(n, 132);
	ok(cuDeviceCanAccessPeer(&n, 0, 1));
	assert_int_equal(n, 1);
	ok(cuDeviceCanAccessPeer(&n, 0, 0));
	assert_int_equal(n, 0);
}

static void test_driver__contexts_are_a_stack(void **state)
{
	CUcontext a, b, got = NULL;
	CUdevice dev;

	ok(cuCtxGetCurrent(&got));
	assert_null(got);
	assert_int_equal(cuCtxGetDevice(&dev), CUDA_ERROR_INVALID_CONTEXT);
	assert_int_equal(cuCtxPopCurrent_v2(&got), CUDA_ERROR_INVALID_CONTEXT);
	ok(cuCtxCreate_v2(&a, 0, 0));
	ok(cuCtxCreate_v4(&b, NULL, CU_CTX_SCHED_SPIN, 1));
	ok(cuCtxGetDevice(&dev));
	assert_int_equal(dev, 1);
	ok(cuCtxPopCurrent_v2(&got));
	assert_ptr_equal(got, b);
	ok(cuCtxGetDevice(&dev));
	assert_int_equal(dev, 0);
	ok(cuCtxPushCurrent_v2(b));
	ok(cuCtxSetCurrent(a)); /* replaces b */
	ok(cuCtxPopCurrent_v2(&got));
	ok(cuCtxPopCurrent_v2(&got));
	assert_ptr_equal(got, a);
	assert_int_equal(cuCtxPopCurrent_v2(&got), CUDA_ERROR_INVALID_CONTEXT);

	/* A context that is destroyed while pushed is known as that. */
	ok(cuCtxPushCurrent_v2(a));
	ok(cuCtxPushCurrent_v2(b));
	ok(cuCtxDestroy_v2(a));
	ok(cuCtxPopCurrent_v2(&got));
	assert_int_equal(cuCtxGetDevice(&dev), CUDA_ERROR_CONTEXT_IS_DESTROYED);
	assert_int_equal(cuCtxDestroy_v2(a), CUDA_ERROR_CONTEXT_IS_DESTROYED);
	ok(cuCtxSetCurrent(NULL));
	assert_int_equal(cuCtxDestroy_v2(a), CUDA_ERROR_INVALID_CONTEXT);
	assert_int_equal(cuCtxPushCurrent_v2(a), CUDA_ERROR_INVALID_CONTEXT);
	ok(cuCtxDestroy_v2(b));
	assert_int_equal(cuCtxCreate_v2(&a, 0, 9), CUDA_ERROR_INVALID_DEVICE);
	assert_int_equal(cuCtxCreate_v2(&a, 3, 0), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuCtxCreate_v2(NULL, 0, 0), CUDA_ERROR_INVALID_VALUE);
}

static void test_driver__the_primary_context_is_counted(void **state)
{
	uint64_t before = simtest_used(0);
	CUcontext a, b, other;
	unsigned int flags;
	CUdeviceptr p;
	int active;

	assert_int_equal(cuDevicePrimaryCtxRelease_v2(0), CUDA_ERROR_INVALID_CONTEXT);
	ok(cuDevicePrimaryCtxGetState(0, &flags, &active));
	assert_int_equal(active, 0);
	ok(cuDevicePrimaryCtxSetFlags_v2(0, CU_CTX_SCHED_BLOCKING_SYNC));
	ok(cuDevicePrimaryCtxRetain(&a, 0));
	ok(cuDevicePrimaryCtxRetain(&b, 0));
	assert_ptr_equal(a, b);
	assert_int_equal(cuDevicePrimaryCtxSetFlags(0, 0), CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE);
	assert_int_equal(cuCtxDestroy_v2(a), CUDA_ERROR_INVALID_CONTEXT);
	ok(cuCtxSetCurrent(a));
	ok(cuMemAlloc_v2(&p, 100 * FRAME));
	ok(cuDevicePrimaryCtxRelease_v2(0));
	ok(cuMemFree_v2(p));
	ok(cuMemAlloc_v2(&p, 100 * FRAME));
	ok(cuDevicePrimaryCtxRelease_v2(0));
	assert_int_equal(simtest_used(0), before);
	assert_int_equal(cuMemAlloc_v2(&p, 1), CUDA_ERROR_CONTEXT_IS_DESTROYED);
	ok(cuDevicePrimaryCtxRetain(&other, 0));
	assert_ptr_equal(other, a); /* the same handle for ever */
	ok(cuMemAlloc_v2(&p, 1));
	ok(cuDevicePrimaryCtxReset_v2(0));
	assert_int_equal(simtest_used(0), before);
	ok(cuCtxSetCurrent(NULL));
}

static void test_driver__limits_cost_memory(void **state)
{
	uint64_t before;
	CUcontext ctx;
	size_t value;

	ok(cuCtxCreate_v2(&ctx, 0, 0));
	before = simtest_used(0);
	ok(cuCtxGetLimit(&value, CU_LIMIT_MALLOC_HEAP_SIZE));
	assert_int_equal(value, 8 * MIB);
	ok(cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, 108 * MIB));
	assert_int_equal(simtest_used(0) - before, 100 * MIB);
	assert_int_equal(cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, 1ull << 50),
			 CUDA_ERROR_OUT_OF_MEMORY);
	ok(cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, 8 * MIB));
	assert_int_equal(simtest_used(0), before);
	assert_int_equal(cuCtxGetLimit(&value, (CUlimit)99), CUDA_ERROR_INVALID_VALUE);
	ok(cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 4096));
	ok(cuCtxDestroy_v2(ctx));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_driver__nothing_works_before_cuInit),
		cmocka_unit_test(test_driver__without_a_machine_there_is_no_device),
		cmocka_unit_test(test_driver__visible_devices),
		cmocka_unit_test(test_driver__faults_come_when_asked_for),
		cmocka_unit_test(test_driver__specs_are_checked),
		cmocka_unit_test(test_driver__a_machine_is_closed_to_others),
		cmocka_unit_test(test_driver__a_machine_is_created_once),
		cmocka_unit_test(test_driver__profiles_hold_together),
		cmocka_unit_test(test_driver__every_symbol_is_there),
		cmocka_unit_test(test_driver__devices),
		cmocka_unit_test(test_driver__contexts_are_a_stack),
		cmocka_unit_test(test_driver__the_primary_context_is_counted),
		cmocka_unit_test(test_driver__limits_cost_memory),
	};

	simtest_begin("h100:2,l40s");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
