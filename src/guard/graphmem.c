/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that graphs allocate. A node takes nothing when it is added; the device's graph memory
 * grows when the graph is uploaded or launched, and stays until it is trimmed. So a graph is looked
 * through when it becomes executable, its need is reserved before each launch that may grow the
 * device's graph memory, and what the driver then has reserved is charged (space.c).
 *
 * A process in which no allocation ever became a node pays one load for all of this.
 *
 * When we fail: instantiation, upload or launch answer CUDA_ERROR_OUT_OF_MEMORY and nothing runs.
 * A launch that took more than was foreseen cannot be called back: it is charged as there is room.
 */
#include "guard/graphmem.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "guard/gate.h"
#include "guard/guard.h"
#include "guard/lock.h"
#include "guard/movable.h"
#include "guard/space.h"
#include "guard/track.h"
#include "guard/guest.h"

#define MAX_DEPTH 64 /* guess: of graphs in graphs */

/* Need of one executable graph on every device of the fraction. */
struct need {
	uint64_t bytes[AQ_MAX_DEVICES];
	bool elsewhere; /* on a device that is not in the fraction */
};

static uint32_t seen;			    /* atomic: some graph has a node that allocates */
static uint32_t execs;			    /* atomic: entries of class AQ__EXEC and up */
static struct aq__lock lock;		    /* of `spaces` */
static aq__space_id spaces[AQ_MAX_DEVICES]; /* by page index; 0 not made yet */

void aq__graphmem_seen(void)
{
	__atomic_store_n(&seen, 1, __ATOMIC_RELAXED);
}

/* One class for each device, so that a graph has an entry for each that it needs memory on. */
static enum aq__class exec_class(int index)
{
	return (enum aq__class)(AQ__EXEC + index);
}

/* ---- looking through a graph ---- */

static void add_node(CUgraphNode node, struct need *need)
{
	CUDA_MEM_ALLOC_NODE_PARAMS params;
	int index;

	if (AQ__CALL(cuGraphMemAllocNodeGetParams, node, &params) != CUDA_SUCCESS ||
	    params.poolProps.location.type != CU_MEM_LOCATION_TYPE_DEVICE)
		return;
	index = aq__device_index(params.poolProps.location.id);
	if (index == AQ__ABSENT)
		need->elsewhere = true;
	if (index >= 0 &&
	    __builtin_add_overflow(need->bytes[index], params.bytesize, &need->bytes[index]))
		need->bytes[index] = UINT64_MAX; /* fits nowhere */
}

/* Add up what @graph allocates. Return: false when it could not be looked through. */
static bool add_graph(CUgraph graph, struct need *need, int depth)
{
	size_t count = 0, bytes;
	CUgraphNode *nodes;
	bool ok;

	if (depth > MAX_DEPTH || AQ__CALL(cuGraphGetNodes, graph, NULL, &count) != CUDA_SUCCESS)
		return false;
	if (!count)
		return true;
	bytes = count * sizeof(*nodes);
	nodes = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (nodes == MAP_FAILED)
		return false;
	ok = AQ__CALL(cuGraphGetNodes, graph, nodes, &count) == CUDA_SUCCESS;
	for (size_t i = 0; ok && i < count; i++) {
		CUgraphNodeType type;
		CUgraph child;

		if (AQ__CALL(cuGraphNodeGetType, nodes[i], &type) != CUDA_SUCCESS)
			continue;
		if (type == CU_GRAPH_NODE_TYPE_MEM_ALLOC)
			add_node(nodes[i], need);
		else if (type == CU_GRAPH_NODE_TYPE_GRAPH &&
			 AQ__CALL(cuGraphChildGraphNodeGetGraph, nodes[i], &child) == CUDA_SUCCESS)
			ok = add_graph(child, need, depth + 1);
	}
	munmap(nodes, bytes);
	return ok;
}

/* ---- reserving and settling ---- */

static void find_device(CUdevice dev, int index, void *arg)
{
	CUdevice *found = arg;

	if (index == found[0])
		found[1] = dev;
}

static aq__space_id space_of(int index)
{
	CUdevice found[2] = {index, -1};
	aq__space_id id;

	aq__each_device(find_device, found);
	aq__lock(&lock);
	if (!spaces[index] && found[1] >= 0)
		spaces[index] = aq__space_create(NULL, found[1], index);
	id = spaces[index];
	aq__unlock(&lock);
	return id;
}

