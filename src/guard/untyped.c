/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See untyped.h. None of them submits: what does has to be counted, for which its stream has to be
 * known, so a catalogue that has one does not build.
 *
 * When we fail: a driver without the entry point is answered for with CUDA_ERROR_NOT_SUPPORTED.
 */
#include "guard/untyped.h"

#include "guard/guard.h"
#include "guard/guest.h"

#if defined(__x86_64__)

#define HOOK(sym)                                                                                  \
	__asm__(".text\n"                                                                          \
		"	.p2align 4\n"                                                                    \
		"	.globl " #sym "\n"                                                         \
		"	.type " #sym ", @function\n" #sym ":\n"                                    \
		"	endbr64\n"                                                                       \
		"	movq aq__untyped_" #sym "(%rip), %rax\n"                                   \
		"	testq %rax, %rax\n"                                                              \
		"	je 2f\n"                                                                         \
		"	jmp *%rax\n"                                                                     \
		"2:	movl $801, %eax\n"                                                             \
		"	ret\n"                                                                           \
		"	.size " #sym ", . - " #sym "\n");

#elif defined(__aarch64__)

#define HOOK(sym)                                                                                  \
	__asm__(".text\n"                                                                          \
		"	.p2align 4\n"                                                                    \
		"	.globl " #sym "\n"                                                         \
		"	.type " #sym ", %function\n" #sym ":\n"                                    \
		"	hint #34\n" /* bti c */                                                    \
		"	adrp x16, aq__untyped_" #sym "\n"                                          \
		"	ldr x16, [x16, #:lo12:aq__untyped_" #sym "]\n"                             \
		"	cbz x16, 2f\n"                                                                   \
		"	br x16\n"                                                                        \
		"2:	mov w0, #801\n"                                                                \
		"	ret\n"                                                                           \
		"	.size " #sym ", . - " #sym "\n");

#endif

#if AQ__HAS_UNTYPED
#define HOOK_SUBMIT(sym) _Static_assert(0, #sym " submits, and its signature is unknown");
#define HOOK_REPORT(sym) HOOK(sym)
#define HOOK_WATCH(sym)
#define HOOK_PASS(sym)

#define AQ_API(sym, since, role, params, args)
#define AQ_API_UNTYPED(sym, since, role) HOOK_##role(sym)
#define AQ_API_DATA(sym)
#define AQ_ALIAS(base, since, sym)
#include "cuda/cuda_api.def"
#endif
