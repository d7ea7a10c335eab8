/* SPDX-License-Identifier: Apache-2.0 */
/* Reading options by table, and guessing what was meant. */
#include "cm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/opt.h"
#include "cli/say.h"
#include "cli/verbs.h"

static const struct aq_opt opts[] = {
	{"gpu", AQ_OPT_GPU, AQ_OPT_VALUE, "F", "a share", NULL},
	{"memory", AQ_OPT_MEMORY, AQ_OPT_VALUE, "SIZE", "memory", NULL},
	{"memory-limit", AQ_OPT_MEMORY_LIMIT, AQ_OPT_VALUE, "SIZE", "most memory", NULL},
	{"wait", AQ_OPT_WAIT, AQ_OPT_MAYBE, "DUR", "wait", NULL},
	{"lines", 'n', AQ_OPT_VALUE, "N", "lines", NULL},
	{"quiet", 'q', AQ_OPT_NONE, NULL, "names only", NULL},
	{"hidden", AQ_OPT_WORDS, AQ_OPT_NONE, NULL, NULL, NULL},
	{0},
};
static const struct aq_verb verb = {
	.name = "try", .operands = "[OPTION...]", .summary = "a test", .opts = opts,
};

static struct aq_opt_scan scan;
static const char *value;

#define START(...)                                                                                 \
	static char *argv[] = {"try", __VA_ARGS__, NULL};                                          \
	aq_opt_start(&scan, &verb, (int)(sizeof(argv) / sizeof(argv[0])) - 1, argv)

/* What the code under test says on stderr while @expression runs. */
#define SAID(expression)                                                                           \
	({                                                                                         \
		static char text_[4096];                                                           \
		FILE *file_ = tmpfile();                                                           \
		int saved_ = dup(STDERR_FILENO);                                                   \
		assert_non_null(file_);                                                            \
		dup2(fileno(file_), STDERR_FILENO);                                                \
		expression;                                                                        \
		dup2(saved_, STDERR_FILENO);                                                       \
		close(saved_);                                                                     \
		rewind(file_);                                                                     \
		text_[fread(text_, 1, sizeof(text_) - 1, file_)] = '\0';                           \
		fclose(file_);                                                                     \
		text_;                                                                             \
	})

static void test_opt__values_come_with_blank_or_equals(void **state)
{
	START("--gpu", "0.5", "--memory=20G", "-n5", "-n", "6");
	assert_int_equal(aq_opt_next(&scan, &value), AQ_OPT_GPU);
	assert_string_equal(value, "0.5");
	assert_int_equal(aq_opt_next(&scan, &value), AQ_OPT_MEMORY);
	assert_string_equal(value, "20G");
	assert_int_equal(aq_opt_next(&scan, &value), 'n');
	assert_string_equal(value, "5");
	assert_int_equal(aq_opt_next(&scan, &value), 'n');
	assert_string_equal(value, "6");
	assert_int_equal(aq_opt_next(&scan, &value), AQ_OPT_END);
}

static void test_opt__an_optional_value_must_be_glued_on(void **state)
{
	START("--wait", "30s", "--wait=5m");
	assert_int_equal(aq_opt_next(&scan, &value), AQ_OPT_WAIT);
	assert_null(value);
	assert_int_equal(aq_opt_next(&scan, &value), AQ_OPT_OPERAND);
	assert_string_equal(value, "30s");
	assert_int_equal(aq_opt_next(&scan, &value), AQ_OPT_WAIT);
	assert_string_equal(value, "5m");
}

static void test_opt__two_dashes_end_the_options(void **state)
{
	START("-q", "--", "--gpu", "-");
	assert_int_equal(aq_opt_next(&scan, &value), 'q');
	assert_int_equal(aq_opt_next(&scan, &value), AQ_OPT_OPERAND);
	assert_string_equal(value, "--gpu");
	assert_int_equal(aq_opt_next(&scan, &value), AQ_OPT_OPERAND);
	assert_string_equal(value, "-");
	assert_int_equal(aq_opt_next(&scan, &value), AQ_OPT_END);
}

