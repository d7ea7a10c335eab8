/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of the simulated driver, which they are linked to as programs are: a private machine
 * for the program, what an outsider sees of it, and child processes.
 */
#ifndef AQ_TESTS_SIMTEST_H
#define AQ_TESTS_SIMTEST_H

#include "../cm.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cuda/cuda_abi.h"
#include "machine.h"
#include "simdir.h"

#define MIB (1ull << 20)
#define FRAME SIM_FRAME_BYTES

#define ok(call) assert_int_equal(call, CUDA_SUCCESS)

/* In children: says what was not so, and ends with a status that is no other's. */
#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);                 \
			_exit(99);                                                                 \
		}                                                                                  \
	} while (0)

/* Bytes in use on a device of the machine, by everybody, as an outsider sees it. */
static inline uint64_t simtest_used(uint32_t device)
{
	struct sim_machine m;
	uint64_t left, total;

	assert_int_equal(sim_machine_open(&m, simtest_dir), 0);
	sim_memory_info(&m, device, &left, &total);
	sim_machine_close(&m);
	return total - left;
}

/* What the memory of a device takes of the host's. */
static inline uint64_t simtest_host_bytes(uint32_t device)
{
	char backing[4096], path[4200];
	struct stat st;

	assert_int_equal(sim_machine_read_link(simtest_dir, backing), 0);
	snprintf(path, sizeof(path), "%s/memory-%u", backing, device);
	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* Context on device @ordinal, current. */
static inline CUcontext simtest_context(CUdevice ordinal)
{
	CUcontext ctx;

	ok(cuInit(0));
	ok(cuDevicePrimaryCtxRetain(&ctx, ordinal));
	ok(cuCtxSetCurrent(ctx));
	return ctx;
}

/* Run @fn(arg) in a child that has not touched CUDA; its exit status is what it returns, 100 + n
 * for a failed check. The child must be forked before this process calls cuInit(), or exec. */
static inline pid_t simtest_fork(int (*fn)(void *), void *arg)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(fn(arg));
	return pid;
}

static inline int simtest_wait(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

#endif /* AQ_TESTS_SIMTEST_H */
