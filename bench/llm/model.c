/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes of models from their dimensions; see model.h. Knows no device. */
#include "bench/llm/model.h"

#include <strings.h>

#include "base/cleanup.h"
#include "base/banned.h"

const struct llm_model llm_models[] = {
#define LLM_PRESET(name, ...) {.id = name, __VA_ARGS__},
#include "bench/llm/presets.def"
#undef LLM_PRESET
};

const size_t llm_n_models = AQ_ARRAY_SIZE(llm_models);

const struct llm_model *llm_model_find(const char *name)
{
	for (size_t i = 0; i < llm_n_models; i++)
		if (!strcasecmp(name, llm_models[i].id) || !strcasecmp(name, llm_models[i].hf))
			return &llm_models[i];
	return NULL;
}

void llm_model_shape(const struct llm_model *m, enum llm_matrix which, uint32_t *ret_k,
		     uint32_t *ret_n)
{
	switch (which) {
	case LLM_QKV:
		*ret_k = m->hidden;
		*ret_n = (m->heads + 2 * m->kv_heads) * m->head_dim;
		break;
	case LLM_O:
		*ret_k = m->heads * m->head_dim;
		*ret_n = m->hidden;
		break;
	case LLM_GATE_UP:
		*ret_k = m->hidden;
		*ret_n = 2 * m->ffn;
		break;
	default:
		*ret_k = m->ffn;
		*ret_n = m->hidden;
		break;
	}
}

static uint64_t norm_params(const struct llm_model *m)
{
	return 2 * m->hidden + (m->qk_norm ? 2 * m->head_dim : 0);
}

uint64_t llm_model_norm_bytes(const struct llm_model *m)
{
	return LLM_DTYPE_BYTES * norm_params(m);
}

uint64_t llm_model_embedding_bytes(const struct llm_model *m)
{
	return LLM_DTYPE_BYTES * (uint64_t)m->vocab * m->hidden;
}

uint64_t llm_model_params(const struct llm_model *m)
{
	uint64_t layer = norm_params(m), embeddings = m->tied ? 1 : 2;

	for (int i = 0; i < LLM_MATRICES; i++) {
		uint32_t k, n;

		llm_model_shape(m, i, &k, &n);
		layer += (uint64_t)k * n;
	}
	return layer * m->layers + embeddings * m->vocab * m->hidden + m->hidden;
}

uint64_t llm_model_weight_bytes(const struct llm_model *m)
{
	return LLM_DTYPE_BYTES * llm_model_params(m);
}

uint64_t llm_model_kv_token_bytes(const struct llm_model *m)
{
	return (uint64_t)2 * LLM_DTYPE_BYTES * m->layers * m->kv_heads * m->head_dim;
}
