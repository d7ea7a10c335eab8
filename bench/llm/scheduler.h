/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the next step of the engine does: continuous batching with chunked prefill, as in vLLM V1.
 *
 * A step has a budget of tokens. Running sequences go first, in order of admission: one token each
 * while they decode, what is left of the prompt (cut to the budget) before that. Then waiting ones
 * are admitted while budget, places and blocks last. When a running sequence finds no free block,
 * the one admitted last loses its own, goes back to the head of the queue, and is computed again.
 *
 * Pure: knows no clock, device or socket. One thread. Times are fields that others fill in.
 */
#ifndef AQ_BENCH_LLM_SCHEDULER_H
#define AQ_BENCH_LLM_SCHEDULER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "bench/llm/blocks.h"

#define LLM_MAX_SEQS 4096u	/* limit of a configuration: sequences running at once */
#define LLM_MAX_BUDGET 65536u	/* likewise: tokens of a step */
#define LLM_MAX_TOKENS 1048576u /* likewise: tokens of a sequence */

enum llm_seq_state { LLM_SEQ_NEW, LLM_SEQ_WAITING, LLM_SEQ_RUNNING, LLM_SEQ_DONE };

struct llm_seq {
	struct aq_list link; /* waiting or running */
	enum llm_seq_state state;
	uint32_t prompt;    /* tokens, at least 1 */
	uint32_t wanted;    /* tokens to generate; 0: only the prompt is computed */
	uint32_t generated; /* so far */
	uint32_t computed;  /* tokens that are in the cache */
	uint32_t n_blocks, max_blocks;
	uint32_t *blocks;
	uint32_t preemptions;
	/* The owner's. */
	void *user;
	bool stops_early;	/* `wanted` is less than was allowed */
	_Atomic bool cancelled; /* the one field that another thread writes */
	uint64_t arrived_ns, ready_ns, admitted_ns, first_ns, last_ns;
};

struct llm_item {
	struct llm_seq *seq;
	uint32_t n_new; /* tokens that are computed */
};

struct llm_step {
	struct llm_item *items; /* llm_sched.max_seqs of them */
	uint32_t n;
	uint32_t n_tokens;  /* sum of n_new */
	uint32_t n_samples; /* items that give a token (or an embedding) at the end */
	bool prefill;	    /* some item has more than one token */
	uint32_t n_preempted;
};

struct llm_sched {
	struct llm_blocks blocks;
	uint32_t max_seqs;
	uint32_t budget;
	struct aq_list waiting, running;
	uint32_t n_waiting, n_running;
	struct llm_step step; /* the last that was scheduled */
};

/**
 * llm_sched_init()
 * @n_blocks: of the cache
 * @max_seqs: running at once, 1 to LLM_MAX_SEQS
 * @budget:   tokens of a step, at least @max_seqs so that all can decode, to LLM_MAX_BUDGET
 * Return: 0; -EINVAL; -ENOMEM
 */
int llm_sched_init(struct llm_sched *s, uint32_t n_blocks, uint32_t max_seqs, uint32_t budget);

/* Sequences that are still there stay their owner's. Accepts zeroed memory. */
void llm_sched_finish(struct llm_sched *s);

/* NULL when out of memory. One that no scheduler holds is freed with llm_seq_free(). */
struct llm_seq *llm_seq_create(uint32_t prompt, uint32_t wanted, void *user);
void llm_seq_free(struct llm_seq *q);

/**
 * llm_sched_add() - queue a sequence.
 * Return: 0; -E2BIG it could never be held, alone in the cache: not queued
 */
int llm_sched_add(struct llm_sched *s, struct llm_seq *q);

/* Take a sequence out, wherever it is, with its blocks. Not between schedule and complete. */
void llm_sched_remove(struct llm_sched *s, struct llm_seq *q);

/* Decide the next step; it lies in @s->step until the next call. Return: its items, 0: nothing to
 * do. */
uint32_t llm_sched_next(struct llm_sched *s);

/**
 * llm_sched_complete() - the step was computed: account for it.
 * @progress: called for each item that gave a token, after it was counted; those with
 *            state LLM_SEQ_DONE are out of the scheduler and the callee's to free. Must not call
 * back.
 */
void llm_sched_complete(struct llm_sched *s, void (*progress)(void *arg, struct llm_seq *q),
			void *arg);

/* Tokens that the sequence has, computed or not. */
static inline uint32_t llm_seq_tokens(const struct llm_seq *q)
{
	return q->prompt + q->generated;
}

/* Whether the item's step ends with a token of its own. */
static inline bool llm_item_samples(const struct llm_item *i)
{
	return i->seq->computed + i->n_new == llm_seq_tokens(i->seq);
}

#endif /* AQ_BENCH_LLM_SCHEDULER_H */
