/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who waits at the gate for leases, and when they are given back. What work needs one and what it
 * is charged is in test_guard_work.c.
 */
#include <sys/wait.h>

#include "gatetest.h"

static bool thread_runs(const char *name)
{
	char command[96];

	snprintf(command, sizeof(command), "grep -qsx %s /proc/%d/task/*/comm", name, getpid());
	return system(command) == 0;
}

/* ---- open ---- */

static void test_gate__an_open_one_sends_and_starts_nothing(void **state)
{
	size_t unused, total;
	uint32_t bells;

	ok(g.cuMemGetInfo_v2(&unused, &total)); /* answered behind the bell of the context */
	bells = fake_daemon.bells;
	for (int i = 0; i < 1000; i++)
		ok(launch(stream, 1000));
	ok(g.cuStreamSynchronize(stream));
	assert_int_equal(fake_daemon.bells, bells);
	assert_false(thread_runs("aliquot-gate"));
	assert_int_equal(lease_load(&lease_device(0)->want), 0);
	assert_int_equal(lease_load(&lease_device(0)->active_turn), 0);
	assert_int_equal(lease_gpu_ns(0), 0);
	assert_int_equal(lease_load(&fake_daemon.page->contexts), 3); /* one on each device */
}

/* ---- leases ---- */

static void test_gate__waits_for_a_lease_and_says_so(void **state)
{
	struct aq_page_device *dev = lease_device(0);
	uint32_t bells = fake_daemon.bells;
	struct launcher l;

	launcher_start(&l, stream, 10 * US, 5);
	assert_true(eventually(lease_load(&dev->want)));
	assert_true(eventually(fake_daemon.bells > bells));
	usleep(30000);
	assert_int_equal(l.launched, 0);
	lease_give(0, UINT64_MAX, false);
	launcher_end(&l);
	assert_int_equal(lease_load(&dev->active_turn), lease_load(&dev->lease_turn));
	assert_false(lease_is_back(0));
	bells = fake_daemon.bells;
	lease_end(0);
	assert_true(lease_wait_back(0, PATIENCE_NS));
	assert_true(eventually(fake_daemon.bells > bells));
	assert_true(eventually(!lease_load(&dev->want)));
}

static void test_gate__the_end_waits_for_what_is_in_flight_and_charges_it(void **state)
{
	uint64_t used = lease_gpu_ns(0), spent = truth(0);

	lease_give(0, 5 * MS, false);
	ok(launch(stream, 40 * MS)); /* a lease ends by itself, though what runs does not */
	assert_true(lease_wait_back(0, PATIENCE_NS));
	assert_true(truth(0) - spent > 39 * MS);
	DONE(stream);
	within_percent(lease_gpu_ns(0) - used, truth(0) - spent, 2);
}

static void test_gate__a_pause_gives_back_what_others_wait_for(void **state)
{
	lease_give(0, 10 * AQ_NS_PER_S, true);
	ok(launch(stream, MS));
	ok(g.cuStreamSynchronize(stream));
	assert_true(lease_wait_back(0, PATIENCE_NS));
	assert_true(eventually(!lease_load(&lease_device(0)->want)));
	/* It is given back for good: the next work waits for the next turn. */
	{
		struct launcher l;

		launcher_start(&l, stream, 10 * US, 1);
		assert_true(eventually(lease_load(&lease_device(0)->want)));
		usleep(30000);
		assert_int_equal(l.launched, 0);
		lease_give(0, UINT64_MAX, false);
		launcher_end(&l);
	}
}

/* How often the gate's thread has slept, ever. */
static uint64_t thread_slept(void)
{
	FILE *f = popen("grep -lsx aliquot-gate /proc/$PPID/task/*/comm | sed 's/comm$/status/' |"
			" xargs -r sed -n 's/^voluntary_ctxt_switches:[^0-9]*//p'",
			"r");
	unsigned long times = 0;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu", &times), 1);
	pclose(f);
	return times;
}

