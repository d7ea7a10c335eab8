/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The resource manager's ioctl interface under the driver library, as far as time slices need it:
 * a recorder of this process's own calls, and controls on objects that this process's own driver
 * library made. Numbers, sizes and offsets are facts published in NVIDIA/open-gpu-kernel-modules
 * (MIT), the same from 535 to 595 for what is used here; nothing is copied.
 *
 * A program that links rm.c defines ioctl() itself and must export it: being first in
 * the loader's global scope it is the one that libcuda.so.1 calls.
 */
#ifndef AQ_BENCH_RM_H
#define AQ_BENCH_RM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define RM_LOG 8192
#define RM_OBJECTS 1024

enum rm_escape { /* the low byte of the request */
		 RM_FREE = 0x29,
		 RM_CONTROL = 0x2a,
		 RM_ALLOC = 0x2b,
		 RM_DUP = 0x34,
		 RM_SHARE = 0x35,
		 RM_REGISTER_FD = 201,
		 RM_TRANSFER = 211,
};

enum rm_class {
	RM_CLASS_CLIENT = 0x41,
	RM_CLASS_DEVICE = 0x80,
	RM_CLASS_SUBDEVICE = 0x2080,
	RM_CLASS_GROUP = 0xa06c, /* of channels: what has a time slice */
};

enum rm_command {
	RM_GROUP_SCHEDULE = 0xa06c0101,
	RM_GROUP_SET_TIMESLICE = 0xa06c0103,
	RM_GROUP_GET_TIMESLICE = 0xa06c0104,
	RM_GROUP_PREEMPT = 0xa06c0105,
	RM_GROUP_GET_INFO = 0xa06c0106,
	RM_CHANNEL_RESTART_RUNLIST = 0xa06f0111,
	RM_FIFO_GET_INFO = 0x20801109,
	RM_FIFO_DISABLE_CHANNELS = 0x2080110b,
	RM_SET_PREEMPTION_MODE = 0x20801210,
	RM_GET_SWITCH_MODES = 0x20801235,
};

enum rm_status {
	RM_OK = 0,
	RM_INSUFFICIENT_PERMISSIONS = 0x1b,
	RM_INVALID_CLIENT = 0x23,
	RM_NOT_SUPPORTED = 0x56,
};

/* One call, after it returned. */
struct rm_call {
	int fd;
	uint32_t minor; /* 255: the control device */
	uint32_t nr, bytes;
	uint32_t client, object;
	uint32_t what; /* class or command */
	uint32_t status;
	int ret;
	uint64_t value; /* slice or mode, where the call carries one */
};

struct rm_object {
	bool live;
	int fd;
	uint32_t client, handle, parent, class_id, engine;
};

/* Shared with the process that evaluates. */
struct rm_record {
	_Atomic uint32_t calls; /* all, also those that no longer fit the log */
	_Atomic uint32_t odd;	/* of a size or form that was not understood: nothing was read */
	uint32_t n_objects;	/* slots used; under the recorder's lock */
	struct rm_call log[RM_LOG];
	struct rm_object objects[RM_OBJECTS];
};

/* Records from now on into @r, which lives as long as the process. */
void rm_record_start(struct rm_record *r);

/* A control on an object; what it said and how long it took. Never blocks on the recorder. */
struct rm_answer {
	int ret, error; /* of the system call */
	uint32_t status;
	uint64_t ns;
};
struct rm_answer rm_control(int fd, uint32_t client, uint32_t object, uint32_t command,
			    void *params, uint32_t bytes);
static inline bool rm_good(struct rm_answer a)
{
	return a.ret == 0 && a.status == RM_OK;
}

/* Of the kernel, past the recorder: rm_sys.c. An NVIDIA device file? ioctl(2) itself. */
bool rm_is_device(int fd, uint32_t *ret_minor);
int rm_raw_ioctl(int fd, unsigned long request, void *arg);

/*
 * The groups of channels that do compute work: live, class RM_CLASS_GROUP, graphics engine. Indices
 * into objects[]; the number, at most @max. *ret_clients is the number of clients that own them.
 */
unsigned rm_compute_groups(const struct rm_record *r, unsigned *ret, unsigned max,
			   unsigned *ret_clients);

/* Live channels of a group, in the same way. */
unsigned rm_channels(const struct rm_record *r, const struct rm_object *group, unsigned *ret,
		     unsigned max);

/* A live object of that class and client, or NULL. */
const struct rm_object *rm_find(const struct rm_record *r, uint32_t client, uint32_t class_id);

#endif
