/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels of language models: what they cost, by the device's clock. H100: 3.35 TB/s, 989 TFLOP/s.
 */
#include "bench/llm/kernels.ptx.h"
#include "simcu.h"

struct record {
	uint32_t n_new, n_context, first, reserved;
};

static CUmodule mod;
static CUstream stream;
static CUfunction spin;

static int setup(void **state)
{
	simtest_context(0);
	ok(cuModuleLoadData(&mod, LLM_KERNELS_PTX));
	spin = simcu_function(simcu_kernels(), "aq_spin_ns");
	ok(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
	return 0;
}

/* Nanoseconds between two events around what @submit does. */
static uint64_t time_of(void (*submit)(void *), void *arg)
{
	CUevent a, b;
	float ms;

	ok(cuEventCreate(&a, 0));
	ok(cuEventCreate(&b, 0));
	ok(simcu_spin(spin, stream, 3000000)); /* so that all that follows waits in the queue */
	ok(cuEventRecord(a, stream));
	submit(arg);
	ok(cuEventRecord(b, stream));
	ok(cuStreamSynchronize(stream));
	ms = simcu_elapsed_ms(a, b);
	ok(cuEventDestroy_v2(a));
	ok(cuEventDestroy_v2(b));
	return (uint64_t)(ms * 1e6f + 0.5f);
}

struct gemm {
	uint32_t m, n, k;
};

static void submit_gemm(void *arg)
{
	struct gemm *g = arg;
	CUdeviceptr none = 0;
	void *p[] = {&none, &none, &none, &g->m, &g->n, &g->k};

	ok(simcu_launch(simcu_function(mod, "aq_llm_gemm"), stream, p));
}

static uint64_t gemm(uint32_t m, uint32_t n, uint32_t k)
{
	struct gemm g = {m, n, k};

	return time_of(submit_gemm, &g);
}

static void test_sim_exec_llm__a_matrix_costs_bytes_or_operations(void **state)
{
	uint64_t empty = gemm(0, 0, 0), thin = gemm(1, 28672, 4096), wide = gemm(4096, 28672, 4096);

	/* 235 MB at 3.35 TB/s are 70.1 us; 962 GFLOP at 989 TFLOP/s are 973 us. Of both a part is
	 * reached, which is the profile's; never more than all of it. */
	assert_in_range(empty, 1000, 10000);
	assert_in_range(thin - empty, 70100, 140200);
	assert_in_range(wide - empty, 973000, 1946000);
	/* Rows are free as long as the weights take longer to read. */
	assert_in_range(gemm(64, 28672, 4096) - thin, 0, thin / 20);
}

/* One layer of Llama 3.1 8B over a batch that lies in device memory. */
static CUdeviceptr batch;

static void submit_attend(void *arg)
{
	uint32_t n = *(uint32_t *)arg, heads = 32, kv_heads = 8, head_dim = 128;
	CUdeviceptr none = 0;
	void *p[] = {&none, &none, &none, &batch, &n, &heads, &kv_heads, &head_dim};

	ok(simcu_launch(simcu_function(mod, "aq_llm_attend"), stream, p));
}

static uint64_t attend(const struct record *records, uint32_t n)
{
	ok(cuMemcpyHtoD_v2(batch, records, n * sizeof(*records)));
	return time_of(submit_attend, &n);
}

static void test_sim_exec_llm__attention_costs_what_the_batch_says(void **state)
{
	struct record r[600] = {{1, 1, 0, 0}};
	uint64_t one, many, prompt;

	batch = simcu_alloc(sizeof(r));
	one = attend(r, 1);
	assert_in_range(one, 8000, 16000); /* the part that no size makes smaller: 11 to 14 us */
	/* 600 times 1,000 tokens of 4 KiB each: 2.46 GB, 734 us at 3.35 TB/s */
	for (int i = 0; i < 600; i++)
		r[i] = (struct record){1, 1000, 0, 0};
	many = attend(r, 600);
	assert_in_range(many - one, 734000, 1100000);
	assert_in_range(attend(r, 300) - one, (many - one) * 49 / 100, (many - one) * 51 / 100);
	/* Empty places, and records that make no sense, cost nothing. */
	r[1] = (struct record){0, 1000, 0, 0};
	r[2] = (struct record){1001, 1000, 0, 0};
	r[3] = (struct record){1, UINT32_MAX, 0, 0};
	assert_int_equal(attend(r, 4), attend(r, 1));
	/* A prompt of 8,192: 4 x 4096 x (8192 x 8193 / 2) operations, 550 GFLOP, 556 us at all of
	 * the peak; as half of a context twice as long, thrice the pairs. */
	r[0] = (struct record){8192, 8192, 0, 0};
	prompt = attend(r, 1) - one;
	assert_in_range(prompt, 556000, 1112000);
	r[0] = (struct record){8192, 16384, 0, 0};
	assert_in_range(attend(r, 1) - one, prompt * 295 / 100, prompt * 305 / 100);
	ok(cuMemFree_v2(batch));
}

static void submit_graph(void *arg)
{
	ok(cuGraphLaunch(*(CUgraphExec *)arg, stream));
}

/* The batch is read when a graph is launched, not when it was recorded. */
static void test_sim_exec_llm__a_graph_sees_sequences_grow(void **state)
{
	struct record r = {1, 1, 0, 0};
	uint32_t n = 1;
	CUgraphExec exec;
	CUgraph graph;
	uint64_t small, large;

	batch = simcu_alloc(sizeof(r));
	ok(cuMemcpyHtoD_v2(batch, &r, sizeof(r)));
	ok(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
	submit_attend(&n);
	ok(cuStreamEndCapture(stream, &graph));
	ok(cuGraphInstantiateWithFlags(&exec, graph, 0));
	small = time_of(submit_graph, &exec);
	r.n_context = 1000000; /* 4.1 GB */
	ok(cuMemcpyHtoD_v2(batch, &r, sizeof(r)));
	large = time_of(submit_graph, &exec);
	assert_in_range(large - small, 1222000, 2444000);
	ok(cuGraphExecDestroy(exec));
	ok(cuGraphDestroy(graph));
	ok(cuMemFree_v2(batch));
}

static CUdeviceptr area;
static uint64_t area_bytes;

static void submit_pointwise(void *arg)
{
	void *p[] = {&area, &area, &area_bytes};

	ok(simcu_launch(simcu_function(mod, "aq_llm_pointwise"), stream, p));
}

static void submit_fill(void *arg)
{
	uint32_t seed = 7;
	void *p[] = {&area, &area_bytes, &seed};

	ok(simcu_launch(simcu_function(mod, "aq_llm_fill"), stream, p));
}

/* They cost their bytes, and touch none: weights of gigabytes stay holes in a file. */
static void test_sim_exec_llm__nothing_is_written(void **state)
{
	uint32_t before = 0x12345678, after = 0;

	area_bytes = 1ull << 30;
	area = simcu_alloc(area_bytes);
	ok(cuMemcpyHtoD_v2(area, &before, sizeof(before)));
	/* 1 GiB at 3.35 TB/s takes 320 us; both ways, 641. */
	assert_in_range(time_of(submit_fill, NULL), 320000, 640000);
	assert_in_range(time_of(submit_pointwise, NULL), 641000, 1282000);
	ok(cuMemcpyDtoH_v2(&after, area, sizeof(after)));
	assert_int_equal(after, before);
	ok(cuMemFree_v2(area));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sim_exec_llm__a_matrix_costs_bytes_or_operations),
		cmocka_unit_test(test_sim_exec_llm__attention_costs_what_the_batch_says),
		cmocka_unit_test(test_sim_exec_llm__a_graph_sees_sequences_grow),
		cmocka_unit_test(test_sim_exec_llm__nothing_is_written),
	};

	simtest_begin("h100");
	return cmocka_run_group_tests(tests, setup, NULL);
}
