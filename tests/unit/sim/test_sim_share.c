/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that never stop share a device in time: by the device's own account, in real time. */
#include "simcu.h"

#include <signal.h>
#include <unistd.h>

#define US 1000ull
/* Launch kernels of *arg ns until killed. Never out of work: a stream takes a thousand. */
static int saturate(void *arg)
{
	CUstream stream;
	CUfunction spin;

	simtest_context(0);
	spin = simcu_function(simcu_kernels(), "aq_spin_ns");
	ok(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	while (simcu_spin(spin, stream, *(uint64_t *)arg) == CUDA_SUCCESS)
		;
	return 1;
}

static uint64_t gpu_time(struct sim_machine *m, pid_t pid)
{
	struct sim_process_usage usage[8];
	uint32_t n = sim_machine_usage(m, 0, usage, 8);

	for (uint32_t i = 0; i < n && i < 8; i++) {
		if (usage[i].pid == pid)
			return usage[i].gpu_time_ns;
	}
	return 0;
}

static void nap(uint64_t ns)
{
	struct timespec ts = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};

	nanosleep(&ts, NULL);
}

static void test_share__half_each_whatever_the_kernels(void **state)
{
	uint64_t length[2] = {100000, 7 * MS}, before[2], after[2], sum;
	struct sim_device_times t0, t1;
	struct sim_machine m;
	pid_t pid[2];

	for (int i = 0; i < 2; i++)
		pid[i] = simtest_fork(saturate, &length[i]);
	assert_int_equal(sim_machine_open(&m, simtest_dir), 0);
	for (int tries = 0; tries < 1000; tries++) {
		if (gpu_time(&m, pid[0]) > 20 * MS && gpu_time(&m, pid[1]) > 20 * MS)
			break;
		nap(10 * MS);
	}
	sim_machine_times(&m, 0, &t0);
	for (int i = 0; i < 2; i++)
		before[i] = gpu_time(&m, pid[i]);
	nap(500 * MS);
	for (int i = 0; i < 2; i++)
		after[i] = gpu_time(&m, pid[i]);
	sim_machine_times(&m, 0, &t1);
	for (int i = 0; i < 2; i++) {
		kill(pid[i], SIGKILL);
		assert_int_equal(simtest_wait(pid[i]), -SIGKILL);
	}
	sum = after[0] - before[0] + after[1] - before[1];
	/* Two slices of slack: one at each end. */
	assert_true(after[0] - before[0] > sum / 2 - 3 * MS);
	assert_true(after[0] - before[0] < sum / 2 + 3 * MS);
	/* No gap: what was not worked was switched, 52.1 us for each 1.05 ms. */
	assert_true(t1.compute_ns - t0.compute_ns + t1.switched_ns - t0.switched_ns >
		    (t1.now_ns - t0.now_ns) * 99 / 100);
	assert_true(t1.switched_ns - t0.switched_ns < (t1.now_ns - t0.now_ns) * 6 / 100);
	assert_true(t1.switched_ns - t0.switched_ns > (t1.now_ns - t0.now_ns) * 4 / 100);

	/* The dead do not work: the device is idle soon. */
	nap(20 * MS);
	simtest_used(0); /* sweeps */
	sim_machine_times(&m, 0, &t0);
	nap(50 * MS);
	sim_machine_times(&m, 0, &t1);
	assert_int_equal(t1.compute_ns, t0.compute_ns);
	sim_machine_close(&m);
}

