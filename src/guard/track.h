/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of what this process holds: key (an address or a handle) -> what was charged for it and
 * where. Sharded and open-addressed; its memory is mapped by itself, never malloc'ed. Knows nothing
 * about charging.
 */
#ifndef AQ_GUARD_TRACK_H
#define AQ_GUARD_TRACK_H

#include <stdbool.h>
#include <stdint.h>

/* Keys of different classes are different keys, even where the numbers are equal. */
enum aq__class {
	AQ__POINTER = 1, /* device address: linear, pitched, managed, stream-ordered */
	AQ__ARRAY,	 /* CUarray */
	AQ__MIPMAP,	 /* CUmipmappedArray */
	AQ__CONTEXT,	 /* CUcontext: owner = its number, refs = attach count */
	AQ__OBJECT,	 /* physical memory, by our number: grains, refs = handles + mappings */
	AQ__HANDLE,	 /* CUmemGenericAllocationHandle: link = object, refs = of this handle */
	AQ__PIN,	 /* object mapped into a sparse array: link = array, 0 for several */
	AQ__POOL,	 /* CUmemoryPool: link = slot in pool.c */
	AQ__EXEC,	 /* CUgraphExec with memory nodes: see graphmem.c */
	AQ__BLOCK,	 /* 2 MiB of addresses, by number: refs = allocations in part of it */
	AQ__PIECE,	 /* of memory that another process lends: bytes */
};

struct aq__item {
	uint64_t key;	 /* never 0 */
	uint64_t link;	 /* by class */
	uint64_t bytes;	 /* by class */
	uint32_t grains; /* charged for it */
	uint32_t owner;	 /* number of the context it dies with, 0 none */
	uint32_t refs;	 /* by class */
	int16_t index;	 /* device in the page, or AQ__ABSENT or AQ__UNBOUND */
	uint8_t class;	 /* enum aq__class; 0 in an empty slot */
	uint8_t kind;	 /* by class */
};

/**
 * aq__track_put() - enter @item, in place of one with the same class and key.
 * @ret_old: what it replaced (the program has lost it in a way that no hook saw); class 0 if none
 * Return: true; false: no memory, nothing changed
 */
bool aq__track_put(const struct aq__item *item, struct aq__item *ret_old);

/* Copy an entry. Return: whether there is one. */
bool aq__track_get(enum aq__class class, uint64_t key, struct aq__item *ret_item);

/* Take an entry out. Return: whether there was one. */
bool aq__track_take(enum aq__class class, uint64_t key, struct aq__item *ret_item);

/**
 * aq__track_count() - add @change to the refs of the entry with @item's class and key, as one step.
 * An entry that is not there is made from @item, with refs 0 to begin with, if @change is positive;
 * one whose refs become 0 is taken out.
 * @ret_refs: what they are now
 * Return: true; false: there is none, or no memory for a new one; nothing changed
 */
bool aq__track_count(const struct aq__item *item, int change, uint32_t *ret_refs);

/* Take out, one after the other, all entries that @match says yes to. Calls @match under a lock. */
typedef bool aq__match_fn(const struct aq__item *item, void *arg);
void aq__track_sweep(aq__match_fn *match, void *arg);

#endif /* AQ_GUARD_TRACK_H */
