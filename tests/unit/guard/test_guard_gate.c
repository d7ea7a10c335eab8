/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate on simulated devices, with a daemon whose leases the test gives and ends by hand. Times
 * are compared with the device's own account. The machine may be busy: what is measured on the
 * device is exact all the same; what the host does is only given bounds of what it may not do.
 */
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>

#include "fake_lease.h"
#include "sim/kernels.ptx.h"
#include "simulated.h"

#define US AQ_NS_PER_US
#define PATIENCE_NS (10 * AQ_NS_PER_S)

static struct sim_machine machine;
static CUcontext ctx[2];
static CUfunction spin[2];
static CUstream stream;

static CUresult launch(CUstream s, uint64_t ns)
{
	void *params[] = {&ns};

	return g.cuLaunchKernel(spin[0], 1, 1, 1, 32, 1, 1, 0, s, params, NULL);
}

/* Compute time of this process, by the device. */
static uint64_t truth(uint32_t device)
{
	struct sim_process_usage usage[16];
	uint32_t n = sim_machine_usage(&machine, device, usage, 16);

	for (uint32_t i = 0; i < n && i < 16; i++) {
		if (usage[i].pid == getpid())
			return usage[i].gpu_time_ns;
	}
	return 0;
}

static bool thread_runs(const char *name)
{
	char command[96];

	snprintf(command, sizeof(command), "grep -qsx %s /proc/%d/task/*/comm", name, getpid());
	return system(command) == 0;
}

/* Given back means done, or as good as done: what runs yet is a matter of microseconds. */
#define DONE(s) assert_true(eventually(g.cuStreamQuery(s) == CUDA_SUCCESS))

static void within_percent(uint64_t got, uint64_t want, unsigned int percent)
{
	if (got * 100 < want * (100 - percent) || got * 100 > want * (100 + percent))
		fail_msg("%llu us, expected %llu us to %u %%", (unsigned long long)got / 1000,
			 (unsigned long long)want / 1000, percent);
}

/* Back to the open gate, with nothing in flight. */
static int settle(void **state)
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
static int manage(void **state)
{
	settle(state);
	lease_gate(0, AQ_GATE_LEASED);
	return 0;
}

/* ---- open ---- */

static void test_gate__an_open_one_sends_and_starts_nothing(void **state)
{
	uint32_t bells = fake_daemon.bells;

	for (int i = 0; i < 1000; i++)
		ok(launch(stream, 1000));
	ok(g.cuStreamSynchronize(stream));
	assert_int_equal(fake_daemon.bells, bells);
	assert_false(thread_runs("aliquot-gate"));
	assert_int_equal(lease_load(&lease_device(0)->want), 0);
	assert_int_equal(lease_load(&lease_device(0)->active_turn), 0);
	assert_int_equal(lease_gpu_ns(0), 0);
	assert_int_equal(lease_load(&fake_daemon.page->client_state), AQ_CLIENT_RUNNING);
}

/* ---- leases ---- */

struct launcher {
	pthread_t thread;
	CUstream stream;
	uint64_t kernel_ns;
	int count;
	_Atomic int launched;
	CUresult result;
};

static void *launch_all(void *arg)
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

static void launcher_start(struct launcher *l, CUstream s, uint64_t kernel_ns, int count)
{
	*l = (struct launcher){.stream = s, .kernel_ns = kernel_ns, .count = count};
	pthread_create(&l->thread, NULL, launch_all, l);
}

static void launcher_end(struct launcher *l)
{
	pthread_join(l->thread, NULL);
	ok(l->result);
	assert_int_equal(l->launched, l->count);
}

static void test_gate__waits_for_a_lease_and_says_so(void **state)
{
	struct aq_page_device *dev = lease_device(0);
	uint32_t bells = fake_daemon.bells;
	struct launcher l;

	launcher_start(&l, stream, 10 * US, 5);
	assert_true(eventually(lease_load(&dev->want)));
	assert_true(eventually(fake_daemon.bells > bells));
	usleep(30000);
	assert_int_equal(l.launched, 0);
	lease_give(0, UINT64_MAX, false);
	launcher_end(&l);
	assert_int_equal(lease_load(&dev->active_turn), lease_load(&dev->lease_turn));
	assert_false(lease_is_back(0));
	bells = fake_daemon.bells;
	lease_end(0);
	assert_true(lease_wait_back(0, PATIENCE_NS));
	assert_true(eventually(fake_daemon.bells > bells));
	assert_true(eventually(!lease_load(&dev->want)));
}