/* Two contexts with work in each, one with a copy beside it, and then the end, as it was told. */
static int work_and_end(void *arg)
{
	CUcontext ctx[2];
	CUdeviceptr data;
	CUfunction spin;
	CUstream stream;
	void *host;

	ok(cuInit(0));
	for (int i = 0; i < 2; i++) {
		ok(cuCtxCreate_v2(&ctx[i], 0, 0));
		spin = simcu_function(simcu_kernels(), "aq_spin_ns");
		ok(simcu_spin(spin, NULL, (5 + 3 * (uint64_t)i) * MS));
	}
	ok(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	ok(cuMemAlloc_v2(&data, 56 * MIB));
	ok(cuMemAllocHost_v2(&host, 56 * MIB));
	ok(cuMemcpyHtoDAsync_v2(data, host, 56 * MIB, stream));
	for (int i = 0; i < 2; i++) {
		ok(cuCtxSetCurrent(ctx[i]));
		ok(cuCtxSynchronize());
	}
	if (*(int *)arg)
		raise(SIGKILL);
	for (int i = 0; i < 2; i++)
		ok(cuCtxDestroy_v2(ctx[i]));
	return 0;
}

static void test_share__the_dead_stay_accounted_exactly(void **state)
{
	struct sim_account accounts[64];
	struct sim_device_times t;
	struct sim_machine m;
	uint64_t sum, copies;

	assert_int_equal(sim_machine_open(&m, simtest_dir), 0);
	for (int killed = 0; killed < 2; killed++) {
		pid_t pid = simtest_fork(work_and_end, &killed);
		uint64_t compute = 0;
		uint32_t n, found = 0;

		assert_int_equal(simtest_wait(pid), killed ? -SIGKILL : 0);
		n = sim_machine_accounts(&m, 0, &t, accounts, 64, NULL);
		assert_true(n <= 64);
		sum = copies = 0;
		for (uint32_t i = 0; i < n; i++) {
			sum += accounts[i].compute_ns;
			copies += accounts[i].copy_ns[SIM_COPY_H2D];
			if (accounts[i].pid != pid)
				continue;
			assert_false(accounts[i].alive);
			compute += accounts[i].compute_ns;
			found++;
		}
		assert_int_equal(found, 2);
		/* The kernels and the time that launching takes on the device, twice. */
		assert_in_range(compute, 13 * MS, 13 * MS + 20000);
		/* Nothing is in the device's account that is not in somebody's. */
		assert_int_equal(sum, t.compute_ns);
		assert_int_equal(copies, t.copy_ns[SIM_COPY_H2D]);
		/* 56 MiB at 55.6 GB/s: on an engine of its own, not in the compute time. */
		assert_in_range(copies, (killed + 1) * 1056 * US, (killed + 1) * 1057 * US);
	}
	sim_machine_close(&m);
}

/* Takes the engine from another context with an event in front of the kernel. */
static int take_over(void *arg)
{
	CUcontext ctx[2];
	CUfunction spin[2];
	CUevent before, after;

	ok(cuInit(0));
	for (int i = 0; i < 2; i++) {
		ok(cuCtxCreate_v2(&ctx[i], 0, 0));
		spin[i] = simcu_function(simcu_kernels(), "aq_spin_ns");
	}
	ok(cuEventCreate(&before, CU_EVENT_DEFAULT));
	ok(cuEventCreate(&after, CU_EVENT_DEFAULT));
	for (int round = 0; round < 3; round++) {
		ok(cuCtxSetCurrent(ctx[0]));
		ok(simcu_spin(spin[0], NULL, MS / 2));
		ok(cuCtxSynchronize());
		ok(cuCtxSetCurrent(ctx[1]));
		ok(cuEventRecord(before, NULL));
		ok(simcu_spin(spin[1], NULL, 2 * MS));
		ok(cuEventRecord(after, NULL));
		ok(cuEventSynchronize(after));
		/* A switch takes 52 us. A late thread leaves a pause behind the event, so: the
		 * least. */
		if (simcu_elapsed_ms(before, after) < 2.03f)
			return 0;
	}
	return 1;
}

static void test_share__an_event_waits_for_its_context(void **state)
{
	assert_int_equal(simtest_wait(simtest_fork(take_over, NULL)), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_share__half_each_whatever_the_kernels),
		cmocka_unit_test(test_share__the_dead_stay_accounted_exactly),
		cmocka_unit_test(test_share__an_event_waits_for_its_context),
	};

	simtest_begin("h100");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
