/* SPDX-License-Identifier: Apache-2.0 */
/* What movable memory is to a program that allocates and frees it: told, charged, packed and kept as
 * it should be. That it moves is test_guard_move.c's business. */
#include <errno.h>
#include <pthread.h>

#include "movetest.h"

static void test_move__memory_is_told_as_the_drivers_own(void **state)
{
	CUdeviceptr p, small, base;
	unsigned int type = 0, capable = 0, sync = 9;
	unsigned long long id[2] = {0};
	CUcontext owner = NULL;
	CUmemoryPool pool = (CUmemoryPool)1;
	CUpointer_attribute attrs[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
				       CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
				       CU_POINTER_ATTRIBUTE_HOST_POINTER};
	void *host = (void *)1, *data[] = {&type, &base, &host};
	size_t bytes;

	ok(g.cuMemAlloc_v2(&p, 5 * MIB));
	ok(g.cuMemAlloc_v2(&small, 1000));
	assert_int_equal(movable(0), 8 * MIB);
	assert_int_equal(p % 512, 0);
	assert_int_equal(small % 512, 0);
	ok(g.cuMemGetAddressRange_v2(&base, &bytes, p + 3 * MIB + 1));
	assert_int_equal(base, p);
	assert_int_equal(bytes, 5 * MIB);
	ok(g.cuMemGetAddressRange_v2(&base, NULL, small + 999));
	assert_int_equal(base, small);
	ok(g.cuPointerGetAttribute(&owner, CU_POINTER_ATTRIBUTE_CONTEXT, p + 7));
	assert_ptr_equal(owner, ctx[0]);
	ok(g.cuPointerGetAttribute(&bytes, CU_POINTER_ATTRIBUTE_RANGE_SIZE, p + 7));
	assert_int_equal(bytes, 5 * MIB);
	ok(g.cuPointerGetAttribute(&capable, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE, p));
	assert_int_equal(capable, 1);
	ok(g.cuPointerGetAttribute(&pool, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, p));
	assert_null(pool);
	ok(g.cuPointerGetAttribute(&id[0], CU_POINTER_ATTRIBUTE_BUFFER_ID, p));
	ok(g.cuPointerGetAttribute(&id[1], CU_POINTER_ATTRIBUTE_BUFFER_ID, small));
	assert_int_not_equal(id[0], id[1]);
	ok(g.cuPointerGetAttributes(3, attrs, data, p + 9));
	assert_int_equal(type, CU_MEMORYTYPE_DEVICE);
	assert_int_equal(base, p);
	assert_null(host);
	ok(g.cuPointerGetAttribute(&sync, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p));
	assert_int_equal(sync, 0);
	ok(g.cuMemFree_v2(small));
	ok(g.cuMemFree_v2(p));
	assert_int_equal(g.cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p),
			 CUDA_ERROR_INVALID_VALUE);
}

static void test_move__a_device_without_such_memory_has_nothing_to_park(void **state)
{
	assert_int_equal(park(1), -ENODATA);
	lease_gate(1, 0);
}

