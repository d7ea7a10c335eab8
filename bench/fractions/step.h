/* SPDX-License-Identifier: Apache-2.0 */
/* One step: load on all replicas of a setup for one window; and searches, which are many steps. */
#ifndef AQ_FRACTIONS_STEP_H
#define AQ_FRACTIONS_STEP_H

#include "fractions/cases.h"
#include "fractions/search.h"

/* Start all parts of a setup, one after the other. Return: as fr_stage_add(). */
int fr_setup_start(struct fr_run *run, const struct fr_setup *s);

/**
 * fr_step_measure() - one window with @users of a part of weight 1.
 * Adds the step's row, and before it one for each part that has a role.
 * Return: 0, also when requests failed; -ECHILD a server ended, its failures are in the row;
 *         other negative errno: nothing was added
 */
int fr_step_measure(struct fr_run *run, const struct fr_setup *s, uint32_t users,
		    struct fr_step *ret_step);

/* The same with a plan of its own for each part, for @window_ns. @users: of all, at the most. */
int fr_step_plans(struct fr_run *run, const struct fr_setup *s, const char *const *plans,
		  uint32_t users, uint64_t window_ns, struct fr_row *ret_row);

/**
 * fr_setup_search() - the most users within the bound, and the answer's rows.
 * @first: of a part of weight 1
 * Return: 0; as fr_step_measure(), with the answer of what was measured before
 */
int fr_setup_search(struct fr_run *run, const struct fr_setup *s, uint32_t first, double precision);

/* The rows of the step that begins at index @step become answers. Return: 0 or -ENOMEM. */
int fr_setup_answer(struct fr_run *run, const struct fr_setup *s, size_t step);

/* What a row says of how it was measured: model and host are the caller's. */
struct fr_row fr_row_of(const struct fr_run *run, const char *name);

/* The line of a row, unless --quiet. */
void fr_row_say(const struct fr_run *run, const struct fr_row *row);

double fr_step_seconds(const struct fr_run *run, bool steady);
double fr_run_seconds_left(const struct fr_run *run); /* of --limit */

#endif /* AQ_FRACTIONS_STEP_H */