struct grab {
	aq__space_id id[AQ_MAX_DEVICES]; /* 0: nothing to do there */
	struct aq__space_call call[AQ_MAX_DEVICES];
};

static void let_go(const struct grab *g)
{
	for (int i = 0; i < (int)AQ_MAX_DEVICES; i++)
		aq__space_abort(g->id[i], &g->call[i]);
}

static CUresult grab(struct grab *g, const struct need *need, const char *api)
{
	memset(g, 0, sizeof(*g));
	for (int i = 0; i < (int)AQ_MAX_DEVICES; i++) {
		aq__space_id id = need->bytes[i] ? space_of(i) : 0;
		CUresult r;

		if (!need->bytes[i])
			continue;
		r = id ? aq__space_begin(id, need->bytes[i], api, &g->call[i])
		       : CUDA_ERROR_OUT_OF_MEMORY;
		if (r != CUDA_SUCCESS) {
			let_go(g);
			return r;
		}
		g->id[i] = id;
	}
	return CUDA_SUCCESS;
}

static void settle(const struct grab *g, CUresult r, const char *api)
{
	if (r != CUDA_SUCCESS) {
		let_go(g);
		return;
	}
	for (int i = 0; i < (int)AQ_MAX_DEVICES; i++)
		(void)aq__space_settle(g->id[i], &g->call[i], api);
}

/* ---- executable graphs ---- */

/* Enter what @exec needs; @resident: it has it already. Return: false when there is no memory. */
static bool enter(CUgraphExec exec, const struct need *need, bool resident)
{
	uint32_t trims = __atomic_load_n(&aq__graph_trims, __ATOMIC_RELAXED);

	for (int i = 0; i < (int)AQ_MAX_DEVICES; i++) {
		struct aq__item old, item = {
					     .key = (uintptr_t)exec,
					     .class = exec_class(i),
					     .index = (int16_t)i,
					     .bytes = need->bytes[i],
					     .refs = resident ? trims : 0,
				     };

		if (!need->bytes[i])
			continue;
		if (!aq__track_put(&item, &old))
			return false;
		if (!old.class)
			__atomic_fetch_add(&execs, 1, __ATOMIC_RELAXED);
	}
	return true;
}

/* What @exec needs that it may not have yet. Return: whether there is anything. */
static bool need_of(CUgraphExec exec, struct need *need)
{
	uint32_t trims = __atomic_load_n(&aq__graph_trims, __ATOMIC_RELAXED);
	struct aq__item item;
	bool any = false;

	memset(need, 0, sizeof(*need));
	if (!exec)
		return false;
	for (int i = 0; i < (int)AQ_MAX_DEVICES; i++) {
		if (aq__track_get(exec_class(i), (uintptr_t)exec, &item) && item.refs != trims) {
			need->bytes[i] = item.bytes;
			any = true;
		}
	}
	return any;
}

/* Look through @graph; without need, nothing is to be done before or after. */
static bool look(CUgraph graph, struct need *need, CUresult *ret)
{
	int saved = errno;

	memset(need, 0, sizeof(*need));
	*ret = CUDA_SUCCESS;
	if (!graph || !aq__page_get() || !__atomic_load_n(&seen, __ATOMIC_RELAXED))
		return false;
	if (!add_graph(graph, need, 0) || need->elsewhere)
		*ret = CUDA_ERROR_OUT_OF_MEMORY;
	errno = saved;
	return true;
}

