/* SPDX-License-Identifier: Apache-2.0 */
/* Plots: scales, numbers, and that odd data makes no odd files. */
#include "cm.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "plot/plot.h"
#include "plot/svg.h"

static void test_numbers__are_grouped(void **state)
{
	char buf[40];

	assert_string_equal(aq_svg_number(1234567, 0, buf), "1,234,567");
	assert_string_equal(aq_svg_number(123, 0, buf), "123");
	assert_string_equal(aq_svg_number(-1234.5, 1, buf), "-1,234.5");
	assert_string_equal(aq_svg_number(-123, 0, buf), "-123");
	assert_string_equal(aq_svg_number(-0.0, 1, buf), "0.0");
	assert_string_equal(aq_svg_number(1e300, 0, buf), "1e+300");
}

static void check_scale(double min, double max, bool log)
{
	const struct aq_plot_axis axis = {.log = log};
	struct aq_svg_scale s;

	aq_svg_scale_init(&s, &axis, min, max, 100, 700);
	assert_true(s.min < s.max);
	assert_true(s.min <= min && s.max >= max);
	assert_in_range(s.ticks, 2, AQ_SVG_TICKS);
	for (size_t i = 0; i < s.ticks; i++) {
		double at = aq_svg_at(&s, s.tick[i]);

		assert_true(at > 99.5 && at < 700.5);
		assert_true(!i || s.tick[i] > s.tick[i - 1]);
	}
}

static void test_scale__holds_the_data(void **state)
{
	check_scale(0, 1, false);
	check_scale(3, 97, false);
	check_scale(0, 0, false);
	check_scale(5, 5, false);
	check_scale(-3, 4, false);
	check_scale(0.001, 0.0013, false);
	check_scale(1e6, 3.3e6, false);
	check_scale(1, 1000, true);
	check_scale(0.01, 1e9, true);
	check_scale(1, 1e20, true);
	check_scale(3, 40, true);
}

static char *drawn(const struct aq_plot *p, int want)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_int_equal(aq_plot_write(p, out), want);
	fclose(out);
	assert_non_null(strstr(text, "</svg>\n"));
	assert_null(strstr(text, "nan"));
	assert_null(strstr(text, "inf"));
	return text;
}

static void test_plot__draws_what_is_finite(void **state)
{
	const double x[] = {1, 2, NAN, 4, INFINITY, 6}, y[] = {1, NAN, 3, 4, 5, -6};
	struct aq_plot p = {
		.title = "a < b & \"c\"",
		.x = {.label = "x (s)"},
		.y = {.label = "y (ms)"},
		.series = {{"line", x, y, 6, AQ_PLOT_LINE}, {"dots", x, y, 6, AQ_PLOT_DOTS},
			   {"steps", x, y, 6, AQ_PLOT_STEPS}, {NULL, x, y, 6, AQ_PLOT_MARKED}},
		.series_count = 4,
		.rules = {{"bound", 5, false}, {"then", 3, true}},
		.rule_count = 2,
	};
	char *text = drawn(&p, 0);

	assert_non_null(strstr(text, "a &lt; b &amp; &quot;c&quot;"));
	assert_non_null(strstr(text, "y (ms)"));
	assert_non_null(strstr(text, ">bound<"));
	free(text);
	p.x.log = p.y.log = true;
	free(drawn(&p, 0));
}

static void test_plot__says_that_there_is_nothing(void **state)
{
	struct aq_plot p = {.title = "t", .x = {.label = "x"}, .y = {.label = "y", .log = true}};
	const double x[] = {1}, y[] = {0};
	char *text = drawn(&p, -ENODATA);

	assert_non_null(strstr(text, "no data"));
	free(text);
	p.series[0] = (struct aq_plot_series){"zero on a log axis", x, y, 1, AQ_PLOT_LINE};
	p.series_count = 1;
	free(drawn(&p, -ENODATA));
}

static void test_bars__are_as_high_as_their_values(void **state)
{
	static const char *const groups[] = {"full\nGPU", "halves"}, *const series[] = {"a", "b"};
	const double values[] = {100, 50, NAN, 25};
	const struct aq_bars b = {"t", NULL, "tokens/s", groups, 2, series, 2, values, 0};
	char *text = NULL, *at;
	double height[3];
	size_t size, n = 0;
	FILE *out = open_memstream(&text, &size);

	assert_int_equal(aq_bars_write(&b, out), 0);
	fclose(out);
	assert_null(strstr(text, "nan"));
	/* The first rectangles are the background and the legend's square; bars have a width first. */
	for (at = text; (at = strstr(at, "<rect x=")); at++) {
		char *h = strstr(at, " height=\"");

		if (strtod(strstr(at, " width=\"") + 8, NULL) > 20 && n < 3)
			height[n++] = strtod(h + 9, NULL);
	}
	assert_int_equal(n, 3);
	assert_true(fabs(height[0] / height[1] - 2) < 0.02);
	assert_true(fabs(height[1] / height[2] - 2) < 0.02);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers__are_grouped),
		cmocka_unit_test(test_scale__holds_the_data),
		cmocka_unit_test(test_plot__draws_what_is_finite),
		cmocka_unit_test(test_plot__says_that_there_is_nothing),
		cmocka_unit_test(test_bars__are_as_high_as_their_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
