/* SPDX-License-Identifier: Apache-2.0 */
/* What is measured: ways to divide a device, and how many users each serves within the bound. */
#ifndef AQ_FRACTIONS_CASES_H
#define AQ_FRACTIONS_CASES_H

#include <stdbool.h>
#include <stdint.h>

#include "fractions/replica.h"
#include "serve/report.h"

#define AQ_CASE_STEPS 32

struct aq_case {
	const char *name;
	const char *title;     /* of two lines, for bars */
	unsigned int replicas;
	uint32_t permille;     /* of a device, each */
	bool guarded;
	bool quick;            /* part of --quick, too */
};

struct aq_case_result {
	const struct aq_case *c;
	int error;             /* 0; -ENOSPC the model does not fit; other negative errno */
	bool settled;          /* the search came to its end; else the time was over first */
	struct aq_search_row rows[AQ_CASE_STEPS]; /* users: all of the device's */
	size_t count;
	uint32_t users;        /* most whose p95 is within the bound, on every replica */
	uint32_t users_every;  /* most of whom every request is; 0 also when not looked for */
	const struct aq_search_row *best; /* at `users`; NULL none */
	uint64_t kv_tokens;    /* of all replicas */
	char device[128];
};

struct aq_fractions_config {
	const char *model;
	uint32_t isl, osl;
	uint64_t bound_ns, warmup_ns, duration_ns, seed;
	double precision;
	uint64_t case_ns;      /* no further step is begun after this time in a case; 0 no limit */
	bool every, quick;
};

extern const struct aq_case aq_cases[];
extern const size_t aq_case_count;

/**
 * aq_case_run() - start the replicas, search for the most users, end the replicas.
 * @guess: users to begin with
 * @stop: a signal that came; ends it with what was measured
 * Return: nothing; see ret_result->error
 */
void aq_case_run(const struct aq_stage *s, const struct aq_fractions_config *config,
		 const struct aq_case *c, uint32_t guess, volatile int *stop,
		 struct aq_case_result *ret_result);

#endif /* AQ_FRACTIONS_CASES_H */
