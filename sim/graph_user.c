/* SPDX-License-Identifier: Apache-2.0 */
/* User objects: things of the program that live as long as graphs refer to them. */
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "exec.h"
#include "graph.h"
#include "sim.h"

#include "base/banned.h"

struct sim_user_object {
	uint32_t magic;
	atomic_uint refs;
	void *ptr;
	CUhostFn destroy;
};

static CUresult object_check(CUuserObject handle, struct sim_user_object **ret_object)
{
	struct sim_user_object *o = (struct sim_user_object *)handle;

	if ((uintptr_t)handle < 4096 || o->magic != SIM_USER_OBJECT_MAGIC)
		return CUDA_ERROR_INVALID_VALUE;
	*ret_object = o;
	return CUDA_SUCCESS;
}

static void *destroy_main(void *arg)
{
	struct sim_user_object *o = arg;

	o->destroy(o->ptr);
	o->magic = 0;
	free(o);
	return NULL;
}

/* The destructor runs on a thread of the driver, at no moment in particular: whoever gives up the
 * last reference may hold locks. */
static void object_put(struct sim_user_object *o, unsigned int count)
{
	if (atomic_fetch_sub_explicit(&o->refs, count, memory_order_acq_rel) != count)
		return;
	if (sim_thread_start(destroy_main, o) < 0)
		destroy_main(o); /* late is worse than here */
}

void sim_user_refs_free(struct sim_user_ref *refs)
{
	while (refs) {
		struct sim_user_ref *next = refs->next;

		object_put(refs->object, refs->count);
		free(refs);
		refs = next;
	}
}

int sim_user_refs_copy(const struct sim_user_ref *from, struct sim_user_ref **ret_refs)
{
	struct sim_user_ref *head = NULL;

	for (; from; from = from->next) {
		struct sim_user_ref *ref = malloc(sizeof(*ref));

		if (!ref) {
			sim_user_refs_free(head);
			return -ENOMEM;
		}
		*ref = (struct sim_user_ref){.next = head, .object = from->object, .count = 1};
		atomic_fetch_add_explicit(&ref->object->refs, 1, memory_order_relaxed);
		head = ref;
	}
	*ret_refs = head;
	return 0;
}

CUresult cuUserObjectCreate(CUuserObject *object, void *ptr, CUhostFn destroy, unsigned int refs,
			    unsigned int flags)
{
	struct sim_user_object *o;

	SIM_ENTER();
	/* The flag is not optional: destructors are not waited for. */
	if (!object || !destroy || !refs || refs > INT_MAX ||
	    flags != CU_USER_OBJECT_NO_DESTRUCTOR_SYNC)
		return CUDA_ERROR_INVALID_VALUE;
	o = calloc(1, sizeof(*o));
	if (!o)
		return CUDA_ERROR_OUT_OF_MEMORY;
	o->magic = SIM_USER_OBJECT_MAGIC;
	atomic_init(&o->refs, refs);
	o->ptr = ptr;
	o->destroy = destroy;
	*object = (CUuserObject)o;
	return CUDA_SUCCESS;
}

CUresult cuUserObjectRetain(CUuserObject object, unsigned int count)
{
	struct sim_user_object *o;
	CUresult r;

	SIM_ENTER();
	r = object_check(object, &o);
	if (r != CUDA_SUCCESS)
		return r;
	if (!count || count > INT_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	atomic_fetch_add_explicit(&o->refs, count, memory_order_relaxed);
	return CUDA_SUCCESS;
}

CUresult cuUserObjectRelease(CUuserObject object, unsigned int count)
{
	struct sim_user_object *o;
	CUresult r;

	SIM_ENTER();
	r = object_check(object, &o);
	if (r != CUDA_SUCCESS)
		return r;
	if (!count || count > INT_MAX || count > atomic_load(&o->refs))
		return CUDA_ERROR_INVALID_VALUE;
	object_put(o, count);
	return CUDA_SUCCESS;
}

CUresult cuGraphRetainUserObject(CUgraph graph, CUuserObject object, unsigned int count,
				 unsigned int flags)
{
	struct sim_user_ref *ref;
	struct sim_user_object *o;
	struct sim_graph *g;
	CUresult r;

	SIM_ENTER();
	r = sim_graph_check(graph, &g);
	if (r == CUDA_SUCCESS)
		r = object_check(object, &o);
	if (r != CUDA_SUCCESS)
		return r;
	if (!count || count > INT_MAX || flags & ~(unsigned int)CU_GRAPH_USER_OBJECT_MOVE)
		return CUDA_ERROR_INVALID_VALUE;
	for (ref = g->user_refs; ref && ref->object != o; ref = ref->next)
		;
	if (!ref) {
		ref = calloc(1, sizeof(*ref));
		if (!ref)
			return CUDA_ERROR_OUT_OF_MEMORY;
		ref->object = o;
		ref->next = g->user_refs;
		g->user_refs = ref;
	}
	ref->count += count;
	if (!(flags & CU_GRAPH_USER_OBJECT_MOVE))
		atomic_fetch_add_explicit(&o->refs, count, memory_order_relaxed);
	return CUDA_SUCCESS;
}

CUresult cuGraphReleaseUserObject(CUgraph graph, CUuserObject object, unsigned int count)
{
	struct sim_user_ref **at;
	struct sim_user_object *o;
	struct sim_graph *g;
	CUresult r;

	SIM_ENTER();
	r = sim_graph_check(graph, &g);
	if (r == CUDA_SUCCESS)
		r = object_check(object, &o);
	if (r != CUDA_SUCCESS)
		return r;
	for (at = &g->user_refs; *at && (*at)->object != o; at = &(*at)->next)
		;
	if (!*at || !count || count > (*at)->count)
		return CUDA_ERROR_INVALID_VALUE;
	(*at)->count -= count;
	if (!(*at)->count) {
		struct sim_user_ref *gone = *at;

		*at = gone->next;
		free(gone);
	}
	object_put(o, count);
	return CUDA_SUCCESS;
}
