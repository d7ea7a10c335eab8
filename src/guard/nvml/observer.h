/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the NVML face asks the daemon: how much the fraction of this process may use of a device,
 * how much it uses, and which processes belong to it. One connection for each process, as an
 * observer: no page, no memory, no thread. Answers are never kept in place of asking, only for when
 * nobody answers any more.
 *
 * All functions return 0 or more, or one of two failures:
 *   -ENOENT  this program is nobody's tenant: no word in the environment, and no daemon that knows
 *            it. NVML's own answer is the right one.
 *   -EACCES  it is a tenant, or may be one, and the figures are not to be had: daemon gone,
 * fraction ended, device not in the fraction. Nothing must be told. Any thread, also in a forked
 * child; errno is kept; no cancellation point; no lock is held on return, and none while anything
 * but the daemon is waited for (2 s at most).
 */
#ifndef AQ_GUARD_NVML_OBSERVER_H
#define AQ_GUARD_NVML_OBSERVER_H

#include <stdbool.h>
#include <stdint.h>

#include <aliquot/proto.h>

struct aq__share {
	uint64_t limit_bytes;
	uint64_t used_bytes; /* by the whole fraction on this device */
	uint64_t free_bytes; /* what it could get now */
};

struct aq__procs {
	uint32_t count;
	struct aq_msg_proc proc[AQ_MAX_PROCS];
};

/**
 * aq__observe_share() - the fraction on the device of @uuid.
 * When the daemon is gone: as it was when last told; -EACCES if it never was.
 */
int aq__observe_share(const uint8_t uuid[16], struct aq__share *ret);

/* The fraction's processes on a device, and the bytes that each uses there. Never an old list. */
int aq__observe_procs(const uint8_t uuid[16], struct aq__procs *ret);

/* Is @pid one of the fraction's, on whatever device? Return: 1 yes, 0 no, or as above. */
int aq__observe_pid(int32_t pid);

/* Is this program a tenant at all? Return: 0; -EACCES cannot be told, so yes; -ENOENT no. */
int aq__observe_tenant(void);

#endif /* AQ_GUARD_NVML_OBSERVER_H */
