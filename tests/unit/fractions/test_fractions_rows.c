/* SPDX-License-Identifier: Apache-2.0 */
/* Rows as JSON and CSV: exactly the fields that readers were promised. */
#include "../cm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/fractions/cases.h"
#include "bench/fractions/report.h"
#include "bench/fractions/rows.h"

static const char *const fields[] = {"case",
				     "replicas",
				     "fraction",
				     "arbitration",
				     "users_within_bound",
				     "tokens_per_second",
				     "ttft_p50_ms",
				     "ttft_p95_ms",
				     "itl_p50_ms",
				     "itl_p99_ms",
				     "isl",
				     "osl",
				     "bound_ms",
				     "simulated",
				     "model",
				     "device",
				     "users",
				     "requests",
				     "host_bound"};
#define FIELDS (sizeof(fields) / sizeof(fields[0]))

static const struct fr_config config = {.isl = 512, .osl = 128, .bound_ms = 1000, .sim = "h100"};

static struct fr_row row_of(const char *name, uint32_t users, bool within)
{
	struct fr_row row = {.model = "m",
			     .device = "d",
			     .isl = 512,
			     .osl = 128,
			     .bound_ms = 1000,
			     .simulated = true,
			     .host = {.cpu = 0.5, .wait = NAN, .late = 0.01, .stolen = NAN},
			     .replicas = 2,
			     .permille = 500,
			     .arbitration = "aliquot",
			     .users = users,
			     .within = within,
			     .result = {.requests = 7,
					.tokens_per_second = 1234.56789,
					.ttft_p50 = 1,
					.ttft_p95 = 2,
					.ttft_max = 3,
					.itl_p50 = 4,
					.itl_p99 = NAN}};

	snprintf(row.name, sizeof(row.name), "%s", name);
	return row;
}

static struct fr_rows two_rows(void)
{
	struct fr_row in = row_of("halves", 80, true), over = row_of("quarters", 90, false);
	struct fr_rows rows = {.rows = NULL};

	assert_int_equal(fr_rows_add(&rows, &in), 0);
	assert_int_equal(fr_rows_add(&rows, &over), 0);
	return rows;
}

static void test_fractions_rows__json_has_exactly_the_fields(void **state)
{
	struct fr_rows rows = two_rows();
	json_t *array = fr_rows_json(&rows, false);
	const json_t *first = json_array_get(array, 0), *second = json_array_get(array, 1);

	assert_int_equal(json_array_size(array), 2);
	assert_int_equal(json_object_size(first), FIELDS);
	for (size_t i = 0; i < FIELDS; i++)
		assert_non_null(json_object_get(first, fields[i]));
	assert_int_equal(json_integer_value(json_object_get(first, "users_within_bound")), 80);
	assert_int_equal(json_integer_value(json_object_get(second, "users_within_bound")), 0);
	assert_true(json_is_true(json_object_get(first, "simulated")));
	assert_true(json_is_null(json_object_get(first, "itl_p99_ms")));
	assert_true(json_real_value(json_object_get(first, "tokens_per_second")) == 1234.568);
	assert_true(json_real_value(json_object_get(first, "fraction")) == 0.5);
	json_decref(array);
	array = fr_rows_json(&rows, true);
	assert_int_equal(json_object_size(json_array_get(array, 0)), FIELDS + 8);
	json_decref(array);
	fr_rows_finish(&rows);
}

static void test_fractions_rows__csv_has_the_same(void **state)
{
	struct fr_rows rows = two_rows();
	char *text = NULL, *at, *cell;
	size_t size, n = 0;
	FILE *out = open_memstream(&text, &size);

	assert_int_equal(fr_rows_csv(&rows, out), 0);
	fclose(out);
	at = text;
	cell = strsep(&at, "\n");
	for (char *name; (name = strsep(&cell, ",")); n++)
		assert_string_equal(name, fields[n]);
	assert_int_equal(n, FIELDS);
	assert_string_equal(
		strsep(&at, "\n"),
		"\"halves\",2,0.5,aliquot,80,1234.568,1.000,2.000,4.000,,512,128,1000,true,m,\"d\",80,"
		"7,false");
	assert_string_equal(
		strsep(&at, "\n"),
		"\"quarters\",2,0.5,aliquot,0,1234.568,1.000,2.000,4.000,,512,128,1000,true,m,\"d\",90,"
		"7,false");
	assert_string_equal(at, "");
	free(text);
	fr_rows_finish(&rows);
}

static void test_fractions_rows__are_found_by_case_and_users(void **state)
{
	struct fr_rows rows = two_rows();

	assert_ptr_equal(fr_rows_find(&rows, "quarters"), &rows.rows[1]);
	assert_null(fr_rows_find(&rows, "quarter"));
	assert_ptr_equal(fr_rows_at(&rows, "halves", 80), &rows.rows[0]);
	assert_null(fr_rows_at(&rows, "halves", 90));
	fr_rows_finish(&rows);
}

