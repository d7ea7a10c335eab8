/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler; see scheduler.h for its rules. */
#include "bench/llm/scheduler.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

struct llm_seq *llm_seq_create(uint32_t prompt, uint32_t wanted, void *user)
{
	struct llm_seq *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	aq_list_init(&q->link);
	q->prompt = prompt;
	q->wanted = wanted;
	q->user = user;
	/* The last token that is generated is never computed, but may be: one place more costs
	 * little. */
	q->max_blocks = llm_blocks_for(prompt + wanted);
	q->blocks = calloc(q->max_blocks ? q->max_blocks : 1, sizeof(*q->blocks));
	if (!q->blocks) {
		free(q);
		return NULL;
	}
	return q;
}

void llm_seq_free(struct llm_seq *q)
{
	if (!q)
		return;
	free(q->blocks);
	free(q);
}

int llm_sched_init(struct llm_sched *s, uint32_t n_blocks, uint32_t max_seqs, uint32_t budget)
{
	*s = (struct llm_sched){.max_seqs = max_seqs, .budget = budget};
	aq_list_init(&s->waiting);
	aq_list_init(&s->running);
	if (!max_seqs || max_seqs > LLM_MAX_SEQS || budget < max_seqs || budget > LLM_MAX_BUDGET)
		return -EINVAL;
	s->step.items = calloc(max_seqs, sizeof(*s->step.items));
	if (!s->step.items || llm_blocks_init(&s->blocks, n_blocks) < 0) {
		llm_sched_finish(s);
		return -ENOMEM;
	}
	return 0;
}

void llm_sched_finish(struct llm_sched *s)
{
	free(s->step.items);
	s->step.items = NULL;
	llm_blocks_finish(&s->blocks);
}

int llm_sched_add(struct llm_sched *s, struct llm_seq *q)
{
	if (q->max_blocks > s->blocks.total)
		return -E2BIG;
	q->state = LLM_SEQ_WAITING;
	aq_list_append(&s->waiting, &q->link);
	s->n_waiting++;
	return 0;
}

static void give_blocks(struct llm_sched *s, struct llm_seq *q)
{
	llm_blocks_give(&s->blocks, q->blocks, q->n_blocks);
	q->n_blocks = 0;
}

void llm_sched_remove(struct llm_sched *s, struct llm_seq *q)
{
	if (q->state == LLM_SEQ_WAITING)
		s->n_waiting--;
	else if (q->state == LLM_SEQ_RUNNING)
		s->n_running--;
	aq_list_remove(&q->link);
	give_blocks(s, q);
	q->state = LLM_SEQ_DONE;
}

/* Make room for @tokens of @q. Return: false when there are not as many blocks. */
static bool grow(struct llm_sched *s, struct llm_seq *q, uint32_t tokens)
{
	uint32_t want = llm_blocks_for(tokens);

	if (want <= q->n_blocks)
		return true;
	if (!llm_blocks_take(&s->blocks, want - q->n_blocks, q->blocks + q->n_blocks))
		return false;
	q->n_blocks = want;
	return true;
}

/* Start again later: all that was computed is lost, what was generated is not. */
static void preempt(struct llm_sched *s, struct llm_seq *q)
{
	give_blocks(s, q);
	q->computed = 0;
	q->preemptions++;
	q->state = LLM_SEQ_WAITING;
	aq_list_remove(&q->link);
	aq_list_insert(&s->waiting, &q->link);
	s->n_running--;
	s->n_waiting++;
	s->step.n_preempted++;
}

static void put(struct llm_step *step, struct llm_seq *q, uint32_t n_new)
{
	struct llm_item *i = &step->items[step->n++];

	*i = (struct llm_item){.seq = q, .n_new = n_new};
	step->n_tokens += n_new;
	step->n_samples += llm_item_samples(i);
	step->prefill |= n_new > 1;
}

static uint32_t next_tokens(const struct llm_sched *s, const struct llm_seq *q)
{
	uint32_t left = s->budget - s->step.n_tokens, want = llm_seq_tokens(q) - q->computed;

	return want < left ? want : left;
}

/* Those behind @q in the order of admission are preempted, last first, then @q itself. */
static bool grow_or_preempt(struct llm_sched *s, struct llm_seq *q, uint32_t tokens)
{
	while (!grow(s, q, tokens)) {
		struct llm_seq *last = aq_container_of(s->running.prev, struct llm_seq, link);

		preempt(s, last);
		if (last == q)
			return false;
	}
	return true;
}

static void schedule_running(struct llm_sched *s)
{
	struct aq_list *l = s->running.next, *next;

	for (; l != &s->running && s->step.n_tokens < s->budget; l = next) {
		struct llm_seq *q = aq_container_of(l, struct llm_seq, link);
		uint32_t n = next_tokens(s, q);

		if (!grow_or_preempt(s, q, q->computed + n))
			return; /* it was the last */
		put(&s->step, q, n);
		next = l->next; /* now: those behind may be gone since the last look */
	}
}

static void admit_waiting(struct llm_sched *s)
{
	while (s->n_waiting && s->n_running < s->max_seqs && s->step.n_tokens < s->budget) {
		struct llm_seq *q = aq_container_of(s->waiting.next, struct llm_seq, link);
		uint32_t n = next_tokens(s, q);

		if (!grow(s, q, q->computed + n))
			return;
		aq_list_remove(&q->link);
		aq_list_append(&s->running, &q->link);
		q->state = LLM_SEQ_RUNNING;
		s->n_waiting--;
		s->n_running++;
		put(&s->step, q, n);
	}
}

uint32_t llm_sched_next(struct llm_sched *s)
{
	struct llm_item *items = s->step.items;

	s->step = (struct llm_step){.items = items};
	schedule_running(s);
	if (!s->step.n_preempted)
		admit_waiting(s);
	return s->step.n;
}

void llm_sched_complete(struct llm_sched *s, void (*progress)(void *arg, struct llm_seq *q),
			void *arg)
{
	for (uint32_t i = 0; i < s->step.n; i++) {
		struct llm_item *item = &s->step.items[i];
		struct llm_seq *q = item->seq;
		bool samples = llm_item_samples(item);

		q->computed += item->n_new;
		if (!samples)
			continue;
		if (q->wanted)
			q->generated++;
		if (q->generated >= q->wanted)
			llm_sched_remove(s, q);
		progress(arg, q);
	}
	s->step.n = 0;
}
