/* SPDX-License-Identifier: Apache-2.0 */
/* How the guard comes, stays while daemons come and go, and what a forked child has of it. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/timing.h"
#include "guarded.h"

/* Children of ours attach, and so start a thread, which the thread sanitizer thinks ill of. */
const char *__tsan_default_options(void);
__attribute__((visibility("default"))) const char *__tsan_default_options(void)
{
	return "die_after_fork=0";
}

static CUcontext primary;

static int setup(void **state)
{
	fake_daemon.contexts = fake->contexts;
	fake_daemon_prepare();
	return 0;
}

static int teardown(void **state)
{
	fake_daemon_clean();
	return 0;
}

/* Run @fn with stderr in a pipe. Return: bytes in @text. */
static size_t stderr_of(CUresult *ret, char *text, size_t size)
{
	int saved = dup(STDERR_FILENO), pipes[2];
	ssize_t n;

	assert_int_equal(pipe(pipes), 0);
	dup2(pipes[1], STDERR_FILENO);
	close(pipes[1]);
	*ret = g.cuInit(0);
	dup2(saved, STDERR_FILENO);
	close(saved);
	n = read(pipes[0], text, size - 1);
	close(pipes[0]);
	text[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

static void test_init__without_a_daemon_there_is_no_gpu(void **state)
{
	char text[1024];
	CUresult r;

	errno = 4711;
	assert_true(stderr_of(&r, text, sizeof(text)) > 0);
	assert_int_equal(r, CUDA_ERROR_NOT_PERMITTED);
	assert_int_equal(fake->init_calls, 0);
	assert_non_null(strstr(text, "aliquot: no GPU"));
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	/* Said once. */
	assert_int_equal(stderr_of(&r, text, sizeof(text)), 0);
	assert_int_equal(r, CUDA_ERROR_NOT_PERMITTED);
}

static void test_init__a_refusal_is_a_refusal(void **state)
{
	fake_daemon_start();
	fake_daemon.refuse_hello = -ENOENT;
	assert_int_equal(g.cuInit(0), CUDA_ERROR_NOT_PERMITTED);
	assert_int_equal(fake->init_calls, 0);
	fake_daemon.refuse_hello = 0;
}

static void test_init__flags_are_the_drivers_to_refuse(void **state)
{
	assert_int_equal(g.cuInit(7), CUDA_ERROR_INVALID_VALUE);
}

static void test_init__the_drivers_own_failure_is_passed_on(void **state)
{
	fake->fail_init = CUDA_ERROR_NO_DEVICE;
	assert_int_equal(g.cuInit(0), CUDA_ERROR_NO_DEVICE);
}

static void *init(void *arg)
{
	return (void *)(uintptr_t)g.cuInit(0);
}

static void test_init__many_threads_attach_once(void **state)
{
	uint32_t before = fake_daemon.hellos;
	pthread_t t[8];
	void *r;

	fake_daemon.devices = 2;
	for (int i = 0; i < 8; i++)
		pthread_create(&t[i], NULL, init, NULL);
	for (int i = 0; i < 8; i++) {
		pthread_join(t[i], &r);
		assert_null(r);
	}
	assert_int_equal(fake_daemon.hellos, before + 1);
	assert_int_equal(g.cuDevicePrimaryCtxRetain(&primary, 0), CUDA_SUCCESS);
	g.cuCtxSetCurrent(primary);
}

static void test_devices__two_are_charged_rightly(void **state)
{
	CUmemAllocationProp prop = {.location = {CU_MEM_LOCATION_TYPE_DEVICE, 1}};
	CUmemGenericAllocationHandle h;
	CUcontext second;
	CUdeviceptr p, q;

	/* By the properties, not by the current context. */
	assert_int_equal(g.cuMemCreate(&h, 2 * MIB, &prop, 0), CUDA_SUCCESS);
	assert_int_equal(fake_daemon_used(0), 0);
	assert_int_equal(fake_daemon_used(1), 2 * MIB);
	assert_int_equal(g.cuDevicePrimaryCtxRetain(&second, 1), CUDA_SUCCESS);
	assert_int_equal(g.cuMemAlloc_v2(&p, MIB), CUDA_SUCCESS);
	g.cuCtxSetCurrent(second);
	assert_int_equal(g.cuMemAlloc_v2(&q, 4 * MIB), CUDA_SUCCESS);
	assert_int_equal(fake_daemon_used(0), 2 * MIB); /* a whole block */
	assert_int_equal(fake_daemon_used(1), 6 * MIB);
	/* Freed from the other's context. */
	assert_int_equal(g.cuMemFree_v2(p), CUDA_SUCCESS);
	g.cuCtxSetCurrent(primary);
	assert_int_equal(g.cuMemFree_v2(q), CUDA_SUCCESS);
	assert_int_equal(g.cuMemRelease(h), CUDA_SUCCESS);
	assert_int_equal(fake_daemon_used(0), 0);
	assert_int_equal(fake_daemon_used(1), 0);
	assert_int_equal(g.cuDevicePrimaryCtxRelease_v2(1), CUDA_SUCCESS);
}

static void test_daemon__its_death_stops_growth_and_nothing_else(void **state)
{
	CUdeviceptr p, q;
	uint64_t before;
	size_t room, total;

	assert_int_equal(g.cuMemAlloc_v2(&p, 512), CUDA_SUCCESS);
	assert_true(fake_daemon_granted(0) >= MIB);
	fake_daemon_stop();
	assert_int_equal(g.cuMemAlloc_v2(&q, 512), CUDA_SUCCESS); /* inside the grant */
	before = aq_now_ns();
	assert_int_equal(g.cuMemAlloc_v2(&q, 32 * MIB), CUDA_ERROR_OUT_OF_MEMORY);
	assert_true(aq_now_ns() - before < 5 * AQ_NS_PER_S);
	assert_int_equal(g.cuMemGetInfo_v2(&room, &total), CUDA_SUCCESS);
	assert_int_equal(total, FAKE_LIMIT);
	assert_int_equal(room, fake_daemon_granted(0) - fake_daemon_used(0));
	assert_int_equal(g.cuMemFree_v2(p), CUDA_SUCCESS);
}

static void test_daemon__the_next_one_adopts_within_a_second(void **state)
{
	uint64_t until = aq_now_ns() + AQ_NS_PER_S;
	uint32_t before = fake_daemon.adoptions;
	CUdeviceptr p;

	fake_daemon_start();
	while (fake_daemon.adoptions == before && aq_now_ns() < until)
		usleep(1000);
	assert_int_equal(fake_daemon.adoptions, before + 1);
	assert_int_equal(fake_daemon_used(0), 2 * MIB); /* the one that is still held */
	assert_int_equal(g.cuMemAlloc_v2(&p, 32 * MIB), CUDA_SUCCESS);
	assert_int_equal(g.cuMemFree_v2(p), CUDA_SUCCESS);
}

static void *restart_soon(void *arg)
{
	usleep(200000);
	fake_daemon_start();
	return NULL;
}

static void test_daemon__growth_waits_a_little_for_the_next_one(void **state)
{
	pthread_t t;
	CUdeviceptr p;

	fake_daemon_stop();
	pthread_create(&t, NULL, restart_soon, NULL);
	assert_int_equal(g.cuMemAlloc_v2(&p, 40 * MIB), CUDA_SUCCESS);
	pthread_join(t, NULL);
	assert_int_equal(g.cuMemFree_v2(p), CUDA_SUCCESS);
}

static void test_daemon__a_program_that_closes_our_files_loses_nothing(void **state)
{
	struct aq_page *ours = fake_daemon.page;
	pid_t pid = fork();
	int status;

	if (!pid) {
		CUdeviceptr p;

		if (g.cuInit(0))
			_exit(1);
		closefrom(3);
		for (int i = 0; i < 200; i++) /* the program's own now, under our numbers */
			if (dup(2) < 0)
				_exit(2);
		if (g.cuMemAlloc_v2(&p, 48 * MIB) != CUDA_SUCCESS)
			_exit(3);
		for (int i = 3; i < 200; i++)
			if (fcntl(i, F_GETFD) < 0)
				_exit(4);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	fake_daemon.page = ours;
	assert_int_equal(status, 0);
}

static void test_fork__a_child_is_a_client_of_its_own(void **state)
{
	uint64_t used = fake_daemon_used(0);
	struct aq_page *ours = fake_daemon.page;
	uint32_t hellos = fake_daemon.hellos;
	int status;
	pid_t pid = fork();

	if (!pid) {
		CUdeviceptr p;

		/* Not attached: the driver's own answers, nothing in the parent's page. */
		if (g.cuMemAlloc_v2(&p, MIB) || g.cuMemFree_v2(p))
			_exit(1);
		if (g.cuInit(0))
			_exit(2);
		if (g.cuMemAlloc_v2(&p, MIB))
			_exit(3);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	assert_int_equal(fake_daemon.hellos, hellos + 1);
	assert_ptr_not_equal(fake_daemon.page, ours);
	assert_int_equal(fake_daemon_used(0), 2 * MIB); /* in the child's page */
	fake_daemon.page = ours;
	assert_int_equal(fake_daemon_used(0), used);
}

/* A fork that no handler hears of: what clone(2) and static executables do. */
static void test_fork__without_handlers_it_is_the_same(void **state)
{
	struct aq_page *ours = fake_daemon.page;
	uint64_t used = fake_daemon_used(0);
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	int status;

	if (!pid) {
		CUdeviceptr p;

		if (g.cuMemAlloc_v2(&p, MIB))
			_exit(1);
		if (g.cuInit(0))
			_exit(2);
		if (g.cuMemAlloc_v2(&p, 2 * MIB))
			_exit(3);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	assert_ptr_not_equal(fake_daemon.page, ours);
	assert_int_equal(fake_daemon_used(0), 2 * MIB); /* in the child's page */
	fake_daemon.page = ours;
	assert_int_equal(fake_daemon_used(0), used);
}

static void test_resolve__addresses_are_exchanged_by_what_is_there(void **state)
{
	static const struct {
		const char *asked;
		const char *hook; /* NULL: the driver's own */
	} cases[] = {
		{"cuMemAlloc", "cuMemAlloc_v2"},
		{"cuLaunchKernel", "cuLaunchKernel"},
		{"cuMemGetInfo", "cuMemGetInfo_v2"},
		{"cuGetProcAddress", "cuGetProcAddress_v2"},
		{"cuCtxDestroy", "cuCtxDestroy"},
		{"cuGLCtxCreate", "cuGLCtxCreate_v2"},
		{"cuVDPAUCtxCreate", "cuVDPAUCtxCreate_v2"},
		{"cuGLInit", NULL},
		{"cuDriverGetVersion", NULL},
		{"cuNew", NULL},
	};
	void *driver = dlopen(AQ__DRIVER_SONAME, RTLD_NOLOAD | RTLD_LAZY), *pfn;
	__typeof__(&cuGetProcAddress_v2) real;

	*(void **)&real = dlsym(driver, "cuGetProcAddress_v2");
	assert_ptr_not_equal(real, g.cuGetProcAddress_v2);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CUdriverProcAddressQueryResult s1 = 9, s2 = 9;
		void *own;

		assert_int_equal(g.cuGetProcAddress_v2(cases[i].asked, &pfn, 12000, 0, &s1), 0);
		assert_int_equal(real(cases[i].asked, &own, 12000, 0, &s2), 0);
		assert_int_equal(s1, s2);
		if (cases[i].hook)
			assert_ptr_equal(pfn, dlsym(guard_handle, cases[i].hook));
		else
			assert_ptr_equal(pfn, own);
	}
	assert_int_equal(g.cuGetProcAddress_v2("cuNone", &pfn, 12000, 0, NULL), 0);
	assert_null(pfn);
	assert_int_equal(g.cuGetProcAddress_v2("cuInit", NULL, 12000, 0, NULL),
			 CUDA_ERROR_INVALID_VALUE);
}

static void test_hooks__what_the_driver_lacks_is_not_supported(void **state)
{
	assert_int_equal(g.cuGraphUpload(NULL, NULL), CUDA_ERROR_NOT_SUPPORTED);
	assert_int_equal(g.cuMemAllocHost_v2 == NULL, 1);
	assert_int_equal(g.cuLaunchKernel(NULL, 77, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL), 77);
}

typedef int untyped_fn(long a, long b, long c, long d, long e, long f, double x, double y,
		       long on_stack);

static int call_untyped(void)
{
	untyped_fn *fn;

	*(void **)&fn = dlsym(guard_handle, "cuStreamGetDevResource");
	return fn(1, 2, 3, 4, 5, 6, 2.5, 20.0, 7);
}

static void *open_soon(void *arg)
{
	usleep(50000);
	__atomic_store_n((uint32_t *)&fake_daemon.page->device[0].gate, 0, __ATOMIC_RELEASE);
	__atomic_store_n((uint32_t *)&fake_daemon.page->gates, 0, __ATOMIC_RELEASE);
	return NULL;
}

/* Close the gate, have another thread open it. Return: when it was closed. */
static uint64_t close_for_a_moment(pthread_t *ret_thread)
{
	__atomic_store_n((uint32_t *)&fake_daemon.page->device[0].gate, 1, __ATOMIC_RELEASE);
	__atomic_store_n((uint32_t *)&fake_daemon.page->gates, 1, __ATOMIC_RELEASE);
	pthread_create(ret_thread, NULL, open_soon, NULL);
	return aq_now_ns();
}

static void test_gate__submitting_waits_for_it_and_nothing_else_does(void **state)
{
	uint64_t closed;
	pthread_t t;

	assert_int_equal(call_untyped(), 7654321 + 50);
	closed = close_for_a_moment(&t);
	assert_int_equal(g.cuCtxSynchronize(), CUDA_SUCCESS);
	assert_int_equal(call_untyped(), 7654321 + 50);
	assert_true(aq_now_ns() - closed < 40 * AQ_NS_PER_MS);
	assert_int_equal(g.cuLaunchKernel(NULL, 5, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL), 5);
	assert_true(aq_now_ns() - closed >= 50 * AQ_NS_PER_MS);
	pthread_join(t, NULL);
}

static void test_gate__an_open_one_asks_the_driver_nothing(void **state)
{
	uint32_t looks = fake->looks, events = fake->events;

	for (int i = 0; i < 1000; i++)
		assert_int_equal(g.cuLaunchKernel(NULL, 5, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL), 5);
	assert_int_equal(fake->looks, looks);
	assert_int_equal(fake->events, events);
	/* The counters count: a gate that is not open is another matter. */
	__atomic_store_n((uint32_t *)&fake_daemon.page->gates, 2, __ATOMIC_RELEASE);
	assert_int_equal(g.cuLaunchKernel(NULL, 5, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL), 5);
	__atomic_store_n((uint32_t *)&fake_daemon.page->gates, 0, __ATOMIC_RELEASE);
	assert_true(fake->looks > looks);
}

static void test_gate__of_a_daemon_that_is_gone_is_open(void **state)
{
	__atomic_store_n((uint32_t *)&fake_daemon.page->device[0].gate, 1, __ATOMIC_RELEASE);
	__atomic_store_n((uint32_t *)&fake_daemon.page->gates, 1, __ATOMIC_RELEASE);
	fake_daemon_stop();
	assert_int_equal(g.cuLaunchKernel(NULL, 5, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL), 5);
	open_soon(NULL);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hooks__what_the_driver_lacks_is_not_supported),
		cmocka_unit_test(test_init__without_a_daemon_there_is_no_gpu),
		cmocka_unit_test(test_init__a_refusal_is_a_refusal),
		cmocka_unit_test(test_init__flags_are_the_drivers_to_refuse),
		cmocka_unit_test(test_init__the_drivers_own_failure_is_passed_on),
		cmocka_unit_test(test_init__many_threads_attach_once),
		cmocka_unit_test(test_devices__two_are_charged_rightly),
		cmocka_unit_test(test_resolve__addresses_are_exchanged_by_what_is_there),
		cmocka_unit_test(test_gate__submitting_waits_for_it_and_nothing_else_does),
		cmocka_unit_test(test_gate__an_open_one_asks_the_driver_nothing),
		cmocka_unit_test(test_fork__a_child_is_a_client_of_its_own),
		cmocka_unit_test(test_fork__without_handlers_it_is_the_same),
		cmocka_unit_test(test_daemon__a_program_that_closes_our_files_loses_nothing),
		cmocka_unit_test(test_daemon__its_death_stops_growth_and_nothing_else),
		cmocka_unit_test(test_daemon__the_next_one_adopts_within_a_second),
		cmocka_unit_test(test_daemon__growth_waits_a_little_for_the_next_one),
		cmocka_unit_test(test_gate__of_a_daemon_that_is_gone_is_open),
	};
	if (argc != 2)
		return 2;
	guarded_load(argv[1]);
	return cmocka_run_group_tests(tests, setup, teardown);
}
