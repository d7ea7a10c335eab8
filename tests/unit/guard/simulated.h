/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard as a program meets it, with simulated devices behind it and a daemon of the test: `g`
 * is what the program has, `driver` what is behind. For one file of a program.
 */
#ifndef AQ_TESTS_SIMULATED_H
#define AQ_TESTS_SIMULATED_H

#include "tests/unit/cm.h"
#include "tests/unit/sim/simdir.h"

#include "base/timing.h"
#include "cuda/cuda_abi.h"
#include "fake_daemon.h"
#include "realload.h"

#define MS AQ_NS_PER_MS
#define ok(call) assert_int_equal(call, CUDA_SUCCESS)

/* Whether @condition comes to hold within PATIENCE_NS, which is for each test to define. */
#define eventually(condition)                                                                      \
	({                                                                                         \
		uint64_t until_ = aq_now_ns() + PATIENCE_NS;                                       \
		while (!(condition) && aq_now_ns() < until_)                                       \
			usleep(500);                                                               \
		(condition);                                                                       \
	})

static struct aq__real g, driver; /* as the program has it, and behind the guard */
static uint8_t sim_uuids[2][16];

/*
 * Two devices of their own, the driver and the guard at @path. CMOCKA_TEST_FILTER picks tests.
 * Before cmocka: exits on failure.
 */
static inline void simulated_load(const char *path)
{
	simtest_begin("h100:2");
	real_load(&driver, dlopen(AQ__DRIVER_SONAME, RTLD_NOW | RTLD_LOCAL));
	real_load(&g, dlopen(path, RTLD_NOW | RTLD_LOCAL));
	if (getenv("CMOCKA_TEST_FILTER"))
		cmocka_set_test_filter(getenv("CMOCKA_TEST_FILTER"));
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
}

#endif /* AQ_TESTS_SIMULATED_H */
