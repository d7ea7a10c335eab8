/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The launches of one step. A mixed step goes through each matrix once, prompt and decoding tokens
 * together, as real engines do it; attention takes the whole batch in one launch per layer.
 */
#include "bench/llm/device.h"

#include <string.h>

#include "base/banned.h"

#define THREADS 256u /* kernels.cu wants as many */
#define BLOCKS_PER_SM 4u

/* Fewer rows than this are bound by the weights' bytes, which our own kernel streams as well. It is
 * more than the largest batch of a graph: nothing of a library is ever recorded. */
#define BLAS_ROWS 257u

static CUresult launch(struct llm_device *d, CUfunction f, uint32_t grid, void **params)
{
	return llm_cu.launch(f, grid, 1, 1, THREADS, 1, 1, 0, d->stream, params, NULL);
}

static CUresult gemm(struct llm_device *d, int to, CUdeviceptr weights, uint32_t m, uint32_t n,
		     uint32_t k)
{
	void *params[] = {&d->act[to], &d->act[!to], &weights, &m, &n, &k};

	if (d->blas && m >= BLAS_ROWS)
		return llm_blas_gemm(d->blas, d->act[to], d->act[!to], weights, m, n, k);
	return launch(d, d->gemm, d->sms * BLOCKS_PER_SM, params);
}

static CUresult pointwise(struct llm_device *d, uint64_t elements)
{
	uint64_t bytes = elements * LLM_DTYPE_BYTES / 16 * 16;
	void *params[] = {&d->act[0], &d->act[1], &bytes};

	return launch(d, d->pointwise, d->sms * BLOCKS_PER_SM, params);
}

static CUresult attend(struct llm_device *d, struct llm_layer *l, uint32_t n_records)
{
	uint32_t heads = d->o.model->heads, kv_heads = d->o.model->kv_heads;
	uint32_t head_dim = d->o.model->head_dim;
	uint32_t splits = d->sms * BLOCKS_PER_SM / n_records;
	void *params[] = {&d->act[0], &l->kv, &d->table, &d->records,
			  &n_records, &heads, &kv_heads, &head_dim};

	return launch(d, d->attend, n_records * (splits ? splits : 1), params);
}

/* The launch happens only if all before it were accepted. */
#define THEN(r, call)                                                                              \
	do {                                                                                       \
		if ((r) == CUDA_SUCCESS)                                                           \
			(r) = (call);                                                              \
	} while (0)

static CUresult launch_matrix(struct llm_device *d, struct llm_layer *l, enum llm_matrix which,
			      uint32_t n_tokens)
{
	uint32_t k, n;

	llm_model_shape(d->o.model, which, &k, &n);
	return gemm(d, which & 1, l->matrices[which], n_tokens, n, k);
}

static CUresult launch_attention(struct llm_device *d, struct llm_layer *l, uint32_t n_tokens,
				 uint32_t n_records)
{
	const struct llm_model *m = d->o.model;
	uint64_t t = n_tokens, q = t * m->heads * m->head_dim, kv = t * m->kv_heads * m->head_dim;
	CUresult r = CUDA_SUCCESS;

	THEN(r, pointwise(d, 2 * t * m->hidden)); /* residual and norm */
	THEN(r, launch_matrix(d, l, LLM_QKV, n_tokens));
	if (m->qk_norm) {
		THEN(r, pointwise(d, q));
		THEN(r, pointwise(d, kv));
	}
	THEN(r, pointwise(d, q + kv)); /* rotary positions */
	THEN(r, attend(d, l, n_records));
	THEN(r, launch_matrix(d, l, LLM_O, n_tokens));
	return r;
}

static CUresult launch_feed_forward(struct llm_device *d, struct llm_layer *l, uint32_t n_tokens)
{
	const struct llm_model *m = d->o.model;
	uint64_t t = n_tokens;
	CUresult r = CUDA_SUCCESS;

	THEN(r, pointwise(d, 2 * t * m->hidden)); /* residual and norm */
	THEN(r, launch_matrix(d, l, LLM_GATE_UP, n_tokens));
	THEN(r, pointwise(d, 3 * t * m->ffn / 2)); /* reads two, writes one */
	THEN(r, launch_matrix(d, l, LLM_DOWN, n_tokens));
	return r;
}

