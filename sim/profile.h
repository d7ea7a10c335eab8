/* SPDX-License-Identifier: Apache-2.0 */
/* What a simulated card is: its numbers, from profile.def. Constant data only. */
#ifndef SIM_PROFILE_H
#define SIM_PROFILE_H

#include <stddef.h>
#include <stdint.h>

#define SIM_DRIVER_VERSION 13000    /* what cuDriverGetVersion says */
#define SIM_DRIVER_TEXT "580.65.06" /* what NVML says. Source: first R580 release, CUDA 13.0 */

struct sim_profile {
	const char *id;	  /* "h100" */
	const char *name; /* "NVIDIA H100 80GB HBM3" */
	const char *architecture;
	uint32_t cc_major, cc_minor;
	uint32_t pci_device_id;	   /* device << 16 | vendor, as NVML has it */
	uint32_t pci_subsystem_id; /* likewise */
	uint64_t nvml_total_bytes; /* what nvidia-smi calls total */
	uint64_t reserved_bytes; /* of these, never for programs; total - reserved = CUDA's total */
	uint32_t sm_count;
	uint32_t max_threads_per_sm;
	uint32_t max_blocks_per_sm;
	uint32_t smem_per_sm_bytes;
	uint32_t smem_optin_bytes; /* most of it for one block */
	uint32_t cores_per_sm;
	uint32_t fp64_ratio; /* single to double precision */
	uint32_t clock_khz, memory_clock_khz;
	uint32_t bus_bits;
	uint32_t l2_bytes;
	uint32_t persisting_l2_bytes;
	uint32_t copy_engines;
	uint32_t ecc;
	uint32_t pcie_gen, pcie_width;
	uint32_t power_w;
	/* Speeds: what the data sheet says, and how much of it programs reach. */
	uint64_t memory_bytes_per_s;
	uint32_t memory_permille;
	uint64_t bf16_flops_per_s; /* dense */
	uint64_t fp32_flops_per_s;
	uint32_t flops_permille;
	uint64_t h2d_bytes_per_s, d2h_bytes_per_s; /* pinned, as measured */
	uint64_t peer_bytes_per_s;		   /* one way, as measured; PCIe where no NVLink */
	uint32_t nvlinks;
	/* Costs. */
	uint64_t context_bytes; /* device memory of one context */
	uint64_t slice_ns, switch_ns;
	uint64_t launch_ns; /* device side of a null kernel */
};

extern const struct sim_profile sim_profiles[];
extern const size_t sim_n_profiles;

/* By its id ("h100"), case ignored; NULL for none. @length: of @id, which needs no NUL. */
const struct sim_profile *sim_profile_find(const char *id, size_t length);

#endif /* SIM_PROFILE_H */
