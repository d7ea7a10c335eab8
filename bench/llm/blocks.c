/* SPDX-License-Identifier: Apache-2.0 */
/* A stack of free blocks; see blocks.h. */
#include "bench/llm/blocks.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

int llm_blocks_init(struct llm_blocks *b, uint32_t total)
{
	*b = (struct llm_blocks){.total = total, .n_free = total};
	b->free = calloc(total ? total : 1, sizeof(*b->free));
	b->taken = calloc(total ? total : 1, sizeof(*b->taken));
	if (!b->free || !b->taken) {
		llm_blocks_finish(b);
		return -ENOMEM;
	}
	/* The lowest number is on top: a cache that is hardly used stays together. */
	for (uint32_t i = 0; i < total; i++)
		b->free[i] = total - 1 - i;
	return 0;
}

void llm_blocks_finish(struct llm_blocks *b)
{
	free(b->free);
	free(b->taken);
	*b = (struct llm_blocks){0};
}

bool llm_blocks_take(struct llm_blocks *b, uint32_t n, uint32_t *ret)
{
	if (n > b->n_free)
		return false;
	for (uint32_t i = 0; i < n; i++) {
		ret[i] = b->free[--b->n_free];
		b->taken[ret[i]] = 1;
	}
	return true;
}

void llm_blocks_give(struct llm_blocks *b, const uint32_t *numbers, uint32_t n)
{
	for (uint32_t i = n; i-- > 0;) {
		assert(numbers[i] < b->total && b->taken[numbers[i]]);
		b->taken[numbers[i]] = 0;
		b->free[b->n_free++] = numbers[i];
	}
}
