/* SPDX-License-Identifier: Apache-2.0 */
/* Streams of events however they are cut, and what their JSON says. */
#include "cm.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "serve/answer.h"
#include "serve/prompt.h"
#include "serve/sse.h"

struct heard {
	char text[512];
	int refuse;
};

static int hear(void *arg, const char *data, size_t size)
{
	struct heard *h = arg;

	assert_int_equal(strlen(data), size);
	assert_true(strlen(h->text) + size + 2 < sizeof(h->text));
	memcpy(h->text + strlen(h->text), data, size + 1);
	memcpy(h->text + strlen(h->text), "|", 2);
	return h->refuse;
}

/* Whatever the pieces, @stream says @want: data of events, a bar behind each. */
static void expect(const char *stream, const char *want)
{
	size_t size = strlen(stream);

	for (size_t step = 1; step <= size; step++) {
		struct heard h = {.text = ""};
		struct aq_sse sse;

		aq_sse_init(&sse, hear, &h);
		for (size_t at = 0; at < size; at += step) {
			size_t n = size - at < step ? size - at : step;
			char *copy = malloc(n); /* exact, so that a sanitizer sees a read behind */

			assert_non_null(copy);
			memcpy(copy, stream + at, n);
			assert_int_equal(aq_sse_feed(&sse, copy, n), 0);
			free(copy);
		}
		assert_string_equal(h.text, want);
		aq_sse_finish(&sse);
	}
}

static void test_sse__hands_on_data_of_events(void **state)
{
	expect("data: a\n\ndata: b\n\n", "a|b|");
	expect("data:a\n\ndata:  b\n\n", "a| b|");
	expect("data: {\"x\": 1}\r\n\r\ndata: [DONE]\r\n\r\n", "{\"x\": 1}|[DONE]|");
	expect("data: a\r\rdata: b\r\r", "a|b|");
}

static void test_sse__joins_lines(void **state)
{
	expect("data: a\ndata: b\ndata\ndata: c\n\n", "a\nb\n\nc|");
}

static void test_sse__reads_over_the_rest(void **state)
{
	expect(": ping\n\nevent: x\nid: 7\nretry: 10\ndata: a\n\n\n\n: end\n\n", "a|");
	expect("datum: a\n\ndata2: b\n\ndat\n\n", "");
	expect("\xef\xbb\xbf" "data: a\n\n\xef\xbb\xbf" "data: b\n\n", "a|");
	expect("data:\n\ndata: \n\n", "");
}

static void test_sse__keeps_back_an_event_without_end(void **state)
{
	struct heard h = {.text = ""};
	struct aq_sse sse;

	expect("data: a\n\ndata: b\n", "a|");
	aq_sse_init(&sse, hear, &h);
	assert_int_equal(aq_sse_feed(&sse, "data: a\n\n", 9), 0);
	assert_false(aq_sse_torn(&sse));
	assert_int_equal(aq_sse_feed(&sse, "data: b\n", 8), 0);
	assert_true(aq_sse_torn(&sse));
	aq_sse_reset(&sse);
	assert_int_equal(aq_sse_feed(&sse, "\ndata: c\n\n", 10), 0);
	assert_string_equal(h.text, "a|c|");
	aq_sse_finish(&sse);
}

static void test_sse__stops_where_told(void **state)
{
	struct heard h = {.refuse = 7};
	struct aq_sse sse;

	aq_sse_init(&sse, hear, &h);
	assert_int_equal(aq_sse_feed(&sse, "data: a\n\ndata: b\n\n", 18), 7);
	assert_string_equal(h.text, "a|");
	aq_sse_finish(&sse);
}

static void test_sse__refuses_what_never_ends(void **state)
{
	static char bytes[65536];
	struct heard h = {.text = ""};
	struct aq_sse sse;
	size_t fed = 0;
	int r = 0;

	memset(bytes, 'x', sizeof(bytes));
	aq_sse_init(&sse, hear, &h);
	while (!r && fed < 4 * AQ_SSE_EVENT_BYTES) {
		r = aq_sse_feed(&sse, bytes, sizeof(bytes));
		fed += sizeof(bytes);
	}
	assert_int_equal(r, -EMSGSIZE);
	assert_true(sse.line_room <= 4 * AQ_SSE_EVENT_BYTES);
	aq_sse_finish(&sse);

	/* Many short lines of one event. */
	aq_sse_init(&sse, hear, &h);
	for (fed = 0, r = 0; !r && fed < 4 * AQ_SSE_EVENT_BYTES; fed += 7)
		r = aq_sse_feed(&sse, "data:xx\n", 8);
	assert_int_equal(r, -EMSGSIZE);
	aq_sse_finish(&sse);
}

static struct aq_answer event(const char *json)
{
	struct aq_answer a;

	assert_int_equal(aq_answer_event(json, strlen(json), &a), 0);
	return a;
}

