/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that puts work on a device passes the gate; what waits for it does not. Also the
 * reports that are passed on as they are. Most of this file is made from cuda_api.def.
 *
 * When we fail: see gate.h.
 */
#include "guard/gate.h"
#include "guard/guard.h"
#include "guard/own.h"
#include "guard/guest.h"

/*
 * SUBMIT: synchronising. Submits nothing, so no gate; but it tells what is done. Afterwards pools
 * may have shrunk.
 */
#define HOOK_SYNC(sym, params, stream, per_thread, all, ...)                                       \
	CUresult sym params                                                                        \
	{                                                                                          \
		CUresult r;                                                                        \
                                                                                                   \
		aq__gate_sync_begin(stream, per_thread, all);                                      \
		r = AQ__CALL(sym, ##__VA_ARGS__);                                                  \
		aq__gate_sync_end(stream, per_thread, all, r);                                     \
		aq__synchronised();                                                                \
		return r;                                                                          \
	}

HOOK_SYNC(cuCtxSynchronize, (void), NULL, false, true)
HOOK_SYNC(cuCtxSynchronize_v2, (CUcontext ctx), NULL, false, true, ctx)
HOOK_SYNC(cuEventSynchronize, (CUevent event), NULL, false, true, event)
HOOK_SYNC(cuStreamSynchronize, (CUstream stream), stream, false, false, stream)
HOOK_SYNC(cuStreamSynchronize_ptsz, (CUstream stream), stream, true, false, stream)

/*
 * WATCH: a program that asks until its work is done waits for it, too. What it asks about is marked
 * when it is not done yet.
 */
#define HOOK_QUERY(sym, params, stream, per_thread, all, arg)                                      \
	CUresult sym params                                                                        \
	{                                                                                          \
		CUresult r = AQ__CALL(sym, arg);                                                   \
                                                                                                   \
		if (!aq__flights())                                                                \
			return r;                                                                  \
		if (r == CUDA_ERROR_NOT_READY)                                                     \
			aq__gate_asked(stream, per_thread, all);                                   \
		else                                                                               \
			aq__gate_sync_end(stream, per_thread, all, r);                             \
		return r;                                                                          \
	}

HOOK_QUERY(cuEventQuery, (CUevent event), NULL, false, true, event)
HOOK_QUERY(cuStreamQuery, (CUstream stream), stream, false, false, stream)
HOOK_QUERY(cuStreamQuery_ptsz, (CUstream stream), stream, true, false, stream)

/* SUBMIT: on several devices, whose leases a fraction has together or not at all. */
CUresult cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS *launches, unsigned int n,
					      unsigned int flags)
{
	struct aq__pass passes[AQ_MAX_DEVICES];
	unsigned int entered = 0;
	CUresult r;

	if (aq__quick_enter()) {
		r = AQ__CALL(cuLaunchCooperativeKernelMultiDevice, launches, n, flags);
		aq__calls_leave();
		return r;
	}
	while (!aq__gate_open() && launches && entered < n && entered < AQ_MAX_DEVICES) {
		aq__gate_enter(&passes[entered], launches[entered].hStream, false, NULL, 0);
		entered++;
	}
	r = AQ__CALL(cuLaunchCooperativeKernelMultiDevice, launches, n, flags);
	while (entered)
		aq__gate_leave(&passes[--entered], r);
	return r;
}

/*
 * SUBMIT: events order work and do none. They need no lease, or a program would learn of the end of
 * its work only when it may begin more.
 */
#define HOOK_ORDER(sym, params, ...)                                                               \
	CUresult sym params                                                                        \
	{                                                                                          \
		return AQ__CALL(sym, __VA_ARGS__);                                                 \
	}

HOOK_ORDER(cuCtxRecordEvent, (CUcontext ctx, CUevent event), ctx, event)
HOOK_ORDER(cuCtxWaitEvent, (CUcontext ctx, CUevent event), ctx, event)
HOOK_ORDER(cuEventRecord, (CUevent event, CUstream stream), event, stream)
HOOK_ORDER(cuEventRecordWithFlags, (CUevent event, CUstream stream, unsigned int flags), event,
	   stream, flags)
HOOK_ORDER(cuEventRecordWithFlags_ptsz, (CUevent event, CUstream stream, unsigned int flags), event,
	   stream, flags)
HOOK_ORDER(cuEventRecord_ptsz, (CUevent event, CUstream stream), event, stream)
HOOK_ORDER(cuGreenCtxRecordEvent, (CUgreenCtx ctx, CUevent event), ctx, event)
HOOK_ORDER(cuGreenCtxWaitEvent, (CUgreenCtx ctx, CUevent event), ctx, event)
HOOK_ORDER(cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned int flags), stream, event,
	   flags)
HOOK_ORDER(cuStreamWaitEvent_ptsz, (CUstream stream, CUevent event, unsigned int flags), stream,
	   event, flags)

/*
 * The made ones. Which stream a call is for is said by the parameter `stream`, where there is one;
 * else it is this, the default stream. The suffix says whose that is, and the name whether the call
 * returns when the work is done.
 */
