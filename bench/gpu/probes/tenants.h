/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that use the device side by side on command: each opens it for itself and then traces
 * when it is on the device, or works as fast as it can and counts. The first process commands and
 * evaluates, and makes no CUDA call. A second thread of each tenant obeys commands of the probe's
 * own while the first one is busy.
 */
#ifndef AQ_BENCH_TENANTS_H
#define AQ_BENCH_TENANTS_H

#include "probe.h"

#define TENANTS_MAX 4
#define TRACE_CAP 60000
#define TICKS_CAP 20000

enum load {
	LOAD_LIGHT, /* one warp per multiprocessor */
	LOAD_HEAVY, /* 1024 threads and all shared memory on each */
};

/* What a tenant saw of itself: runs are (first, last) device time of each stay on the device. */
struct trace {
	uint32_t n;
	uint64_t turns;
	uint64_t runs[TRACE_CAP][2];
};

struct work_order {
	uint64_t iters;	     /* of one kernel; grid and block are those of tenant_calibrate */
	unsigned nodes;	     /* 0: plain launches, else graphs of so many kernels */
	unsigned window;     /* launches between two looks at the clock */
	uint64_t start, end; /* host time */
	uint64_t pause_ns;   /* 0: saturate; else wait for each window and sleep so long */
};

/* Host times at which a window was seen to be finished, and how long after it was begun. */
struct ticks {
	uint32_t n;
	uint64_t at[TICKS_CAP];
	uint64_t took[TICKS_CAP]; /* with a pause only: else windows wait for each other */
};

struct tenant {
	pid_t pid;
	const struct tenant_hooks *hooks;
	_Atomic uint32_t order, done;	  /* counts of commands, of answers */
	_Atomic uint32_t c_order, c_done; /* the same for the second thread */
	_Atomic uint32_t c_stop;	  /* it is to end the trace */
	int command, result, c_result;
	bool computes;
	int64_t clock_offset_ns; /* device time minus host time */
	uint64_t clock_error_ns;
	uint64_t iters_per_ms; /* after tenant_calibrate */
	uint64_t trace_ns;
	enum load load;
	struct work_order work;
	struct ticks ticks;
	struct trace trace;
	uint64_t extra[64]; /* the probe's own, for control */
};

struct tenant_hooks {
	/* In the tenant, before its first CUDA call; not 0: it gives up. May be NULL. */
	int (*prepare)(int index);
	/* In the tenant, after the device was opened and before any kernel ran. May be NULL. */
	int (*opened)(int index, struct tenant *t);
	/* In the tenant's second thread, for tenant_control(). May be NULL. */
	int (*control)(int index, struct tenant *t);
};

struct tenants {
	int n;
	struct tenant *t; /* shared memory */
	pid_t pids[TENANTS_MAX];
};

/* Starts @n tenants and waits until all have opened the device; false: reported, none is left. */
bool tenants_start(struct tenants *ts, int n, const struct tenant_hooks *hooks);
void tenants_stop(struct tenants *ts);

/* Each _begin lets the tenant start, each _wait waits for its end: 0, or -1 reported. */
void tenant_trace_begin(struct tenants *ts, int i, uint64_t total_ns, enum load load);
void tenant_work_begin(struct tenants *ts, int i, const struct work_order *order);
void tenant_trace_stop(struct tenants *ts, int i); /* before its time; still to be waited for */
int tenant_wait(struct tenants *ts, int i, double seconds);

/* Measures iters_per_ms in the shape that work and graphs use: it fills the device. */
int tenant_calibrate(struct tenants *ts, int i);

/* Runs hooks->control in the tenant, also while it traces or works; its result, or -1. */
int tenant_control(struct tenants *ts, int i, double seconds);

/* Run lengths without the first and the last run, which something else began or ended. */
void trace_lengths(const struct trace *t, struct samples *runs);
void trace_gaps(const struct trace *t, struct samples *gaps);

/*
 * Time between the end of a run of one and the start of the next run of another: what a switch
 * costs the device. Only over the time in which all @n were there. *ret_overlaps counts runs that
 * overlap by more than @slack_ns: there should be none, or the device ran both at once.
 */
void trace_switches(struct tenants *ts, uint64_t slack_ns, struct samples *switches,
		    unsigned *ret_overlaps);

/* Windows per second of @t between two host times; 0 when fewer than two were finished there. */
double ticks_rate(const struct ticks *t, uint64_t from, uint64_t to);

#endif
