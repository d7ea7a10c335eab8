/* SPDX-License-Identifier: Apache-2.0 */
/* What all kinds of plots share: the frame, text, scales and ticks. Of this module alone. */
#ifndef AQ_PLOT_SVG_H
#define AQ_PLOT_SVG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "plot/plot.h"

#define AQ_SVG_WIDTH 800.0
#define AQ_SVG_HEIGHT 470.0
#define AQ_SVG_TICKS 24

struct aq_svg_scale {
	double min, max;   /* min < max; both above 0 if log */
	bool log;
	double from, to;   /* pixels; y: from > to */
	double tick[AQ_SVG_TICKS];
	size_t ticks;
	int decimals;      /* of the ticks' numbers */
};

struct aq_svg {
	FILE *out;
	double left, top, right, bottom; /* of the area that is drawn into */
};

const char *aq_svg_colour(size_t series);
const char *aq_svg_dashes(size_t series); /* value of stroke-dasharray */

/* @text with what XML gives a meaning escaped; control bytes become blanks. */
void aq_svg_text(FILE *out, const char *text);

/* The scale from data or as the axis says, and its ticks. A single value gets room around it. */
void aq_svg_scale_init(struct aq_svg_scale *s, const struct aq_plot_axis *axis, double data_min,
		       double data_max, double from, double to);
double aq_svg_at(const struct aq_svg_scale *s, double value);

/* `12,500`, `0.25`. @buf of 40. Returns @buf. */
char *aq_svg_number(double value, int decimals, char *buf);

/**
 * aq_svg_begin() - background, title, subtitle and legend; sets the area below them.
 * @names: of the legend, NULL ones left out; @dots: which are drawn as dots; may be NULL
 */
void aq_svg_begin(struct aq_svg *g, FILE *out, const char *title, const char *subtitle,
		  const char *const *names, const bool *dots, size_t count);
void aq_svg_axis_y(struct aq_svg *g, const struct aq_svg_scale *s, const char *label);
void aq_svg_axis_x(struct aq_svg *g, const struct aq_svg_scale *s, const char *label);
void aq_svg_marker(struct aq_svg *g, size_t series, double x, double y, double size, bool faint);

/* Return: 0 or -EIO. */
int aq_svg_end(struct aq_svg *g);

#endif /* AQ_PLOT_SVG_H */
