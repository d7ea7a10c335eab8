/* SPDX-License-Identifier: Apache-2.0 */
/* Measures steps and searches. Knows no case by name. */
#include "fractions/step.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/timing.h"
#include "base/banned.h"

#define STEPS_MOST 32
/* The wait for all first prompts at once grows with users; of users in turn it is short until there
 * is no place left, and says nothing of how near that is. */
#define GROW_BURST 4.0
#define GROW_STEADY 1.4
#define AROUND_STEP_S 0.4 /* start and end of the generator */

uint32_t fr_users_of(double weight, uint32_t users)
{
	double n = round(weight * users);

	return n < 1 ? 1 : (uint32_t)n;
}

double fr_step_seconds(const struct fr_run *run, bool steady)
{
	const struct fr_config *c = run->config;
	uint64_t ns = c->window_ns + (steady ? c->warmup_ns : 0);

	return (double)ns / (double)AQ_NS_PER_S + AROUND_STEP_S;
}

double fr_run_seconds_left(const struct fr_run *run)
{
	uint64_t used = aq_now_ns() - run->begin_ns;

	return used >= run->config->limit_ns
		       ? 0
		       : (double)(run->config->limit_ns - used) / (double)AQ_NS_PER_S;
}

int fr_setup_start(struct fr_run *run, const struct fr_setup *s)
{
	int r = 0;

	for (size_t i = 0; i < s->count && !r; i++)
		r = fr_stage_add(&run->stage, &s->parts[i]);
	return r;
}

struct fr_row fr_row_of(const struct fr_run *run, const char *name)
{
	const struct fr_config *c = run->config;
	struct fr_row row = {.isl = c->isl,
			     .osl = c->osl,
			     .bound_ms = c->bound_ms,
			     .simulated = c->sim != NULL,
			     .host = {.cpu = NAN, .wait = NAN, .late = NAN, .stolen = NAN}};

	snprintf(row.name, sizeof(row.name), "%s", name);
	snprintf(row.device, sizeof(row.device), "%s", run->stage.device);
	return row;
}

static const char *arbitration_of(const struct fr_part *part)
{
	return part->plain ? "hardware" : "aliquot";
}

/* The row of all parts together, without what is measured. */
static struct fr_row setup_row(const struct fr_run *run, const struct fr_setup *s)
{
	struct fr_row row = fr_row_of(run, s->name);
	uint32_t sum = s->parts[0].permille;
	bool together = false;

	row.model = s->role[0] ? "mixed" : s->parts[0].model;
	row.replicas = (uint32_t)s->count;
	row.permille = s->parts[0].permille;
	row.arbitration = arbitration_of(&s->parts[0]);
	/* Of parts that differ: what they are together. */
	for (size_t i = 1; i < s->count; i++) {
		if (s->parts[i].permille != s->parts[0].permille)
			together = true;
		sum += s->parts[i].permille;
	}
	if (together)
		row.permille = sum;
	return row;
}

static const char *ms_text(double ms, int decimals, char text[24])
{
	if (isfinite(ms))
		snprintf(text, 24, "%.*f", decimals, ms);
	else
		snprintf(text, 24, "-");
	return text;
}

void fr_row_say(const struct fr_run *run, const struct fr_row *row)
{
	const struct fr_result *m = &row->result;
	char p50[24], p95[24], most[24], itl[24];

	if (run->config->quiet)
		return;
	printf("%-22s %4u users  %6.0f tok/s  TTFT p50 %4s p95 %4s max %4s ms  ITL p50 %5s ms  "
	       "%" PRIu64 " failed  %s%s\n",
	       row->name, row->users, m->tokens_per_second, ms_text(m->ttft_p50, 0, p50),
	       ms_text(m->ttft_p95, 0, p95), ms_text(m->ttft_max, 0, most),
	       ms_text(m->itl_p50, 1, itl), m->failed, row->within ? "within" : "over",
	       fr_host_bound(&row->host) ? ", by the host" : "");
	fflush(stdout);
}

static struct fr_row part_row(const struct fr_run *run, const struct fr_setup *s, size_t part,
			      uint32_t users, const struct fr_result *result)
{
	char name[FR_CASE_BYTES];
	struct fr_row row;

	snprintf(name, sizeof(name), "%s/%s", s->name, s->role[part]);
	row = fr_row_of(run, name);
	row.model = s->parts[part].model;
	row.replicas = 1;
	row.permille = s->parts[part].permille;
	row.arbitration = arbitration_of(&s->parts[part]);
	row.users = users;
	row.within = fr_result_within(result, row.bound_ms);
	row.result = *result;
	return row;
}

/* The most users of a plan, as `40`, or `0/40@5s`. */
static uint32_t most_of(const char *plan)
{
	unsigned long most = 0;

	for (const char *p = plan; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL) {
		unsigned long users = strtoul(p, NULL, 10);

		most = users > most ? users : most;
	}
	return (uint32_t)most;
}

