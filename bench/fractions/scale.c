/* SPDX-License-Identifier: Apache-2.0 */
/* Lets replicas join under load, and keeps every request's wait. */
#include "fractions/scale.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/timing.h"
#include "fractions/step.h"
#include "base/banned.h"

#define CSV_MOST (64u << 20)
#define DOTS_MOST 1000000u
#define HEAD "target,number,user,counted,end,start_s,ttft_ms,"

static int add_dot(struct fr_scale *s, const struct fr_dot *dot)
{
	if (s->count == DOTS_MOST)
		return -E2BIG;
	if (s->count == s->room) {
		size_t room = 2 * s->room + 256;
		struct fr_dot *dots = reallocarray(s->dots, room, sizeof(*dots));

		if (!dots)
			return -ENOMEM;
		s->dots = dots;
		s->room = room;
	}
	s->dots[s->count++] = *dot;
	return 0;
}

/* `name,number,user,counted,end,start_s,ttft_ms,...`; no time to the first token: none came. */
static int read_dot(char *line, struct fr_dot *dot)
{
	char *field[7] = {NULL}, *at = line;
	size_t n = 0;

	while (n < 7 && at)
		field[n++] = strsep(&at, ",");
	if (n < 7)
		return -EPROTO;
	dot->at_s += strtod(field[5], NULL);
	dot->ttft_ms = *field[6] ? strtod(field[6], NULL) : NAN;
	dot->failed = strcmp(field[4], "ok") && strcmp(field[4], "unfinished");
	return 0;
}

int fr_scale_read(struct fr_scale *s, char *csv, unsigned int replica, double offset_s)
{
	char *line = strsep(&csv, "\n");
	int r = 0;

	if (!line || strncmp(line, HEAD, strlen(HEAD)))
		return -EPROTO;
	while (!r && (line = strsep(&csv, "\n")) && *line) {
		struct fr_dot dot = {.at_s = offset_s, .replica = replica};

		r = read_dot(line, &dot);
		if (!r)
			r = add_dot(s, &dot);
	}
	return r;
}

static int read_requests(struct fr_scale *s, const char *directory, unsigned int replica)
{
	AQ_CLEANUP(free) char *csv = NULL;
	char path[AQ_PATH_BYTES];
	int r = aq_paths_join(path, directory, "requests.csv");

	if (!r && aq_file_read(path, CSV_MOST, &csv) < 0)
		r = -EPROTO;
	return r ? r : fr_scale_read(s, csv, replica, s->joined_s[replica]);
}

static void add_results(struct fr_row *row, const struct fr_result *m, double bound_ms)
{
	row->result.requests += m->requests;
	row->result.ok += m->ok;
	row->result.failed += m->failed;
	row->result.generator_ns += m->generator_ns;
	row->result.lag_p99 = fmax(row->result.lag_p99, m->lag_p99);
	row->within &= fr_result_within(m, bound_ms);
	row->result.ttft_max = fmax(row->result.ttft_max, m->ttft_max);
	/* Of the replica with the longest: percentiles do not add up. */
	row->result.itl_p50 = fmax(row->result.itl_p50, m->itl_p50);
	row->result.itl_p99 = fmax(row->result.itl_p99, m->itl_p99);
}

static int by_wait(const void *a, const void *b)
{
	const struct fr_dot *x = a, *y = b;

	return x->ttft_ms < y->ttft_ms ? -1 : x->ttft_ms > y->ttft_ms;
}

/* The percentiles over all replicas. Leaves the dots in the order of their waits. */
static void take_percentiles(struct fr_scale *s, struct fr_result *m)
{
	size_t n = 0;

	for (size_t i = 0; i < s->count; i++)
		if (isfinite(s->dots[i].ttft_ms)) {
			struct fr_dot dot = s->dots[n];

			s->dots[n++] = s->dots[i];
			s->dots[i] = dot;
		}
	qsort(s->dots, n, sizeof(*s->dots), by_wait);
	m->ttft_p50 = n ? s->dots[n / 2].ttft_ms : NAN;
	m->ttft_p95 = n ? s->dots[(size_t)((double)(n - 1) * 0.95)].ttft_ms : NAN;
}

