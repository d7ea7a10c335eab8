/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages of one arena: which of its 2 MiB steps have physical memory, in which pieces it was
 * made, and which allocation lies where. Knows no driver, no charge and no lock: the caller's lock
 * is held around every call.
 *
 * A *chunk* is physical memory of one handle, mapped at consecutive pages. An allocation is a *run*
 * of pages and may reach over chunks. What is mapped and in no allocation is a *hole*; a chunk that
 * is one hole from end to end is *empty*, and can be given back.
 *
 * A chunk that is made, moved or given back is *busy* while the driver is at it without the lock:
 * nobody else finds its pages then.
 */
#ifndef AQ_GUARD_PAGES_H
#define AQ_GUARD_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#define AQ__PAGE_BYTES (2ull << 20)
#define AQ__NO_PAGE UINT32_MAX

enum aq__page_state {
	AQ__PAGE_BARE = 0, /* no memory, free */
	AQ__PAGE_BUSY,	   /* somebody makes or gives back its chunk */
	AQ__PAGE_HOLE,	   /* memory, free */
	AQ__PAGE_USED,
};

struct aq__page_info {
	uint64_t handle;      /* at the first page of a chunk: the driver's, 0 while it is parked */
	uint32_t chunk;	      /* while there is memory: first page of its chunk */
	uint32_t chunk_pages; /* at the first page of a chunk */
	uint32_t chunk_used;  /* there: pages in allocations */
	uint32_t run;  /* pages of a free run, at its first and last; of an allocation, first */
	uint32_t head; /* in an allocation: its first page */
	uint32_t next, prev; /* at the first page of a free run: others of about its length */
	uint32_t next_empty, prev_empty; /* at the first page of an empty chunk */
	uint32_t host;	 /* in an allocation of a parked chunk: where its bytes are, see park.c */
	uint8_t state;	 /* enum aq__page_state */
	bool small;	 /* in an allocation: holds small pieces, see small.h */
	bool fixed;	 /* at the first page of a chunk: known elsewhere, must not be moved */
	uint32_t lent;	 /* there, while it is: number that no other chunk or time had, or: */
	bool parked;	 /* there: its bytes are in host memory */
};

#define AQ__LENT_FOREVER UINT32_MAX

#define AQ__PAGE_BINS 32u

struct aq__pages {
	struct aq__page_info *page; /* [count]; mapped by itself, zero until touched */
	uint32_t count;
	uint32_t bins[2][AQ__PAGE_BINS]; /* first free run of 2^n pages and up: bare, holes */
	uint32_t empty;			 /* first empty chunk */
	uint32_t used_pages, hole_pages, empty_pages; /* empty: part of the holes */
	uint32_t fixed_pages;			      /* of all chunks that must not be moved */
	uint32_t top;				      /* no chunk was ever at or above this page */
};

/* All @count pages are bare. Return: false when there is no memory for the table. */
bool aq__pages_init(struct aq__pages *p, uint32_t count);

/* Unmap the table. */
void aq__pages_finish(struct aq__pages *p);

/**
 * aq__pages_take() - an allocation of @n pages out of the holes, the tightest that is near.
 * Return: its first page, or AQ__NO_PAGE.
 */
uint32_t aq__pages_take(struct aq__pages *p, uint32_t n);

/* The allocation that begins at @head is gone. */
void aq__pages_give(struct aq__pages *p, uint32_t head);

/* @n bare pages for a chunk, busy from now on. Return: the first, or AQ__NO_PAGE. */
uint32_t aq__pages_take_bare(struct aq__pages *p, uint32_t n);

/* The busy pages have memory now: the first @use of them are an allocation, the rest a hole. */
void aq__pages_chunk_made(struct aq__pages *p, uint32_t first, uint32_t n, uint64_t handle,
			  uint32_t use);

/* The busy pages have none, or no longer. */
void aq__pages_bare(struct aq__pages *p, uint32_t first, uint32_t n);

/* Take an empty chunk, now busy; it is largest or not. Return: its first page, or AQ__NO_PAGE. */
uint32_t aq__pages_take_empty(struct aq__pages *p);

/* That chunk could not be given back: it is empty again. */
void aq__pages_keep_empty(struct aq__pages *p, uint32_t first);

/* The next chunk at or above page @at. Return: its first page, or AQ__NO_PAGE. */
uint32_t aq__pages_chunk_from(const struct aq__pages *p, uint32_t at);

#endif /* AQ_GUARD_PAGES_H */