int fr_step_plans(struct fr_run *run, const struct fr_setup *s, const char *const *plans,
		  uint32_t users, uint64_t window_ns, struct fr_row *ret_row)
{
	struct fr_result each[FR_PARTS_MOST], total;
	struct fr_lane lanes[FR_PARTS_MOST];
	struct fr_window window = {window_ns, s->steady ? run->config->warmup_ns : 0};
	struct fr_row row = setup_row(run, s);
	struct fr_host_probe probe;
	int r;

	for (size_t i = 0; i < s->count; i++) {
		lanes[i] = (struct fr_lane){.replica = &run->stage.replicas[i],
					    .embeddings = s->embeddings[i]};
		snprintf(lanes[i].users, sizeof(lanes[i].users), "%s", plans[i]);
	}
	fr_stage_probe(&run->stage, &probe);
	r = fr_load_run(&run->stage, lanes, s->count, window, NULL, &total, each);
	if (r < 0) {
		if (r != -EINTR)
			snprintf(run->stage.why, sizeof(run->stage.why), "the load generator: %s",
				 strerror(-r));
		return r;
	}
	run->requests += total.requests;
	row.users = users;
	row.result = total;
	row.within = fr_result_within(&total, row.bound_ms);
	row.host =
		fr_stage_host(&run->stage, &probe, total.generator_ns, total.lag_p99, row.bound_ms);
	for (size_t i = 0; i < s->count && s->role[0] && !r; i++) {
		struct fr_row part = part_row(run, s, i, most_of(plans[i]), &each[i]);

		part.host = row.host;
		/* A model whose users never get an answer is not hidden by the others'. */
		row.within &= part.within;
		r = fr_rows_add(&run->steps, &part);
	}
	for (size_t i = 0; i < s->count && !s->role[0]; i++)
		row.within &= fr_result_within(&each[i], row.bound_ms);
	if (!r)
		r = fr_rows_add(&run->steps, &row);
	if (r < 0)
		return r;
	fr_row_say(run, &row);
	*ret_row = row;
	if (!fr_stage_dead(&run->stage))
		return 0;
	snprintf(run->stage.why, sizeof(run->stage.why),
		 "a server ended; %" PRIu64 " of %" PRIu64 " requests failed", total.failed,
		 total.requests);
	return -ECHILD;
}

int fr_step_measure(struct fr_run *run, const struct fr_setup *s, uint32_t users,
		    struct fr_step *ret_step)
{
	char text[FR_PARTS_MOST][16];
	const char *plans[FR_PARTS_MOST];
	struct fr_row row = {.users = 0};
	uint32_t all = 0;
	int r;

	for (size_t i = 0; i < s->count; i++) {
		uint32_t own = fr_users_of(s->weight[i], users);

		snprintf(text[i], sizeof(text[i]), "%u", own);
		plans[i] = text[i];
		all += own;
	}
	r = fr_step_plans(run, s, plans, all, run->config->window_ns, &row);
	*ret_step = (struct fr_step){.users = users,
				     .within = row.within,
				     .worst_ms = row.result.failed ? NAN : row.result.ttft_max};
	return r;
}

int fr_setup_answer(struct fr_run *run, const struct fr_setup *s, size_t step)
{
	size_t rows = s->role[0] ? s->count + 1 : 1;
	int r = 0;

	/* The whole first, then its parts. */
	for (size_t i = 0; i < rows && !r; i++) {
		struct fr_row row = run->steps.rows[step + (i ? i - 1 : rows - 1)];

		r = fr_rows_add(&run->answers, &row);
	}
	return r;
}

/* Where nobody was within the bound: the fewest users that were tried. */
static size_t fewest(const struct fr_step *steps, size_t count)
{
	size_t found = 0;

	for (size_t i = 1; i < count; i++)
		if (steps[i].users < steps[found].users)
			found = i;
	return found;
}

int fr_setup_search(struct fr_run *run, const struct fr_setup *s, uint32_t first, double precision)
{
	struct fr_search search = {.bound_ms = run->config->bound_ms,
				   .first = first,
				   .most = FR_USERS_MOST / (uint32_t)s->count,
				   .precision = precision,
				   .steps_most = run->config->steps_most,
				   .grow_most = s->steady ? GROW_STEADY : GROW_BURST};
	size_t rows = s->role[0] ? s->count + 1 : 1, begin = run->steps.count, count = 0, best;
	struct fr_step steps[STEPS_MOST];
	uint32_t users;
	int r = 0;

	if (search.first > search.most)
		search.first = search.most;
	while (!r && count < STEPS_MOST && (users = fr_search_next(&search, steps, count))) {
		if (count && fr_run_seconds_left(run) < fr_step_seconds(run, s->steady)) {
			fr_notes_add(&run->notes, "%s: the search ended early, no time was left",
				     s->name);
			break;
		}
		r = fr_step_measure(run, s, users, &steps[count]);
		count = (run->steps.count - begin) / rows;
	}
	if (!count)
		return r;
	best = fr_search_best(steps, count);
	if (best == SIZE_MAX)
		best = fewest(steps, count);
	return fr_setup_answer(run, s, begin + best * rows) < 0 ? -ENOMEM : r;
}
