/* SPDX-License-Identifier: Apache-2.0 */
/* Asking the scheduler for short turns: on kernels that know them, and without harm on others. */
#include "cm.h"

#include <errno.h>
#include <sched.h>
#include <sys/resource.h>

#include "base/slice.h"
#include "base/timing.h"

static void test_slice__asking_changes_nothing_else(void **state)
{
	int nice_before = getpriority(PRIO_PROCESS, 0), policy = sched_getscheduler(0), r;

	errno = ERANGE;
	r = aq_slice_ask(100 * AQ_NS_PER_US);
	assert_true(r == 0 || r == -ENOTSUP);
	assert_int_equal(errno, ERANGE);
	assert_int_equal(getpriority(PRIO_PROCESS, 0), nice_before);
	assert_int_equal(sched_getscheduler(0), policy);
	assert_int_equal(aq_slice_ask(200 * AQ_NS_PER_US), r); /* may be asked again */
}

/* A thread that was given another policy is left to it. */
static void test_slice__other_policies_are_left_alone(void **state)
{
	struct sched_param none = {0};

	assert_int_equal(sched_setscheduler(0, SCHED_BATCH, &none), 0);
	assert_int_equal(aq_slice_ask(100 * AQ_NS_PER_US), -ENOTSUP);
	assert_int_equal(sched_getscheduler(0), SCHED_BATCH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slice__asking_changes_nothing_else),
		cmocka_unit_test(test_slice__other_policies_are_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
