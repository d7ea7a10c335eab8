/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts: making and ending them, the stack of each thread. What can be asked of one is in
 * ctxprops.c, primary contexts in primary.c. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/timing.h"
#include "context.h"
#include "memory.h"
#include "base/banned.h"

struct stack {
	unsigned int n;
	struct sim_context *contexts[SIM_CONTEXT_STACK];
};

static __thread struct stack stack;
static pthread_key_t stack_key; /* its destructor lets the stack of an ending thread go */
static pthread_once_t stack_once = PTHREAD_ONCE_INIT;

/* What a context starts with. Source: CUDA driver API, cuCtxSetLimit; values as real cards answer.
 * The L2 fetch granularity is a guess between the 0 to 128 allowed. */
static const size_t default_limits[SIM_LIMITS] = {
	[CU_LIMIT_STACK_SIZE] = 1024,
	[CU_LIMIT_PRINTF_FIFO_SIZE] = 1 << 20,
	[CU_LIMIT_MALLOC_HEAP_SIZE] = 8 << 20,
	[CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH] = 2,
	[CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT] = 2048,
	[CU_LIMIT_MAX_L2_FETCH_GRANULARITY] = 64,
};

/* Under sim.lock. A primary context's memory is kept for its device for ever. */
static void put(struct sim_context *ctx)
{
	if (--ctx->refs == 0 && !ctx->primary) {
		ctx->magic = 0;
		free(ctx);
	}
}

static void drop_stack(void *arg)
{
	struct stack *s = arg;

	if (!sim_is_alive())
		return; /* in a forked child the lock may be anybody's */
	sim_lock_process();
	while (s->n)
		put(s->contexts[--s->n]);
	sim_unlock_process();
}

static void make_key(void)
{
	pthread_key_create(&stack_key, drop_stack);
}

/* Under sim.lock. */
static CUresult push(struct sim_context *ctx)
{
	if (stack.n == SIM_CONTEXT_STACK)
		return CUDA_ERROR_OUT_OF_MEMORY;
	pthread_once(&stack_once, make_key);
	pthread_setspecific(stack_key, &stack);
	stack.contexts[stack.n++] = ctx;
	ctx->refs++;
	return CUDA_SUCCESS;
}

struct sim_context *sim_current(void)
{
	return stack.n ? stack.contexts[stack.n - 1] : NULL;
}

static CUresult check_live(struct sim_context *ctx)
{
	if (__atomic_load_n(&ctx->destroyed, __ATOMIC_ACQUIRE))
		return CUDA_ERROR_CONTEXT_IS_DESTROYED;
	return __atomic_load_n(&ctx->sticky, __ATOMIC_RELAXED);
}

CUresult sim_current_live(struct sim_context **ret_ctx)
{
	struct sim_context *ctx = sim_current();

	if (!ctx)
		return CUDA_ERROR_INVALID_CONTEXT;
	*ret_ctx = ctx;
	return check_live(ctx);
}

/* Whether @ctx is a context at all, without looking into it. Under sim.lock. */
static bool is_known(const struct sim_context *ctx)
{
	struct sim_context *c, *tmp;

	AQ_LIST_FOREACH (c, tmp, &sim.contexts, link) {
		if (c == ctx)
			return true;
	}
	for (unsigned int i = 0; i < stack.n; i++) {
		if (stack.contexts[i] == ctx)
			return true; /* destroyed, perhaps */
	}
	return false;
}

CUresult sim_context_check(CUcontext handle, struct sim_context **ret_ctx)
{
	struct sim_context *ctx = sim_context_of(handle);
	CUresult r = CUDA_ERROR_INVALID_CONTEXT;

	if (!ctx)
		return sim_current_live(ret_ctx);
	sim_lock_process();
	if (is_known(ctx)) {
		*ret_ctx = ctx;
		r = check_live(ctx);
	}
	sim_unlock_process();
	return r;
}

struct sim_context *sim_context_any(struct sim_device *device)
{
	struct sim_context *c, *tmp, *found = NULL;

	sim_lock_process();
	if (device->primary && !device->primary->destroyed)
		found = device->primary;
	AQ_LIST_FOREACH (c, tmp, &sim.contexts, link) {
		if (!found && c->device == device)
			found = c;
	}
	sim_unlock_process();
	return found;
}

