/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP side: paths, draining, signals. One thread on libevent; the engine has its own. */
#ifndef AQ_BENCH_LLM_SERVER_H
#define AQ_BENCH_LLM_SERVER_H

#include <stdint.h>

#include "bench/llm/engine.h"

struct llm_server_options {
	struct llm_engine_options engine; /* wake and arg are the server's */
	const char *host;		  /* address to listen on */
	uint16_t port;			  /* 0: any free one */
	const char *served;		  /* name of the model for clients; NULL: its id */
	uint32_t max_requests;		  /* being answered or waiting; more get 503 */
	uint32_t drain_s;		  /* after SIGTERM, for what runs */
	double mean_output;		  /* tokens; 0: only max_tokens ends an answer */
};

/**
 * llm_server_run() - load, say on stdout where it listens, serve until SIGTERM or SIGINT.
 * Return: 0; negative errno when it could not start, or the device failed
 */
int llm_server_run(const struct llm_server_options *o);

#endif /* AQ_BENCH_LLM_SERVER_H */
