/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that runs out at every point in turn: nothing breaks, nothing leaks, and it is said. */
#include "../oom.h"

#include <errno.h>
#include <string.h>

#include <jansson.h>

#include "bench/llm/ask.h"
#include "bench/llm/scheduler.h"

static int one_scheduler(void)
{
	struct llm_sched s;
	int r = llm_sched_init(&s, 100, 8, 64);

	if (r == 0) {
		struct llm_seq *q = llm_seq_create(50, 10, NULL);

		if (q) {
			assert_int_equal(llm_sched_add(&s, q), 0);
			assert_int_equal(llm_sched_next(&s), 1);
			llm_sched_remove(&s, q);
		}
		r = q ? 0 : -ENOMEM;
		llm_seq_free(q);
	}
	llm_sched_finish(&s);
	return r;
}

static void test_llm_oom__the_scheduler_says_so(void **state)
{
	long n = oom_walk(one_scheduler, -ENOMEM);

	assert_in_range(n, 4, 20); /* it did fail */
}

static int one_request(void)
{
	static const char body[] =
		"{\"messages\": [{\"role\": \"user\", \"content\": \"a b c\"}], \"max_tokens\": 5}";
	static const struct llm_ask_limits limits = {.model = "m", .hf = "m", .max_tokens = 100};
	struct llm_ask_error error;
	struct llm_ask a;
	int r = llm_ask_parse(LLM_ASK_CHAT, body, strlen(body), &limits, &a, &error);

	if (r)
		assert_true(error.status == 400 && error.text[0]);
	else
		assert_int_equal(a.prompts[0], 3);
	return r;
}

static void test_llm_oom__requests_are_refused(void **state)
{
	long n;

	json_set_alloc_funcs(__wrap_malloc, __wrap_free);
	n = oom_walk(one_request, -EINVAL);
	assert_in_range(n, 10, 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_llm_oom__the_scheduler_says_so),
		cmocka_unit_test(test_llm_oom__requests_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