static void test_gate__the_end_waits_for_what_is_in_flight_and_charges_it(void **state)
{
	uint64_t used = lease_gpu_ns(0), spent = truth(0);

	lease_give(0, 5 * MS, false);
	ok(launch(stream, 40 * MS)); /* a lease ends by itself, though what runs does not */
	assert_true(lease_wait_back(0, PATIENCE_NS));
	assert_true(truth(0) - spent > 39 * MS);
	DONE(stream);
	within_percent(lease_gpu_ns(0) - used, truth(0) - spent, 2);
}

static void test_gate__two_leases_do_not_count_the_time_between(void **state)
{
	uint64_t used = lease_gpu_ns(0), spent = truth(0);

	for (int n = 0; n < 5; n++) {
		lease_give(0, UINT64_MAX, false);
		for (int i = 0; i < 10; i++)
			ok(launch(stream, MS));
		lease_end(0);
		assert_true(lease_wait_back(0, PATIENCE_NS));
		usleep(20000);
	}
	assert_true(truth(0) - spent >= 50 * MS);
	within_percent(lease_gpu_ns(0) - used, truth(0) - spent, 2);
}

static void test_gate__copies_with_attributes_are_charged(void **state)
{
	CUmemcpyAttributes attributes = {.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM};
	uint64_t used = lease_gpu_ns(0), spent = truth(0);
	const size_t bytes = 16 << 20;
	CUdeviceptr p[2];

	for (int i = 0; i < 2; i++)
		ok(g.cuMemAlloc_v2(&p[i], bytes));
	lease_give(0, UINT64_MAX, false);
	for (int i = 0; i < 20; i++)
		ok(g.cuMemcpyWithAttributesAsync(p[i % 2], p[!(i % 2)], bytes, &attributes,
						 stream));
	lease_end(0);
	assert_true(lease_wait_back(0, PATIENCE_NS));
	assert_true(truth(0) - spent > 50 * US);
	assert_true(lease_gpu_ns(0) - used >= truth(0) - spent); /* the bytes are the host's work */
	for (int i = 0; i < 2; i++)
		ok(g.cuMemFree_v2(p[i]));
}

static void test_gate__idle_time_between_steps_is_not_charged(void **state)
{
	uint64_t used = lease_gpu_ns(0), spent = truth(0);

	lease_give(0, UINT64_MAX, false);
	for (int n = 0; n < 20; n++) {
		ok(launch(stream, 4 * MS));
		ok(g.cuStreamSynchronize(stream));
		usleep(5000);
	}
	lease_end(0);
	assert_true(lease_wait_back(0, PATIENCE_NS));
	within_percent(lease_gpu_ns(0) - used, truth(0) - spent, 3);
}

static void test_gate__a_pause_gives_back_what_others_wait_for(void **state)
{
	lease_give(0, 10 * AQ_NS_PER_S, true);
	ok(launch(stream, MS));
	ok(g.cuStreamSynchronize(stream));
	assert_true(lease_wait_back(0, PATIENCE_NS));
	assert_true(eventually(!lease_load(&lease_device(0)->want)));
	/* It is given back for good: the next work waits for the next turn. */
	{
		struct launcher l;

		launcher_start(&l, stream, 10 * US, 1);
		assert_true(eventually(lease_load(&lease_device(0)->want)));
		usleep(30000);
		assert_int_equal(l.launched, 0);
		lease_give(0, UINT64_MAX, false);
		launcher_end(&l);
	}
}

