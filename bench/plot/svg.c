/* SPDX-License-Identifier: Apache-2.0 */
/* The frame of a plot as SVG. Draws no data. */
#include "plot/svg.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/banned.h"

#define TITLE_SIZE 18
#define TEXT_SIZE 13
#define SMALL_SIZE 12
#define CHARACTER 0.56  /* of the size: mean width of Helvetica and its kin */
#define LEGEND_SWATCH 26
#define WANTED_TICKS 6
#define MAX_DECIMALS 6

/* Source: Okabe and Ito, "Color Universal Design" (2008); yellow is left out, too light on white. */
static const char *const colours[AQ_PLOT_SERIES] = {
	"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
};

static const char *const dashes[AQ_PLOT_SERIES] = {
	"none", "7 3", "2 3", "9 3 2 3", "4 2", "1 2", "12 4",
};

const char *aq_svg_colour(size_t series)
{
	return colours[series % AQ_PLOT_SERIES];
}

const char *aq_svg_dashes(size_t series)
{
	return dashes[series % AQ_PLOT_SERIES];
}

void aq_svg_text(FILE *out, const char *text)
{
	for (; *text; text++) {
		switch (*text) {
		case '&':
			fputs("&amp;", out);
			break;
		case '<':
			fputs("&lt;", out);
			break;
		case '>':
			fputs("&gt;", out);
			break;
		case '"':
			fputs("&quot;", out);
			break;
		default:
			fputc((unsigned char)*text < 0x20 ? ' ' : *text, out);
		}
	}
}

char *aq_svg_number(double value, int decimals, char *buf)
{
	char plain[40];
	size_t n, digits, k = 0;

	snprintf(plain, sizeof(plain), "%.*f", decimals, value == 0 ? 0.0 : value);
	n = strlen(plain);
	digits = strcspn(plain + (plain[0] == '-'), ".") + (plain[0] == '-');
	if (fabs(value) >= 1e15) {
		snprintf(buf, 40, "%g", value);
		return buf;
	}
	for (size_t i = 0; i < n; i++) {
		if (i && i < digits && (digits - i) % 3 == 0 && plain[i - 1] != '-')
			buf[k++] = ',';
		buf[k++] = plain[i];
	}
	buf[k] = '\0';
	return buf;
}

/* 1, 2 or 5 times a power of ten, so that about WANTED_TICKS fit. */
static double nice_step(double span)
{
	double raw = span / WANTED_TICKS, power = pow(10, floor(log10(raw))), part = raw / power;

	return (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10) * power;
}

static void linear_ticks(struct aq_svg_scale *s)
{
	double step = nice_step(s->max - s->min);
	double first = ceil(s->min / step - 1e-9);

	s->decimals = (int)ceil(-log10(step) - 1e-9);
	s->decimals = s->decimals < 0 ? 0 : s->decimals > MAX_DECIMALS ? MAX_DECIMALS : s->decimals;
	for (size_t i = 0; i < AQ_SVG_TICKS; i++) {
		double at = (first + (double)i) * step;

		if (at > s->max + step * 1e-6)
			break;
		s->tick[s->ticks++] = at;
	}
}

/* Many over a short range, 1, 2, 5 over a middle one, only powers of ten over a long one. */
static void log_ticks(struct aq_svg_scale *s)
{
	static const double few[] = {1, 2, 5}, many[] = {1, 1.5, 2, 3, 4, 5, 6, 8};
	double decades = log10(s->max / s->min);
	int low = (int)floor(log10(s->min)), high = (int)ceil(log10(s->max));
	int every = decades > 12 ? 3 : 1;
	const double *parts = decades < 1.2 ? many : few;
	size_t count = decades < 1.2 ? AQ_ARRAY_SIZE(many) : decades > 3.5 ? 1 : AQ_ARRAY_SIZE(few);

	for (int e = low; e <= high; e += every) {
		for (size_t i = 0; i < count; i++) {
			double at = parts[i] * pow(10, e);

			if (at >= s->min * 0.999 && at <= s->max * 1.001 && s->ticks < AQ_SVG_TICKS)
				s->tick[s->ticks++] = at;
		}
	}
	s->decimals = -1; /* each as it needs */
}

