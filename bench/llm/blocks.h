/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which blocks of a paged KV cache are free. Numbers only; the memory behind them is the device's.
 * One thread.
 */
#ifndef AQ_BENCH_LLM_BLOCKS_H
#define AQ_BENCH_LLM_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#define LLM_BLOCK_TOKENS 16u /* Source: vLLM, CacheConfig.DEFAULT_BLOCK_SIZE */

struct llm_blocks {
	uint32_t total, n_free;
	uint32_t *free; /* stack of the numbers of free blocks */
	uint8_t *taken; /* by number, so that no block is given back twice */
};

/* Blocks 0 to @total - 1, all free. Return: 0 or -ENOMEM. */
int llm_blocks_init(struct llm_blocks *b, uint32_t total);

/* Accepts what llm_blocks_init() refused, and zeroed memory. */
void llm_blocks_finish(struct llm_blocks *b);

/* Take @n blocks into @ret, or none. Return: whether there were as many. */
bool llm_blocks_take(struct llm_blocks *b, uint32_t n, uint32_t *ret);

/* Give @n back; they were taken, each once. */
void llm_blocks_give(struct llm_blocks *b, const uint32_t *numbers, uint32_t n);

/* Blocks that hold this many tokens. */
static inline uint32_t llm_blocks_for(uint32_t tokens)
{
	return (tokens + LLM_BLOCK_TOKENS - 1) / LLM_BLOCK_TOKENS;
}

#endif /* AQ_BENCH_LLM_BLOCKS_H */