static void test_gate__an_end_without_a_number_is_no_lease(void **state)
{
	struct aq_page_device *dev = lease_device(0);
	struct launcher l;

	lease_give(0, UINT64_MAX, false);
	ok(launch(stream, MS));
	lease_end(0);
	assert_true(lease_wait_back(0, PATIENCE_NS));
	/* As it is while the next one is given. */
	__atomic_store_n((uint64_t *)&dev->lease_until_ns, AQ_LEASE_UNTIL_TOLD, __ATOMIC_SEQ_CST);
	launcher_start(&l, stream, 10 * US, 1);
	assert_true(eventually(lease_load(&dev->want)));
	usleep(30000);
	assert_int_equal(l.launched, 0);
	lease_give(0, UINT64_MAX, false);
	launcher_end(&l);
	assert_int_equal(lease_load(&dev->active_turn), lease_load(&dev->lease_turn));
}

static void test_gate__a_pause_that_nobody_minds_gives_nothing_back(void **state)
{
	lease_give(0, UINT64_MAX, false);
	ok(launch(stream, MS));
	ok(g.cuStreamSynchronize(stream));
	usleep(50000);
	assert_false(lease_is_back(0));
}

/* A host that is late lets the device run dry, and the lease is given back: give it again. */
static void *give_again(void *stop)
{
	while (!*(_Atomic bool *)stop) {
		if (lease_load(&lease_device(0)->want) && lease_is_back(0))
			lease_give(0, 10 * AQ_NS_PER_S, true);
		usleep(100);
	}
	return NULL;
}

static void test_gate__in_flight_is_bounded(void **state)
{
	uint64_t before = truth(0), most = 0;
	_Atomic bool stop = false;
	pthread_t t;

	pthread_create(&t, NULL, give_again, &stop);
	for (int i = 1; i <= 100; i++) {
		uint64_t ran, ahead;

		ok(launch(stream, MS));
		ran = truth(0) - before;
		ahead = (uint64_t)i * MS > ran ? (uint64_t)i * MS - ran : 0;
		/* What a kernel takes is not known before the first few have ended. */
		if (i > 32 && ahead > most)
			most = ahead;
	}
	stop = true;
	pthread_join(t, NULL);
	assert_true(most <= 3 * MS);
	lease_gate(0, 0);
	ok(g.cuStreamSynchronize(stream));
}

static void test_gate__threads_and_streams_drain_together(void **state)
{
	uint64_t used = lease_gpu_ns(0), spent = truth(0), begun = aq_now_ns();
	struct launcher l[3];
	CUstream own[2];

	for (int i = 0; i < 2; i++)
		ok(g.cuStreamCreate(&own[i], CU_STREAM_NON_BLOCKING));
	lease_give(0, UINT64_MAX, false);
	launcher_start(&l[0], own[0], 100 * US, 200);
	launcher_start(&l[1], own[1], 300 * US, 100);
	launcher_start(&l[2], NULL, MS, 20);
	for (int i = 0; i < 3; i++)
		launcher_end(&l[i]);
	lease_end(0);
	assert_true(lease_wait_back(0, PATIENCE_NS));
	for (int i = 0; i < 2; i++)
		DONE(own[i]);
	DONE(NULL);
	/* A host that is late with launches lets the device run dry for moments; they count as use.
	 */
	assert_true(lease_gpu_ns(0) - used > (truth(0) - spent) * 97 / 100);
	assert_true(lease_gpu_ns(0) - used <= aq_now_ns() - begun);
	for (int i = 0; i < 2; i++)
		ok(g.cuStreamDestroy_v2(own[i]));
}

static void test_gate__default_streams_of_threads_drain(void **state)
{
	uint64_t used = lease_gpu_ns(0), spent = truth(0);
	struct launcher l[2];

	lease_give(0, UINT64_MAX, false);
	for (int i = 0; i < 2; i++)
		launcher_start(&l[i], CU_STREAM_PER_THREAD, MS, 20);
	for (int i = 0; i < 2; i++)
		launcher_end(&l[i]);
	lease_end(0);
	assert_true(lease_wait_back(0, PATIENCE_NS));
	assert_true(truth(0) - spent > 39 * MS);
	within_percent(lease_gpu_ns(0) - used, truth(0) - spent, 3);
}

