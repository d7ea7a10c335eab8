/* SPDX-License-Identifier: Apache-2.0 */
/* Green contexts: multiprocessors are split by the driver's rules, and memory and work are those of
 * the primary context, for as long as one of both holds it. */
#include "simcu.h"

#define SMS 132 /* of the profile h100 */

static CUdevResource whole(void)
{
	CUdevResource all;

	ok(cuInit(0));
	ok(cuDeviceGetDevResource(0, &all, CU_DEV_RESOURCE_TYPE_SM));
	return all;
}

/* Of @sms multiprocessors at the least. */
static CUgreenCtx green(unsigned int sms)
{
	CUdevResource all = whole(), part;
	CUdevResourceDesc desc;
	unsigned int n = 1;
	CUgreenCtx g;

	ok(cuDevSmResourceSplitByCount(&part, &n, &all, NULL, 0, sms));
	assert_int_equal(n, 1);
	ok(cuDevResourceGenerateDesc(&desc, &part, 1));
	ok(cuGreenCtxCreate(&g, desc, 0, CU_GREEN_CTX_DEFAULT_STREAM));
	return g;
}

static void test_sim_green__parts_are_cut_as_the_driver_does(void **state)
{
	CUdevResource all = whole(), part[8], rest, again;
	unsigned int n = 8;

	assert_int_equal(all.sm.smCount, SMS);
	assert_int_equal(all.sm.minSmPartitionSize, 8);
	assert_int_equal(all.sm.smCoscheduledAlignment, 8);
	FAILS(CUDA_ERROR_INVALID_DEVICE, cuDeviceGetDevResource(7, &all, CU_DEV_RESOURCE_TYPE_SM));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuDeviceGetDevResource(0, NULL, CU_DEV_RESOURCE_TYPE_SM));
	FAILS(CUDA_ERROR_INVALID_RESOURCE_TYPE,
	      cuDeviceGetDevResource(0, &again, CU_DEV_RESOURCE_TYPE_INVALID));

	/* 20 become 24, five times, and 12 are left. */
	ok(cuDevSmResourceSplitByCount(part, &n, &all, &rest, 0, 20));
	assert_int_equal(n, 5);
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(part[i].sm.smCount, 24);
	assert_int_equal(rest.sm.smCount, 12);
	/* How many there would be; the least part; all of it. */
	ok(cuDevSmResourceSplitByCount(NULL, &n, &all, NULL, 0, 1));
	assert_int_equal(n, 16);
	n = 8;
	ok(cuDevSmResourceSplitByCount(part, &n, &all, &rest,
				       CU_DEV_SM_RESOURCE_SPLIT_IGNORE_SM_COSCHEDULING, 33));
	assert_int_equal(n, 3);
	assert_int_equal(part[2].sm.smCount, 34);
	assert_int_equal(rest.sm.smCount, 30);
	n = 8;
	ok(cuDevSmResourceSplitByCount(part, &n, &all, &rest,
				       CU_DEV_SM_RESOURCE_SPLIT_IGNORE_SM_COSCHEDULING, SMS));
	assert_int_equal(n, 1);
	assert_int_equal(rest.type, CU_DEV_RESOURCE_TYPE_INVALID);

	FAILS(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION,
	      cuDevSmResourceSplitByCount(part, &n, &all, NULL, 0, SMS + 1));
	FAILS(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION, /* 132 is no multiple of 8 */
	      cuDevSmResourceSplitByCount(part, &n, &all, NULL, 0, SMS));
	again = part[0];
	FAILS(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION,
	      cuDevSmResourceSplitByCount(part, &n, &again, NULL, 0, 8));
	FAILS(CUDA_ERROR_INVALID_RESOURCE_TYPE,
	      cuDevSmResourceSplitByCount(part, &n, &rest, NULL, 0, 8));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuDevSmResourceSplitByCount(part, &n, &all, NULL, 4, 8));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuDevSmResourceSplitByCount(part, NULL, &all, NULL, 0, 8));
	memset(&again, 0x5a, sizeof(again)); /* what was never told */
	again.type = CU_DEV_RESOURCE_TYPE_SM;
	FAILS(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION,
	      cuDevSmResourceSplitByCount(part, &n, &again, NULL, 0, 8));
}

static void test_sim_green__arguments(void **state)
{
	CUdevResource all = whole(), twice[2] = {all, all};
	CUdevResourceDesc desc;
	CUgreenCtx g;

	FAILS(CUDA_ERROR_INVALID_VALUE, cuDevResourceGenerateDesc(&desc, &all, 0));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuDevResourceGenerateDesc(NULL, &all, 1));
	FAILS(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION,
	      cuDevResourceGenerateDesc(&desc, twice, 2));
	ok(cuDevResourceGenerateDesc(&desc, &all, 1));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGreenCtxCreate(&g, desc, 0, 0));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGreenCtxCreate(&g, NULL, 0, CU_GREEN_CTX_DEFAULT_STREAM));
	FAILS(CUDA_ERROR_INVALID_VALUE,
	      cuGreenCtxCreate(NULL, desc, 0, CU_GREEN_CTX_DEFAULT_STREAM));
	FAILS(CUDA_ERROR_INVALID_DEVICE,
	      cuGreenCtxCreate(&g, desc, 1, CU_GREEN_CTX_DEFAULT_STREAM));
	FAILS(CUDA_ERROR_INVALID_CONTEXT, cuGreenCtxDestroy((CUgreenCtx)&all));
	FAILS(CUDA_ERROR_INVALID_CONTEXT, cuGreenCtxDestroy(NULL));
}