static void test_answer__knows_tokens(void **state)
{
	assert_true(event("{\"choices\":[{\"delta\":{\"content\":\"x\"}}]}").has_text);
	assert_true(event("{\"choices\":[{\"text\":\"x\"}]}").has_text);
	assert_true(event("{\"choices\":[{\"delta\":{\"content\":null,\"reasoning_content\":\"x\"}}]}")
			    .has_text);
	assert_false(event("{\"choices\":[{\"delta\":{\"role\":\"a\",\"content\":\"\"}}]}").has_text);
	assert_false(event("{\"choices\":[]}").has_text);
	assert_int_equal(event("{\"choices\":[{\"text\":\"t=123 \"}]}").stamp_ns, 123);
}

static void test_answer__reads_counts(void **state)
{
	struct aq_answer a =
		event("{\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":9}}");

	assert_int_equal(a.isl, 7);
	assert_int_equal(a.osl, 9);
	a = event("{\"choices\":[],\"usage\":{\"prompt_tokens\":-7,\"completion_tokens\":1e30}}");
	assert_int_equal(a.isl, 0);
	assert_int_equal(a.osl, 0);
}

static void test_answer__knows_errors(void **state)
{
	struct aq_answer a = event("{\"error\":{\"message\":\"no\\nroom\"}}");

	assert_true(a.is_error);
	assert_string_equal(a.message, "no room");
	assert_false(event("{\"error\":null,\"choices\":[]}").is_error);
}

static void test_answer__refuses_other_forms(void **state)
{
	static const char *const bad[] = {"", "x", "[]", "{}", "{\"choices\":3}", "{\"choices\":[",
					  "\"choices\"", "{\"choices\":[]} x"};
	struct aq_answer a;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(aq_answer_event(bad[i], strlen(bad[i]), &a), -EBADMSG);
	assert_int_equal(aq_answer_embedding("{\"data\":[{}]}", 13, &a), -EBADMSG);
	assert_int_equal(aq_answer_embedding("{\"data\":[{\"embedding\":[1]}]}", 28, &a), 0);
}

static void test_answer__finds_the_model(void **state)
{
	char model[8];

	assert_int_equal(aq_answer_model("{\"data\":[{\"id\":\"m\"}]}", 21, model, sizeof(model)), 0);
	assert_string_equal(model, "m");
	assert_int_equal(aq_answer_model("{\"data\":[]}", 11, model, sizeof(model)), -ENOENT);
	assert_int_equal(aq_answer_model("{}", 2, model, sizeof(model)), -EBADMSG);
}

static void test_prompt__same_seed_same_bytes(void **state)
{
	struct aq_target t = {.host = "h", .port = 1, .path = "/v1", .model = "a\"b"};
	struct aq_prompt p;
	char *text[3], *whole, *body;
	size_t size[3], words = 1;

	assert_int_equal(aq_prompt_init(&p, &t, "X: y\r\n", false), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(aq_prompt_make(&p, 100, 9, i / 2, &text[i], &size[i]), 0);
	assert_int_equal(size[0], size[1]);
	assert_memory_equal(text[0], text[1], size[0]);
	assert_true(size[0] != size[2] || memcmp(text[0], text[2], size[0]));

	/* A request is bytes, not text. */
	whole = strndup(text[0], size[0]);
	assert_non_null(whole);
	/* The body is JSON, of the length that the head says, with so many words. */
	body = strstr(whole, "\r\n\r\n") + 4;
	assert_non_null(strstr(whole, "POST /v1/chat/completions HTTP/1.1\r\n"));
	assert_non_null(strstr(whole, "X: y\r\n"));
	assert_int_equal(strtoul(strstr(whole, "Content-Length: ") + 16, NULL, 10),
			 strlen(body));
	{
		json_t *root = json_loads(body, 0, NULL);
		const char *content = json_string_value(json_object_get(
			json_array_get(json_object_get(root, "messages"), 0), "content"));

		assert_non_null(content);
		assert_string_equal(json_string_value(json_object_get(root, "model")), "a\"b");
		for (; *content; content++)
			words += *content == ' ';
		assert_int_equal(words, 100);
		json_decref(root);
	}
	free(whole);
	for (int i = 0; i < 3; i++)
		free(text[i]);
	aq_prompt_finish(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sse__hands_on_data_of_events),
		cmocka_unit_test(test_sse__joins_lines),
		cmocka_unit_test(test_sse__reads_over_the_rest),
		cmocka_unit_test(test_sse__keeps_back_an_event_without_end),
		cmocka_unit_test(test_sse__stops_where_told),
		cmocka_unit_test(test_sse__refuses_what_never_ends),
		cmocka_unit_test(test_answer__knows_tokens),
		cmocka_unit_test(test_answer__reads_counts),
		cmocka_unit_test(test_answer__knows_errors),
		cmocka_unit_test(test_answer__refuses_other_forms),
		cmocka_unit_test(test_answer__finds_the_model),
		cmocka_unit_test(test_prompt__same_seed_same_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
