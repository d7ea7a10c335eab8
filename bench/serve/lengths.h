/* SPDX-License-Identifier: Apache-2.0 */
/* How long prompts and answers are: distributions, or pairs from a file. */
#ifndef AQ_SERVE_LENGTHS_H
#define AQ_SERVE_LENGTHS_H

#include <stddef.h>
#include <stdint.h>

#include "serve/random.h"

#define AQ_LENGTH_MAX 1000000u /* tokens; longer than any model's context */

enum aq_dist_kind { AQ_DIST_FIXED, AQ_DIST_UNIFORM, AQ_DIST_NORMAL, AQ_DIST_LOGNORMAL };

struct aq_dist {
	enum aq_dist_kind kind;
	double a, b; /* value; lowest, highest; mean, deviation; mean, deviation (of the lengths) */
};

/**
 * aq_dist_parse() - `512`, `uniform:100:900`, `normal:512:128`, `lognormal:512:300`.
 * Numbers are 1 to AQ_LENGTH_MAX, a deviation may be 0; lowest <= highest.
 * Return: 0; -EINVAL not one of them; -ERANGE a number that is too small or large
 */
int aq_dist_parse(const char *text, struct aq_dist *ret_dist);

/* Tokens, 1 to AQ_LENGTH_MAX: what falls outside is moved to the nearer end. */
uint32_t aq_dist_draw(const struct aq_dist *d, struct aq_random *r);

/* What aq_dist_parse() would read. @buf of 64. Returns @buf. */
char *aq_dist_format(const struct aq_dist *d, char *buf);

/* Pairs of prompt and answer as they occurred together. */
struct aq_lengths {
	size_t count;
	uint32_t (*pair)[2];
};

/**
 * aq_lengths_parse() - lines of `ISL,OSL` or `ISL OSL`; empty lines and `#...` are left out, and so
 * is a first line without digits (a heading).
 * @ret_line: the line at fault, from 1
 * Return: 0; -EINVAL bad line; -ENODATA no pair at all; -ENOMEM
 * Owns: aq_lengths_finish()
 */
int aq_lengths_parse(const char *text, struct aq_lengths *ret_lengths, size_t *ret_line);
void aq_lengths_finish(struct aq_lengths *l);

#endif /* AQ_SERVE_LENGTHS_H */