static CUresult attach_engine(struct sim_context *ctx)
{
	uint32_t device = ctx->device->index, process = sim.machine.self;
	struct sim_engine *e;
	int r;

	e = sim_engine_lock(&sim.machine, device);
	sim.machine.shared->processes[process].on[device].touched = 1;
	r = sim_engine_attach(e, process, getpid(), &ctx->engine_index);
	sim_engine_unlock(&sim.machine, device);
	return r < 0 ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

static void detach_engine(struct sim_context *ctx)
{
	uint32_t device = ctx->device->index;
	struct sim_process_share *share =
		&sim.machine.shared->processes[sim.machine.self].on[device];
	struct sim_engine *e = sim_engine_lock(&sim.machine, device);

	sim_engine_advance(e, aq_now_ns());
	share->gpu_time_ns += e->contexts[ctx->engine_index].busy_ns;
	sim_engine_detach(e, ctx->engine_index, aq_now_ns());
	sim_engine_unlock(&sim.machine, device);
}

/* Bring a zeroed or ended context to life. Without a lock. */
CUresult sim_context_activate(struct sim_context *ctx, struct sim_device *device,
			      unsigned int flags)
{
	CUresult r = sim_device_map(device);

	if (r != CUDA_SUCCESS)
		return r;
	ctx->magic = SIM_CONTEXT_MAGIC;
	ctx->flags = flags;
	ctx->api_version = 3020; /* what drivers answer since that version */
	ctx->device = device;
	ctx->attached = 1;
	ctx->cache_config = CU_FUNC_CACHE_PREFER_NONE;
	ctx->shared_config = CU_SHARED_MEM_CONFIG_FOUR_BYTE_BANK_SIZE;
	memcpy(ctx->limits, default_limits, sizeof(ctx->limits));
	ctx->peers = 0;
	ctx->sticky = CUDA_SUCCESS;
	ctx->overhead_bytes = 0;
	aq_list_init(&ctx->allocs);
	if (sim_overhead_charge(&sim.machine, device->index, device->profile->context_bytes) < 0)
		return CUDA_ERROR_OUT_OF_MEMORY;
	ctx->overhead_bytes = device->profile->context_bytes;
	r = attach_engine(ctx);
	if (r == CUDA_SUCCESS) {
		r = sim_exec_context_create(ctx);
		if (r != CUDA_SUCCESS)
			detach_engine(ctx);
	}
	if (r != CUDA_SUCCESS) {
		sim_overhead_release(&sim.machine, device->index, ctx->overhead_bytes);
		return r;
	}
	sim_lock_process();
	ctx->id = sim.next_context_id++;
	ctx->refs++;
	__atomic_store_n(&ctx->destroyed, false, __ATOMIC_RELEASE);
	aq_list_append(&sim.contexts, &ctx->link);
	sim_unlock_process();
	return CUDA_SUCCESS;
}

/* End a context; the caller took it off what made it reachable. Without a lock. */
void sim_context_deactivate(struct sim_context *ctx)
{
	sim_exec_context_destroy(ctx);
	sim_memory_end_context(ctx);
	detach_engine(ctx);
	sim_overhead_release(&sim.machine, ctx->device->index, ctx->overhead_bytes);
	ctx->overhead_bytes = 0;
	sim_lock_process();
	put(ctx);
	sim_unlock_process();
}

/* Take a live context out of the list, so that only one thread ends it. */
bool sim_context_claim(struct sim_context *ctx)
{
	bool mine;

	sim_lock_process();
	mine = is_known(ctx) && !ctx->destroyed;
	if (mine) {
		aq_list_remove(&ctx->link);
		__atomic_store_n(&ctx->destroyed, true, __ATOMIC_RELEASE);
	}
	sim_unlock_process();
	return mine;
}

bool sim_context_flags_valid(unsigned int flags)
{
	unsigned int sched = flags & CU_CTX_SCHED_MASK;

	return !(flags & ~(unsigned int)CU_CTX_FLAGS_MASK) && (sched & (sched - 1)) == 0;
}

static CUresult create(CUcontext *ret, unsigned int flags, CUdevice dev)
{
	struct sim_device *device = sim_device_get(dev);
	struct sim_context *ctx;
	CUresult r;

	if (!ret || !sim_context_flags_valid(flags))
		return CUDA_ERROR_INVALID_VALUE;
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	ctx = calloc(1, sizeof(*ctx));
	if (!ctx)
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = sim_context_activate(ctx, device, flags);
	if (r != CUDA_SUCCESS) {
		free(ctx);
		return r;
	}
	sim_lock_process();
	r = push(ctx);
	sim_unlock_process();
	if (r != CUDA_SUCCESS) {
		if (sim_context_claim(ctx))
			sim_context_deactivate(ctx);
		return r;
	}
	*ret = sim_context_handle(ctx);
	return CUDA_SUCCESS;
}

CUresult cuCtxCreate(CUcontext *ctx, unsigned int flags, CUdevice dev)
{
	SIM_ENTER();
	return create(ctx, flags, dev);
}

CUresult cuCtxCreate_v2(CUcontext *ctx, unsigned int flags, CUdevice dev)
{
	SIM_ENTER();
	return create(ctx, flags, dev);
}

/* A share of the SMs is something of MPS, which is not simulated. */
CUresult cuCtxCreate_v3(CUcontext *ctx, CUexecAffinityParam *params, int n_params,
			unsigned int flags, CUdevice dev)
{
	SIM_ENTER();
	if (n_params < 0 || (n_params > 0 && !params))
		return CUDA_ERROR_INVALID_VALUE;
	if (n_params > 0)
		return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
	return create(ctx, flags, dev);
}

CUresult cuCtxCreate_v4(CUcontext *ctx, CUctxCreateParams *params, unsigned int flags, CUdevice dev)
{
	SIM_ENTER();
	if (params && params->cigParams)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (params && params->numExecAffinityParams > 0)
		return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
	return create(ctx, flags, dev);
}

static CUresult destroy(CUcontext handle)
{
	struct sim_context *ctx = sim_context_of(handle);

	if (!ctx)
		return CUDA_ERROR_INVALID_VALUE;
	sim_lock_process();
	if (!is_known(ctx) || ctx->primary) {
		sim_unlock_process();
		return CUDA_ERROR_INVALID_CONTEXT;
	}
	sim_unlock_process();
	if (!sim_context_claim(ctx))
		return CUDA_ERROR_CONTEXT_IS_DESTROYED;
	/* "If it is current to the calling thread, it is popped": only from the top. */
	if (sim_current() == ctx) {
		stack.n--;
		sim_lock_process();
		put(ctx);
		sim_unlock_process();
	}
	sim_context_deactivate(ctx);
	return CUDA_SUCCESS;
}

CUresult cuCtxDestroy(CUcontext ctx)
{
	SIM_ENTER();
	return destroy(ctx);
}

CUresult cuCtxDestroy_v2(CUcontext ctx)
{
	SIM_ENTER();
	return destroy(ctx);
}

CUresult cuCtxAttach(CUcontext *ctx, unsigned int flags)
{
	SIM_ENTER_CONTEXT(current);
	if (!ctx || flags)
		return CUDA_ERROR_INVALID_VALUE;
	sim_lock_process();
	current->attached++;
	sim_unlock_process();
	*ctx = sim_context_handle(current);
	return CUDA_SUCCESS;
}

CUresult cuCtxDetach(CUcontext handle)
{
	struct sim_context *ctx;
	unsigned int left;
	CUresult r;

	SIM_ENTER();
	if (!handle)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_context_check(handle, &ctx);
	if (r != CUDA_SUCCESS)
		return r;
	if (ctx != sim_current() || ctx->primary)
		return CUDA_ERROR_INVALID_CONTEXT;
	sim_lock_process();
	left = --ctx->attached;
	sim_unlock_process();
	return left ? CUDA_SUCCESS : destroy(handle);
}

static CUresult pop(CUcontext *ret)
{
	struct sim_context *ctx = sim_current();

	if (!ctx)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (ret)
		*ret = sim_context_handle(ctx);
	stack.n--;
	sim_lock_process();
	put(ctx);
	sim_unlock_process();
	return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent(CUcontext *ctx)
{
	SIM_ENTER();
	return pop(ctx);
}

CUresult cuCtxPopCurrent_v2(CUcontext *ctx)
{
	SIM_ENTER();
	return pop(ctx);
}

static CUresult push_handle(CUcontext handle)
{
	struct sim_context *ctx = sim_context_of(handle);
	CUresult r = CUDA_ERROR_INVALID_CONTEXT;

	if (!ctx)
		return CUDA_ERROR_INVALID_VALUE;
	sim_lock_process();
	if (is_known(ctx))
		r = ctx->destroyed ? CUDA_ERROR_CONTEXT_IS_DESTROYED : push(ctx);
	sim_unlock_process();
	return r;
}

CUresult cuCtxPushCurrent(CUcontext ctx)
{
	SIM_ENTER();
	return push_handle(ctx);
}

CUresult cuCtxPushCurrent_v2(CUcontext ctx)
{
	SIM_ENTER();
	return push_handle(ctx);
}

CUresult cuCtxSetCurrent(CUcontext ctx)
{
	CUresult r;

	SIM_ENTER();
	if (ctx && sim_context_of(ctx) == sim_current())
		return sim_context_of(ctx)->destroyed ? CUDA_ERROR_CONTEXT_IS_DESTROYED
						      : CUDA_SUCCESS;
	if (!ctx)
		return stack.n ? pop(NULL) : CUDA_SUCCESS;
	if (!stack.n)
		return push_handle(ctx);
	/* Replace the top, but keep it when the new one is none. */
	if (stack.n == SIM_CONTEXT_STACK)
		pop(NULL);
	r = push_handle(ctx);
	if (r == CUDA_SUCCESS && stack.n >= 2) {
		struct sim_context *old = stack.contexts[stack.n - 2];

		stack.contexts[stack.n - 2] = stack.contexts[stack.n - 1];
		stack.n--;
		sim_lock_process();
		put(old);
		sim_unlock_process();
	}
	return r;
}

CUresult cuCtxGetCurrent(CUcontext *ctx)
{
	SIM_ENTER();
	if (!ctx)
		return CUDA_ERROR_INVALID_VALUE;
	*ctx = sim_context_handle(sim_current());
	return CUDA_SUCCESS;
}
