/* SPDX-License-Identifier: Apache-2.0 */
/* Device memory through the driver's entry points, in one process: accounting, errors, bytes. */
#include "simtest.h"

static size_t free_now(void)
{
	size_t left, total;

	ok(cuMemGetInfo_v2(&left, &total));
	return left;
}

static CUmemAllocationProp device_prop(void)
{
	return (CUmemAllocationProp){
		.type = CU_MEM_ALLOCATION_TYPE_PINNED,
		.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
		.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0},
	};
}

static void test_memory__context_costs_and_gives_back(void **state)
{
	uint64_t before = simtest_used(0);
	CUcontext ctx;

	ok(cuCtxCreate_v2(&ctx, 0, 0));
	assert_int_equal(simtest_used(0) - before, 500 * MIB);
	ok(cuCtxDestroy_v2(ctx));
	assert_int_equal(simtest_used(0), before);
}

static void test_memory__small_allocations_share_frames(void **state)
{
	size_t before = free_now();
	CUdeviceptr p[1000];

	for (int i = 0; i < 1000; i++) {
		ok(cuMemAlloc_v2(&p[i], 1000));
		assert_int_equal(p[i] % 512, 0);
	}
	assert_int_equal(before - free_now(), FRAME); /* 1000 x 1024 bytes */
	for (int i = 0; i < 1000; i += 2)
		ok(cuMemFree_v2(p[i]));
	for (int i = 0; i < 1000; i += 2)
		ok(cuMemAlloc_v2(&p[i], 900));
	assert_int_equal(before - free_now(), FRAME);
	for (int i = 0; i < 1000; i++)
		ok(cuMemFree_v2(p[i]));
	assert_int_equal(free_now(), before);
}

