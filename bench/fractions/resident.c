/* SPDX-License-Identifier: Apache-2.0 */
/* Measures one and two models with a fixed number of requests. Searches nothing. */
#include "fractions/resident.h"

#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/timing.h"
#include "fractions/step.h"
#include "base/banned.h"

/*
 * Source: ai-dynamo/dynamo, docs/fern/pages/use-cases/gpu-sharing, November 2026: Qwen3-4B, vLLM on
 * A100-SXM4-40GB, ISL 2048, OSL 256, --max-num-seqs 32, no reused prompts, after a warm-up.
 */
#define MODEL "qwen3-4b"
#define CARD "a100-40"
#define ISL 2048
#define OSL 256
#define SEQUENCES 32

#define WINDOW_MOST (10 * AQ_NS_PER_S) /* steady: more would show nothing else */

static const uint32_t residents[] = {
#define FR_RESIDENT(n, hami, mps) n,
#define FR_RESIDENT_EACH(n, both, hami, mps)
#include "fractions/resident.def"
#undef FR_RESIDENT
#undef FR_RESIDENT_EACH
};
static const uint32_t residents_quick[] = {8};

static size_t counts(const struct fr_config *c, const uint32_t **ret)
{
	*ret = c->quick ? residents_quick : residents;
	return c->quick ? AQ_ARRAY_SIZE(residents_quick) : AQ_ARRAY_SIZE(residents);
}

static struct fr_config own_config(const struct fr_config *c)
{
	struct fr_config own = *c;

	own.model = MODEL;
	own.isl = ISL;
	own.osl = OSL;
	own.sequences = SEQUENCES;
	if (c->sim)
		own.sim = CARD;
	if (own.window_ns > WINDOW_MOST)
		own.window_ns = WINDOW_MOST;
	return own;
}

double fr_resident_seconds(const struct fr_run *run)
{
	struct fr_config c = own_config(run->config);
	struct fr_run own = {.config = &c};
	const uint32_t *users;

	return 3.0 * (double)counts(&c, &users) * fr_step_seconds(&own, true);
}

static int measure(struct fr_run *run, const char *name, uint32_t replicas, bool plain)
{
	const uint32_t *users;
	size_t n = counts(run->config, &users);
	struct fr_setup s = {.count = replicas, .steady = true};
	char full[FR_CASE_BYTES];
	struct fr_step ignored;
	int r;

	for (size_t i = 0; i < replicas; i++) {
		s.parts[i] = (struct fr_part){
			.model = MODEL, .permille = 1000 / replicas, .plain = plain};
		s.weight[i] = 1;
	}
	s.name = full;
	r = fr_setup_start(run, &s);
	for (size_t i = 0; i < n && !r; i++) {
		snprintf(full, sizeof(full), "%s/%u", name, users[i]);
		r = fr_step_measure(run, &s, users[i] / replicas, &ignored);
		if (!r)
			r = fr_setup_answer(run, &s, run->steps.count - 1);
	}
	fr_stage_clear(&run->stage);
	return r;
}

static int move_rows(struct fr_rows *to, const struct fr_rows *from)
{
	int r = 0;

	for (size_t i = 0; i < from->count && !r; i++)
		r = fr_rows_add(to, &from->rows[i]);
	return r;
}

int fr_resident_measure(struct fr_run *run)
{
	struct fr_config c = own_config(run->config);
	struct fr_run own = {.config = &c, .begin_ns = run->begin_ns};
	int r = fr_stage_open(&own.stage, &c, 1);

	if (!r)
		r = measure(&own, "resident-one", 1, false);
	if (!r)
		r = measure(&own, "resident-leases", 2, false);
	if (!r)
		r = measure(&own, "resident-plain", 2, true);
	fr_stage_close(&own.stage);
	snprintf(run->stage.why, sizeof(run->stage.why), "%s", own.stage.why);
	if (move_rows(&run->answers, &own.answers) < 0 || move_rows(&run->steps, &own.steps) < 0)
		r = r ? r : -ENOMEM;
	run->requests += own.requests;
	fr_run_finish(&own);
	return r;
}
