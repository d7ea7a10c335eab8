/* SPDX-License-Identifier: Apache-2.0 */
/* The presets against what their makers publish. */
#include "../cm.h"

#include <string.h>

#include "bench/llm/model.h"

static void test_llm_model__weights_are_as_many_as_published(void **state)
{
	for (size_t i = 0; i < llm_n_models; i++) {
		const struct llm_model *m = &llm_models[i];
		uint64_t have = llm_model_weight_bytes(m);
		uint64_t want = m->published_params * LLM_DTYPE_BYTES;

		if (have < want - want / 50 || have > want + want / 50)
			fail_msg("%s: %llu bytes, not %llu", m->id, (unsigned long long)have,
				 (unsigned long long)want);
	}
}

/* Source: vLLM's log for this model, 33.19 GiB of cache for 271,872 tokens; config.json of others.
 */
static void test_llm_model__cache_bytes_are_as_engines_say(void **state)
{
	assert_int_equal(llm_model_kv_token_bytes(llm_model_find("llama-3.1-8b")), 131072);
	assert_int_equal(llm_model_kv_token_bytes(llm_model_find("qwen3-4b")), 147456);
	assert_int_equal(llm_model_kv_token_bytes(llm_model_find("qwen3-14b")), 163840);
}

/* Source: vLLM's log, "Model loading took 14.9889 GiB"; ours has no buffers, only weights. */
static void test_llm_model__llama_is_as_large_as_when_loaded(void **state)
{
	double gib = (double)llm_model_weight_bytes(llm_model_find("llama-3.1-8b")) / (1 << 30);

	assert_true(gib > 14.9 && gib < 14.99);
}

/* What is counted is the sum of what is allocated. */
static void test_llm_model__parts_make_the_whole(void **state)
{
	for (size_t i = 0; i < llm_n_models; i++) {
		const struct llm_model *m = &llm_models[i];
		uint64_t layer = llm_model_norm_bytes(m), all;
		uint32_t k, n;

		for (int j = 0; j < LLM_MATRICES; j++) {
			llm_model_shape(m, j, &k, &n);
			assert_true(k > 0 && n > 0);
			layer += (uint64_t)k * n * LLM_DTYPE_BYTES;
		}
		all = layer * m->layers + (m->tied ? 1 : 2) * llm_model_embedding_bytes(m) +
		      m->hidden * LLM_DTYPE_BYTES;
		assert_true(all == llm_model_weight_bytes(m));
	}
}

static void test_llm_model__names_are_unique_and_found(void **state)
{
	for (size_t i = 0; i < llm_n_models; i++) {
		assert_ptr_equal(llm_model_find(llm_models[i].id), &llm_models[i]);
		assert_ptr_equal(llm_model_find(llm_models[i].hf), &llm_models[i]);
	}
	assert_ptr_equal(llm_model_find("QWEN/qwen3-4B"), llm_model_find("qwen3-4b"));
	assert_null(llm_model_find("gpt-2"));
	assert_null(llm_model_find(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_llm_model__weights_are_as_many_as_published),
		cmocka_unit_test(test_llm_model__cache_bytes_are_as_engines_say),
		cmocka_unit_test(test_llm_model__llama_is_as_large_as_when_loaded),
		cmocka_unit_test(test_llm_model__parts_make_the_whole),
		cmocka_unit_test(test_llm_model__names_are_unique_and_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