static void test_memory__capacity_is_exact(void **state)
{
	size_t left = free_now() / FRAME * FRAME;
	CUdeviceptr p, q;

	assert_int_equal(cuMemAlloc_v2(&p, left + 1), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(cuMemAlloc_v2(&p, SIZE_MAX), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(cuMemAlloc_v2(&p, SIZE_MAX - FRAME), CUDA_ERROR_OUT_OF_MEMORY);
	ok(cuMemAlloc_v2(&p, left));
	assert_int_equal(cuMemAlloc_v2(&q, 1), CUDA_ERROR_OUT_OF_MEMORY);
	assert_true(free_now() < FRAME);
	ok(cuMemFree_v2(p));
	assert_int_equal(free_now() / FRAME * FRAME, left);
}

static void test_memory__says_what_the_driver_says(void **state)
{
	CUdeviceptr p = 0;
	size_t n;

	assert_int_equal(cuMemAlloc_v2(NULL, 512), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuMemAlloc_v2(&p, 0), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuMemGetInfo_v2(NULL, &n), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuMemGetInfo_v2(&n, NULL), CUDA_ERROR_INVALID_VALUE);
	ok(cuMemFree_v2(0));
	assert_int_equal(cuMemFree_v2(0xdead0000), CUDA_ERROR_INVALID_VALUE);
	ok(cuMemAlloc_v2(&p, 4096));
	assert_int_equal(cuMemFree_v2(p + 512), CUDA_ERROR_INVALID_VALUE);
	ok(cuMemFree_v2(p));
	assert_int_equal(cuMemFree_v2(p), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuMemRelease(12345), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuArrayDestroy((CUarray)0x1234), CUDA_ERROR_INVALID_HANDLE);
	assert_int_equal(cuMemFreeHost(&p), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuMemHostUnregister(&p), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
}

static void test_memory__pitch(void **state)
{
	CUdeviceptr p, base;
	size_t pitch, size;

	ok(cuMemAllocPitch_v2(&p, &pitch, 1000, 100, 4));
	assert_int_equal(pitch, 1024);
	ok(cuMemGetAddressRange_v2(&base, &size, p + 5000));
	assert_true(base == p);
	assert_int_equal(size, 1024 * 100);
	ok(cuMemFree_v2(p));
	assert_int_equal(cuMemAllocPitch_v2(&p, &pitch, 1000, 100, 5), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuMemAllocPitch_v2(&p, &pitch, 1 << 30, SIZE_MAX / 4, 4),
			 CUDA_ERROR_OUT_OF_MEMORY);
}

static void test_memory__mapped_memory_lives_until_the_last_of_handle_and_mapping(void **state)
{
	CUmemAllocationProp prop = device_prop();
	CUmemAccessDesc access = {.location = prop.location,
				  .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
	size_t before = free_now(), size = 8 * FRAME;
	CUmemGenericAllocationHandle h, again;
	unsigned long long flags;
	CUdeviceptr va;

	assert_int_equal(cuMemCreate(&h, FRAME + 1, &prop, 0), CUDA_ERROR_INVALID_VALUE);
	ok(cuMemCreate(&h, size, &prop, 0));
	assert_int_equal(before - free_now(), size);
	ok(cuMemAddressReserve(&va, 2 * size, 0, 0, 0));
	ok(cuMemMap(va, size, 0, h, 0));
	assert_int_equal(cuMemMap(va, size, 0, h, 0), CUDA_ERROR_INVALID_VALUE);
	ok(cuMemMap(va + size, size, 0, h, 0)); /* the same memory twice */
	ok(cuMemGetAccess(&flags, &prop.location, va));
	assert_int_equal(flags, CU_MEM_ACCESS_FLAGS_PROT_NONE);
	ok(cuMemSetAccess(va, 2 * size, &access, 1));
	ok(cuMemGetAccess(&flags, &prop.location, va));
	assert_int_equal(flags, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);

	ok(cuMemRelease(h));
	assert_int_equal(cuMemRelease(h), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(before - free_now(), size);
	ok(cuMemRetainAllocationHandle(&again, (void *)(uintptr_t)(va + FRAME)));
	assert_int_equal(cuMemAddressFree(va, 2 * size), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuMemUnmap(va, FRAME), CUDA_ERROR_INVALID_VALUE);
	ok(cuMemUnmap(va, 2 * size));
	assert_int_equal(before - free_now(), size);
	ok(cuMemRelease(again));
	assert_int_equal(free_now(), before);
	ok(cuMemAddressFree(va, 2 * size));
}

static void test_memory__create_map_release_in_a_loop_is_bounded(void **state)
{
	CUmemAllocationProp prop = device_prop();
	CUmemGenericAllocationHandle h;
	size_t size = 1024 * FRAME;
	CUdeviceptr va;
	int n = 0;

	ok(cuMemAddressReserve(&va, 64 * size, 0, 0, 0));
	while (cuMemCreate(&h, size, &prop, 0) == CUDA_SUCCESS) {
		ok(cuMemMap(va + (size_t)n * size, size, 0, h, 0));
		ok(cuMemRelease(h));
		n++;
	}
	assert_int_equal(n, (85045477376 - 500 * MIB) / size);
	ok(cuMemUnmap(va, (size_t)n * size));
	ok(cuMemAddressFree(va, 64 * size));
}

static void test_memory__pools_reserve_and_release(void **state)
{
	size_t before = free_now();
	cuuint64_t reserved, used, keep = UINT64_MAX;
	CUdeviceptr p, q;
	CUmemoryPool pool;

	ok(cuDeviceGetDefaultMemPool(&pool, 0));
	assert_int_equal(cuMemPoolDestroy(pool), CUDA_ERROR_INVALID_VALUE);
	ok(cuMemAllocAsync(&p, 1000, NULL));
	ok(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &reserved));
	ok(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used));
	assert_int_equal(reserved, 32 * MIB);
	assert_int_equal(used, 1024);
	assert_int_equal(before - free_now(), 32 * MIB);
	ok(cuMemAllocAsync(&q, 100 * MIB, NULL));
	assert_int_equal(cuMemAllocAsync(&q, before, NULL), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(cuMemFreeAsync(q + 512, NULL), CUDA_ERROR_INVALID_VALUE);

	/* A pool keeps up to its threshold. */
	ok(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &keep));
	ok(cuMemFree_v2(p));
	ok(cuMemFree_v2(q));
	ok(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used));
	assert_int_equal(used, 0);
	assert_int_equal(before - free_now(), 160 * MIB);
	ok(cuMemPoolTrimTo(pool, 0));
	assert_int_equal(free_now(), before);
	keep = 0;
	ok(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &keep));
}

static void test_memory__linear_memory_may_be_freed_in_stream_order(void **state)
{
	size_t before = free_now();
	CUdeviceptr p;

	ok(cuMemAlloc_v2(&p, 10 * FRAME));
	assert_int_equal(cuMemFreeAsync(p + FRAME, NULL), CUDA_ERROR_INVALID_VALUE);
	ok(cuMemFreeAsync(p, NULL));
	assert_int_equal(cuMemFreeAsync(p, NULL), CUDA_ERROR_INVALID_VALUE);
	cuCtxSynchronize();
	assert_int_equal(free_now(), before);
}

static void test_memory__arrays_are_charged_and_described(void **state)
{
	CUDA_ARRAY3D_DESCRIPTOR desc = {.Width = 1000,
					.Height = 1000,
					.Depth = 4,
					.Format = CU_AD_FORMAT_FLOAT,
					.NumChannels = 4},
				back;
	CUDA_ARRAY_MEMORY_REQUIREMENTS req;
	size_t before = free_now();
	CUmipmappedArray mipmap;
	CUarray a, level;

	ok(cuArray3DCreate_v2(&a, &desc));
	ok(cuArrayGetMemoryRequirements(&req, a, 0));
	assert_true(req.size >= 64000000);
	assert_true(before - free_now() >= req.size);
	ok(cuArray3DGetDescriptor_v2(&back, a));
	assert_memory_equal(&back, &desc, sizeof(back));
	ok(cuArrayDestroy(a));
	assert_int_equal(cuArrayDestroy(a), CUDA_ERROR_INVALID_HANDLE);
	desc.NumChannels = 3;
	assert_int_equal(cuArray3DCreate_v2(&a, &desc), CUDA_ERROR_INVALID_VALUE);

	desc.NumChannels = 1;
	desc.Depth = 0;
	ok(cuMipmappedArrayCreate(&mipmap, &desc, 99));
	ok(cuMipmappedArrayGetLevel(&level, mipmap, 9));
	ok(cuArray3DGetDescriptor_v2(&back, level));
	assert_int_equal(back.Width, 1);
	assert_int_equal(cuMipmappedArrayGetLevel(&level, mipmap, 10), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuArrayDestroy(level), CUDA_ERROR_INVALID_HANDLE);
	ok(cuMipmappedArrayDestroy(mipmap));
	assert_int_equal(free_now(), before);
}

static void test_memory__managed_is_host_memory_and_charged(void **state)
{
	size_t before = free_now();
	unsigned int managed, type;
	CUdeviceptr p;

	ok(cuMemAllocManaged(&p, 10 * FRAME, CU_MEM_ATTACH_GLOBAL));
	memset((void *)(uintptr_t)p, 7, 10 * FRAME);
	assert_int_equal(before - free_now(), 10 * FRAME);
	ok(cuPointerGetAttribute(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, p + 5));
	ok(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p + 5));
	assert_int_equal(managed, 1);
	ok(cuMemFree_v2(p));
	assert_int_equal(free_now(), before);
	assert_int_equal(cuMemAllocManaged(&p, 512, 0), CUDA_ERROR_INVALID_VALUE);
}

