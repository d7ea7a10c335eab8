/* SPDX-License-Identifier: Apache-2.0 */
/* See hooks.h. */
#include "guard/hooks.h"

#include "guard/own.h"
#include "guard/real.h"
#include "guard/untyped.h"
#include "guard/guest.h"

#define HOOK_0(sym) NULL
#define HOOK_1(sym) (void *)sym
#define HOOK_(own, sym) HOOK_##own(sym)
#define HOOK(own, sym) HOOK_(own, sym)

#define ROLE_CHARGE(sym) (void *)sym
#define ROLE_RELEASE(sym) (void *)sym
#define ROLE_SUBMIT(sym) (void *)sym
#define ROLE_REPORT(sym) (void *)sym
#define ROLE_LIFECYCLE(sym) (void *)sym
#define ROLE_RESOLVE(sym) (void *)sym
#define ROLE_WATCH(sym) HOOK(AQ__IS_OWN(sym), sym)
#define ROLE_PASS(sym) NULL

#define UNTYPED_SUBMIT(sym) AQ__UNTYPED_HOOK(sym)
#define UNTYPED_REPORT(sym) AQ__UNTYPED_HOOK(sym)
#define UNTYPED_WATCH(sym) NULL
#define UNTYPED_PASS(sym) NULL

const struct aq__hook aq__hooks[] = {
#define AQ_API(sym, since, role, params, args) {#sym, ROLE_##role(sym), &aq__real.sym},
#define AQ_API_UNTYPED(sym, since, role) {#sym, UNTYPED_##role(sym), &aq__untyped_##sym},
#define AQ_API_DATA(sym)
#define AQ_ALIAS(base, since, sym)
#include "cuda/cuda_api.def"
#undef AQ_API
#undef AQ_API_UNTYPED
#undef AQ_API_DATA
#undef AQ_ALIAS
};

const size_t aq__n_hooks = sizeof(aq__hooks) / sizeof(aq__hooks[0]);
