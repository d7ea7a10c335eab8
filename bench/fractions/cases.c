/* SPDX-License-Identifier: Apache-2.0 */
/* Measures case after case. Writes no file; reports are made of what is in struct fr_run. */
#include "fractions/cases.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/timing.h"
#include "fractions/mixed.h"
#include "fractions/resident.h"
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
#define HALF_OF(steps)                                                                             \
	((steps) / 2.0 + 0.5) /* a search may stop early; half of its steps have to fit */

enum model { main_model, small_model, embedding_model };
enum how { leases, plain, steady };

struct fr_case {
	const char *name;
	int (*measure)(struct fr_run *run, const struct fr_case *k);
	/* Equal parts. */
	enum model model;
	uint32_t replicas, permille;
	enum how how;
	const char *whole;
	/* Others: what they take. */
	double parts, steps;
	bool quick;
};

bool fr_case_chosen(const char *list, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
		if (!strncmp(p, name, n) && (!p[n] || p[n] == ','))
			return true;
	return !list;
}

/* Users of the whole GPU's answer of a case; 0 not measured. */
static uint32_t whole_users(const struct fr_run *run, const char *name)
{
	const struct fr_row *row = fr_rows_find(&run->answers, name);

	return row && row->within ? row->users : 0;
}

/* Prompts a second, more or less. */
static double prompt_rate(const struct fr_config *c, enum model model)
{
	static const double faster[] = {1, 1.6, 8};

	return GUESS_TOKENS_PER_S * faster[model] / c->isl;
}

static uint32_t guess(const struct fr_run *run, enum model model)
{
	const struct fr_config *c = run->config;
	double users = c->bound_ms / 1000 * prompt_rate(c, model);

	if (c->first_users)
		return c->first_users;
	return (uint32_t)fmax(1, fmin(users, FR_USERS_MOST));
}

/* Users of a whole GPU to begin with: its answer, where there is one. */
static uint32_t whole_or_guess(const struct fr_run *run, const char *name, enum model model)
{
	uint32_t users = whole_users(run, name);

	return users ? users : guess(run, model);
}

static double precision(const struct fr_run *run)
{
	return run->config->quick ? PRECISION_QUICK : PRECISION;
}

/* First try for a part: alone it has the whole device, whatever its memory. */
static uint32_t first_users(const struct fr_run *run, const struct fr_case *k)
{
	uint32_t users = whole_users(run, k->whole);

	if (!users && k->how == steady && k->model != embedding_model)
		users = run->config->first_users ? run->config->first_users
						 : run->config->sequences;
	if (!users)
		users = guess(run, k->model);
	return users / k->replicas ? users / k->replicas : 1;
}

static void set_equal(const struct fr_run *run, const struct fr_case *k, struct fr_setup *s)
{
	const char *const models[] = {run->config->model, run->config->small_model,
				      run->config->embedding_model};

	*s = (struct fr_setup){.name = k->name, .count = k->replicas, .steady = k->how == steady};
	for (size_t i = 0; i < s->count; i++) {
		s->weight[i] = 1;
		s->embeddings[i] = k->model == embedding_model;
		s->parts[i] = (struct fr_part){.model = models[k->model],
					       .permille = k->permille,
					       .plain = k->how == plain};
	}
}

/* As many users of each model as the whole GPU had: what Dynamo calls equal concurrency. */
static int match_models(struct fr_run *run, const struct fr_setup *s, enum model model,
			uint32_t whole)
{
	uint32_t users = whole * (uint32_t)s->count;
	double first_s = users / prompt_rate(run->config, model);
	double window_s = (double)run->config->window_ns / (double)AQ_NS_PER_S;
	struct fr_step ignored;

	if (!whole || s->steady || s->count < 2 || users > FR_USERS_MOST ||
	    fr_rows_at(&run->steps, s->name, users) ||
	    fr_run_seconds_left(run) < fr_step_seconds(run, false))
		return 0;
	if (first_s <= window_s / 2)
		return fr_step_measure(run, s, whole, &ignored);
	fr_notes_add(&run->notes,
		     "%s: not with %u users on each model, whose first prompts alone take some "
		     "%.0f s of a window of %.0f s",
		     s->name, whole, first_s, window_s);
	return 0;
}

