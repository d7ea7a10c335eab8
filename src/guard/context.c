/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contexts: what they cost, where the calling thread is, and what dies with them. Linear memory and
 * arrays die with their context; memory of cuMemCreate() and of pools does not (CUDA Driver API,
 * cuCtxDestroy).
 *
 * A context's handle may come back for another context. So each context has a number of ours that
 * does not, and entries of the table belong to the number.
 *
 * When we fail: a context that the daemon has no room for is not made, or unmade at once, and the
 * answer is CUDA_ERROR_OUT_OF_MEMORY. Out of memory of our own: the context's memory is only
 * released when it is freed piece by piece, or at the end of the process.
 */
#include <stddef.h>
#include <string.h>

#include "guard/conn.h"
#include "guard/gate.h"
#include "guard/guard.h"
#include "guard/lock.h"
#include "guard/movable.h"
#include "guard/share.h"
#include "guard/track.h"
#include "guard/guest.h"

static uint32_t last_owner;    /* atomic; the number of the newest context */
static uint64_t primaries[64]; /* atomic; CUdevice -> handle of its primary context, 0 unknown */

#define N_PRIMARIES ((int)(sizeof(primaries) / sizeof(primaries[0])))

/* ---- numbers ---- */

/* Enter @ctx under a new number, in place of what had its handle. Return: the number. */
static uint32_t enter(CUcontext ctx, int index)
{
	struct aq__item old;
	struct aq__item item = {
		.key = (uintptr_t)ctx,
		.class = AQ__CONTEXT,
		.index = (int16_t)index,
		.owner = __atomic_add_fetch(&last_owner, 1, __ATOMIC_RELAXED),
		.refs = 1,
	};

	return aq__track_put(&item, &old) ? item.owner : 0;
}

#define DOOMED 64u /* movable allocations that are freed at a time */

struct doomed {
	uint32_t owner;
	uint32_t n;
	uint64_t grains[AQ_MAX_DEVICES];
	struct aq__item movable[DOOMED];
};

static bool dies_with(const struct aq__item *item, void *arg)
{
	struct doomed *d = arg;

	if (item->owner != d->owner || item->class == AQ__CONTEXT)
		return false;
	if (aq__is_movable(item)) {
		if (d->n == DOOMED)
			return false; /* another time */
		d->movable[d->n++] = *item;
	} else if (item->index >= 0) {
		d->grains[item->index] += item->grains;
	}
	return true;
}

/* The context is gone, and all that was its own. */
static void bury(uint32_t owner)
{
	struct doomed d;

	if (!owner)
		return;
	memset(&d, 0, offsetof(struct doomed, movable));
	d.owner = owner;
	do {
		d.n = 0;
		aq__track_sweep(dies_with, &d);
		for (uint32_t i = 0; i < d.n; i++)
			aq__movable_lost(&d.movable[i]);
	} while (d.n == DOOMED);
	for (int i = 0; i < (int)AQ_MAX_DEVICES; i++)
		aq__release(i, (uint32_t)d.grains[i]);
	aq__import_context_gone(owner);
}

/* Forget @ctx while the driver destroys it; put it back with resurrect() if it does not. */
static bool forget(CUcontext ctx, struct aq__item *ret_item)
{
	return aq__track_take(AQ__CONTEXT, (uintptr_t)ctx, ret_item);
}

static void resurrect(const struct aq__item *item)
{
	struct aq__item old;

	(void)aq__track_put(item, &old);
}

/* ---- where the calling thread is ---- */

static void place(struct aq__place *p, CUcontext ctx, CUdevice dev)
{
	struct aq__item item;

	p->dev = dev;
	p->index = aq__device_index(dev);
	p->owner = 0;
	if (p->index == AQ__UNBOUND || !ctx)
		return;
	/* A known handle on another device is a context that replaced an old one unseen. */
	if (aq__track_get(AQ__CONTEXT, (uintptr_t)ctx, &item) && item.index == p->index)
		p->owner = item.owner;
	else
		p->owner = enter(ctx, p->index);
}

void aq__place_here(struct aq__place *p)
{
	CUcontext ctx = NULL;
	CUdevice dev = -1;

	*p = (struct aq__place){.index = AQ__UNBOUND, .dev = -1};
	if (!aq__page_get() || AQ__CALL(cuCtxGetDevice, &dev) != CUDA_SUCCESS)
		return; /* no context: the driver says so itself */
	if (AQ__CALL(cuCtxGetCurrent, &ctx) == CUDA_SUCCESS)
		place(p, ctx, dev);
}