/* A green context alone holds the primary one; the last of both lets its memory go. */
static void test_sim_green__holds_the_primary_context(void **state)
{
	uint64_t before = simtest_used(0);
	CUgreenCtx g = green(16);
	unsigned long long id[2];
	CUdevResource its;
	unsigned int flags;
	CUcontext ctx;
	int active;

	ok(cuDevicePrimaryCtxGetState(0, &flags, &active));
	assert_int_equal(active, 1);
	ok(cuGreenCtxGetDevResource(g, &its, CU_DEV_RESOURCE_TYPE_SM));
	assert_int_equal(its.sm.smCount, 16);
	ok(cuCtxFromGreenCtx(&ctx, g));
	ok(cuCtxGetDevResource(ctx, &its, CU_DEV_RESOURCE_TYPE_SM));
	assert_int_equal(its.sm.smCount, SMS);
	ok(cuCtxSetCurrent(ctx));
	simcu_alloc(10 * FRAME);
	assert_true(simtest_used(0) >= before + 10 * FRAME);
	ok(cuGreenCtxGetId(g, &id[0]));

	simtest_context(0);
	ok(cuGreenCtxDestroy(g));
	FAILS(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuGreenCtxDestroy(g));
	FAILS(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuCtxFromGreenCtx(&ctx, g));
	assert_true(simtest_used(0) >= before + 10 * FRAME);
	g = green(16);
	ok(cuGreenCtxGetId(g, &id[1]));
	assert_true(id[0] != id[1]);
	ok(cuDevicePrimaryCtxRelease_v2(0));
	ok(cuDevicePrimaryCtxGetState(0, &flags, &active));
	assert_int_equal(active, 1);
	ok(cuGreenCtxDestroy(g));
	ok(cuDevicePrimaryCtxGetState(0, &flags, &active));
	assert_int_equal(active, 0);
	assert_int_equal(simtest_used(0), before);
}

static void test_sim_green__a_reset_ends_it(void **state)
{
	CUgreenCtx g = green(8);
	CUcontext ctx;

	ok(cuDevicePrimaryCtxReset_v2(0));
	FAILS(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuCtxFromGreenCtx(&ctx, g));
	simtest_context(0); /* another one, which is not held by it */
	FAILS(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuCtxFromGreenCtx(&ctx, g));
	ok(cuGreenCtxDestroy(g));
	ok(cuDevicePrimaryCtxRelease_v2(0));
}

static void test_sim_green__streams_work(void **state)
{
	CUgreenCtx g = green(8), of;
	CUevent begin, end;
	CUfunction spin;
	CUcontext ctx;
	CUstream s;

	FAILS(CUDA_ERROR_INVALID_VALUE, cuGreenCtxStreamCreate(&s, g, CU_STREAM_DEFAULT, 0));
	ok(cuGreenCtxStreamCreate(&s, g, CU_STREAM_NON_BLOCKING, 0));
	ok(cuCtxFromGreenCtx(&ctx, g));
	ok(cuCtxPushCurrent_v2(ctx));
	ok(cuStreamGetGreenCtx(s, &of));
	assert_ptr_equal(of, g);
	ok(cuStreamGetCtx_v2(s, &ctx, &of));
	assert_ptr_equal(of, g);
	ok(cuStreamGetGreenCtx(NULL, &of));
	assert_null(of);

	spin = simcu_function(simcu_kernels(), "aq_spin_ns");
	ok(cuEventCreate(&begin, 0));
	ok(cuEventCreate(&end, 0));
	ok(cuEventRecord(begin, s));
	ok(simcu_spin(spin, s, 3000000));
	ok(cuGreenCtxRecordEvent(g, end));
	ok(cuEventSynchronize(end));
	assert_true(simcu_elapsed_ms(begin, end) >= 3);
	ok(cuGreenCtxWaitEvent(g, begin));
	ok(cuStreamSynchronize(s));

	ok(cuDevicePrimaryCtxRetain(&ctx, 0));
	ok(cuGreenCtxDestroy(g));
	ok(cuStreamGetGreenCtx(s, &of));
	assert_null(of);
	ok(simcu_spin(spin, s, 1000));
	ok(cuStreamDestroy_v2(s));
	ok(cuDevicePrimaryCtxReset_v2(0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sim_green__parts_are_cut_as_the_driver_does),
		cmocka_unit_test(test_sim_green__arguments),
		cmocka_unit_test(test_sim_green__holds_the_primary_context),
		cmocka_unit_test(test_sim_green__a_reset_ends_it),
		cmocka_unit_test(test_sim_green__streams_work),
	};

	simtest_begin("h100:2");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
