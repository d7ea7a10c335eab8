/* SPDX-License-Identifier: Apache-2.0 */
/* What a window takes of the host: by the kernel's account of threads that work, wait and sleep. */
#include "../cm.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/timing.h"
#include "bench/fractions/host.h"

#define WINDOW_NS (AQ_NS_PER_S / 2)

/* Two that want the one core that both may have. */
static void *spin(void *arg)
{
	for (;;)
		pthread_testcancel();
	return NULL;
}

static pid_t start_child(int spinners)
{
	pthread_t thread;
	cpu_set_t one;
	pid_t pid = fork();

	if (pid)
		return pid;
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof(one), &one);
	for (int i = 0; i < spinners; i++)
		pthread_create(&thread, NULL, spin, NULL);
	for (;;)
		pause();
}

static struct fr_host_use window_of(int spinners, uint64_t more_ns)
{
	pid_t pids[] = {0, start_child(spinners)};
	struct fr_host_probe probe;
	struct fr_host_use use;

	aq_sleep_until_ns(aq_now_ns() + AQ_NS_PER_S / 10);
	fr_host_begin(&probe, pids, 2);
	aq_sleep_until_ns(aq_now_ns() + WINDOW_NS);
	use = fr_host_end(&probe, pids, 2, more_ns);
	kill(pids[1], SIGKILL);
	waitpid(pids[1], NULL, 0);
	return use;
}

static void test_fractions_host__reads_what_is_stolen(void **state)
{
	assert_int_equal(fr_host_stolen("cpu  1 2 3 4 5 6 7 80 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n", 10),
			 800);
	assert_true(fr_host_stolen("cpu  1 2 3 4 5 6 7\n", 10) == UINT64_MAX); /* Linux < 2.6.11 */
	assert_true(fr_host_stolen("", 10) == UINT64_MAX);
	assert_true(fr_host_stolen("cpu 1 2 3 4 5 6 7 18446744073709551615\n", 10) == UINT64_MAX);
}

static void needs_accounts(void)
{
	if (!access("/proc/self/schedstat", R_OK))
		return;
	print_message("this kernel keeps no account of waiting threads\n");
	skip();
}

static void test_fractions_host__a_sleeper_takes_nothing(void **state)
{
	struct fr_host_use use;

	needs_accounts();
	use = window_of(0, 0);

	assert_true(use.cpu >= 0 && use.cpu < 0.02);
	assert_true(use.wait >= 0 && use.wait < 0.02);
	assert_true(isnan(use.late));
	assert_false(fr_host_bound(&use));
}

static void test_fractions_host__threads_that_wait_for_a_core_are_seen(void **state)
{
	struct fr_host_use use;

	needs_accounts();
	use = window_of(2, 0);

	assert_true(use.cpu > 0 && use.cpu < 1.05 / (double)sysconf(_SC_NPROCESSORS_ONLN));
	assert_true(use.wait > 0.3 && use.wait < 1.05); /* half each, less on a busy machine */
	assert_true(fr_host_bound(&use));
}

/* The generator has ended when the window is read: what it took is told. */
static void test_fractions_host__counts_what_has_ended(void **state)
{
	double cores = (double)sysconf(_SC_NPROCESSORS_ONLN);
	struct fr_host_use use;

	needs_accounts();
	use = window_of(0, (uint64_t)(WINDOW_NS * cores));
	assert_true(use.cpu > 0.3 && use.cpu < 1.05);
}

static void test_fractions_host__knows_nothing_of_nobody(void **state)
{
	const pid_t nobody[] = {0, -1, 999999999};
	struct fr_host_probe probe;
	struct fr_host_use use;

	fr_host_begin(&probe, nobody, 3);
	use = fr_host_end(&probe, nobody, 3, 1);
	assert_true(isnan(use.cpu) && isnan(use.wait));
	assert_false(fr_host_bound(&use));
	use.late = 0.06;
	assert_true(fr_host_bound(&use));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fractions_host__a_sleeper_takes_nothing),
		cmocka_unit_test(test_fractions_host__threads_that_wait_for_a_core_are_seen),
		cmocka_unit_test(test_fractions_host__counts_what_has_ended),
		cmocka_unit_test(test_fractions_host__knows_nothing_of_nobody),
		cmocka_unit_test(test_fractions_host__reads_what_is_stolen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
