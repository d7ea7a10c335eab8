/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that use no memory but look at it: the driver checks the addresses that graph nodes and
 * textures are made of, and would refuse those of memory that is away. They bring it back first.
 *
 * When we fail: nothing here can.
 */
#include "guard/gate.h"
#include "guard/movable.h"
#include "guard/guest.h"

/* WATCH. */
#define HOOK_RESIDENT(sym, params, ...)                                                            \
	CUresult sym params                                                                        \
	{                                                                                          \
		return AQ__RESIDENT(sym, __VA_ARGS__);                                             \
	}

HOOK_RESIDENT(cuGraphAddMemcpyNode, (CUgraphNode *node, CUgraph graph, const CUgraphNode *deps, size_t ndeps, const CUDA_MEMCPY3D *params, CUcontext ctx), node, graph, deps, ndeps, params, ctx)
HOOK_RESIDENT(cuGraphAddMemsetNode, (CUgraphNode *node, CUgraph graph, const CUgraphNode *deps, size_t ndeps, const CUDA_MEMSET_NODE_PARAMS *params, CUcontext ctx), node, graph, deps, ndeps, params, ctx)
HOOK_RESIDENT(cuGraphExecMemcpyNodeSetParams, (CUgraphExec exec, CUgraphNode node, const CUDA_MEMCPY3D *params, CUcontext ctx), exec, node, params, ctx)
HOOK_RESIDENT(cuGraphExecMemsetNodeSetParams, (CUgraphExec exec, CUgraphNode node, const CUDA_MEMSET_NODE_PARAMS *params, CUcontext ctx), exec, node, params, ctx)
HOOK_RESIDENT(cuGraphExecNodeSetParams, (CUgraphExec exec, CUgraphNode node, CUgraphNodeParams *params), exec, node, params)
HOOK_RESIDENT(cuGraphExecUpdate, (CUgraphExec exec, CUgraph graph, CUgraphNode *ret_error_node, CUgraphExecUpdateResult *result), exec, graph, ret_error_node, result)
HOOK_RESIDENT(cuGraphExecUpdate_v2, (CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo *result_info), exec, graph, result_info)
HOOK_RESIDENT(cuGraphMemcpyNodeSetParams, (CUgraphNode node, const CUDA_MEMCPY3D *params), node, params)
HOOK_RESIDENT(cuGraphMemsetNodeSetParams, (CUgraphNode node, const CUDA_MEMSET_NODE_PARAMS *params), node, params)
HOOK_RESIDENT(cuGraphNodeSetParams, (CUgraphNode node, CUgraphNodeParams *params), node, params)
HOOK_RESIDENT(cuTexObjectCreate, (CUtexObject *tex_object, const CUDA_RESOURCE_DESC *res_desc, const CUDA_TEXTURE_DESC *tex_desc, const CUDA_RESOURCE_VIEW_DESC *res_view_desc), tex_object, res_desc, tex_desc, res_view_desc)
HOOK_RESIDENT(cuTexRefSetAddress2D_v2, (CUtexref tex_ref, const CUDA_ARRAY_DESCRIPTOR *desc, CUdeviceptr dptr, size_t pitch), tex_ref, desc, dptr, pitch)
HOOK_RESIDENT(cuTexRefSetAddress2D_v3, (CUtexref tex_ref, const CUDA_ARRAY_DESCRIPTOR *desc, CUdeviceptr dptr, size_t pitch), tex_ref, desc, dptr, pitch)
HOOK_RESIDENT(cuTexRefSetAddress_v2, (size_t *offset, CUtexref tex_ref, CUdeviceptr dptr, size_t bytes), offset, tex_ref, dptr, bytes)