#pragma GCC diagnostic ignored "-Wshadow"
static const CUstream stream = NULL;

/* Folded at compile time. */
#define NAMED(sym, part) (__builtin_strstr(#sym, part) != NULL)
#define PER_THREAD(sym) (NAMED(sym, "_ptsz") || NAMED(sym, "_ptds"))
#define WAITS(sym) (NAMED(sym, "cuMemcpy") && !NAMED(sym, "Async") ? AQ__WAITS : 0)
#define LINK(sym)                                                                                  \
	(NAMED(sym, "cuMemcpyHto") || NAMED(sym, "cuMemcpyDtoH") || NAMED(sym, "cuMemcpyAtoH") ||  \
			 NAMED(sym, "cuStreamWaitValue") || NAMED(sym, "cuStreamWriteValue") ||    \
			 NAMED(sym, "cuStreamBatchMemOp")                                          \
		 ? AQ__LINK                                                                        \
		 : 0)

/*
 * Three functions, so that the open gate costs a few loads and saves no register, and following a
 * call a few stores and none of what the gate needs.
 */
#define BODY_GATED(sym, params, args, stream_used)                                                 \
	static __attribute__((cold, noinline)) CUresult gated_##sym params                         \
	{                                                                                          \
		__typeof__(&sym) aq_real = AQ__REAL(sym);                                          \
		struct aq__pass aq_pass;                                                           \
		CUresult aq_result;                                                                \
                                                                                                   \
		if (!aq_real)                                                                      \
			return CUDA_ERROR_NOT_SUPPORTED;                                           \
		if (aq__quick_enter()) {                                                           \
			aq_result = aq_real args;                                                  \
			aq__calls_leave();                                                         \
			return aq_result;                                                          \
		}                                                                                  \
		aq__gate_enter(&aq_pass, stream_used, PER_THREAD(sym), NULL,                       \
			       WAITS(sym) | LINK(sym));                                            \
		aq_result = aq_real args;                                                          \
		aq__gate_leave(&aq_pass, aq_result);                                               \
		return aq_result;                                                                  \
	}                                                                                          \
	static __attribute__((noinline)) CUresult followed_##sym params                            \
	{                                                                                          \
		__typeof__(&sym) aq_real = aq__real.sym;                                           \
		CUresult aq_result;                                                                \
                                                                                                   \
		if (__builtin_expect(!aq_real || !aq__quick_known(), 0))                           \
			return gated_##sym args;                                                   \
		aq_result = aq_real args;                                                          \
		aq__calls_leave();                                                                 \
		return aq_result;                                                                  \
	}                                                                                          \
	CUresult sym params                                                                        \
	{                                                                                          \
		__typeof__(&sym) aq_real = aq__real.sym;                                           \
                                                                                                   \
		if (__builtin_expect(aq_real && aq__gate_open(), 1))                               \
			return aq_real args;                                                       \
		return followed_##sym args;                                                        \
	}

#define BODY_PASSED(sym, params, args)                                                             \
	CUresult sym params                                                                        \
	{                                                                                          \
		__typeof__(&sym) aq_real = AQ__REAL(sym);                                          \
                                                                                                   \
		return aq_real ? aq_real args : CUDA_ERROR_NOT_SUPPORTED;                          \
	}

/* The stream is in the configuration. */
#define LAUNCH_EX(sym)                                                                             \
	BODY_GATED(sym,                                                                            \
		   (const CUlaunchConfig *config, CUfunction func, void **params, void **extra),   \
		   (config, func, params, extra), config ? config->hStream : NULL)

LAUNCH_EX(cuLaunchKernelEx)
LAUNCH_EX(cuLaunchKernelEx_ptsz)

#define MAKE_SUBMIT_0(sym, params, args) BODY_GATED(sym, params, args, stream)
#define MAKE_REPORT_0(sym, params, args) BODY_PASSED(sym, params, args)
#define MAKE_SUBMIT_1(sym, params, args)
#define MAKE_REPORT_1(sym, params, args)
#define MAKE_(role, own, sym, params, args) MAKE_##role##_##own(sym, params, args)
#define MAKE(role, own, sym, params, args) MAKE_(role, own, sym, params, args)

#define ROLE_SUBMIT(sym, params, args) MAKE(SUBMIT, AQ__IS_OWN(sym), sym, params, args)
#define ROLE_REPORT(sym, params, args) MAKE(REPORT, AQ__IS_OWN(sym), sym, params, args)
#define ROLE_CHARGE(sym, params, args)
#define ROLE_RELEASE(sym, params, args)
#define ROLE_LIFECYCLE(sym, params, args)
#define ROLE_RESOLVE(sym, params, args)
#define ROLE_WATCH(sym, params, args)
#define ROLE_PASS(sym, params, args)

#define AQ_API(sym, since, role, params, args) ROLE_##role(sym, params, args)
#define AQ_API_UNTYPED(sym, since, role)
#define AQ_API_DATA(sym)
#define AQ_ALIAS(base, since, sym)
#include "cuda/cuda_api.def"
#undef AQ_API
#undef AQ_API_UNTYPED
#undef AQ_API_DATA
#undef AQ_ALIAS
