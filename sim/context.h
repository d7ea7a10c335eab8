/* SPDX-License-Identifier: Apache-2.0 */
/* Beginning and end of a context, for those that the program makes and for primary ones. */
#ifndef SIM_CONTEXT_H
#define SIM_CONTEXT_H

#include "sim.h"

/* Bring a zeroed or ended context to life. Without a lock. */
CUresult sim_context_activate(struct sim_context *ctx, struct sim_device *device,
			      unsigned int flags);

/* Take a live context out of the list, so that only one thread ends it. Return: whether it is ours.
 */
bool sim_context_claim(struct sim_context *ctx);

/* End a claimed context. Without a lock. */
void sim_context_deactivate(struct sim_context *ctx);

/* Whether CU_CTX_* bits are known and name at most one way of waiting. */
bool sim_context_flags_valid(unsigned int flags);

#endif /* SIM_CONTEXT_H */