static void test_gate__more_work_waits_for_the_next_turn(void **state)
{
	struct launcher l;
	uint64_t spent = truth(0);

	launcher_start(&l, stream, MS, 100);
	for (int turns = 0; turns < 200 && l.launched < 100; turns++) {
		uint32_t turn;

		assert_true(eventually(lease_load(&lease_device(0)->want)));
		lease_give(0, 5 * MS, true);
		turn = lease_load(&lease_device(0)->lease_turn);
		usleep(8000);
		assert_true(eventually(lease_load(&lease_device(0)->active_turn) != turn ||
				       lease_load(&lease_device(0)->done_turn) == turn));
	}
	launcher_end(&l);
	lease_gate(0, 0);
	ok(g.cuStreamSynchronize(stream));
	assert_int_equal((truth(0) - spent) / MS, 100);
}

/* ---- what must not wait ---- */

/* What was left to do when the lease came back, by the guard's own word; negative: nothing, or that
 * was not known. */
static int32_t left_at_give_back(uint32_t early_ns)
{
	struct aq_page_device *dev = lease_device(0);
	struct launcher l;
	uint32_t edge;
	int32_t left;

	lease_store(&dev->early_ns, early_ns);
	launcher_start(&l, stream, 100 * US, 70);
	assert_true(eventually(lease_load(&dev->want)));
	do { /* until it wakes up in time */
		lease_give(0, 6 * MS, true);
		usleep(2000);
	} while (lease_load(&dev->active_turn) != lease_load(&dev->lease_turn));
	while (!lease_is_back(0))
		sched_yield();
	edge = lease_load(&dev->edge_ns);
	fprintf(stderr, "early %u edge left %d edge %u launched %d\n", early_ns,
		(int32_t)(edge - (uint32_t)aq_now_ns()), edge, (int)l.launched);
	left = edge ? (int32_t)(edge - (uint32_t)aq_now_ns()) : INT32_MIN;
	while (l.launched < l.count) { /* the rest */
		if (lease_load(&dev->want) && lease_is_back(0))
			lease_give(0, 10 * AQ_NS_PER_S, true);
		usleep(100);
	}
	launcher_end(&l);
	ok(g.cuStreamSynchronize(stream));
	assert_true(lease_wait_back(0, PATIENCE_NS));
	return left;
}

static void test_gate__gives_back_as_early_as_it_is_told(void **state)
{
	int32_t most = INT32_MIN;

	for (int i = 0; i < 10; i++) /* a late thread gives back later, never sooner */
		assert_true(left_at_give_back(60 * US) < (int32_t)(200 * US));
	for (int i = 0; i < 400 && most < (int32_t)(250 * US); i++) { /* a busy host is late */
		int32_t left = left_at_give_back(500 * US);

		assert_true(left <= (int32_t)(700 * US));
		most = left > most ? left : most;
	}
	assert_true(most >= (int32_t)(250 * US));
	lease_store(&lease_device(0)->early_ns, 0);
}

/* A higher priority has the device already: what is in flight is counted, and not waited for. */
static void test_gate__gives_back_at_once_when_it_is_urgent(void **state)
{
	struct aq_page_device *dev = lease_device(0);
	uint64_t used, spent;
	struct launcher l;

	lease_give(0, UINT64_MAX, false);
	launcher_start(&l, stream, 10 * MS, 8); /* learned from */
	launcher_end(&l);
	ok(g.cuStreamSynchronize(stream));
	lease_end(0);
	assert_true(lease_wait_back(0, PATIENCE_NS));
	used = lease_gpu_ns(0);
	spent = truth(0);
	lease_give(0, UINT64_MAX, false);
	ok(launch(stream, 10 * MS));
	lease_store(&dev->waiting, AQ_WAITING_URGENT);
	lease_end(0);
	assert_true(lease_wait_back(0, PATIENCE_NS));
	assert_true(lease_gpu_ns(0) - used > 8 * MS);
	ok(g.cuStreamSynchronize(stream));
	within_percent(lease_gpu_ns(0) - used, truth(0) - spent, 5);
}

