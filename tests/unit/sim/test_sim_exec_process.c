/* SPDX-License-Identifier: Apache-2.0 */
/* Work of several threads, devices and processes at a time. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "simcu.h"

/* Two processes share the device by halves, whatever the lengths of their kernels. */
struct worker {
	uint64_t kernel_ns;
	int out; /* where it writes how much device time it had */
};

static int work(void *arg)
{
	struct worker *w = arg;
	uint64_t end, ns = 0, began;
	CUstream s;
	CUfunction spin;
	CUevent a, b;
	CUmodule m;

	simtest_context(0);
	m = simcu_kernels();
	spin = simcu_function(m, "aq_spin_ns");
	ok(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	ok(cuEventCreate(&a, 0));
	ok(cuEventCreate(&b, 0));
	began = simcu_now_ns();
	end = began + 400 * MS;
	while (simcu_now_ns() < end) {
		/* Little ahead, so that what is done is what was submitted. */
		for (int i = 0; i < 4; i++, ns += w->kernel_ns)
			ok(simcu_spin(spin, s, w->kernel_ns));
		ok(cuStreamSynchronize(s));
	}
	if (write(w->out, &ns, sizeof(ns)) != sizeof(ns))
		return 1;
	return 0;
}

static void test_sim_exec_process__two_share_by_halves(void **state)
{
	int pipes[2][2];
	struct worker w[2] = {{.kernel_ns = 100000}, {.kernel_ns = 3 * MS}};
	uint64_t ns[2] = {0};
	pid_t pid[2];

	for (int i = 0; i < 2; i++) {
		assert_int_equal(pipe(pipes[i]), 0);
		w[i].out = pipes[i][1];
		pid[i] = simtest_fork(work, &w[i]);
	}
	for (int i = 0; i < 2; i++) {
		assert_int_equal(simtest_wait(pid[i]), 0);
		assert_int_equal(read(pipes[i][0], &ns[i], sizeof(ns[i])), sizeof(ns[i]));
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
	/* Neither can have had more than all, nor starve; the machine's load decides the rest. */
	assert_in_range(ns[0] + ns[1], 100 * MS, 700 * MS);
	assert_true(ns[0] > 40 * MS);
	assert_true(ns[1] > 40 * MS);
}

/* An event of one process, waited for by another. */
static int wait_for_event(void *arg)
{
	int *fds = arg;
	CUipcEventHandle handle;
	CUdeviceptr p;
	CUstream s;
	CUevent e;
	char c;

	simtest_context(0);
	if (read(fds[0], &handle, sizeof(handle)) != sizeof(handle))
		return 1;
	ok(cuIpcOpenEventHandle(&e, handle));
	ok(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	p = simcu_alloc(4);
	FAILS(CUDA_ERROR_NOT_READY, cuEventQuery(e));
	ok(cuStreamWaitEvent(s, e, 0));
	ok(cuMemsetD32Async(p, 5, 1, s));
	FAILS(CUDA_ERROR_NOT_READY, cuStreamQuery(s));
	if (write(fds[3], "w", 1) != 1)
		return 1;
	ok(cuEventSynchronize(e));
	ok(cuStreamSynchronize(s));
	if (read(fds[0], &c, 1) != 1 || c != 'd') /* written before the host function returned */
		return 1;
	return simcu_read_u32(p) == 5 ? 0 : 1;
}

static atomic_int let_go;

static void hold_up(void *arg)
{
	int fd = *(int *)arg;

	while (!let_go)
		usleep(1000);
	if (write(fd, "d", 1) != 1)
		let_go = 2;
}

static void test_sim_exec_process__events_between_processes(void **state)
{
	CUipcEventHandle handle;
	int fds[4]; /* to the child, from the child */
	CUstream s;
	CUevent e;
	pid_t pid;
	char c;

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(pipe(fds + 2), 0);
	pid = simtest_fork(wait_for_event, fds);
	simtest_context(0);
	ok(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	ok(cuEventCreate(&e, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING));
	ok(cuLaunchHostFunc(s, hold_up, &fds[1]));
	ok(cuEventRecord(e, s));
	FAILS(CUDA_ERROR_NOT_READY, cuEventQuery(e));
	ok(cuIpcGetEventHandle(&handle, e));
	assert_int_equal(write(fds[1], &handle, sizeof(handle)), sizeof(handle));
	assert_int_equal(read(fds[2], &c, 1), 1);
	let_go = 1;
	ok(cuEventSynchronize(e));
	assert_int_equal(simtest_wait(pid), 0);
	ok(cuEventDestroy_v2(e));
	ok(cuStreamDestroy_v2(s));
	for (int i = 0; i < 4; i++)
		close(fds[i]);
}

/* From device to device, in the order of two contexts' streams. */
static void test_sim_exec_process__two_devices(void **state)
{
	CUcontext a = simtest_context(0), b = simtest_context(1);
	CUdeviceptr pa, pb;
	CUstream sa, sb;
	CUfunction fa, fb;
	CUmodule ma, mb;
	CUevent e, begin, end;
	float ms;

	mb = simcu_kernels();
	fb = simcu_function(mb, "aq_mad");
	pb = simcu_alloc(64 * MIB);
	ok(cuStreamCreate(&sb, CU_STREAM_NON_BLOCKING));
	ok(cuCtxSetCurrent(a));
	ma = simcu_kernels();
	fa = simcu_function(ma, "aq_spin_ns");
	pa = simcu_alloc(64 * MIB);
	ok(cuStreamCreate(&sa, CU_STREAM_NON_BLOCKING));
	ok(cuEventCreate(&e, CU_EVENT_DISABLE_TIMING));
	ok(cuEventCreate(&begin, 0));
	ok(cuEventCreate(&end, 0));

	ok(cuMemsetD32Async(pa, 4, 16 * MIB, sa));
	ok(simcu_spin(fa, sa, 10 * MS));
	ok(cuEventRecord(begin, sa));
	ok(cuMemcpyPeerAsync(pb, b, pa, a, 64 * MIB, sa));
	ok(cuEventRecord(end, sa));
	ok(cuEventRecord(e, sa));
	ok(cuStreamWaitEvent(sb, e, 0));
	ok(cuCtxSetCurrent(b));
	ok(simcu_mad(fb, sb, pb, 10, 2, 16 * MIB));
	FAILS(CUDA_ERROR_INVALID_HANDLE, cuEventRecord(e, sb)); /* of the other context */
	FAILS(CUDA_ERROR_INVALID_HANDLE, simcu_spin(fa, sb, 1));
	ok(cuStreamSynchronize(sb));
	assert_int_equal(simcu_read_u32(pb + 64 * MIB - 4), 42);
	ms = simcu_elapsed_ms(begin, end);
	if (ms < 0.05f || ms > 10.0f)
		fail_msg("64 MiB to the other device took %f ms", (double)ms);
	ok(cuCtxSetCurrent(a));
	ok(cuMemcpyDtoD_v2(pa, pb, 4));
	assert_int_equal(simcu_read_u32(pa), 42);
	ok(cuDevicePrimaryCtxReset_v2(1));
	/* What belonged to the context that is gone is recognised. */
	FAILS(CUDA_ERROR_INVALID_HANDLE, cuStreamSynchronize(sb));
	FAILS(CUDA_ERROR_INVALID_HANDLE, cuModuleUnload(mb));
	ok(cuDevicePrimaryCtxReset_v2(0));
	FAILS(CUDA_ERROR_INVALID_HANDLE, cuEventDestroy_v2(e));
}

/*
 * Many threads, streams of every kind, everything that can be submitted: nothing hangs, every host
 * function is called once.
 */
#define THREADS 4
#define ROUNDS 400

static CUstream common[2];
static CUcontext common_ctx;
static CUfunction common_spin, common_mad;
static atomic_uint called, launched;

static void count(void *arg)
{
	called++;
}

static void *many_things(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;
	CUdeviceptr p, q;
	CUevent e[2];
	CUstream own, s;
	void *host;

	ok(cuCtxSetCurrent(common_ctx));
	ok(cuStreamCreate(&own, seed & 1));
	ok(cuMemHostAlloc(&host, 65536, 0));
	p = simcu_alloc(65536);
	for (int i = 0; i < 2; i++)
		ok(cuEventCreate(&e[i], 0));
	for (int i = 0; i < ROUNDS; i++) {
		CUstream of[] = {common[0], common[1], NULL, CU_STREAM_PER_THREAD, own};
		CUresult r;

		s = of[rand_r(&seed) % 5];
		switch (rand_r(&seed) % 12) {
		case 0:
			ok(simcu_spin(common_spin, s, (uint64_t)rand_r(&seed) % 50000));
			break;
		case 1:
			ok(simcu_mad(common_mad, s, p, 3, 1, 100));
			break;
		case 2:
			ok(cuMemcpyHtoDAsync_v2(p, host, (size_t)rand_r(&seed) % 65536, s));
			break;
		case 3:
			ok(cuMemcpyDtoHAsync_v2(host, p, (size_t)rand_r(&seed) % 65536, s));
			break;
		case 4:
			ok(cuEventRecord(e[i & 1], s));
			break;
		case 5:
			ok(cuStreamWaitEvent(s, e[i & 1], 0));
			break;
		case 6:
			ok(cuLaunchHostFunc(s, count, NULL));
			launched++;
			break;
		case 7:
			ok(cuStreamSynchronize(s));
			break;
		case 8:
			r = cuStreamQuery(s);
			assert_true(r == CUDA_SUCCESS || r == CUDA_ERROR_NOT_READY);
			break;
		case 9:
			ok(cuMemAllocAsync(&q, (size_t)rand_r(&seed) % 100000 + 1, s));
			ok(cuMemsetD8Async(q, 3, 1, s));
			ok(cuMemFreeAsync(q, s));
			break;
		case 10:
			ok(cuStreamCreate(&s, seed & 1));
			ok(simcu_spin(common_spin, s, 20000));
			ok(cuLaunchHostFunc(s, count, NULL));
			launched++;
			ok(cuStreamDestroy_v2(s));
			break;
		default:
			ok(cuEventSynchronize(e[i & 1]));
		}
	}
	ok(cuCtxSynchronize());
	ok(cuStreamDestroy_v2(own));
	ok(cuMemFreeHost(host));
	ok(cuMemFree_v2(p));
	for (int i = 0; i < 2; i++)
		ok(cuEventDestroy_v2(e[i]));
	return NULL;
}

static void test_sim_exec_process__many_threads(void **state)
{
	pthread_t threads[THREADS];
	CUmodule m;

	common_ctx = simtest_context(0);
	m = simcu_kernels();
	common_spin = simcu_function(m, "aq_spin_ns");
	common_mad = simcu_function(m, "aq_mad");
	ok(cuStreamCreate(&common[0], CU_STREAM_DEFAULT));
	ok(cuStreamCreate(&common[1], CU_STREAM_NON_BLOCKING));
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, many_things, (void *)(i + 1)),
				 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	ok(cuCtxSynchronize());
	assert_int_equal(called, launched);
	ok(cuDevicePrimaryCtxReset_v2(0));
}

/* A process that may have no more threads is told so, instead of waiting for ever. */
static void count_call(void *calls)
{
	atomic_fetch_add((atomic_int *)calls, 1);
}

static int work_without_threads(void *arg)
{
	pthread_attr_t old, huge;
	atomic_int calls = 0;
	CUstream s;

	simtest_context(0);
	ok(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	assert_int_equal(pthread_getattr_default_np(&old), 0);
	assert_int_equal(pthread_attr_init(&huge), 0);
	assert_int_equal(pthread_attr_setstacksize(&huge, (size_t)1 << 50), 0); /* no room for it */
	assert_int_equal(pthread_setattr_default_np(&huge), 0);
	assert_int_equal(cuLaunchHostFunc(s, count_call, &calls), CUDA_ERROR_OPERATING_SYSTEM);
	ok(cuCtxSynchronize());
	assert_int_equal(pthread_setattr_default_np(&old), 0);
	ok(cuLaunchHostFunc(s, count_call, &calls));
	ok(cuCtxSynchronize());
	assert_int_equal(calls, 1);
	return 0;
}

static void test_sim_exec_process__no_more_threads(void **state)
{
	assert_int_equal(simtest_wait(simtest_fork(work_without_threads, NULL)), 0);
}

int main(void)
{
	/* Those that fork come first: a process must not fork after cuInit(). */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sim_exec_process__two_share_by_halves),
		cmocka_unit_test(test_sim_exec_process__no_more_threads),
		cmocka_unit_test(test_sim_exec_process__events_between_processes),
		cmocka_unit_test(test_sim_exec_process__two_devices),
		cmocka_unit_test(test_sim_exec_process__many_threads),
	};

	simtest_begin("h100:2");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
