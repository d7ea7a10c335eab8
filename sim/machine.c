/* SPDX-License-Identifier: Apache-2.0 */
/* Finds and maps simulated machines, and locks what is in them. Making and deleting them is in
 * make.c, what lies in them is for process.c, frames.c and engine.c. */
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/paths.h"
#include "base/timing.h"
#include "base/banned.h"

#define LOOK_AGAIN_NS (20 * AQ_NS_PER_MS) /* guess: a hiccup nobody minds, no load worth naming */

/* The thread sanitizer of gcc 12 does not see pthread_mutex_clocklock(), and would take what is done
 * under such a lock for races. What it sees has a clock that may be set back: for tests only. */
#ifdef __SANITIZE_THREAD__
#define WAIT_CLOCK CLOCK_REALTIME
#define lock_until(mutex, until) pthread_mutex_timedlock(mutex, until)
#else
#define WAIT_CLOCK CLOCK_MONOTONIC
#define lock_until(mutex, until) pthread_mutex_clocklock(mutex, WAIT_CLOCK, until)
#endif

void sim_lock_init(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(mutex, &attr);
	pthread_mutexattr_destroy(&attr);
}

/*
 * Never sleeps for good. A waiter that is killed between being woken and trying again takes the
 * wake-up with it: the kernel passes it on only while nobody owns the mutex, and a third who came
 * in between does not know that others still sleep. So sleepers look again by themselves. Seen
 * under kill -9 in a loop: the lock word was free, and everybody slept.
 */
static int lock_robust(pthread_mutex_t *mutex)
{
	int r = pthread_mutex_trylock(mutex);

	while (r == EBUSY || r == ETIMEDOUT) {
		struct timespec until;

		clock_gettime(WAIT_CLOCK, &until);
		until.tv_nsec += (long)LOOK_AGAIN_NS;
		if (until.tv_nsec >= (long)AQ_NS_PER_S) {
			until.tv_nsec -= (long)AQ_NS_PER_S;
			until.tv_sec++;
		}
		r = lock_until(mutex, &until);
	}
	return r;
}

int sim_lock(pthread_mutex_t *mutex)
{
	if (lock_robust(mutex) != EOWNERDEAD)
		return 0;
	pthread_mutex_consistent(mutex);
	return 1;
}

void sim_unlock(pthread_mutex_t *mutex)
{
	pthread_mutex_unlock(mutex);
}

/* The tables under this lock are written so that half an entry is not seen: nothing to repair. */
void sim_machine_lock(struct sim_machine *m)
{
	sim_lock(&m->shared->lock);
}

void sim_machine_unlock(struct sim_machine *m)
{
	sim_unlock(&m->shared->lock);
}

struct sim_engine *sim_engine_lock(struct sim_machine *m, uint32_t device)
{
	struct sim_machine_device *d = &m->shared->devices[device];

	if (sim_lock(&d->engine_lock))
		sim_engine_repair(&d->engine);
	return &d->engine;
}

void sim_engine_unlock(struct sim_machine *m, uint32_t device)
{
	sim_unlock(&m->shared->devices[device].engine_lock);
}

uint32_t sim_machine_n_devices(const struct sim_machine *m)
{
	uint32_t n = __atomic_load_n(&m->shared->n_devices, __ATOMIC_ACQUIRE);

	return n < SIM_MAX_DEVICES ? n : SIM_MAX_DEVICES;
}

const struct sim_profile *sim_machine_profile(struct sim_machine *m, uint32_t device)
{
	const char *id = m->shared->devices[device].profile;

	if (!m->profile[device])
		m->profile[device] = sim_profile_find(id, strnlen(id, 16));
	return m->profile[device];
}