/* Device of a context that need not be current. */
static CUdevice device_of(CUcontext ctx)
{
	CUdevice dev = -1;
	CUcontext popped;

	if (AQ__REAL(cuCtxGetDevice_v2))
		return AQ__CALL(cuCtxGetDevice_v2, &dev, ctx) == CUDA_SUCCESS ? dev : -1;
	if (AQ__CALL(cuCtxPushCurrent_v2, ctx) != CUDA_SUCCESS)
		return -1;
	if (AQ__CALL(cuCtxGetDevice, &dev) != CUDA_SUCCESS)
		dev = -1;
	(void)AQ__CALL(cuCtxPopCurrent_v2, &popped);
	return dev;
}

void aq__place_of_stream(struct aq__place *p, CUstream stream, bool per_thread)
{
	CUcontext ctx = NULL, here = NULL;
	CUresult r;

	aq__place_here(p);
	if (!stream || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD ||
	    !aq__page_get())
		return; /* these are streams of the current context */
	r = per_thread ? AQ__CALL(cuStreamGetCtx_ptsz, stream, &ctx)
		       : AQ__CALL(cuStreamGetCtx, stream, &ctx);
	if (r != CUDA_SUCCESS || !ctx)
		return;
	if (AQ__CALL(cuCtxGetCurrent, &here) == CUDA_SUCCESS && here == ctx)
		return;
	place(p, ctx, device_of(ctx));
}

bool aq__capturing(CUstream stream, bool per_thread)
{
	CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
	CUresult r = per_thread ? AQ__CALL(cuStreamIsCapturing_ptsz, stream, &status)
				: AQ__CALL(cuStreamIsCapturing, stream, &status);

	if (r == CUDA_ERROR_NOT_SUPPORTED)
		return false; /* a driver without captures */
	return r != CUDA_SUCCESS || status != CU_STREAM_CAPTURE_STATUS_NONE;
}

CUstreamCaptureMode aq__relax_begin(void)
{
	CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;

	(void)AQ__CALL(cuThreadExchangeStreamCaptureMode, &mode);
	return mode;
}

void aq__relax_end(CUstreamCaptureMode mode)
{
	(void)AQ__CALL(cuThreadExchangeStreamCaptureMode, &mode);
}

/* ---- making contexts ---- */

/* The daemon does not know yet that this process works on the device. */
static void has_context(int index)
{
	struct aq_page *page = aq__page_get();
	uint32_t bit = 1u << index;

	if (page && !(__atomic_fetch_or((uint32_t *)&page->contexts, bit, __ATOMIC_ACQ_REL) & bit))
		aq__conn_bell(bit);
}

static uint64_t context_bytes(int index)
{
	struct aq_page *page = aq__page_get();

	if (!page || index < 0)
		return 0;
	return __atomic_load_n((uint64_t *)&page->device[index].context_bytes, __ATOMIC_ACQUIRE);
}

