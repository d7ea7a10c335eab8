/* SPDX-License-Identifier: Apache-2.0 */
/* The allocator of cache blocks. */
#include "../cm.h"

#include <stdlib.h>
#include <string.h>

#include "bench/llm/blocks.h"

#define N 1000u

static void test_llm_blocks__each_block_has_one_owner(void **state)
{
	uint32_t got[N];
	uint8_t seen[N] = {0};
	struct llm_blocks b;

	assert_int_equal(llm_blocks_init(&b, N), 0);
	for (uint32_t i = 0; i < N; i += 10)
		assert_true(llm_blocks_take(&b, 10, got + i));
	for (uint32_t i = 0; i < N; i++) {
		assert_in_range(got[i], 0, N - 1);
		assert_int_equal(seen[got[i]]++, 0);
	}
	assert_int_equal(b.n_free, 0);
	llm_blocks_finish(&b);
}

static void test_llm_blocks__all_or_nothing(void **state)
{
	uint32_t got[8] = {77, 77, 77};
	struct llm_blocks b;

	assert_int_equal(llm_blocks_init(&b, 5), 0);
	assert_false(llm_blocks_take(&b, 6, got));
	assert_int_equal(b.n_free, 5);
	assert_int_equal(got[0], 77);
	assert_true(llm_blocks_take(&b, 5, got));
	assert_false(llm_blocks_take(&b, 1, got));
	assert_true(llm_blocks_take(&b, 0, got));
	llm_blocks_give(&b, got, 2);
	assert_false(llm_blocks_take(&b, 3, got + 5));
	assert_true(llm_blocks_take(&b, 2, got + 5));
	llm_blocks_finish(&b);
}

/* Sequences come and go in any order, and nothing is lost or given twice. */
static void test_llm_blocks__conserved_through_any_history(void **state)
{
	struct {
		uint32_t n, blocks[64];
	} held[32] = {0};
	struct llm_blocks b;

	srand(4);
	assert_int_equal(llm_blocks_init(&b, N), 0);
	for (int i = 0; i < 20000; i++) {
		uint32_t who = (uint32_t)rand() % 32, sum = 0;

		if (held[who].n) {
			llm_blocks_give(&b, held[who].blocks, held[who].n);
			held[who].n = 0;
		} else {
			uint32_t n = (uint32_t)rand() % 65;

			if (llm_blocks_take(&b, n, held[who].blocks))
				held[who].n = n;
		}
		for (int j = 0; j < 32; j++)
			sum += held[j].n;
		assert_int_equal(sum + b.n_free, N);
	}
	llm_blocks_finish(&b);
}

static void test_llm_blocks__tokens_round_up(void **state)
{
	assert_int_equal(llm_blocks_for(0), 0);
	assert_int_equal(llm_blocks_for(1), 1);
	assert_int_equal(llm_blocks_for(16), 1);
	assert_int_equal(llm_blocks_for(17), 2);
	assert_int_equal(llm_blocks_for(131072), 8192);
}

static void test_llm_blocks__none_at_all(void **state)
{
	struct llm_blocks b;
	uint32_t got;

	assert_int_equal(llm_blocks_init(&b, 0), 0);
	assert_false(llm_blocks_take(&b, 1, &got));
	llm_blocks_finish(&b);
	llm_blocks_finish(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_llm_blocks__each_block_has_one_owner),
		cmocka_unit_test(test_llm_blocks__all_or_nothing),
		cmocka_unit_test(test_llm_blocks__conserved_through_any_history),
		cmocka_unit_test(test_llm_blocks__tokens_round_up),
		cmocka_unit_test(test_llm_blocks__none_at_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
