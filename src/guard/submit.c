/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that puts work on a device passes the gate; what waits for it does not. Also the
 * reports that are passed on as they are. Most of this file is made from cuda_api.def.
 *
 * When we fail: the gate opens. A daemon that is gone holds nobody up.
 */
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/timing.h"
#include "guard/conn.h"
#include "guard/guard.h"
#include "guard/own.h"
#include "guard/guest.h"

#define LOOK_AGAIN_NS (10 * (long)AQ_NS_PER_MS) /* a lost wake-up, or daemon, costs no more */

/* Cold: some gate of this process is not open. Wait for the one of the current device. */
void aq__gate_wait(void)
{
	static const struct timespec look_again = {.tv_nsec = LOOK_AGAIN_NS};
	struct aq_page *page = aq__page_get();
	int saved = errno, index;
	struct aq__place p;

	aq__place_here(&p);
	index = p.index;
	while (page && index >= 0 && aq__conn_up()) {
		uint32_t *gate = (uint32_t *)&page->device[index].gate;
		uint32_t word = __atomic_load_n(gate, __ATOMIC_ACQUIRE);

		if (!(word & ~AQ_GATE_LEASED)) /* no lease is asked for yet */
			break;
		syscall(SYS_futex, gate, FUTEX_WAIT, word, &look_again, NULL, 0);
	}
	errno = saved;
}

/* SUBMIT: synchronising. Submits nothing, so no gate; afterwards pools may have shrunk. */
#define HOOK_SYNC(sym, params, ...)                                                                \
	CUresult sym params                                                                        \
	{                                                                                          \
		CUresult r = AQ__CALL(sym, __VA_ARGS__);                                           \
                                                                                                   \
		aq__synchronised();                                                                \
		return r;                                                                          \
	}

CUresult cuCtxSynchronize(void)
{
	CUresult r = AQ__CALL(cuCtxSynchronize);

	aq__synchronised();
	return r;
}

HOOK_SYNC(cuCtxSynchronize_v2, (CUcontext ctx), ctx)
HOOK_SYNC(cuEventSynchronize, (CUevent event), event)
HOOK_SYNC(cuStreamSynchronize, (CUstream stream), stream)
HOOK_SYNC(cuStreamSynchronize_ptsz, (CUstream stream), stream)

/* The made ones. */
#define BODY(sym, params, args, first)                                                             \
	CUresult sym params                                                                        \
	{                                                                                          \
		__typeof__(&sym) aq_real;                                                          \
                                                                                                   \
		first;                                                                             \
		aq_real = AQ__REAL(sym);                                                           \
		if (__builtin_expect(!aq_real, 0))                                                 \
			return CUDA_ERROR_NOT_SUPPORTED;                                           \
		return aq_real args;                                                               \
	}

#define MAKE_SUBMIT_0(sym, params, args) BODY(sym, params, args, aq__gate())
#define MAKE_REPORT_0(sym, params, args) BODY(sym, params, args, (void)0)
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
