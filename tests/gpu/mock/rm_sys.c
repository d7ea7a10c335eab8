/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mock kernel of a probe under test, in the place of bench/gpu/probes/rm_sys.c: resource
 * manager calls on any file named mock-nvidiactl. Which control makes a slice take effect is
 * MOCK_RULE: immediate  setting it        restart  restarting the runlist (CAP_SYS_NICE) scratch a
 * new context     never    nothing         refuse  setting it is refused (0x56)
 */
#include "gpu/probes/rm.h"
#include "mock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct mock_state *state(void)
{
	static struct mock_state *s;
	char path[4096];
	int fd;

	if (s)
		return s;
	snprintf(path, sizeof(path), "%s/state", getenv("MOCK_DIR"));
	fd = open(path, O_RDWR | O_CLOEXEC);
	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return s;
}

static void lock(struct mock_state *s)
{
	while (atomic_exchange(&s->lock, 1))
		sched_yield();
}

static void add_event(struct mock_state *s, uint32_t slot, uint32_t kind, uint64_t us)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	if (s->n_events < MOCK_EVENTS)
		s->events[s->n_events++] = (struct mock_event){
			(uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec, slot, kind, us};
}

/* The new runlist: what was told takes effect, and everybody's slice expires. */
static void commit(struct mock_state *s)
{
	for (uint32_t i = 0; i < s->n_slots; i++)
		if (s->slots[i].effective_us != s->slots[i].told_us) {
			s->slots[i].effective_us = s->slots[i].told_us;
			add_event(s, i, MOCK_SLICE, s->slots[i].told_us);
		}
	add_event(s, 0, MOCK_EXPIRE, 0);
}

bool rm_is_device(int fd, uint32_t *ret_minor)
{
	char link[64], path[4096];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	*ret_minor = 255;
	return strstr(path, "mock-nvidiactl") != NULL;
}

static bool may_be_nice(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[2] = {{0, 0, 0}};

	syscall(SYS_capget, &head, caps);
	return caps[0].effective & (CAP_TO_MASK(CAP_SYS_NICE) | CAP_TO_MASK(CAP_SYS_ADMIN));
}

static uint32_t on_group(struct mock_state *s, uint32_t slot, uint32_t command, uint64_t *value)
{
	const char *rule = getenv("MOCK_RULE");

	switch (command) {
	case RM_GROUP_GET_INFO:
		*(uint32_t *)value = slot + 6;
		return RM_OK;
	case RM_GROUP_GET_TIMESLICE:
		*value = s->slots[slot].told_us;
		return RM_OK;
	case RM_GROUP_SET_TIMESLICE:
		if (!strcmp(rule, "refuse"))
			return RM_NOT_SUPPORTED;
		lock(s);
		s->slots[slot].told_us = *value;
		if (!strcmp(rule, "immediate"))
			commit(s);
		atomic_store(&s->lock, 0);
		return RM_OK;
	case RM_GROUP_PREEMPT:
	case RM_GROUP_SCHEDULE:
		return RM_OK;
	default:
		return RM_NOT_SUPPORTED;
	}
}

static uint32_t control(uint32_t client, uint32_t object, uint32_t command, void *params)
{
	struct mock_state *s = state();
	uint32_t slot = client - MOCK_CLIENT;

	if (slot >= s->n_slots)
		return RM_INVALID_CLIENT;
	if (object == MOCK_GROUP)
		return on_group(s, slot, command, params);
	if (object >= MOCK_CHANNEL && object < MOCK_CHANNEL + 8 &&
	    command == RM_CHANNEL_RESTART_RUNLIST) {
		if (!may_be_nice())
			return RM_INSUFFICIENT_PERMISSIONS;
		lock(s);
		if (!strcmp(getenv("MOCK_RULE"), "restart"))
			commit(s);
		atomic_store(&s->lock, 0);
		return RM_OK;
	}
	if (object == MOCK_SUBDEVICE && command == RM_FIFO_GET_INFO)
		((uint32_t *)params)[2] = MOCK_DEFAULT_US;
	else if (object == MOCK_SUBDEVICE && command == RM_GET_SWITCH_MODES)
		((uint32_t *)params)[4] = 2;
	else if (object != MOCK_SUBDEVICE || command != RM_FIFO_DISABLE_CHANNELS)
		return RM_NOT_SUPPORTED;
	return RM_OK;
}

int rm_raw_ioctl(int fd, unsigned long request, void *arg)
{
	uint32_t *u = arg, minor;
	uint64_t params;

	if (!rm_is_device(fd, &minor)) {
		if ((request & 0xffff) != (('F' << 8) | RM_CONTROL))
			return (int)syscall(SYS_ioctl, fd, request, arg);
		errno = ENOTTY;
		return -1;
	}
	switch (request & 0xff) {
	case RM_CONTROL:
		memcpy(&params, u + 4, sizeof(params));
		u[7] = control(u[0], u[1], u[2], (void *)(uintptr_t)params);
		return 0;
	case RM_ALLOC: /* the mock driver has chosen the handle; a new context is a new runlist */
		u[10] = RM_OK;
		if (u[3] == RM_CLASS_GROUP && !strcmp(getenv("MOCK_RULE"), "scratch")) {
			lock(state());
			commit(state());
			atomic_store(&state()->lock, 0);
		}
		return 0;
	default:
		u[3] = RM_OK; /* free */
		return 0;
	}
}
