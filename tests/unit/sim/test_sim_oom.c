/* SPDX-License-Identifier: Apache-2.0 */
/* The host runs out of memory at the n-th allocation, for every n: calls answer 2, nothing breaks
 * and nothing stays charged. */
#include "../oom.h"
#include "simtest.h"

/* A call that may be refused for want of memory, and for nothing else. */
static bool went(CUresult r)
{
	assert_true(r == CUDA_SUCCESS || r == CUDA_ERROR_OUT_OF_MEMORY);
	return r == CUDA_SUCCESS;
}

static void everything(void)
{
	const CUmemAllocationProp prop = {
		.type = CU_MEM_ALLOCATION_TYPE_PINNED,
		.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};
	const CUmemPoolProps pool_props = {.allocType = prop.type, .location = prop.location};
	const CUDA_ARRAY3D_DESCRIPTOR desc = {
		.Width = 64, .Height = 64, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1};
	CUmemGenericAllocationHandle h;
	CUdevResourceDesc desc_of_sms;
	CUmipmappedArray mipmap;
	CUdevResource sms;
	CUdeviceptr p, va;
	CUmemoryPool pool;
	CUgreenCtx green;
	CUstream stream;
	CUcontext ctx;
	CUarray array;
	void *pinned;
	int local[4];

	if (!went(cuCtxCreate_v2(&ctx, 0, 0)))
		return;
	if (went(cuMemAlloc_v2(&p, 1000)))
		ok(cuMemFree_v2(p));
	if (went(cuMemAlloc_v2(&p, 10 * FRAME)))
		ok(cuMemFree_v2(p));
	if (went(cuMemAllocManaged(&p, FRAME, CU_MEM_ATTACH_GLOBAL)))
		ok(cuMemFree_v2(p));
	if (went(cuMemHostAlloc(&pinned, FRAME, 0)))
		ok(cuMemFreeHost(pinned));
	if (went(cuMemHostRegister_v2(local, sizeof(local), 0)))
		ok(cuMemHostUnregister(local));
	if (went(cuArray3DCreate_v2(&array, &desc)))
		ok(cuArrayDestroy(array));
	if (went(cuMipmappedArrayCreate(&mipmap, &desc, 7)))
		ok(cuMipmappedArrayDestroy(mipmap));
	if (went(cuMemCreate(&h, 4 * FRAME, &prop, 0))) {
		if (went(cuMemAddressReserve(&va, 8 * FRAME, 0, 0, 0))) {
			if (went(cuMemMap(va, 4 * FRAME, 0, h, 0)))
				ok(cuMemUnmap(va, 4 * FRAME));
			ok(cuMemAddressFree(va, 8 * FRAME));
		}
		ok(cuMemRelease(h));
	}
	ok(cuDeviceGetDevResource(0, &sms, CU_DEV_RESOURCE_TYPE_SM));
	if (went(cuDevResourceGenerateDesc(&desc_of_sms, &sms, 1)) &&
	    went(cuGreenCtxCreate(&green, desc_of_sms, 0, CU_GREEN_CTX_DEFAULT_STREAM))) {
		if (went(cuGreenCtxStreamCreate(&stream, green, CU_STREAM_NON_BLOCKING, 0)))
			ok(cuStreamDestroy_v2(stream));
		ok(cuGreenCtxDestroy(green));
	}
	if (went(cuMemPoolCreate(&pool, &pool_props))) {
		if (went(cuMemAllocFromPoolAsync(&p, 1000, pool, NULL)))
			ok(cuMemFree_v2(p));
		ok(cuMemPoolDestroy(pool));
	}
	ok(cuCtxDestroy_v2(ctx));
}

static void test_oom__every_allocation_may_fail(void **state)
{
	uint64_t before;
	long n = 0;
	bool failed;

	ok(cuInit(0));
	everything(); /* what is made once */
	before = simtest_used(0);
	do {
		oom_begin(n++);
		everything();
		failed = oom_end();
		assert_int_equal(simtest_used(0), before);
	} while (failed);
	assert_true(n > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_oom__every_allocation_may_fail),
	};

	simtest_begin("h100");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