static void test_opt__help_is_understood_everywhere(void **state)
{
	START("--help", "-h", "-qh");
	assert_int_equal(aq_opt_next(&scan, &value), AQ_OPT_HELP);
	assert_int_equal(aq_opt_next(&scan, &value), AQ_OPT_HELP);
	assert_int_equal(aq_opt_next(&scan, &value), 'q');
	assert_int_equal(aq_opt_next(&scan, &value), AQ_OPT_HELP);
	assert_int_equal(aq_opt_next(&scan, &value), AQ_OPT_END);
}

static void test_opt__no_abbreviations_but_a_hint(void **state)
{
	START("--mem=2", "--zzz", "-x", "--gpu");

	assert_string_equal(SAID(assert_int_equal(aq_opt_next(&scan, &value), -EINVAL)),
			    "aliquot: try: unknown option '--mem': did you mean --memory?\n");
	assert_string_equal(SAID(assert_int_equal(aq_opt_next(&scan, &value), -EINVAL)),
			    "aliquot: try: unknown option '--zzz': see 'aliquot try --help'\n");
	assert_string_equal(SAID(assert_int_equal(aq_opt_next(&scan, &value), -EINVAL)),
			    "aliquot: try: unknown option '-x': see 'aliquot try --help'\n");
	assert_string_equal(SAID(assert_int_equal(aq_opt_next(&scan, &value), -EINVAL)),
			    "aliquot: try: option '--gpu': needs a value: --gpu F\n");
}

static void test_opt__a_flag_takes_no_value(void **state)
{
	START("--quiet=yes");
	assert_string_equal(SAID(assert_int_equal(aq_opt_next(&scan, &value), -EINVAL)),
			    "aliquot: try: option '--quiet': takes no value\n");
}

static void test_opt__complaints_stay_one_line(void **state)
{
	START("--a\nb\033[2J");
	assert_string_equal(SAID(aq_opt_next(&scan, &value)),
			    "aliquot: try: unknown option '--a?b?[2J': see 'aliquot try --help'\n");
}

static void test_nearest__prefix_swap_and_slip(void **state)
{
	static const char *const words[] = {"run", "resize", "resume", "devices", "ps", NULL};

	assert_string_equal(aq_opt_nearest("dev", words), "devices");
	assert_string_equal(aq_opt_nearest("rn", words), "run");
	assert_string_equal(aq_opt_nearest("rezise", words), "resize");
	assert_string_equal(aq_opt_nearest("deivces", words), "devices");
	assert_string_equal(aq_opt_nearest("sp", words), "ps");
	assert_null(aq_opt_nearest("frobnicate", words));
	assert_null(aq_opt_nearest("", words));
	assert_null(aq_opt_nearest("x", words));
	assert_null(aq_opt_nearest("a-word-that-is-longer-than-any-table-of-slips-has", words));
}

static size_t longest_line(const char *text)
{
	size_t longest = 0;

	while (*text) {
		size_t n = strcspn(text, "\n");

		longest = n > longest ? n : longest;
		text += n + (text[n] == '\n');
	}
	return longest;
}

static void test_help__fits_80_columns_and_names_every_option(void **state)
{
	for (size_t i = 0; aq_verbs[i]; i++) {
		char text[8192] = "";
		FILE *out = fmemopen(text, sizeof(text), "w");

		aq_opt_help(aq_verbs[i], out);
		fclose(out);
		if (longest_line(text) > 80)
			fail_msg("help of %s is wider than 80:\n%s", aq_verbs[i]->name, text);
		for (const struct aq_opt *o = aq_verbs[i]->opts; o && o->name; o++)
			if (o->help && !strstr(text, o->name))
				fail_msg("help of %s lacks --%s", aq_verbs[i]->name, o->name);
		assert_non_null(strstr(text, "Usage: aliquot "));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_opt__values_come_with_blank_or_equals),
		cmocka_unit_test(test_opt__an_optional_value_must_be_glued_on),
		cmocka_unit_test(test_opt__two_dashes_end_the_options),
		cmocka_unit_test(test_opt__help_is_understood_everywhere),
		cmocka_unit_test(test_opt__no_abbreviations_but_a_hint),
		cmocka_unit_test(test_opt__a_flag_takes_no_value),
		cmocka_unit_test(test_opt__complaints_stay_one_line),
		cmocka_unit_test(test_nearest__prefix_swap_and_slip),
		cmocka_unit_test(test_help__fits_80_columns_and_names_every_option),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