struct joining {
	struct fr_load load[FR_SCALE_REPLICAS];
	char out[FR_SCALE_REPLICAS][AQ_PATH_BYTES];
	size_t count;
};

/* One more replica, and its users. */
static int join(struct fr_run *run, struct joining *j, uint32_t users, uint64_t begin_ns,
		uint64_t end_ns)
{
	struct fr_part part = {.model = run->config->small_model, .permille = 250};
	struct fr_lane lane = {.embeddings = false};
	size_t i = j->count;
	uint64_t now;
	char name[32];
	int r = fr_stage_add(&run->stage, &part);

	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "scale-%zu", i);
	r = aq_paths_join(j->out[i], run->stage.directory, name);
	if (r < 0)
		return r;
	lane.replica = &run->stage.replicas[i];
	snprintf(lane.users, sizeof(lane.users), "%u", users);
	now = aq_now_ns();
	if (now + AQ_NS_PER_S / 10 > end_ns)
		return -ETIMEDOUT;
	run->scale.joined_s[i] = i ? (double)(now - begin_ns) / (double)AQ_NS_PER_S : 0;
	r = fr_load_start(&j->load[i], &run->stage, &lane, 1,
			  (struct fr_window){.length_ns = end_ns - now}, j->out[i]);
	j->count += !r;
	run->scale.replicas = j->count;
	return r;
}

/* All generators have ended afterwards, whatever @r was. */
static int collect(struct fr_run *run, struct joining *j, int r, struct fr_row *row)
{
	double tokens = 0;

	for (size_t i = 0; i < j->count; i++) {
		struct fr_result m;
		int error;

		if (r) {
			struct fr_proc *p = &j->load[i].proc;

			fr_proc_end(&p, 1, AQ_NS_PER_S);
			continue;
		}
		error = fr_load_finish(&j->load[i], &m, NULL);
		if (!error)
			error = read_requests(&run->scale, j->out[i], (unsigned int)i);
		if (error) {
			r = error;
			continue;
		}
		tokens += m.tokens_per_second * (run->scale.length_s - run->scale.joined_s[i]);
		add_results(row, &m, run->config->bound_ms);
	}
	row->result.tokens_per_second = tokens / run->scale.length_s;
	return r;
}

static struct fr_row scale_row(const struct fr_run *run, uint32_t users)
{
	struct fr_row row = fr_row_of(run, "scale-out");

	row.model = run->config->small_model;
	row.permille = 250;
	row.replicas = FR_SCALE_REPLICAS;
	row.arbitration = "aliquot";
	row.users = users * FR_SCALE_REPLICAS;
	row.within = true;
	return row;
}

int fr_scale_measure(struct fr_run *run, uint32_t users)
{
	const struct fr_config *c = run->config;
	uint64_t begin, end;
	struct joining j = {.count = 0};
	struct fr_host_probe probe;
	struct fr_row row;
	int r = 0;

	fr_stage_probe(&run->stage, &probe);
	run->scale.users_each = users;
	run->scale.length_s = FR_SCALE_REPLICAS * (double)c->window_ns / (double)AQ_NS_PER_S;
	begin = aq_now_ns();
	end = begin + FR_SCALE_REPLICAS * c->window_ns;
	for (size_t i = 0; i < FR_SCALE_REPLICAS && !r; i++) {
		uint64_t next = begin + (i + 1) * c->window_ns, now;

		r = join(run, &j, users, begin, end);
		now = aq_now_ns();
		if (!r && next > now && i + 1 < FR_SCALE_REPLICAS)
			r = fr_sleep(next - now);
	}
	row = scale_row(run, users);
	r = collect(run, &j, r, &row);
	if (!r && fr_stage_dead(&run->stage))
		r = -ECHILD;
	row.host = fr_stage_host(&run->stage, &probe, row.result.generator_ns, row.result.lag_p99,
				 row.bound_ms);
	fr_stage_clear(&run->stage);
	if (r)
		return r;
	take_percentiles(&run->scale, &row.result);
	run->requests += row.result.requests;
	fr_row_say(run, &row);
	return fr_rows_add(&run->steps, &row) < 0 || fr_rows_add(&run->answers, &row) < 0 ? -ENOMEM
											  : 0;
}
