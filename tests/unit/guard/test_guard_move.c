/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Movable memory on simulated devices, with a daemon whose orders the test gives by hand. Bytes are
 * real: after every move all of them are compared. With a second argument one failure is played,
 * which ALIQUOT_SIM_FAULT has to bring about from the start of a process.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "tests/unit/cm.h"

#include "abi/grant.h"
#include "cuda/cuda_abi.h"
#include "fake_lease.h"
#include "guard/real.h"
#include "sim/kernels.ptx.h"
#include "sim/machine.h"

#define MIB (1ull << 20)
#define MS AQ_NS_PER_MS
#define PATIENCE_NS (30 * AQ_NS_PER_S)
#define BLOCK (2 * MIB)

#define ok(call) assert_int_equal(call, CUDA_SUCCESS)

static struct aq__real g, driver; /* as the program has it, and behind the guard */
static char dir[64], self[256], guard_path[256];
static uint8_t uuids[2][16];
static CUcontext ctx[2];
static CUfunction spin, mad, fill_words;
static CUstream stream;

#define eventually(condition)                                                                      \
	({                                                                                         \
		uint64_t until_ = aq_now_ns() + PATIENCE_NS;                                       \
		while (!(condition) && aq_now_ns() < until_)                                       \
			usleep(500);                                                               \
		(condition);                                                                       \
	})

/* ---- the daemon's side ---- */

static uint64_t load64(const _Atomic uint64_t *word)
{
	return __atomic_load_n((const uint64_t *)word, __ATOMIC_SEQ_CST);
}

static uint64_t movable(int i)
{
	return load64(&lease_device(i)->movable_bytes);
}

static uint64_t parked(int i)
{
	return load64(&lease_device(i)->parked_bytes);
}

static uint64_t pinned(int i)
{
	return load64(&lease_device(i)->pinned_bytes);
}

static void host_limit(int i, uint64_t bytes)
{
	__atomic_store_n((uint64_t *)&lease_device(i)->host_limit_bytes, bytes, __ATOMIC_SEQ_CST);
}

static void give_order(int i, uint32_t what)
{
	lease_store(&lease_device(i)->order, what);
	__atomic_fetch_add((uint32_t *)&lease_device(i)->order_turn, 1, __ATOMIC_SEQ_CST);
	lease_news();
}

static int result_of_order(int i)
{
	struct aq_page_device *d = lease_device(i);

	assert_true(eventually(lease_load(&d->order_done) == lease_load(&d->order_turn)));
	return __atomic_load_n((int32_t *)&d->order_result, __ATOMIC_SEQ_CST);
}

static void begin_park(int i, uint64_t limit)
{
	lease_gate(i, AQ_GATE_PARKED);
	host_limit(i, limit);
	give_order(i, AQ_ORDER_PARK);
}

/* As the daemon: one that failed leaves the gate open. */
static int park(int i)
{
	int r;

	begin_park(i, UINT64_MAX);
	r = result_of_order(i);
	if (r < 0 && !parked(i))
		lease_gate(i, 0);
	return r;
}

static int resume(int i)
{
	uint64_t away = parked(i);
	struct aq_grant grant;
	int r;

	grant = aq_grant_load(&lease_device(i)->grant);
	if (aq_grain_bytes(grant.granted - grant.used) < away)
		aq_grant_add(&lease_device(i)->grant, (uint32_t)(away / AQ_GRAIN_BYTES));
	give_order(i, AQ_ORDER_STAY);
	r = result_of_order(i);
	if (r == 0)
		lease_gate(i, 0);
	return r;
}

/* Bytes of the device that nobody has, by the driver. */
static uint64_t device_free(void)
{
	size_t left, total;

	ok(driver.cuMemGetInfo_v2(&left, &total));
	return left;
}

/* ---- patterns ---- */

static uint64_t word_of(uint64_t seed, uint64_t i)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + i;

	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9ull;
	return x ^ x >> 32;
}

static void put(CUdeviceptr p, uint64_t bytes, uint64_t seed)
{
	uint64_t *words = malloc(bytes + 8);

	for (uint64_t i = 0; i < bytes / 8; i++)
		words[i] = word_of(seed, i);
	ok(g.cuMemcpyHtoD_v2(p, words, bytes / 8 * 8));
	free(words);
}

static uint64_t wrong_words(CUdeviceptr p, uint64_t bytes, uint64_t seed)
{
	uint64_t *words = malloc(bytes + 8), bad = 0;

	ok(g.cuMemcpyDtoH_v2(words, p, bytes / 8 * 8));
	for (uint64_t i = 0; i < bytes / 8; i++)
		bad += words[i] != word_of(seed, i);
	free(words);
	return bad;
}

#define same(p, bytes, seed) assert_int_equal(wrong_words(p, bytes, seed), 0)

static const uint64_t sizes[] = {512,	   70000,	   MIB,	    MIB + 8, 2 * MIB, 2 * MIB,
				 20 * MIB, 33 * MIB + 512, 6 * MIB, 40,	     3 * MIB, 48 * MIB};