static void add_room(struct aq_svg_scale *s, const struct aq_plot_axis *axis)
{
	double span;

	if (s->log) {
		s->min = s->min > 0 ? s->min : 1e-3;
		s->max = s->max > s->min ? s->max : s->min * 10;
		if (!axis->bounded) {
			s->min /= 1.1;
			s->max *= 1.15;
		}
		return;
	}
	span = s->max - s->min;
	if (!(span > fabs(s->max) * 1e-9)) {
		s->max += s->max ? fabs(s->max) * 0.1 : 1;
		s->min -= s->min ? fabs(s->min) * 0.1 : 0;
	} else if (!axis->bounded) {
		s->max += span * 0.06;
	}
	/* From zero, or differences look larger than they are. */
	if (!axis->bounded && s->min > 0)
		s->min = 0;
}

void aq_svg_scale_init(struct aq_svg_scale *s, const struct aq_plot_axis *axis, double data_min,
		       double data_max, double from, double to)
{
	*s = (struct aq_svg_scale){.min = axis->bounded ? axis->min : data_min,
				   .max = axis->bounded ? axis->max : data_max,
				   .log = axis->log,
				   .from = from,
				   .to = to};
	add_room(s, axis);
	if (s->log)
		log_ticks(s);
	else
		linear_ticks(s);
}

double aq_svg_at(const struct aq_svg_scale *s, double value)
{
	double part = s->log ? log(value / s->min) / log(s->max / s->min)
			     : (value - s->min) / (s->max - s->min);

	return s->from + part * (s->to - s->from);
}

static void text_at(struct aq_svg *g, double x, double y, int size, const char *anchor,
		    const char *more, const char *text)
{
	fprintf(g->out,
		"<text x=\"%.1f\" y=\"%.1f\" font-size=\"%d\" text-anchor=\"%s\"%s>", x, y, size,
		anchor, more);
	aq_svg_text(g->out, text);
	fputs("</text>\n", g->out);
}

static void swatch(struct aq_svg *g, size_t series, double x, double y, bool dots)
{
	if (dots)
		aq_svg_marker(g, series, x + 10, y - 4.5, 4, false);
	else
		fprintf(g->out,
			"<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" "
			"stroke-width=\"2.5\" stroke-dasharray=\"%s\"/>\n",
			x, y - 4.5, x + 21, y - 4.5, aq_svg_colour(series), aq_svg_dashes(series));
}

/* A row, or more if the names are long. */
static void legend(struct aq_svg *g, const char *const *names, const bool *dots, size_t count)
{
	double x = g->left, y = g->top + TEXT_SIZE;
	bool any = false;

	for (size_t i = 0; i < count; i++) {
		double width;

		if (!names[i])
			continue;
		width = LEGEND_SWATCH + (double)strlen(names[i]) * TEXT_SIZE * CHARACTER + 18;
		if (any && x + width > g->right) {
			x = g->left;
			y += TEXT_SIZE + 7;
		}
		swatch(g, i, x, y, dots && dots[i]);
		text_at(g, x + LEGEND_SWATCH, y, TEXT_SIZE, "start", "", names[i]);
		x += width;
		any = true;
	}
	if (any)
		g->top = y + 14;
}

void aq_svg_begin(struct aq_svg *g, FILE *out, const char *title, const char *subtitle,
		  const char *const *names, const bool *dots, size_t count)
{
	*g = (struct aq_svg){.out = out,
			     .left = 78,
			     .top = 44,
			     .right = AQ_SVG_WIDTH - 24,
			     .bottom = AQ_SVG_HEIGHT - 62};
	fprintf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" width=\"%g\" "
		"height=\"%g\" font-family=\"Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', "
		"sans-serif\" fill=\"#222\">\n<title>",
		AQ_SVG_WIDTH, AQ_SVG_HEIGHT, AQ_SVG_WIDTH, AQ_SVG_HEIGHT);
	aq_svg_text(out, title);
	fputs("</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n", out);
	text_at(g, 24, 30, TITLE_SIZE, "start", " font-weight=\"bold\"", title);
	if (subtitle) {
		text_at(g, 24, 50, TEXT_SIZE, "start", " fill=\"#555\"", subtitle);
		g->top = 62;
	}
	legend(g, names, dots, count);
}

