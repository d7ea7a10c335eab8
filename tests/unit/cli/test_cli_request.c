/* SPDX-License-Identifier: Apache-2.0 */
/* From option values to the API's JSON, and what is refused on the way. */
#include "cm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/opt.h"
#include "cli/request.h"

/* Complaints are the command test's business. */
static int quiet(void **state)
{
	int fd = open("/dev/null", O_WRONLY);

	return dup2(fd, STDERR_FILENO) < 0 || close(fd) < 0;
}

static int take(struct aq_request *q, int id, const char *value)
{
	return aq_request_take(q, "run", id, value);
}

static void expect_json(const struct aq_request *q, const char *expected)
{
	json_t *got = aq_request_json(q), *want = json_loads(expected, 0, NULL);

	assert_non_null(want);
	if (!json_equal(got, want)) {
		char *text = json_dumps(got, JSON_COMPACT);

		fail_msg("got %s, want %s", text, expected);
	}
	json_decref(got);
	json_decref(want);
}

static void test_request__writes_only_what_was_given(void **state)
{
	struct aq_request q = {0};

	expect_json(&q, "{}");
	assert_true(aq_request_empty(&q));
	assert_int_equal(take(&q, AQ_OPT_GPU, "0.25"), 0);
	assert_false(aq_request_empty(&q));
	expect_json(&q, "{\"gpu_permille\": 250}");
	assert_int_equal(take(&q, AQ_OPT_GPUS, "2"), 0);
	assert_int_equal(take(&q, AQ_OPT_MEMORY, "20G"), 0);
	assert_int_equal(take(&q, AQ_OPT_MEMORY_LIMIT, "41943040KiB"), 0);
	assert_int_equal(take(&q, AQ_OPT_COMPUTE, "0.3"), 0);
	assert_int_equal(take(&q, AQ_OPT_COMPUTE_LIMIT, "1"), 0);
	assert_int_equal(take(&q, AQ_OPT_PRIORITY, "high"), 0);
	assert_int_equal(take(&q, AQ_OPT_NAME, "chat"), 0);
	assert_int_equal(take(&q, AQ_OPT_PROJECT, "web"), 0);
	assert_int_equal(take(&q, AQ_OPT_DEVICE, "auto"), 0);
	assert_int_equal(take(&q, AQ_OPT_SIM, "h100-nvl:4"), 0);
	assert_int_equal(take(&q, AQ_OPT_WAIT, NULL), 0);
	assert_int_equal(aq_request_check(&q, "run"), 0);
	expect_json(&q, "{\"gpu_permille\": 250, \"gpus\": 2,"
			"\"memory_request_bytes\": 21474836480,"
			"\"memory_limit_bytes\": 42949672960, \"compute_request_permille\": 300,"
			"\"compute_limit_permille\": 1000,"
			"\"priority\": \"high\", \"name\": \"chat\","
			"\"project\": \"web\", \"device\": \"auto\", \"sim\": \"h100-nvl:4\","
			"\"wait_ms\": -1}");
}

static void test_request__an_index_is_a_number_and_a_uuid_is_text(void **state)
{
	struct aq_request q = {0};

	assert_int_equal(take(&q, AQ_OPT_DEVICE, "3"), 0);
	expect_json(&q, "{\"device\": 3}");
	assert_int_equal(take(&q, AQ_OPT_DEVICE, "GPU-00112233-4455-6677-8899-aabbccddeeff"), 0);
	expect_json(&q, "{\"device\": \"GPU-00112233-4455-6677-8899-aabbccddeeff\"}");
}

static void test_request__waits_are_rounded_up(void **state)
{
	struct aq_request q = {0};

	assert_int_equal(take(&q, AQ_OPT_WAIT, "1.5s"), 0);
	assert_int_equal(q.wait_ms, 1500);
	assert_int_equal(take(&q, AQ_OPT_WAIT, "1us"), 0);
	assert_int_equal(q.wait_ms, 1);
	assert_int_equal(take(&q, AQ_OPT_WAIT, "2m"), 0);
	assert_int_equal(q.wait_ms, 120000);
}

