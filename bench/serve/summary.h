/* SPDX-License-Identifier: Apache-2.0 */
/* What a run amounts to: rates and percentiles, of one target or of all. Pure. */
#ifndef AQ_SERVE_SUMMARY_H
#define AQ_SERVE_SUMMARY_H

#include <stddef.h>
#include <stdint.h>

#include "serve/load.h"

/* Milliseconds. All 0 when there is nothing. */
struct aq_spread {
	uint64_t count;
	double mean, p50, p90, p95, p99, max;
};

/* What a good request keeps to; 0 is no bound. */
struct aq_bounds {
	uint64_t ttft_ns, tpot_ns, e2e_ns;
};

/*
 * Latencies are of requests that began inside the window, rates are of what happened inside it:
 * so neither the ramp nor the last requests' tail is in them.
 */
struct aq_summary {
	uint64_t requests;      /* began in the window */
	uint64_t ok, failed, unfinished;
	uint64_t ends[AQ_ENDS];
	double window_s;
	double requests_per_s;  /* whole answers */
	double tokens_out_per_s, tokens_in_per_s;
	double good_requests_per_s, good_tokens_per_s; /* of requests within all bounds */
	double isl_mean, osl_mean;
	/*
	 * Time to first token counts from when the request was due, connecting included. A request
	 * that still waited for its first token at the end of a whole run counts with its wait.
	 */
	struct aq_spread ttft;
	struct aq_spread tpot;  /* (last token - first token) / (tokens - 1), of whole answers */
	struct aq_spread e2e;   /* of whole answers */
	struct aq_spread itl;   /* every gap between two tokens; classes of 0.4 % */
};

/* @target: its index, or SIZE_MAX for all together. Return: 0 or -ENOMEM. */
int aq_summary_make(const struct aq_load_result *result, const struct aq_bounds *bounds,
		    size_t target, struct aq_summary *ret_summary);

#endif /* AQ_SERVE_SUMMARY_H */
