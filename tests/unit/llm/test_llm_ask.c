/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of requests: what is read, what is refused and with which status. */
#include "../cm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/llm/ask.h"

static const struct llm_ask_limits text = {.model = "m", .hf = "org/m", .max_tokens = 100};
static const struct llm_ask_limits vectors = {
	.model = "e", .hf = "org/e", .max_tokens = 100, .embedding = true};

static struct llm_ask a;
static struct llm_ask_error error;

static int parse(enum llm_ask_kind kind, const char *body)
{
	return llm_ask_parse(kind, body, strlen(body), kind == LLM_ASK_EMBEDDING ? &vectors : &text,
			     &a, &error);
}

static void good(enum llm_ask_kind kind, const char *body)
{
	if (parse(kind, body) < 0)
		fail_msg("%s: %s", body, error.text);
}

static void refused(enum llm_ask_kind kind, const char *body, int status, const char *with)
{
	error = (struct llm_ask_error){0};
	if (parse(kind, body) != -EINVAL)
		fail_msg("not refused: %s", body);
	assert_int_equal(error.status, status);
	if (!strstr(error.text, with))
		fail_msg("%s: '%s' says nothing of '%s'", body, error.text, with);
}

static void test_llm_ask__prompts_are_counted(void **state)
{
	good(LLM_ASK_COMPLETION, "{\"prompt\": \"  one\\ttwo\\n three \"}");
	assert_int_equal(a.prompts[0], 3);
	assert_int_equal(a.max_tokens, 16);
	assert_false(a.stream);
	good(LLM_ASK_COMPLETION, "{\"prompt\": [1, 2, 3, 128000]}");
	assert_int_equal(a.prompts[0], 4);
	good(LLM_ASK_COMPLETION, "{\"prompt\": [\"a b\"]}");
	assert_int_equal(a.prompts[0], 2);
	good(LLM_ASK_COMPLETION, "{\"prompt\": [[5, 6, 7]]}");
	assert_int_equal(a.prompts[0], 3);
	good(LLM_ASK_CHAT, "{\"messages\": [{\"role\": \"system\", \"content\": \"be good\"},"
			   "{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": "
			   "\"a b c\"}, {\"type\": \"image_url\"}]}]}");
	assert_int_equal(a.prompts[0], 5);
	assert_int_equal(a.max_tokens, 95); /* the rest */
	good(LLM_ASK_EMBEDDING, "{\"input\": [\"a\", \"b c\", \"d e f\"]}");
	assert_int_equal(a.n_inputs, 3);
	assert_int_equal(a.prompts[2], 3);
	good(LLM_ASK_EMBEDDING, "{\"input\": [1, 2]}");
	assert_int_equal(a.n_inputs, 1);
	assert_int_equal(a.prompts[0], 2);
}

static void test_llm_ask__options_are_read(void **state)
{
	good(LLM_ASK_COMPLETION,
	     "{\"model\": \"org/m\", \"prompt\": \"a\", \"max_tokens\": 99, \"stream\": true, "
	     "\"ignore_eos\": true, \"stream_options\": {\"include_usage\": true}, \"n\": 1, "
	     "\"temperature\": 0.7, \"top_p\": 1, \"stop\": null}");
	assert_int_equal(a.max_tokens, 99);
	assert_true(a.stream && a.ignore_eos && a.include_usage);
	good(LLM_ASK_CHAT, "{\"model\": \"m\", \"messages\": [{\"role\": \"user\", \"content\": "
			   "\"a\"}], \"max_completion_tokens\": 7, \"max_tokens\": 9}");
	assert_int_equal(a.max_tokens, 7);
	good(LLM_ASK_COMPLETION, "{\"prompt\": \"a\", \"max_tokens\": null, \"stream\": null, "
				 "\"stream_options\": null}");
	assert_int_equal(a.max_tokens, 16);
}

static void test_llm_ask__numbers_have_limits(void **state)
{
	static const char *const bad[] = {"0", "-1", "1.5", "\"5\"", "true", "[]"};
	char body[128];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(body, sizeof(body), "{\"prompt\": \"a\", \"max_tokens\": %s}", bad[i]);
		refused(LLM_ASK_COMPLETION, body, 400, "max_tokens");
	}
	refused(LLM_ASK_COMPLETION, "{\"prompt\": \"a\", \"max_tokens\": 100}", 400,
		"maximum context length is 100");
	refused(LLM_ASK_COMPLETION, "{\"prompt\": \"a\", \"max_tokens\": 9223372036854775807}", 400,
		"you asked for 9223372036854775808 (1 of the prompt");
	refused(LLM_ASK_COMPLETION, "{\"prompt\": \"a\", \"max_tokens\": 9223372036854775808}", 400,
		"not JSON");
	refused(LLM_ASK_COMPLETION, "{\"prompt\": \"a\", \"n\": 2}", 400, "'n' must be 1");
	refused(LLM_ASK_COMPLETION, "{\"prompt\": \"a\", \"best_of\": 0}", 400, "best_of");
}

/* An object whose @key has @n words. */
static const char *with_words(const char *key, int n)
{
	static char body[1024];
	char words[512] = "";

	for (int i = 0; i < n; i++)
		memcpy(words + 2 * i, "x ", 3);
	snprintf(body, sizeof(body), "{\"%s\": \"%s\"}", key, words);
	return body;
}

