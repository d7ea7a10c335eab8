/* SPDX-License-Identifier: Apache-2.0 */
/* The entry points that dlsym() finds on a handle, all of the catalogue; for unit tests. */
#ifndef AQ_TESTS_REALLOAD_H
#define AQ_TESTS_REALLOAD_H

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "cuda/cuda_abi.h"
#include "guard/real.h"

/* Ends the program when there is no handle. */
static inline void real_load(struct aq__real *into, void *handle)
{
	if (!handle) {
		fprintf(stderr, "%s\n", dlerror());
		exit(1);
	}
#define AQ_API(sym, since, role, params, args) *(void **)&into->sym = dlsym(handle, #sym);
#define AQ_API_UNTYPED(sym, since, role)
#define AQ_API_DATA(sym)
#define AQ_ALIAS(base, since, sym)
#include "cuda/cuda_api.def"
#undef AQ_API
#undef AQ_API_UNTYPED
#undef AQ_API_DATA
#undef AQ_ALIAS
}

#endif /* AQ_TESTS_REALLOAD_H */
