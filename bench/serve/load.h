/* SPDX-License-Identifier: Apache-2.0 */
/* A whole run: users or arrivals, warm-up, the measured window, and what came of each request. */
#ifndef AQ_SERVE_LOAD_H
#define AQ_SERVE_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "serve/exchange.h"
#include "serve/failure.h"
#include "serve/hist.h"
#include "serve/lengths.h"
#include "serve/target.h"

/* What the progress line says; all since the measured window began. */
struct aq_load_progress {
	uint64_t since_ns, whole_ns; /* since the beginning; of all, 0 unknown */
	bool warm;                   /* the window is open */
	uint32_t in_flight;
	uint64_t finished, failed, tokens;
	uint64_t window_ns;          /* since the window opened */
	const struct aq_hist *ttft;
};

struct aq_load_config {
	struct aq_target *targets; /* resolved, models known */
	size_t target_count;
	const struct aq_lengths *lengths; /* instead of the targets' isl and osl; NULL none */
	uint64_t duration_ns;     /* of the window; 0: until @requests */
	uint64_t requests;        /* in the window; 0: no bound but the time. One of both is needed */
	uint64_t warmup_ns, warmup_requests; /* at most one */
	uint64_t ramp_ns;         /* users begin spread over this time */
	uint64_t drain_ns;        /* how long the requests in flight may take after the window */
	bool stagger;             /* the users there are at first begin in the middle of an answer: their
				   * first one is cut to a part of its length, so that they do not
				   * all ask again at once. Not for what is counted: ramp in warm-up */
	uint64_t think_ns;        /* pause of a user between requests */
	double burstiness;        /* shape of the gamma distributed gaps; 1 is Poisson */
	uint64_t seed;
	struct aq_limits limits;
	const char *headers;      /* each ended by CR LF, or "" */
	bool plain;               /* see aq_prompt_init() */
	bool stamps;              /* compare arrivals with the stub's stamps */
	void (*progress)(void *arg, const struct aq_load_progress *p); /* NULL none */
	void *progress_arg;
};

/* One request. Times in nanoseconds since the beginning of the run. */
struct aq_record {
	uint64_t start_ns; /* open loop: when it was due */
	uint64_t first_ns; /* first token; 0 none came. Embeddings: the whole answer */
	uint64_t last_ns;  /* last token */
	uint64_t end_ns;
	uint64_t worst_gap_ns; /* longest wait between two tokens */
	uint32_t number;   /* of the target's requests, from 0: same seed, same request */
	uint16_t target;
	uint32_t user;
	uint32_t isl_asked, osl_asked;
	uint32_t isl, osl; /* by the server's count, else words asked for and events with text */
	uint8_t end;       /* enum aq_end */
	bool counted;      /* began inside the window */
};

struct aq_target_result {
	struct aq_hist *itl;    /* gaps between tokens in the window */
	uint64_t tokens_out, tokens_in; /* that came, or were taken in, in the window */
	uint64_t ends[AQ_ENDS]; /* of counted requests */
	char why[AQ_ENDS][AQ_ANSWER_MESSAGE]; /* what the first of each kind said */
};

struct aq_load_result {
	struct aq_record *records;
	size_t count;
	struct aq_target_result *targets; /* as many as the config's */
	size_t target_count;
	uint64_t window_begin_ns, window_end_ns; /* since the beginning; equal: it never opened */
	uint64_t run_ns;
	int signal;             /* that ended it early; 0 none */
	struct aq_hist *lag;    /* arrival of bytes until they were read */
	struct aq_hist *late;   /* open loop: due until begun */
	struct aq_hist *error;  /* of the time of a token, by the stub's stamps; empty without */
	uint64_t early;         /* tokens that seem to arrive before they were stamped */
	uint64_t unstamped, reconnects;
};

/**
 * aq_load_run() - do it. SIGINT and SIGTERM end it early, with what was measured so far.
 * Every request ends by the limits, so the run ends. Raises the soft limit of descriptors.
 * Return: 0; -ENOMEM; -EINVAL the config contradicts itself; other negative errno of the loop
 * Owns: aq_load_result_finish(). Context: one run at a time in a process (signals).
 */
int aq_load_run(const struct aq_load_config *config, struct aq_load_result *ret_result);
void aq_load_result_finish(struct aq_load_result *r);

#endif /* AQ_SERVE_LOAD_H */
