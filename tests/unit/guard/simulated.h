/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard as a program meets it, with simulated devices behind it and a daemon of the test: `g` is
 * what the program has, `driver` what is behind. For one file of a program.
 */
#ifndef AQ_TESTS_SIMULATED_H
#define AQ_TESTS_SIMULATED_H

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/unit/cm.h"

#include "cuda/cuda_abi.h"
#include "fake_daemon.h"
#include "guard/real.h"
#include "sim/machine.h"

#define ok(call) assert_int_equal(call, CUDA_SUCCESS)

static struct aq__real g, driver;
static char sim_dir[64];
static uint8_t sim_uuids[2][16];

static void sim_load_into(struct aq__real *into, const char *path)
{
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);

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

/* Two devices of their own, the driver and the guard at @path. Before cmocka: exits on failure. */
static inline void simulated_load(const char *path)
{
	snprintf(sim_dir, sizeof(sim_dir), "/tmp/aliquot-guard-XXXXXX");
	if (!mkdtemp(sim_dir) || sim_machine_add(sim_dir, "h100:2") < 0) {
		perror("no simulated machine");
		exit(1);
	}
	setenv("ALIQUOT_SIM_DIR", sim_dir, 1);
	unsetenv("CUDA_VISIBLE_DEVICES");
	sim_load_into(&driver, AQ__DRIVER_SONAME);
	sim_load_into(&g, path);
}

/* A daemon with a fraction of @limit bytes on each device, and cuInit(). */
static inline void simulated_begin(uint64_t limit)
{
	ok(driver.cuInit(0));
	for (int i = 0; i < 2; i++)
		ok(driver.cuDeviceGetUuid_v2((CUuuid *)sim_uuids[i], i));
	fake_daemon.uuids = sim_uuids;
	fake_daemon.devices = 2;
	fake_daemon.limit = limit;
	fake_daemon_prepare();
	fake_daemon_start();
	ok(g.cuInit(0));
}

static inline void simulated_end(void)
{
	fake_daemon_stop();
	fake_daemon_clean();
	sim_machine_remove(sim_dir);
	rmdir(sim_dir);
}

#endif /* AQ_TESTS_SIMULATED_H */