static void test_gate__copies_need_no_lease(void **state)
{
	uint32_t turn = lease_load(&lease_device(0)->lease_turn);
	char bytes[64] = "as it was", back[64] = "";
	CUdeviceptr p;

	assert_true(eventually(!lease_load(&lease_device(0)->want)));
	ok(g.cuMemAlloc_v2(&p, sizeof(bytes)));
	ok(g.cuMemcpyHtoDAsync_v2(p, bytes, sizeof(bytes), stream));
	ok(g.cuMemcpyDtoHAsync_v2(back, p, sizeof(back), stream));
	ok(g.cuStreamSynchronize(stream));
	assert_string_equal(back, bytes);
	memset(back, 0, sizeof(back));
	ok(g.cuMemcpyDtoH_v2(back, p, sizeof(back)));
	assert_string_equal(back, bytes);
	assert_int_equal(lease_load(&lease_device(0)->want), 0);
	assert_int_equal(lease_load(&lease_device(0)->lease_turn), turn);
	assert_true(lease_is_back(0));
	ok(g.cuMemFree_v2(p));
}

struct copier {
	pthread_t thread;
	CUdeviceptr to;
	_Atomic bool done;
};

static void *copy_one(void *arg)
{
	struct copier *c = arg;
	uint32_t value = 7;

	g.cuCtxSetCurrent(ctx[0]);
	if (g.cuMemcpyHtoD_v2(c->to, &value, sizeof(value)) == CUDA_SUCCESS)
		c->done = true;
	return NULL;
}

static void test_gate__copies_wait_for_memory_that_is_away(void **state)
{
	struct copier c = {.done = false};

	ok(g.cuMemAlloc_v2(&c.to, 4));
	lease_gate(0, AQ_GATE_LEASED | AQ_GATE_PARKED);
	pthread_create(&c.thread, NULL, copy_one, &c);
	assert_true(eventually(lease_load(&lease_device(0)->want)));
	usleep(30000);
	assert_false(c.done);
	lease_gate(0, AQ_GATE_LEASED);
	pthread_join(c.thread, NULL);
	assert_true(c.done);
	ok(g.cuMemFree_v2(c.to));
}

