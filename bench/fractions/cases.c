/* SPDX-License-Identifier: Apache-2.0 */
/* Measures case after case. Writes no file; reports are made of what is in struct fr_run. */
#include "fractions/cases.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/timing.h"
#include "fractions/scale.h"
#include "fractions/search.h"
#include "fractions/shift.h"
#include "fractions/step.h"
#include "base/banned.h"

/* Tokens of prompts that a large card takes in a second: only the first guess depends on it. */
#define GUESS_TOKENS_PER_S 50000.0
#define PRECISION 0.05
#define PRECISION_QUICK 0.1
#define STARTING_S 1.0 /* what a replica takes to come up and go, on two cores */

struct equal_case {
	const char *name;
	bool small;
	uint32_t replicas, permille;
	bool plain, quick;
};

enum { main_model = false, small_model = true };

static const struct equal_case equal_cases[] = {
#define FR_CASE(name, model, replicas, permille, plain, quick)                                     \
	{name, model##_model, replicas, permille, plain, quick},
#include "fractions/cases.def"
#undef FR_CASE
};

static const char *const other_cases[] = {"mixed", "shift", "scale-out"};

bool fr_case_chosen(const char *list, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
		if (!strncmp(p, name, n) && (!p[n] || p[n] == ','))
			return true;
	return !list;
}

static bool known(const char *name, size_t n)
{
	for (size_t i = 0; i < sizeof(equal_cases) / sizeof(equal_cases[0]); i++)
		if (strlen(equal_cases[i].name) == n && !strncmp(equal_cases[i].name, name, n))
			return true;
	for (size_t i = 0; i < sizeof(other_cases) / sizeof(other_cases[0]); i++)
		if (strlen(other_cases[i]) == n && !strncmp(other_cases[i], name, n))
			return true;
	return false;
}

bool fr_cases_known(const char *list)
{
	for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
		if (!known(p, strcspn(p, ",")))
			return false;
	return true;
}

/* Users of the whole GPU's answer for this model; 0 not measured. */
static uint32_t whole_users(const struct fr_run *run, bool small)
{
	const struct fr_row *row = fr_rows_find(&run->answers, small ? "small-full" : "full");

	return row && row->within ? row->users : 0;
}

static uint32_t guess(const struct fr_run *run, bool small)
{
	const struct fr_config *c = run->config;
	double users = c->bound_ms / 1000 * GUESS_TOKENS_PER_S / c->isl * (small ? 1.6 : 1);

	if (c->first_users)
		return c->first_users;
	return (uint32_t)fmax(1, fmin(users, FR_USERS_MOST));
}

static double precision(const struct fr_run *run)
{
	return run->config->quick ? PRECISION_QUICK : PRECISION;
}

/* First try for a part: alone it has the whole device, whatever its memory. */
static uint32_t first_users(const struct fr_run *run, const struct equal_case *e)
{
	uint32_t whole = whole_users(run, e->small);
	uint32_t users = (whole ? whole : guess(run, e->small)) / e->replicas;

	return users ? users : 1;
}

static void set_equal(const struct fr_run *run, const struct equal_case *e, struct fr_setup *s)
{
	*s = (struct fr_setup){.name = e->name, .count = e->replicas};
	for (size_t i = 0; i < s->count; i++) {
		s->weight[i] = 1;
		s->parts[i] = (struct fr_part){.model = e->small ? run->config->small_model
								 : run->config->model,
					       .permille = e->permille,
					       .plain = e->plain};
	}
}

/* As many users of each model as the whole GPU had: what Dynamo calls equal concurrency. */
static int match_models(struct fr_run *run, const struct fr_setup *s, uint32_t whole)
{
	struct fr_step ignored;

	if (!whole || s->count < 2 || whole * s->count > FR_USERS_MOST ||
	    fr_rows_at(&run->steps, s->name, (uint32_t)(whole * s->count)) ||
	    fr_run_seconds_left(run) < fr_step_seconds(run))
		return 0;
	return fr_step_measure(run, s, whole, &ignored);
}

static int measure_equal(struct fr_run *run, const struct equal_case *e)
{
	struct fr_setup s;
	int r;

	set_equal(run, e, &s);
	r = fr_setup_start(run, &s);
	if (!r)
		r = fr_setup_search(run, &s, first_users(run, e), precision(run));
	if (!r)
		r = match_models(run, &s, whole_users(run, e->small));
	fr_stage_clear(&run->stage);
	return r;
}

/* Seconds that a case may take. */
static double seconds_of(const struct fr_run *run, size_t parts, double steps)
{
	return STARTING_S * (double)(parts + 1) + steps * fr_step_seconds(run);
}

static bool chosen(struct fr_run *run, const char *name, bool quick, double seconds)
{
	const struct fr_config *c = run->config;

	if (!fr_case_chosen(c->cases, name))
		return false;
	if (c->quick && !quick && !c->cases) {
		fr_notes_add(&run->notes, "%s: left out by --quick", name);
		return false;
	}
	if (seconds <= fr_run_seconds_left(run))
		return true;
	fr_notes_add(&run->notes, "%s: left out, no time is left for it", name);
	return false;
}

/* A case that cannot be measured is no reason to drop the others. */
static int settle(struct fr_run *run, const char *name, int r)
{
	if (!r || r == -EINTR)
		return r;
	fr_notes_add(&run->notes, "%s: %s%s", name,
		     r == -ENOSPC ? "does not fit: " : "not measured: ",
		     run->stage.why[0] ? run->stage.why : strerror(-r));
	if (!run->config->quiet)
		printf("%-22s %s\n", name,
		       run->notes.lines[run->notes.count - 1] + strlen(name) + 2);
	run->failed |= r != -ENOSPC;
	run->stage.why[0] = '\0';
	return 0;
}

/* Three different models: on one GPU, and on a GPU each. */
static int measure_mixed(struct fr_run *run)
{
	const struct fr_config *c = run->config;
	struct fr_setup s = {.name = "mixed",
			     .count = 3,
			     .parts = {{.model = c->model, .permille = 500},
				       {.model = c->small_model, .permille = 250},
				       {.model = c->embedding_model, .permille = 125}},
			     .weight = {1, 1, 0.5},
			     .role = {"chat", "small-chat", "embeddings"},
			     .embeddings = {false, false, true}};
	uint32_t whole = whole_users(run, false), users;
	const struct fr_row *answer;
	struct fr_step step;
	int r = fr_setup_start(run, &s);

	if (!r)
		r = fr_setup_search(run, &s, (whole ? whole : guess(run, false)) / 3 + 1,
				    precision(run));
	fr_stage_clear(&run->stage);
	answer = fr_rows_find(&run->answers, "mixed/chat");
	if (r || !answer)
		return r;
	if (!c->sim) {
		fr_notes_add(&run->notes,
			     "mixed-apart: one model per GPU takes three GPUs, which are "
			     "only looked for on simulated devices");
		return 0;
	}
	users = answer->users;
	s.name = "mixed-apart";
	for (size_t i = 0; i < s.count; i++) {
		s.parts[i].permille = 1000;
		s.parts[i].device = (unsigned int)i;
	}
	r = fr_setup_start(run, &s);
	if (!r)
		r = fr_step_measure(run, &s, users, &step);
	if (!r)
		r = fr_setup_answer(run, &s, run->steps.count - s.count - 1);
	fr_stage_clear(&run->stage);
	return r;
}

static int run_equal(struct fr_run *run)
{
	int r = 0;

	for (size_t i = 0; i < sizeof(equal_cases) / sizeof(equal_cases[0]) && !r; i++) {
		const struct equal_case *e = &equal_cases[i];

		/* A search may stop early; half of its steps have to fit. */
		if (chosen(run, e->name, e->quick,
			   seconds_of(run, e->replicas, run->config->steps_most / 2.0 + 0.5)))
			r = settle(run, e->name, measure_equal(run, e));
		/* The comparisons of whole experiments come before the small variants. */
		if (!r && !strcmp(e->name, "half")) {
			if (chosen(run, "mixed", true, seconds_of(run, 6, 3)))
				r = settle(run, "mixed", measure_mixed(run));
			if (!r && chosen(run, "shift", true, seconds_of(run, 4, 4)))
				r = settle(run, "shift",
					   fr_shift_measure(run, whole_users(run, false)
									 ? whole_users(run, false)
									 : guess(run, false)));
			if (!r &&
			    chosen(run, "scale-out", true, seconds_of(run, 2, FR_SCALE_REPLICAS)))
				r = settle(run, "scale-out",
					   fr_scale_measure(run, guess(run, true) / 8 + 1));
		}
	}
	return r;
}

int fr_run_cases(struct fr_run *run, const struct fr_config *c)
{
	int r;

	*run = (struct fr_run){.config = c, .begin_ns = aq_now_ns()};
	if (getloadavg(&run->load, 1) != 1)
		run->load = 0;
	r = fr_stage_open(&run->stage, c, 3);
	if (!r)
		r = run_equal(run);
	fr_stage_close(&run->stage);
	return r;
}

void fr_run_finish(struct fr_run *run)
{
	fr_rows_finish(&run->answers);
	fr_rows_finish(&run->steps);
	fr_notes_finish(&run->notes);
	free(run->scale.dots);
	run->scale.dots = NULL;
}
