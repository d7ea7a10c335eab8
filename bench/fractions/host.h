/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host had to do with a window: a simulated device computes no faster than its host lets
 * servers ask, and on a real one a server that waits for a core does not ask either. A row of which
 * the host was the bound says nothing of the device.
 */
#ifndef AQ_FRACTIONS_HOST_H
#define AQ_FRACTIONS_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FR_HOST_THREADS 256

/* Shares of a window, 0 to 1 and a little above; not finite: not known. */
struct fr_host_use {
	double cpu;    /* of all cores' time, what our servers, daemon and generator had */
	double wait;   /* of the window, what a server's thread waited for a core; the worst */
	double late;   /* of the bound on the first token, how late the generator read (p99) */
	double stolen; /* of all cores' time, what a hypervisor gave to other machines */
};

/* Time of a thread. */
struct fr_host_time {
	pid_t tid;
	uint64_t run_ns, wait_ns;
};

struct fr_host_probe {
	uint64_t at_ns;
	uint64_t stolen_ns; /* UINT64_MAX: not known */
	struct fr_host_time times[FR_HOST_THREADS];
	size_t count;
};

/* Begin a window. @pids: those that are there; 0s are skipped, and threads beyond the limit. */
void fr_host_begin(struct fr_host_probe *p, const pid_t *pids, size_t count);

/**
 * fr_host_end() - what the window took since fr_host_begin(); `late` is left to the caller.
 * @pids:    as then, and those that came since; a server's but the first, which is the daemon's
 * @more_ns: time of processes that have ended
 */
struct fr_host_use fr_host_end(const struct fr_host_probe *p, const pid_t *pids, size_t count,
			       uint64_t more_ns);

/* Was the host the bound? Unknown shares say no. */
bool fr_host_bound(const struct fr_host_use *u);

/* Of a text like /proc/stat: what all cores were stolen since the machine began, in ns; UINT64_MAX:
 * it does not say. @tick_ns: its unit. */
uint64_t fr_host_stolen(const char *stat, uint64_t tick_ns);

/* The threads of a process, from /proc; none where it is gone, or the kernel does not tell.
 * Return: how many, at most @room. */
size_t fr_host_read(pid_t pid, struct fr_host_time *ret, size_t room);

#endif /* AQ_FRACTIONS_HOST_H */
