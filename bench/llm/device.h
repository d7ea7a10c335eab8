/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model on a device: weights, paged KV cache, activations, and the launches of a step. Driver API
 * only. All functions: one thread, the one that called llm_device_init() (its context is current).
 */
#ifndef AQ_BENCH_LLM_DEVICE_H
#define AQ_BENCH_LLM_DEVICE_H

#include "bench/llm/blas.h"
#include "bench/llm/driver.h"
#include "bench/llm/model.h"
#include "bench/llm/scheduler.h"

#define LLM_MAX_BUCKETS 64u

/* As the kernels read it; sim/kernels_llm.c and kernels.cu have the same. */
struct llm_record {
	uint32_t n_new, n_context, first, reserved;
};

struct llm_device_options {
	const struct llm_model *model;
	uint32_t device;	       /* ordinal among those visible */
	uint32_t utilization_permille; /* of the device's total, for weights, activations and cache
					*/
	uint32_t max_seqs;	       /* 0: by the device, as vLLM chooses */
	uint32_t budget;	       /* tokens of a step; 0: likewise */
	uint32_t max_tokens;	       /* of a sequence; 0: the model's, or what the cache holds */
	bool graphs;		       /* replay decoding steps */
	bool blas;		       /* matrices of prompts by cuBLAS, where it can be had */
	bool init;		       /* fill the weights with random numbers */
};

struct llm_layer {
	CUdeviceptr matrices[LLM_MATRICES], norms, kv;
};

struct llm_graph {
	uint32_t batch;
	CUgraphExec exec;
};

struct llm_device {
	struct llm_device_options o; /* nothing is 0 after llm_device_init() */
	char name[128];
	uint32_t sms;
	uint64_t total_bytes, weight_bytes, cache_bytes, workspace_bytes;
	uint64_t free_bytes; /* when the context was made, before anything else */
	uint32_t n_blocks;
	CUdevice ordinal;
	CUcontext ctx;
	CUmodule module;
	CUfunction gemm, attend, pointwise, fill;
	CUstream stream;
	struct llm_blas *blas; /* NULL: the kernels of kernels.cu do everything */
	struct llm_layer *layers;
	CUdeviceptr embedding, head, norm; /* head == embedding when tied */
	CUdeviceptr act[2];		   /* activations of a step, used in turn */
	CUdeviceptr logits;
	CUdeviceptr records, table, sampled;
	/* Pinned, one step's. */
	struct llm_record *host_records;
	uint32_t *host_table, *host_sampled;
	struct llm_graph graphs[LLM_MAX_BUCKETS];
	uint32_t n_graphs;
};

/**
 * llm_device_init() - context, weights, cache, graphs; says in the log what does not fit.
 * Return: 0; -ENOMEM; -ENODEV; -EIO; @d is finished then
 */
int llm_device_init(struct llm_device *d, const struct llm_device_options *o);
void llm_device_finish(struct llm_device *d);

/* Submit a step; does not wait. Return: 0; -EIO, -ENOMEM: the device is of no use any more. */
int llm_device_submit(struct llm_device *d, const struct llm_step *step);

/* Wait for what was submitted, without keeping a CPU busy. */
int llm_device_wait(struct llm_device *d);

/* Launches of a step: @n_tokens through the layers, @n_samples of them to the end (step.c). */
int llm_device_launch(struct llm_device *d, uint32_t n_tokens, uint32_t n_records,
		      uint32_t n_samples);

/* Record decoding of every batch size of interest (graph.c). */
int llm_device_capture(struct llm_device *d);
/* How much device memory one of them takes, by trying. */
int llm_device_capture_cost(struct llm_device *d, uint64_t *ret_bytes);
uint32_t llm_device_n_graphs(const struct llm_device *d);
/* The graph for a batch of @n, or NULL. */
const struct llm_graph *llm_device_graph(const struct llm_device *d, uint32_t n);

#endif /* AQ_BENCH_LLM_DEVICE_H */
