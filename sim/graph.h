/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Graphs: nodes and edges as programs describe them, and the flat plans that are made of them when
 * they are instantiated.
 *
 * Programs must not use one graph from two threads at a time, so graphs have no lock; captures,
 * which may add to one graph from several threads, do that under sim_executor.lock.
 */
#ifndef SIM_GRAPH_H
#define SIM_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "cuda/cuda_abi.h"
#include "event.h"
#include "task.h"

#define SIM_GRAPH_MAGIC 0x53494d47u
#define SIM_NODE_MAGIC 0x53494d4eu
#define SIM_GRAPH_EXEC_MAGIC 0x53494d58u
#define SIM_USER_OBJECT_MAGIC 0x53494d55u

struct sim_graph_alloc;

/* What a node does: the part that a graph and an instantiated one have in common. */
struct sim_body {
	CUgraphNodeType type;
	struct sim_context *ctx;       /* where it runs; NULL for those that run nowhere */
	struct sim_task task;	       /* KERNEL, COPY, SET, HOST, MEMOPS; EMPTY for all others */
	CUDA_MEMCPY3D copy;	       /* MEMCPY: as it was described */
	struct sim_event *event;       /* EVENT_RECORD, WAIT_EVENT */
	struct sim_graph_alloc *alloc; /* MEM_ALLOC, MEM_FREE: one reference */
	CUlaunchAttribute *attrs;      /* KERNEL: those that were set */
	unsigned int n_attrs;
};

struct sim_edge {
	struct sim_node *node;
	CUgraphEdgeData data;
};

struct sim_edges {
	struct sim_edge *edge;
	size_t n, room;
};

struct sim_node {
	uint32_t magic;
	struct sim_graph *graph;
	struct aq_list link;	     /* sim_graph.nodes, in order of creation */
	struct sim_edges deps;	     /* that it waits for */
	struct sim_edges dependents; /* that wait for it */
	const void *original;	     /* the node that this was cloned from; never looked into */
	struct sim_body body;
	void **params;		 /* KERNEL: pointers into the packed parameters, for who asks */
	struct sim_graph *child; /* GRAPH: owned */
	size_t index;		 /* scratch of whoever walks the graph */
};

struct sim_user_ref {
	struct sim_user_ref *next;
	struct sim_user_object *object;
	unsigned int count;
};

struct sim_graph {
	uint32_t magic;
	struct aq_list nodes;
	size_t n_nodes;
	bool is_child;	       /* belongs to a node */
	bool has_memory;       /* an allocation or free node is in it, or was */
	unsigned int n_execs;  /* instantiated with memory nodes and not destroyed */
	unsigned int captures; /* captures that add to it */
	struct sim_user_ref *user_refs;
};

/*
 * Bodies (graph_body.c). Those that check return what the driver does for bad parameters, and leave
 * *@b alone then. Others own what they hold until sim_body_finish().
 */
CUresult sim_body_kernel(const CUDA_KERNEL_NODE_PARAMS *p, struct sim_body *b);
CUresult sim_body_memcpy(const CUDA_MEMCPY3D *p, CUcontext ctx, struct sim_body *b);
CUresult sim_body_memset(const CUDA_MEMSET_NODE_PARAMS *p, CUcontext ctx, struct sim_body *b);
CUresult sim_body_host(const CUDA_HOST_NODE_PARAMS *p, struct sim_body *b);
CUresult sim_body_memops(const CUDA_BATCH_MEM_OP_NODE_PARAMS *p, struct sim_body *b);
CUresult sim_body_event(CUgraphNodeType type, CUevent event, struct sim_body *b);
/* Any type but GRAPH, MEM_ALLOC, MEM_FREE. */
CUresult sim_body_of(const CUgraphNodeParams *p, struct sim_body *b);
/* A task that was captured; @t stays the caller's. */
CUresult sim_body_task(struct sim_task *t, struct sim_context *ctx, struct sim_body *b);
int sim_body_dup(const struct sim_body *from, struct sim_body *to);
void sim_body_finish(struct sim_body *b);