/* The whole GPU serves 90; two halves with 90 together and with 90 each are put beside it. */
static void test_fractions_rows__reports_match_users(void **state)
{
	struct fr_run run = {.config = &config};
	struct fr_row whole = row_of("full", 90, true), answer = row_of("halves", 80, true);
	struct fr_row same_gpu = row_of("halves", 90, false),
		      same_model = row_of("halves", 180, false);
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	whole.replicas = 1;
	whole.result.tokens_per_second = 1000;
	answer.result.tokens_per_second = 700;
	same_gpu.result.tokens_per_second = 813;
	same_model.result.tokens_per_second = 1014;
	assert_int_equal(fr_rows_add(&run.answers, &whole), 0);
	assert_int_equal(fr_rows_add(&run.answers, &answer), 0);
	assert_int_equal(fr_rows_add(&run.steps, &whole), 0);
	assert_int_equal(fr_rows_add(&run.steps, &same_gpu), 0);
	assert_int_equal(fr_rows_add(&run.steps, &same_model), 0);
	assert_int_equal(fr_notes_add(&run.notes, "eighths: %s", "does not fit"), 0);
	assert_int_equal(fr_report_print(&run, out), 0);
	fclose(out);
	assert_non_null(strstr(text, "81.3 %"));
	assert_non_null(strstr(text, "101.4 %"));
	assert_non_null(strstr(text, "70.0 %")); /* tokens of the answers */
	assert_non_null(strstr(text, "88.9 %")); /* users of the answers */
	assert_non_null(strstr(text, "SIMULATED"));
	assert_non_null(strstr(text, "eighths: does not fit"));
	assert_non_null(strstr(text, "not measured"));
	free(text);
	fr_run_finish(&run);
}

static char *report_of(const struct fr_run *run)
{
	static char *text; /* gcc 12 believes that the stream could give its own address back */
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_int_equal(fr_report_print(run, out), 0);
	fclose(out);
	return text;
}

static size_t times(const char *text, const char *words)
{
	size_t n = 0;

	for (; (text = strstr(text, words)); text += strlen(words))
		n++;
	return n;
}

/* How many published figures are left out, by the report's word; -1: it says nothing of that. */
static long left_out(const char *text)
{
	static const char words[] = "left out, since neither of their cases was measured: ";
	const char *at = strstr(text, words);

	return at ? strtol(at + strlen(words), NULL, 10) : -1;
}

/* Only what a case of the run stands beside is in the table, and says by itself what it is. */
static void test_fractions_rows__claims_of_no_case_are_counted(void **state)
{
	struct fr_run run = {.config = &config};
	struct fr_row halves = row_of("halves", 80, true), full = row_of("full", 90, true);
	char *text = report_of(&run);
	long all = left_out(text);

	assert_null(strstr(text, "77 % of"));
	assert_true(all > 20);
	free(text);

	assert_int_equal(fr_rows_add(&run.answers, &halves), 0);
	text = report_of(&run);
	assert_int_equal(times(text, "not measured"), 2);
	assert_int_equal(times(text, "halves / full"), 2);
	assert_int_equal(times(text, "half / full"), 0);
	assert_int_equal(times(text, "Run:ai: tokens/s at 0.5 of a GPU, if two halves are"), 1);
	assert_int_equal(times(text, "Run:ai: users at 0.5 of a GPU, if two halves are"), 1);
	assert_int_equal(times(text, "H100 NVL, TTFT <= 1 s"), 1);
	assert_int_equal(times(text, "10,200 on 64 GPUs"), 1);
	assert_int_equal(times(text, "likewise"), 0);
	assert_int_equal(times(text, "Dynamo: "), 0);
	assert_int_equal(left_out(text), all - 2);
	free(text);

	/* With the row above there, it is the same again. */
	assert_int_equal(fr_rows_add(&run.answers, &full), 0);
	text = report_of(&run);
	assert_int_equal(times(text, "  the same, if two halves are meant"), 2);
	assert_int_equal(times(text, "0.5 of a GPU, if two halves"), 0);
	assert_int_equal(times(text, "likewise"), 2);
	assert_int_equal(times(text, "Dynamo: "), 0);
	free(text);
	fr_run_finish(&run);
}

