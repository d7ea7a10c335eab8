/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard on two simulated devices with movable memory, and a daemon whose orders the test gives
 * by hand; for unit tests. Bytes are real: after every move all of them are compared.
 */
#ifndef AQ_TESTS_MOVETEST_H
#define AQ_TESTS_MOVETEST_H

#include <string.h>

#include "abi/grant.h"
#include "fake_lease.h"
#include "sim/kernels.ptx.h"
#include "simulated.h"

#define MIB (1ull << 20)
#define PATIENCE_NS (30 * AQ_NS_PER_S)
#define BLOCK (2 * MIB)

static CUcontext ctx[2];
static CUfunction spin, mad, fill_words __attribute__((unused));
static CUstream stream;

/* ---- the daemon's side ---- */

static inline uint64_t load64(const _Atomic uint64_t *word)
{
	return __atomic_load_n((const uint64_t *)word, __ATOMIC_SEQ_CST);
}

static inline uint64_t movable(int i)
{
	return load64(&lease_device(i)->movable_bytes);
}

static inline uint64_t parked(int i)
{
	return load64(&lease_device(i)->parked_bytes);
}

static inline uint64_t pinned(int i)
{
	return load64(&lease_device(i)->pinned_bytes);
}

static inline void host_limit(int i, uint64_t bytes)
{
	__atomic_store_n((uint64_t *)&lease_device(i)->host_limit_bytes, bytes, __ATOMIC_SEQ_CST);
}

static inline void give_order(int i, uint32_t what)
{
	lease_store(&lease_device(i)->order, what);
	__atomic_fetch_add((uint32_t *)&lease_device(i)->order_turn, 1, __ATOMIC_SEQ_CST);
	lease_news();
}

static inline int result_of_order(int i)
{
	struct aq_page_device *d = lease_device(i);

	assert_true(eventually(lease_load(&d->order_done) == lease_load(&d->order_turn)));
	return __atomic_load_n((int32_t *)&d->order_result, __ATOMIC_SEQ_CST);
}

static inline void begin_park(int i, uint64_t limit)
{
	lease_gate(i, AQ_GATE_PARKED);
	host_limit(i, limit);
	give_order(i, AQ_ORDER_PARK);
}

/* As the daemon: one that failed leaves the gate open. */
static inline int park(int i)
{
	int r;

	begin_park(i, UINT64_MAX);
	r = result_of_order(i);
	if (r < 0 && !parked(i))
		lease_gate(i, 0);
	return r;
}

static inline int resume(int i)
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
static inline uint64_t device_free(void)
{
	size_t left, total;

	ok(driver.cuMemGetInfo_v2(&left, &total));
	return left;
}

/* ---- patterns ---- */

static inline uint64_t word_of(uint64_t seed, uint64_t i)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + i;

	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9ull;
	return x ^ x >> 32;
}

static inline void put(CUdeviceptr p, uint64_t bytes, uint64_t seed)
{
	uint64_t *words = malloc(bytes + 8);

	for (uint64_t i = 0; i < bytes / 8; i++)
		words[i] = word_of(seed, i);
	ok(g.cuMemcpyHtoD_v2(p, words, bytes / 8 * 8));
	free(words);
}

static inline uint64_t wrong_words(CUdeviceptr p, uint64_t bytes, uint64_t seed)
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

static inline void set_make(struct set *s)
{
	for (size_t i = 0; i < SIZES; i++) {
		ok(g.cuMemAlloc_v2(&s->p[i], sizes[i]));
		put(s->p[i], sizes[i], i + 1);
	}
}

static inline void set_check(const struct set *s)
{
	for (size_t i = 0; i < SIZES; i++)
		if (s->p[i])
			same(s->p[i], sizes[i], i + 1);
}

static inline void set_free(struct set *s)
{
	for (size_t i = 0; i < SIZES; i++)
		if (s->p[i])
			ok(g.cuMemFree_v2(s->p[i]));
}

/* ---- before and after each ---- */

static inline int nothing_left(void **state)
{
	g.cuCtxSetCurrent(ctx[0]);
	/* What is kept for the next time is given back when there is none for a while. */
	assert_true(eventually(fake_daemon_used(0) == 0));
	assert_int_equal(movable(0), 0);
	assert_int_equal(parked(0), 0);
	assert_int_equal(lease_load(&fake_daemon.page->gates), 0);
	return 0;
}

/* ---- the program ---- */

/* With memory that moves, whatever is the default. Before cmocka: exits on failure. */
static inline void movetest_load(const char *path)
{
	setenv("ALIQUOT_MOVE", "1", 1);
	simulated_load(path);
}

static inline int setup(void **state)
{
	CUmodule m;

	simulated_begin(1ull << 34);
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

static inline int teardown(void **state)
{
	simulated_end();
	return 0;
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, nothing_left, nothing_left)

#endif /* AQ_TESTS_MOVETEST_H */
