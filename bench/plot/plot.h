/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plots for reports, as SVG: lines, steps, dots and bars, with axes, ticks, legend and bounds.
 * No fonts, scripts or files are referred to: a plot is complete in itself and prints well.
 * Colours are those of Okabe and Ito, which people with any colour vision tell apart; lines differ
 * in their dashes and dots in their shape, too.
 */
#ifndef AQ_PLOT_H
#define AQ_PLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define AQ_PLOT_SERIES 7 /* as many colours as there are */
#define AQ_PLOT_RULES 4
#define AQ_PLOT_DOTS_MOST 6000 /* of a series; of more, an even choice is drawn */

enum aq_plot_style {
	AQ_PLOT_LINE,
	AQ_PLOT_MARKED, /* a line with a dot at every value */
	AQ_PLOT_STEPS,  /* the value holds until the next one */
	AQ_PLOT_DOTS,   /* small, see-through */
};

struct aq_plot_series {
	const char *name;     /* in the legend; NULL: not there */
	const double *x, *y;  /* pairs; one that is not finite, or not above 0 on a log axis, is
			       * left out and breaks the line */
	size_t count;
	enum aq_plot_style style;
};

struct aq_plot_axis {
	const char *label; /* with the unit: "time to first token (ms)" */
	bool log;
	bool bounded;      /* min and max are used as they are, else zero and the data's */
	double min, max;
};

/* A line across: a bound, or a moment. */
struct aq_plot_rule {
	const char *label;
	double at;
	bool vertical; /* at this x, else at this y */
};

struct aq_plot {
	const char *title, *subtitle; /* subtitle: what was measured, and how; NULL none */
	struct aq_plot_axis x, y;
	struct aq_plot_series series[AQ_PLOT_SERIES];
	size_t series_count;
	struct aq_plot_rule rules[AQ_PLOT_RULES];
	size_t rule_count;
};

/* Return: 0; -EIO; -ENODATA nothing to draw (an empty frame that says so is written) */
int aq_plot_write(const struct aq_plot *p, FILE *out);

/* The same into a file. Return: as above, or negative errno of opening it. */
int aq_plot_save(const struct aq_plot *p, const char *path);

/* Groups of bars beside each other, one of each series in each group. */
struct aq_bars {
	const char *title, *subtitle;
	const char *y_label;
	const char *const *groups; /* names below; a newline begins a second line */
	size_t group_count;
	const char *const *series; /* names in the legend */
	size_t series_count;       /* up to AQ_PLOT_SERIES */
	const double *values;      /* group by group; not finite: no bar */
	int decimals;              /* of the numbers on the bars; negative: no numbers */
};

int aq_bars_write(const struct aq_bars *b, FILE *out);
int aq_bars_save(const struct aq_bars *b, const char *path);

#endif /* AQ_PLOT_H */
