/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a tenant does to its own channel groups on command. Whether it had an effect is measured
 * elsewhere: a status of 0 proves nothing.
 */
#include "rmops.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_GROUPS 16
#define MAX_CHANNELS 64
#define PREEMPT_TIMEOUT_US 100000

static struct rm_record *record;
static int fd_socket = -1;

void rmops_prepare(struct rm_record *r, int socket)
{
	record = r;
	fd_socket = socket;
	rm_record_start(r);
}

/* Of the calling thread alone: capset(2) without the library's all-threads wrapper. */
static int set_caps(const struct __user_cap_data_struct *caps)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};

	return (int)syscall(SYS_capset, &head, caps);
}

static int keep_caps(struct __user_cap_data_struct *caps)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};

	return (int)syscall(SYS_capget, &head, caps);
}

/* Only the effective set changes, so that it can be put back. */
static int lower_caps(const struct __user_cap_data_struct *kept, enum rm_caps which)
{
	struct __user_cap_data_struct caps[2] = {kept[0], kept[1]};

	caps[0].effective = caps[1].effective = 0;
	if (which == CAPS_NICE) {
		caps[0].effective = CAP_TO_MASK(CAP_SYS_NICE) & kept[0].permitted;
		if (!caps[0].effective)
			return -1;
	}
	return set_caps(caps);
}

static struct rm_answer on_group(const struct rm_object *g, uint32_t command, void *params,
				 uint32_t bytes)
{
	return rm_control(g->fd, g->client, g->handle, command, params, bytes);
}

static struct rm_answer preempt(const struct rm_object *g)
{
	struct {
		uint8_t wait, manual_timeout, pad[2];
		uint32_t timeout_us;
	} p = {1, 1, {0}, PREEMPT_TIMEOUT_US};

	return on_group(g, RM_GROUP_PREEMPT, &p, sizeof(p));
}

static struct rm_answer reschedule(const struct rm_object *g)
{
	struct {
		uint8_t enable, skip_submit, skip_enable;
	} p = {1, 0, 0};

	return on_group(g, RM_GROUP_SCHEDULE, &p, sizeof(p));
}

/*
 * The channels are never left off: enabling follows whatever disabling said, three times if need
 * be, and the end of the process gives them back in any case.
 */
static struct rm_answer off_and_on(const struct rm_object *g)
{
	struct {
		uint8_t disable, pad0[3];
		uint32_t n;
		uint8_t only_scheduling, rewind_put, pad1[6];
		uint64_t event;
		uint32_t clients[64], channels[64];
	} p = {.disable = 1};
	const struct rm_object *subdevice = rm_find(record, g->client, RM_CLASS_SUBDEVICE);
	struct rm_answer a = {-1, ENOENT, 0, 0}, on;
	unsigned channels[MAX_CHANNELS];

	_Static_assert(sizeof(p) == 536, "NV2080_CTRL_FIFO_DISABLE_CHANNELS_PARAMS");
	p.n = rm_channels(record, g, channels, MAX_CHANNELS);
	if (!p.n || !subdevice)
		return a;
	for (uint32_t i = 0; i < p.n; i++) {
		p.clients[i] = g->client;
		p.channels[i] = record->objects[channels[i]].handle;
	}
	a = rm_control(g->fd, g->client, subdevice->handle, RM_FIFO_DISABLE_CHANNELS, &p,
		       sizeof(p));
	for (int i = 0; i < 3; i++) {
		p.disable = 0;
		on = rm_control(g->fd, g->client, subdevice->handle, RM_FIFO_DISABLE_CHANNELS, &p,
				sizeof(p));
		if (rm_good(on))
			break;
	}
	a.ns += on.ns;
	return rm_good(a) ? on : a;
}

static struct rm_answer restart_runlist(const struct rm_object *g)
{
	struct {
		uint8_t force, bypass_wait;
	} p = {1, 0};
	struct rm_answer a = {-1, ENOENT, 0, 0};
	unsigned channel;

	if (!rm_channels(record, g, &channel, 1))
		return a;
	return rm_control(g->fd, g->client, record->objects[channel].handle,
			  RM_CHANNEL_RESTART_RUNLIST, &p, sizeof(p));
}

static struct rm_answer default_slice(const struct rm_object *g, uint64_t *ret_us)
{
	static struct {
		uint32_t n;
		struct {
			uint32_t index, data;
		} entries[256];
		uint32_t engine;
	} p;
	const struct rm_object *subdevice = rm_find(record, g->client, RM_CLASS_SUBDEVICE);
	struct rm_answer a = {-1, ENOENT, 0, 0};

	_Static_assert(sizeof(p) == 2056, "NV2080_CTRL_FIFO_GET_INFO_PARAMS");
	if (!subdevice)
		return a;
	memset(&p, 0, sizeof(p));
	p.n = 1;
	p.entries[0].index = 5;
	p.engine = 1;
	a = rm_control(g->fd, g->client, subdevice->handle, RM_FIFO_GET_INFO, &p, sizeof(p));
	*ret_us = p.entries[0].data;
	return a;
}

static struct rm_answer switch_modes(const struct rm_object *g, uint64_t *ret_mode)
{
	uint32_t p[6] = {0};
	const struct rm_object *subdevice = rm_find(record, g->client, RM_CLASS_SUBDEVICE);
	struct rm_answer a = {-1, ENOENT, 0, 0};
	unsigned channel;

	if (!subdevice || !rm_channels(record, g, &channel, 1))
		return a;
	p[0] = record->objects[channel].handle;
	a = rm_control(g->fd, g->client, subdevice->handle, RM_GET_SWITCH_MODES, p, sizeof(p));
	*ret_mode = p[4];
	return a;
}

