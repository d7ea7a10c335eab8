/* SPDX-License-Identifier: Apache-2.0 */
/* Draws groups of bars from zero. */
#include "plot/plot.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/cleanup.h"
#include "plot/svg.h"
#include "base/banned.h"

#define GROUP_PART 0.76 /* of a group's width that bars take */
#define NUMBER_ROOM 26  /* pixels that a bar must be wide to carry its number */

static void draw_bar(struct aq_svg *g, const struct aq_bars *b, const struct aq_svg_scale *y,
		     size_t group, size_t series)
{
	double value = b->values[group * b->series_count + series];
	double width = (g->right - g->left) / (double)b->group_count;
	double bar = width * GROUP_PART / (double)b->series_count;
	double x = g->left + width * ((double)group + (1 - GROUP_PART) / 2) + bar * (double)series;
	char number[40];
	double top;

	if (!isfinite(value))
		return;
	top = aq_svg_at(y, value);
	fprintf(g->out,
		"<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n",
		x + 1, top, bar - 2 > 1 ? bar - 2 : 1, g->bottom - top, aq_svg_colour(series));
	if (b->decimals < 0 || bar < NUMBER_ROOM)
		return;
	fprintf(g->out,
		"<text x=\"%.1f\" y=\"%.1f\" font-size=\"11\" text-anchor=\"middle\">%s</text>\n",
		x + bar / 2, top - 4, aq_svg_number(value, b->decimals, number));
}

/* Up to two lines below the group. */
static void draw_name(struct aq_svg *g, const struct aq_bars *b, size_t group)
{
	const char *name = b->groups[group];
	double width = (g->right - g->left) / (double)b->group_count;
	double x = g->left + width * ((double)group + 0.5), y = g->bottom + 18;

	while (*name) {
		size_t n = strcspn(name, "\n");
		char line[96];

		snprintf(line, sizeof(line), "%.*s", (int)n, name);
		fprintf(g->out,
			"<text x=\"%.1f\" y=\"%.1f\" font-size=\"12\" text-anchor=\"middle\">", x,
			y);
		aq_svg_text(g->out, line);
		fputs("</text>\n", g->out);
		y += 15;
		name += n + (name[n] == '\n');
	}
}

/* The legend shows dots in the bars' colours. */
static void begin(struct aq_svg *g, const struct aq_bars *b, FILE *out)
{
	bool dots[AQ_PLOT_SERIES];

	for (size_t i = 0; i < AQ_PLOT_SERIES; i++)
		dots[i] = true;
	aq_svg_begin(g, out, b->title, b->subtitle, b->series, dots,
		     b->series_count > 1 ? b->series_count : 0);
}

int aq_bars_write(const struct aq_bars *b, FILE *out)
{
	struct aq_plot_axis axis = {.label = b->y_label};
	struct aq_svg_scale y;
	struct aq_svg g;
	double most = 0;

	if (!b->series_count || b->series_count > AQ_PLOT_SERIES)
		return -EINVAL;
	begin(&g, b, out);
	for (size_t i = 0; i < b->group_count * b->series_count; i++)
		if (isfinite(b->values[i]) && b->values[i] > most)
			most = b->values[i];
	aq_svg_scale_init(&y, &axis, 0, most, g.bottom, g.top);
	aq_svg_axis_y(&g, &y, b->y_label);
	for (size_t i = 0; i < b->group_count; i++) {
		for (size_t k = 0; k < b->series_count; k++)
			draw_bar(&g, b, &y, i, k);
		draw_name(&g, b, i);
	}
	fprintf(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#444\"/>\n",
		g.left, g.bottom, g.right, g.bottom);
	return aq_svg_end(&g);
}

int aq_bars_save(const struct aq_bars *b, const char *path)
{
	AQ_CLEANUP(fclose) FILE *out = fopen(path, "we");

	return out ? aq_bars_write(b, out) : -errno;
}