static void test_gate__a_standing_lease_is_taken_up_unasked(void **state)
{
	struct aq_page_device *dev = lease_device(0);
	uint32_t bells;
	uint64_t slept;

	lease_give(0, UINT64_MAX, true); /* so that there is a thread */
	ok(launch(stream, 10 * US));
	assert_true(lease_wait_back(0, PATIENCE_NS));
	lease_write(0, AQ_LEASE_STANDING, AQ_WAITING_OTHERS);
	lease_news();
	usleep(20000);
	bells = fake_daemon.bells;
	slept = thread_slept();
	usleep(200000);
	assert_true(thread_slept() - slept < 10); /* it would be 1,000 if it looked again */
	assert_int_equal(fake_daemon.bells, bells);
	ok(launch(stream, 10 * US));
	assert_int_equal(lease_load(&dev->active_turn), lease_load(&dev->lease_turn));
	assert_int_equal(lease_load(&dev->want), 1);
	assert_true(eventually(fake_daemon.bells > bells));
	/* It pauses before the daemon has looked. */
	assert_true(lease_wait_back(0, PATIENCE_NS));
	assert_true(eventually(!lease_load(&dev->want)));
}

static void test_gate__an_end_without_a_number_is_no_lease(void **state)
{
	struct aq_page_device *dev = lease_device(0);
	struct launcher l;

	lease_give(0, UINT64_MAX, false);
	ok(launch(stream, MS));
	lease_end(0);
	assert_true(lease_wait_back(0, PATIENCE_NS));
	/* As it is while the next one is given. */
	__atomic_store_n((uint64_t *)&dev->lease_until_ns, AQ_LEASE_UNTIL_TOLD, __ATOMIC_SEQ_CST);
	launcher_start(&l, stream, 10 * US, 1);
	assert_true(eventually(lease_load(&dev->want)));
	usleep(30000);
	assert_int_equal(l.launched, 0);
	lease_give(0, UINT64_MAX, false);
	launcher_end(&l);
	assert_int_equal(lease_load(&dev->active_turn), lease_load(&dev->lease_turn));
}

static void test_gate__a_pause_that_nobody_minds_gives_nothing_back(void **state)
{
	lease_give(0, UINT64_MAX, false);
	ok(launch(stream, MS));
	ok(g.cuStreamSynchronize(stream));
	usleep(50000);
	assert_false(lease_is_back(0));
}

static void test_gate__more_work_waits_for_the_next_turn(void **state)
{
	struct launcher l;
	uint64_t spent = truth(0);

	launcher_start(&l, stream, MS, 100);
	for (int turns = 0; turns < 200 && l.launched < 100; turns++) {
		uint32_t turn;

		assert_true(eventually(lease_load(&lease_device(0)->want)));
		lease_give(0, 5 * MS, true);
		turn = lease_load(&lease_device(0)->lease_turn);
		usleep(8000);
		assert_true(eventually(lease_load(&lease_device(0)->active_turn) != turn ||
				       lease_load(&lease_device(0)->done_turn) == turn));
	}
	launcher_end(&l);
	lease_gate(0, 0);
	ok(g.cuStreamSynchronize(stream));
	assert_int_equal((truth(0) - spent) / MS, 100);
}

/* What was left to do when the lease came back, by the guard's own word; negative: nothing, or that
 * was not known. */
static int32_t left_at_give_back(uint32_t early_ns)
{
	struct aq_page_device *dev = lease_device(0);
	struct launcher l;
	uint32_t edge;
	int32_t left;

	lease_store(&dev->early_ns, early_ns);
	launcher_start(&l, stream, 100 * US, 70);
	assert_true(eventually(lease_load(&dev->want)));
	do { /* until it wakes up in time */
		lease_give(0, 6 * MS, true);
		usleep(2000);
	} while (lease_load(&dev->active_turn) != lease_load(&dev->lease_turn));
	while (!lease_is_back(0))
		sched_yield();
	edge = lease_load(&dev->edge_ns);
	left = edge ? (int32_t)(edge - (uint32_t)aq_now_ns()) : INT32_MIN;
	while (l.launched < l.count) { /* the rest */
		if (lease_load(&dev->want) && lease_is_back(0))
			lease_give(0, 10 * AQ_NS_PER_S, true);
		usleep(100);
	}
	launcher_end(&l);
	ok(g.cuStreamSynchronize(stream));
	assert_true(lease_wait_back(0, PATIENCE_NS));
	return left;
}

