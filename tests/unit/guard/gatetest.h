/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate on simulated devices, with a daemon whose leases the test gives and ends by hand; for
 * unit tests. Times are compared with the device's own account. The machine may be busy: what is
 * measured on the device is exact all the same; what the host does is only given bounds of what it
 * may not do.
 */
#ifndef AQ_TESTS_GATETEST_H
#define AQ_TESTS_GATETEST_H

#include <pthread.h>

#include "fake_lease.h"
#include "sim/kernels.ptx.h"
#include "simulated.h"

#define US AQ_NS_PER_US
#define PATIENCE_NS (10 * AQ_NS_PER_S)

static struct sim_machine machine;
static CUcontext ctx[2];
static CUfunction spin[2];
static CUstream stream;

/* Not inline: the frame of a thread that is cancelled behind it is left as it is, which the address
 * sanitizer takes for an error where there are arrays in it. */
static __attribute__((noinline)) CUresult launch(CUstream s, uint64_t ns)
{
	void *params[] = {&ns};

	return g.cuLaunchKernel(spin[0], 1, 1, 1, 32, 1, 1, 0, s, params, NULL);
}

/* Compute time of this process, by the device. */
static inline uint64_t truth(uint32_t device)
{
	struct sim_process_usage usage[16];
	uint32_t n = sim_machine_usage(&machine, device, usage, 16);

	for (uint32_t i = 0; i < n && i < 16; i++) {
		if (usage[i].pid == getpid())
			return usage[i].gpu_time_ns;
	}
	return 0;
}

/* Given back means done, or as good as done: what runs yet is a matter of microseconds. */
#define DONE(s) assert_true(eventually(g.cuStreamQuery(s) == CUDA_SUCCESS))

static inline void within_percent(uint64_t got, uint64_t want, unsigned int percent)
{
	if (got * 100 < want * (100 - percent) || got * 100 > want * (100 + percent))
		fail_msg("%llu us, expected %llu us to %u %%", (unsigned long long)got / 1000,
			 (unsigned long long)want / 1000, percent);
}

/* ---- threads that launch, and that lease ---- */

struct launcher {
	pthread_t thread;
	CUstream stream;
	uint64_t kernel_ns;
	int count;
	_Atomic int launched;
	CUresult result;
};

static inline void *launch_all(void *arg)
{
	struct launcher *l = arg;

	g.cuCtxSetCurrent(ctx[0]);
	for (; l->launched < l->count; l->launched++) {
		l->result = launch(l->stream, l->kernel_ns);
		if (l->result)
			break;
	}
	return NULL;
}

static inline void launcher_start(struct launcher *l, CUstream s, uint64_t kernel_ns, int count)
{
	*l = (struct launcher){.stream = s, .kernel_ns = kernel_ns, .count = count};
	pthread_create(&l->thread, NULL, launch_all, l);
}

static inline void launcher_end(struct launcher *l)
{
	pthread_join(l->thread, NULL);
	ok(l->result);
	assert_int_equal(l->launched, l->count);
}

/* A host that is late lets the device run dry, and the lease is given back: give it again. */
static inline void *give_again(void *stop)
{
	while (!*(_Atomic bool *)stop) {
		if (lease_load(&lease_device(0)->want) && lease_is_back(0))
			lease_give(0, 10 * AQ_NS_PER_S, true);
		usleep(100);
	}
	return NULL;
}

/* ---- before and after each, and all ---- */

/* Back to the open gate, with nothing in flight. */
static inline int settle(void **state)
{
	lease_gate(0, 0);
	lease_gate(1, 0);
	lease_end(0);
	lease_end(1);
	g.cuCtxSetCurrent(ctx[0]);
	ok(g.cuCtxSynchronize());
	for (int i = 0; i < 2; i++)
		assert_true(eventually(lease_load(&lease_device(i)->active_turn) ==
				       lease_load(&lease_device(i)->done_turn)));
	return 0;
}

/* Managed, and a first lease that is over: no state of the test before. */
static inline int manage(void **state)
{
	settle(state);
	lease_gate(0, AQ_GATE_LEASED);
	return 0;
}

static inline int setup(void **state)
{
	simulated_begin(1ull << 34);
	for (int i = 1; i >= 0; i--) {
		CUmodule m;

		ok(g.cuDevicePrimaryCtxRetain(&ctx[i], i));
		g.cuCtxSetCurrent(ctx[i]);
		ok(g.cuModuleLoadData(&m, SIM_KERNELS_PTX));
		ok(g.cuModuleGetFunction(&spin[i], m, "aq_spin_ns"));
	}
	ok(g.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	assert_int_equal(sim_machine_open(&machine, simtest_dir), 0);
	return 0;
}

static inline int teardown(void **state)
{
	/* What is kept for the next allocation goes when there is none for a while. */
	assert_true(eventually(fake_daemon_used(0) == 0));
	sim_machine_close(&machine);
	simulated_end();
	return 0;
}

#define MANAGED(test) cmocka_unit_test_setup_teardown(test, manage, settle)

#endif /* AQ_TESTS_GATETEST_H */
