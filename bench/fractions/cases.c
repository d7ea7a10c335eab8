/* SPDX-License-Identifier: Apache-2.0 */
/* Runs cases one after the other, each on servers of its own. */
#include "fractions/cases.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/timing.h"
#include "cli/say.h"
#include "serve/spread.h"
#include "base/banned.h"

#define USERS_MOST 16384u

/* The device's own slices divide between processes; memory is divided by the servers' own options. */
const struct aq_case aq_cases[] = {
	{"full GPU", "full GPU\n1 replica", 1, 1000, true, true},
	{"one half alone", "one half\nalone", 1, 500, true, true},
	{"two halves", "two halves", 2, 500, true, true},
	{"four quarters", "four\nquarters", 4, 250, true, true},
	{"eight eighths", "eight\neighths", 8, 125, true, false},
	{"full GPU", "full GPU\n1 replica", 1, 1000, false, false},
	{"two halves", "two halves", 2, 500, false, true},
	{"four quarters", "four\nquarters", 4, 250, false, true},
	{"eight eighths", "eight\neighths", 8, 125, false, false},
};
const size_t aq_case_count = AQ_ARRAY_SIZE(aq_cases);

struct cast {
	struct aq_replica replicas[AQ_REPLICAS_MOST];
	struct aq_target targets[AQ_REPLICAS_MOST];
	unsigned int count;
};

static void dismiss(struct cast *cast)
{
	for (unsigned int i = 0; i < cast->count; i++)
		aq_replica_stop(&cast->replicas[i]);
	cast->count = 0;
}

static int call(const struct aq_stage *s, const struct aq_fractions_config *config,
		const struct aq_case *c, const volatile int *stop, struct cast *cast)
{
	int r = 0;

	for (unsigned int i = 0; i < c->replicas && !r; i++) {
		char name[48];
		struct aq_replica_plan plan = {.name = name,
					       .model = config->model,
					       .permille = c->permille,
					       .guarded = c->guarded};
		struct aq_target *t = &cast->targets[i];

		snprintf(name, sizeof(name), "%s-%u-of-%u", c->guarded ? "fraction" : "plain", i + 1,
			 c->replicas);
		r = aq_replica_start(s, &plan, stop, &cast->replicas[i]);
		if (r)
			break;
		cast->count++;
		r = aq_replica_target(&cast->replicas[i], &plan, t);
		t->isl = (struct aq_dist){.kind = AQ_DIST_FIXED, .a = config->isl};
		t->osl = (struct aq_dist){.kind = AQ_DIST_FIXED, .a = config->osl};
	}
	return r;
}

static struct aq_load_config load_of(const struct aq_fractions_config *config, struct cast *cast)
{
	return (struct aq_load_config){
		.targets = cast->targets,
		.target_count = cast->count,
		.duration_ns = config->duration_ns,
		.warmup_ns = config->warmup_ns,
		.ramp_ns = config->warmup_ns,
		.stagger = true,
		.drain_ns = config->bound_ns, /* longer, and the bound is broken */
		.burstiness = 1,
		.seed = config->seed,
		.limits = {.connect_ns = 5 * AQ_NS_PER_S,
			   .first_ns = 60 * AQ_NS_PER_S,
			   .stall_ns = 30 * AQ_NS_PER_S,
			   .request_ns = 600 * AQ_NS_PER_S},
		.headers = "",
	};
}

/* Return: 0; a signal; negative errno. */
static int try_users(const struct aq_fractions_config *config, struct cast *cast, uint32_t users,
		     struct aq_search_row *row)
{
	const struct aq_bounds bounds = {.ttft_ns = config->bound_ns};
	struct aq_load_config load = load_of(config, cast);
	struct aq_load_result result;
	int r;

	aq_spread_users(cast->targets, cast->count, users);
	r = aq_load_run(&load, &result);
	if (r < 0)
		return r;
	r = aq_search_measure(&result, &bounds, users, row);
	if (!r)
		r = result.signal;
	aq_load_result_finish(&result);
	return r;
}

static void conclude(struct aq_case_result *result, const struct aq_search_step *steps)
{
	result->users = aq_search_best(steps, result->count, AQ_SEARCH_P95);
	result->users_every = aq_search_best(steps, result->count, AQ_SEARCH_EVERY);
	for (size_t i = 0; i < result->count; i++)
		if (result->users && result->rows[i].step.users == result->users)
			result->best = &result->rows[i];
}

static void search(const struct aq_fractions_config *config, struct cast *cast, uint32_t guess,
		   volatile int *stop, struct aq_case_result *result)
{
	const struct aq_search_report report = {.bound_ns = config->bound_ns};
	const struct aq_search_limits limits = {.first = guess < cast->count ? cast->count : guess,
						.most = USERS_MOST,
						.growth = 1.5,
						.precision = config->precision,
						.every = config->every};
	uint64_t until = aq_now_ns() + config->case_ns;
	struct aq_search_step steps[AQ_CASE_STEPS];
	uint32_t users;

	while (result->count < AQ_CASE_STEPS && !*stop) {
		struct aq_search_row *row = &result->rows[result->count];
		int r;

		users = aq_search_next(&limits, steps, result->count);
		result->settled = !users;
		if (!users || (config->case_ns && aq_now_ns() > until))
			break;
		r = try_users(config, cast, users, row);
		if (r > 0)
			*stop = r;
		if (r < 0)
			result->error = r;
		if (r)
			break;
		steps[result->count++] = row->step;
		fputs("  ", stderr);
		aq_report_search_line(row, &report, stderr);
	}
	conclude(result, steps);
}

void aq_case_run(const struct aq_stage *s, const struct aq_fractions_config *config,
		 const struct aq_case *c, uint32_t guess, volatile int *stop,
		 struct aq_case_result *ret_result)
{
	struct cast cast = {.count = 0};

	*ret_result = (struct aq_case_result){.c = c};
	ret_result->error = call(s, config, c, stop, &cast);
	if (!ret_result->error) {
		snprintf(ret_result->device, sizeof(ret_result->device), "%s",
			 cast.replicas[0].device);
		for (unsigned int i = 0; i < cast.count; i++)
			ret_result->kv_tokens += cast.replicas[i].kv_tokens;
		search(config, &cast, guess, stop, ret_result);
	}
	dismiss(&cast);
}
