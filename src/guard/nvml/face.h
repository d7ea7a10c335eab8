/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the hooks share. The rules of all of them:
 *
 *  - The NVML behind us comes first, with a copy of the program's structure: what is wrong with the
 *    arguments is for it to say, and what it says of the device is never seen by the program.
 *  - A program that is nobody's tenant (observer.h) gets NVML's own answer, untouched.
 *  - When we fail (daemon gone, fraction ended) and for a device that the fraction does not have,
 *    figures of memory and processes are NVML_ERROR_NO_PERMISSION; memory of a device that was
 *    ours is told as it was last known. The device's own truth is never told instead.
 *  - Identity, counts, and what is one number for the whole device pass: they are not hooked.
 *
 * Pids are the daemon's, which are the host's; so are NVML's where it runs in the host's namespace.
 * Inside a pid namespace of its own a program finds itself under the host's number.
 */
#ifndef AQ_GUARD_NVML_FACE_H
#define AQ_GUARD_NVML_FACE_H

#include "guard/nvml/observer.h"
#include "guard/nvml/real.h"
#include "nvml/nvml_api.h"

/* What becomes of one call. */
enum aq__view {
	AQ__VIEW_SHARE, /* answer with the fraction's figures, which are there */
	AQ__VIEW_OPEN,	/* not a tenant: NVML's own answer */
	AQ__VIEW_ERROR, /* answer *ret_status */
};

/* The fraction's memory on a device. */
enum aq__view aq__nvml_share(nvmlDevice_t device, struct aq__share *ret, nvmlReturn_t *ret_status);

/* The fraction's processes on a device. */
enum aq__view aq__nvml_procs(nvmlDevice_t device, struct aq__procs *ret, nvmlReturn_t *ret_status);

/* The entry of a pid, or NULL. */
const struct aq_msg_proc *aq__nvml_find(const struct aq__procs *procs, unsigned int pid);

/* The status for what aq__observe_*() failed with, other than -ENOENT. */
nvmlReturn_t aq__nvml_refused(void);

#endif /* AQ_GUARD_NVML_FACE_H */