static void test_move__foreign_and_inner_pointers_are_not_freed(void **state)
{
	CUmemGenericAllocationHandle handle;
	CUdeviceptr p;

	ok(g.cuMemAlloc_v2(&p, 4 * MIB));
	assert_int_equal(g.cuMemFree_v2(p + 512), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(g.cuMemFree_v2(p + 2 * MIB), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(g.cuMemUnmap(p, 4 * MIB), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(g.cuMemRetainAllocationHandle(&handle, (void *)(uintptr_t)p),
			 CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(g.cuMemAlloc_v2(&p, 0), CUDA_ERROR_INVALID_VALUE);
	ok(g.cuMemFree_v2(p));
	assert_int_equal(g.cuMemFree_v2(p), CUDA_ERROR_INVALID_VALUE);
	ok(g.cuMemFree_v2(0));
	g.cuCtxSetCurrent(NULL);
	assert_int_equal(g.cuMemAlloc_v2(&p, 1), CUDA_ERROR_INVALID_CONTEXT);
	g.cuCtxSetCurrent(ctx[0]);
}

static void test_move__allocating_in_a_capture_is_refused_as_ever(void **state)
{
	CUdeviceptr p, q;
	CUgraph graph;

	ok(g.cuMemAlloc_v2(&q, MIB));
	ok(g.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	assert_int_equal(g.cuMemAlloc_v2(&p, MIB), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	g.cuStreamEndCapture(stream, &graph);
	ok(g.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
	ok(g.cuMemAlloc_v2(&p, 64 * MIB));
	ok(g.cuStreamEndCapture(stream, &graph));
	ok(g.cuGraphDestroy(graph));
	ok(g.cuMemFree_v2(p));
	ok(g.cuMemFree_v2(q));
}

struct freer {
	CUdeviceptr p;
	CUstream busy; /* done when the free is */
};

static void *free_it(void *arg)
{
	struct freer *f = arg;
	CUresult r;

	g.cuCtxSetCurrent(ctx[0]);
	r = g.cuMemFree_v2(f->p);
	return (void *)(intptr_t)(r == CUDA_SUCCESS ? driver.cuStreamQuery(f->busy) : r);
}

/* A free waits for work, but ends no capture of another thread, and is refused where it would be. */
static void test_move__freeing_leaves_captures_alone(void **state)
{
	uint64_t ns = 50 * MS;
	void *params[] = {&ns}, *result;
	struct freer f;
	pthread_t thread;
	CUgraph graph;
	CUdeviceptr q;

	ok(g.cuMemAlloc_v2(&f.p, 2 * MIB));
	ok(g.cuMemAlloc_v2(&q, 2 * MIB));
	ok(g.cuStreamCreate(&f.busy, CU_STREAM_NON_BLOCKING));
	ok(g.cuLaunchKernel(spin, 1, 1, 1, 32, 1, 1, 0, f.busy, params, NULL));
	ok(g.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
	assert_int_equal(pthread_create(&thread, NULL, free_it, &f), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_ptr_equal(result, (void *)CUDA_SUCCESS);
	ok(g.cuStreamEndCapture(stream, &graph));
	ok(g.cuGraphDestroy(graph));
	ok(g.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	assert_int_equal(g.cuMemFree_v2(q), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	g.cuStreamEndCapture(stream, &graph);
	ok(g.cuMemFree_v2(q));
	ok(g.cuStreamDestroy_v2(f.busy));
}

static void test_move__charged_is_what_the_device_lacks(void **state)
{
	uint64_t before = device_free();
	uint32_t seed = 5;
	CUdeviceptr p[64] = {0};

	for (int i = 0; i < 2000; i++) {
		uint32_t n = (seed = seed * 1664525u + 1013904223u) >> 26;

		if (p[n]) {
			ok(g.cuMemFree_v2(p[n]));
			p[n] = 0;
		} else {
			ok(g.cuMemAlloc_v2(&p[n], sizes[seed >> 8 & 7] + n));
		}
		if (i % 50 == 0) {
			uint64_t left = device_free();

			assert_int_equal(before - left, fake_daemon_used(0));
			assert_true(fake_daemon_used(0) == movable(0));
		}
	}
	for (int i = 0; i < 64; i++)
		if (p[i])
			ok(g.cuMemFree_v2(p[i]));
}

/*
 * PyTorch's caching allocator: segments of 2 MiB for small tensors, of 20 MiB for those up to 10
 * MiB, of the size rounded up to 2 MiB for larger ones; it keeps them until it runs out. What the
 * charge is above the sum of the segments is what packing costs; it may be 3 %.
 * Source: c10/cuda/CUDACachingAllocator, kSmallBuffer, kLargeBuffer, kRoundLarge.
 */
static void test_move__packing_costs_less_than_three_percent(void **state)
{
	uint64_t asked = 0, peak_asked = 0, peak_used = 0;
	static CUdeviceptr p[1500];
	static uint64_t size[1500];
	uint32_t seed = 11;
	unsigned int n = 0;

	for (int step = 1; step < 1500; step++) {
		uint32_t kind = (seed = seed * 1664525u + 1013904223u) >> 24;

		size[n] = kind < 150   ? 2 * MIB
			  : kind < 220 ? 20 * MIB
				       : (1 + (seed >> 8 & 63)) * 2 * MIB;
		ok(g.cuMemAlloc_v2(&p[n], size[n]));
		asked += size[n++];
		if (step % 100 == 0 || asked > 6000 * MIB) { /* empty_cache(): some segments go */
			for (unsigned int i = seed % 7; i < n; i += 7) {
				ok(g.cuMemFree_v2(p[i]));
				asked -= size[i];
				p[i] = p[--n];
				size[i] = size[n];
			}
		}
		if (asked >= peak_asked) {
			peak_asked = asked;
			peak_used = fake_daemon_used(0);
		}
	}
	print_message("packing: %llu MiB asked at the peak, %llu MiB held: %.2f %%\n",
		      (unsigned long long)(peak_asked / MIB), (unsigned long long)(peak_used / MIB),
		      100.0 * (double)(peak_used - peak_asked) / (double)peak_asked);
	assert_true(peak_used >= peak_asked);
	assert_true((peak_used - peak_asked) * 100 < peak_asked * 3);
	while (n)
		ok(g.cuMemFree_v2(p[--n]));
}

static void test_move__what_is_kept_does_not_refuse_others(void **state)
{
	CUdeviceptr p, q[8];
	CUarray array;
	CUDA_ARRAY_DESCRIPTOR desc = {.Width = 4096,
				      .Height = 1024,
				      .Format = CU_AD_FORMAT_UNSIGNED_INT32,
				      .NumChannels = 1};
	uint64_t limit = fake_daemon.limit;
	size_t left, total;

	for (int i = 0; i < 8; i++)
		ok(g.cuMemAlloc_v2(&q[i], 2 * MIB));
	for (int i = 0; i < 8; i++)
		ok(g.cuMemFree_v2(q[i]));
	assert_int_equal(fake_daemon_used(0), 16 * MIB); /* kept */
	aq_grant_revoke(&lease_device(0)->grant, UINT32_MAX);
	fake_daemon.limit = fake_daemon_granted(0) + fake_daemon.overhead[0];
	ok(g.cuMemAlloc_v2(&p, 16 * MIB)); /* needs all of it, in another shape */
	ok(g.cuMemFree_v2(p));
	ok(g.cuArrayCreate_v2(&array, &desc));
	ok(g.cuArrayDestroy(array));
	for (int i = 0; i < 8; i++)
		ok(g.cuMemAlloc_v2(&q[i], 2 * MIB));
	for (int i = 0; i < 8; i++)
		ok(g.cuMemFree_v2(q[i]));
	assert_int_equal(fake_daemon_used(0), 16 * MIB);
	ok(g.cuMemGetInfo_v2(&left, &total)); /* it is free, so it is given back */
	assert_int_equal(fake_daemon_used(0), 0);
	fake_daemon.limit = limit;
}

static void test_move__a_context_takes_its_memory_along(void **state)
{
	CUdeviceptr p, q;
	CUcontext other;

	ok(g.cuMemAlloc_v2(&p, 10 * MIB));
	put(p, 10 * MIB, 3);
	ok(g.cuCtxCreate_v4(&other, NULL, 0, 0));
	for (int i = 0; i < 200; i++)
		ok(g.cuMemAlloc_v2(&q, i % 2 ? 100 : 2 * MIB));
	ok(g.cuCtxDestroy_v2(other));
	g.cuCtxSetCurrent(ctx[0]);
	assert_true(eventually(fake_daemon_used(0) == 10 * MIB));
	same(p, 10 * MIB, 3);
	ok(g.cuMemFree_v2(p));
}

static pthread_barrier_t all_there;

static void *come_first(void *arg)
{
	uint64_t wrong = 0;
	CUdeviceptr p;
	CUcontext own;
	CUresult r;

	pthread_barrier_wait(&all_there);
	r = g.cuDevicePrimaryCtxRetain(&own, 1);
	if (r == CUDA_SUCCESS)
		r = g.cuCtxSetCurrent(own);
	for (int i = 0; r == CUDA_SUCCESS && i < 20; i++) {
		r = g.cuMemAlloc_v2(&p, MIB);
		if (r == CUDA_SUCCESS)
			r = g.cuMemsetD32_v2(p, (uint32_t)(uintptr_t)arg, 4);
		if (r == CUDA_SUCCESS)
			r = g.cuMemFree_v2(p); /* of memory that is still there */
	}
	pthread_barrier_wait(&all_there);
	if (r == CUDA_SUCCESS)
		r = g.cuDevicePrimaryCtxRelease_v2(1);
	wrong += r != CUDA_SUCCESS;
	return (void *)(uintptr_t)wrong;
}

/* Each makes the context, as far as it can tell; none ends that of another. */
static void test_move__several_may_come_first(void **state)
{
	pthread_t threads[8];
	uintptr_t wrong = 0;

	pthread_barrier_init(&all_there, NULL, 8);
	for (int round = 0; round < 10; round++) {
		ok(g.cuDevicePrimaryCtxReset_v2(1));
		for (uintptr_t i = 0; i < 8; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, come_first, (void *)i), 0);
		for (int i = 0; i < 8; i++) {
			void *result;

			pthread_join(threads[i], &result);
			wrong += (uintptr_t)result;
		}
	}
	pthread_barrier_destroy(&all_there);
	assert_int_equal(wrong, 0);
	ok(g.cuDevicePrimaryCtxRetain(&ctx[1], 1));
}

static void test_move__peers_see_what_comes_later_too(void **state)
{
	unsigned long long flags = 0;
	CUmemLocation where = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 1};
	CUdeviceptr p, q;

	ok(g.cuMemAlloc_v2(&p, 2 * MIB));
	g.cuCtxSetCurrent(ctx[1]);
	ok(g.cuCtxEnablePeerAccess(ctx[0], 0));
	g.cuCtxSetCurrent(ctx[0]);
	ok(g.cuMemAlloc_v2(&q, 40 * MIB));
	ok(driver.cuMemGetAccess(&flags, &where, p));
	assert_int_equal(flags, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
	ok(park(0));
	ok(resume(0));
	ok(driver.cuMemGetAccess(&flags, &where, q));
	assert_int_equal(flags, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
	ok(g.cuMemFree_v2(p));
	ok(g.cuMemFree_v2(q));
	g.cuCtxSetCurrent(ctx[1]);
	ok(g.cuCtxDisablePeerAccess(ctx[0]));
	g.cuCtxSetCurrent(ctx[0]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		EACH(test_move__memory_is_told_as_the_drivers_own),
		EACH(test_move__a_device_without_such_memory_has_nothing_to_park),
		EACH(test_move__foreign_and_inner_pointers_are_not_freed),
		EACH(test_move__allocating_in_a_capture_is_refused_as_ever),
		EACH(test_move__freeing_leaves_captures_alone),
		EACH(test_move__charged_is_what_the_device_lacks),
		EACH(test_move__packing_costs_less_than_three_percent),
		EACH(test_move__what_is_kept_does_not_refuse_others),
		EACH(test_move__a_context_takes_its_memory_along),
		EACH(test_move__several_may_come_first),
		EACH(test_move__peers_see_what_comes_later_too),
	};

	if (argc < 2)
		return 2;
	movetest_load(argv[1]);
	return cmocka_run_group_tests(tests, setup, teardown);
}
