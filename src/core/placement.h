/* SPDX-License-Identifier: Apache-2.0 */
/* Chooses the devices of a new fraction. Pure; enters nothing into the ledger. */
#ifndef AQ_CORE_PLACEMENT_H
#define AQ_CORE_PLACEMENT_H

#include "core/ledger.h"

#define AQ_ANY_BYTES UINT64_MAX
#define AQ_ANY_PERMILLE UINT32_MAX
#define AQ_PLACEMENT_ROUND_BYTES (2ull << 20) /* shares of a device: whole blocks of the driver */

/* What a user asked for; absent numbers are AQ_ANY_*. */
struct aq_placement_ask {
	uint64_t allowed;      /* bit i: ledger device i may be chosen */
	uint32_t device_count; /* 1..AQ_MAX_DEVICES devices, all with the same terms */
	uint32_t gpu_permille;
	uint64_t memory_request_bytes, memory_limit_bytes;
	uint32_t compute_request_permille, compute_limit_permille;
	enum aq_priority priority;
};

/**
 * aq_placement_terms() - what an ask comes to on a device of @total_bytes.
 * A share stands for memory and compute alike: memory request = limit = that part of the device,
 * rounded down to AQ_PLACEMENT_ROUND_BYTES; compute request = that part, compute limit whole. What
 * is given explicitly goes first: a memory request is its own limit unless one is given. Without
 * any share it is the whole device; memory alone stands for its part of the compute, compute alone
 * for its part of the memory. Return: 0; -EINVAL contradictory (request above limit); @ret_spec
 * gets share[0] and the terms
 */
int aq_placement_terms(const struct aq_placement_ask *ask, uint64_t total_bytes,
		       struct aq_ledger_spec *ret_spec);

/**
 * aq_placement_choose() - best fit: the allowed devices where it fits and least is left over.
 * Ties go to the lower index.
 * Return: 0; -ENODEV fewer devices allowed than asked for; -E2BIG more than those have at all;
 *         -ENOSPC not now; -EINVAL contradictory. @ret_refusal tells the best there is: the device
 *         that came closest. @ret_spec is untouched on failure.
 */
int aq_placement_choose(const struct aq_ledger *l, const struct aq_placement_ask *ask,
			struct aq_ledger_spec *ret_spec, struct aq_refusal *ret_refusal);

#endif /* AQ_CORE_PLACEMENT_H */