static void test_request__refuses_bad_values(void **state)
{
	static const struct {
		int id;
		const char *value;
	} bad[] = {
		{AQ_OPT_GPU, "0"}, {AQ_OPT_GPU, "0.009"}, {AQ_OPT_GPU, "1.1"}, {AQ_OPT_GPU, "2"},
		{AQ_OPT_GPU, "half"}, {AQ_OPT_GPU, "-0.5"}, {AQ_OPT_GPU, ""}, {AQ_OPT_GPU, "0.5 "},
		{AQ_OPT_GPU, "50%"}, {AQ_OPT_GPU, "nan"}, {AQ_OPT_GPU, "1e-1"}, {AQ_OPT_GPU, "0,5"},
		{AQ_OPT_GPUS, "0"}, {AQ_OPT_GPUS, "17"}, {AQ_OPT_GPUS, "0.5"}, {AQ_OPT_GPUS, "two"},
		{AQ_OPT_MEMORY, "20X"}, {AQ_OPT_MEMORY, "-1G"}, {AQ_OPT_MEMORY, "G"},
		{AQ_OPT_MEMORY, "1 G"}, {AQ_OPT_MEMORY, "99999999999T"}, {AQ_OPT_MEMORY, "0x10"},
		{AQ_OPT_MEMORY_LIMIT, ""}, {AQ_OPT_COMPUTE, "1.5"}, {AQ_OPT_COMPUTE_LIMIT, "all"},
		{AQ_OPT_PRIORITY, "urgent"}, {AQ_OPT_PRIORITY, "HIGH"}, {AQ_OPT_PRIORITY, ""},
		{AQ_OPT_NAME, ""}, {AQ_OPT_NAME, "a/b"}, {AQ_OPT_NAME, "-a"}, {AQ_OPT_NAME, "a b"},
		{AQ_OPT_PROJECT, "caf\xc3\xa9"}, {AQ_OPT_DEVICE, "first"}, {AQ_OPT_DEVICE, "-1"},
		{AQ_OPT_DEVICE, "GPU-123"}, {AQ_OPT_DEVICE, ""}, {AQ_OPT_SIM, "h1000"},
		{AQ_OPT_SIM, "h100:"}, {AQ_OPT_SIM, "h100:0"}, {AQ_OPT_SIM, "h100:17"},
		{AQ_OPT_SIM, ":2"}, {AQ_OPT_SIM, ""}, {AQ_OPT_WAIT, "soon"}, {AQ_OPT_WAIT, ""},
		{AQ_OPT_WAIT, "31d"}, {AQ_OPT_WAIT, "-1s"},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct aq_request q = {0};

		if (take(&q, bad[i].id, bad[i].value) != -EINVAL)
			fail_msg("option %d took '%s'", bad[i].id, bad[i].value);
	}
}

static void test_request__refuses_contradictions(void **state)
{
	struct aq_request q = {.has_memory = true, .memory_bytes = 2, .has_memory_limit = true,
			       .memory_limit_bytes = 1};

	assert_int_equal(aq_request_check(&q, "run"), -EINVAL);
	q.memory_limit_bytes = 2;
	assert_int_equal(aq_request_check(&q, "run"), 0);
	q.memory_bytes = 0; /* nothing guaranteed, something allowed: best effort */
	assert_int_equal(aq_request_check(&q, "run"), 0);
	q.has_memory_limit = false;
	assert_int_equal(aq_request_check(&q, "run"), -EINVAL);
	q = (struct aq_request){.has_memory_limit = true};
	assert_int_equal(aq_request_check(&q, "run"), -EINVAL);
	q = (struct aq_request){.has_compute = true, .compute_permille = 500,
				.has_compute_limit = true, .compute_limit_permille = 499};
	assert_int_equal(aq_request_check(&q, "run"), -EINVAL);
	q = (struct aq_request){.has_gpus = true, .gpus = 2, .device = "0"};
	assert_int_equal(aq_request_check(&q, "run"), -EINVAL);
	q.device = "auto";
	assert_int_equal(aq_request_check(&q, "run"), 0);
}

static void test_command__is_valid_utf8_and_fits(void **state)
{
	char *argv[] = {"/bin/py\nthon", "caf\xc3\xa9", "\xff\xc0\x80", "\xed\xa0\x80\xc3", NULL};
	char *one[] = {NULL, NULL};
	char buf[AQ_REQUEST_COMMAND];
	json_t *text;

	aq_request_command(argv, buf);
	assert_string_equal(buf, "/bin/py?thon caf\xc3\xa9 ??? ????");
	text = json_string(buf);
	assert_non_null(text);
	json_decref(text);

	one[0] = malloc(1001);
	assert_non_null(one[0]);
	for (int i = 0; i < 1000; i += 2)
		memcpy(one[0] + i, "\xc3\xa9", 2);
	one[0][1000] = '\0';
	aq_request_command(one, buf);
	assert_int_equal(strlen(buf), 254); /* never half a character */
	free(one[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request__writes_only_what_was_given),
		cmocka_unit_test(test_request__an_index_is_a_number_and_a_uuid_is_text),
		cmocka_unit_test(test_request__waits_are_rounded_up),
		cmocka_unit_test(test_request__refuses_bad_values),
		cmocka_unit_test(test_request__refuses_contradictions),
		cmocka_unit_test(test_command__is_valid_utf8_and_fits),
	};

	return cmocka_run_group_tests(tests, quiet, NULL);
}
