/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoding steps as CUDA graphs, one for each batch size of a list; a smaller batch runs in the
 * next larger graph with empty places. Attention reads the batch from memory, so a graph stays
 * valid.
 */
#include "bench/llm/device.h"

#include "base/log.h"
#include "base/banned.h"

/* Source: vLLM, capture sizes: 1, 2, 4, then every 8 to 256; whole graphs for these. */
#define LARGEST_BATCH 256u

/* Sizes in ascending order; 0 after the last. */
static uint32_t batch_after(uint32_t batch)
{
	if (batch < 4)
		return batch ? batch * 2 : 1;
	return batch < 8 ? 8 : batch + 8;
}

static uint32_t largest(const struct llm_device *d)
{
	return d->o.max_seqs < LARGEST_BATCH ? d->o.max_seqs : LARGEST_BATCH;
}

uint32_t llm_device_n_graphs(const struct llm_device *d)
{
	uint32_t n = 0;

	if (!d->o.graphs || d->o.model->embedding)
		return 0;
	for (uint32_t b = batch_after(0); b <= largest(d) && n < LLM_MAX_BUCKETS;
	     b = batch_after(b))
		n++;
	return n;
}

static int capture(struct llm_device *d, uint32_t batch, CUgraphExec *ret)
{
	CUgraph graph = NULL;
	int r, end;

	r = llm_cu_check(llm_cu.capture_begin(d->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL),
			 "capture");
	if (r < 0)
		return r;
	r = llm_device_launch(d, batch, batch, batch);
	end = llm_cu_check(llm_cu.capture_end(d->stream, &graph), "capture");
	if (r == 0)
		r = end;
	if (r == 0)
		r = llm_cu_check(llm_cu.graph_instantiate(ret, graph, 0), "graph");
	if (graph)
		llm_cu.graph_destroy(graph);
	return r;
}

int llm_device_capture(struct llm_device *d)
{
	uint32_t n = llm_device_n_graphs(d), batch = 0;

	for (uint32_t i = 0; i < n; i++) {
		int r;

		batch = batch_after(batch);
		r = capture(d, batch, &d->graphs[i].exec);
		if (r < 0)
			return r;
		d->graphs[i].batch = batch;
		d->n_graphs++;
	}
	return 0;
}

int llm_device_capture_cost(struct llm_device *d, uint64_t *ret_bytes)
{
	size_t before, after, total;
	CUgraphExec exec = NULL;
	int r;

	*ret_bytes = 0;
	if (!llm_device_n_graphs(d))
		return 0;
	r = llm_cu_check(llm_cu.mem_info(&before, &total), "cuMemGetInfo");
	if (r == 0)
		r = capture(d, 1, &exec);
	if (r == 0)
		r = llm_cu_check(llm_cu.mem_info(&after, &total), "cuMemGetInfo");
	if (r == 0)
		r = llm_cu_check(llm_cu.graph_exec_destroy(exec), "graph");
	if (r == 0 && after < before)
		*ret_bytes = before - after;
	return r;
}

const struct llm_graph *llm_device_graph(const struct llm_device *d, uint32_t n)
{
	for (uint32_t i = 0; i < d->n_graphs; i++)
		if (d->graphs[i].batch >= n)
			return &d->graphs[i];
	return NULL;
}
