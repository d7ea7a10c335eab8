/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Green contexts behind the guard: they hold a primary context, so what is charged in it stays for as
 * long as one of both does, and not longer. Run with memory that moves and with memory that does not.
 */
#include "simulated.h"

#define MIB (1ull << 20)

static CUgreenCtx green(CUdevice dev)
{
	CUdevResourceDesc desc;
	CUdevResource all;
	CUgreenCtx made;

	ok(g.cuDeviceGetDevResource(dev, &all, CU_DEV_RESOURCE_TYPE_SM));
	ok(g.cuDevResourceGenerateDesc(&desc, &all, 1));
	ok(g.cuGreenCtxCreate(&made, desc, dev, CU_GREEN_CTX_DEFAULT_STREAM));
	return made;
}

/* In the green context, which the program makes current as it would any other. */
static CUdeviceptr alloc_in(CUgreenCtx made, size_t bytes)
{
	CUcontext ctx;
	CUdeviceptr p;

	ok(g.cuCtxFromGreenCtx(&ctx, made));
	ok(g.cuCtxSetCurrent(ctx));
	ok(g.cuMemAlloc_v2(&p, bytes));
	return p;
}

static bool active(CUdevice dev)
{
	unsigned int flags;
	int is;

	ok(g.cuDevicePrimaryCtxGetState(dev, &flags, &is));
	return is;
}

static void test_green__alone_it_takes_everything_along(void **state)
{
	for (int i = 0; i < 3; i++) {
		CUgreenCtx made = green(0);

		alloc_in(made, 100 * MIB);
		assert_true(fake_daemon_used(0) >= 100 * MIB);
		ok(g.cuGreenCtxDestroy(made));
		assert_false(active(0));
		assert_int_equal(fake_daemon_used(0), 0);
	}
}

static void test_green__it_is_not_the_last_to_hold_it(void **state)
{
	CUgreenCtx made[2] = {green(0), green(0)};
	CUdeviceptr p[2] = {alloc_in(made[0], 20 * MIB), alloc_in(made[1], 30 * MIB)};
	uint64_t used = fake_daemon_used(0);
	CUcontext ctx;

	assert_true(used >= 50 * MIB);
	ok(g.cuGreenCtxDestroy(made[0]));
	assert_int_equal(fake_daemon_used(0), used);
	ok(g.cuDevicePrimaryCtxRetain(&ctx, 0));
	ok(g.cuGreenCtxDestroy(made[1]));
	assert_int_equal(fake_daemon_used(0), used);
	ok(g.cuCtxSetCurrent(ctx));
	for (int i = 0; i < 2; i++)
		ok(g.cuMemFree_v2(p[i]));
	ok(g.cuDevicePrimaryCtxRelease_v2(0));
	assert_int_equal(fake_daemon_used(0), 0);
}

static void test_green__it_outlives_a_release(void **state)
{
	CUcontext ctx;
	CUgreenCtx made;

	ok(g.cuDevicePrimaryCtxRetain(&ctx, 0));
	made = green(0);
	alloc_in(made, 40 * MIB);
	ok(g.cuDevicePrimaryCtxRelease_v2(0));
	assert_true(active(0));
	assert_true(fake_daemon_used(0) >= 40 * MIB);
	ok(g.cuGreenCtxDestroy(made));
	assert_int_equal(fake_daemon_used(0), 0);
}

static void test_green__a_reset_is_one(void **state)
{
	CUgreenCtx made = green(0);

	alloc_in(made, 40 * MIB);
	ok(g.cuDevicePrimaryCtxReset_v2(0));
	assert_int_equal(fake_daemon_used(0), 0);
	ok(g.cuGreenCtxDestroy(made));
	assert_int_equal(fake_daemon_used(0), 0);
}

static void test_green__other_devices_stay(void **state)
{
	CUgreenCtx here = green(0), there = green(1);
	uint64_t used;

	alloc_in(there, 60 * MIB);
	used = fake_daemon_used(1);
	alloc_in(here, 10 * MIB);
	ok(g.cuGreenCtxDestroy(here));
	assert_int_equal(fake_daemon_used(0), 0);
	assert_int_equal(fake_daemon_used(1), used);
	ok(g.cuGreenCtxDestroy(there));
	assert_int_equal(fake_daemon_used(1), 0);
}

static void test_green__the_limit_is_the_fractions(void **state)
{
	CUgreenCtx made = green(0);
	CUdeviceptr p = alloc_in(made, 200 * MIB), q;

	assert_int_equal(g.cuMemAlloc_v2(&q, 100 * MIB), CUDA_ERROR_OUT_OF_MEMORY);
	ok(g.cuMemFree_v2(p));
	ok(g.cuGreenCtxDestroy(made));
	assert_int_equal(fake_daemon_used(0), 0);
}

static int setup(void **state)
{
	simulated_begin(256 * MIB);
	return 0;
}

static int teardown(void **state)
{
	simulated_end();
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_green__alone_it_takes_everything_along),
		cmocka_unit_test(test_green__it_is_not_the_last_to_hold_it),
		cmocka_unit_test(test_green__it_outlives_a_release),
		cmocka_unit_test(test_green__a_reset_is_one),
		cmocka_unit_test(test_green__other_devices_stay),
		cmocka_unit_test(test_green__the_limit_is_the_fractions),
	};

	if (argc != 3)
		return 2;
	setenv("ALIQUOT_MOVE", argv[2], 1);
	simulated_load(argv[1]);
	return cmocka_run_group_tests(tests, setup, teardown);
}
