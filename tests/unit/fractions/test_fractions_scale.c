/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the requests of a scale-out. */
#include "../cm.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/fractions/scale.h"

#define HEAD "target,number,user,counted,end,start_s,ttft_ms,tpot_ms,e2e_ms\n"

static int take(struct fr_scale *s, const char *text, double offset_s)
{
	char *copy = strdup(text);
	int r = fr_scale_read(s, copy, 2, offset_s);

	free(copy);
	return r;
}

static void test_fractions_scale__keeps_every_request(void **state)
{
	struct fr_scale s = {.dots = NULL};

	assert_int_equal(take(&s,
			      HEAD "a,0,0,1,ok,0.500000,12.5,1,2\n"
				   "a,1,1,1,reset,0.750000,,,\n"
				   "a,2,2,1,unfinished,1.000000,,,\n",
			      10),
			 0);
	assert_int_equal(s.count, 3);
	assert_true(s.dots[0].at_s == 10.5 && s.dots[0].ttft_ms == 12.5 && !s.dots[0].failed);
	assert_true(isnan(s.dots[1].ttft_ms) && s.dots[1].failed);
	assert_true(isnan(s.dots[2].ttft_ms) && !s.dots[2].failed);
	assert_int_equal(s.dots[0].replica, 2);
	free(s.dots);
}

static void test_fractions_scale__takes_many(void **state)
{
	struct fr_scale s = {.dots = NULL};

	for (unsigned int i = 0; i < 3000; i++)
		assert_int_equal(take(&s, HEAD "a,0,0,1,ok,0.5,12.5,1,2\n", i), 0);
	assert_int_equal(s.count, 3000);
	for (unsigned int i = 0; i < 3000; i++)
		assert_true(s.dots[i].at_s == i + 0.5);
	free(s.dots);
}

static void test_fractions_scale__refuses_other_files(void **state)
{
	struct fr_scale s = {.dots = NULL};

	assert_int_equal(take(&s, "", 0), -EPROTO);
	assert_int_equal(take(&s, "a,b\n", 0), -EPROTO);
	assert_int_equal(take(&s, HEAD "a,0,0,1,ok\n", 0), -EPROTO);
	assert_int_equal(s.count, 0);
	free(s.dots);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fractions_scale__keeps_every_request),
		cmocka_unit_test(test_fractions_scale__takes_many),
		cmocka_unit_test(test_fractions_scale__refuses_other_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
