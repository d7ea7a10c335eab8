/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes of a probe, and waiting between them by futex. It knows nothing of CUDA.
 */
#include "probe.h"
#include "probe_internal.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void *shared_alloc(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		fprintf(stderr, "%s: no shared memory: %s\n", probe_state.name, strerror(errno));
		exit(1);
	}
	return p;
}

pid_t spawn(int (*fn)(int index, void *arg), int index, void *arg)
{
	pid_t parent = getpid(), pid;
	int r;

	fflush(NULL);
	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	atomic_store(&probe_state.failed, false);
	r = fn(index, arg);
	_exit(r ? r : atomic_load(&probe_state.failed));
}

int join_one(pid_t pid, double seconds)
{
	uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
	int status;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (now_ns() > end) {
			kill(pid, SIGKILL);
			return -1;
		}
		sleep_ns(MSEC);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool join(pid_t *pids, int n, double seconds)
{
	uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
	bool killed = false, good = true;
	int left = 0;

	for (int i = 0; i < n; i++)
		left += pids[i] > 0;
	while (left) {
		for (int i = 0; i < n; i++) {
			int status;

			if (pids[i] <= 0 || waitpid(pids[i], &status, WNOHANG) != pids[i])
				continue;
			good = good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
			pids[i] = 0;
			left--;
		}
		if (left && !killed && now_ns() > end) {
			killed = true;
			good = false;
			for (int i = 0; i < n; i++)
				if (pids[i] > 0)
					kill(pids[i], SIGKILL);
			end = now_ns() + 20 * SEC;
		} else if (left && killed && now_ns() > end) {
			return false; /* stuck in the kernel: they end when they can */
		}
		if (left)
			sleep_ns(MSEC);
	}
	return good;
}

bool child_is_gone(pid_t pid)
{
	siginfo_t info = {0};

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid == pid;
}

bool futex_wait(_Atomic uint32_t *w, uint32_t old, double seconds)
{
	uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);

	while (atomic_load_explicit(w, memory_order_acquire) == old) {
		uint64_t now = now_ns();
		struct timespec t;

		if (now >= end)
			return false;
		t.tv_sec = (time_t)((end - now) / SEC);
		t.tv_nsec = (long)((end - now) % SEC);
		syscall(SYS_futex, w, FUTEX_WAIT, old, &t, NULL, 0);
	}
	return true;
}

void futex_wake(_Atomic uint32_t *w)
{
	syscall(SYS_futex, w, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

void futex_set(_Atomic uint32_t *w, uint32_t value)
{
	atomic_store_explicit(w, value, memory_order_release);
	futex_wake(w);
}

bool barrier_wait(struct barrier *b, uint32_t n, double seconds)
{
	if (atomic_fetch_add(&b->arrived, 1) + 1 == n)
		futex_set(&b->open, 1);
	return futex_wait(&b->open, 0, seconds);
}
