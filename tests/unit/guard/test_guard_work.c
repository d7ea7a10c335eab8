/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work behind the gate: what needs a lease and what does not, how much of it is in flight, and what
 * it is charged. Who waits for leases and gives them back is in test_guard_gate.c.
 */
#include <string.h>

#include "gatetest.h"

/* ---- what must not wait ---- */

static void test_work__copies_need_no_lease(void **state)
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

static void test_work__copies_wait_for_memory_that_is_away(void **state)
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

static void test_work__captures_are_left_alone(void **state)
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

static void test_work__synchronising_needs_no_lease(void **state)
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

static void test_work__a_host_function_that_blocks_blocks_nobody_else(void **state)
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

static void test_work__a_value_that_another_thread_writes_frees_the_device(void **state)
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
	/* Values order work, as events do: that takes no lease. */
	pthread_create(&t, NULL, write_value, &word);
	pthread_join(t, NULL);
	assert_true(lease_wait_back(0, PATIENCE_NS));
	DONE(stream);
	ok(g.cuMemFree_v2(word));
}

/* ---- in flight ---- */

static void test_work__in_flight_is_bounded(void **state)
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

/* Where nobody goes before us, what a lease allows may be ahead of the device: a thread that wakes
 * up late finds it busy. But nothing begins behind the end. */
static void test_work__peers_leave_the_whole_lease_to_be_filled(void **state)
{
	struct aq_page_device *dev = lease_device(0);
	const uint64_t kernel = 100 * US, lease = 3 * MS;
	uint64_t most = 0, spent, begun;
	struct launcher l;

	lease_give(0, UINT64_MAX, false);
	for (int i = 0; i < 50; i++) { /* learned from */
		ok(launch(stream, kernel));
		ok(g.cuStreamSynchronize(stream));
	}
	lease_end(0);
	assert_true(lease_wait_back(0, PATIENCE_NS));
	launcher_start(&l, stream, kernel, 1000);
	assert_true(eventually(lease_load(&dev->want)));
	while (l.launched < l.count) {
		int launched = l.launched;

		spent = truth(0);
		begun = aq_now_ns();
		lease_give_to(0, lease, AQ_WAITING_PEERS);
		while (!lease_is_back(0) || !lease_load(&dev->want)) {
			uint64_t ahead = (uint64_t)(l.launched - launched) * kernel, ran = truth(0);

			ahead -= ran - spent < ahead ? ran - spent : ahead;
			if (ahead > most && aq_now_ns() - begun < lease)
				most = ahead;
			if (l.launched == l.count && lease_is_back(0))
				break;
			sched_yield();
		}
		/* The last one begins before the end; and who launches counts a little later. */
		assert_true((uint64_t)(l.launched - launched) * kernel <= lease + 4 * kernel);
	}
	launcher_end(&l);
	assert_true(most > 3 * MS / 2);
}

/* A few commands on a stream that nobody comes back to are not taken for what the others take. */
static void test_work__what_is_left_on_a_stream_holds_nobody_up(void **state)
{
	_Atomic bool stop = false;
	struct launcher l;
	pthread_t t;
	CUstream own;

	ok(g.cuStreamCreate(&own, CU_STREAM_NON_BLOCKING));
	pthread_create(&t, NULL, give_again, &stop);
	for (int i = 0; i < 300; i++)
		ok(launch(stream, 10 * US));
	ok(g.cuStreamSynchronize(stream));
	for (int i = 0; i < 8; i++)
		ok(launch(own, 10 * US));
	launcher_start(&l, stream, MS, 100);
	assert_true(eventually(l.launched == l.count));
	launcher_end(&l);
	stop = true;
	pthread_join(t, NULL);
	lease_gate(0, 0);
	ok(g.cuStreamSynchronize(stream));
	ok(g.cuStreamDestroy_v2(own));
}

static void test_work__threads_and_streams_drain_together(void **state)
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

static void test_work__default_streams_of_threads_drain(void **state)
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

/* ---- charged ---- */

static void test_work__two_leases_do_not_count_the_time_between(void **state)
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

static void test_work__launches_by_a_configuration_are_charged(void **state)
{
	CUlaunchConfig config = {1, 1, 1, 32, 1, 1, 0, stream, NULL, 0};
	uint64_t used = lease_gpu_ns(0), spent = truth(0), ns = 10 * MS;
	void *params[] = {&ns};

	lease_give(0, UINT64_MAX, false);
	for (int i = 0; i < 3; i++)
		ok(g.cuLaunchKernelEx(&config, spin[0], params, NULL));
	assert_int_equal(g.cuLaunchKernelEx(NULL, spin[0], params, NULL), CUDA_ERROR_INVALID_VALUE);
	ok(g.cuStreamSynchronize(stream));
	lease_end(0);
	assert_true(lease_wait_back(0, PATIENCE_NS));
	assert_true(truth(0) - spent >= 30 * MS);
	within_percent(lease_gpu_ns(0) - used, truth(0) - spent, 2);
}

static void test_work__copies_with_attributes_are_charged(void **state)
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
	/* The bytes are the host's work, so each is a step of its own, of microseconds: what they
	 * took is known to some of these, and the last ones are foretold. */
	assert_true(lease_gpu_ns(0) - used >= (truth(0) - spent) / 2);
	for (int i = 0; i < 2; i++)
		ok(g.cuMemFree_v2(p[i]));
}

static void test_work__idle_time_between_steps_is_not_charged(void **state)
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

static void test_work__graphs_are_charged_by_measure(void **state)
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

/* ---- what goes away ---- */

static void test_work__a_stream_may_go_with_work_in_flight(void **state)
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

static void test_work__a_context_may_go_in_a_lease(void **state)
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

/* ---- the program ---- */

int main(int argc, char **argv)
{
	/* Exact accounts first: behind much other work, which the guard has learned from, copies as
	 * short as those are charged up to 4 % too little now and then. */
	const struct CMUnitTest tests[] = {
		MANAGED(test_work__two_leases_do_not_count_the_time_between),
		MANAGED(test_work__copies_with_attributes_are_charged),
		MANAGED(test_work__launches_by_a_configuration_are_charged),
		MANAGED(test_work__idle_time_between_steps_is_not_charged),
		MANAGED(test_work__in_flight_is_bounded),
		MANAGED(test_work__peers_leave_the_whole_lease_to_be_filled),
		MANAGED(test_work__what_is_left_on_a_stream_holds_nobody_up),
		MANAGED(test_work__threads_and_streams_drain_together),
		MANAGED(test_work__default_streams_of_threads_drain),
		MANAGED(test_work__copies_need_no_lease),
		MANAGED(test_work__copies_wait_for_memory_that_is_away),
		MANAGED(test_work__captures_are_left_alone),
		MANAGED(test_work__graphs_are_charged_by_measure),
		MANAGED(test_work__synchronising_needs_no_lease),
		MANAGED(test_work__a_host_function_that_blocks_blocks_nobody_else),
		MANAGED(test_work__a_value_that_another_thread_writes_frees_the_device),
		MANAGED(test_work__a_stream_may_go_with_work_in_flight),
		MANAGED(test_work__a_context_may_go_in_a_lease),
	};

	if (argc != 2)
		return 2;
	simulated_load(argv[1]);
	return cmocka_run_group_tests(tests, setup, teardown);
}
