/* SPDX-License-Identifier: Apache-2.0 */
/* Copies, costs and bytes of tasks; see task.h. When a task is done is decided elsewhere. */
#include "task.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "exec.h"
#include "graph_run.h"
#include "module.h"

#include "base/banned.h"

static void *dup_bytes(const void *from, size_t bytes)
{
	void *to = malloc(bytes ? bytes : 1);

	if (to)
		memcpy(to, from, bytes);
	return to;
}

int sim_task_dup(struct sim_task *to, struct sim_task *from)
{
	struct sim_task t = *from;

	switch (from->kind) {
	case SIM_TASK_KERNEL:
		t.kernel.params = dup_bytes(from->kernel.params, from->kernel.param_bytes);
		if (!t.kernel.params)
			return -ENOMEM;
		sim_function_get(t.kernel.function);
		break;
	case SIM_TASK_COPY:
		from->copy.staged = NULL; /* moved */
		break;
	case SIM_TASK_MEMOPS:
		t.memops.ops =
			dup_bytes(from->memops.ops, from->memops.count * sizeof(*from->memops.ops));
		if (!t.memops.ops)
			return -ENOMEM;
		break;
	case SIM_TASK_RECORD:
	case SIM_TASK_WAIT:
		sim_mark_get(t.mark);
		break;
	case SIM_TASK_GRAPH:
		from->graph = NULL; /* moved */
		break;
	default:
		break;
	}
	*to = t;
	return 0;
}

void sim_task_finish(struct sim_task *t)
{
	switch (t->kind) {
	case SIM_TASK_KERNEL:
		free(t->kernel.params);
		sim_function_put(t->kernel.function);
		break;
	case SIM_TASK_COPY:
		free(t->copy.staged);
		break;
	case SIM_TASK_MEMOPS:
		free(t->memops.ops);
		break;
	case SIM_TASK_RECORD:
	case SIM_TASK_WAIT:
		sim_mark_put(t->mark);
		break;
	case SIM_TASK_GRAPH:
		sim_graph_run_free(t->graph);
		break;
	default:
		break;
	}
	t->kind = SIM_TASK_EMPTY;
}

static uint64_t copy_bytes(const struct sim_copy_task *c)
{
	return (uint64_t)c->width_bytes * c->height * c->depth;
}

static uint64_t set_bytes(const struct sim_set_task *s)
{
	return (uint64_t)s->width * s->height * s->elem_bytes;
}

static uint64_t kernel_cost_ns(const struct sim_device *device, const struct sim_kernel_task *k)
{
	const struct sim_kernel *known = k->function->known;
	uint64_t bytes = 0, flops = 0, fixed_ns = 0;

	if (!known)
		return sim_kernel_unknown_ns();
	known->cost(k, &bytes, &flops, &fixed_ns);
	if (fixed_ns)
		return fixed_ns;
	return sim_cost_kernel(device, bytes, flops) +
	       known->overhead_cycles * UINT64_C(1000000) / device->profile->clock_khz;
}

uint64_t sim_task_cost_ns(const struct sim_device *device, const struct sim_task *t)
{
	switch (t->kind) {
	case SIM_TASK_KERNEL:
		return kernel_cost_ns(device, &t->kernel);
	case SIM_TASK_COPY: /* each byte is read and written */
		return sim_cost_kernel(device, 2 * copy_bytes(&t->copy), 0);
	case SIM_TASK_SET:
		return sim_cost_kernel(device, set_bytes(&t->set), 0);
	default:
		return 0;
	}
}

uint64_t sim_task_host_bytes(const struct sim_task *t)
{
	const struct sim_kernel *known;
	uint64_t bytes = 0, flops = 0, fixed_ns = 0;

	switch (t->kind) {
	case SIM_TASK_KERNEL:
		known = t->kernel.function->known;
		if (!known || !known->compute)
			return 0;
		known->cost(&t->kernel, &bytes, &flops, &fixed_ns);
		return bytes;
	case SIM_TASK_COPY:
		return copy_bytes(&t->copy);
	case SIM_TASK_SET:
		return set_bytes(&t->set);
	default:
		return 0;
	}
}

CUresult sim_task_perform(const struct sim_task *t)
{
	const struct sim_kernel *known;

	switch (t->kind) {
	case SIM_TASK_KERNEL:
		known = t->kernel.function->known;
		return known && known->compute ? known->compute(&t->kernel) : CUDA_SUCCESS;
	case SIM_TASK_COPY:
		if (t->copy.height == 1 && t->copy.depth == 1 && !t->copy.dst.array &&
		    !t->copy.src.array)
			return sim_bytes_copy(t->copy.dst.address + t->copy.dst.x_bytes,
					      t->copy.src.address + t->copy.src.x_bytes,
					      t->copy.width_bytes);
		return sim_bytes_copy3d(&t->copy.dst, &t->copy.src, t->copy.width_bytes,
					t->copy.height, t->copy.depth);
	case SIM_TASK_SET:
		if (t->set.height == 1)
			return sim_bytes_fill(t->set.dst, t->set.value, t->set.elem_bytes,
					      t->set.width);
		return sim_bytes_fill2d(t->set.dst, t->set.pitch, t->set.value, t->set.elem_bytes,
					t->set.width, t->set.height);
	default:
		return CUDA_SUCCESS;
	}
}
