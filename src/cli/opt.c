/* SPDX-License-Identifier: Apache-2.0 */
/* Reads options by table and prints their help. Does not know what any option means. */
#include "cli/opt.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/say.h"
#include "base/banned.h"

#define WORD_BYTES 32 /* longest word that slips are counted in */
#define MAX_OPTS 64
#define HELP_COLUMN 26

static const struct aq_opt help_opt = {
	"help", AQ_OPT_HELP, AQ_OPT_NONE, NULL, "print this", NULL,
};

static unsigned int min3(unsigned int a, unsigned int b, unsigned int c)
{
	unsigned int m = a < b ? a : b;

	return m < c ? m : c;
}

/* Letters inserted, dropped, exchanged or swapped with their neighbour (restricted Damerau). */
static unsigned int slips(const char *a, const char *b)
{
	unsigned int d[WORD_BYTES + 1][WORD_BYTES + 1];
	size_t n = strlen(a), m = strlen(b);

	if (n > WORD_BYTES || m > WORD_BYTES)
		return UINT_MAX;
	for (size_t i = 0; i <= n; i++)
		d[i][0] = (unsigned int)i;
	for (size_t j = 0; j <= m; j++)
		d[0][j] = (unsigned int)j;
	for (size_t i = 1; i <= n; i++) {
		for (size_t j = 1; j <= m; j++) {
			unsigned int other = a[i - 1] != b[j - 1];

			d[i][j] = min3(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + other);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    d[i - 2][j - 2] + 1 < d[i][j])
				d[i][j] = d[i - 2][j - 2] + 1;
		}
	}
	return d[n][m];
}

const char *aq_opt_nearest(const char *typed, const char *const *words)
{
	const char *best = NULL;
	size_t len = strlen(typed);
	unsigned int best_slips = len > 4 ? 3 : 2; /* at most two, one in a short word */

	for (; len && *words; words++) {
		unsigned int n;

		if (len > 1 && !strncmp(*words, typed, len))
			return *words;
		n = slips(typed, *words);
		if (n < best_slips) {
			best_slips = n;
			best = *words;
		}
	}
	return best;
}

void aq_opt_start(struct aq_opt_scan *s, const struct aq_verb *verb, int argc, char **argv)
{
	*s = (struct aq_opt_scan){.verb = verb, .argc = argc, .argv = argv, .at = 1};
}

static const struct aq_opt *find_long(const struct aq_verb *verb, const char *name, size_t len)
{
	for (const struct aq_opt *o = verb->opts; o && o->name; o++)
		if (strlen(o->name) == len && !strncmp(o->name, name, len))
			return o;
	return len == 4 && !strncmp(name, "help", len) ? &help_opt : NULL;
}

static const struct aq_opt *find_letter(const struct aq_verb *verb, char letter)
{
	for (const struct aq_opt *o = verb->opts; o && o->name; o++)
		if (o->id == letter)
			return o;
	return letter == AQ_OPT_HELP ? &help_opt : NULL;
}

static int complain_unknown(const struct aq_verb *verb, const char *arg, const char *name,
			    size_t len)
{
	const char *words[MAX_OPTS + 1] = {NULL};
	char typed[WORD_BYTES + 1];
	const char *near = NULL;
	size_t n = 0;

	for (const struct aq_opt *o = verb->opts; o && o->name && n < MAX_OPTS; o++)
		words[n++] = o->name;
	if (len <= WORD_BYTES) {
		memcpy(typed, name, len);
		typed[len] = '\0';
		near = aq_opt_nearest(typed, words);
	}
	if (near)
		aq_say("%s: unknown option '%.*s': did you mean --%s?", verb->name,
		       (int)(name - arg + (ptrdiff_t)len), arg, near);
	else
		aq_say("%s: unknown option '%.*s': see 'aliquot %s --help'", verb->name,
		       (int)(name - arg + (ptrdiff_t)len), arg, verb->name);
	return -EINVAL;
}

