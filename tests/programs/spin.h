/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the spinner does with the device: kernels of given lengths, in steps, by one thread with
 * streams of its own. Knows nothing of options, clocks on the wall or output; see spinner.c.
 */
#ifndef AQ_TESTS_SPIN_H
#define AQ_TESTS_SPIN_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "cu.h"

#define SPIN_MAX_LENGTHS 16
#define SPIN_MAX_STREAMS 64
#define SPIN_MAX_DEPTH 4096
#define SPIN_MAX_LATENCIES 65536 /* between two reports; more are not kept */

enum spin_mode {
	SPIN_ASYNC, /* --depth steps ahead of the device */
	SPIN_SYNC,  /* wait for each step */
	SPIN_NEVER, /* never ask the device anything */
};

enum spin_wait { /* how SPIN_SYNC waits */
		 SPIN_WAIT_STREAM,
		 SPIN_WAIT_EVENT,
		 SPIN_WAIT_CONTEXT,
		 SPIN_WAIT_COPY,  /* a blocking copy on the default stream */
		 SPIN_WAIT_QUERY, /* ask again and again */
};

enum spin_stream {
	SPIN_OWN,    /* --streams of its own, non-blocking */
	SPIN_LEGACY, /* the default stream */
	SPIN_THREAD, /* the per-thread default stream, by its handle */
	SPIN_PTSZ,   /* the same, by the _ptsz entry points and NULL */
};

/* Constant while threads run. */
struct spin_plan {
	enum spin_mode mode;
	enum spin_wait wait;
	enum spin_stream stream;
	uint64_t length_ns[SPIN_MAX_LENGTHS]; /* of the kernels, in turn */
	unsigned int n_lengths;
	unsigned int kernels; /* in a step */
	uint64_t graph_ns;    /* not 0: a step is one graph of kernels of this length together */
	uint64_t idle_ns;     /* after each step that was waited for */
	uint64_t copy_bytes;  /* from the host, before the kernels of each step */
	unsigned int streams, depth;
	bool host;    /* a host function ends each step */
	bool capture; /* capture, instantiate, launch once, destroy: in each step */
	CUstreamCaptureMode capture_mode;
	double steps_per_ns, overhead_ns; /* of aq_loop; measured */
};

/* One thread's work. Counters are read by others. */
struct spin_worker {
	const struct spin_plan *plan;
	CUcontext ctx;
	CUfunction loop;
	CUdeviceptr out;
	CUdeviceptr copy_to; /* for copy_bytes; private to the thread, as copy_from */
	void *copy_from;
	_Atomic bool *stop;
	pthread_t thread;

	_Atomic uint64_t steps;		  /* done, or in SPIN_NEVER submitted */
	_Atomic uint64_t done_ns;	  /* device time of those */
	_Atomic uint64_t callbacks;	  /* host functions that ran */
	_Atomic uint64_t longest_call_ns; /* of the calls that submit, since the last report */
	pthread_mutex_t lock;		  /* of what follows */
	uint32_t latency_us[SPIN_MAX_LATENCIES]; /* SPIN_SYNC: from first call to the end of wait */
	unsigned int n_latencies;

	CUresult error; /* valid once the thread has ended; and in which call */
	const char *failed;

	/* Private to the thread. */
	CUstream streams[SPIN_MAX_STREAMS];
	CUgraphExec
		execs[SPIN_MAX_STREAMS];   /* one for each: launches of one graph do not overlap */
	CUevent events[SPIN_MAX_DEPTH];	   /* at the end of the steps under way */
	uint64_t event_ns[SPIN_MAX_DEPTH]; /* device time of those steps */
	uint64_t submitted, seen;	   /* steps */
	unsigned int next_length;
};

/* The module, and how long a step of its kernel takes: @plan's last fields, unless set already. */
CUresult spin_prepare(struct spin_plan *plan, CUfunction *ret_loop, CUdeviceptr *ret_out,
		      const char **ret_failed);

/* Work until *stop, or until a call fails. @arg: struct spin_worker, ready but for the private. */
void *spin_run(void *arg);

uint64_t spin_now_ns(void);
void spin_sleep_until(uint64_t until_ns);

#endif /* AQ_TESTS_SPIN_H */