#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

struct set {
	CUdeviceptr p[SIZES];
};

static void set_make(struct set *s)
{
	for (size_t i = 0; i < SIZES; i++) {
		ok(g.cuMemAlloc_v2(&s->p[i], sizes[i]));
		put(s->p[i], sizes[i], i + 1);
	}
}

static void set_check(const struct set *s)
{
	for (size_t i = 0; i < SIZES; i++)
		if (s->p[i])
			same(s->p[i], sizes[i], i + 1);
}

static void set_free(struct set *s)
{
	for (size_t i = 0; i < SIZES; i++)
		if (s->p[i])
			ok(g.cuMemFree_v2(s->p[i]));
}

/* ---- before and after each ---- */

static int nothing_left(void **state)
{
	g.cuCtxSetCurrent(ctx[0]);
	/* What is kept for the next time is given back when there is none for a while. */
	assert_true(eventually(fake_daemon_used(0) == 0));
	assert_int_equal(movable(0), 0);
	assert_int_equal(parked(0), 0);
	assert_int_equal(lease_load(&fake_daemon.page->gates), 0);
	return 0;
}

/* ---- allocating ---- */

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

/* ---- moving ---- */

static void test_move__parked_memory_is_free_and_comes_back_the_same(void **state)
{
	uint64_t start = device_free(), used, held;
	unsigned int yes = 1;
	struct set s;

	set_make(&s);
	ok(g.cuPointerSetAttribute(&yes, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, s.p[6]));
	used = fake_daemon_used(0);
	held = start - device_free();
	assert_int_equal(held, used);
	for (int round = 0; round < 3; round++) {
		assert_int_equal(park(0), 0);
		assert_int_equal(fake_daemon_used(0), 0);
		assert_int_equal(parked(0), used);
		assert_int_equal(movable(0), 0);
		assert_int_equal(device_free(), start);
		yes = 0;
		ok(g.cuPointerGetAttribute(&yes, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, s.p[6]));
		assert_int_equal(yes, CU_MEMORYTYPE_DEVICE);
		assert_int_equal(resume(0), 0);
		assert_int_equal(parked(0), 0);
		assert_int_equal(movable(0), used);
		assert_int_equal(fake_daemon_used(0), used);
		assert_int_equal(start - device_free(), used);
		set_check(&s);
	}
	ok(driver.cuPointerGetAttribute(&yes, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, s.p[6]));
	assert_int_equal(yes, 1);
	set_free(&s);
}

static void test_move__captured_graphs_events_and_streams_survive(void **state)
{
	uint32_t m = 3, a = 1, value = 7, words[4];
	uint64_t count = 5 * MIB / 4;
	CUdeviceptr p;
	void *params[] = {&p, &m, &a, &count};
	void *first[] = {&p, &value, &count};
	CUgraphExec exec;
	CUgraph graph;
	CUevent event;

	ok(g.cuMemAlloc_v2(&p, 5 * MIB));
	ok(g.cuEventCreate(&event, 0));
	ok(g.cuLaunchKernel(fill_words, 4, 1, 1, 32, 1, 1, 0, stream, first, NULL));
	ok(g.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	ok(g.cuLaunchKernel(mad, 4, 1, 1, 32, 1, 1, 0, stream, params, NULL));
	ok(g.cuStreamEndCapture(stream, &graph));
	ok(g.cuGraphInstantiateWithFlags(&exec, graph, 0));
	ok(g.cuGraphLaunch(exec, stream));
	ok(g.cuEventRecord(event, stream));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(park(0), 0);
		ok(g.cuEventQuery(event)); /* what was in flight is done */
		assert_int_equal(resume(0), 0);
		ok(g.cuGraphLaunch(exec, stream));
		value = value * m + a;
		ok(g.cuStreamSynchronize(stream));
	}
	ok(g.cuMemcpyDtoH_v2(words, p + 5 * MIB - sizeof(words), sizeof(words)));
	assert_int_equal(words[3], value * m + a);
	ok(g.cuGraphExecDestroy(exec));
	ok(g.cuGraphDestroy(graph));
	ok(g.cuEventDestroy_v2(event));
	ok(g.cuMemFree_v2(p));
}

static void *build_graph(void *arg)
{
	CUDA_MEMSET_NODE_PARAMS params = {
		.dst = *(CUdeviceptr *)arg, .value = 9, .elementSize = 4, .width = 64, .height = 1};
	CUgraphNode node;
	CUgraphExec exec;
	CUgraph graph;
	CUresult r;

	g.cuCtxSetCurrent(ctx[0]);
	r = g.cuGraphCreate(&graph, 0);
	if (r == CUDA_SUCCESS)
		r = g.cuGraphAddMemsetNode(&node, graph, NULL, 0, &params, ctx[0]);
	if (r == CUDA_SUCCESS)
		r = g.cuGraphInstantiateWithFlags(&exec, graph, 0);
	if (r == CUDA_SUCCESS)
		r = g.cuGraphLaunch(exec, stream);
	if (r == CUDA_SUCCESS)
		r = g.cuStreamSynchronize(stream);
	g.cuGraphExecDestroy(exec);
	g.cuGraphDestroy(graph);
	return (void *)(intptr_t)r;
}

