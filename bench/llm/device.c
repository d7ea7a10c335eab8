/* SPDX-License-Identifier: Apache-2.0 */
/* Puts a model on a device: what is allocated, in which order, and what is said when it fails. */
#include "bench/llm/device.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/llm/kernels.ptx.h"

#include "base/log.h"
#include "base/size.h"
#include "base/banned.h"

#define FILL_THREADS 256u

/*
 * Defaults of a step's size. Source: vLLM, engine/arg_utils.py, get_batch_defaults(): by the memory
 * that the driver reports and the device's name, so a fraction of a large card gets the small ones.
 */
#define LARGE_BYTES (70 * AQ_GIB)
#define LARGE_BUDGET 8192u
#define LARGE_SEQS 1024u
#define SMALL_BUDGET 2048u
#define SMALL_SEQS 256u

static int alloc(CUdeviceptr *p, uint64_t bytes, const char *what)
{
	CUresult r = llm_cu.mem_alloc(p, bytes ? bytes : 1);
	char size[AQ_SIZE_TEXT];

	if (r == CUDA_SUCCESS)
		return 0;
	*p = 0;
	if (r == CUDA_ERROR_OUT_OF_MEMORY)
		aq_error("no room for %s of %s", aq_size_format(bytes, size), what);
	return llm_cu_check(r, what);
}

static void choose_defaults(struct llm_device *d)
{
	bool large = d->total_bytes >= LARGE_BYTES && !strcasestr(d->name, "a100");
	struct llm_device_options *o = &d->o;

	if (!o->budget)
		o->budget = large ? LARGE_BUDGET : SMALL_BUDGET;
	if (!o->max_seqs)
		o->max_seqs = large ? LARGE_SEQS : SMALL_SEQS;
	if (o->max_seqs > o->budget)
		o->max_seqs = o->budget;
	if (!o->max_tokens || o->max_tokens > o->model->max_tokens)
		o->max_tokens = o->model->max_tokens;
}

/* As vLLM: what is asked for has to be free before anything is loaded. */
static int check_free(struct llm_device *d)
{
	uint64_t want = d->total_bytes / 1000 * d->o.utilization_permille;
	char f[AQ_SIZE_TEXT], t[AQ_SIZE_TEXT], w[AQ_SIZE_TEXT];

	if (d->free_bytes >= want)
		return 0;
	aq_error(
		"out of memory: %s of %s are free, less than %s, which is --gpu-memory-utilization "
		"%.3g of the device; lower it, or free memory",
		aq_size_format(d->free_bytes, f), aq_size_format(d->total_bytes, t),
		aq_size_format(want, w), d->o.utilization_permille / 1000.0);
	return -ENOMEM;
}

static int open_context(struct llm_device *d)
{
	size_t left, total;
	int sms, r;

	r = llm_cu_check(llm_cu.init(0), "cuInit");
	if (r == 0)
		r = llm_cu_check(llm_cu.device_get(&d->ordinal, (int)d->o.device), "device");
	if (r == 0)
		r = llm_cu_check(llm_cu.device_name(d->name, sizeof(d->name), d->ordinal), "name");
	if (r == 0)
		r = llm_cu_check(llm_cu.device_attribute(&sms,
							 CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
							 d->ordinal),
				 "cuDeviceGetAttribute");
	/* The thread sleeps while the device works, as long as it works. */
	if (r == 0)
		r = llm_cu_check(llm_cu.primary_flags(d->ordinal, CU_CTX_SCHED_BLOCKING_SYNC),
				 "context flags");
	if (r == 0)
		r = llm_cu_check(llm_cu.primary_retain(&d->ctx, d->ordinal), "context");
	if (r == 0)
		r = llm_cu_check(llm_cu.set_current(d->ctx), "cuCtxSetCurrent");
	if (r == 0)
		r = llm_cu_check(llm_cu.mem_info(&left, &total), "cuMemGetInfo");
	if (r < 0)
		return r;
	d->sms = (uint32_t)sms;
	d->total_bytes = total;
	d->free_bytes = left;
	return 0;
}

static int load_kernels(struct llm_device *d)
{
	struct {
		CUfunction *to;
		const char *name;
	} wanted[] = {{&d->gemm, "aq_llm_gemm"},
		      {&d->attend, "aq_llm_attend"},
		      {&d->pointwise, "aq_llm_pointwise"},
		      {&d->fill, "aq_llm_fill"}};
	int r = llm_cu_check(llm_cu.module_load(&d->module, LLM_KERNELS_PTX), "kernels");

	for (size_t i = 0; r == 0 && i < sizeof(wanted) / sizeof(wanted[0]); i++)
		r = llm_cu_check(llm_cu.module_function(wanted[i].to, d->module, wanted[i].name),
				 wanted[i].name);
	return r < 0 ? r
		     : llm_cu_check(llm_cu.stream_create(&d->stream, CU_STREAM_NON_BLOCKING),
				    "stream");
}

