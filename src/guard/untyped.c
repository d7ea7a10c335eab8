/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See untyped.h. Each hook looks at the gate as aq__gate_open() does; only when it is not open are the
 * registers that can carry arguments saved around aq__gate_wait().
 *
 * When we fail: a driver without the entry point is answered for with CUDA_ERROR_NOT_SUPPORTED.
 */
#include "guard/untyped.h"

#include "guard/gate.h"
#include "guard/guard.h"
#include "guard/guest.h"

#if defined(__x86_64__)

/* Source: System V ABI, AMD64: rdi rsi rdx rcx r8 r9 and xmm0-7 carry arguments, rax is free. */
__asm__(".text\n"
	"	.p2align 4\n"
	"	.type aq__gate_wait_keeping, @function\n"
	"aq__gate_wait_keeping:\n"
	"	pushq %rbp\n"
	"	movq %rsp, %rbp\n"
	"	pushq %rdi\n"
	"	pushq %rsi\n"
	"	pushq %rdx\n"
	"	pushq %rcx\n"
	"	pushq %r8\n"
	"	pushq %r9\n"
	"	subq $128, %rsp\n"
	"	andq $-16, %rsp\n"
	"	movups %xmm0, 0(%rsp)\n"
	"	movups %xmm1, 16(%rsp)\n"
	"	movups %xmm2, 32(%rsp)\n"
	"	movups %xmm3, 48(%rsp)\n"
	"	movups %xmm4, 64(%rsp)\n"
	"	movups %xmm5, 80(%rsp)\n"
	"	movups %xmm6, 96(%rsp)\n"
	"	movups %xmm7, 112(%rsp)\n"
	"	call aq__gate_wait\n"
	"	movups 0(%rsp), %xmm0\n"
	"	movups 16(%rsp), %xmm1\n"
	"	movups 32(%rsp), %xmm2\n"
	"	movups 48(%rsp), %xmm3\n"
	"	movups 64(%rsp), %xmm4\n"
	"	movups 80(%rsp), %xmm5\n"
	"	movups 96(%rsp), %xmm6\n"
	"	movups 112(%rsp), %xmm7\n"
	"	movq -8(%rbp), %rdi\n"
	"	movq -16(%rbp), %rsi\n"
	"	movq -24(%rbp), %rdx\n"
	"	movq -32(%rbp), %rcx\n"
	"	movq -40(%rbp), %r8\n"
	"	movq -48(%rbp), %r9\n"
	"	leave\n"
	"	ret\n"
	"	.size aq__gate_wait_keeping, . - aq__gate_wait_keeping\n");

/* The caller's stack is 16-aligned minus the return address: calling needs 8 more. */
#define GATED                                                                                      \
	"	movq aq__gates(%rip), %rax\n"                                                            \
	"	cmpl $0, (%rax)\n"                                                                       \
	"	je 1f\n"                                                                                 \
	"	subq $8, %rsp\n"                                                                         \
	"	call aq__gate_wait_keeping\n"                                                            \
	"	addq $8, %rsp\n"                                                                         \
	"1:\n"

#define HOOK(sym, gate)                                                                            \
	__asm__(".text\n"                                                                          \
		"	.p2align 4\n"                                                                    \
		"	.globl " #sym "\n"                                                         \
		"	.type " #sym ", @function\n" #sym ":\n"                                    \
		"	endbr64\n" gate "	movq aq__untyped_" #sym "(%rip), %rax\n"           \
		"	testq %rax, %rax\n"                                                              \
		"	je 2f\n"                                                                         \
		"	jmp *%rax\n"                                                                     \
		"2:	movl $801, %eax\n"                                                             \
		"	ret\n"                                                                           \
		"	.size " #sym ", . - " #sym "\n");

#elif defined(__aarch64__)

/* Source: AAPCS64: x0-x7 and q0-q7 carry arguments, x8 the place of a result, x16 is free. */
__asm__(".text\n"
	"	.p2align 4\n"
	"	.type aq__gate_wait_keeping, %function\n"
	"aq__gate_wait_keeping:\n"
	"	stp x29, x30, [sp, #-224]!\n"
	"	mov x29, sp\n"
	"	stp x0, x1, [sp, #16]\n"
	"	stp x2, x3, [sp, #32]\n"
	"	stp x4, x5, [sp, #48]\n"
	"	stp x6, x7, [sp, #64]\n"
	"	str x8, [sp, #80]\n"
	"	stp q0, q1, [sp, #96]\n"
	"	stp q2, q3, [sp, #128]\n"
	"	stp q4, q5, [sp, #160]\n"
	"	stp q6, q7, [sp, #192]\n"
	"	bl aq__gate_wait\n"
	"	ldp q6, q7, [sp, #192]\n"
	"	ldp q4, q5, [sp, #160]\n"
	"	ldp q2, q3, [sp, #128]\n"
	"	ldp q0, q1, [sp, #96]\n"
	"	ldr x8, [sp, #80]\n"
	"	ldp x6, x7, [sp, #64]\n"
	"	ldp x4, x5, [sp, #48]\n"
	"	ldp x2, x3, [sp, #32]\n"
	"	ldp x0, x1, [sp, #16]\n"
	"	ldp x29, x30, [sp], #224\n"
	"	ret\n"
	"	.size aq__gate_wait_keeping, . - aq__gate_wait_keeping\n");

#define GATED                                                                                      \
	"	adrp x16, aq__gates\n"                                                                   \
	"	ldr x16, [x16, #:lo12:aq__gates]\n"                                                      \
	"	ldr w16, [x16]\n"                                                                        \
	"	cbz w16, 1f\n"                                                                           \
	"	stp x29, x30, [sp, #-16]!\n"                                                             \
	"	bl aq__gate_wait_keeping\n"                                                              \
	"	ldp x29, x30, [sp], #16\n"                                                               \
	"1:\n"

#define HOOK(sym, gate)                                                                            \
	__asm__(".text\n"                                                                          \
		"	.p2align 4\n"                                                                    \
		"	.globl " #sym "\n"                                                         \
		"	.type " #sym ", %function\n" #sym ":\n"                                    \
		"	hint #34\n" /* bti c */                                                    \
		gate "	adrp x16, aq__untyped_" #sym "\n"                                          \
		"	ldr x16, [x16, #:lo12:aq__untyped_" #sym "]\n"                             \
		"	cbz x16, 2f\n"                                                                   \
		"	br x16\n"                                                                        \
		"2:	mov w0, #801\n"                                                                \
		"	ret\n"                                                                           \
		"	.size " #sym ", . - " #sym "\n");

#endif

#if AQ__HAS_UNTYPED
#define HOOK_SUBMIT(sym) HOOK(sym, GATED)
#define HOOK_REPORT(sym) HOOK(sym, "")
#define HOOK_WATCH(sym)
#define HOOK_PASS(sym)

#define AQ_API(sym, since, role, params, args)
#define AQ_API_UNTYPED(sym, since, role) HOOK_##role(sym)
#define AQ_API_DATA(sym)
#define AQ_ALIAS(base, since, sym)
#include "cuda/cuda_api.def"
#endif
