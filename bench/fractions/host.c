/* SPDX-License-Identifier: Apache-2.0 */
/* Reads what the kernel says of threads' time. Knows no case and no device. */
#include "fractions/host.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/timing.h"
#include "base/banned.h"

/* Beyond these a row is marked. Waiting: as much as the precision of a search. */
#define CPU_MOST 0.85
#define WAIT_MOST 0.05
#define LATE_MOST 0.05
#define STOLEN_MOST 0.02

/* `run wait slices`, in nanoseconds. Source: Linux, Documentation/scheduler/sched-stats.rst */
static int read_thread(pid_t pid, const char *tid, struct fr_host_time *ret)
{
	AQ_CLEANUP(free) char *text = NULL;
	char path[64];
	int n = snprintf(path, sizeof(path), "/proc/%d/task/%.16s/schedstat", (int)pid, tid);

	if (n < 0 || (size_t)n >= sizeof(path) || aq_file_read(path, 256, &text) <= 0 ||
	    sscanf(text, "%" SCNu64 " %" SCNu64, &ret->run_ns, &ret->wait_ns) != 2)
		return -ENOENT;
	ret->tid = (pid_t)strtol(tid, NULL, 10);
	return 0;
}

size_t fr_host_read(pid_t pid, struct fr_host_time *ret, size_t room)
{
	struct dirent *entry;
	char path[32];
	size_t n = 0;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	while (tasks && n < room && (entry = readdir(tasks)))
		if (entry->d_name[0] != '.' && !read_thread(pid, entry->d_name, &ret[n]))
			n++;
	if (tasks)
		closedir(tasks);
	return n;
}

/* `cpu user nice system idle iowait irq softirq steal ...`. Source: proc_stat(5) */
uint64_t fr_host_stolen(const char *stat, uint64_t tick_ns)
{
	uint64_t ticks;

	if (sscanf(stat, "cpu %*u %*u %*u %*u %*u %*u %*u %" SCNu64, &ticks) != 1 ||
	    ticks > UINT64_MAX / tick_ns)
		return UINT64_MAX;
	return ticks * tick_ns;
}

static uint64_t stolen_now(void)
{
	AQ_CLEANUP(free) char *text = NULL;
	long per_second = sysconf(_SC_CLK_TCK);

	if (per_second <= 0 || aq_file_read("/proc/stat", 1 << 20, &text) <= 0)
		return UINT64_MAX;
	return fr_host_stolen(text, AQ_NS_PER_S / (uint64_t)per_second);
}

void fr_host_begin(struct fr_host_probe *p, const pid_t *pids, size_t count)
{
	p->count = 0;
	for (size_t i = 0; i < count; i++)
		if (pids[i] > 0)
			p->count += fr_host_read(pids[i], p->times + p->count,
						 FR_HOST_THREADS - p->count);
	p->at_ns = aq_now_ns();
	p->stolen_ns = stolen_now();
}

/* What the thread had when the window began; nothing, when it came later. */
static struct fr_host_time before(const struct fr_host_probe *p, pid_t tid)
{
	for (size_t i = 0; i < p->count; i++)
		if (p->times[i].tid == tid)
			return p->times[i];
	return (struct fr_host_time){.tid = tid};
}

struct fr_host_use fr_host_end(const struct fr_host_probe *p, const pid_t *pids, size_t count,
			       uint64_t more_ns)
{
	double window = (double)(aq_now_ns() - p->at_ns);
	struct fr_host_use use = {.cpu = NAN, .wait = NAN, .late = NAN, .stolen = NAN};
	double cores = (double)sysconf(_SC_NPROCESSORS_ONLN);
	struct fr_host_probe now;
	uint64_t run = more_ns, worst = 0;
	size_t daemon;

	fr_host_begin(&now, pids, count < 1 ? count : 1);
	daemon = now.count;
	fr_host_begin(&now, pids, count);
	for (size_t i = 0; i < now.count; i++) {
		struct fr_host_time was = before(p, now.times[i].tid);
		uint64_t waited = now.times[i].wait_ns - was.wait_ns;

		run += now.times[i].run_ns - was.run_ns;
		if (i >= daemon && waited > worst)
			worst = waited;
	}
	if (window <= 0)
		return use;
	if (p->stolen_ns != UINT64_MAX && now.stolen_ns != UINT64_MAX &&
	    now.stolen_ns >= p->stolen_ns)
		use.stolen = (double)(now.stolen_ns - p->stolen_ns) / window / cores;
	if (!now.count)
		return use;
	use.cpu = (double)run / window / cores;
	use.wait = (double)worst / window;
	return use;
}

bool fr_host_bound(const struct fr_host_use *u)
{
	return (isfinite(u->cpu) && u->cpu > CPU_MOST) ||
	       (isfinite(u->wait) && u->wait > WAIT_MOST) ||
	       (isfinite(u->late) && u->late > LATE_MOST) ||
	       (isfinite(u->stolen) && u->stolen > STOLEN_MOST);
}
