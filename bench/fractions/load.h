/* SPDX-License-Identifier: Apache-2.0 */
/* Load on servers by `aliquot bench serve`, and what it measured. */
#ifndef AQ_FRACTIONS_LOAD_H
#define AQ_FRACTIONS_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fractions/stage.h"

/* What goes to one server. */
struct fr_lane {
	const struct fr_replica *replica;
	char users[48]; /* `40`, or a plan as `40/4@5s` */
	bool embeddings;
};

/* Times in milliseconds; not finite: nothing to tell from. */
struct fr_result {
	uint64_t requests, ok, failed, unfinished;
	double tokens_per_second, requests_per_second;
	double ttft_p50, ttft_p95, ttft_max;
	double itl_p50, itl_p99; /* not finite, too, where the generator was later than that */
	double lag_p99;		 /* of the generator: arrival of bytes until it read them */
	uint64_t generator_ns;	 /* CPU time of the generator; only in a total */
};

/*
 * A window of load. Without a warm-up all users begin at once, and their first requests count. With
 * one they begin one after the other during it, and only what they ask later counts.
 */
struct fr_window {
	uint64_t length_ns, warmup_ns;
};

struct fr_load {
	struct fr_proc proc;
	uint64_t deadline_ns;
	size_t lanes;
};

/**
 * fr_load_start() - begin to load servers.
 * @out: directory for what the generator writes of each request; NULL nothing
 * Return: 0 or negative errno
 */
int fr_load_start(struct fr_load *l, const struct fr_stage *s, const struct fr_lane *lanes,
		  size_t count, struct fr_window window, const char *out);

/**
 * fr_load_finish() - wait for its end.
 * @ret_total: of all lanes; @ret_each: as many as lanes, or NULL
 * Return: 0, also when requests failed; -ETIMEDOUT, -EPROTO, -EINTR...: nothing is returned, and
 * the generator has ended
 */
int fr_load_finish(struct fr_load *l, struct fr_result *ret_total, struct fr_result *ret_each);

/* Both. */
int fr_load_run(const struct fr_stage *s, const struct fr_lane *lanes, size_t count,
		struct fr_window window, const char *out, struct fr_result *ret_total,
		struct fr_result *ret_each);

/**
 * fr_result_read() - from the generator's JSON.
 * @ret_each: of @lanes
 * Return: 0; -EPROTO it is not that
 */
int fr_result_read(const char *json, size_t lanes, struct fr_result *ret_total,
		   struct fr_result *ret_each);

/* Did every request get its first token within the bound, and none fail? */
bool fr_result_within(const struct fr_result *r, double bound_ms);

#endif /* AQ_FRACTIONS_LOAD_H */
