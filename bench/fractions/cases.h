/* SPDX-License-Identifier: Apache-2.0 */
/* The experiment: its cases, in order, and what each of them came to. */
#ifndef AQ_FRACTIONS_CASES_H
#define AQ_FRACTIONS_CASES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fractions/config.h"
#include "fractions/rows.h"
#include "fractions/stage.h"

#define FR_PARTS_MOST 8
#define FR_SCALE_REPLICAS 4

/* What runs at once, and how its users come. */
struct fr_setup {
	const char *name;
	struct fr_part parts[FR_PARTS_MOST];
	double weight[FR_PARTS_MOST];	 /* users of a part, of those of a part with weight 1 */
	const char *role[FR_PARTS_MOST]; /* NULL: all parts are alike, no rows of their own */
	bool embeddings[FR_PARTS_MOST];
	size_t count;
	bool steady; /* users come one after the other, and only then is measured */
};

/* A request of the scale-out: when it began, since the first load, and its wait. */
struct fr_dot {
	double at_s, ttft_ms;
	unsigned int replica;
	bool failed;
};

struct fr_scale {
	struct fr_dot *dots;
	size_t count, room;
	double joined_s[FR_SCALE_REPLICAS]; /* when each replica's users began */
	size_t replicas;
	uint32_t users_each;
	double length_s;
};

struct fr_run {
	const struct fr_config *config;
	struct fr_stage stage;
	struct fr_rows answers, steps;
	struct fr_notes notes;
	struct fr_scale scale;
	uint64_t begin_ns;
	uint64_t requests;			/* of all steps */
	void (*keep)(const struct fr_run *run); /* after each case; NULL nothing */
	double load; /* of the host before the run: processes that want a core */
	bool failed; /* a case could not be measured, though it should */
};

/**
 * fr_run_cases() - measure all cases that were asked for.
 * Answers and steps are added as they are known, so that an interrupted run has what there is.
 * @keep: called after each case, so that a run that is killed has left something; or NULL
 * Return: 0; -EINTR; negative errno nothing could be measured (stage.why)
 * Owns: fr_run_finish(). Everything that was started has ended.
 */
int fr_run_cases(struct fr_run *run, const struct fr_config *c,
		 void (*keep)(const struct fr_run *run));
void fr_run_finish(struct fr_run *run);

/* @name among `a,b,c`, or @list NULL. */
bool fr_case_chosen(const char *list, const char *name);

/* Is every name of `a,b,c` a case? */
bool fr_cases_known(const char *list);

/* Users of a part when one of weight 1 has @users: at least 1. */
uint32_t fr_users_of(double weight, uint32_t users);

#endif /* AQ_FRACTIONS_CASES_H */
