/* SPDX-License-Identifier: Apache-2.0 */
/* Moves demand between two models. */
#include "fractions/shift.h"

#include <stdio.h>

#include "base/timing.h"
#include "fractions/step.h"
#include "base/banned.h"

#define MANY 0.7 /* of the users that a whole GPU serves: more than a half can, and a whole well   \
		  */

static int measure(struct fr_run *run, const struct fr_setup *s, uint32_t whole)
{
	uint64_t half_ms = run->config->window_ns / AQ_NS_PER_MS;
	uint32_t many = fr_users_of(MANY, whole);
	char first[48], second[48];
	const char *plans[] = {first, second};
	struct fr_row row;
	int r;

	/* Not even one user of the other: in a closed loop one keeps a model at work all the time.
	 */
	snprintf(first, sizeof(first), "%u/0@%llums", many, (unsigned long long)half_ms);
	snprintf(second, sizeof(second), "0/%u@%llums", many, (unsigned long long)half_ms);
	r = fr_setup_start(run, s);
	if (!r)
		r = fr_step_plans(run, s, plans, many, 2 * half_ms * AQ_NS_PER_MS, &row);
	if (!r)
		r = fr_setup_answer(run, s, run->steps.count - s->count - 1);
	fr_stage_clear(&run->stage);
	return r;
}

int fr_shift_measure(struct fr_run *run, uint32_t whole)
{
	const struct fr_config *c = run->config;
	struct fr_setup s = {.name = "shift-static",
			     .count = 2,
			     .role = {"first", "second"},
			     .weight = {1, 1},
			     .parts = {{.model = c->model, .permille = 500, .capped = true},
				       {.model = c->small_model, .permille = 500, .capped = true}}};
	int r = measure(run, &s, whole);

	s.name = "shift-dynamic";
	s.parts[0].capped = s.parts[1].capped = false;
	if (!r)
		r = measure(run, &s, whole);
	if (r || c->quick)
		return r;
	s.name = "shift-priority";
	s.parts[0].priority = "high";
	return measure(run, &s, whole);
}