/* A prompt as long as the limit leaves no place for an answer, but for a vector. */
static void test_llm_ask__prompts_have_limits(void **state)
{
	refused(LLM_ASK_COMPLETION, with_words("prompt", 100), 400, "the prompt has 100");
	good(LLM_ASK_COMPLETION, with_words("prompt", 99));
	assert_int_equal(a.max_tokens, 1);
	refused(LLM_ASK_EMBEDDING, with_words("input", 101), 400, "the prompt has 101");
	good(LLM_ASK_EMBEDDING, with_words("input", 100));
}

static void test_llm_ask__nonsense_is_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"{",
		"[]",
		"3",
		"null",
		"{\"prompt\": null}",
		"{\"prompt\": 5}",
		"{\"prompt\": \"\"}",
		"{\"prompt\": \"  \"}",
		"{\"prompt\": []}",
		"{\"prompt\": [1, \"a\"]}",
		"{\"prompt\": [1, -1]}",
		"{\"prompt\": [\"a\", \"b\"]}",
		"{\"prompt\": [[\"a\"]]}",
		"{\"prompt\": {\"a\": 1}}",
		"{}",
		"{\"prompt\": \"a\", \"stream\": 1}",
		"{\"prompt\": \"a\", \"stream\": \"yes\"}",
		"{\"prompt\": \"a\", \"stream_options\": 3}",
		"{\"prompt\": \"a\", \"stream_options\": {\"include_usage\": 2}}",
		"{\"prompt\": \"a\", \"model\": 3}",
		"{\"prompt\": \"a\", \"prompt\": \"b\"}",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		refused(LLM_ASK_COMPLETION, bad[i], 400, "");
	assert_int_equal(llm_ask_parse(LLM_ASK_COMPLETION, NULL, 0, &text, &a, &error), -EINVAL);
	refused(LLM_ASK_COMPLETION, "{\"prompt\": \"a\", \"model\": \"gpt\"}", 404,
		"`gpt` does not exist");
	refused(LLM_ASK_CHAT, "{\"messages\": []}", 400, "messages");
	refused(LLM_ASK_CHAT, "{\"messages\": {}}", 400, "messages");
	refused(LLM_ASK_CHAT, "{\"messages\": [{\"content\": \"a\"}]}", 400, "role");
	refused(LLM_ASK_CHAT, "{\"messages\": [3]}", 400, "role");
	refused(LLM_ASK_CHAT, "{\"messages\": [{\"role\": \"user\"}]}", 400, "text");
	refused(LLM_ASK_EMBEDDING, "{\"input\": []}", 400, "input");
	refused(LLM_ASK_EMBEDDING, "{\"input\": [\"a\", \"\"]}", 400, "input");
}

static void test_llm_ask__too_many_inputs_are_refused(void **state)
{
	char *body = malloc(8 * (LLM_MAX_INPUTS + 2)), *end = body;

	end += sprintf(end, "{\"input\":[");
	for (uint32_t i = 0; i <= LLM_MAX_INPUTS; i++)
		end += sprintf(end, "%s\"a\"", i ? "," : "");
	sprintf(end, "]}");
	refused(LLM_ASK_EMBEDDING, body, 400, "at most");
	free(body);
}

static void test_llm_ask__models_do_what_they_are_made_for(void **state)
{
	const char *body = "{\"input\": \"a\", \"prompt\": \"a\"}";

	assert_int_equal(llm_ask_parse(LLM_ASK_EMBEDDING, body, strlen(body), &text, &a, &error),
			 -EINVAL);
	assert_int_equal(
		llm_ask_parse(LLM_ASK_COMPLETION, body, strlen(body), &vectors, &a, &error),
		-EINVAL);
}

/* Whatever bytes come, what is accepted is within the limits. */
static void test_llm_ask__what_is_accepted_is_within_limits(void **state)
{
	static const char *const seeds[] = {
		"{\"prompt\": [1, 2, 3], \"max_tokens\": 90, \"stream\": true, \"n\": 1}",
		"{\"messages\": [{\"role\": \"x\", \"content\": \"a b c\"}], \"max_tokens\": 9}",
		"{\"input\": [\"a\", \"b c\"], \"prompt\": \"a b\", \"model\": \"m\"}",
	};
	uint32_t accepted = 0;

	srand(11);
	for (int i = 0; i < 60000; i++) {
		enum llm_ask_kind kind = (enum llm_ask_kind)(i % 3);
		char body[128];
		size_t n = strlen(seeds[i % 3]);

		memcpy(body, seeds[i % 3], n);
		for (int j = rand() % 4; j >= 0; j--)
			body[(size_t)rand() % n] =
				rand() % 2 ? (char)rand() : "0123456789,\"[]{}"[rand() % 16];
		if (llm_ask_parse(kind, body, n, kind == LLM_ASK_EMBEDDING ? &vectors : &text, &a,
				  &error) < 0)
			continue;
		accepted++;
		assert_in_range(a.n_inputs, 1, LLM_MAX_INPUTS);
		for (uint32_t j = 0; j < a.n_inputs; j++)
			assert_in_range(a.prompts[j], 1, 100);
		if (kind != LLM_ASK_EMBEDDING)
			assert_in_range(a.max_tokens, 1, 100 - a.prompts[0]);
	}
	assert_in_range(accepted, 1000, 59000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_llm_ask__prompts_are_counted),
		cmocka_unit_test(test_llm_ask__options_are_read),
		cmocka_unit_test(test_llm_ask__numbers_have_limits),
		cmocka_unit_test(test_llm_ask__prompts_have_limits),
		cmocka_unit_test(test_llm_ask__nonsense_is_refused),
		cmocka_unit_test(test_llm_ask__too_many_inputs_are_refused),
		cmocka_unit_test(test_llm_ask__what_is_accepted_is_within_limits),
		cmocka_unit_test(test_llm_ask__models_do_what_they_are_made_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
