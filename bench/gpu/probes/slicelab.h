/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One experiment on time slices: two tenants trace when they are on the device, a slice is set in
 * the middle, something is done to commit it, and everything is put back, all while both run. What
 * happened is read from the traces, part by part; what calls returned is only noted.
 */
#ifndef AQ_BENCH_SLICELAB_H
#define AQ_BENCH_SLICELAB_H

#include "rmops.h"

struct commit {
	const char *name;
	enum rm_op op; /* OP_SURVEY: nothing is done */
	enum rm_caps caps;
	bool scratch; /* a third process makes and ends a context instead */
};

struct plan {
	const char *name;
	uint64_t slice_us[2];
	bool at_open; /* set right after the context was made, before any kernel */
	bool no_set;  /* only the commit is tried */
	bool outside; /* tenant 0's slice is set by this process, through a duplicate of its file */
	bool lower;   /* tenant 0 gives up root first */
	enum rm_caps set_caps; /* under which a tenant sets its slice */
	struct commit commit;
};

enum part { PART_BEFORE, PART_SET, PART_COMMITTED, PART_RESTORED, PART_COUNT };

enum effect { EFFECT_NONE, EFFECT_AS_ASKED, EFFECT_OTHER, EFFECT_UNKNOWN };

struct outcome {
	enum effect effect[PART_COUNT];
	double stay_ns[PART_COUNT][2]; /* medians */
	double busy[PART_COUNT];       /* part of the time in which one of the two was there */
};

/* Why nothing may be tried here, or NULL. Looks at the device only. */
const char *lab_refusal(void);

/*
 * Runs @p with two fresh tenants and reports everything. False when anything surprised: then no
 * further experiment may follow. @last_words says why.
 */
bool lab_run(const struct plan *p, struct outcome *ret, const char **last_words);

/* The pieces, for experiments of another form. */
bool lab_open(struct tenants *ts, const struct plan *p, const char **last_words);
bool lab_set(struct tenants *ts, const struct plan *p, const uint64_t us[2]);
bool lab_commit(struct tenants *ts, const struct plan *p);
void lab_close(struct tenants *ts);
struct rm_record *lab_record(int index);
uint64_t lab_saved_us(int index);
int lab_outside_fd(void); /* -1 when there is none */
void lab_forget_outside_fd(void);

/* Device nanoseconds that a slice of @us should last. Source: Host's timer counts 1.024 us; dev_ram
 * manuals of Volta to GA100 in NVIDIA/open-gpu-doc. */
double lab_expected_ns(uint64_t us);

#endif
