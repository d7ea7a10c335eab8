/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that are being answered: texts of answers, whole or as a stream of events, and clients
 * that leave. One thread, the loop's.
 */
#ifndef AQ_BENCH_LLM_REPLY_H
#define AQ_BENCH_LLM_REPLY_H

#include <event2/http.h>
#include <jansson.h>

#include "base/list.h"
#include "bench/llm/ask.h"
#include "bench/llm/engine.h"

struct llm_reply;

struct llm_replies {
	struct event_base *base;
	struct llm_engine *engine;
	const char *model; /* name that is served */
	uint64_t key;	   /* of the names of answers */
	uint64_t n_made;
	struct aq_list all; /* struct llm_reply */
	uint32_t n;
	double mean_output;	    /* tokens after which a model ends by itself; 0: never */
	void (*on_none)(void *arg); /* called when the last of them is over */
	void *arg;
};

/* A JSON object as a whole answer; @value is taken. */
void llm_reply_json(struct evhttp_request *request, int status, json_t *value);

/* An error as OpenAI's API has it. */
void llm_reply_error(struct evhttp_request *request, int status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Begin to answer; the request is answered, or its client gone, some time later. */
void llm_reply_start(struct llm_replies *rs, struct evhttp_request *request,
		     const struct llm_ask *ask);

/* Something happened to a sequence; when it is its last event, @e's sequence is freed. */
void llm_reply_event(struct llm_replies *rs, const struct llm_event *e);

/* Let all clients go; the sequences' last events follow. */
void llm_replies_abort(struct llm_replies *rs);

#endif /* AQ_BENCH_LLM_REPLY_H */