/* Numbers of a log axis take the decimals that they need. */
static int decimals_of(const struct aq_svg_scale *s, double value)
{
	int needed;

	if (s->decimals >= 0)
		return s->decimals;
	needed = (int)ceil(-log10(value) - 1e-9);
	if (needed >= 0 && fabs(value * pow(10, needed) - round(value * pow(10, needed))) > 1e-6)
		needed++; /* 1.5, 0.015 */
	return needed < 0 ? 0 : needed > MAX_DECIMALS ? MAX_DECIMALS : needed;
}

void aq_svg_axis_y(struct aq_svg *g, const struct aq_svg_scale *s, const char *label)
{
	char number[40], more[96];

	for (size_t i = 0; i < s->ticks; i++) {
		double y = aq_svg_at(s, s->tick[i]);

		fprintf(g->out,
			"<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" "
			"stroke=\"#e3e3e3\"/>\n",
			g->left, y, g->right, y);
		aq_svg_number(s->tick[i], decimals_of(s, s->tick[i]), number);
		text_at(g, g->left - 8, y + 4.3, SMALL_SIZE, "end", "", number);
	}
	fprintf(g->out,
		"<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#444\"/>\n", g->left,
		g->top, g->left, g->bottom);
	snprintf(more, sizeof(more), " transform=\"rotate(-90 20 %.1f)\"", (g->top + g->bottom) / 2);
	text_at(g, 20, (g->top + g->bottom) / 2, TEXT_SIZE, "middle", more, label);
}

void aq_svg_axis_x(struct aq_svg *g, const struct aq_svg_scale *s, const char *label)
{
	char number[40];

	for (size_t i = 0; i < s->ticks; i++) {
		double x = aq_svg_at(s, s->tick[i]);

		fprintf(g->out,
			"<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" "
			"stroke=\"#444\"/>\n",
			x, g->bottom, x, g->bottom + 5);
		aq_svg_number(s->tick[i], decimals_of(s, s->tick[i]), number);
		text_at(g, x, g->bottom + 20, SMALL_SIZE, "middle", "", number);
	}
	fprintf(g->out,
		"<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#444\"/>\n", g->left,
		g->bottom, g->right, g->bottom);
	text_at(g, (g->left + g->right) / 2, g->bottom + 44, TEXT_SIZE, "middle", "", label);
}

/* Circle, square, triangle, diamond, in turn. */
void aq_svg_marker(struct aq_svg *g, size_t series, double x, double y, double size, bool faint)
{
	const char *colour = aq_svg_colour(series), *more = faint ? " fill-opacity=\"0.35\"" : "";

	switch (series % 4) {
	case 0:
		fprintf(g->out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" fill=\"%s\"%s/>\n", x,
			y, size, colour, more);
		break;
	case 1:
		fprintf(g->out,
			"<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
			"fill=\"%s\"%s/>\n",
			x - size * 0.9, y - size * 0.9, size * 1.8, size * 1.8, colour, more);
		break;
	case 2:
		fprintf(g->out, "<path d=\"M%.1f %.1fl%.1f %.1fh%.1fz\" fill=\"%s\"%s/>\n", x,
			y - size * 1.2, size * 1.2, size * 2.1, -size * 2.4, colour, more);
		break;
	default:
		fprintf(g->out,
			"<path d=\"M%.1f %.1fl%.1f %.1fl%.1f %.1fl%.1f %.1fz\" fill=\"%s\"%s/>\n",
			x, y - size * 1.3, size * 1.3, size * 1.3, -size * 1.3, size * 1.3,
			-size * 1.3, -size * 1.3, colour, more);
	}
}

int aq_svg_end(struct aq_svg *g)
{
	fputs("</svg>\n", g->out);
	return fflush(g->out) || ferror(g->out) ? -EIO : 0;
}
