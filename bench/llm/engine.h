/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's thread: takes requests, runs steps on the device, hands out what they gave. Between
 * requests it sleeps: no launches, no CPU.
 *
 * The host side of a real engine takes time, too, in which the device is idle: `struct llm_host`
 * says how much, and the engine waits for as long without using a CPU.
 */
#ifndef AQ_BENCH_LLM_ENGINE_H
#define AQ_BENCH_LLM_ENGINE_H

#include "bench/llm/device.h"
#include "bench/llm/metrics.h"

/* Host time of an engine (host.def). */
struct llm_host {
	const char *id;
	uint32_t request_us; /* from a request's arrival until the scheduler sees it */
	uint32_t step_us;    /* of each step, nothing being on the device */
	uint32_t seq_us;     /* and for each sequence in it */
};

/* By its id; NULL for none. */
const struct llm_host *llm_host_find(const char *id);

enum llm_event_kind {
	LLM_EVENT_TOKEN,   /* one more token */
	LLM_EVENT_LAST,	   /* likewise, and there will be no more; for embeddings: done */
	LLM_EVENT_ABORTED, /* cancelled: there will be no more */
	LLM_EVENT_FAILED,  /* the device failed */
};

struct llm_event {
	enum llm_event_kind kind;
	struct llm_seq *seq;
	uint32_t generated;
	uint32_t preemptions;
};

struct llm_engine;

struct llm_engine_options {
	struct llm_device_options device;
	struct llm_host host;
	void (*wake)(void *arg); /* called by the engine's thread when events are there */
	void *arg;
};

/* What became of the device; constant while the engine runs. */
struct llm_engine_facts {
	char device[128];
	const struct llm_model *model;
	uint64_t total_bytes, weight_bytes, cache_bytes, workspace_bytes;
	uint32_t n_blocks, max_tokens, max_seqs, budget, n_graphs;
};

/**
 * llm_engine_create() - load the model, start the thread, wait until it can serve.
 * Return: 0; negative errno, said in the log
 */
int llm_engine_create(const struct llm_engine_options *o, struct llm_engine **ret_engine);

/* End the thread after the step under way; sequences that are left get their last event. */
void llm_engine_stop(struct llm_engine *e);
/* Stop, and free. Accepts NULL. */
void llm_engine_free(struct llm_engine *e);

const struct llm_engine_facts *llm_engine_facts(const struct llm_engine *e);

/**
 * llm_engine_submit() - hand over a sequence, which stays the caller's to free.
 * The caller frees it when it has read the event that is its last, and not before. It changes
 * nothing in it until then; `user` is its own. @q fits into max_tokens.
 */
void llm_engine_submit(struct llm_engine *e, struct llm_seq *q);

/* Ask for its end; LLM_EVENT_ABORTED, or another last event, follows. */
void llm_engine_cancel(struct llm_engine *e, struct llm_seq *q);

/* All events there are, to be freed by the caller; NULL when there are none. */
struct llm_event *llm_engine_events(struct llm_engine *e, size_t *ret_n);

/* Whether the device still does what it should. */
bool llm_engine_healthy(struct llm_engine *e);

/* Sequences that have not had their last event. */
uint64_t llm_engine_open(struct llm_engine *e);

/* A copy of the counters. */
void llm_engine_metrics(struct llm_engine *e, struct llm_metrics *ret);

#endif /* AQ_BENCH_LLM_ENGINE_H */
