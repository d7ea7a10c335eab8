/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of graphs. An allocation node has its address from the moment it is made; memory comes to
 * the address when an instantiated graph is launched or uploaded for the first time, from its
 * device's graph pool, and goes back to the pool with the instantiated graph, or when what the
 * graph left allocated is freed. Trimming gives the pool's spare memory back to the device.
 */
#ifndef SIM_GRAPH_MEMORY_H
#define SIM_GRAPH_MEMORY_H

#include "graph.h"
#include "sim.h"

/**
 * sim_graph_alloc_create() - address and record for an allocation node.
 * Return: CUDA_SUCCESS with one reference; CUDA_ERROR_INVALID_VALUE; CUDA_ERROR_OUT_OF_MEMORY (no
 * addresses).
 */
CUresult sim_graph_alloc_create(CUDA_MEM_ALLOC_NODE_PARAMS *p, struct sim_graph_alloc **ret_alloc);
/* The allocation of a graph that begins at @address, with a new reference; NULL: none does. */
struct sim_graph_alloc *sim_graph_alloc_find(CUdeviceptr address);
struct sim_graph_alloc *sim_graph_alloc_get(struct sim_graph_alloc *a);
void sim_graph_alloc_put(struct sim_graph_alloc *a);
CUdeviceptr sim_graph_alloc_address(const struct sim_graph_alloc *a);
void sim_graph_alloc_params(const struct sim_graph_alloc *a, CUDA_MEM_ALLOC_NODE_PARAMS *ret);

/* Decide which allocations of a plan share memory, for a new instantiated graph. */
CUresult sim_graph_memory_instantiate(struct sim_graph_exec *x);
/* Give the addresses memory. CUDA_ERROR_OUT_OF_MEMORY. */
CUresult sim_graph_memory_map(struct sim_graph_exec *x);
/* Before a launch: what the plan allocates must not be allocated still, unless it is freed on
 * launch by flag. CUDA_ERROR_INVALID_VALUE. Then account for what the launch allocates and frees.
 */
CUresult sim_graph_memory_launch(struct sim_graph_exec *x);
/* The instantiated graph goes away, with no launch under way. */
void sim_graph_memory_release(struct sim_graph_exec *x);

/* The graph is destroyed; an instantiated one that stands on it goes on alone. */
void sim_graph_memory_detach(struct sim_graph *g);

/* The context goes away; its graphs' memory stays with the device. */
void sim_graph_memory_context_gone(struct sim_context *ctx);

#endif /* SIM_GRAPH_MEMORY_H */
