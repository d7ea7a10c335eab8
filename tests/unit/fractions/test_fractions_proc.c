/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that behave badly: every wait ends, and so do they. */
#include "../cm.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/timing.h"
#include "bench/fractions/proc.h"

static struct fr_proc shell(const char *script)
{
	const char *argv[] = {"/bin/sh", "-c", script, NULL};
	const char *environ[] = {"FR_TEST=there", "HOME", NULL};
	struct fr_proc p;

	assert_int_equal(fr_proc_start(&p, argv, environ, "/dev/null"), 0);
	return p;
}

static void end(struct fr_proc *p)
{
	fr_proc_end(&p, 1, AQ_NS_PER_S / 5);
	assert_int_equal(p->pid, 0);
	assert_int_equal(p->out, -1);
}

static void test_fractions_proc__reads_a_line_then_the_rest(void **state)
{
	struct fr_proc p = shell("echo first; echo \"$FR_TEST ${HOME-unset}\"; cat");
	char line[64], *rest = NULL;

	assert_int_equal(fr_proc_line(&p, line, sizeof(line), aq_now_ns() + 10 * AQ_NS_PER_S), 0);
	assert_string_equal(line, "first");
	assert_int_equal(fr_proc_output(&p, 100, aq_now_ns() + 10 * AQ_NS_PER_S, &rest), 0);
	assert_string_equal(rest, "there unset\n");
	free(rest);
	end(&p);
}

static void test_fractions_proc__waits_no_longer_than_told(void **state)
{
	struct fr_proc p = shell("sleep 100");
	char line[8], *rest = NULL;

	assert_int_equal(fr_proc_line(&p, line, sizeof(line), aq_now_ns() + AQ_NS_PER_S / 20),
			 -ETIMEDOUT);
	assert_int_equal(fr_proc_output(&p, 10, aq_now_ns() + AQ_NS_PER_S / 20, &rest), -ETIMEDOUT);
	assert_null(rest);
	assert_false(fr_proc_ended(&p));
	end(&p);
}

static void test_fractions_proc__limits_what_it_reads(void **state)
{
	struct fr_proc p = shell("echo 0123456789; yes");
	char line[4], *rest = NULL;

	assert_int_equal(fr_proc_line(&p, line, sizeof(line), aq_now_ns() + 10 * AQ_NS_PER_S), 0);
	assert_string_equal(line, "012");
	assert_int_equal(fr_proc_output(&p, 200000, aq_now_ns() + 10 * AQ_NS_PER_S, &rest), -EFBIG);
	end(&p);
}

static void test_fractions_proc__ends_what_does_not_want_to(void **state)
{
	struct fr_proc p = shell("trap '' TERM; echo ready; while :; do sleep 1; done");
	char line[8];

	assert_int_equal(fr_proc_line(&p, line, sizeof(line), aq_now_ns() + 10 * AQ_NS_PER_S), 0);
	end(&p);
	assert_true(WIFSIGNALED(p.status) && WTERMSIG(p.status) == SIGKILL);
}

static void test_fractions_proc__says_what_is_no_program(void **state)
{
	const char *argv[] = {"/nonexistent/program", NULL};
	struct fr_proc p;
	char line[8];

	assert_int_equal(fr_proc_start(&p, argv, NULL, "/dev/null"), -ENOENT);
	assert_true(fr_proc_ended(&p));
	end(&p);
	p = shell("exit 3");
	assert_int_equal(fr_proc_line(&p, line, sizeof(line), aq_now_ns() + 10 * AQ_NS_PER_S),
			 -ENODATA);
	end(&p);
	assert_int_equal(WEXITSTATUS(p.status), 3);
}

/* Last: the flag stays. */
static void test_fractions_proc__a_signal_ends_every_wait(void **state)
{
	struct fr_proc p = shell("sleep 100");
	char line[8];

	fr_catch_signals();
	assert_int_equal(fr_stopping(), 0);
	raise(SIGINT);
	assert_int_equal(fr_stopping(), SIGINT);
	assert_int_equal(fr_proc_line(&p, line, sizeof(line), aq_now_ns() + 100 * AQ_NS_PER_S),
			 -EINTR);
	assert_int_equal(fr_sleep(100 * AQ_NS_PER_S), -EINTR);
	end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fractions_proc__reads_a_line_then_the_rest),
		cmocka_unit_test(test_fractions_proc__waits_no_longer_than_told),
		cmocka_unit_test(test_fractions_proc__limits_what_it_reads),
		cmocka_unit_test(test_fractions_proc__ends_what_does_not_want_to),
		cmocka_unit_test(test_fractions_proc__says_what_is_no_program),
		cmocka_unit_test(test_fractions_proc__a_signal_ends_every_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
