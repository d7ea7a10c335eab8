/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The recent past of each device, as far as this process has looked. The machine keeps sums
 * (compute time, copy time) and no past; a rate is the difference between two looks.
 */
#ifndef SIM_NVML_LOOK_H
#define SIM_NVML_LOOK_H

#include "sim/nvml/state.h"

#define SIM_LOOKS 32u /* kept for each device */

struct sim_look {
	uint64_t time_us; /* since 1970 */
	uint64_t now_ns;  /* of the machine; 0: no look */
	uint64_t compute_ns;
	uint64_t copy_ns[SIM_COPY_ENGINES];
	uint32_t n_processes;
	/* malloc'ed; NULL for none. Those that have ended lately, too: their gpu_time_ns only. */
	struct sim_process_usage *processes;
};

/* Looks are read between these two. */
void sim_look_lock(void);
void sim_look_unlock(void);

/**
 * sim_look_pair() - the present, and a look before it that is far enough away.
 * @since_us: if not 0, a base at or before this time will do even if it is close; without any look
 *            before, the base is the present itself
 */
void sim_look_pair(const struct sim_nvml_device *d, uint64_t since_us,
		   const struct sim_look **ret_base, const struct sim_look **ret_now);

/* The last look (1), the one before (2), ... or NULL. */
const struct sim_look *sim_look_before(uint32_t device, uint32_t steps);

/* Is there something to tell of a process of the later look? Of one that has ended, what it did
 * since the base. */
bool sim_look_tells(const struct sim_process_usage *p, const struct sim_look *base);

/* What happened between two looks, to the device and to one process of the later, in percent. */
void sim_look_rates(const struct sim_nvml_device *d, const struct sim_look *base,
		    const struct sim_look *now, struct sim_nvml_rates *ret);
uint32_t sim_look_share(const struct sim_process_usage *p, const struct sim_look *base,
			const struct sim_look *now);

#endif /* SIM_NVML_LOOK_H */
