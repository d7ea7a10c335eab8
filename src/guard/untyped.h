/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hooks of entry points whose signature nobody has published. They cannot be written in C, for
 * their arguments are not known; but to jump to the driver's own needs no more than to leave all
 * argument registers and the stack as they are.
 */
#ifndef AQ_GUARD_UNTYPED_H
#define AQ_GUARD_UNTYPED_H

#if defined(__x86_64__) || defined(__aarch64__)
#define AQ__HAS_UNTYPED 1
#else
#define AQ__HAS_UNTYPED 0 /* other machines reach the driver's own */
#endif

/* What hooks.c lists, and where the pointer to the driver's own is filled in (real.h). */
#if AQ__HAS_UNTYPED
#define AQ__UNTYPED_HOOK(sym) (void *)sym
#else
#define AQ__UNTYPED_HOOK(sym) NULL
#endif

#define AQ__DECLARE_SUBMIT(sym) AQ__DECLARE(sym)
#define AQ__DECLARE_REPORT(sym) AQ__DECLARE(sym)
#define AQ__DECLARE_WATCH(sym)
#define AQ__DECLARE_PASS(sym)
#define AQ__DECLARE(sym) extern char sym[] __attribute__((visibility("default")));

#define AQ_API(sym, since, role, params, args)
#define AQ_API_UNTYPED(sym, since, role) AQ__DECLARE_##role(sym)
#define AQ_API_DATA(sym)
#define AQ_ALIAS(base, since, sym)
#include "cuda/cuda_api.def"
#undef AQ_API
#undef AQ_API_UNTYPED
#undef AQ_API_DATA
#undef AQ_ALIAS

#endif /* AQ_GUARD_UNTYPED_H */