/* What follows the driver's making of an own context, its result in @r. */
static CUresult created(struct aq__cost *c, CUresult r, CUcontext *ctx)
{
	if (r == CUDA_SUCCESS && !aq__cost_fits(c)) {
		(void)AQ__CALL(cuCtxDestroy_v2, *ctx); /* it is current: this pops it, too */
		r = CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (r != CUDA_SUCCESS) {
		aq__cost_undone(c);
		return r;
	}
	if (c->index >= 0) {
		(void)enter(*ctx, c->index);
		has_context(c->index);
	}
	return r;
}

/*
 * Contexts that are made before anybody knows what one costs can be too much together, and all be
 * unmade. The daemon lets one go first, but does not wait for it for ever. After unmaking it is
 * known: once more, with a reservation.
 */
static bool known_now(CUresult r, int index, uint64_t expected_bytes)
{
	return r == CUDA_ERROR_OUT_OF_MEMORY && !expected_bytes && context_bytes(index);
}

/* LIFECYCLE, all variants. A NULL @ctx is the driver's to refuse. */
#define HOOK_CREATE(sym, params, ctx, dev, ...)                                                    \
	CUresult sym params                                                                        \
	{                                                                                          \
		int index = ctx ? aq__device_index(dev) : AQ__UNBOUND;                             \
		struct aq__cost c;                                                                 \
		uint64_t expected;                                                                 \
		CUresult r;                                                                        \
                                                                                                   \
		do {                                                                               \
			expected = context_bytes(index);                                           \
			r = aq__cost_begin(&c, index, expected, #sym);                             \
			if (r != CUDA_SUCCESS)                                                     \
				return r;                                                          \
			r = created(&c, AQ__CALL(sym, __VA_ARGS__), ctx);                          \
		} while (known_now(r, index, expected));                                           \
		return r;                                                                          \
	}

HOOK_CREATE(cuCtxCreate, (CUcontext *ctx, unsigned int flags, CUdevice dev), ctx, dev, ctx, flags,
	    dev)
HOOK_CREATE(cuCtxCreate_v2, (CUcontext *ctx, unsigned int flags, CUdevice dev), ctx, dev, ctx,
	    flags, dev)
HOOK_CREATE(cuCtxCreate_v3,
	    (CUcontext *ctx, CUexecAffinityParam *params, int n, unsigned int flags, CUdevice dev),
	    ctx, dev, ctx, params, n, flags, dev)
HOOK_CREATE(cuCtxCreate_v4,
	    (CUcontext *ctx, CUctxCreateParams *params, unsigned int flags, CUdevice dev), ctx,
	    dev, ctx, params, flags, dev)
HOOK_CREATE(cuGLCtxCreate, (CUcontext *ctx, unsigned int flags, CUdevice dev), ctx, dev, ctx,
	    flags, dev)
HOOK_CREATE(cuGLCtxCreate_v2, (CUcontext *ctx, unsigned int flags, CUdevice dev), ctx, dev, ctx,
	    flags, dev)
HOOK_CREATE(cuVDPAUCtxCreate,
	    (CUcontext *ctx, unsigned int flags, CUdevice dev, VdpDevice vdp,
	     VdpGetProcAddress *get),
	    ctx, dev, ctx, flags, dev, vdp, get)
HOOK_CREATE(cuVDPAUCtxCreate_v2,
	    (CUcontext *ctx, unsigned int flags, CUdevice dev, VdpDevice vdp,
	     VdpGetProcAddress *get),
	    ctx, dev, ctx, flags, dev, vdp, get)

/* ---- ending them ---- */

/* What follows the driver's destroying of the context in @item. */
static CUresult destroyed(CUresult r, bool known, const struct aq__item *item, const char *api)
{
	if (!known)
		return r;
	if (r != CUDA_SUCCESS) {
		resurrect(item);
		return r;
	}
	bury(item->owner);
	if (item->index >= 0)
		aq__cost_gone(item->index, api);
	return r;
}

/* LIFECYCLE. */
#define HOOK_DESTROY(sym)                                                                          \
	CUresult sym(CUcontext ctx)                                                                \
	{                                                                                          \
		struct aq__item item;                                                              \
		bool known;                                                                        \
		CUresult r;                                                                        \
                                                                                                   \
		aq__move_hold(); /* or memory might be on its way in this context */               \
		known = forget(ctx, &item);                                                        \
		aq__gate_context_gone(ctx);                                                        \
		r = destroyed(AQ__CALL(sym, ctx), known, &item, #sym);                             \
		aq__move_go();                                                                     \
		return r;                                                                          \
	}

HOOK_DESTROY(cuCtxDestroy)
HOOK_DESTROY(cuCtxDestroy_v2)

/* LIFECYCLE: one more to detach before the context goes. */
CUresult cuCtxAttach(CUcontext *ctx, unsigned int flags)
{
	CUresult r = AQ__CALL(cuCtxAttach, ctx, flags);
	struct aq__item item;

	if (r == CUDA_SUCCESS && forget(*ctx, &item)) {
		item.refs++;
		resurrect(&item);
	}
	return r;
}

CUresult cuCtxDetach(CUcontext ctx)
{
	struct aq__flight *held;
	struct aq__item item;
	bool known;
	CUresult r;

	aq__move_hold();
	known = forget(ctx, &item);
	held = aq__flight_context_released(ctx);
	r = AQ__CALL(cuCtxDetach, ctx);
	aq__flight_context_left(held, ctx, r == CUDA_SUCCESS && !(known && item.refs > 1));
	if (r == CUDA_SUCCESS && known && item.refs > 1) {
		item.refs--;
		resurrect(&item);
	} else {
		r = destroyed(r, known, &item, "cuCtxDetach");
	}
	aq__move_go();
	return r;
}

/* ---- primary contexts ---- */

static bool primary_active(CUdevice dev)
{
	unsigned int flags;
	int active = 0;

	return AQ__CALL(cuDevicePrimaryCtxGetState, dev, &flags, &active) == CUDA_SUCCESS && active;
}

static CUcontext seen_primary(CUdevice dev)
{
	uint64_t seen = dev >= 0 && dev < N_PRIMARIES
				? __atomic_load_n(&primaries[dev], __ATOMIC_ACQUIRE)
				: 0;

	return (CUcontext)(uintptr_t)seen;
}

/* Handle of the device's primary context, which is active; the program may have got it unseen. */
static CUcontext primary_of(CUdevice dev)
{
	CUcontext ctx = seen_primary(dev);

	if (ctx || AQ__CALL(cuDevicePrimaryCtxRetain, &ctx, dev) != CUDA_SUCCESS)
		return ctx;
	(void)AQ__CALL(cuDevicePrimaryCtxRelease_v2, dev);
	return ctx;
}

/* Number of the device's primary context as far as we know it; 0: there is none. */
static uint32_t primary_owner(CUdevice dev)
{
	CUcontext ctx = seen_primary(dev);
	struct aq__item item;

	return ctx && aq__track_get(AQ__CONTEXT, (uintptr_t)ctx, &item) ? item.owner : 0;
}

/* The device has no primary context, so the one with the number @owner has ended unseen; not one
 * that another thread has made meanwhile. */
static void primary_ended(CUdevice dev, uint32_t owner)
{
	struct aq__item item;

	if (!owner || primary_owner(dev) != owner || !forget(seen_primary(dev), &item))
		return;
	if (item.owner == owner)
		bury(owner);
	else
		resurrect(&item);
}

/* Another thread that came first, too, may have entered it already, and allocated in it. */
static void primary_made(CUcontext ctx, CUdevice dev, int index)
{
	struct aq__item item;

	if (!aq__track_get(AQ__CONTEXT, (uintptr_t)ctx, &item))
		(void)enter(ctx, index);
	if (dev >= 0 && dev < N_PRIMARIES)
		__atomic_store_n(&primaries[dev], (uintptr_t)ctx, __ATOMIC_RELEASE);
	if (index >= 0)
		has_context(index);
}

static CUresult retain_first(struct aq__cost *c, CUcontext *ctx, CUdevice dev, int index)
{
	CUresult r = AQ__CALL(cuDevicePrimaryCtxRetain, ctx, dev);

	if (r == CUDA_SUCCESS && !aq__cost_fits(c)) {
		(void)AQ__CALL(cuDevicePrimaryCtxRelease_v2, dev);
		r = CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (r == CUDA_SUCCESS)
		primary_made(*ctx, dev, index);
	else
		aq__cost_undone(c);
	return r;
}

/*
 * LIFECYCLE. Only the first retain makes a context. Two threads that both come first both count
 * one for the moment of the call; what is measured then is one.
 */
CUresult cuDevicePrimaryCtxRetain(CUcontext *ctx, CUdevice dev)
{
	int index = ctx ? aq__device_index(dev) : AQ__UNBOUND;
	struct aq__cost c;
	uint32_t before = primary_owner(dev); /* before it is asked whether there is one */
	uint64_t expected;
	CUresult r;

	if (index == AQ__UNBOUND || (index >= 0 && primary_active(dev)))
		return AQ__CALL(cuDevicePrimaryCtxRetain, ctx, dev);
	aq__move_hold();
	primary_ended(dev, before);
	aq__move_go();
	do {
		expected = context_bytes(index);
		r = aq__cost_begin(&c, index, expected, "cuDevicePrimaryCtxRetain");
		if (r != CUDA_SUCCESS)
			return r;
		r = retain_first(&c, ctx, dev, index);
	} while (known_now(r, index, expected));
	return r;
}

/* LIFECYCLE: @ends says that the context is gone whatever the count. */
static CUresult primary_dropped(CUresult r, CUdevice dev, CUcontext ctx, bool ends, const char *api)
{
	struct aq__item item;

	if (r != CUDA_SUCCESS || !ctx || (!ends && primary_active(dev)))
		return r;
	if (forget(ctx, &item))
		bury(item.owner);
	aq__cost_gone(aq__device_index(dev), api);
	return r;
}

static CUcontext primary_if_guarded(CUdevice dev)
{
	return aq__device_index(dev) >= 0 && primary_active(dev) ? primary_of(dev) : NULL;
}

#define HOOK_PRIMARY(sym, ends)                                                                    \
	CUresult sym(CUdevice dev)                                                                 \
	{                                                                                          \
		struct aq__flight *held;                                                           \
		CUcontext ctx;                                                                     \
		CUresult r;                                                                        \
		bool gone;                                                                         \
                                                                                                   \
		aq__move_hold();                                                                   \
		ctx = primary_if_guarded(dev);                                                     \
		held = aq__flight_context_released(ctx);                                           \
		r = AQ__CALL(sym, dev);                                                            \
		gone = r == CUDA_SUCCESS && (ends || !primary_active(dev));                        \
		aq__flight_context_left(held, ctx, gone);                                          \
		r = primary_dropped(r, dev, ctx, ends, #sym);                                      \
		aq__move_go();                                                                     \
		return r;                                                                          \
	}

HOOK_PRIMARY(cuDevicePrimaryCtxRelease, false)
HOOK_PRIMARY(cuDevicePrimaryCtxRelease_v2, false)
HOOK_PRIMARY(cuDevicePrimaryCtxReset, true)
HOOK_PRIMARY(cuDevicePrimaryCtxReset_v2, true)

/* ---- green contexts: a part of a primary context, which they retain ---- */

/* LIFECYCLE. The first that retains the primary context makes it, as cuDevicePrimaryCtxRetain(). */
CUresult cuGreenCtxCreate(CUgreenCtx *ctx, CUdevResourceDesc desc, CUdevice dev, unsigned int flags)
{
	int index = ctx ? aq__device_index(dev) : AQ__UNBOUND;
	uint32_t before = primary_owner(dev); /* before it is asked whether there is one */
	uint64_t expected = 0;
	struct aq__cost c;
	CUresult r;

	if (index >= 0 && !primary_active(dev)) {
		expected = context_bytes(index);
		aq__move_hold();
		primary_ended(dev, before);
		aq__move_go();
	}
	r = aq__cost_begin(&c, index, expected, "cuGreenCtxCreate");
	if (r != CUDA_SUCCESS)
		return r;
	r = AQ__CALL(cuGreenCtxCreate, ctx, desc, dev, flags);
	if (r == CUDA_SUCCESS && !aq__cost_fits(&c)) {
		(void)AQ__CALL(cuGreenCtxDestroy, *ctx);
		r = CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (r != CUDA_SUCCESS)
		aq__cost_undone(&c);
	else if (index >= 0)
		primary_made(primary_of(dev), dev, index);
	return r;
}

/* LIFECYCLE. The last that held a primary context ends it. The driver does not tell of which device
 * one is: those that have a primary context are looked at. */
CUresult cuGreenCtxDestroy(CUgreenCtx ctx)
{
	uint32_t before[N_PRIMARIES];
	struct aq__flight *held[N_PRIMARIES];
	CUcontext seen[N_PRIMARIES];
	struct aq__place p;
	CUresult r;

	aq__place_here(&p);
	aq__move_hold();
	for (CUdevice dev = 0; dev < N_PRIMARIES; dev++) {
		before[dev] = primary_owner(dev);
		seen[dev] = before[dev] ? seen_primary(dev) : NULL;
		held[dev] = aq__flight_context_released(seen[dev]);
	}
	r = AQ__CALL(cuGreenCtxDestroy, ctx);
	for (CUdevice dev = 0; dev < N_PRIMARIES; dev++) {
		bool gone = before[dev] && r == CUDA_SUCCESS && !primary_active(dev);

		aq__flight_context_left(held[dev], seen[dev], gone);
		if (!gone)
			continue;
		primary_ended(dev, before[dev]);
		aq__cost_gone(aq__device_index(dev), "cuGreenCtxDestroy");
	}
	aq__move_go();
	if (r == CUDA_SUCCESS)
		aq__unmeasured(p.index);
	return r;
}

/* WATCH: a heap or stack of another size is memory that no call shows. */
CUresult cuCtxSetLimit(CUlimit limit, size_t value)
{
	CUresult r = AQ__CALL(cuCtxSetLimit, limit, value);
	struct aq__place p;

	if (r == CUDA_SUCCESS) {
		aq__place_here(&p);
		aq__unmeasured(p.index);
	}
	return r;
}

void aq__context_forked(void)
{
	for (int i = 0; i < N_PRIMARIES; i++)
		primaries[i] = 0;
}