/* A row of which the host was the bound stands there with a mark, and beside no claim. */
static void test_fractions_rows__what_the_host_bounds_is_no_figure(void **state)
{
	struct fr_run run = {.config = &config};
	struct fr_row whole = row_of("full", 90, true), halves = row_of("halves", 63, true);
	json_t *array;
	char *text;

	assert_int_equal(fr_rows_add(&run.answers, &whole), 0);
	assert_int_equal(fr_rows_add(&run.answers, &halves), 0);
	text = report_of(&run);
	assert_non_null(strstr(text, "70.0 %"));
	assert_null(strstr(text, "halves *"));
	assert_non_null(strstr(text, "at most 50 % of it in use"));
	free(text);

	run.answers.rows[1].host.wait = 0.3;
	text = report_of(&run);
	assert_null(strstr(text, "70.0 %"));
	assert_non_null(strstr(text, "halves *"));
	assert_non_null(strstr(text, "In 1 row the host was the bound"));
	free(text);
	array = fr_rows_json(&run.answers, false);
	assert_true(json_is_false(json_object_get(json_array_get(array, 0), "host_bound")));
	assert_true(json_is_true(json_object_get(json_array_get(array, 1), "host_bound")));
	json_decref(array);
	fr_run_finish(&run);
}

/* Two models with 16 requests between them beside one with 16, and beside one with 8. */
static void test_fractions_rows__residents_are_matched_both_ways(void **state)
{
	struct fr_run run = {.config = &config};
	struct fr_row one8 = row_of("resident-one/8", 8, false);
	struct fr_row one16 = row_of("resident-one/16", 16, false);
	struct fr_row two16 = row_of("resident-leases/16", 16, false);
	char *text;

	one8.result.tokens_per_second = 500;
	one16.result.tokens_per_second = 800;
	two16.result.tokens_per_second = 605;
	assert_int_equal(fr_rows_add(&run.answers, &one8), 0);
	assert_int_equal(fr_rows_add(&run.answers, &one16), 0);
	assert_int_equal(fr_rows_add(&run.answers, &two16), 0);
	text = report_of(&run);
	assert_non_null(strstr(text, "75.6 %"));
	assert_non_null(strstr(text, "121.0 %"));
	free(text);
	fr_run_finish(&run);
}

/* 100 users on the shared GPU; of three GPUs together, 300 tokens per second are 100 of each. */
static void test_fractions_rows__models_apart_count_by_gpu(void **state)
{
	struct fr_run run = {.config = &config};
	struct fr_row shared = row_of("mixed", 100, true), apart = row_of("mixed-apart", 100, true);
	struct fr_row gpu = row_of("mixed-apart-gpu", 300, false);
	char *text;

	shared.result.tokens_per_second = 222;
	apart.result.tokens_per_second = 300;
	gpu.result.tokens_per_second = 600;
	assert_int_equal(fr_rows_add(&run.answers, &shared), 0);
	assert_int_equal(fr_rows_add(&run.answers, &apart), 0);
	assert_int_equal(fr_rows_add(&run.answers, &gpu), 0);
	text = report_of(&run);
	assert_non_null(strstr(text, "on each model"));
	assert_non_null(strstr(text, "222.0 %"));
	assert_non_null(strstr(text, "111.0 %"));
	free(text);
	fr_run_finish(&run);
}

static void test_fractions_rows__ratios_need_both(void **state)
{
	assert_true(fr_ratio(50, 100) == 0.5);
	assert_true(isnan(fr_ratio(50, 0)) && isnan(fr_ratio(NAN, 100)) && isnan(fr_ratio(1, NAN)));
}

static void test_fractions_rows__cases_are_chosen_by_whole_names(void **state)
{
	assert_true(fr_case_chosen(NULL, "half"));
	assert_true(fr_case_chosen("full,half", "half"));
	assert_false(fr_case_chosen("full,halves", "half"));
	assert_false(fr_case_chosen("", "half"));
	assert_true(fr_cases_known(NULL));
	assert_true(fr_cases_known("full,mixed,scale-out,small-eighths,resident,steady-mixed"));
	assert_false(fr_cases_known("full,"));
	assert_false(fr_cases_known("fulls"));
	assert_int_equal(fr_users_of(0.5, 1), 1);
	assert_int_equal(fr_users_of(0.5, 9), 5);
	assert_int_equal(fr_users_of(0.1, 1), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fractions_rows__json_has_exactly_the_fields),
		cmocka_unit_test(test_fractions_rows__csv_has_the_same),
		cmocka_unit_test(test_fractions_rows__are_found_by_case_and_users),
		cmocka_unit_test(test_fractions_rows__reports_match_users),
		cmocka_unit_test(test_fractions_rows__claims_of_no_case_are_counted),
		cmocka_unit_test(test_fractions_rows__what_the_host_bounds_is_no_figure),
		cmocka_unit_test(test_fractions_rows__residents_are_matched_both_ways),
		cmocka_unit_test(test_fractions_rows__models_apart_count_by_gpu),
		cmocka_unit_test(test_fractions_rows__ratios_need_both),
		cmocka_unit_test(test_fractions_rows__cases_are_chosen_by_whole_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