/*
 * Graphs (graph.c).
 */
CUresult sim_graph_check(CUgraph handle, struct sim_graph **ret_graph);
CUresult sim_node_check(CUgraphNode handle, struct sim_node **ret_node);
struct sim_graph *sim_graph_create(void);
void sim_graph_free(struct sim_graph *g);
/* A copy of @g with the same order of nodes. @move: memory nodes are allowed. */
CUresult sim_graph_clone(struct sim_graph *g, struct sim_graph **ret_graph);

/**
 * sim_node_add() - a node with its edges.
 * @b: goes over to the node, also when adding fails
 * @data: edge data, NULL for none
 * Return: CUDA_SUCCESS; CUDA_ERROR_INVALID_VALUE: a dependency is no node of @g, or is there twice.
 */
CUresult sim_node_add(struct sim_graph *g, struct sim_node *const *deps,
		      const CUgraphEdgeData *data, size_t n_deps, struct sim_body *b,
		      struct sim_node **ret_node);
/* Give @n another body, which goes over to it. */
CUresult sim_node_set(struct sim_node *n, struct sim_body *b);

/* User objects that a graph refers to (graph_user.c): freeing gives the references back, copying
 * takes new ones. */
void sim_user_refs_free(struct sim_user_ref *refs);
int sim_user_refs_copy(const struct sim_user_ref *from, struct sim_user_ref **ret_refs);

/*
 * Plans (graph_plan.c): what is instantiated, with child graphs laid out flat. Not changed while
 * more than one refers to it.
 */
struct sim_plan_node {
	struct sim_body body;
	const void *origin;    /* node of the graph that it was made of; never looked into; NULL for
				  those that frame a child graph */
	struct sim_node *node; /* the same, valid only while the plan is being made */
	size_t *deps;	       /* indices, all lower than its own */
	size_t n_deps;
	bool disabled;
	size_t slot; /* MEM_ALLOC: index into sim_plan.slots */
};

/* Physical memory that allocation nodes of one plan use, one after the other. */
struct sim_slot {
	struct sim_device *device;
	uint64_t bytes;
	struct sim_phys *phys; /* NULL before the first launch */
};

struct sim_plan {
	unsigned int refs; /* under sim_executor.lock */
	struct sim_plan_node *nodes;
	size_t n_nodes;
	bool has_memory;
	uint64_t host_bytes; /* that performing it touches */
	bool is_light;	     /* no node waits for the host or runs on it */
	struct sim_user_ref *user_refs;
};

/**
 * sim_plan_make() - lay out a graph.
 * @ret_error: node that is to blame, NULL for none
 * Return: CUDA_SUCCESS; CUDA_ERROR_INVALID_VALUE: a cycle; CUDA_ERROR_OUT_OF_MEMORY.
 */
CUresult sim_plan_make(struct sim_graph *g, struct sim_plan **ret_plan,
		       struct sim_node **ret_error);
/* A copy to be changed; NULL: no memory. */
struct sim_plan *sim_plan_copy(const struct sim_plan *p);
/* Take note of what the nodes do; after changes. */
void sim_plan_refresh(struct sim_plan *p);
/* With the lock held. @p may be NULL. */
void sim_plan_put(struct sim_plan *p);

/*
 * Instantiated graphs (graph_exec.c). What memory needs is in graph_memory.h.
 */
struct sim_graph_exec {
	uint32_t magic;
	unsigned long long flags;
	struct sim_graph
		*graph; /* that it was made of, while that may not be freed: memory nodes */
	struct sim_plan *plan;
	struct sim_mark *last; /* end of the last launch; launches follow each other */
	struct sim_slot *slots;
	size_t n_slots;
	uint64_t charged_id; /* sim_exec.id of the context that is charged for it */
	uint64_t charged_bytes;
};

CUresult sim_graph_exec_check(CUgraphExec handle, struct sim_graph_exec **ret_exec);

#endif /* SIM_GRAPH_H */
