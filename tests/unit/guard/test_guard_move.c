/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that moves: to the host and back, whatever the program does meanwhile. What happens when
 * that fails is in test_guard_unmoved.c.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/wait.h>

#include "movetest.h"

/* ---- moving ---- */

static void test_move__parked_memory_is_free_and_comes_back_the_same(void **state)
{
	uint64_t start = device_free(), used, held;
	unsigned int yes = 1;
	struct set s;

	set_make(&s);
	ok(g.cuPointerSetAttribute(&yes, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, s.p[6]));
	used = fake_daemon_used(0);
	held = start - device_free();
	assert_int_equal(held, used);
	for (int round = 0; round < 3; round++) {
		assert_int_equal(park(0), 0);
		assert_int_equal(fake_daemon_used(0), 0);
		assert_int_equal(parked(0), used);
		assert_int_equal(movable(0), 0);
		assert_int_equal(device_free(), start);
		yes = 0;
		ok(g.cuPointerGetAttribute(&yes, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, s.p[6]));
		assert_int_equal(yes, CU_MEMORYTYPE_DEVICE);
		assert_int_equal(resume(0), 0);
		assert_int_equal(parked(0), 0);
		assert_int_equal(movable(0), used);
		assert_int_equal(fake_daemon_used(0), used);
		assert_int_equal(start - device_free(), used);
		set_check(&s);
	}
	ok(driver.cuPointerGetAttribute(&yes, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, s.p[6]));
	assert_int_equal(yes, 1);
	set_free(&s);
}

static void test_move__captured_graphs_events_and_streams_survive(void **state)
{
	uint32_t m = 3, a = 1, value = 7, words[4];
	uint64_t count = 5 * MIB / 4;
	CUdeviceptr p;
	void *params[] = {&p, &m, &a, &count};
	void *first[] = {&p, &value, &count};
	CUgraphExec exec;
	CUgraph graph;
	CUevent event;

	ok(g.cuMemAlloc_v2(&p, 5 * MIB));
	ok(g.cuEventCreate(&event, 0));
	ok(g.cuLaunchKernel(fill_words, 4, 1, 1, 32, 1, 1, 0, stream, first, NULL));
	ok(g.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	ok(g.cuLaunchKernel(mad, 4, 1, 1, 32, 1, 1, 0, stream, params, NULL));
	ok(g.cuStreamEndCapture(stream, &graph));
	ok(g.cuGraphInstantiateWithFlags(&exec, graph, 0));
	ok(g.cuGraphLaunch(exec, stream));
	ok(g.cuEventRecord(event, stream));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(park(0), 0);
		ok(g.cuEventQuery(event)); /* what was in flight is done */
		assert_int_equal(resume(0), 0);
		ok(g.cuGraphLaunch(exec, stream));
		value = value * m + a;
		ok(g.cuStreamSynchronize(stream));
	}
	ok(g.cuMemcpyDtoH_v2(words, p + 5 * MIB - sizeof(words), sizeof(words)));
	assert_int_equal(words[3], value * m + a);
	ok(g.cuGraphExecDestroy(exec));
	ok(g.cuGraphDestroy(graph));
	ok(g.cuEventDestroy_v2(event));
	ok(g.cuMemFree_v2(p));
}

static void *build_graph(void *arg)
{
	CUDA_MEMSET_NODE_PARAMS params = {
		.dst = *(CUdeviceptr *)arg, .value = 9, .elementSize = 4, .width = 64, .height = 1};
	CUgraphNode node;
	CUgraphExec exec;
	CUgraph graph;
	CUresult r;

	g.cuCtxSetCurrent(ctx[0]);
	r = g.cuGraphCreate(&graph, 0);
	if (r == CUDA_SUCCESS)
		r = g.cuGraphAddMemsetNode(&node, graph, NULL, 0, &params, ctx[0]);
	if (r == CUDA_SUCCESS)
		r = g.cuGraphInstantiateWithFlags(&exec, graph, 0);
	if (r == CUDA_SUCCESS)
		r = g.cuGraphLaunch(exec, stream);
	if (r == CUDA_SUCCESS)
		r = g.cuStreamSynchronize(stream);
	g.cuGraphExecDestroy(exec);
	g.cuGraphDestroy(graph);
	return (void *)(intptr_t)r;
}

