/* SPDX-License-Identifier: Apache-2.0 */
/* The text that Prometheus reads. */
#include "../cm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

#include "bench/llm/metrics.h"

static char *print(const struct llm_metrics *m)
{
	struct evbuffer *b = evbuffer_new();
	char *text;

	llm_metrics_print(m, "some-model", 42, b);
	evbuffer_add(b, "", 1);
	text = strdup((char *)evbuffer_pullup(b, -1));
	evbuffer_free(b);
	return text;
}

static void has(const char *text, const char *line)
{
	if (!strstr(text, line))
		fail_msg("not there: %s", line);
}

static void test_llm_metrics__buckets_are_cumulative(void **state)
{
	struct llm_metrics m = {.running = 3, .kv_usage = 0.25, .generation_tokens = 7};
	char *text;

	LLM_OBSERVE(&m, ttft, 0.001); /* on a bound: below it */
	LLM_OBSERVE(&m, ttft, 0.3);
	LLM_OBSERVE(&m, ttft, 1e6);
	text = print(&m);
	has(text, "\nvllm:time_to_first_token_seconds_bucket{engine=\"0\",le=\"0.001\","
		  "model_name=\"some-model\"} 1\n");
	has(text, "le=\"0.25\",model_name=\"some-model\"} 1\n");
	has(text, "\nvllm:time_to_first_token_seconds_bucket{engine=\"0\",le=\"0.5\","
		  "model_name=\"some-model\"} 2\n");
	has(text, "\nvllm:time_to_first_token_seconds_bucket{engine=\"0\",le=\"2560\","
		  "model_name=\"some-model\"} 2\n");
	has(text, "\nvllm:time_to_first_token_seconds_bucket{engine=\"0\",le=\"+Inf\","
		  "model_name=\"some-model\"} 3\n");
	has(text, "\nvllm:time_to_first_token_seconds_count{engine=\"0\","
		  "model_name=\"some-model\"} 3\n");
	has(text, "\nvllm:num_requests_running{engine=\"0\",model_name=\"some-model\"} 3\n");
	has(text, "\nvllm:kv_cache_usage_perc{engine=\"0\",model_name=\"some-model\"} 0.25\n");
	has(text, "\nvllm:generation_tokens_total{engine=\"0\",model_name=\"some-model\"} 7\n");
	has(text, "num_gpu_blocks=\"42\"} 1\n");
	free(text);
}

/* Each line is a comment or `name{labels} number`, and each name has its type before it. */
static void test_llm_metrics__every_line_has_a_type(void **state)
{
	struct llm_metrics m = {0};
	char *text = print(&m), *rest = text, *line, type[128] = "";
	int n = 0;

	while ((line = strsep(&rest, "\n"))) {
		if (!strncmp(line, "# TYPE ", 7)) {
			snprintf(type, sizeof(type), "%.*s", (int)strcspn(line + 7, " "), line + 7);
		} else if (*line && *line != '#') {
			assert_int_equal(strncmp(line, type, strlen(type)), 0);
			assert_non_null(strstr(line, "} "));
			n++;
		}
	}
	assert_in_range(n, 100, 1000);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_llm_metrics__buckets_are_cumulative),
		cmocka_unit_test(test_llm_metrics__every_line_has_a_type),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