/* Before memory is divided: the library takes some of it. Without it, all goes on. */
static void open_blas(struct llm_device *d)
{
	const char *why;

	if (!d->o.blas)
		return;
	if (llm_blas_open(d->stream, &d->blas, &why) < 0)
		aq_info("%s: prompts are computed by kernels of our own", why);
	else
		aq_info("prompts are computed by cuBLAS");
}

/* Random numbers where weights would be loaded; the bytes of a real checkpoint are not needed. */
static int fill(struct llm_device *d, CUdeviceptr p, uint64_t bytes)
{
	uint32_t seed = (uint32_t)(p >> 9);
	void *params[] = {&p, &bytes, &seed};

	if (!d->o.init)
		return 0;
	return llm_cu_check(llm_cu.launch(d->fill, d->sms * 4, 1, 1, FILL_THREADS, 1, 1, 0,
					  d->stream, params, NULL),
			    "random weights");
}

static int weight(struct llm_device *d, CUdeviceptr *p, uint64_t bytes)
{
	int r = alloc(p, bytes, "weights");

	if (r < 0)
		return r;
	d->weight_bytes += bytes;
	return fill(d, *p, bytes);
}

static int load_layers(struct llm_device *d)
{
	const struct llm_model *m = d->o.model;
	int r = 0;

	d->layers = calloc(m->layers, sizeof(*d->layers));
	if (!d->layers)
		return -ENOMEM;
	for (uint32_t i = 0; i < m->layers && r == 0; i++) {
		for (int j = 0; j < LLM_MATRICES && r == 0; j++) {
			uint32_t k, n;

			llm_model_shape(m, j, &k, &n);
			r = weight(d, &d->layers[i].matrices[j], (uint64_t)k * n * LLM_DTYPE_BYTES);
		}
		if (r == 0)
			r = weight(d, &d->layers[i].norms, llm_model_norm_bytes(m));
	}
	return r;
}

static int load_weights(struct llm_device *d)
{
	const struct llm_model *m = d->o.model;
	char size[AQ_SIZE_TEXT], left_text[AQ_SIZE_TEXT];
	size_t left = 0, total;
	int r;

	llm_cu.mem_info(&left, &total);
	r = weight(d, &d->embedding, llm_model_embedding_bytes(m));
	if (r == 0)
		r = load_layers(d);
	if (r == 0)
		r = weight(d, &d->norm, LLM_DTYPE_BYTES * (uint64_t)m->hidden);
	if (r == 0 && !m->tied)
		r = weight(d, &d->head, llm_model_embedding_bytes(m));
	else
		d->head = d->embedding;
	if (r == -ENOMEM)
		aq_error("out of memory: the weights of %s take %s, %s are free", m->id,
			 aq_size_format(llm_model_weight_bytes(m), size),
			 aq_size_format(left, left_text));
	return r;
}

/* Widest of what a token is between two kernels, in elements. */
static uint64_t widest(const struct llm_model *m)
{
	uint64_t most = 2 * (uint64_t)m->hidden;

	for (int i = 0; i < LLM_MATRICES; i++) {
		uint32_t k, n;

		llm_model_shape(m, i, &k, &n);
		if (n > most)
			most = n;
	}
	return most;
}

static int make_workspace(struct llm_device *d)
{
	const struct llm_model *m = d->o.model;
	uint64_t act = widest(m) * d->o.budget * LLM_DTYPE_BYTES;
	uint64_t logits = (uint64_t)m->vocab * d->o.max_seqs * LLM_DTYPE_BYTES;
	int r = 0;

	for (int i = 0; i < 2 && r == 0; i++)
		r = alloc(&d->act[i], act, "activations");
	if (r == 0)
		r = alloc(&d->logits, logits, "logits");
	if (r == 0)
		r = alloc(&d->records, d->o.max_seqs * sizeof(struct llm_record), "batch");
	if (r == 0)
		r = alloc(&d->sampled, d->o.max_seqs * sizeof(uint32_t), "batch");
	d->workspace_bytes = 2 * act + logits;
	return r;
}

/* One step of nothing, so that the driver has loaded all code before memory is divided and before
 * anything is recorded, where it could not. The empty record keeps attention off a cache not yet
 * there. */
