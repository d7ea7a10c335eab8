/* SPDX-License-Identifier: Apache-2.0 */
/* Understanding answers, however they are cut into pieces, and refusing what is none. */
#include "cm.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cli/http.h"

struct heard {
	char text[512];
	size_t size;
	int refuse;
};

static int hear(void *arg, const char *bytes, size_t size)
{
	struct heard *h = arg;

	if (h->refuse)
		return h->refuse;
	assert_true(h->size + size < sizeof(h->text));
	memcpy(h->text + h->size, bytes, size);
	h->size += size;
	h->text[h->size] = '\0';
	return 0;
}

/* Feed @answer in pieces of @step bytes. Return: of aq_http_feed(), or aq_http_end() behind it. */
static int feed(const char *answer, size_t step, struct aq_http_reader *r, struct heard *h)
{
	size_t size = strlen(answer);

	*h = (struct heard){.text = "", .refuse = h->refuse};
	aq_http_reader_init(r, hear, h);
	for (size_t at = 0; at < size; at += step) {
		size_t n = size - at < step ? size - at : step;
		char *copy = malloc(n); /* exact, so that a sanitizer sees a read behind it */
		int result;

		assert_non_null(copy);
		memcpy(copy, answer + at, n);
		result = aq_http_feed(r, copy, n);
		free(copy);
		if (result)
			return result;
	}
	return aq_http_end(r);
}

static void expect(const char *answer, int status, const char *body)
{
	struct heard h = {.refuse = 0};
	struct aq_http_reader r;

	for (size_t step = 1; step <= strlen(answer); step++) {
		assert_int_equal(feed(answer, step, &r, &h), 0);
		assert_int_equal(r.status, status);
		assert_string_equal(h.text, body);
	}
}

static void expect_refused(const char *answer, int error)
{
	struct heard h = {.refuse = 0};
	struct aq_http_reader r;

	for (size_t step = 1; step <= strlen(answer); step++)
		if (feed(answer, step, &r, &h) != error)
			fail_msg("%s", answer);
}

static void test_http__by_length_in_chunks_and_until_the_end(void **state)
{
	expect("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello");
	expect("HTTP/1.1 404 Not Found\r\ncontent-length:0\r\n\r\n", 404, "");
	expect("HTTP/1.0 200 OK\nX: y\n\nall the rest", 200, "all the rest");
	expect("HTTP/1.1 201\r\nTransfer-Encoding: chunked\r\n\r\n"
	       "5\r\nhello\r\nA;x=y\r\n, world of\r\n0\r\nTrailer: x\r\n\r\n",
	       201, "hello, world of");
	/* Chunks go before a length. Source: RFC 9112, 6.3. */
	expect("HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n"
	       "1\r\nx\r\n0\r\n\r\n", 200, "x");
}

static void test_http__answers_that_break_off_are_not_whole(void **state)
{
	expect_refused("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", -ECONNRESET);
	expect_refused("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", -ECONNRESET);
	expect_refused("HTTP/1.1 2", -ECONNRESET);
	expect_refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		       -ECONNRESET);
}

static void test_http__nonsense_is_refused(void **state)
{
	expect_refused("what?\r\n", -EPROTO);
	expect_refused("HTTP/2 200 OK\r\n", -EPROTO);
	expect_refused("HTTP/1.1 20 OK\r\n", -EPROTO);
	expect_refused("HTTP/1.1 2000 OK\r\n", -EPROTO);
	expect_refused("HTTP/1.1 999 OK\r\n", -EPROTO);
	expect_refused("HTTP/1.1 -20 OK\r\n", -EPROTO);
	expect_refused("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n", -EPROTO);
	expect_refused("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n", -EPROTO);
	expect_refused("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy", -EPROTO);
	expect_refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", -EPROTO);
	expect_refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", -EPROTO);
	expect_refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		       "ffffffffffffffffffff\r\n", -EPROTO);
	expect_refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n",
		       -EPROTO);
}

static void test_http__endless_heads_are_refused(void **state)
{
	struct aq_http_reader r;
	struct heard h = {.refuse = 0};
	int result = 0;

	aq_http_reader_init(&r, hear, &h);
	for (int i = 0; i < 10000 && !result; i++)
		result = aq_http_feed(&r, "x", 1);
	assert_int_equal(result, -EPROTO);

	aq_http_reader_init(&r, hear, &h);
	assert_int_equal(aq_http_feed(&r, "HTTP/1.1 200 OK\r\n", 17), 0);
	for (int i = 0; i < 10000 && !result; i++)
		result = aq_http_feed(&r, "X: y\r\n", 6);
	assert_int_equal(result, -EPROTO);
}

static void test_http__what_the_sink_returns_ends_it(void **state)
{
	struct aq_http_reader r;
	struct heard h = {.refuse = 7};

	assert_int_equal(feed("HTTP/1.1 200 OK\r\n\r\nx", 4, &r, &h), 7);
}

static void test_http__random_bytes_never_break_it(void **state)
{
	static const char pieces[][32] = {
		"HTTP/1.1 200 OK\r\n", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n",
		"\r\n", "3\r\n", "abc", "0\r\n", "\n", "zz", ";",
	};
	struct heard h;
	struct aq_http_reader r;

	srandom(1);
	for (int i = 0; i < 20000; i++) {
		int result = 0;

		h = (struct heard){.refuse = 0};
		aq_http_reader_init(&r, hear, &h);
		for (int j = 0; j < 12 && !result && r.state != AQ_HTTP_DONE; j++) {
			const char *p = pieces[random() % 10];

			result = aq_http_feed(&r, p, strlen(p));
		}
		assert_true(result == 0 || result == -EPROTO);
	}
}

static void test_http__knows_whether_more_may_follow(void **state)
{
	static const struct {
		const char *answer;
		bool keep_alive, event_stream;
	} cases[] = {
		{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true, false},
		{"HTTP/1.1 200 OK\r\nconnection: Close\r\nContent-Length: 0\r\n\r\n", false, false},
		{"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false, false},
		{"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", true, false},
		{"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
		 "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", true, true},
		{"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}", false, false},
	};
	struct heard h = {.refuse = 0};
	struct aq_http_reader r;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(feed(cases[i].answer, 3, &r, &h), 0);
		assert_int_equal(r.keep_alive, cases[i].keep_alive);
		assert_int_equal(r.event_stream, cases[i].event_stream);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_http__knows_whether_more_may_follow),
		cmocka_unit_test(test_http__by_length_in_chunks_and_until_the_end),
		cmocka_unit_test(test_http__answers_that_break_off_are_not_whole),
		cmocka_unit_test(test_http__nonsense_is_refused),
		cmocka_unit_test(test_http__endless_heads_are_refused),
		cmocka_unit_test(test_http__what_the_sink_returns_ends_it),
		cmocka_unit_test(test_http__random_bytes_never_break_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
