/* SPDX-License-Identifier: Apache-2.0 */
/* What the files behind probe.h share; probes do not include it. */
#ifndef AQ_BENCH_PROBE_INTERNAL_H
#define AQ_BENCH_PROBE_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

struct probe_state {
	const char *name;
	pid_t pid; /* of the first process; children inherit the rest */
	char device_name[96];
	char driver_version[96];
	bool simulated;
	bool no_device;
	atomic_bool failed; /* of this process alone; a child's shows in its exit code */
};
extern struct probe_state probe_state;

/* Finds the library and the device; without them the names are "unknown". */
void probe_nvml_open(void);
bool probe_nvml_clocks(int *ret_sm_mhz, int *ret_mem_mhz);

#endif
