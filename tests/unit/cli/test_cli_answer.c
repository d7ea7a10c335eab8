/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of the daemon's answers: exit statuses, what is free, events as lines. */
#include "cm.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/timing.h"
#include "cli/api.h"
#include "cli/event.h"
#include "cli/say.h"

static void test_status__follows_http(void **state)
{
	assert_int_equal(aq_api_exit_status(200), AQ_EXIT_OK);
	assert_int_equal(aq_api_exit_status(201), AQ_EXIT_OK);
	assert_int_equal(aq_api_exit_status(400), AQ_EXIT_USAGE);
	assert_int_equal(aq_api_exit_status(403), AQ_EXIT_FAILED);
	assert_int_equal(aq_api_exit_status(404), AQ_EXIT_FAILED);
	assert_int_equal(aq_api_exit_status(409), AQ_EXIT_FAILED);
	assert_int_equal(aq_api_exit_status(500), AQ_EXIT_FAILED);
	assert_int_equal(aq_api_exit_status(501), AQ_EXIT_FAILED);
	assert_int_equal(aq_api_exit_status(0), AQ_EXIT_FAILED);
}

static void expect_free(const char *body, const char *expected)
{
	json_t *json = json_loads(body, 0, NULL);
	char line[512] = "";

	assert_non_null(json);
	assert_int_equal(aq_api_free_text(json, line, sizeof(line)), expected != NULL);
	if (expected)
		assert_string_equal(line, expected);
	json_decref(json);
}

static void test_free__names_each_device(void **state)
{
	expect_free("{}", NULL);
	expect_free("[]", NULL);
	expect_free("{\"free_bytes\": \"much\"}", NULL);
	expect_free("{\"free_bytes\": 1073741824}", "free now: 1 GiB");
	expect_free("{\"devices\": [{\"index\": 0, \"free_bytes\": 1073741824},"
		    "{\"index\": 1, \"free_bytes\": 0, \"free_permille\": 250}, 7]}",
		    "free now: GPU 0 1 GiB, GPU 1 0 B and 0.25 of its compute");
}

static void test_free__a_thousand_devices_fit(void **state)
{
	json_t *devices = json_array(), *body = json_pack("{s:o}", "devices", devices);
	char line[512];

	for (int i = 0; i < 1000; i++)
		json_array_append_new(devices, json_pack("{s:i,s:I,s:i}", "index", i, "free_bytes",
							 (json_int_t)INT64_MAX, "free_permille",
							 123));
	assert_true(aq_api_free_text(body, line, sizeof(line)));
	assert_true(strlen(line) < sizeof(line));
	json_decref(body);
}

static void test_event__is_one_plain_line_in_local_time(void **state)
{
	json_t *event = json_pack("{s:s, s:s, s:s, s:s}", "time", "2026-01-02T03:04:05.678Z",
				  "type", "denied", "fraction", "chat", "text", "no\nroom\033[2J");
	char line[AQ_EVENT_LINE];

	setenv("TZ", "UTC-1", 1);
	tzset();
	assert_string_equal(aq_event_line(event, line),
			    "Jan 02 04:04:05  denied        chat          no?room?[2J");
	json_decref(event);
	event = json_object();
	assert_string_equal(aq_event_line(event, line), "?  ?             -             ");
	json_decref(event);
}

static void test_event__times_compare_as_text(void **state)
{
	char now[AQ_EVENT_TIME], before[AQ_EVENT_TIME];

	aq_event_time_before(0, now);
	aq_event_time_before(3600 * AQ_NS_PER_S, before);
	assert_true(strcmp(before, now) < 0);
	assert_true(strcmp("2026-01-02T03:04:05.678Z", "2026-01-02T03:04:06") < 0);
	assert_int_equal(strlen(now), strlen("2026-01-02T03:04:05"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status__follows_http),
		cmocka_unit_test(test_free__names_each_device),
		cmocka_unit_test(test_free__a_thousand_devices_fit),
		cmocka_unit_test(test_event__is_one_plain_line_in_local_time),
		cmocka_unit_test(test_event__times_compare_as_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
