/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pieces of less than a page: many of them in a page of 2 MiB, in steps of a grain (512 bytes).
 * Knows no driver, no charge and no lock, as pages.h; which pages are for pieces the caller says.
 */
#ifndef AQ_GUARD_SMALL_H
#define AQ_GUARD_SMALL_H

#include <stdbool.h>
#include <stdint.h>

#define AQ__SMALL_GRAINS 4096u /* of a page */
#define AQ__SMALL_BINS 13u     /* by the logarithm of the longest gap, 1 to 4096 grains */

struct aq__small_page {
	uint64_t used[AQ__SMALL_GRAINS / 64];
	uint64_t start[AQ__SMALL_GRAINS / 64]; /* bit: a piece begins here */
	uint32_t next, prev;		       /* others of the same bin */
	uint16_t gap;			       /* no gap is longer; 0: full, and in no bin */
	uint16_t pieces;
	uint16_t low; /* no grain below it is free */
};

struct aq__small {
	struct aq__small_page *page; /* [count], by page number; zero until touched */
	uint32_t count;
	uint32_t bins[AQ__SMALL_BINS];
};

/* Return: false when there is no memory for the table. */
bool aq__small_init(struct aq__small *s, uint32_t count);
void aq__small_finish(struct aq__small *s);

/* A page for pieces, none in it yet. */
void aq__small_add(struct aq__small *s, uint32_t page);

/* Room for a piece of @grains, 1 to 4096. Return: whether a page has it. */
bool aq__small_take(struct aq__small *s, uint32_t grains, uint32_t *ret_page, uint32_t *ret_grain);

/* The piece that begins at @grain is gone. Return: true when the page is empty; it is no page for
 * pieces any more then. */
bool aq__small_give(struct aq__small *s, uint32_t page, uint32_t grain);

/* The piece that @grain is in. Return: whether there is one. */
bool aq__small_find(const struct aq__small *s, uint32_t page, uint32_t grain, uint32_t *ret_first);

#endif /* AQ_GUARD_SMALL_H */
