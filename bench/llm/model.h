/* SPDX-License-Identifier: Apache-2.0 */
/* Dimensions of the models in presets.def, and the sizes that follow from them. Pure arithmetic. */
#ifndef AQ_BENCH_LLM_MODEL_H
#define AQ_BENCH_LLM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LLM_DTYPE_BYTES 2u /* bf16, of weights, activations and KV cache alike */

struct llm_model {
	const char *id; /* "llama-3.1-8b" */
	const char *hf; /* name on Hugging Face */
	uint64_t published_params;
	uint32_t layers, hidden, heads, kv_heads, head_dim;
	uint32_t ffn; /* inner width of the gated feed-forward */
	uint32_t vocab;
	uint32_t max_tokens; /* longest context it was made for */
	bool tied;	     /* output matrix is the input embedding */
	bool qk_norm;	     /* queries and keys are normalised, head by head */
	bool embedding;	     /* answers with a vector, not with tokens */
};

/* The matrices of one layer, as engines fuse them. */
enum llm_matrix {
	LLM_QKV,     /* hidden x (heads + 2 kv_heads) head_dim */
	LLM_O,	     /* heads head_dim x hidden */
	LLM_GATE_UP, /* hidden x 2 ffn */
	LLM_DOWN,    /* ffn x hidden */
	LLM_MATRICES,
};

extern const struct llm_model llm_models[];
extern const size_t llm_n_models;

/* By id or by name on Hugging Face, case ignored; NULL for none. */
const struct llm_model *llm_model_find(const char *name);

/* Rows (of the input) and columns (of the output) of a layer's matrix. */
void llm_model_shape(const struct llm_model *m, enum llm_matrix which, uint32_t *ret_k,
		     uint32_t *ret_n);

/* Bytes of the norms of one layer. */
uint64_t llm_model_norm_bytes(const struct llm_model *m);

/* Bytes of the input embedding; the output matrix is as large where there is one of its own. */
uint64_t llm_model_embedding_bytes(const struct llm_model *m);

/* Everything that is loaded. */
uint64_t llm_model_params(const struct llm_model *m);
uint64_t llm_model_weight_bytes(const struct llm_model *m);

/* Of the KV cache, in all layers. */
uint64_t llm_model_kv_token_bytes(const struct llm_model *m);

#endif /* AQ_BENCH_LLM_MODEL_H */
