/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocations of every method there is, kept in a table by number. What they hold is added up in
 * the file that TALLY names. Prints nothing and reads no commands; see tenant.c.
 */
#ifndef AQ_TESTS_ITEM_H
#define AQ_TESTS_ITEM_H

#include <stdbool.h>
#include <stdint.h>

#include "cu.h"

#define MAX_ITEMS 200000u
#define MAX_DEVICES 16

enum method {
	LINEAR,
	PITCH,
	ARRAY,
	ARRAY3D,
	MIPMAP,
	MANAGED,
	ASYNC,
	POOL,
	VMM,
	VMMCREATE,
	GRAPH,
	HOST,
	IPC,
	N_METHODS,
};

struct item {
	bool live;
	enum method method;
	int device;
	uint64_t bytes; /* as asked, or as the driver rounded it where it says so */
	CUdeviceptr ptr;
	union {
		CUarray array;
		CUmipmappedArray mipmap;
		CUmemGenericAllocationHandle handle;
		void *host;
		struct {
			CUgraph graph;
			CUgraphExec exec;
		} g;
	} u;
};

extern struct item items[MAX_ITEMS];
extern unsigned int n_items; /* in use or freed */

/* Begin to add up, if the environment says where. */
void item_tally_open(void);

/* linear, pitch, ... Return: whether @text is one. */
bool item_parse_method(const char *text, enum method *ret_method);

/* Allocate on @device, whose context is current, into @it, which need not be in the table. */
CUresult item_alloc(struct item *it, int device, enum method method, uint64_t bytes);
CUresult item_free(struct item *it);

/* A free place in the table; the caller counts it in n_items. NULL: it is full. */
struct item *item_slot(void);

/* Allocate and keep; the id of the new item goes to @ret_id. */
CUresult item_keep(int device, enum method method, uint64_t bytes, unsigned int *ret_id);

/* By number, or `last`. NULL: there is none. */
struct item *item_named(const char *text);

/* Pool of METHOD pool on a device, NULL if there is none yet. */
CUmemoryPool item_pool(int device);

#endif /* AQ_TESTS_ITEM_H */