/* Map a state file. Return as sim_machine_open(). */
static int map_state(int fd, struct sim_shared **ret_shared)
{
	struct sim_shared *shared;
	struct stat st;
	int r = 0;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size == 0)
		return -EAGAIN; /* being made, or its maker died */
	if (!S_ISREG(st.st_mode) || st.st_size != (off_t)sizeof(*shared))
		return -EPROTO;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
		      0);
	if (shared == MAP_FAILED)
		return -errno;
	if (__atomic_load_n(&shared->magic, __ATOMIC_ACQUIRE) == 0)
		r = -EAGAIN;
	else if (shared->magic != SIM_MACHINE_MAGIC || shared->abi != SIM_MACHINE_ABI ||
		 shared->size != sizeof(*shared) || shared->n_devices > SIM_MAX_DEVICES)
		r = -EPROTO;
	for (uint32_t i = 0; !r && i < shared->n_devices; i++) {
		const char *id = shared->devices[i].profile;

		if (!sim_profile_find(id, strnlen(id, 16)))
			r = -EPROTO;
	}
	if (r < 0) {
		munmap(shared, sizeof(*shared));
		return r;
	}
	madvise(shared, sizeof(*shared), MADV_DONTDUMP);
	*ret_shared = shared;
	return 0;
}

int sim_machine_open_backing(struct sim_machine *m, const char *backing)
{
	char path[AQ_PATH_BYTES];
	AQ_CLEANUP(close) int fd = -1;
	int r = aq_paths_join(path, backing, SIM_STATE_FILE);

	if (r < 0)
		return r;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*m = (struct sim_machine){.self = SIM_NONE};
	r = map_state(fd, &m->shared);
	if (r < 0)
		return r;
	snprintf(m->backing, sizeof(m->backing), "%s", backing);
	for (uint32_t i = 0; i < SIM_MAX_DEVICES; i++)
		m->memory_fd[i] = -1;
	return 0;
}

int sim_machine_read_link(const char *dir, char *buf)
{
	char path[AQ_PATH_BYTES], *slash;
	struct stat st;
	ssize_t n;
	int r = aq_paths_join(path, dir, SIM_STATE_FILE);

	if (r < 0)
		return r;
	/* Only the owner of the directory, or root, says where a machine is. */
	if (stat(dir, &st) < 0)
		return -errno;
	if (st.st_uid != geteuid() && st.st_uid != 0 && geteuid() != 0)
		return -EPERM;
	n = readlink(path, buf, AQ_PATH_BYTES);
	if (n < 0)
		return errno == EINVAL ? -EPROTO : -errno;
	if (n >= AQ_PATH_BYTES)
		return -ENAMETOOLONG;
	buf[n] = 0;
	slash = strrchr(buf, '/');
	if (!slash || strcmp(slash + 1, SIM_STATE_FILE) != 0)
		return -EPROTO;
	*slash = 0;
	return strlen(buf) < sizeof(((struct sim_machine *)0)->backing) ? 0 : -ENAMETOOLONG;
}

int sim_machine_open(struct sim_machine *m, const char *dir)
{
	char backing[AQ_PATH_BYTES];
	int r = sim_machine_read_link(dir, backing);

	return r < 0 ? r : sim_machine_open_backing(m, backing);
}

void sim_machine_close(struct sim_machine *m)
{
	if (!m->shared)
		return;
	for (uint32_t i = 0; i < SIM_MAX_DEVICES; i++) {
		if (m->memory_fd[i] >= 0)
			close(m->memory_fd[i]);
	}
	munmap(m->shared, sizeof(*m->shared));
	m->shared = NULL;
}

int sim_machine_find(struct sim_machine *m)
{
	const char *env = getenv("ALIQUOT_SIM_DIR"), *spec = getenv("ALIQUOT_SIM");
	char dir[AQ_PATH_BYTES], rundir[AQ_PATH_BYTES];
	int r;

	if (env && env[0]) {
		if (strlen(env) >= sizeof(dir))
			return -ENAMETOOLONG;
		snprintf(dir, sizeof(dir), "%s", env);
	} else {
		r = aq_paths_rundir_user(rundir);
		if (r == 0)
			r = aq_paths_join(dir, rundir, "sim");
		if (r < 0)
			return r;
	}
	r = sim_machine_open(m, dir);
	if (r == -ENOENT && !(env && env[0]))
		r = sim_machine_open(m, AQ_SYSTEM_RUNDIR "/sim");
	if (r != -ENOENT || !spec || !spec[0])
		return r;
	if (!(env && env[0])) {
		r = aq_paths_make_rundir(rundir);
		if (r < 0)
			return r;
	}
	return sim_machine_open_or_make(m, dir, spec);
}