static int next_long(struct aq_opt_scan *s, const char *arg, const char **ret_value)
{
	const char *name = arg + 2;
	const char *equals = strchr(name, '=');
	size_t len = equals ? (size_t)(equals - name) : strlen(name);
	const struct aq_opt *o = find_long(s->verb, name, len);

	if (!o)
		return complain_unknown(s->verb, arg, name, len);
	if (equals && o->arg == AQ_OPT_NONE) {
		aq_say("%s: option '--%s': takes no value", s->verb->name, o->name);
		return -EINVAL;
	}
	*ret_value = equals ? equals + 1 : NULL;
	if (!equals && o->arg == AQ_OPT_VALUE) {
		if (s->at == s->argc) {
			aq_say("%s: option '--%s': needs a value: --%s %s", s->verb->name, o->name,
			       o->name, o->metavar);
			return -EINVAL;
		}
		*ret_value = s->argv[s->at++];
	}
	return o->id;
}

static int next_letter(struct aq_opt_scan *s, const char **ret_value)
{
	char letter = *s->cluster++;
	const struct aq_opt *o = find_letter(s->verb, letter);
	const char *rest = *s->cluster ? s->cluster : NULL;

	s->cluster = rest;
	if (!o) {
		aq_say("%s: unknown option '-%c': see 'aliquot %s --help'", s->verb->name, letter,
		       s->verb->name);
		return -EINVAL;
	}
	*ret_value = NULL;
	if (o->arg == AQ_OPT_NONE)
		return o->id;
	s->cluster = NULL;
	if (!rest && o->arg == AQ_OPT_VALUE) {
		if (s->at == s->argc) {
			aq_say("%s: option '-%c': needs a value: -%c %s", s->verb->name, letter,
			       letter, o->metavar);
			return -EINVAL;
		}
		rest = s->argv[s->at++];
	}
	*ret_value = rest;
	return o->id;
}

int aq_opt_next(struct aq_opt_scan *s, const char **ret_value)
{
	const char *arg;

	if (s->cluster)
		return next_letter(s, ret_value);
	if (s->at == s->argc)
		return AQ_OPT_END;
	arg = s->argv[s->at++];
	if (s->operands_only || arg[0] != '-' || !arg[1]) {
		*ret_value = arg;
		return AQ_OPT_OPERAND;
	}
	if (arg[1] != '-') {
		s->cluster = arg + 1;
		return next_letter(s, ret_value);
	}
	if (!arg[2]) {
		s->operands_only = true;
		return aq_opt_next(s, ret_value);
	}
	return next_long(s, arg, ret_value);
}

int aq_opt_unexpected(const struct aq_verb *verb, const char *operand)
{
	aq_say("%s: unexpected argument '%s': see 'aliquot %s --help'", verb->name, operand,
	       verb->name);
	return AQ_EXIT_USAGE;
}

static void help_row(const struct aq_opt *o, FILE *out)
{
	char left[64];
	int n = 0;

	if (!o->help)
		return;
	if (o->id < 128)
		n = snprintf(left, sizeof(left), "-%c, ", o->id);
	n += snprintf(left + n, sizeof(left) - (size_t)n, "--%s", o->name);
	if (o->arg == AQ_OPT_VALUE)
		snprintf(left + n, sizeof(left) - (size_t)n, " %s", o->metavar);
	else if (o->arg == AQ_OPT_MAYBE)
		snprintf(left + n, sizeof(left) - (size_t)n, "[=%s]", o->metavar);
	if (strlen(left) > HELP_COLUMN - 4)
		fprintf(out, "  %s\n%*s%s\n", left, HELP_COLUMN, "", o->help);
	else
		fprintf(out, "  %-*s%s\n", HELP_COLUMN - 2, left, o->help);
}

void aq_opt_help(const struct aq_verb *verb, FILE *out)
{
	fprintf(out, "aliquot %s - %s\n\n", verb->name, verb->summary);
	if (verb->examples)
		fprintf(out, "%s\n", verb->examples);
	fprintf(out, "Usage: aliquot %s %s\n", verb->name, verb->operands);
	for (const struct aq_opt *o = verb->opts; o && o->name; o++)
		help_row(o, out);
	help_row(&help_opt, out);
	if (verb->notes)
		fprintf(out, "\n%s", verb->notes);
}

void aq_opt_words(const struct aq_verb *verb, FILE *out)
{
	for (const struct aq_opt *o = verb->opts; o && o->name; o++)
		if (o->help)
			fprintf(out, "--%s%s%s%s\n", o->name, o->arg == AQ_OPT_MAYBE ? "=" : "",
				o->arg == AQ_OPT_VALUE ? " " : "", o->words ? o->words : "");
	fputs("--help\n", out);
}
