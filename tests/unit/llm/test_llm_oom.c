/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that runs out at every point in turn: nothing breaks, nothing leaks, and it is said. */
#include "../cm.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "bench/llm/ask.h"
#include "bench/llm/scheduler.h"

static int n_left = -1; /* allocations that succeed; -1: all */
static int n_live;	/* not yet freed */

static bool fails(void)
{
	return n_left >= 0 && n_left-- == 0;
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void __real_free(void *p);
void __wrap_free(void *p);

void *__wrap_calloc(size_t n, size_t size)
{
	if (fails())
		return NULL;
	n_live++;
	return __real_calloc(n, size);
}

void __wrap_free(void *p)
{
	n_live -= p != NULL;
	__real_free(p);
}

static void *json_malloc(size_t size)
{
	void *p = fails() ? NULL : malloc(size);

	n_live += p != NULL;
	return p;
}

static void json_free(void *p)
{
	n_live -= p != NULL;
	__real_free(p);
}

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
	int r = -ENOMEM, before = n_live, n;

	for (n = 0; r; n++) {
		assert_in_range(n, 0, 100);
		n_left = n;
		r = one_scheduler();
		n_left = -1;
		assert_true(r == 0 || r == -ENOMEM);
		assert_int_equal(n_live, before);
	}
	assert_in_range(n, 4, 20); /* it did fail */
}

static void test_llm_oom__requests_are_refused(void **state)
{
	static const char body[] =
		"{\"messages\": [{\"role\": \"user\", \"content\": \"a b c\"}], \"max_tokens\": 5}";
	static const struct llm_ask_limits limits = {.model = "m", .hf = "m", .max_tokens = 100};
	struct llm_ask_error error;
	struct llm_ask a;
	int r = -EINVAL, before = n_live, n;

	json_set_alloc_funcs(json_malloc, json_free);
	for (n = 0; r; n++) {
		assert_in_range(n, 0, 1000);
		n_left = n;
		r = llm_ask_parse(LLM_ASK_CHAT, body, strlen(body), &limits, &a, &error);
		n_left = -1;
		assert_true(r == 0 || (r == -EINVAL && error.status == 400 && error.text[0]));
		assert_int_equal(n_live, before);
	}
	assert_int_equal(a.prompts[0], 3);
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
