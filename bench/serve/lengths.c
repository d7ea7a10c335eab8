/* SPDX-License-Identifier: Apache-2.0 */
/* Draws lengths. Opens no file: its text is handed in. */
#include "serve/lengths.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/banned.h"

static const struct {
	const char *name;
	enum aq_dist_kind kind;
} kinds[] = {
	{"uniform", AQ_DIST_UNIFORM},
	{"normal", AQ_DIST_NORMAL},
	{"lognormal", AQ_DIST_LOGNORMAL},
};

/* Digits and at most one point, at *@p; moves *@p behind them. */
static int take_number(const char **p, double low, double *ret_value)
{
	const char *text = *p;
	size_t n = strspn(text, "0123456789.");
	char *end;

	if (!n)
		return -EINVAL;
	*ret_value = strtod(text, &end);
	if (end != text + n)
		return -EINVAL;
	*p = end;
	return *ret_value < low || *ret_value > AQ_LENGTH_MAX ? -ERANGE : 0;
}

static int parse_pair(const char *p, struct aq_dist *d)
{
	int r = take_number(&p, 1, &d->a);

	if (r < 0)
		return r;
	if (*p++ != ':')
		return -EINVAL;
	r = take_number(&p, d->kind == AQ_DIST_UNIFORM ? 1 : 0, &d->b);
	if (r < 0)
		return r;
	if (*p)
		return -EINVAL;
	return d->kind == AQ_DIST_UNIFORM && d->b < d->a ? -ERANGE : 0;
}

int aq_dist_parse(const char *text, struct aq_dist *ret_dist)
{
	struct aq_dist d = {.kind = AQ_DIST_FIXED};
	int r;

	for (size_t i = 0; i < AQ_ARRAY_SIZE(kinds); i++) {
		size_t n = strlen(kinds[i].name);

		if (strncmp(text, kinds[i].name, n) || text[n] != ':')
			continue;
		d.kind = kinds[i].kind;
		r = parse_pair(text + n + 1, &d);
		if (!r)
			*ret_dist = d;
		return r;
	}
	r = take_number(&text, 1, &d.a);
	if (!r && *text)
		r = -EINVAL;
	if (!r)
		*ret_dist = d;
	return r;
}

/* The lengths have mean @mean and deviation @sd when their logarithms have these. */
static double draw_lognormal(double mean, double sd, struct aq_random *r)
{
	double variance = log(1 + sd * sd / (mean * mean));

	return exp(log(mean) - variance / 2 + sqrt(variance) * aq_random_normal(r));
}

uint32_t aq_dist_draw(const struct aq_dist *d, struct aq_random *r)
{
	double value = d->a;

	switch (d->kind) {
	case AQ_DIST_FIXED:
		break;
	case AQ_DIST_UNIFORM:
		value = floor(d->a + (d->b - d->a + 1) * aq_random_unit(r));
		break;
	case AQ_DIST_NORMAL:
		value = d->a + d->b * aq_random_normal(r);
		break;
	case AQ_DIST_LOGNORMAL:
		value = draw_lognormal(d->a, d->b, r);
		break;
	}
	value = round(value);
	if (!(value >= 1))
		return 1;
	return value > AQ_LENGTH_MAX ? AQ_LENGTH_MAX : (uint32_t)value;
}

char *aq_dist_format(const struct aq_dist *d, char *buf)
{
	if (d->kind == AQ_DIST_FIXED)
		snprintf(buf, 64, "%g", d->a);
	for (size_t i = 0; i < AQ_ARRAY_SIZE(kinds); i++)
		if (kinds[i].kind == d->kind)
			snprintf(buf, 64, "%s:%.15g:%.15g", kinds[i].name, d->a, d->b);
	return buf;
}

static const char *skip(const char *p, const char *what)
{
	return p + strspn(p, what);
}

/* Return: 1 a pair, 0 nothing in this line, -EINVAL. */
static int parse_line(const char *p, uint32_t pair[2])
{
	double value;

	p = skip(p, " \t\r");
	if (!*p || *p == '#')
		return 0;
	for (int i = 0; i < 2; i++) {
		if (take_number(&p, 1, &value) < 0)
			return -EINVAL;
		pair[i] = (uint32_t)value;
		p = skip(p, i ? " \t\r" : " \t,;");
	}
	return *p ? -EINVAL : 1;
}

static int add(struct aq_lengths *l, size_t *allocated, const uint32_t pair[2])
{
	if (l->count == *allocated) {
		size_t n = *allocated ? *allocated * 2 : 64;
		void *more = reallocarray(l->pair, n, sizeof(*l->pair));

		if (!more)
			return -ENOMEM;
		l->pair = more;
		*allocated = n;
	}
	memcpy(l->pair[l->count++], pair, sizeof(*l->pair));
	return 0;
}

int aq_lengths_parse(const char *text, struct aq_lengths *ret_lengths, size_t *ret_line)
{
	struct aq_lengths l = {.count = 0};
	AQ_CLEANUP(free) char *copy = strdup(text);
	char *rest = copy, *line;
	size_t allocated = 0, number = 0;
	uint32_t pair[2];
	int r = 0;

	if (!copy)
		return -ENOMEM;
	while (r >= 0 && (line = strsep(&rest, "\n"))) {
		number++;
		if (number == 1 && !strpbrk(line, "0123456789"))
			continue;
		r = parse_line(line, pair);
		if (r > 0)
			r = add(&l, &allocated, pair);
	}
	if (r >= 0 && !l.count)
		r = -ENODATA;
	if (r < 0) {
		*ret_line = number;
		aq_lengths_finish(&l);
		return r;
	}
	*ret_lengths = l;
	return 0;
}

void aq_lengths_finish(struct aq_lengths *l)
{
	free(l->pair);
	*l = (struct aq_lengths){.count = 0};
}