static int measure_equal(struct fr_run *run, const struct fr_case *k)
{
	struct fr_setup s;
	int r;

	set_equal(run, k, &s);
	r = fr_setup_start(run, &s);
	if (!r)
		r = fr_setup_search(run, &s, first_users(run, k), precision(run));
	if (!r)
		r = match_models(run, &s, k->model, whole_users(run, k->whole));
	fr_stage_clear(&run->stage);
	return r;
}

static int measure_mixed(struct fr_run *run, const struct fr_case *k)
{
	return fr_mixed_measure(run, whole_or_guess(run, "full", main_model) / 3 + 1,
				precision(run));
}

static int measure_steady_mixed(struct fr_run *run, const struct fr_case *k)
{
	return fr_mixed_measure_steady(run, whole_or_guess(run, "steady-full", main_model) / 2 + 1,
				       precision(run));
}

static int measure_shift(struct fr_run *run, const struct fr_case *k)
{
	return fr_shift_measure(run, whole_or_guess(run, "full", main_model));
}

static int measure_scale(struct fr_run *run, const struct fr_case *k)
{
	return fr_scale_measure(run, guess(run, small_model) / 8 + 1);
}

static int measure_resident(struct fr_run *run, const struct fr_case *k)
{
	return fr_resident_measure(run);
}

static const struct fr_case cases[] = {
#define FR_CASE(name_, model_, replicas_, permille_, how_, quick_, whole_)                         \
	{.name = (name_),                                                                          \
	 .measure = measure_equal,                                                                 \
	 .model = model_##_model,                                                                  \
	 .replicas = (replicas_),                                                                  \
	 .permille = (permille_),                                                                  \
	 .how = (how_),                                                                            \
	 .whole = (whole_),                                                                        \
	 .quick = (quick_)},
#define FR_SPECIAL(name_, function_, parts_, steps_, quick_)                                       \
	{.name = (name_),                                                                          \
	 .measure = function_,                                                                     \
	 .parts = (parts_),                                                                        \
	 .steps = (steps_),                                                                        \
	 .quick = (quick_)},
#include "fractions/cases.def"
#undef FR_CASE
#undef FR_SPECIAL
};

static bool known(const char *name, size_t n)
{
	for (size_t i = 0; i < AQ_ARRAY_SIZE(cases); i++)
		if (strlen(cases[i].name) == n && !strncmp(cases[i].name, name, n))
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

/* Seconds that a case takes at the least. */
static double seconds_of(const struct fr_run *run, const struct fr_case *k)
{
	double parts = k->replicas ? k->replicas : k->parts;
	double steps = k->replicas ? HALF_OF(run->config->steps_most) : k->steps;
	double seconds = STARTING_S * (parts + 1) + steps * fr_step_seconds(run, k->how == steady);

	return k->measure == measure_resident ? seconds + fr_resident_seconds(run) : seconds;
}

static bool chosen(struct fr_run *run, const struct fr_case *k)
{
	const struct fr_config *c = run->config;

	if (!fr_case_chosen(c->cases, k->name))
		return false;
	if (c->quick && !k->quick && !c->cases) {
		fr_notes_add(&run->notes, "%s: left out by --quick", k->name);
		return false;
	}
	if (seconds_of(run, k) <= fr_run_seconds_left(run))
		return true;
	fr_notes_add(&run->notes, "%s: left out, no time is left for it", k->name);
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

static int run_all(struct fr_run *run)
{
	int r = 0;

	for (size_t i = 0; i < AQ_ARRAY_SIZE(cases) && !r; i++) {
		if (!chosen(run, &cases[i]))
			continue;
		r = settle(run, cases[i].name, cases[i].measure(run, &cases[i]));
		if (run->keep)
			run->keep(run);
	}
	return r;
}

int fr_run_cases(struct fr_run *run, const struct fr_config *c, void (*keep)(const struct fr_run *))
{
	int r;

	*run = (struct fr_run){.config = c, .keep = keep, .begin_ns = aq_now_ns()};
	if (getloadavg(&run->load, 1) != 1)
		run->load = 0;
	r = fr_stage_open(&run->stage, c, 3);
	if (!r)
		r = run_all(run);
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