static void test_gate__gives_back_as_early_as_it_is_told(void **state)
{
	int32_t most = INT32_MIN;

	for (int i = 0; i < 10; i++) /* a late thread gives back later, never sooner */
		assert_true(left_at_give_back(60 * US) < (int32_t)(200 * US));
	for (int i = 0; i < 400 && most < (int32_t)(250 * US); i++) { /* a busy host is late */
		int32_t left = left_at_give_back(500 * US);

		assert_true(left <= (int32_t)(700 * US));
		most = left > most ? left : most;
	}
	assert_true(most >= (int32_t)(250 * US));
	lease_store(&lease_device(0)->early_ns, 0);
}

/* A higher priority has the device already: what is in flight is counted, and not waited for. */
static void test_gate__gives_back_at_once_when_it_is_urgent(void **state)
{
	struct aq_page_device *dev = lease_device(0);
	uint64_t used, spent;
	struct launcher l;

	lease_give(0, UINT64_MAX, false);
	launcher_start(&l, stream, 10 * MS, 8); /* learned from */
	launcher_end(&l);
	ok(g.cuStreamSynchronize(stream));
	lease_end(0);
	assert_true(lease_wait_back(0, PATIENCE_NS));
	used = lease_gpu_ns(0);
	spent = truth(0);
	lease_give(0, UINT64_MAX, false);
	ok(launch(stream, 10 * MS));
	lease_store(&dev->waiting, AQ_WAITING_URGENT);
	lease_end(0);
	assert_true(lease_wait_back(0, PATIENCE_NS));
	assert_true(lease_gpu_ns(0) - used > 8 * MS);
	ok(g.cuStreamSynchronize(stream));
	within_percent(lease_gpu_ns(0) - used, truth(0) - spent, 5);
}

/* ---- threads and processes ---- */

static void *cancelled(void *arg)
{
	g.cuCtxSetCurrent(ctx[0]);
	for (;;) {
		launch(arg, 100 * US);
		pthread_testcancel();
	}
	return NULL;
}

static void test_gate__a_cancelled_thread_holds_nothing(void **state)
{
	pthread_t t;

	for (int n = 0; n < 20; n++) {
		_Atomic bool stop = false;
		pthread_t giver;

		pthread_create(&giver, NULL, give_again, &stop);
		pthread_create(&t, NULL, cancelled, stream);
		usleep(2000 + 317 * (unsigned int)n);
		pthread_cancel(t);
		pthread_join(t, NULL);
		stop = true;
		pthread_join(giver, NULL);
		lease_end(0);
		assert_true(lease_wait_back(0, PATIENCE_NS));
	}
}

static void test_gate__a_forked_child_is_on_its_own(void **state)
{
	struct aq_page *ours = fake_daemon.page;
	int status;
	pid_t pid;

	lease_give(0, UINT64_MAX, false);
	ok(launch(stream, 20 * MS));
	pid = fork();
	if (!pid) {
		/* Nothing of the parent's counts here: neither its gate nor its lease. */
		launch(stream, MS);
		_exit(g.cuStreamSynchronize(stream) == CUDA_SUCCESS);
	}
	lease_end(0);
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	assert_ptr_equal(fake_daemon.page, ours);
	assert_true(lease_wait_back(0, PATIENCE_NS));
}

/* ---- daemons, devices, and the gate's other reasons ---- */

static void test_gate__a_daemon_that_is_gone_holds_nobody_up(void **state)
{
	struct launcher l;

	launcher_start(&l, stream, 10 * US, 5);
	assert_true(eventually(lease_load(&lease_device(0)->want)));
	fake_daemon_stop();
	launcher_end(&l);
	fake_daemon_start();
	assert_true(eventually(fake_daemon.adoptions == 1));
	usleep(100000); /* the guard has to hear of it */
	/* And the next one finds who waits. */
	launcher_start(&l, stream, 10 * US, 5);
	assert_true(eventually(lease_load(&lease_device(0)->want)));
	lease_give(0, UINT64_MAX, false);
	launcher_end(&l);
}

