/* SPDX-License-Identifier: Apache-2.0 */
/* The list of all hooks, made from cuda_api.def: a role that demands one that nobody wrote does
 * not link. */
#ifndef AQ_GUARD_HOOKS_H
#define AQ_GUARD_HOOKS_H

#include <stddef.h>

struct aq__hook {
	const char *sym;
	void *hook;       /* NULL: not hooked */
	const void *real; /* where the pointer to the driver's own is */
};

/* One for every function of the catalogue, sorted by symbol. */
extern const struct aq__hook aq__hooks[];
extern const size_t aq__n_hooks;

#endif /* AQ_GUARD_HOOKS_H */