static void test_gate__captures_are_left_alone(void **state)
{
	uint32_t bells;
	CUgraph graph;
	size_t nodes = 0;

	/* There is a lane to be left alone, too. */
	lease_give(0, UINT64_MAX, false);
	ok(launch(stream, MS));
	ok(g.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
	lease_end(0);
	assert_true(lease_wait_back(0, PATIENCE_NS));
	assert_true(eventually(!lease_load(&lease_device(0)->want)));
	usleep(20000); /* for the bells of that */
	bells = fake_daemon.bells;
	for (int i = 0; i < 50; i++)
		ok(launch(stream, MS));
	ok(g.cuStreamEndCapture(stream, &graph));
	ok(g.cuGraphGetNodes(graph, NULL, &nodes));
	assert_int_equal(nodes, 50);
	assert_int_equal(fake_daemon.bells, bells);
	ok(g.cuGraphDestroy(graph));
}

static void test_gate__graphs_are_charged_by_measure(void **state)
{
	uint64_t used, spent;
	CUgraphExec exec;
	CUgraph graph;

	ok(g.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
	for (int i = 0; i < 10; i++)
		ok(launch(stream, MS));
	ok(g.cuStreamEndCapture(stream, &graph));
	ok(g.cuGraphInstantiateWithFlags(&exec, graph, 0));
	used = lease_gpu_ns(0);
	spent = truth(0);
	for (int n = 0; n < 4; n++) {
		lease_give(0, UINT64_MAX, false);
		ok(g.cuGraphLaunch(exec, stream));
		ok(g.cuGraphLaunch(exec, stream));
		lease_end(0);
		assert_true(lease_wait_back(0, PATIENCE_NS));
		DONE(stream);
		usleep(2000);
	}
	assert_true(truth(0) - spent >= 80 * MS);
	within_percent(lease_gpu_ns(0) - used, truth(0) - spent, 2);
	ok(g.cuGraphExecDestroy(exec));
	ok(g.cuGraphDestroy(graph));
}

static void test_gate__synchronising_needs_no_lease(void **state)
{
	CUevent e;

	ok(g.cuEventCreate(&e, 0));
	lease_give(0, UINT64_MAX, false);
	for (int i = 0; i < 20; i++)
		ok(launch(stream, 2 * MS));
	lease_end(0);
	ok(g.cuEventRecord(e, stream));
	ok(g.cuEventSynchronize(e));
	ok(g.cuStreamSynchronize(stream));
	ok(g.cuCtxSynchronize());
	ok(g.cuEventDestroy_v2(e));
	assert_true(lease_wait_back(0, PATIENCE_NS));
}

static void sleep_here(void *ns)
{
	usleep((useconds_t)(*(uint64_t *)ns / 1000));
}

static void test_gate__a_host_function_that_blocks_blocks_nobody_else(void **state)
{
	uint64_t long_ns = 200 * MS;
	struct launcher l;
	CUstream other;

	ok(g.cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
	lease_give(0, UINT64_MAX, false);
	ok(g.cuLaunchHostFunc(stream, sleep_here, &long_ns));
	ok(launch(stream, MS));
	lease_end(0);
	assert_false(lease_wait_back(0, 50 * MS));
	/* The daemon has lost patience: another turn, while the first is in flight. */
	launcher_start(&l, other, MS, 5);
	assert_true(eventually(lease_load(&lease_device(0)->want)));
	lease_give(0, UINT64_MAX, false);
	launcher_end(&l);
	lease_end(0);
	assert_true(lease_wait_back(0, PATIENCE_NS));
	DONE(stream);
	DONE(other);
	ok(g.cuStreamDestroy_v2(other));
}

static void *write_value(void *arg)
{
	CUdeviceptr *word = arg;
	CUstream s;

	g.cuCtxSetCurrent(ctx[0]);
	g.cuStreamCreate(&s, CU_STREAM_NON_BLOCKING);
	g.cuStreamWriteValue32_v2(s, *word, 1, 0);
	g.cuStreamSynchronize(s);
	g.cuStreamDestroy_v2(s);
	return NULL;
}

static void test_gate__a_value_that_another_thread_writes_frees_the_device(void **state)
{
	CUdeviceptr word;
	pthread_t t;

	lease_give(0, UINT64_MAX, false);
	ok(g.cuMemAlloc_v2(&word, 4));
	ok(g.cuMemsetD32_v2(word, 0, 1));
	ok(g.cuStreamWaitValue32_v2(stream, word, 1, CU_STREAM_WAIT_VALUE_EQ));
	ok(launch(stream, MS));
	lease_end(0);
	assert_false(lease_wait_back(0, 30 * MS));
	pthread_create(&t, NULL, write_value, &word);
	assert_true(eventually(lease_load(&lease_device(0)->want)));
	lease_give(0, UINT64_MAX, true);
	pthread_join(t, NULL);
	lease_end(0);
	assert_true(lease_wait_back(0, PATIENCE_NS));
	DONE(stream);
	ok(g.cuMemFree_v2(word));
}

/* ---- what goes away ---- */

static void test_gate__a_stream_may_go_with_work_in_flight(void **state)
{
	uint64_t used = lease_gpu_ns(0), spent = truth(0);
	CUstream s;

	for (int n = 0; n < 10; n++) {
		lease_give(0, UINT64_MAX, false);
		ok(g.cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
		for (int i = 0; i < 5; i++)
			ok(launch(s, MS));
		ok(g.cuStreamDestroy_v2(s)); /* its handle comes back for the next one */
		lease_end(0);
		assert_true(lease_wait_back(0, PATIENCE_NS));
		assert_true(truth(0) - spent > 5 * ((uint64_t)n + 1) * MS - MS / 2);
	}
	within_percent(lease_gpu_ns(0) - used, truth(0) - spent, 3);
}

static void test_gate__a_context_may_go_in_a_lease(void **state)
{
	CUcontext second;
	CUmodule m;
	CUfunction f = spin[0];

	for (int n = 0; n < 5; n++) {
		lease_give(0, UINT64_MAX, false);
		ok(g.cuCtxCreate_v2(&second, 0, 0));
		ok(g.cuModuleLoadData(&m, SIM_KERNELS_PTX));
		ok(g.cuModuleGetFunction(&spin[0], m, "aq_spin_ns"));
		for (int i = 0; i < 5; i++)
			ok(launch(NULL, MS));
		spin[0] = f;
		ok(g.cuCtxDestroy_v2(second));
		g.cuCtxSetCurrent(ctx[0]);
		ok(launch(stream, MS));
		lease_end(0);
		assert_true(lease_wait_back(0, PATIENCE_NS));
	}
}

static void *cancelled(void *arg)
{
	g.cuCtxSetCurrent(ctx[0]);
	for (;;) {
		launch(arg, 100 * US);
		pthread_testcancel();
	}
	return NULL;
}

static void test_gate__a_cancelled_thread_holds_nothing(void **state)
{
	pthread_t t;

	for (int n = 0; n < 20; n++) {
		_Atomic bool stop = false;
		pthread_t giver;

		pthread_create(&giver, NULL, give_again, &stop);
		pthread_create(&t, NULL, cancelled, stream);
		usleep(2000 + 317 * (unsigned int)n);
		pthread_cancel(t);
		pthread_join(t, NULL);
		stop = true;
		pthread_join(giver, NULL);
		lease_end(0);
		assert_true(lease_wait_back(0, PATIENCE_NS));
	}
}

static void test_gate__a_forked_child_is_on_its_own(void **state)
{
	struct aq_page *ours = fake_daemon.page;
	int status;
	pid_t pid;

	lease_give(0, UINT64_MAX, false);
	ok(launch(stream, 20 * MS));
	pid = fork();
	if (!pid) {
		/* Nothing of the parent's counts here: neither its gate nor its lease. */
		launch(stream, MS);
		_exit(g.cuStreamSynchronize(stream) == CUDA_SUCCESS);
	}
	lease_end(0);
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	assert_ptr_equal(fake_daemon.page, ours);
	assert_true(lease_wait_back(0, PATIENCE_NS));
}

/* ---- daemons, devices, and the gate's other reasons ---- */

static void test_gate__a_daemon_that_is_gone_holds_nobody_up(void **state)
{
	struct launcher l;

	launcher_start(&l, stream, 10 * US, 5);
	assert_true(eventually(lease_load(&lease_device(0)->want)));
	fake_daemon_stop();
	launcher_end(&l);
	fake_daemon_start();
	assert_true(eventually(fake_daemon.adoptions == 1));
	usleep(100000); /* the guard has to hear of it */
	/* And the next one finds who waits. */
	launcher_start(&l, stream, 10 * US, 5);
	assert_true(eventually(lease_load(&lease_device(0)->want)));
	lease_give(0, UINT64_MAX, false);
	launcher_end(&l);
}

static void test_gate__devices_have_their_own_leases(void **state)
{
	uint64_t ns = MS;
	void *params[] = {&ns};
	struct launcher l;

	lease_gate(1, AQ_GATE_LEASED);
	launcher_start(&l, stream, 10 * US, 1);
	assert_true(eventually(lease_load(&lease_device(0)->want)));
	assert_int_equal(lease_load(&lease_device(1)->want), 0);
	lease_give(1, UINT64_MAX, false);
	g.cuCtxSetCurrent(ctx[1]);
	ok(g.cuLaunchKernel(spin[1], 1, 1, 1, 32, 1, 1, 0, NULL, params, NULL));
	assert_int_equal(l.launched, 0);
	lease_end(1);
	assert_true(lease_wait_back(1, PATIENCE_NS));
	assert_true(lease_gpu_ns(1) > MS * 9 / 10);
	lease_give(0, UINT64_MAX, false);
	launcher_end(&l);
}

static void test_gate__parked_memory_is_waited_for_without_a_daemon_too(void **state)
{
	struct launcher l;

	lease_gate(0, AQ_GATE_PARKED);
	launcher_start(&l, stream, 10 * US, 1);
	assert_true(eventually(lease_load(&lease_device(0)->want)));
	usleep(30000);
	assert_int_equal(l.launched, 0);
	lease_gate(0, 0);
	launcher_end(&l);
	assert_true(eventually(!lease_load(&lease_device(0)->want)));
}

static void test_gate__a_notice_is_answered_once(void **state)
{
	struct aq_page_device *dev = lease_device(0);
	uint32_t bells = fake_daemon.bells;

	lease_store(&dev->notice, 7);
	lease_gate(0, AQ_GATE_NOTICE);
	ok(launch(stream, 1000));
	assert_int_equal(lease_load(&dev->noticed), 7);
	assert_true(eventually(fake_daemon.bells == bells + 1));
	ok(launch(stream, 1000));
	usleep(5000);
	assert_int_equal(fake_daemon.bells, bells + 1);
}

static void test_gate__a_daemon_that_lies_about_time_cannot_end_the_program(void **state)
{
	lease_store(&lease_device(0)->done_turn, 12345);
	lease_store(&lease_device(0)->active_turn, 54321);
	__atomic_store_n((uint64_t *)&lease_device(0)->lease_until_ns, 1, __ATOMIC_SEQ_CST);
	lease_news();
	usleep(5000);
	lease_give(0, UINT64_MAX, false);
	ok(launch(stream, MS));
	ok(g.cuStreamSynchronize(stream));
}

/* ---- the program ---- */

static int setup(void **state)
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

static int teardown(void **state)
{
	sim_machine_close(&machine);
	simulated_end();
	return 0;
}

#define MANAGED(test) cmocka_unit_test_setup_teardown(test, manage, settle)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gate__an_open_one_sends_and_starts_nothing),
		MANAGED(test_gate__waits_for_a_lease_and_says_so),
		MANAGED(test_gate__the_end_waits_for_what_is_in_flight_and_charges_it),
		MANAGED(test_gate__two_leases_do_not_count_the_time_between),
		MANAGED(test_gate__copies_with_attributes_are_charged),
		MANAGED(test_gate__idle_time_between_steps_is_not_charged),
		MANAGED(test_gate__a_pause_gives_back_what_others_wait_for),
		MANAGED(test_gate__an_end_without_a_number_is_no_lease),
		MANAGED(test_gate__a_pause_that_nobody_minds_gives_nothing_back),
		MANAGED(test_gate__in_flight_is_bounded),
		MANAGED(test_gate__threads_and_streams_drain_together),
		MANAGED(test_gate__default_streams_of_threads_drain),
		MANAGED(test_gate__more_work_waits_for_the_next_turn),
		MANAGED(test_gate__gives_back_as_early_as_it_is_told),
		MANAGED(test_gate__gives_back_at_once_when_it_is_urgent),
		MANAGED(test_gate__copies_need_no_lease),
		MANAGED(test_gate__copies_wait_for_memory_that_is_away),
		MANAGED(test_gate__captures_are_left_alone),
		MANAGED(test_gate__graphs_are_charged_by_measure),
		MANAGED(test_gate__synchronising_needs_no_lease),
		MANAGED(test_gate__a_host_function_that_blocks_blocks_nobody_else),
		MANAGED(test_gate__a_value_that_another_thread_writes_frees_the_device),
		MANAGED(test_gate__a_stream_may_go_with_work_in_flight),
		MANAGED(test_gate__a_context_may_go_in_a_lease),
		MANAGED(test_gate__a_cancelled_thread_holds_nothing),
		MANAGED(test_gate__a_forked_child_is_on_its_own),
		MANAGED(test_gate__devices_have_their_own_leases),
		MANAGED(test_gate__parked_memory_is_waited_for_without_a_daemon_too),
		MANAGED(test_gate__a_notice_is_answered_once),
		MANAGED(test_gate__a_daemon_that_is_gone_holds_nobody_up),
		MANAGED(test_gate__a_daemon_that_lies_about_time_cannot_end_the_program),
	};

	if (argc != 2)
		return 2;
	simulated_load(argv[1]);
	return cmocka_run_group_tests(tests, setup, teardown);
}
