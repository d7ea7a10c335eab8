/* SPDX-License-Identifier: Apache-2.0 */
/* Events: handles of marks, of what another process recorded, or of a point in a capture. */
#ifndef SIM_EVENT_H
#define SIM_EVENT_H

#include "base/list.h"
#include "cuda/cuda_abi.h"
#include "exec.h"
#include "sim.h"

struct sim_node;

struct sim_event {
	uint32_t magic;
	unsigned int flags;
	struct sim_exec *exec;
	struct aq_list link;		 /* sim_exec.events */
	struct sim_mark *mark;		 /* of the last record; NULL: never recorded */
	struct sim_shared_event *shared; /* CU_EVENT_INTERPROCESS */
	/* When last recorded in a capturing stream: capture.c. */
	uint64_t capture_id; /* 0: it was not */
	struct sim_node **deps;
	size_t n_deps;
};

/* A handle that a caller gave. CUDA_ERROR_INVALID_HANDLE. */
CUresult sim_event_check(CUevent handle, struct sim_event **ret_event);

/* @m, which gains a reference, is the last record from now on. With the lock held. */
void sim_event_set_mark(struct sim_event *e, struct sim_mark *m);

/* The context goes away: its events are no longer. With the lock held. */
void sim_event_destroy_all(struct sim_exec *x);

#endif /* SIM_EVENT_H */
