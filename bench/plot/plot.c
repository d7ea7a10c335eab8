/* SPDX-License-Identifier: Apache-2.0 */
/* Draws values over values. Decides nothing about what is worth drawing. */
#include "plot/plot.h"

#include <errno.h>
#include <math.h>

#include "base/cleanup.h"
#include "plot/svg.h"
#include "base/banned.h"

struct range {
	double min, max;
};

static void widen(struct range *r, double value, bool log)
{
	if (!isfinite(value) || (log && value <= 0))
		return;
	if (!(r->min <= value))
		r->min = value;
	if (!(r->max >= value))
		r->max = value;
}

static bool drawable(const struct aq_plot *p, double x, double y)
{
	return isfinite(x) && isfinite(y) && (!p->x.log || x > 0) && (!p->y.log || y > 0);
}

/* NAN in both when there is nothing. Horizontal bounds belong to what must be seen. */
static void ranges_of(const struct aq_plot *p, struct range *x, struct range *y)
{
	*x = *y = (struct range){NAN, NAN};
	for (size_t i = 0; i < p->series_count; i++) {
		for (size_t k = 0; k < p->series[i].count; k++) {
			if (!drawable(p, p->series[i].x[k], p->series[i].y[k]))
				continue;
			widen(x, p->series[i].x[k], p->x.log);
			widen(y, p->series[i].y[k], p->y.log);
		}
	}
	if (isnan(x->min))
		return;
	for (size_t i = 0; i < p->rule_count; i++)
		widen(p->rules[i].vertical ? x : y, p->rules[i].at,
		      p->rules[i].vertical ? p->x.log : p->y.log);
}

struct canvas {
	const struct aq_plot *plot;
	struct aq_svg g;
	struct aq_svg_scale x, y;
};

static void draw_line(struct canvas *c, size_t i)
{
	const struct aq_plot_series *s = &c->plot->series[i];
	double last_y = 0;
	bool pen = false;

	fprintf(c->g.out,
		"<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\" stroke-linejoin=\"round\" "
		"stroke-dasharray=\"%s\" d=\"",
		aq_svg_colour(i), aq_svg_dashes(i));
	for (size_t k = 0; k < s->count; k++) {
		double x, y;

		if (!drawable(c->plot, s->x[k], s->y[k])) {
			pen = false;
			continue;
		}
		x = aq_svg_at(&c->x, s->x[k]);
		y = aq_svg_at(&c->y, s->y[k]);
		if (pen && s->style == AQ_PLOT_STEPS)
			fprintf(c->g.out, "L%.1f %.1f", x, last_y);
		fprintf(c->g.out, "%c%.1f %.1f", pen ? 'L' : 'M', x, y);
		last_y = y;
		pen = true;
	}
	fputs("\"/>\n", c->g.out);
}

static void draw_dots(struct canvas *c, size_t i)
{
	const struct aq_plot_series *s = &c->plot->series[i];
	bool small = s->style == AQ_PLOT_DOTS;
	size_t every = s->count / AQ_PLOT_DOTS_MOST + 1;

	for (size_t k = 0; k < s->count; k += every)
		if (drawable(c->plot, s->x[k], s->y[k]))
			aq_svg_marker(&c->g, i, aq_svg_at(&c->x, s->x[k]),
				      aq_svg_at(&c->y, s->y[k]), small ? 2.2 : 4, small);
}

static void draw_rule(struct canvas *c, const struct aq_plot_rule *rule)
{
	const struct aq_svg *g = &c->g;
	double at = aq_svg_at(rule->vertical ? &c->x : &c->y, rule->at);
	bool leftwards = rule->vertical && at > (g->left + g->right) / 2;

	if (!isfinite(at))
		return;
	fprintf(g->out,
		"<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#b00020\" "
		"stroke-width=\"1.5\" stroke-dasharray=\"5 4\"/>\n<text x=\"%.1f\" y=\"%.1f\" "
		"font-size=\"12\" text-anchor=\"%s\" fill=\"#b00020\" stroke=\"#fff\" "
		"stroke-width=\"3\" paint-order=\"stroke\">",
		rule->vertical ? at : g->left, rule->vertical ? g->top : at,
		rule->vertical ? at : g->right, rule->vertical ? g->bottom : at,
		!rule->vertical ? g->left + 8 : leftwards ? at - 6 : at + 6,
		rule->vertical ? g->bottom - 10 : at - 6, leftwards ? "end" : "start");
	aq_svg_text(g->out, rule->label);
	fputs("</text>\n", g->out);
}

static void draw_series(struct canvas *c)
{
	const struct aq_svg *g = &c->g;

	/* A nested image cuts off at its edges, and needs no identifier that could collide. */
	fprintf(g->out,
		"<svg x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" viewBox=\"%.1f %.1f "
		"%.1f %.1f\" overflow=\"hidden\">\n",
		g->left, g->top - 5, g->right - g->left + 5, g->bottom - g->top + 5, g->left,
		g->top - 5, g->right - g->left + 5, g->bottom - g->top + 5);
	for (size_t i = 0; i < c->plot->series_count; i++)
		if (c->plot->series[i].style == AQ_PLOT_DOTS)
			draw_dots(c, i);
	for (size_t i = 0; i < c->plot->series_count; i++) {
		if (c->plot->series[i].style != AQ_PLOT_DOTS)
			draw_line(c, i);
		if (c->plot->series[i].style == AQ_PLOT_MARKED)
			draw_dots(c, i);
	}
	fputs("</svg>\n", g->out);
}

int aq_plot_write(const struct aq_plot *p, FILE *out)
{
	const char *names[AQ_PLOT_SERIES];
	bool dots[AQ_PLOT_SERIES];
	struct canvas c = {.plot = p};
	struct range x, y;

	for (size_t i = 0; i < p->series_count; i++) {
		names[i] = p->series[i].name;
		dots[i] = p->series[i].style == AQ_PLOT_DOTS;
	}
	aq_svg_begin(&c.g, out, p->title, p->subtitle, names, dots, p->series_count);
	ranges_of(p, &x, &y);
	if (isnan(x.min)) {
		fprintf(out, "<text x=\"%g\" y=\"%g\" text-anchor=\"middle\" fill=\"#777\">no data"
			     "</text>\n", AQ_SVG_WIDTH / 2, AQ_SVG_HEIGHT / 2);
		aq_svg_end(&c.g);
		return -ENODATA;
	}
	aq_svg_scale_init(&c.x, &p->x, x.min, x.max, c.g.left, c.g.right);
	aq_svg_scale_init(&c.y, &p->y, y.min, y.max, c.g.bottom, c.g.top);
	aq_svg_axis_y(&c.g, &c.y, p->y.label);
	aq_svg_axis_x(&c.g, &c.x, p->x.label);
	draw_series(&c);
	for (size_t i = 0; i < p->rule_count; i++)
		draw_rule(&c, &p->rules[i]);
	return aq_svg_end(&c.g);
}

int aq_plot_save(const struct aq_plot *p, const char *path)
{
	AQ_CLEANUP(fclose) FILE *out = fopen(path, "we");

	return out ? aq_plot_write(p, out) : -errno;
}