/* The driver looks at addresses that nodes are made of: they have to be there. */
static void test_move__graphs_are_built_on_memory_that_is_away(void **state)
{
	uint32_t words[64];
	pthread_t thread;
	CUdeviceptr p;
	void *result;

	ok(g.cuMemAlloc_v2(&p, 2 * MIB));
	assert_int_equal(park(0), 0);
	assert_int_equal(pthread_create(&thread, NULL, build_graph, &p), 0);
	assert_true(eventually(lease_load(&lease_device(0)->want) == 1));
	assert_int_equal(resume(0), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_ptr_equal(result, (void *)CUDA_SUCCESS);
	ok(g.cuMemcpyDtoH_v2(words, p, sizeof(words)));
	assert_int_equal(words[63], 9);
	ok(g.cuMemFree_v2(p));
}

static void test_move__work_in_flight_is_waited_for(void **state)
{
	uint64_t ns = 100 * MS, count = MIB / 4;
	uint32_t value = 0x1234567, word = 0;
	CUdeviceptr p;
	void *spin_params[] = {&ns};
	void *params[] = {&p, &value, &count};

	ok(g.cuMemAlloc_v2(&p, MIB));
	ok(g.cuLaunchKernel(spin, 1, 1, 1, 32, 1, 1, 0, stream, spin_params, NULL));
	ok(g.cuLaunchKernel(fill_words, 4, 1, 1, 32, 1, 1, 0, stream, params, NULL));
	assert_int_equal(park(0), 0);
	ok(g.cuStreamQuery(stream));
	assert_int_equal(resume(0), 0);
	ok(g.cuMemcpyDtoH_v2(&word, p + MIB - 4, 4));
	assert_int_equal(word, value);
	ok(g.cuMemFree_v2(p));
}

struct toucher {
	pthread_t thread;
	CUdeviceptr p;
	bool allocates;
	_Atomic int done;
};

static void *touch(void *arg)
{
	struct toucher *t = arg;

	g.cuCtxSetCurrent(ctx[0]);
	if (t->allocates)
		t->done = g.cuMemAlloc_v2(&t->p, 3 * MIB) == CUDA_SUCCESS ? 1 : -1;
	else
		t->done = g.cuMemsetD32_v2(t->p, 77, 256) == CUDA_SUCCESS ? 1 : -1;
	return NULL;
}

static void wanted_then_resumed(struct toucher *t)
{
	assert_int_equal(park(0), 0);
	assert_int_equal(pthread_create(&t->thread, NULL, touch, t), 0);
	assert_true(eventually(lease_load(&lease_device(0)->want) == 1));
	usleep(30000);
	assert_int_equal(t->done, 0);
	/* A gate that the daemon opens too early does not let it through. */
	lease_gate(0, 0);
	usleep(30000);
	assert_int_equal(t->done, 0);
	assert_int_equal(resume(0), 0);
	assert_int_equal(pthread_join(t->thread, NULL), 0);
	assert_int_equal(t->done, 1);
	assert_int_equal(lease_load(&lease_device(0)->want), 0);
}

static void test_move__who_comes_while_parked_waits_and_is_heard(void **state)
{
	struct toucher launches = {.allocates = false}, allocates = {.allocates = true};
	uint32_t word;

	ok(g.cuMemAlloc_v2(&launches.p, 2 * MIB));
	wanted_then_resumed(&launches);
	ok(g.cuMemcpyDtoH_v2(&word, launches.p + 255 * 4, 4));
	assert_int_equal(word, 77);
	wanted_then_resumed(&allocates);
	ok(g.cuMemFree_v2(allocates.p));
	ok(g.cuMemFree_v2(launches.p));
}

static void test_move__memory_can_be_freed_where_it_is(void **state)
{
	uint64_t start = device_free(), before;
	CUcontext other;
	CUdeviceptr q;
	struct set s;

	set_make(&s);
	ok(g.cuCtxCreate_v4(&other, NULL, 0, 0));
	ok(g.cuMemAlloc_v2(&q, 30 * MIB));
	g.cuCtxSetCurrent(ctx[0]);
	assert_int_equal(park(0), 0);
	before = parked(0);
	for (size_t i = 0; i < SIZES; i += 2) {
		ok(g.cuMemFree_v2(s.p[i]));
		s.p[i] = 0;
	}
	ok(g.cuCtxDestroy_v2(other));
	g.cuCtxSetCurrent(ctx[0]);
	assert_true(before - parked(0) >= 30 * MIB + 20 * MIB);
	assert_int_equal(fake_daemon_used(0), 0);
	assert_int_equal(device_free(), start);
	assert_int_equal(resume(0), 0);
	set_check(&s);
	assert_int_equal(start - device_free(), fake_daemon_used(0));
	set_free(&s);
}

static void test_move__all_can_be_freed_while_parked(void **state)
{
	struct set s;

	set_make(&s);
	assert_int_equal(park(0), 0);
	set_free(&s);
	assert_int_equal(parked(0), 0);
	assert_int_equal(fake_daemon_used(0), 0);
	/* Nothing to bring back, so nothing to wait for. */
	lease_gate(0, 0);
	set_make(&s);
	set_check(&s);
	assert_int_equal(resume(0), 0);
	set_free(&s);
}

static void test_move__what_others_know_stays(void **state)
{
	CUipcMemHandle handle;
	uint64_t loan, span;
	CUdeviceptr p, q;

	ok(g.cuMemAlloc_v2(&p, 40 * MIB));
	ok(g.cuMemAlloc_v2(&q, 50 * MIB));
	put(p, 40 * MIB, 1);
	put(q, 50 * MIB, 2);
	ok(g.cuIpcGetMemHandle(&handle, p));
	fake_daemon_borrow(0);
	assert_int_equal(fake_daemon_lent(&loan, &span), 0);
	assert_int_equal(span, 40 * MIB);
	assert_int_equal(movable(0), 50 * MIB);
	assert_int_equal(park(0), 0);
	assert_int_equal(parked(0), 50 * MIB);
	assert_int_equal(fake_daemon_used(0), 40 * MIB);
	assert_int_equal(resume(0), 0);
	same(p, 40 * MIB, 1);
	same(q, 50 * MIB, 2);
	ok(g.cuMemFree_v2(p)); /* nobody but us must have it then: it is not kept */
	assert_int_equal(fake_daemon_used(0), 50 * MIB);
	fake_daemon_give_back(loan); /* of a chunk that is no more */
	ok(g.cuMemFree_v2(q));
}

/* A handle alone holds nothing; nor does memory that everybody has closed. */
static void test_move__what_nobody_has_open_moves(void **state)
{
	CUipcMemHandle handle, again;
	uint64_t loan[2], span;
	CUdeviceptr p;

	ok(g.cuMemAlloc_v2(&p, 40 * MIB));
	put(p, 40 * MIB, 3);
	ok(g.cuIpcGetMemHandle(&handle, p));
	ok(g.cuIpcGetMemHandle(&again, p));
	assert_memory_equal(&handle, &again, sizeof(handle));
	for (int round = 0; round < 3; round++) {
		assert_int_equal(movable(0), 40 * MIB);
		assert_int_equal(park(0), 0);
		assert_int_equal(parked(0), 40 * MIB);
		fake_daemon_borrow(0); /* it has to come back for that */
		assert_true(eventually(lease_load(&lease_device(0)->want)));
		assert_int_equal(resume(0), 0);
		assert_int_equal(fake_daemon_lent(&loan[0], &span), 0);
		fake_daemon_borrow(0);
		assert_int_equal(fake_daemon_lent(&loan[1], &span), 0);
		assert_int_equal(movable(0), 0);
		fake_daemon_give_back(loan[1]);
		usleep(20000);
		assert_int_equal(movable(0), 0); /* one still has it */
		fake_daemon_give_back(loan[0]);
		assert_true(eventually(movable(0) == 40 * MIB));
		same(p, 40 * MIB, 3);
	}
	ok(g.cuMemFree_v2(p));
	assert_true(eventually(fake_daemon.withdrawals));
	fake_daemon_borrow(0); /* the daemon may not have heard that it is freed */
	assert_int_equal(fake_daemon_lent(&loan[0], &span), -ENOENT);
}

static void test_move__a_capture_is_not_disturbed(void **state)
{
	uint64_t ns = 1000;
	void *params[] = {&ns};
	CUgraph graph;
	CUdeviceptr p;

	ok(g.cuMemAlloc_v2(&p, 2 * MIB));
	ok(g.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	begin_park(0, UINT64_MAX);
	usleep(100000);
	for (int i = 0; i < 10; i++)
		ok(g.cuLaunchKernel(spin, 1, 1, 1, 32, 1, 1, 0, stream, params, NULL));
	assert_int_equal(parked(0), 0);
	ok(g.cuStreamEndCapture(stream, &graph));
	assert_int_equal(result_of_order(0), 0);
	assert_int_equal(parked(0), 2 * MIB);
	assert_int_equal(resume(0), 0);
	ok(g.cuGraphDestroy(graph));
	ok(g.cuMemFree_v2(p));
}

/* ---- all at once ---- */

#define WORKERS 4
#define PARKS 25

struct worker {
	pthread_t thread;
	unsigned int number;
	uint64_t rounds, bad;
	CUresult failed;
};

static _Atomic bool storm_over;

static CUresult copy_check(CUdeviceptr p, uint64_t bytes, uint32_t value, uint64_t *bad)
{
	uint32_t *words = malloc(bytes);
	CUresult r = g.cuMemcpyDtoH_v2(words, p, bytes);

	for (uint64_t i = 0; r == CUDA_SUCCESS && i < bytes / 4; i++)
		*bad += words[i] != value;
	free(words);
	return r;
}

/* One round: memory, a kernel on it, a graph on it, a wait, a look at the bytes. */
static CUresult work(struct worker *w, CUstream s, CUdeviceptr kept, uint32_t *value,
		     uint64_t bytes)
{
	uint32_t m = 5, a = w->number, fresh_value = *value ^ 0xffff;
	uint64_t count = bytes / 4, ns = 200000;
	CUdeviceptr fresh = 0;
	void *mads[] = {&kept, &m, &a, &count}, *fills[] = {&fresh, &fresh_value, &count};
	void *spins[] = {&ns};
	CUgraphExec exec = NULL;
	CUgraph graph = NULL;
	CUresult r = g.cuMemAlloc_v2(&fresh, bytes);

	if (r == CUDA_SUCCESS)
		r = g.cuLaunchKernel(fill_words, 1, 1, 1, 32, 1, 1, 0, s, fills, NULL);
	if (r == CUDA_SUCCESS)
		r = g.cuStreamBeginCapture_v2(s, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
	if (r == CUDA_SUCCESS)
		r = g.cuLaunchKernel(mad, 1, 1, 1, 32, 1, 1, 0, s, mads, NULL);
	if (r == CUDA_SUCCESS)
		r = g.cuStreamEndCapture(s, &graph);
	if (r == CUDA_SUCCESS)
		r = g.cuGraphInstantiateWithFlags(&exec, graph, 0);
	if (r == CUDA_SUCCESS)
		r = g.cuLaunchKernel(spin, 1, 1, 1, 32, 1, 1, 0, s, spins, NULL);
	if (r == CUDA_SUCCESS)
		r = g.cuGraphLaunch(exec, s);
	if (r == CUDA_SUCCESS)
		r = g.cuStreamSynchronize(s);
	*value = *value * m + a;
	if (r == CUDA_SUCCESS)
		r = copy_check(kept, bytes, *value, &w->bad);
	if (r == CUDA_SUCCESS)
		r = copy_check(fresh, bytes, fresh_value, &w->bad);
	if (exec)
		g.cuGraphExecDestroy(exec);
	if (graph)
		g.cuGraphDestroy(graph);
	if (fresh && r == CUDA_SUCCESS)
		r = g.cuMemFree_v2(fresh);
	return r;
}

static void *worker(void *arg)
{
	struct worker *w = arg;
	uint64_t bytes = 100 * 1024 + w->number * 700 * 1024;
	uint32_t value = 1;
	CUdeviceptr kept = 0;
	CUstream s;
	CUresult r;

	bytes = bytes / 4 * 4;
	g.cuCtxSetCurrent(ctx[0]);
	r = g.cuStreamCreate(&s, CU_STREAM_NON_BLOCKING);
	if (r == CUDA_SUCCESS)
		r = g.cuMemAlloc_v2(&kept, bytes);
	if (r == CUDA_SUCCESS)
		r = g.cuMemsetD32_v2(kept, value, bytes / 4);
	if (r == CUDA_SUCCESS)
		r = g.cuStreamSynchronize(NULL);
	for (; r == CUDA_SUCCESS && !storm_over; w->rounds++)
		r = work(w, s, kept, &value, bytes);
	w->failed = r;
	if (kept)
		g.cuMemFree_v2(kept);
	g.cuStreamDestroy_v2(s);
	return NULL;
}

static void test_move__storm(void **state)
{
	struct worker w[WORKERS] = {0};
	int moved = 0, busy = 0;
	uint64_t rounds = 0;
	struct set s;

	set_make(&s);
	storm_over = false;
	for (unsigned int i = 0; i < WORKERS; i++) {
		w[i].number = i;
		assert_int_equal(pthread_create(&w[i].thread, NULL, worker, &w[i]), 0);
	}
	for (int i = 0; i < PARKS; i++) {
		int r = park(0);

		if (r == -EBUSY) { /* the machine is slow today */
			busy++;
			continue;
		}
		assert_int_equal(r, 0);
		usleep((unsigned int)(i % 5) * 1000);
		assert_int_equal(resume(0), 0);
		moved++;
		usleep(10000);
	}
	storm_over = true;
	for (unsigned int i = 0; i < WORKERS; i++) {
		pthread_join(w[i].thread, NULL);
		assert_int_equal(w[i].failed, CUDA_SUCCESS);
		assert_int_equal(w[i].bad, 0);
		assert_true(w[i].rounds > 0);
		rounds += w[i].rounds;
	}
	print_message("storm: %d moves there and back, %d refused, %llu rounds of work\n", moved,
		      busy, (unsigned long long)rounds);
	assert_true(moved > PARKS / 2);
	set_check(&s);
	set_free(&s);
}

static uint64_t resident_kib(void)
{
	FILE *file = fopen("/proc/self/status", "r");
	unsigned long long kib = 0;
	char line[128];

	while (file && fgets(line, sizeof(line), file) && sscanf(line, "RssAnon: %llu", &kib) != 1)
		;
	if (file)
		fclose(file);
	return kib;
}

/* What was pinned for parking is the host's again, some seconds after it was needed last. */
static void test_move__host_memory_is_given_back(void **state)
{
	uint64_t parked_kib, bytes;
	struct set s;

	set_make(&s);
	bytes = movable(0);
	assert_int_equal(park(0), 0);
	parked_kib = resident_kib();
	assert_true(parked_kib * 1024 >= bytes);
	assert_int_equal(resume(0), 0);
	assert_true(eventually((parked_kib - resident_kib()) * 1024 >= bytes * 9 / 10));
	set_check(&s);
	assert_int_equal(park(0), 0);
	assert_int_equal(resume(0), 0);
	set_check(&s);
	set_free(&s);
}

/* What is kept of it is told, and given back at once when the daemon wants it. */
static void test_move__host_memory_is_counted_and_yields(void **state)
{
	const uint64_t step = 32 * MIB;
	uint64_t away, kib;
	struct set s;

	host_limit(0, 0); /* what a test before this one has left */
	lease_news();
	assert_true(eventually(pinned(0) == 0));
	set_make(&s);
	assert_int_equal(park(0), 0);
	away = parked(0);
	assert_in_range(pinned(0), away, away + step);
	kib = resident_kib();
	assert_int_equal(resume(0), 0);
	assert_in_range(pinned(0), away, away + step);
	host_limit(0, away); /* it may: nothing happens */
	lease_news();
	usleep(100000);
	assert_in_range(pinned(0), away, away + step);
	host_limit(0, 0);
	lease_news();
	assert_true(eventually(pinned(0) == 0));
	assert_true(eventually((kib - resident_kib()) * 1024 >= away * 9 / 10));
	set_check(&s);
	assert_int_equal(park(0), 0);
	assert_int_equal(resume(0), 0);
	set_check(&s);
	set_free(&s);
}

static void test_move__a_forked_child_moves_nothing(void **state)
{
	struct set s;
	int status;
	pid_t pid;

	set_make(&s);
	assert_int_equal(park(0), 0);
	pid = fork();
	if (!pid) {
		CUdeviceptr p;

		/* As in any child without a context of its own. */
		_exit(g.cuMemAlloc_v2(&p, MIB) == CUDA_SUCCESS);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(resume(0), 0);
	set_check(&s);
	set_free(&s);
}

/* ---- the program ---- */

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		EACH(test_move__parked_memory_is_free_and_comes_back_the_same),
		EACH(test_move__captured_graphs_events_and_streams_survive),
		EACH(test_move__graphs_are_built_on_memory_that_is_away),
		EACH(test_move__work_in_flight_is_waited_for),
		EACH(test_move__who_comes_while_parked_waits_and_is_heard),
		EACH(test_move__memory_can_be_freed_where_it_is),
		EACH(test_move__all_can_be_freed_while_parked),
		EACH(test_move__what_others_know_stays),
		EACH(test_move__what_nobody_has_open_moves),
		EACH(test_move__a_capture_is_not_disturbed),
		EACH(test_move__storm),
		EACH(test_move__host_memory_is_given_back),
		EACH(test_move__host_memory_is_counted_and_yields),
		EACH(test_move__a_forked_child_moves_nothing),
	};

	if (argc != 2)
		return 2;
	movetest_load(argv[1]);
	return cmocka_run_group_tests(tests, setup, teardown);
}
