/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that should have moved and could not: nothing is lost, and the next time it works. With a
 * second argument one failure is played, which ALIQUOT_SIM_FAULT has to bring about from the start
 * of a process. Moves that succeed are in test_guard_move.c.
 */
#include <errno.h>
#include <pthread.h>

#include "movetest.h"

static char self[256], guard_path[256];

/* ---- orders that cannot be carried out ---- */

static void test_unmoved__too_little_host_memory_changes_nothing(void **state)
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

static void test_unmoved__without_room_it_stays_parked(void **state)
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

static void *write_one(void *arg)
{
	CUdeviceptr *word = arg;

	g.cuCtxSetCurrent(ctx[0]);
	return (void *)(intptr_t)g.cuMemsetD32_v2(*word, 1, 1);
}

/* Work in flight waits for a call that the closed gate holds back: the order is given up. */
static void test_unmoved__what_cannot_drain_goes_on(void **state)
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

static void test_unmoved__scenario(void **state)
{
	playing->play(playing->want);
}

static void test_unmoved__failures_lose_nothing(void **state)
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

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		EACH(test_unmoved__too_little_host_memory_changes_nothing),
		EACH(test_unmoved__without_room_it_stays_parked),
		EACH(test_unmoved__what_cannot_drain_goes_on),
		cmocka_unit_test(test_unmoved__failures_lose_nothing),
	};
	const struct CMUnitTest one[] = {EACH(test_unmoved__scenario)};

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
	if (playing)
		unsetenv("CMOCKA_TEST_FILTER");
	movetest_load(argv[1]);
	return playing ? cmocka_run_group_tests(one, setup, teardown)
		       : cmocka_run_group_tests(tests, setup, teardown);
}
