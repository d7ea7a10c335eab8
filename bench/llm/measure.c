/* SPDX-License-Identifier: Apache-2.0 */
/* Makes batches of any shape, runs each some times, and prints what the device's clock says. */
#include "bench/llm/measure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/size.h"
#include "base/banned.h"

#define ROUNDS 5u /* timed, after one that is not */

struct shape {
	bool prefill;
	uint32_t n;	  /* sequences of a decoding step, tokens of a prefill */
	uint32_t context; /* of each sequence, the new tokens included */
};

/* Cuts the next field off @text. */
static char *field(char **text)
{
	char *start = *text, *colon;

	if (!start)
		return NULL;
	colon = strchr(start, ':');
	if (colon)
		*colon = '\0';
	*text = colon ? colon + 1 : NULL;
	return start;
}

static int parse(char *text, struct shape *ret)
{
	char *kind = field(&text), *first = field(&text), *second = field(&text);
	uint64_t n, context;

	*ret = (struct shape){.prefill = !strcmp(kind, "prefill")};
	if (!ret->prefill && (strcmp(kind, "decode") || !second))
		return -EINVAL;
	if (!first || text || aq_uint_parse(first, 1, LLM_MAX_BUDGET, &n) < 0)
		return -EINVAL;
	if (!second)
		context = n;
	else if (aq_uint_parse(second, ret->prefill ? n : 1, LLM_MAX_TOKENS, &context) < 0)
		return -EINVAL;
	ret->n = (uint32_t)n;
	ret->context = (uint32_t)context;
	return 0;
}

static struct llm_seq *make_seq(struct llm_blocks *blocks, uint32_t context, uint32_t n_new)
{
	struct llm_seq *q = llm_seq_create(context, 0, NULL);

	if (!q || !llm_blocks_take(blocks, q->max_blocks, q->blocks)) {
		llm_seq_free(q);
		return NULL;
	}
	q->n_blocks = q->max_blocks;
	q->computed = context - n_new;
	return q;
}

static int time_rounds(struct llm_device *d, const struct llm_step *step, float *times_ms)
{
	CUevent begin = NULL, end = NULL;
	int r = llm_cu_check(llm_cu.event_create(&begin, 0), "event");

	if (r == 0)
		r = llm_cu_check(llm_cu.event_create(&end, 0), "event");
	for (uint32_t i = 0; r == 0 && i <= ROUNDS; i++) {
		r = llm_cu_check(llm_cu.event_record(begin, d->stream), "event");
		if (r == 0)
			r = llm_device_submit(d, step);
		if (r == 0)
			r = llm_cu_check(llm_cu.event_record(end, d->stream), "event");
		if (r == 0)
			r = llm_device_wait(d);
		if (r == 0 && i)
			r = llm_cu_check(llm_cu.event_elapsed(&times_ms[i - 1], begin, end),
					 "event");
	}
	if (begin)
		llm_cu.event_destroy(begin);
	if (end)
		llm_cu.event_destroy(end);
	return r;
}

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void print(const struct llm_device *d, const struct shape *s, float *times_ms, bool first)
{
	qsort(times_ms, ROUNDS, sizeof(*times_ms), compare);
	printf("%s\n  {\"model\": \"%s\", \"device\": \"%s\", \"kind\": \"%s\", \"n\": %u, "
	       "\"context\": %u, \"rounds\": %u, \"min_ms\": %.4f, \"median_ms\": %.4f, "
	       "\"max_ms\": %.4f}",
	       first ? "" : ",", d->o.model->id, d->name, s->prefill ? "prefill" : "decode", s->n,
	       s->context, ROUNDS, (double)times_ms[0], (double)times_ms[ROUNDS / 2],
	       (double)times_ms[ROUNDS - 1]);
}

static int measure(struct llm_device *d, const struct shape *s, bool first)
{
	uint32_t n_seqs = s->prefill ? 1 : s->n, n_new = s->prefill ? s->n : 1;
	struct llm_item *items = calloc(n_seqs, sizeof(*items));
	struct llm_step step = {.items = items,
				.n = n_seqs,
				.n_tokens = s->n,
				.n_samples = n_seqs,
				.prefill = n_new > 1};
	struct llm_blocks blocks = {0};
	float times_ms[ROUNDS];
	int r = items ? llm_blocks_init(&blocks, d->n_blocks) : -ENOMEM;

	if (r == 0 && (n_seqs > d->o.max_seqs || s->n > d->o.budget))
		r = -E2BIG;
	for (uint32_t i = 0; i < n_seqs && r == 0; i++) {
		items[i] = (struct llm_item){make_seq(&blocks, s->context, n_new), n_new};
		if (!items[i].seq)
			r = -E2BIG;
	}
	if (r == -E2BIG)
		aq_error("%u sequence(s) of %u tokens: more than the cache or a step holds", n_seqs,
			 s->context);
	if (r == 0)
		r = time_rounds(d, &step, times_ms);
	if (r == 0)
		print(d, s, times_ms, first);
	for (uint32_t i = 0; items && i < n_seqs; i++)
		llm_seq_free(items[i].seq);
	llm_blocks_finish(&blocks);
	free(items);
	return r;
}

int llm_measure_run(const struct llm_device_options *o, const char *what)
{
	AQ_CLEANUP(free) char *copy = strdup(what);
	struct llm_device d;
	char *rest = copy, *one;
	bool first = true;
	int r;

	if (!copy)
		return -ENOMEM;
	r = llm_device_init(&d, o);
	if (r < 0)
		return r;
	printf("[");
	while (r == 0 && (one = strsep(&rest, ","))) {
		struct shape s;

		r = parse(one, &s);
		if (r < 0)
			aq_error("--measure %s: not decode:BATCH:CONTEXT or prefill:N[:CONTEXT]",
				 what);
		else
			r = measure(&d, &s, first);
		first = false;
	}
	printf("\n]\n");
	llm_device_finish(&d);
	return r;
}
