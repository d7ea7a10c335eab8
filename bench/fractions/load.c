/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the load generator and reads its results. Sends no request itself. */
#include "fractions/load.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/timing.h"
#include "base/banned.h"

#define SPARE_NS (20 * AQ_NS_PER_S) /* beyond the window, for a busy machine */
#define OUTPUT_MOST (8u << 20)
#define TARGET_BYTES 320

static void put_time(char text[32], uint64_t ns)
{
	snprintf(text, 32, "%llums", (unsigned long long)(ns / AQ_NS_PER_MS));
}

int fr_load_start(struct fr_load *l, const struct fr_stage *s, const struct fr_lane *lanes,
		  size_t count, struct fr_window w, const char *out)
{
	const struct fr_config *c = s->config;
	char isl[16], osl[16], window[32], warmup[32], ramp[32], seed[32], log[AQ_PATH_BYTES];
	char target[FR_REPLICAS_MOST][TARGET_BYTES];
	/*
	 * Without a warm-up all users begin at once, and that is where the longest waits are. Their
	 * first answers are cut to parts of their length, or all would ask again at once for ever:
	 * a rate of tokens would say how many of those waves the window saw.
	 */
	const char *argv[20 + 2 * FR_REPLICAS_MOST + 2] = {
		s->generator, "--json", "--quiet",    "--stagger", "--warmup", warmup,
		"--ramp",     ramp,	"--drain",    "0",	   "--isl",    isl,
		"--osl",      osl,	"--duration", window,	   "--seed",   seed};
	size_t n = 18;
	int r;

	if (!count || count > FR_REPLICAS_MOST)
		return -EINVAL;
	snprintf(isl, sizeof(isl), "%u", c->isl);
	snprintf(osl, sizeof(osl), "%u", c->osl);
	snprintf(seed, sizeof(seed), "%llu", (unsigned long long)c->seed);
	put_time(window, w.length_ns);
	put_time(warmup, w.warmup_ns);
	put_time(ramp, w.warmup_ns / 4 * 3);
	for (size_t i = 0; i < count; i++) {
		snprintf(target[i], TARGET_BYTES, "%s=http://127.0.0.1:%u,model=%s,api=%s,users=%s",
			 lanes[i].replica->name, lanes[i].replica->port,
			 lanes[i].replica->part.model,
			 lanes[i].embeddings ? "embeddings" : "completions", lanes[i].users);
		argv[n++] = "--target";
		argv[n++] = target[i];
	}
	if (out) {
		argv[n++] = "--out";
		argv[n++] = out;
	}
	r = aq_paths_join(log, s->directory, "load.log");
	if (r < 0)
		return r;
	l->lanes = count;
	l->deadline_ns = aq_now_ns() + w.warmup_ns + w.length_ns + SPARE_NS;
	return fr_proc_start(&l->proc, argv, NULL, log);
}

static double number(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	return json_is_number(value) ? json_number_value(value) : NAN;
}

static uint64_t count_of(const json_t *object, const char *key)
{
	json_int_t value = json_integer_value(json_object_get(object, key));

	return value > 0 ? (uint64_t)value : 0;
}

/* Percentiles of nothing are no zeros. */
static double percentile(const json_t *result, const char *what, const char *key)
{
	const json_t *spread = json_object_get(result, what);

	return count_of(spread, "count") ? number(spread, key) : NAN;
}

/* Tokens that were read together seem to have come together: such gaps say nothing. */
static void doubt(struct fr_result *r)
{
	if (r->lag_p99 > r->itl_p50)
		r->itl_p50 = r->itl_p99 = NAN;
}

static int read_one(const json_t *json, double lag_p99, struct fr_result *ret)
{
	*ret = (struct fr_result){
		.requests = count_of(json, "requests"),
		.ok = count_of(json, "ok"),
		.failed = count_of(json, "failed"),
		.unfinished = count_of(json, "unfinished"),
		.tokens_per_second = number(json, "tokens_per_second"),
		.requests_per_second = number(json, "requests_per_second"),
		.ttft_p50 = percentile(json, "ttft_ms", "p50"),
		.ttft_p95 = percentile(json, "ttft_ms", "p95"),
		.ttft_max = percentile(json, "ttft_ms", "max"),
		.itl_p50 = percentile(json, "itl_ms", "p50"),
		.itl_p99 = percentile(json, "itl_ms", "p99"),
		.lag_p99 = lag_p99,
	};
	doubt(ret);
	return json_is_object(json) && isfinite(ret->tokens_per_second) ? 0 : -EPROTO;
}

int fr_result_read(const char *text, size_t lanes, struct fr_result *ret_total,
		   struct fr_result *ret_each)
{
	json_t *json = json_loads(text, 0, NULL);
	const json_t *targets = json_object_get(json, "targets");
	const json_t *generator = json_object_get(json, "generator");
	double lag = number(json_object_get(generator, "read_lag"), "p99_ms");
	int r = json ? read_one(json_object_get(json, "total"), lag, ret_total) : -EPROTO;

	if (!r && json_array_size(targets) != lanes)
		r = -EPROTO;
	for (size_t i = 0; i < lanes && !r && ret_each; i++)
		r = read_one(json_object_get(json_array_get(targets, i), "result"), lag,
			     &ret_each[i]);
	json_decref(json);
	return r;
}

int fr_load_finish(struct fr_load *l, struct fr_result *ret_total, struct fr_result *ret_each)
{
	AQ_CLEANUP(free) char *text = NULL;
	struct fr_proc *p = &l->proc;
	int r = fr_proc_output(p, OUTPUT_MOST, l->deadline_ns, &text);

	fr_proc_end(&p, 1, AQ_NS_PER_S);
	if (!r)
		r = fr_result_read(text, l->lanes, ret_total, ret_each);
	if (!r)
		ret_total->generator_ns = p->cpu_ns;
	return r;
}

int fr_load_run(const struct fr_stage *s, const struct fr_lane *lanes, size_t count,
		struct fr_window window, const char *out, struct fr_result *ret_total,
		struct fr_result *ret_each)
{
	struct fr_load l;
	int r = fr_load_start(&l, s, lanes, count, window, out);

	return r < 0 ? r : fr_load_finish(&l, ret_total, ret_each);
}

bool fr_result_within(const struct fr_result *r, double bound_ms)
{
	return !r->failed && isfinite(r->ttft_max) && r->ttft_max <= bound_ms;
}