/* The driver looks at addresses that nodes are made of: they have to be there. */
static void test_move__graphs_are_built_on_memory_that_is_away(void **state)
{
	uint32_t words[64];
	pthread_t thread;
	CUdeviceptr p;
	void *result;

	ok(g.cuMemAlloc_v2(&p, 2 * MIB));
	assert_int_equal(park(0), 0);
	assert_int_equal(pthread_create(&thread, NULL, build_graph, &p), 0);
	assert_true(eventually(lease_load(&lease_device(0)->want) == 1));
	assert_int_equal(resume(0), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_ptr_equal(result, (void *)CUDA_SUCCESS);
	ok(g.cuMemcpyDtoH_v2(words, p, sizeof(words)));
	assert_int_equal(words[63], 9);
	ok(g.cuMemFree_v2(p));
}

static void test_move__work_in_flight_is_waited_for(void **state)
{
	uint64_t ns = 100 * MS, count = MIB / 4;
	uint32_t value = 0x1234567, word = 0;
	CUdeviceptr p;
	void *spin_params[] = {&ns};
	void *params[] = {&p, &value, &count};

	ok(g.cuMemAlloc_v2(&p, MIB));
	ok(g.cuLaunchKernel(spin, 1, 1, 1, 32, 1, 1, 0, stream, spin_params, NULL));
	ok(g.cuLaunchKernel(fill_words, 4, 1, 1, 32, 1, 1, 0, stream, params, NULL));
	assert_int_equal(park(0), 0);
	ok(g.cuStreamQuery(stream));
	assert_int_equal(resume(0), 0);
	ok(g.cuMemcpyDtoH_v2(&word, p + MIB - 4, 4));
	assert_int_equal(word, value);
	ok(g.cuMemFree_v2(p));
}

struct toucher {
	pthread_t thread;
	CUdeviceptr p;
	bool allocates;
	_Atomic int done;
};

static void *touch(void *arg)
{
	struct toucher *t = arg;

	g.cuCtxSetCurrent(ctx[0]);
	if (t->allocates)
		t->done = g.cuMemAlloc_v2(&t->p, 3 * MIB) == CUDA_SUCCESS ? 1 : -1;
	else
		t->done = g.cuMemsetD32_v2(t->p, 77, 256) == CUDA_SUCCESS ? 1 : -1;
	return NULL;
}

static void wanted_then_resumed(struct toucher *t)
{
	assert_int_equal(park(0), 0);
	assert_int_equal(pthread_create(&t->thread, NULL, touch, t), 0);
	assert_true(eventually(lease_load(&lease_device(0)->want) == 1));
	usleep(30000);
	assert_int_equal(t->done, 0);
	/* A gate that the daemon opens too early does not let it through. */
	lease_gate(0, 0);
	usleep(30000);
	assert_int_equal(t->done, 0);
	assert_int_equal(resume(0), 0);
	assert_int_equal(pthread_join(t->thread, NULL), 0);
	assert_int_equal(t->done, 1);
	assert_int_equal(lease_load(&lease_device(0)->want), 0);
}

static void test_move__who_comes_while_parked_waits_and_is_heard(void **state)
{
	struct toucher launches = {.allocates = false}, allocates = {.allocates = true};
	uint32_t word;

	ok(g.cuMemAlloc_v2(&launches.p, 2 * MIB));
	wanted_then_resumed(&launches);
	ok(g.cuMemcpyDtoH_v2(&word, launches.p + 255 * 4, 4));
	assert_int_equal(word, 77);
	wanted_then_resumed(&allocates);
	ok(g.cuMemFree_v2(allocates.p));
	ok(g.cuMemFree_v2(launches.p));
}

static void test_move__memory_can_be_freed_where_it_is(void **state)
{
	uint64_t start = device_free(), before;
	CUcontext other;
	CUdeviceptr q;
	struct set s;

	set_make(&s);
	ok(g.cuCtxCreate_v4(&other, NULL, 0, 0));
	ok(g.cuMemAlloc_v2(&q, 30 * MIB));
	g.cuCtxSetCurrent(ctx[0]);
	assert_int_equal(park(0), 0);
	before = parked(0);
	for (size_t i = 0; i < SIZES; i += 2) {
		ok(g.cuMemFree_v2(s.p[i]));
		s.p[i] = 0;
	}
	ok(g.cuCtxDestroy_v2(other));
	g.cuCtxSetCurrent(ctx[0]);
	assert_true(before - parked(0) >= 30 * MIB + 20 * MIB);
	assert_int_equal(fake_daemon_used(0), 0);
	assert_int_equal(device_free(), start);
	assert_int_equal(resume(0), 0);
	set_check(&s);
	assert_int_equal(start - device_free(), fake_daemon_used(0));
	set_free(&s);
}

static void test_move__all_can_be_freed_while_parked(void **state)
{
	struct set s;

	set_make(&s);
	assert_int_equal(park(0), 0);
	set_free(&s);
	assert_int_equal(parked(0), 0);
	assert_int_equal(fake_daemon_used(0), 0);
	/* Nothing to bring back, so nothing to wait for. */
	lease_gate(0, 0);
	set_make(&s);
	set_check(&s);
	assert_int_equal(resume(0), 0);
	set_free(&s);
}

static void test_move__too_little_host_memory_changes_nothing(void **state)
{
	uint64_t used;
	struct set s;

	set_make(&s);
	used = fake_daemon_used(0);
	begin_park(0, used / 2);
	assert_int_equal(result_of_order(0), -ENOMEM);
	lease_gate(0, 0);
	assert_int_equal(parked(0), 0);
	assert_int_equal(fake_daemon_used(0), used);
	set_check(&s);
	set_free(&s);
}

static void test_move__without_room_it_stays_parked(void **state)
{
	uint64_t used, away;
	struct set s;

	set_make(&s);
	used = fake_daemon_used(0);
	assert_int_equal(park(0), 0);
	away = parked(0);
	aq_grant_revoke(&lease_device(0)->grant, UINT32_MAX);
	aq_grant_add(&lease_device(0)->grant, (uint32_t)((away - BLOCK) / AQ_GRAIN_BYTES));
	give_order(0, AQ_ORDER_STAY);
	assert_int_equal(result_of_order(0), -ENOMEM);
	assert_int_equal(parked(0), away);
	assert_int_equal(fake_daemon_used(0), 0);
	assert_int_equal(resume(0), 0);
	assert_int_equal(fake_daemon_used(0), used);
	set_check(&s);
	set_free(&s);
}

static void test_move__what_others_know_stays(void **state)
{
	CUipcMemHandle handle;
	uint64_t loan, span;
	CUdeviceptr p, q;

	ok(g.cuMemAlloc_v2(&p, 40 * MIB));
	ok(g.cuMemAlloc_v2(&q, 50 * MIB));
	put(p, 40 * MIB, 1);
	put(q, 50 * MIB, 2);
	ok(g.cuIpcGetMemHandle(&handle, p));
	fake_daemon_borrow(0);
	assert_int_equal(fake_daemon_lent(&loan, &span), 0);
	assert_int_equal(span, 40 * MIB);
	assert_int_equal(movable(0), 50 * MIB);
	assert_int_equal(park(0), 0);
	assert_int_equal(parked(0), 50 * MIB);
	assert_int_equal(fake_daemon_used(0), 40 * MIB);
	assert_int_equal(resume(0), 0);
	same(p, 40 * MIB, 1);
	same(q, 50 * MIB, 2);
	ok(g.cuMemFree_v2(p)); /* nobody but us must have it then: it is not kept */
	assert_int_equal(fake_daemon_used(0), 50 * MIB);
	fake_daemon_give_back(loan); /* of a chunk that is no more */
	ok(g.cuMemFree_v2(q));
}

/* A handle alone holds nothing; nor does memory that everybody has closed. */
static void test_move__what_nobody_has_open_moves(void **state)
{
	CUipcMemHandle handle, again;
	uint64_t loan[2], span;
	CUdeviceptr p;

	ok(g.cuMemAlloc_v2(&p, 40 * MIB));
	put(p, 40 * MIB, 3);
	ok(g.cuIpcGetMemHandle(&handle, p));
	ok(g.cuIpcGetMemHandle(&again, p));
	assert_memory_equal(&handle, &again, sizeof(handle));
	for (int round = 0; round < 3; round++) {
		assert_int_equal(movable(0), 40 * MIB);
		assert_int_equal(park(0), 0);
		assert_int_equal(parked(0), 40 * MIB);
		fake_daemon_borrow(0); /* it has to come back for that */
		assert_true(eventually(lease_load(&lease_device(0)->want)));
		assert_int_equal(resume(0), 0);
		assert_int_equal(fake_daemon_lent(&loan[0], &span), 0);
		fake_daemon_borrow(0);
		assert_int_equal(fake_daemon_lent(&loan[1], &span), 0);
		assert_int_equal(movable(0), 0);
		fake_daemon_give_back(loan[1]);
		usleep(20000);
		assert_int_equal(movable(0), 0); /* one still has it */
		fake_daemon_give_back(loan[0]);
		assert_true(eventually(movable(0) == 40 * MIB));
		same(p, 40 * MIB, 3);
	}
	ok(g.cuMemFree_v2(p));
	assert_true(eventually(fake_daemon.withdrawals));
	fake_daemon_borrow(0); /* the daemon may not have heard that it is freed */
	assert_int_equal(fake_daemon_lent(&loan[0], &span), -ENOENT);
}

static void test_move__a_capture_is_not_disturbed(void **state)
{
	uint64_t ns = 1000;
	void *params[] = {&ns};
	CUgraph graph;
	CUdeviceptr p;

	ok(g.cuMemAlloc_v2(&p, 2 * MIB));
	ok(g.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	begin_park(0, UINT64_MAX);
	usleep(100000);
	for (int i = 0; i < 10; i++)
		ok(g.cuLaunchKernel(spin, 1, 1, 1, 32, 1, 1, 0, stream, params, NULL));
	assert_int_equal(parked(0), 0);
	ok(g.cuStreamEndCapture(stream, &graph));
	assert_int_equal(result_of_order(0), 0);
	assert_int_equal(parked(0), 2 * MIB);
	assert_int_equal(resume(0), 0);
	ok(g.cuGraphDestroy(graph));
	ok(g.cuMemFree_v2(p));
}

static void *write_one(void *arg)
{
	CUdeviceptr *word = arg;

	g.cuCtxSetCurrent(ctx[0]);
	return (void *)(intptr_t)g.cuMemsetD32_v2(*word, 1, 1);
}

/* Work in flight waits for a call that the closed gate holds back: the order is given up. */
static void test_move__what_cannot_drain_goes_on(void **state)
{
	pthread_t thread;
	CUdeviceptr word;
	void *result;

	ok(g.cuMemAlloc_v2(&word, 4));
	ok(g.cuMemsetD32_v2(word, 0, 1));
	ok(g.cuStreamWaitValue32_v2(stream, word, 1, CU_STREAM_WAIT_VALUE_EQ));
	begin_park(0, UINT64_MAX);
	usleep(50000);
	assert_int_equal(pthread_create(&thread, NULL, write_one, &word), 0);
	assert_int_equal(result_of_order(0), -EBUSY);
	assert_int_equal(parked(0), 0);
	lease_gate(0, 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_ptr_equal(result, (void *)CUDA_SUCCESS);
	ok(g.cuStreamSynchronize(stream));
	usleep(100000); /* who was left waiting goes home */
	assert_int_equal(park(0), 0);
	assert_int_equal(resume(0), 0);
	ok(g.cuMemFree_v2(word));
}

static void test_move__a_device_without_such_memory_has_nothing_to_park(void **state)
{
	assert_int_equal(park(1), -ENODATA);
	lease_gate(1, 0);
}

/* ---- all at once ---- */

#define WORKERS 4
#define PARKS 25

struct worker {
	pthread_t thread;
	unsigned int number;
	uint64_t rounds, bad;
	CUresult failed;
};

static _Atomic bool storm_over;

static CUresult copy_check(CUdeviceptr p, uint64_t bytes, uint32_t value, uint64_t *bad)
{
	uint32_t *words = malloc(bytes);
	CUresult r = g.cuMemcpyDtoH_v2(words, p, bytes);

	for (uint64_t i = 0; r == CUDA_SUCCESS && i < bytes / 4; i++)
		*bad += words[i] != value;
	free(words);
	return r;
}

/* One round: memory, a kernel on it, a graph on it, a wait, a look at the bytes. */
static CUresult work(struct worker *w, CUstream s, CUdeviceptr kept, uint32_t *value,
		     uint64_t bytes)
{
	uint32_t m = 5, a = w->number, fresh_value = *value ^ 0xffff;
	uint64_t count = bytes / 4, ns = 200000;
	CUdeviceptr fresh = 0;
	void *mads[] = {&kept, &m, &a, &count}, *fills[] = {&fresh, &fresh_value, &count};
	void *spins[] = {&ns};
	CUgraphExec exec = NULL;
	CUgraph graph = NULL;
	CUresult r = g.cuMemAlloc_v2(&fresh, bytes);

	if (r == CUDA_SUCCESS)
		r = g.cuLaunchKernel(fill_words, 1, 1, 1, 32, 1, 1, 0, s, fills, NULL);
	if (r == CUDA_SUCCESS)
		r = g.cuStreamBeginCapture_v2(s, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
	if (r == CUDA_SUCCESS)
		r = g.cuLaunchKernel(mad, 1, 1, 1, 32, 1, 1, 0, s, mads, NULL);
	if (r == CUDA_SUCCESS)
		r = g.cuStreamEndCapture(s, &graph);
	if (r == CUDA_SUCCESS)
		r = g.cuGraphInstantiateWithFlags(&exec, graph, 0);
	if (r == CUDA_SUCCESS)
		r = g.cuLaunchKernel(spin, 1, 1, 1, 32, 1, 1, 0, s, spins, NULL);
	if (r == CUDA_SUCCESS)
		r = g.cuGraphLaunch(exec, s);
	if (r == CUDA_SUCCESS)
		r = g.cuStreamSynchronize(s);
	*value = *value * m + a;
	if (r == CUDA_SUCCESS)
		r = copy_check(kept, bytes, *value, &w->bad);
	if (r == CUDA_SUCCESS)
		r = copy_check(fresh, bytes, fresh_value, &w->bad);
	if (exec)
		g.cuGraphExecDestroy(exec);
	if (graph)
		g.cuGraphDestroy(graph);
	if (fresh && r == CUDA_SUCCESS)
		r = g.cuMemFree_v2(fresh);
	return r;
}

static void *worker(void *arg)
{
	struct worker *w = arg;
	uint64_t bytes = 100 * 1024 + w->number * 700 * 1024;
	uint32_t value = 1;
	CUdeviceptr kept = 0;
	CUstream s;
	CUresult r;

	bytes = bytes / 4 * 4;
	g.cuCtxSetCurrent(ctx[0]);
	r = g.cuStreamCreate(&s, CU_STREAM_NON_BLOCKING);
	if (r == CUDA_SUCCESS)
		r = g.cuMemAlloc_v2(&kept, bytes);
	if (r == CUDA_SUCCESS)
		r = g.cuMemsetD32_v2(kept, value, bytes / 4);
	if (r == CUDA_SUCCESS)
		r = g.cuStreamSynchronize(NULL);
	for (; r == CUDA_SUCCESS && !storm_over; w->rounds++)
		r = work(w, s, kept, &value, bytes);
	w->failed = r;
	if (kept)
		g.cuMemFree_v2(kept);
	g.cuStreamDestroy_v2(s);
	return NULL;
}

static void test_move__storm(void **state)
{
	struct worker w[WORKERS] = {0};
	int moved = 0, busy = 0;
	uint64_t rounds = 0;
	struct set s;

	set_make(&s);
	storm_over = false;
	for (unsigned int i = 0; i < WORKERS; i++) {
		w[i].number = i;
		assert_int_equal(pthread_create(&w[i].thread, NULL, worker, &w[i]), 0);
	}
	for (int i = 0; i < PARKS; i++) {
		int r = park(0);

		if (r == -EBUSY) { /* the machine is slow today */
			busy++;
			continue;
		}
		assert_int_equal(r, 0);
		usleep((unsigned int)(i % 5) * 1000);
		assert_int_equal(resume(0), 0);
		moved++;
		usleep(10000);
	}
	storm_over = true;
	for (unsigned int i = 0; i < WORKERS; i++) {
		pthread_join(w[i].thread, NULL);
		assert_int_equal(w[i].failed, CUDA_SUCCESS);
		assert_int_equal(w[i].bad, 0);
		assert_true(w[i].rounds > 0);
		rounds += w[i].rounds;
	}
	print_message("storm: %d moves there and back, %d refused, %llu rounds of work\n", moved,
		      busy, (unsigned long long)rounds);
	assert_true(moved > PARKS / 2);
	set_check(&s);
	set_free(&s);
}

static uint64_t resident_kib(void)
{
	FILE *file = fopen("/proc/self/status", "r");
	unsigned long long kib = 0;
	char line[128];

	while (file && fgets(line, sizeof(line), file) && sscanf(line, "RssAnon: %llu", &kib) != 1)
		;
	if (file)
		fclose(file);
	return kib;
}

/* What was pinned for parking is the host's again, some seconds after it was needed last. */
static void test_move__host_memory_is_given_back(void **state)
{
	uint64_t parked_kib, bytes;
	struct set s;

	set_make(&s);
	bytes = movable(0);
	assert_int_equal(park(0), 0);
	parked_kib = resident_kib();
	assert_true(parked_kib * 1024 >= bytes);
	assert_int_equal(resume(0), 0);
	assert_true(eventually((parked_kib - resident_kib()) * 1024 >= bytes * 9 / 10));
	set_check(&s);
	assert_int_equal(park(0), 0);
	assert_int_equal(resume(0), 0);
	set_check(&s);
	set_free(&s);
}

/* What is kept of it is told, and given back at once when the daemon wants it. */
static void test_move__host_memory_is_counted_and_yields(void **state)
{
	const uint64_t step = 32 * MIB;
	uint64_t away, kib;
	struct set s;

	host_limit(0, 0); /* what a test before this one has left */
	lease_news();
	assert_true(eventually(pinned(0) == 0));
	set_make(&s);
	assert_int_equal(park(0), 0);
	away = parked(0);
	assert_in_range(pinned(0), away, away + step);
	kib = resident_kib();
	assert_int_equal(resume(0), 0);
	assert_in_range(pinned(0), away, away + step);
	host_limit(0, away); /* it may: nothing happens */
	lease_news();
	usleep(100000);
	assert_in_range(pinned(0), away, away + step);
	host_limit(0, 0);
	lease_news();
	assert_true(eventually(pinned(0) == 0));
	assert_true(eventually((kib - resident_kib()) * 1024 >= away * 9 / 10));
	set_check(&s);
	assert_int_equal(park(0), 0);
	assert_int_equal(resume(0), 0);
	set_check(&s);
	set_free(&s);
}

static void test_move__a_forked_child_moves_nothing(void **state)
{
	struct set s;
	int status;
	pid_t pid;

	set_make(&s);
	assert_int_equal(park(0), 0);
	pid = fork();
	if (!pid) {
		CUdeviceptr p;

		/* As in any child without a context of its own. */
		_exit(g.cuMemAlloc_v2(&p, MIB) == CUDA_SUCCESS);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(resume(0), 0);
	set_check(&s);
	set_free(&s);
}

/* ---- failures: each in a process of its own ---- */

/* Parking fails and nothing has changed; the next time it works. */
static void scenario_park_fails(int want)
{
	uint64_t used, start;
	struct set s;

	set_make(&s);
	used = fake_daemon_used(0);
	start = device_free();
	assert_int_equal(park(0), want);
	assert_int_equal(parked(0), 0);
	assert_int_equal(fake_daemon_used(0), used);
	assert_int_equal(device_free(), start);
	set_check(&s);
	assert_int_equal(park(0), 0);
	assert_int_equal(resume(0), 0);
	set_check(&s);
	set_free(&s);
}

/* Resuming fails and all is still parked; the next time it works. */
static void scenario_resume_fails(int want)
{
	uint64_t start = device_free(), away;
	struct set s;

	set_make(&s);
	assert_int_equal(park(0), 0);
	away = parked(0);
	assert_int_equal(resume(0), want);
	assert_int_equal(parked(0), away);
	assert_int_equal(fake_daemon_used(0), 0);
	assert_int_equal(device_free(), start);
	assert_int_equal(resume(0), 0);
	set_check(&s);
	set_free(&s);
}

/* The context that was copied in goes while its memory is parked. */
static void scenario_context_gone(int want)
{
	CUdeviceptr p;
	CUcontext other;

	ok(g.cuCtxCreate_v4(&other, NULL, 0, 0));
	ok(g.cuMemAlloc_v2(&p, 40 * MIB));
	g.cuCtxSetCurrent(ctx[0]);
	ok(g.cuMemAlloc_v2(&p, 40 * MIB));
	put(p, 40 * MIB, 9);
	assert_int_equal(park(0), want);
	ok(g.cuCtxDestroy_v2(other));
	g.cuCtxSetCurrent(ctx[0]);
	assert_int_equal(resume(0), 0);
	same(p, 40 * MIB, 9);
	ok(g.cuMemFree_v2(p));
}

/* An allocation that the device cannot serve, though it is granted, is refused, with nothing lost.
 */
static void scenario_allocation_fails(int want)
{
	uint64_t used = fake_daemon_used(0);
	CUdeviceptr p;

	assert_int_equal(g.cuMemAlloc_v2(&p, 40 * MIB), want);
	assert_int_equal(fake_daemon_used(0), used);
	ok(g.cuMemAlloc_v2(&p, 40 * MIB));
	put(p, 40 * MIB, 4);
	same(p, 40 * MIB, 4);
	ok(g.cuMemFree_v2(p));
}

/* The set has 9 chunks, each a call of cuMemCreate, cuMemMap and cuMemSetAccess; coming back they
 * lie side by side and need one call of the last. */
static const struct scenario {
	const char *name, *fault;
	void (*play)(int want);
	int want;
} scenarios[] = {
	{"no-host-memory", "cuMemHostRegister_v2:2=2", scenario_park_fails, -ENOMEM},
	{"copy-out", "cuMemcpyDtoHAsync_v2:3=999", scenario_park_fails, -EIO},
	{"first-copy-out", "cuMemcpyDtoHAsync_v2:1=700", scenario_park_fails, -EIO},
	{"no-stream", "cuStreamCreate:2=2", scenario_park_fails, -EIO},
	{"unmap", "cuMemUnmap:3=999", scenario_park_fails, -EIO},
	{"create", "cuMemCreate:12=2", scenario_resume_fails, -ENOMEM},
	{"map", "cuMemMap:13=999", scenario_resume_fails, -EIO},
	{"access", "cuMemSetAccess:10=999", scenario_resume_fails, -EIO},
	{"copy-in", "cuMemcpyHtoDAsync_v2:3=999", scenario_resume_fails, -EIO},
	{"context", "", scenario_context_gone, 0},
	{"alloc-create", "cuMemCreate:1=2", scenario_allocation_fails, CUDA_ERROR_OUT_OF_MEMORY},
	{"alloc-map", "cuMemMap:1=999", scenario_allocation_fails, CUDA_ERROR_UNKNOWN},
	{"alloc-access", "cuMemSetAccess:1=2", scenario_allocation_fails, CUDA_ERROR_OUT_OF_MEMORY},
};

#define SCENARIOS (sizeof(scenarios) / sizeof(scenarios[0]))

static const struct scenario *playing;

static void test_move__scenario(void **state)
{
	playing->play(playing->want);
}

static void test_move__failures_lose_nothing(void **state)
{
	for (size_t i = 0; i < SCENARIOS; i++) {
		char command[800];

		snprintf(command, sizeof(command), "ALIQUOT_SIM_FAULT='%s' '%s' '%s' %s 2>&1",
			 scenarios[i].fault, self, guard_path, scenarios[i].name);
		if (system(command) != 0)
			fail_msg("scenario %s", scenarios[i].name);
	}
}

/* ---- the program ---- */

static void load(struct aq__real *into, void *handle)
{
	if (!handle) {
		fprintf(stderr, "%s\n", dlerror());
		exit(1);
	}
#define AQ_API(sym, since, role, params, args) *(void **)&into->sym = dlsym(handle, #sym);
#define AQ_API_UNTYPED(sym, since, role)
#define AQ_API_DATA(sym)
#define AQ_ALIAS(base, since, sym)
#include "cuda/cuda_api.def"
#undef AQ_API
#undef AQ_API_UNTYPED
#undef AQ_API_DATA
#undef AQ_ALIAS
}

static int setup(void **state)
{
	CUmodule m;

	ok(driver.cuInit(0));
	for (int i = 0; i < 2; i++)
		ok(driver.cuDeviceGetUuid_v2((CUuuid *)uuids[i], i));
	fake_daemon.uuids = uuids;
	fake_daemon.devices = 2;
	fake_daemon.limit = 1ull << 34;
	fake_daemon_prepare();
	fake_daemon_start();
	ok(g.cuInit(0));
	for (int i = 1; i >= 0; i--) {
		ok(g.cuDevicePrimaryCtxRetain(&ctx[i], i));
		ok(g.cuCtxSetCurrent(ctx[i]));
	}
	ok(g.cuModuleLoadData(&m, SIM_KERNELS_PTX));
	ok(g.cuModuleGetFunction(&spin, m, "aq_spin_ns"));
	ok(g.cuModuleGetFunction(&mad, m, "aq_mad"));
	ok(g.cuModuleGetFunction(&fill_words, m, "aq_fill"));
	ok(g.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	return 0;
}

static int teardown(void **state)
{
	fake_daemon_stop();
	fake_daemon_clean();
	sim_machine_remove(dir);
	rmdir(dir);
	return 0;
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, nothing_left, nothing_left)

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
		EACH(test_move__parked_memory_is_free_and_comes_back_the_same),
		EACH(test_move__captured_graphs_events_and_streams_survive),
		EACH(test_move__graphs_are_built_on_memory_that_is_away),
		EACH(test_move__work_in_flight_is_waited_for),
		EACH(test_move__who_comes_while_parked_waits_and_is_heard),
		EACH(test_move__memory_can_be_freed_where_it_is),
		EACH(test_move__all_can_be_freed_while_parked),
		EACH(test_move__too_little_host_memory_changes_nothing),
		EACH(test_move__without_room_it_stays_parked),
		EACH(test_move__what_others_know_stays),
		EACH(test_move__what_nobody_has_open_moves),
		EACH(test_move__a_capture_is_not_disturbed),
		EACH(test_move__what_cannot_drain_goes_on),
		EACH(test_move__storm),
		EACH(test_move__host_memory_is_given_back),
		EACH(test_move__host_memory_is_counted_and_yields),
		EACH(test_move__a_forked_child_moves_nothing),
		cmocka_unit_test(test_move__failures_lose_nothing),
	};
	const struct CMUnitTest one[] = {EACH(test_move__scenario)};

	if (argc < 2)
		return 2;
	for (size_t i = 0; argc > 2 && i < SCENARIOS; i++) {
		if (!strcmp(argv[2], scenarios[i].name))
			playing = &scenarios[i];
	}
	if (argc > 2 && !playing)
		return 2;
	snprintf(self, sizeof(self), "%s", argv[0]);
	snprintf(guard_path, sizeof(guard_path), "%s", argv[1]);
	snprintf(dir, sizeof(dir), "/tmp/aliquot-move-XXXXXX");
	if (!mkdtemp(dir) || sim_machine_add(dir, "h100:2") < 0) {
		perror("no simulated machine");
		return 1;
	}
	setenv("ALIQUOT_SIM_DIR", dir, 1);
	setenv("ALIQUOT_MOVE", "1", 1);
	unsetenv("CUDA_VISIBLE_DEVICES");
	load(&driver, dlopen(AQ__DRIVER_SONAME, RTLD_NOW | RTLD_LOCAL));
	load(&g, dlopen(argv[1], RTLD_NOW | RTLD_LOCAL));
	if (!playing && getenv("CMOCKA_TEST_FILTER"))
		cmocka_set_test_filter(getenv("CMOCKA_TEST_FILTER"));
	return playing ? cmocka_run_group_tests(one, setup, teardown)
		       : cmocka_run_group_tests(tests, setup, teardown);
}
