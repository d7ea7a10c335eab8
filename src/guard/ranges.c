/* SPDX-License-Identifier: Apache-2.0 */
/* A treap (Seidel and Aragon 1996): a search tree by address, a heap by random priority. */
#include "guard/ranges.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

#include "guard/guest.h"

#define BLOCK_BYTES 65536u /* of nodes that are mapped at once; never unmapped */

struct aq__range_node {
	struct aq__range range;
	struct aq__range_node *left, *right;
	uint32_t priority;
};

typedef struct aq__range_node node;

static node *unused;		    /* chained by `left`; the caller's lock */
static uint32_t seed = 2463534242u; /* the same */

static node *node_new(void)
{
	node *n = unused;

	if (!n) {
		int saved = errno;
		node *block = mmap(NULL, BLOCK_BYTES, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		errno = saved;
		if (block == MAP_FAILED)
			return NULL;
		for (size_t i = 0; i < BLOCK_BYTES / sizeof(*block); i++) {
			block[i].left = n;
			n = &block[i];
		}
	}
	unused = n->left;
	return n;
}

static void node_drop(node *n)
{
	n->left = unused;
	unused = n;
}

/* Source: xorshift32 (Marsaglia 2003). */
static uint32_t next_priority(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	return seed;
}

/* Everything that starts below @start to the left, the rest to the right. */
static void split(node *n, uint64_t start, node **left, node **right)
{
	while (n) {
		if (n->range.start < start) {
			*left = n;
			left = &n->right;
			n = n->right;
		} else {
			*right = n;
			right = &n->left;
			n = n->left;
		}
	}
	*left = NULL;
	*right = NULL;
}

/* Put together again what all of @left lies below all of @right. */
static node *merge(node *left, node *right)
{
	node *root = NULL, **slot = &root;

	while (left && right) {
		if (left->priority > right->priority) {
			*slot = left;
			slot = &left->right;
			left = left->right;
		} else {
			*slot = right;
			slot = &right->left;
			right = right->left;
		}
	}
	*slot = left ? left : right;
	return root;
}

bool aq__ranges_add(struct aq__ranges *set, const struct aq__range *r)
{
	node *n = node_new(), **slot = &set->root;

	if (!n)
		return false;
	n->range = *r;
	n->priority = next_priority();
	while (*slot && (*slot)->priority > n->priority)
		slot = r->start < (*slot)->range.start ? &(*slot)->left : &(*slot)->right;
	split(*slot, r->start, &n->left, &n->right);
	*slot = n;
	return true;
}

/* The last range that starts at or below @address: only that one can contain it. */
static node *at_or_below(const struct aq__ranges *set, uint64_t address)
{
	node *best = NULL;

	for (node *n = set->root; n;) {
		if (n->range.start <= address) {
			best = n;
			n = n->right;
		} else {
			n = n->left;
		}
	}
	return best;
}

bool aq__ranges_find(const struct aq__ranges *set, uint64_t address, struct aq__range *ret_range)
{
	const node *n = at_or_below(set, address);

	if (!n || address - n->range.start >= n->range.bytes)
		return false;
	*ret_range = n->range;
	return true;
}

static void remove_start(struct aq__ranges *set, uint64_t start)
{
	node **slot = &set->root, *n;

	while ((*slot)->range.start != start)
		slot = start < (*slot)->range.start ? &(*slot)->left : &(*slot)->right;
	n = *slot;
	*slot = merge(n->left, n->right);
	node_drop(n);
}

bool aq__ranges_take(struct aq__ranges *set, uint64_t start, uint64_t end, bool overlapping,
		     struct aq__range *ret_range)
{
	const node *first = NULL;

	if (overlapping) {
		first = at_or_below(set, start);
		if (first && start - first->range.start >= first->range.bytes)
			first = NULL;
	}
	for (const node *n = first ? NULL : set->root; n;) {
		if (n->range.start >= start) {
			first = n;
			n = n->left;
		} else {
			n = n->right;
		}
	}
	if (!first || first->range.start >= end)
		return false;
	if (!overlapping && first->range.bytes > end - first->range.start)
		return false;
	*ret_range = first->range;
	remove_start(set, first->range.start);
	return true;
}

void aq__ranges_forked(void)
{
	unused = NULL;
}