static void test_memory__pointers_are_known_or_not(void **state)
{
	CUpointer_attribute attrs[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
				       CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
	unsigned int type = 99;
	int ordinal = 99, local;
	void *data[] = {&type, &ordinal}, *pinned;
	CUdeviceptr p, q;

	ok(cuMemAlloc_v2(&p, 4 * FRAME));
	ok(cuPointerGetAttributes(2, attrs, data, p + 3 * FRAME));
	assert_int_equal(type, CU_MEMORYTYPE_DEVICE);
	assert_int_equal(ordinal, 0);
	ok(cuMemFree_v2(p));
	ok(cuPointerGetAttributes(2, attrs, data, p));
	assert_int_equal(type, 0);
	assert_int_equal(ordinal, CU_DEVICE_INVALID);
	assert_int_equal(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(cuMemGetAddressRange_v2(&p, NULL, (CUdeviceptr)(uintptr_t)&local),
			 CUDA_ERROR_NOT_FOUND);

	ok(cuMemHostAlloc(&pinned, 10000, CU_MEMHOSTALLOC_DEVICEMAP));
	ok(cuMemHostGetDevicePointer_v2(&q, pinned, 0));
	assert_true(q == (CUdeviceptr)(uintptr_t)pinned);
	ok(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, q + 9999));
	assert_int_equal(type, CU_MEMORYTYPE_HOST);
	assert_int_equal(cuMemHostRegister_v2(pinned, 100, 0),
			 CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
	ok(cuMemFreeHost(pinned));
	ok(cuMemHostRegister_v2(&local, sizeof(local), 0));
	ok(cuMemHostUnregister(&local));
}

static void test_memory__destroying_a_context_frees_what_is_its(void **state)
{
	CUmemAllocationProp prop = device_prop();
	CUDA_ARRAY_DESCRIPTOR desc = {
		.Width = 100, .Height = 100, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1};
	uint64_t before = simtest_used(0);
	CUmemGenericAllocationHandle h;
	CUdeviceptr p;
	CUcontext ctx;
	CUarray a;
	void *pinned;

	ok(cuCtxCreate_v2(&ctx, 0, 0));
	ok(cuMemAlloc_v2(&p, 100));
	ok(cuMemAlloc_v2(&p, 100 * FRAME));
	ok(cuMemAllocManaged(&p, FRAME, CU_MEM_ATTACH_GLOBAL));
	ok(cuMemAllocHost_v2(&pinned, FRAME));
	ok(cuArrayCreate_v2(&a, &desc));
	ok(cuMemCreate(&h, FRAME, &prop, 0));
	ok(cuCtxDestroy_v2(ctx));
	assert_int_equal(simtest_used(0) - before, FRAME); /* cuMemCreate's outlives it */
	ok(cuMemRelease(h));
	assert_int_equal(simtest_used(0), before);
	assert_int_equal(cuArrayDestroy(a), CUDA_ERROR_INVALID_HANDLE);
}

static void test_memory__no_allocation_in_a_capture(void **state)
{
	CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
	CUstream stream;
	CUgraph graph;
	CUdeviceptr p;
	void *host;

	ok(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	ok(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	/* As frameworks do it. */
	ok(cuThreadExchangeStreamCaptureMode(&mode));
	ok(cuMemAlloc_v2(&p, 512));
	ok(cuThreadExchangeStreamCaptureMode(&mode));
	assert_int_equal(cuMemAlloc_v2(&p, 512), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	assert_int_equal(cuMemHostAlloc(&host, 512, 0), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	assert_int_equal(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
	ok(cuMemFree_v2(p));
	ok(cuStreamDestroy_v2(stream));
}

static void test_memory__prefetches_are_remembered(void **state)
{
	CUmemLocation device = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0};
	CUmemLocation places[] = {device, {.type = CU_MEM_LOCATION_TYPE_HOST}};
	size_t sizes[2] = {4096, 4096}, first[2] = {0, 1};
	CUdeviceptr p[2], linear;
	int where;

	for (int i = 0; i < 2; i++)
		ok(cuMemAllocManaged(&p[i], 4096, CU_MEM_ATTACH_GLOBAL));
	ok(cuMemRangeGetAttribute(&where, 4, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, p[0],
				  4096));
	assert_int_equal(where, CU_DEVICE_INVALID);
	ok(cuMemPrefetchAsync_v2(p[0], 4096, device, 0, NULL));
	ok(cuMemRangeGetAttribute(&where, 4, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, p[0],
				  4096));
	assert_int_equal(where, 0);
	ok(cuMemPrefetchBatchAsync(p, sizes, 2, places, first, 2, 0, NULL));
	ok(cuMemRangeGetAttribute(&where, 4, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, p[1],
				  4096));
	assert_int_equal(where, CU_DEVICE_CPU);
	ok(cuMemAdvise(p[0], 4096, CU_MEM_ADVISE_SET_READ_MOSTLY, 0));
	ok(cuMemRangeGetAttribute(&where, 4, CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, p[0], 4096));
	assert_int_equal(where, 1);
	ok(cuMemDiscardBatchAsync(p, sizes, 2, 0, NULL));
	ok(cuMemAlloc_v2(&linear, 4096));
	assert_int_equal(cuMemPrefetchAsync_v2(linear, 4096, device, 0, NULL),
			 CUDA_ERROR_INVALID_VALUE);
	ok(cuMemFree_v2(linear));
	for (int i = 0; i < 2; i++)
		ok(cuMemFree_v2(p[i]));
}

static void test_memory__textures_surfaces_and_tensor_maps(void **state)
{
	CUDA_ARRAY3D_DESCRIPTOR desc = {.Width = 64,
					.Height = 64,
					.Format = CU_AD_FORMAT_FLOAT,
					.NumChannels = 1,
					.Flags = CUDA_ARRAY3D_SURFACE_LDST};
	CUDA_RESOURCE_DESC resource = {.resType = CU_RESOURCE_TYPE_ARRAY}, back;
	CUDA_TEXTURE_DESC texture = {.maxAnisotropy = 3}, tback;
	cuuint64_t dim[2] = {64, 64}, stride = 256;
	cuuint32_t box[2] = {16, 16}, elem[2] = {1, 1};
	CUtensorMap map;
	CUsurfObject surf;
	CUtexObject tex;
	CUdeviceptr p;
	CUarray a;

	ok(cuArray3DCreate_v2(&a, &desc));
	resource.res.array.hArray = a;
	ok(cuTexObjectCreate(&tex, &resource, &texture, NULL));
	ok(cuSurfObjectCreate(&surf, &resource));
	ok(cuTexObjectGetResourceDesc(&back, tex));
	assert_ptr_equal(back.res.array.hArray, a);
	ok(cuTexObjectGetTextureDesc(&tback, tex));
	assert_int_equal(tback.maxAnisotropy, 3);
	assert_int_equal(cuSurfObjectDestroy(tex), CUDA_ERROR_INVALID_VALUE);
	ok(cuSurfObjectDestroy(surf));
	ok(cuTexObjectDestroy(tex));
	assert_int_equal(cuTexObjectDestroy(tex), CUDA_ERROR_INVALID_VALUE);
	ok(cuArrayDestroy(a));

	ok(cuMemAlloc_v2(&p, 64 * 256));
	ok(cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 2, (void *)(uintptr_t)p,
				  dim, &stride, box, elem, CU_TENSOR_MAP_INTERLEAVE_NONE,
				  CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_L2_PROMOTION_NONE,
				  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
	ok(cuTensorMapReplaceAddress(&map, (void *)(uintptr_t)(p + 256)));
	stride = 250;
	assert_int_equal(cuTensorMapEncodeTiled(
				 &map, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 2, (void *)(uintptr_t)p,
				 dim, &stride, box, elem, CU_TENSOR_MAP_INTERLEAVE_NONE,
				 CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_L2_PROMOTION_NONE,
				 CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
			 CUDA_ERROR_INVALID_VALUE);
	ok(cuMemFree_v2(p));
}

static int set_up(void **state)
{
	simtest_context(0);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory__context_costs_and_gives_back),
		cmocka_unit_test(test_memory__small_allocations_share_frames),
		cmocka_unit_test(test_memory__capacity_is_exact),
		cmocka_unit_test(test_memory__says_what_the_driver_says),
		cmocka_unit_test(test_memory__pitch),
		cmocka_unit_test(
			test_memory__mapped_memory_lives_until_the_last_of_handle_and_mapping),
		cmocka_unit_test(test_memory__create_map_release_in_a_loop_is_bounded),
		cmocka_unit_test(test_memory__pools_reserve_and_release),
		cmocka_unit_test(test_memory__linear_memory_may_be_freed_in_stream_order),
		cmocka_unit_test(test_memory__arrays_are_charged_and_described),
		cmocka_unit_test(test_memory__managed_is_host_memory_and_charged),
		cmocka_unit_test(test_memory__pointers_are_known_or_not),
		cmocka_unit_test(test_memory__no_allocation_in_a_capture),
		cmocka_unit_test(test_memory__prefetches_are_remembered),
		cmocka_unit_test(test_memory__textures_surfaces_and_tensor_maps),
		cmocka_unit_test(test_memory__destroying_a_context_frees_what_is_its),
	};

	simtest_begin("h100");
	return cmocka_run_group_tests(tests, set_up, NULL);
}
