/* SPDX-License-Identifier: Apache-2.0 */
/* What was measured, as rows: the answer of each case, and every step on the way. */
#ifndef AQ_FRACTIONS_ROWS_H
#define AQ_FRACTIONS_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include "fractions/config.h"
#include "fractions/host.h"
#include "fractions/load.h"

#define FR_CASE_BYTES 64

/* One step: so many users for one window. Also the answer of a case, at the users it found. */
struct fr_row {
	char name[FR_CASE_BYTES]; /* of the case */
	const char *model;
	uint32_t replicas;	 /* on one device */
	uint32_t permille;	 /* of a device, each replica */
	const char *arbitration; /* `aliquot` or `hardware` */
	uint32_t users;		 /* of all replicas together */
	bool within;		 /* every first token within the bound, and no failure */
	struct fr_result result;
	struct fr_host_use host;
	/* What it was measured with. */
	char device[96]; /* as a server called it */
	uint32_t isl, osl;
	double bound_ms;
	bool simulated;
};

struct fr_rows {
	struct fr_row *rows;
	size_t count, room;
};

/* What a person has to know beside the rows: what did not fit, what was skipped. */
struct fr_notes {
	char **lines;
	size_t count;
};

/* Return: 0 or -ENOMEM. */
int fr_rows_add(struct fr_rows *r, const struct fr_row *row);
void fr_rows_finish(struct fr_rows *r);
int fr_notes_add(struct fr_notes *n, const char *format, ...) __attribute__((format(printf, 2, 3)));
void fr_notes_finish(struct fr_notes *n);

/* The row of a case, or NULL. */
const struct fr_row *fr_rows_find(const struct fr_rows *r, const char *name);

/* The step of a case with these users, or NULL. */
const struct fr_row *fr_rows_at(const struct fr_rows *steps, const char *name, uint32_t users);

/**
 * fr_rows_json() - an array; what could not be measured is null.
 * @steps: add what only steps have: failed, ttft_max_ms, within_bound and more.
 * Answers say 0 users_within_bound where not even the fewest tried were within it.
 */
json_t *fr_rows_json(const struct fr_rows *r, bool steps);

/* The same fields as the answers' JSON, a row a line. Return: 0 or -EIO. */
int fr_rows_csv(const struct fr_rows *r, FILE *out);

#endif /* AQ_FRACTIONS_ROWS_H */
