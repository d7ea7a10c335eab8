/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of one process that allocate, use and free at once: each finds its own bytes, and in the
 * end nothing is left. */
#include "simtest.h"

#include <pthread.h>

#include "sim.h"

#define THREADS 4
#define ROUNDS 1500
#define SLOTS 24

struct slot {
	CUdeviceptr p;
	CUmemGenericAllocationHandle handle; /* 0: cuMemAlloc or a pool */
	size_t bytes;
	bool pool;
};

static const CUmemAllocationProp prop = {
	.type = CU_MEM_ALLOCATION_TYPE_PINNED,
	.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};

static void take(struct slot *s, unsigned int *seed)
{
	const CUmemAccessDesc access = {.location = prop.location,
					.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
	unsigned int kind = (unsigned int)rand_r(seed) % 4;

	*s = (struct slot){.bytes = (size_t)rand_r(seed) % (kind ? 9000 : 3 * FRAME) + 8};
	if (kind == 3) {
		s->bytes = FRAME;
		ok(cuMemCreate(&s->handle, FRAME, &prop, 0));
		ok(cuMemAddressReserve(&s->p, FRAME, 0, 0, 0));
		ok(cuMemMap(s->p, FRAME, 0, s->handle, 0));
		ok(cuMemSetAccess(s->p, FRAME, &access, 1));
	} else if (kind == 2) {
		s->pool = true;
		ok(cuMemAllocAsync(&s->p, s->bytes, CU_STREAM_PER_THREAD));
	} else {
		ok(cuMemAlloc_v2(&s->p, s->bytes));
	}
}

static void give(struct slot *s)
{
	if (s->handle) {
		ok(cuMemUnmap(s->p, FRAME));
		ok(cuMemAddressFree(s->p, FRAME));
		ok(cuMemRelease(s->handle));
	} else if (s->pool) {
		ok(cuMemFreeAsync(s->p, CU_STREAM_PER_THREAD));
	} else {
		ok(cuMemFree_v2(s->p));
	}
	s->p = 0;
}

static void *work(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;
	struct slot slots[SLOTS] = {{0}};
	struct sim_span span;
	CUcontext ctx;

	ok(cuDevicePrimaryCtxRetain(&ctx, 0));
	ok(cuCtxSetCurrent(ctx));
	for (int i = 0; i < ROUNDS; i++) {
		struct slot *s = &slots[(unsigned int)rand_r(&seed) % SLOTS];
		uint64_t mark = (uint64_t)(uintptr_t)arg << 32 | (uint64_t)(s - slots), seen = 0;

		if (!s->p) {
			take(s, &seed);
			ok(sim_bytes_write(s->p, &mark, 8));
			ok(sim_bytes_write(s->p + s->bytes - 8, &mark, 8));
			continue;
		}
		ok(sim_resolve(s->p, s->bytes, &span));
		assert_true(span.base == s->p);
		ok(sim_bytes_read(&seen, s->p + s->bytes - 8, 8));
		assert_true(seen == mark);
		give(s);
	}
	for (int i = 0; i < SLOTS; i++) {
		if (slots[i].p)
			give(&slots[i]);
	}
	ok(cuStreamSynchronize(CU_STREAM_PER_THREAD));
	ok(cuDevicePrimaryCtxRelease_v2(0));
	return NULL;
}

static void test_threads__do_not_disturb_each_other(void **state)
{
	pthread_t threads[THREADS];
	uint64_t before;

	ok(cuInit(0));
	before = simtest_used(0);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, work, (void *)(i + 1)), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	/* The pool has an empty segment at most; the context is gone with its last user. */
	assert_true(simtest_used(0) - before <= 32 * MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads__do_not_disturb_each_other),
	};

	simtest_begin("h100");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
