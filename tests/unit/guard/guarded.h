/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard as a program meets it, loaded by dlopen() with the fake driver behind it, for unit
 * tests. `g` holds what dlsym() on its handle finds: hooks, and the driver's own for the rest.
 */
#ifndef AQ_TESTS_GUARDED_H
#define AQ_TESTS_GUARDED_H

#include "tests/unit/cm.h"

#include "cuda/cuda_abi.h"
#include "fake_daemon.h"
#include "fake_driver.h"
#include "realload.h"

#define MIB (1ull << 20)

static struct aq__real g;
static struct fake *fake;
static void *guard_handle;

static void guarded_load(const char *path)
{
	fake_get_fn *get;

	guard_handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	real_load(&g, guard_handle);
	/* Not the guard's, so this is found in the driver: the way of all that is not hooked. */
	*(void **)&get = dlsym(guard_handle, "fake_get");
	if (!get) {
		fprintf(stderr, "no driver behind the guard\n");
		exit(1);
	}
	fake = get();
}

#endif /* AQ_TESTS_GUARDED_H */
