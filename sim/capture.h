/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stream capture as the rest of the execution side sees it: every operation goes through
 * sim_enqueue(), which either submits it or makes it a node.
 */
#ifndef SIM_CAPTURE_H
#define SIM_CAPTURE_H

#include <stdbool.h>

#include "cuda/cuda_abi.h"
#include "exec.h"

enum sim_enqueue {
	SIM_ASYNC,  /* return when it is handed over */
	SIM_STAGED, /* the same, but wait until it is done outside captures (pageable memory) */
	SIM_SYNC,   /* return when it is done; forbidden where captures forbid to synchronise */
};

/**
 * sim_enqueue() - hand over or capture.
 * @t: stays the caller's, as with sim_submit()
 * Return: as sim_submit(); CUDA_ERROR_STREAM_CAPTURE_* where captures forbid it.
 */
CUresult sim_enqueue(struct sim_stream *s, struct sim_task *t, enum sim_enqueue how);

/**
 * sim_capture_check() - whether a call that touches @s without submitting (synchronise, query) may
 * go on. Invalidates the captures that it would disturb.
 * Return: CUDA_SUCCESS, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, ..._IMPLICIT.
 */
CUresult sim_capture_check(struct sim_stream *s);

/* The same for a call that synchronises with a whole context. */
CUresult sim_capture_check_context(struct sim_exec *x);

/* The capture of @s fails from now on; nothing when it has none. */
void sim_capture_invalidate(struct sim_stream *s);

/* Drop the capture of a stream that is destroyed. With the lock held. */
void sim_capture_drop(struct sim_stream *s);

/*
 * Events (event.c tells of them). Return: 1 when @s captures (or, for a wait, the event does, and
 * @s is drawn in): then all is done, and *@ret_result is for the caller; 0: not a matter of
 * captures.
 * @external: becomes a node of its own instead of a dependency.
 */
struct sim_event;
int sim_capture_record(struct sim_stream *s, struct sim_event *e, bool external,
		       CUresult *ret_result);
int sim_capture_wait(struct sim_stream *s, struct sim_event *e, bool external,
		     CUresult *ret_result);

/* Capture a child graph, which goes over. */
struct sim_graph;
CUresult sim_capture_child(struct sim_stream *s, struct sim_graph *g);

/* hostfunc.c: whether the caller is inside a function of the program that the driver called. */
bool sim_in_host_call(void);

#endif /* SIM_CAPTURE_H */