static void test_gate__devices_have_their_own_leases(void **state)
{
	uint64_t ns = MS;
	void *params[] = {&ns};
	struct launcher l;

	lease_gate(1, AQ_GATE_LEASED);
	launcher_start(&l, stream, 10 * US, 1);
	assert_true(eventually(lease_load(&lease_device(0)->want)));
	assert_int_equal(lease_load(&lease_device(1)->want), 0);
	lease_give(1, UINT64_MAX, false);
	g.cuCtxSetCurrent(ctx[1]);
	ok(g.cuLaunchKernel(spin[1], 1, 1, 1, 32, 1, 1, 0, NULL, params, NULL));
	assert_int_equal(l.launched, 0);
	lease_end(1);
	assert_true(lease_wait_back(1, PATIENCE_NS));
	assert_true(lease_gpu_ns(1) > MS * 9 / 10);
	lease_give(0, UINT64_MAX, false);
	launcher_end(&l);
}

static void test_gate__parked_memory_is_waited_for_without_a_daemon_too(void **state)
{
	struct launcher l;

	lease_gate(0, AQ_GATE_PARKED);
	launcher_start(&l, stream, 10 * US, 1);
	assert_true(eventually(lease_load(&lease_device(0)->want)));
	usleep(30000);
	assert_int_equal(l.launched, 0);
	lease_gate(0, 0);
	launcher_end(&l);
	assert_true(eventually(!lease_load(&lease_device(0)->want)));
}

static void test_gate__a_notice_is_answered_once(void **state)
{
	struct aq_page_device *dev = lease_device(0);
	uint32_t bells = fake_daemon.bells;

	lease_store(&dev->notice, 7);
	lease_gate(0, AQ_GATE_NOTICE);
	ok(launch(stream, 1000));
	assert_int_equal(lease_load(&dev->noticed), 7);
	assert_true(eventually(fake_daemon.bells == bells + 1));
	ok(launch(stream, 1000));
	usleep(5000);
	assert_int_equal(fake_daemon.bells, bells + 1);
}

static void test_gate__a_daemon_that_lies_about_time_cannot_end_the_program(void **state)
{
	lease_store(&lease_device(0)->done_turn, 12345);
	lease_store(&lease_device(0)->active_turn, 54321);
	__atomic_store_n((uint64_t *)&lease_device(0)->lease_until_ns, 1, __ATOMIC_SEQ_CST);
	lease_news();
	usleep(5000);
	lease_give(0, UINT64_MAX, false);
	ok(launch(stream, MS));
	ok(g.cuStreamSynchronize(stream));
}

/* ---- the program ---- */

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gate__an_open_one_sends_and_starts_nothing),
		MANAGED(test_gate__waits_for_a_lease_and_says_so),
		MANAGED(test_gate__the_end_waits_for_what_is_in_flight_and_charges_it),
		MANAGED(test_gate__a_pause_gives_back_what_others_wait_for),
		MANAGED(test_gate__a_standing_lease_is_taken_up_unasked),
		MANAGED(test_gate__an_end_without_a_number_is_no_lease),
		MANAGED(test_gate__a_pause_that_nobody_minds_gives_nothing_back),
		MANAGED(test_gate__more_work_waits_for_the_next_turn),
		MANAGED(test_gate__gives_back_as_early_as_it_is_told),
		MANAGED(test_gate__gives_back_at_once_when_it_is_urgent),
		MANAGED(test_gate__a_cancelled_thread_holds_nothing),
		MANAGED(test_gate__a_forked_child_is_on_its_own),
		MANAGED(test_gate__devices_have_their_own_leases),
		MANAGED(test_gate__parked_memory_is_waited_for_without_a_daemon_too),
		MANAGED(test_gate__a_notice_is_answered_once),
		MANAGED(test_gate__a_daemon_that_is_gone_holds_nobody_up),
		MANAGED(test_gate__a_daemon_that_lies_about_time_cannot_end_the_program),
	};

	if (argc != 2)
		return 2;
	simulated_load(argv[1]);
	return cmocka_run_group_tests(tests, setup, teardown);
}
