/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th allocation fails, for every n: an error comes back, and nothing is lost or touched. */
#include "oom.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/timing.h"
#include "serve/load.h"
#include "serve/prompt.h"
#include "serve/sse.h"
#include "serve/summary.h"

static int take_event(void *arg, const char *data, size_t size)
{
	return 0;
}

static int read_stream(void)
{
	struct aq_sse sse;
	int r = 0;

	aq_sse_init(&sse, take_event, NULL);
	for (int i = 0; i < 300 && !r; i++)
		r = aq_sse_feed(&sse, "data: abcdefghijkl\ndata", 23);
	aq_sse_finish(&sse);
	return r;
}

static int read_lengths(void)
{
	struct aq_lengths l = {.count = 0};
	char text[400] = "";
	size_t line;
	int r;

	for (size_t i = 0; i < 99; i++)
		memcpy(text + i * 4, "1,2\n", 5);
	r = aq_lengths_parse(text, &l, &line);
	aq_lengths_finish(&l);
	return r;
}

static int make_request(void)
{
	struct aq_target t = {.host = "h", .port = 1, .path = "/v1", .model = "m"};
	struct aq_prompt p;
	char *text = NULL;
	size_t size;
	int r = aq_prompt_init(&p, &t, "", false);

	if (r)
		return r;
	r = aq_prompt_make(&p, 10, 10, 1, &text, &size);
	free(text);
	aq_prompt_finish(&p);
	return r;
}

/* A port where nothing listens: requests are made, and fail, and are written down. */
static struct aq_target nobody(void)
{
	struct sockaddr_in *in;
	struct aq_target t = {.host = "127.0.0.1", .path = "/v1", .model = "m",
			      .plan = {{.users = 3}}, .steps = 1, .isl = {.a = 5}, .osl = {.a = 5},
			      .address_size = sizeof(*in)};

	in = (struct sockaddr_in *)&t.address;
	in->sin_family = AF_INET;
	in->sin_port = htons(1);
	in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	t.port = 1;
	return t;
}

static int run_load(void)
{
	struct aq_target t = nobody();
	const struct aq_load_config config = {
		.targets = &t,
		.target_count = 1,
		.requests = 3,
		.duration_ns = 500 * AQ_NS_PER_MS,
		.burstiness = 1,
		.limits = {AQ_NS_PER_S, AQ_NS_PER_S, AQ_NS_PER_S, AQ_NS_PER_S},
		.headers = "",
	};
	const struct aq_bounds bounds = {.ttft_ns = 0};
	struct aq_load_result result;
	struct aq_summary s;
	int r = aq_load_run(&config, &result);

	if (r)
		return r;
	r = aq_summary_make(&result, &bounds, SIZE_MAX, &s);
	if (!r) {
		assert_int_equal(s.requests, 3);
		assert_int_equal(s.ends[AQ_END_REFUSED], 3);
	}
	aq_load_result_finish(&result);
	return r;
}

static void test_oom__stream(void **state)
{
	oom_walk(read_stream, -ENOMEM);
}

static void test_oom__lengths(void **state)
{
	oom_walk(read_lengths, -ENOMEM);
}

static void test_oom__request(void **state)
{
	oom_walk(make_request, -ENOMEM);
}

static void test_oom__load(void **state)
{
	oom_walk(run_load, -ENOMEM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_oom__stream),
		cmocka_unit_test(test_oom__lengths),
		cmocka_unit_test(test_oom__request),
		cmocka_unit_test(test_oom__load),
	};

	json_set_alloc_funcs(__wrap_malloc, __wrap_free);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