static CUresult launch_end(struct llm_device *d, uint32_t n_samples)
{
	const struct llm_model *m = d->o.model;
	uint64_t hidden = (uint64_t)n_samples * m->hidden;
	uint64_t bytes = (uint64_t)n_samples * m->vocab * LLM_DTYPE_BYTES / 16 * 16;
	uint32_t n = m->vocab, k = m->hidden;
	void *head[] = {&d->logits, &d->act[0], &d->head, &n_samples, &n, &k};
	void *sample[] = {&d->logits, &d->logits, &bytes};
	CUresult r = CUDA_SUCCESS;

	THEN(r, pointwise(d, 2 * hidden));
	if (m->embedding)
		return r;
	THEN(r, launch(d, d->gemm, d->sms * BLOCKS_PER_SM, head));
	THEN(r, launch(d, d->pointwise, d->sms * BLOCKS_PER_SM, sample));
	return r;
}

int llm_device_launch(struct llm_device *d, uint32_t n_tokens, uint32_t n_records,
		      uint32_t n_samples)
{
	CUresult r = CUDA_SUCCESS;

	THEN(r, pointwise(d, (uint64_t)n_tokens * d->o.model->hidden)); /* input embedding */
	for (uint32_t i = 0; i < d->o.model->layers; i++) {
		THEN(r, launch_attention(d, &d->layers[i], n_tokens, n_records));
		THEN(r, launch_feed_forward(d, &d->layers[i], n_tokens));
	}
	if (n_samples)
		THEN(r, launch_end(d, n_samples));
	return llm_cu_check(r, "launch");
}

/* What attention has to know, into pinned memory. Return: entries of the table of blocks. */
static uint32_t describe(struct llm_device *d, const struct llm_step *step)
{
	uint32_t used = 0;

	for (uint32_t i = 0; i < step->n; i++) {
		const struct llm_seq *q = step->items[i].seq;
		uint32_t n = q->n_blocks;

		d->host_records[i] = (struct llm_record){
			.n_new = step->items[i].n_new,
			.n_context = q->computed + step->items[i].n_new,
			.first = used,
		};
		memcpy(d->host_table + used, q->blocks, n * sizeof(*q->blocks));
		used += n;
	}
	return used;
}

static int upload(struct llm_device *d, uint32_t n_records, uint32_t n_entries)
{
	CUresult r = llm_cu.copy_in(d->records, d->host_records,
				    n_records * sizeof(*d->host_records), d->stream);

	if (n_entries)
		THEN(r, llm_cu.copy_in(d->table, d->host_table, n_entries * sizeof(*d->host_table),
				       d->stream));
	return llm_cu_check(r, "batch");
}

int llm_device_submit(struct llm_device *d, const struct llm_step *step)
{
	const struct llm_graph *g = step->prefill ? NULL : llm_device_graph(d, step->n);
	uint32_t n_records = g ? g->batch : step->n, n_entries = describe(d, step);
	int r;

	if (g) /* places of the graph's batch that are empty */
		memset(d->host_records + step->n, 0,
		       (g->batch - step->n) * sizeof(*d->host_records));
	r = upload(d, n_records, n_entries);
	if (r < 0)
		return r;
	if (g)
		r = llm_cu_check(llm_cu.graph_launch(g->exec, d->stream), "graph");
	else
		r = llm_device_launch(d, step->n_tokens, step->n, step->n_samples);
	if (r < 0 || !step->n_samples)
		return r;
	return llm_cu_check(llm_cu.copy_out(d->host_sampled, d->sampled,
					    step->n_samples * sizeof(uint32_t), d->stream),
			    "tokens");
}

int llm_device_wait(struct llm_device *d)
{
	return llm_cu_check(llm_cu.stream_wait(d->stream), "step");
}
