/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a tenant does to its own channel groups on command, in its second thread. The first process
 * asks through struct tenant's extra[] and reads the answers there. Every operation acts on the
 * tenant's own objects and on nothing else, and each that changes something can be undone; what
 * would outlive the process or concern other processes' settings is not here at all.
 */
#ifndef AQ_BENCH_RMOPS_H
#define AQ_BENCH_RMOPS_H

#include "rm.h"
#include "tenants.h"

enum rm_op {
	OP_SURVEY,	  /* groups, clients, channels, version fit: may anything be tried? */
	OP_GET_INFO,	  /* value: hardware number of the group */
	OP_GET_SLICE,	  /* value: microseconds as the driver's bookkeeping has them */
	OP_SET_SLICE,	  /* argument: microseconds */
	OP_PREEMPT,	  /* own group, waits 100 ms at most */
	OP_RESCHEDULE,	  /* schedule the own group, which is scheduled already */
	OP_OFF_AND_ON,	  /* own channels disabled and enabled again at once */
	OP_RESTART,	  /* runlist restart on an own channel: privileged */
	OP_DEFAULT_SLICE, /* value: the driver's default slice */
	OP_SWITCH_MODES,  /* value: compute preemption mode */
	OP_FRESH_OPEN,	  /* control through a file that does not own the client: must be refused */
	OP_SEND_FD,	  /* the owning file to the first process, by SCM_RIGHTS */
};

/* Capabilities the second thread has while it does it. */
enum rm_caps {
	CAPS_AS_THEY_ARE,
	CAPS_NONE,
	CAPS_NICE, /* CAP_SYS_NICE alone */
};

/* Places in extra[]. */
enum {
	X_OP,
	X_ARGUMENT,
	X_CAPS,
	X_RET,
	X_ERROR,
	X_STATUS,
	X_NS,
	X_VALUE,
	X_GROUPS,
	X_CLIENTS,
	X_CHANNELS,
	X_FD,	  /* number of the owning file in the tenant */
	X_CLIENT, /* and what the first group is called there */
	X_GROUP,
	X_CHANNEL,
	X_SAVED, /* slice before one was set at once after opening */
};

/* Before the tenant's first CUDA call: its recorder. @socket: where OP_SEND_FD sends, or -1. */
void rmops_prepare(struct rm_record *record, int socket);
int rmops_control(int index, struct tenant *t);

/* In the first process: asks tenant @i; false when it did not answer or the control was refused. */
bool rmops_ask(struct tenants *ts, int i, enum rm_op op, uint64_t argument, enum rm_caps caps);

/* Receives a file sent by OP_SEND_FD; -1 when none came. */
int rmops_receive_fd(int socket);

/* "ok", or what was said instead. Static buffer. */
const char *rmops_said(const struct tenant *t);

#endif