static struct rm_answer fresh_open(const struct rm_object *g)
{
	struct rm_answer a = {-1, 0, 0, 0};
	uint32_t id = 0;
	int fd = open("/dev/nvidiactl", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		a.error = errno;
		return a;
	}
	a = rm_control(fd, g->client, g->handle, RM_GROUP_GET_INFO, &id, sizeof(id));
	close(fd);
	return a;
}

static struct rm_answer send_fd(const struct rm_object *g)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	char byte = 1;
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	struct rm_answer a = {0, 0, RM_OK, 0};

	memset(&control, 0, sizeof(control));
	control.head.cmsg_level = SOL_SOCKET;
	control.head.cmsg_type = SCM_RIGHTS;
	control.head.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.head), &g->fd, sizeof(int));
	if (sendmsg(fd_socket, &m, MSG_NOSIGNAL) != 1) {
		a.ret = -1;
		a.error = errno;
	}
	return a;
}

static struct rm_answer do_op(enum rm_op op, const struct rm_object *g, uint64_t *value)
{
	struct rm_answer a = {0, 0, RM_OK, 0};
	uint32_t id = 0;

	switch (op) {
	case OP_GET_INFO:
		a = on_group(g, RM_GROUP_GET_INFO, &id, sizeof(id));
		*value = id;
		return a;
	case OP_GET_SLICE:
		return on_group(g, RM_GROUP_GET_TIMESLICE, value, sizeof(*value));
	case OP_SET_SLICE:
		return on_group(g, RM_GROUP_SET_TIMESLICE, value, sizeof(*value));
	case OP_PREEMPT:
		return preempt(g);
	case OP_RESCHEDULE:
		return reschedule(g);
	case OP_OFF_AND_ON:
		return off_and_on(g);
	case OP_RESTART:
		return restart_runlist(g);
	case OP_DEFAULT_SLICE:
		return default_slice(g, value);
	case OP_SWITCH_MODES:
		return switch_modes(g, value);
	case OP_FRESH_OPEN:
		return fresh_open(g);
	case OP_SEND_FD:
		return send_fd(g);
	case OP_SURVEY:
		break;
	}
	return a;
}

static void survey(struct tenant *t, const struct rm_object *first, unsigned groups,
		   unsigned clients)
{
	unsigned channels[MAX_CHANNELS];

	t->extra[X_GROUPS] = groups;
	t->extra[X_CLIENTS] = clients;
	if (!first)
		return;
	t->extra[X_CHANNELS] = rm_channels(record, first, channels, MAX_CHANNELS);
	t->extra[X_FD] = (uint64_t)first->fd;
	t->extra[X_CLIENT] = first->client;
	t->extra[X_GROUP] = first->handle;
	t->extra[X_CHANNEL] = t->extra[X_CHANNELS] ? record->objects[channels[0]].handle : 0;
}

/* On each compute group of this process, until one refuses. */
int rmops_control(int index, struct tenant *t)
{
	enum rm_op op = (enum rm_op)t->extra[X_OP];
	enum rm_caps caps = (enum rm_caps)t->extra[X_CAPS];
	struct __user_cap_data_struct kept[2];
	struct rm_answer a = {0, 0, RM_OK, 0};
	unsigned groups[MAX_GROUPS], clients, n;

	(void)index;
	n = rm_compute_groups(record, groups, MAX_GROUPS, &clients);
	survey(t, n ? &record->objects[groups[0]] : NULL, n, clients);
	if (op == OP_SURVEY || !n || clients != 1)
		return n && clients == 1 ? 0 : -1;
	if (caps != CAPS_AS_THEY_ARE && (keep_caps(kept) || lower_caps(kept, caps)))
		return -1;
	for (unsigned i = 0; i < n && rm_good(a); i++) {
		uint64_t value = t->extra[X_ARGUMENT];

		a = do_op(op, &record->objects[groups[i]], &value);
		if (!i)
			t->extra[X_VALUE] = value;
		t->extra[X_NS] = a.ns;
		if (op == OP_SEND_FD || op == OP_RESTART || op == OP_FRESH_OPEN)
			break; /* once is what is meant */
	}
	if (caps != CAPS_AS_THEY_ARE && set_caps(kept))
		return -1;
	t->extra[X_RET] = (uint64_t)(int64_t)a.ret;
	t->extra[X_ERROR] = (uint64_t)a.error;
	t->extra[X_STATUS] = a.status;
	return rm_good(a) ? 0 : -1;
}

bool rmops_ask(struct tenants *ts, int i, enum rm_op op, uint64_t argument, enum rm_caps caps)
{
	uint64_t *x = ts->t[i].extra;

	x[X_OP] = op;
	x[X_ARGUMENT] = argument;
	x[X_CAPS] = caps;
	x[X_RET] = x[X_ERROR] = x[X_STATUS] = x[X_NS] = x[X_VALUE] = 0;
	return tenant_control(ts, i, 5) == 0;
}

int rmops_receive_fd(int socket)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	char byte;
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	int fd = -1;

	if (recvmsg(socket, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != 1 ||
	    m.msg_controllen < CMSG_LEN(sizeof(int)) || control.head.cmsg_type != SCM_RIGHTS)
		return -1;
	memcpy(&fd, CMSG_DATA(&control.head), sizeof(fd));
	return fd;
}

const char *rmops_said(const struct tenant *t)
{
	static char text[96];

	if ((int64_t)t->extra[X_RET] < 0)
		snprintf(text, sizeof(text), "system call refused: %s",
			 strerror((int)t->extra[X_ERROR]));
	else if (t->extra[X_STATUS])
		snprintf(text, sizeof(text), "status %#llx",
			 (unsigned long long)t->extra[X_STATUS]);
	else
		snprintf(text, sizeof(text), "ok");
	return text;
}
