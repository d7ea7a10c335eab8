/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A private simulated machine for a test program, made before the first call of the driver and
 * deleted at the program's end. Knows no driver.
 */
#ifndef AQ_TESTS_SIMDIR_H
#define AQ_TESTS_SIMDIR_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "sim/machine.h"

static char simtest_dir[64];
static pid_t simtest_owner;

static inline void simtest_end(void)
{
	if (getpid() != simtest_owner)
		return;
	sim_machine_remove(simtest_dir);
	rmdir(simtest_dir);
}

/* The machine is there before main()'s first call, for this process and its children. */
static inline void simtest_begin(const char *spec)
{
	snprintf(simtest_dir, sizeof(simtest_dir), "/tmp/simtest-XXXXXX");
	if (!mkdtemp(simtest_dir) || sim_machine_add(simtest_dir, spec) < 0) {
		perror("no simulated machine");
		exit(1);
	}
	setenv("ALIQUOT_SIM_DIR", simtest_dir, 1);
	unsetenv("CUDA_VISIBLE_DEVICES");
	simtest_owner = getpid();
	atexit(simtest_end);
}

#endif /* AQ_TESTS_SIMDIR_H */