/* What follows an instantiation. */
static CUresult made(CUresult r, CUgraphExec *exec, bool looked, const struct need *need,
		     bool resident)
{
	struct aq__place p;

	if (r != CUDA_SUCCESS)
		return r;
	if (looked && !enter(*exec, need, resident)) {
		(void)cuGraphExecDestroy(*exec);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	/* Executable graphs take a little device memory of their own. */
	aq__place_here(&p);
	aq__unmeasured(p.index);
	return r;
}

/* CHARGE: when uploaded or launched. A graph that is too large is refused then, not here. */
#define HOOK_INSTANTIATE(sym, params, exec, graph, ...)                                            \
	CUresult sym params                                                                        \
	{                                                                                          \
		struct need need;                                                                  \
		CUresult r;                                                                        \
		bool looked = look(graph, &need, &r);                                              \
                                                                                                   \
		if (r != CUDA_SUCCESS)                                                             \
			return r;                                                                  \
		return made(AQ__RESIDENT(sym, __VA_ARGS__), exec, looked, &need, false);           \
	}

HOOK_INSTANTIATE(cuGraphInstantiate,
		 (CUgraphExec *exec, CUgraph graph, CUgraphNode *node, char *log, size_t size),
		 exec, graph, exec, graph, node, log, size)
HOOK_INSTANTIATE(cuGraphInstantiate_v2,
		 (CUgraphExec *exec, CUgraph graph, CUgraphNode *node, char *log, size_t size),
		 exec, graph, exec, graph, node, log, size)
HOOK_INSTANTIATE(cuGraphInstantiateWithFlags,
		 (CUgraphExec *exec, CUgraph graph, unsigned long long flags), exec, graph, exec,
		 graph, flags)

/* CHARGE: here an upload may be part of it. */
#define HOOK_INSTANTIATE_PARAMS(sym)                                                               \
	CUresult sym(CUgraphExec *exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *params)      \
	{                                                                                          \
		struct need need;                                                                  \
		struct grab g;                                                                     \
		CUresult r;                                                                        \
		bool looked = look(graph, &need, &r);                                              \
		bool upload = params && (params->flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD);      \
                                                                                                   \
		if (r != CUDA_SUCCESS)                                                             \
			return r;                                                                  \
		if (!looked || !upload)                                                            \
			return made(AQ__RESIDENT(sym, exec, graph, params), exec, looked, &need,   \
				    false);                                                        \
		r = grab(&g, &need, #sym);                                                         \
		if (r != CUDA_SUCCESS)                                                             \
			return r;                                                                  \
		r = AQ__CALL(sym, exec, graph, params);                                            \
		settle(&g, r, #sym);                                                               \
		return made(r, exec, looked, &need, true);                                         \
	}

HOOK_INSTANTIATE_PARAMS(cuGraphInstantiateWithParams)
HOOK_INSTANTIATE_PARAMS(cuGraphInstantiateWithParams_ptsz)

typedef CUresult run_fn(CUgraphExec exec, CUstream stream);

/* Upload or launch a graph that may need memory. */
static CUresult run(run_fn *real, CUgraphExec exec, CUstream stream, bool per_thread,
		    const char *api)
{
	struct need need;
	struct grab g;
	CUresult r;

	/* In a capture both are nodes, or errors: nothing happens yet. */
	if (!need_of(exec, &need) || aq__capturing(stream, per_thread))
		return real(exec, stream);
	r = grab(&g, &need, api);
	if (r != CUDA_SUCCESS)
		return r;
	r = real(exec, stream);
	settle(&g, r, api);
	if (r == CUDA_SUCCESS)
		(void)enter(exec, &need, true);
	return r;
}

static CUresult run_or_pass(run_fn *real, CUgraphExec exec, CUstream stream, bool per_thread,
			    const char *api)
{
	if (!real)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (__builtin_expect(__atomic_load_n(&execs, __ATOMIC_RELAXED) != 0, 0))
		return run(real, exec, stream, per_thread, api);
	return real(exec, stream);
}

/* CHARGE: uploading computes nothing, so no gate. */
#define HOOK_UPLOAD(sym, per_thread)                                                               \
	CUresult sym(CUgraphExec exec, CUstream stream)                                            \
	{                                                                                          \
		return run_or_pass(AQ__REAL(sym), exec, stream, per_thread, #sym);                 \
	}

HOOK_UPLOAD(cuGraphUpload, false)
HOOK_UPLOAD(cuGraphUpload_ptsz, true)

/* SUBMIT. */
#define HOOK_LAUNCH(sym, per_thread)                                                               \
	static __attribute__((cold, noinline)) CUresult gated_##sym(CUgraphExec exec,              \
								    CUstream stream)               \
	{                                                                                          \
		struct aq__pass pass;                                                              \
		CUresult r;                                                                        \
                                                                                                   \
		if (aq__quick_enter()) {                                                           \
			r = run_or_pass(AQ__REAL(sym), exec, stream, per_thread, #sym);            \
			aq__calls_leave();                                                         \
			return r;                                                                  \
		}                                                                                  \
		aq__gate_enter(&pass, stream, per_thread, exec, 0);                                \
		r = run_or_pass(AQ__REAL(sym), exec, stream, per_thread, #sym);                    \
		aq__gate_leave(&pass, r);                                                          \
		return r;                                                                          \
	}                                                                                          \
	CUresult sym(CUgraphExec exec, CUstream stream)                                            \
	{                                                                                          \
		CUresult r;                                                                        \
                                                                                                   \
		if (__builtin_expect(aq__gate_open(), 1))                                          \
			return run_or_pass(AQ__REAL(sym), exec, stream, per_thread, #sym);         \
		if (__builtin_expect(!aq__quick_known(), 0))                                       \
			return gated_##sym(exec, stream);                                          \
		r = run_or_pass(AQ__REAL(sym), exec, stream, per_thread, #sym);                    \
		aq__calls_leave();                                                                 \
		return r;                                                                          \
	}

HOOK_LAUNCH(cuGraphLaunch, false)
HOOK_LAUNCH(cuGraphLaunch_ptsz, true)

/* RELEASE: of the entry; the memory stays the device's graph memory until it is trimmed. */
CUresult cuGraphExecDestroy(CUgraphExec exec)
{
	struct aq__item items[AQ_MAX_DEVICES], old;
	bool known[AQ_MAX_DEVICES] = {false};
	bool any = exec && __atomic_load_n(&execs, __ATOMIC_RELAXED);
	CUresult r;

	for (int i = 0; any && i < (int)AQ_MAX_DEVICES; i++)
		known[i] = aq__track_take(exec_class(i), (uintptr_t)exec, &items[i]);
	r = AQ__CALL(cuGraphExecDestroy, exec);
	for (int i = 0; any && i < (int)AQ_MAX_DEVICES; i++) {
		if (!known[i])
			continue;
		if (r == CUDA_SUCCESS)
			__atomic_fetch_sub(&execs, 1, __ATOMIC_RELAXED);
		else
			(void)aq__track_put(&items[i], &old);
	}
	if (any && r == CUDA_SUCCESS)
		aq__pools_mark_dirty();
	return r;
}

/* RELEASE. */
CUresult cuDeviceGraphMemTrim(CUdevice dev)
{
	CUresult r = AQ__CALL(cuDeviceGraphMemTrim, dev);

	if (r == CUDA_SUCCESS) {
		__atomic_fetch_add(&aq__graph_trims, 1, __ATOMIC_RELAXED);
		aq__pools_mark_dirty();
		aq__synchronised();
	}
	return r;
}

/* ---- nodes ---- */

CUresult cuGraphAddMemAllocNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps,
				size_t ndeps, CUDA_MEM_ALLOC_NODE_PARAMS *params)
{
	aq__graphmem_seen();
	return AQ__CALL(cuGraphAddMemAllocNode, node, graph, deps, ndeps, params);
}

CUresult cuGraphAddMemFreeNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps,
			       size_t ndeps, CUdeviceptr dptr)
{
	return AQ__CALL(cuGraphAddMemFreeNode, node, graph, deps, ndeps, dptr);
}

CUresult cuGraphAddNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps, size_t ndeps,
			CUgraphNodeParams *params)
{
	if (params && params->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC)
		aq__graphmem_seen();
	return AQ__RESIDENT(cuGraphAddNode, node, graph, deps, ndeps, params);
}

CUresult cuGraphAddNode_v2(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps,
			   const CUgraphEdgeData *edges, size_t ndeps, CUgraphNodeParams *params)
{
	if (params && params->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC)
		aq__graphmem_seen();
	return AQ__RESIDENT(cuGraphAddNode_v2, node, graph, deps, edges, ndeps, params);
}

/* LIFECYCLE: a graph itself takes no device memory; what it needs is read when it is made
 * executable, so that nothing has to be kept about graphs that are built, cloned or thrown away. */
CUresult cuGraphCreate(CUgraph *graph, unsigned int flags)
{
	return AQ__CALL(cuGraphCreate, graph, flags);
}

CUresult cuGraphClone(CUgraph *clone, CUgraph original)
{
	return AQ__CALL(cuGraphClone, clone, original);
}

CUresult cuGraphDestroy(CUgraph graph)
{
	return AQ__CALL(cuGraphDestroy, graph);
}

CUresult cuGraphDestroyNode(CUgraphNode node)
{
	return AQ__CALL(cuGraphDestroyNode, node);
}

void aq__graphmem_forked(void)
{
	seen = 0;
	execs = 0;
	aq__lock_reset(&lock);
	memset(spaces, 0, sizeof(spaces));
}