static int warm_up(struct llm_device *d)
{
	static const struct llm_record empty;
	int r = llm_cu_check(llm_cu.copy_in(d->records, &empty, sizeof(empty), d->stream),
			     "warming up");

	if (r == 0)
		r = llm_device_launch(d, 1, 1, 1);
	return r < 0 ? r : llm_device_wait(d);
}

/*
 * As vLLM: the share of the device's total is this process's, whatever others hold, less what it
 * took since its context was there.
 */
static int size_cache(struct llm_device *d)
{
	uint64_t want = d->total_bytes / 1000 * d->o.utilization_permille, taken, graph = 0;
	uint64_t block = llm_model_kv_token_bytes(d->o.model) * LLM_BLOCK_TOKENS;
	uint64_t entry = sizeof(uint32_t); /* of the table of blocks */
	char w[AQ_SIZE_TEXT], t[AQ_SIZE_TEXT];
	size_t left, total;
	int r = llm_device_capture_cost(d, &graph);

	if (r == 0)
		r = llm_cu_check(llm_cu.mem_info(&left, &total), "cuMemGetInfo");
	if (r < 0)
		return r;
	taken = d->free_bytes > left ? d->free_bytes - left : 0;
	taken += graph * llm_device_n_graphs(d);
	/* Each layer's part is an allocation of its own, in whole pages of 2 MiB: half a page is
	 * lost. */
	taken += d->o.model->layers * AQ_MIB;
	if (want < taken + block) {
		aq_error("out of memory: no room for the KV cache: %s are taken, %s of the device "
			 "may be (--gpu-memory-utilization %.3g)",
			 aq_size_format(taken, t), aq_size_format(want, w),
			 d->o.utilization_permille / 1000.0);
		return -ENOMEM;
	}
	want = (want - taken) / (block + entry);
	d->n_blocks = want < UINT32_MAX / LLM_BLOCK_TOKENS ? (uint32_t)want
							   : UINT32_MAX / LLM_BLOCK_TOKENS;
	d->cache_bytes = d->n_blocks * block;
	return 0;
}

static int make_cache(struct llm_device *d)
{
	uint64_t tokens;
	int r = size_cache(d);

	for (uint32_t i = 0; i < d->o.model->layers && r == 0; i++)
		r = alloc(&d->layers[i].kv, d->cache_bytes / d->o.model->layers, "KV cache");
	if (r == 0)
		r = alloc(&d->table, d->n_blocks * sizeof(uint32_t), "table of blocks");
	if (r < 0)
		return r;
	tokens = (uint64_t)d->n_blocks * LLM_BLOCK_TOKENS;
	if (d->o.max_tokens > tokens)
		d->o.max_tokens = (uint32_t)tokens;
	return 0;
}

static int make_staging(struct llm_device *d)
{
	struct {
		void **to;
		size_t bytes;
	} wanted[] = {{(void **)&d->host_records, d->o.max_seqs * sizeof(struct llm_record)},
		      {(void **)&d->host_sampled, d->o.max_seqs * sizeof(uint32_t)},
		      {(void **)&d->host_table, d->n_blocks * sizeof(uint32_t)}};
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(wanted) / sizeof(wanted[0]); i++)
		r = llm_cu_check(llm_cu.host_alloc(wanted[i].to, wanted[i].bytes, 0),
				 "pinned memory");
	return r;
}

int llm_device_init(struct llm_device *d, const struct llm_device_options *o)
{
	int r;

	*d = (struct llm_device){.o = *o};
	r = open_context(d);
	if (r == 0) {
		choose_defaults(d);
		r = check_free(d);
	}
	if (r == 0)
		r = load_kernels(d);
	if (r == 0) {
		open_blas(d);
		r = load_weights(d);
	}
	if (r == 0)
		r = make_workspace(d);
	if (r == 0)
		r = warm_up(d);
	if (r == 0)
		r = make_cache(d);
	if (r == 0)
		r = make_staging(d);
	if (r == 0)
		r = llm_device_capture(d);
	if (r == 0)
		r = llm_device_wait(d);
	if (r < 0)
		llm_device_finish(d);
	return r;
}

/* The context's end frees what is on the device; pinned memory goes by itself. */
void llm_device_finish(struct llm_device *d)
{
	void *pinned[] = {d->host_records, d->host_sampled, d->host_table};

	for (uint32_t i = 0; i < d->n_graphs; i++)
		llm_cu.graph_exec_destroy(d->graphs[i].exec);
	for (size_t i = 0; i < sizeof(pinned) / sizeof(pinned[0]); i++)
		if (pinned[i])
			llm_cu.host_free(pinned[i]);
	llm_blas_close(d->blas);
	if (d->ctx)
		llm_cu.primary_release(d->ordinal);
	free(d->layers);
	*d = (struct llm_device){0};
}
