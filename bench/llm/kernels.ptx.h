/* SPDX-License-Identifier: Apache-2.0 */
/* PTX text of kernels.cu. Made by make-ptx; do not edit. */
#ifndef AQ_BENCH_LLM_KERNELS_PTX_H
#define AQ_BENCH_LLM_KERNELS_PTX_H

/* clang-format off */
#define LLM_KERNELS_PTX \
	".version 7.0\n" \
	".target sm_80\n" \
	".address_size 64\n" \
	".visible .entry aq_llm_gemm(\n" \
	"\t.param .u64 aq_llm_gemm_param_0,\n" \
	"\t.param .u64 aq_llm_gemm_param_1,\n" \
	"\t.param .u64 aq_llm_gemm_param_2,\n" \
	"\t.param .u32 aq_llm_gemm_param_3,\n" \
	"\t.param .u32 aq_llm_gemm_param_4,\n" \
	"\t.param .u32 aq_llm_gemm_param_5\n" \
	")\n" \
	"{\n" \
	"\t.reg .pred \t%p<21>;\n" \
	"\t.reg .f32 \t%f<336>;\n" \
	"\t.reg .b32 \t%r<176>;\n" \
	"\t.reg .b64 \t%rd<112>;\n" \
	"\tld.param.u64 \t%rd52, [aq_llm_gemm_param_0];\n" \
	"\tld.param.u64 \t%rd53, [aq_llm_gemm_param_1];\n" \
	"\tld.param.u64 \t%rd54, [aq_llm_gemm_param_2];\n" \
	"\tld.param.u32 \t%rd6, [aq_llm_gemm_param_3];\n" \
	"\tld.param.u32 \t%r15, [aq_llm_gemm_param_4];\n" \
	"\tld.param.u32 \t%r16, [aq_llm_gemm_param_5];\n" \
	"\tcvta.to.global.u64 \t%rd1, %rd53;\n" \
	"\tcvta.to.global.u64 \t%rd2, %rd54;\n" \
	"\tcvta.to.global.u64 \t%rd3, %rd52;\n" \
	"\tmov.u32 \t%r17, %ctaid.x;\n" \
	"\tmov.u32 \t%r18, %ntid.x;\n" \
	"\tmul.wide.u32 \t%rd55, %r17, %r18;\n" \
	"\tmov.u32 \t%r1, %tid.x;\n" \
	"\tcvt.u64.u32 \t%rd56, %r1;\n" \
	"\tadd.s64 \t%rd57, %rd55, %rd56;\n" \
	"\tshr.u64 \t%rd4, %rd57, 6;\n" \
	"\tmov.u32 \t%r19, %nctaid.x;\n" \
	"\tmul.wide.u32 \t%rd58, %r19, %r18;\n" \
	"\tshr.u64 \t%rd5, %rd58, 6;\n" \
	"\tand.b32  \t%r20, %r1, 32;\n" \
	"\tsetp.eq.s32 \t%p1, %r20, 0;\n" \
	"\t@%p1 bra \t$L__BB0_12;\n" \
	"\tbra.uni \t$L__BB0_1;\n" \
	"$L__BB0_12:\n" \
	"\tand.b32  \t%r48, %r1, 31;\n" \
	"\tcvt.u64.u32 \t%rd21, %r16;\n" \
	"\tmul.lo.s64 \t%rd73, %rd21, %rd6;\n" \
	"\tshr.u64 \t%rd74, %rd73, 3;\n" \
	"\tand.b64  \t%rd22, %rd74, 1152921504606846975;\n" \
	"\tcvt.u64.u32 \t%rd23, %r48;\n" \
	"\tshl.b64 \t%rd24, %rd4, 5;\n" \
	"\tor.b64  \t%rd111, %rd24, %rd23;\n" \
	"\tshl.b64 \t%rd26, %rd5, 5;\n" \
	"\tmul.lo.s64 \t%rd27, %rd5, 96;\n" \
	"\tadd.s64 \t%rd28, %rd111, %rd27;\n" \
	"\tsetp.ge.u64 \t%p11, %rd28, %rd22;\n" \
	"\tmov.u32 \t%r171, 0;\n" \
	"\tmov.u64 \t%rd105, %rd111;\n" \
	"\t@%p11 bra \t$L__BB0_15;\n" \
	"\tadd.s64 \t%rd75, %rd24, %rd23;\n" \
	"\tshl.b64 \t%rd76, %rd75, 4;\n" \
	"\tadd.s64 \t%rd104, %rd1, %rd76;\n" \
	"\tshl.b64 \t%rd30, %rd5, 9;\n" \
	"\tmov.u32 \t%r171, 0;\n" \
	"\tmov.u64 \t%rd105, %rd111;\n" \
	"$L__BB0_14:\n" \
	"\tld.global.v4.u32 \t{%r50, %r51, %r52, %r53}, [%rd104];\n" \
	"\tadd.s64 \t%rd77, %rd104, %rd30;\n" \
	"\tld.global.v4.u32 \t{%r58, %r59, %r60, %r61}, [%rd77];\n" \
	"\tadd.s64 \t%rd78, %rd77, %rd30;\n" \
	"\tld.global.v4.u32 \t{%r66, %r67, %r68, %r69}, [%rd78];\n" \
	"\tadd.s64 \t%rd79, %rd78, %rd30;\n" \
	"\tadd.s64 \t%rd104, %rd79, %rd30;\n" \
	"\tld.global.v4.u32 \t{%r74, %r75, %r76, %r77}, [%rd79];\n" \
	"\txor.b32  \t%r82, %r50, %r171;\n" \
	"\txor.b32  \t%r83, %r82, %r51;\n" \
	"\txor.b32  \t%r84, %r83, %r52;\n" \
	"\txor.b32  \t%r85, %r84, %r53;\n" \
	"\txor.b32  \t%r86, %r85, %r58;\n" \
	"\txor.b32  \t%r87, %r86, %r59;\n" \
	"\txor.b32  \t%r88, %r87, %r60;\n" \
	"\txor.b32  \t%r89, %r88, %r61;\n" \
	"\txor.b32  \t%r90, %r89, %r66;\n" \
	"\txor.b32  \t%r91, %r90, %r67;\n" \
	"\txor.b32  \t%r92, %r91, %r68;\n" \
	"\txor.b32  \t%r93, %r92, %r69;\n" \
	"\txor.b32  \t%r94, %r93, %r74;\n" \
	"\txor.b32  \t%r95, %r94, %r75;\n" \
	"\txor.b32  \t%r96, %r95, %r76;\n" \
	"\txor.b32  \t%r171, %r96, %r77;\n" \
	"\tshl.b64 \t%rd80, %rd26, 2;\n" \
	"\tadd.s64 \t%rd105, %rd80, %rd105;\n" \
	"\tadd.s64 \t%rd81, %rd105, %rd27;\n" \
	"\tsetp.lt.u64 \t%p12, %rd81, %rd22;\n" \
	"\t@%p12 bra \t$L__BB0_14;\n" \
	"$L__BB0_15:\n" \
	"\tsetp.ge.u64 \t%p13, %rd105, %rd22;\n" \
	"\t@%p13 bra \t$L__BB0_17;\n" \
	"$L__BB0_16:\n" \
	"\tshl.b64 \t%rd82, %rd105, 4;\n" \
	"\tadd.s64 \t%rd83, %rd1, %rd82;\n" \
	"\tld.global.v4.u32 \t{%r97, %r98, %r99, %r100}, [%rd83];\n" \
	"\txor.b32  \t%r105, %r97, %r171;\n" \
	"\txor.b32  \t%r106, %r105, %r98;\n" \
	"\txor.b32  \t%r107, %r106, %r99;\n" \
	"\txor.b32  \t%r171, %r107, %r100;\n" \
	"\tadd.s64 \t%rd105, %rd105, %rd26;\n" \
	"\tsetp.lt.u64 \t%p14, %rd105, %rd22;\n" \
	"\t@%p14 bra \t$L__BB0_16;\n" \
	"$L__BB0_17:\n" \
	"\tcvt.u64.u32 \t%rd38, %r15;\n" \
	"\tmul.lo.s64 \t%rd84, %rd21, %rd38;\n" \
	"\tshr.u64 \t%rd85, %rd84, 3;\n" \
	"\tand.b64  \t%rd39, %rd85, 1152921504606846975;\n" \
	"\tsetp.ge.u64 \t%p15, %rd28, %rd39;\n" \
	"\tmov.u32 \t%r175, 0;\n" \
	"\tmov.u64 \t%rd109, %rd111;\n" \
	"\t@%p15 bra \t$L__BB0_20;\n" \
	"\tadd.s64 \t%rd86, %rd24, %rd23;\n" \
	"\tshl.b64 \t%rd87, %rd86, 4;\n" \
	"\tadd.s64 \t%rd108, %rd2, %rd87;\n" \
	"\tshl.b64 \t%rd41, %rd5, 9;\n" \
	"\tmov.u32 \t%r175, 0;\n" \
	"\tmov.u64 \t%rd109, %rd111;\n" \
	"$L__BB0_19:\n" \
	"\tld.global.v4.u32 \t{%r110, %r111, %r112, %r113}, [%rd108];\n" \
	"\tadd.s64 \t%rd88, %rd108, %rd41;\n" \
	"\tld.global.v4.u32 \t{%r118, %r119, %r120, %r121}, [%rd88];\n" \
	"\tadd.s64 \t%rd89, %rd88, %rd41;\n" \
	"\tld.global.v4.u32 \t{%r126, %r127, %r128, %r129}, [%rd89];\n" \
	"\tadd.s64 \t%rd90, %rd89, %rd41;\n" \
	"\tadd.s64 \t%rd108, %rd90, %rd41;\n" \
	"\tld.global.v4.u32 \t{%r134, %r135, %r136, %r137}, [%rd90];\n" \
	"\txor.b32  \t%r142, %r110, %r175;\n" \
	"\txor.b32  \t%r143, %r142, %r111;\n" \
	"\txor.b32  \t%r144, %r143, %r112;\n" \
	"\txor.b32  \t%r145, %r144, %r113;\n" \
	"\txor.b32  \t%r146, %r145, %r118;\n" \
	"\txor.b32  \t%r147, %r146, %r119;\n" \
	"\txor.b32  \t%r148, %r147, %r120;\n" \
	"\txor.b32  \t%r149, %r148, %r121;\n" \
	"\txor.b32  \t%r150, %r149, %r126;\n" \
	"\txor.b32  \t%r151, %r150, %r127;\n" \
	"\txor.b32  \t%r152, %r151, %r128;\n" \
	"\txor.b32  \t%r153, %r152, %r129;\n" \
	"\txor.b32  \t%r154, %r153, %r134;\n" \
	"\txor.b32  \t%r155, %r154, %r135;\n" \
	"\txor.b32  \t%r156, %r155, %r136;\n" \
	"\txor.b32  \t%r175, %r156, %r137;\n" \
	"\tshl.b64 \t%rd91, %rd26, 2;\n" \
	"\tadd.s64 \t%rd109, %rd91, %rd109;\n" \
	"\tadd.s64 \t%rd92, %rd109, %rd27;\n" \
	"\tsetp.lt.u64 \t%p16, %rd92, %rd39;\n" \
	"\t@%p16 bra \t$L__BB0_19;\n" \
	"$L__BB0_20:\n" \
	"\tsetp.ge.u64 \t%p17, %rd109, %rd39;\n" \
	"\t@%p17 bra \t$L__BB0_22;\n" \
	"$L__BB0_21:\n" \
	"\tshl.b64 \t%rd93, %rd109, 4;\n" \
	"\tadd.s64 \t%rd94, %rd2, %rd93;\n" \
	"\tld.global.v4.u32 \t{%r157, %r158, %r159, %r160}, [%rd94];\n" \
	"\txor.b32  \t%r165, %r157, %r175;\n" \
	"\txor.b32  \t%r166, %r165, %r158;\n" \
	"\txor.b32  \t%r167, %r166, %r159;\n" \
	"\txor.b32  \t%r175, %r167, %r160;\n" \
	"\tadd.s64 \t%rd109, %rd109, %rd26;\n" \
	"\tsetp.lt.u64 \t%p18, %rd109, %rd39;\n" \
	"\t@%p18 bra \t$L__BB0_21;\n" \
	"$L__BB0_22:\n" \
	"\txor.b32  \t%r14, %r175, %r171;\n" \
	"\tmul.lo.s64 \t%rd95, %rd38, %rd6;\n" \
	"\tshr.u64 \t%rd96, %rd95, 1;\n" \
	"\tand.b64  \t%rd49, %rd96, 4611686018427387903;\n" \
	"\tsetp.ge.u64 \t%p19, %rd111, %rd49;\n" \
	"\t@%p19 bra \t$L__BB0_24;\n" \
	"$L__BB0_23:\n" \
	"\tshl.b64 \t%rd97, %rd111, 2;\n" \
	"\tadd.s64 \t%rd98, %rd3, %rd97;\n" \
	"\tst.global.u32 \t[%rd98], %r14;\n" \
	"\tadd.s64 \t%rd111, %rd111, %rd26;\n" \
	"\tsetp.lt.u64 \t%p20, %rd111, %rd49;\n" \
	"\t@%p20 bra \t$L__BB0_23;\n" \
	"\tbra.uni \t$L__BB0_24;\n" \
	"$L__BB0_1:\n" \
	"\tcvt.u64.u32 \t%rd59, %r15;\n" \
	"\tmul.lo.s64 \t%rd60, %rd6, %rd59;\n" \
	"\tcvt.u64.u32 \t%rd61, %r16;\n" \
	"\tmul.lo.s64 \t%rd62, %rd60, %rd61;\n" \
	"\tshl.b64 \t%rd63, %rd62, 1;\n" \
	"\tshr.u64 \t%rd64, %rd63, 12;\n" \
	"\tadd.s64 \t%rd7, %rd64, 1;\n" \
	"\tor.b64  \t%rd65, %rd7, %rd5;\n" \
	"\tand.b64  \t%rd66, %rd65, 288230371856744448;\n" \
	"\tsetp.eq.s64 \t%p2, %rd66, 0;\n" \
	"\t@%p2 bra \t$L__BB0_3;\n" \
	"\tdiv.u64 \t%rd99, %rd7, %rd5;\n" \
	"\tmul.lo.s64 \t%rd67, %rd99, %rd5;\n" \
	"\tsub.s64 \t%rd100, %rd7, %rd67;\n" \
	"\tbra.uni \t$L__BB0_4;\n" \
	"$L__BB0_3:\n" \
	"\tcvt.u32.u64 \t%r21, %rd5;\n" \
	"\tcvt.u32.u64 \t%r22, %rd7;\n" \
	"\tdiv.u32 \t%r23, %r22, %r21;\n" \
	"\tmul.lo.s32 \t%r24, %r23, %r21;\n" \
	"\tsub.s32 \t%r25, %r22, %r24;\n" \
	"\tcvt.u64.u32 \t%rd99, %r23;\n" \
	"\tcvt.u64.u32 \t%rd100, %r25;\n" \
	"$L__BB0_4:\n" \
	"\tsetp.gt.u64 \t%p3, %rd100, %rd4;\n" \
	"\tselp.b64 \t%rd68, -1, 0, %p3;\n" \
	"\tsetp.eq.s64 \t%p4, %rd99, %rd68;\n" \
	"\tmov.f32 \t%f284, 0f00000000;\n" \
	"\tmov.f32 \t%f289, %f284;\n" \
	"\tmov.f32 \t%f294, %f284;\n" \
	"\tmov.f32 \t%f299, %f284;\n" \
	"\t@%p4 bra \t$L__BB0_10;\n" \
	"\tselp.u64 \t%rd69, 1, 0, %p3;\n" \
	"\tadd.s64 \t%rd70, %rd99, %rd69;\n" \
	"\tadd.s64 \t%rd71, %rd70, -1;\n" \
	"\tshr.u64 \t%rd72, %rd71, 2;\n" \
	"\tadd.s64 \t%rd14, %rd72, 1;\n" \
	"\tand.b64  \t%rd102, %rd14, 3;\n" \
	"\tsetp.lt.u64 \t%p6, %rd71, 12;\n" \
	"\tmov.f32 \t%f284, 0f00000000;\n" \
	"\tmov.f32 \t%f285, %f284;\n" \
	"\tmov.f32 \t%f286, %f284;\n" \
	"\tmov.f32 \t%f287, %f284;\n" \
	"\tmov.f32 \t%f288, %f284;\n" \
	"\tmov.f32 \t%f290, %f284;\n" \
	"\tmov.f32 \t%f291, %f284;\n" \
	"\tmov.f32 \t%f292, %f284;\n" \
	"\tmov.f32 \t%f293, %f284;\n" \
	"\tmov.f32 \t%f295, %f284;\n" \
	"\tmov.f32 \t%f296, %f284;\n" \
	"\tmov.f32 \t%f297, %f284;\n" \
	"\tmov.f32 \t%f298, %f284;\n" \
	"\t@%p6 bra \t$L__BB0_8;\n" \
	"\tsub.s64 \t%rd101, %rd14, %rd102;\n" \
	"\tmov.f32 \t%f284, 0f00000000;\n" \
	"\tmov.f32 \t%f289, %f284;\n" \
	"\tmov.f32 \t%f294, %f284;\n" \
	"\tmov.f32 \t%f299, %f284;\n" \
	"$L__BB0_7:\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f299, %f298, %f297, %f296}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f299, %f298, %f297, %f296};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f295, %f294, %f293, %f292}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f295, %f294, %f293, %f292};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f291, %f290, %f289, %f288}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f291, %f290, %f289, %f288};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f287, %f286, %f285, %f284}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f287, %f286, %f285, %f284};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f299, %f298, %f297, %f296}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f299, %f298, %f297, %f296};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f295, %f294, %f293, %f292}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f295, %f294, %f293, %f292};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f291, %f290, %f289, %f288}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f291, %f290, %f289, %f288};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f287, %f286, %f285, %f284}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f287, %f286, %f285, %f284};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f299, %f298, %f297, %f296}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f299, %f298, %f297, %f296};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f295, %f294, %f293, %f292}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f295, %f294, %f293, %f292};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f291, %f290, %f289, %f288}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f291, %f290, %f289, %f288};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f287, %f286, %f285, %f284}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f287, %f286, %f285, %f284};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f299, %f298, %f297, %f296}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f299, %f298, %f297, %f296};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f295, %f294, %f293, %f292}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f295, %f294, %f293, %f292};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f291, %f290, %f289, %f288}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f291, %f290, %f289, %f288};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f287, %f286, %f285, %f284}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f287, %f286, %f285, %f284};\n" \
	"\tadd.s64 \t%rd101, %rd101, -4;\n" \
	"\tsetp.ne.s64 \t%p7, %rd101, 0;\n" \
	"\t@%p7 bra \t$L__BB0_7;\n" \
	"$L__BB0_8:\n" \
	"\tsetp.eq.s64 \t%p8, %rd102, 0;\n" \
	"\t@%p8 bra \t$L__BB0_10;\n" \
	"$L__BB0_9:\n" \
	"\t.pragma \"nounroll\";\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f299, %f298, %f297, %f296}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f299, %f298, %f297, %f296};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f295, %f294, %f293, %f292}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f295, %f294, %f293, %f292};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f291, %f290, %f289, %f288}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f291, %f290, %f289, %f288};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f287, %f286, %f285, %f284}, {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%f287, %f286, %f285, %f284};\n" \
	"\tadd.s64 \t%rd102, %rd102, -1;\n" \
	"\tsetp.ne.s64 \t%p9, %rd102, 0;\n" \
	"\t@%p9 bra \t$L__BB0_9;\n" \
	"$L__BB0_10:\n" \
	"\tadd.f32 \t%f281, %f299, %f294;\n" \
	"\tadd.f32 \t%f282, %f281, %f289;\n" \
	"\tadd.f32 \t%f283, %f282, %f284;\n" \
	"\tsetp.neu.f32 \t%p10, %f283, 0f7F7FC99E;\n" \
	"\t@%p10 bra \t$L__BB0_24;\n" \
	"\tmov.u32 \t%r46, 1;\n" \
	"\tst.global.u32 \t[%rd3], %r46;\n" \
	"$L__BB0_24:\n" \
	"\tret;\n" \
	"}\n" \
	".visible .entry aq_llm_attend(\n" \
	"\t.param .u64 aq_llm_attend_param_0,\n" \
	"\t.param .u64 aq_llm_attend_param_1,\n" \
	"\t.param .u64 aq_llm_attend_param_2,\n" \
	"\t.param .u64 aq_llm_attend_param_3,\n" \
	"\t.param .u32 aq_llm_attend_param_4,\n" \
	"\t.param .u32 aq_llm_attend_param_5,\n" \
	"\t.param .u32 aq_llm_attend_param_6,\n" \
	"\t.param .u32 aq_llm_attend_param_7\n" \
	")\n" \
	"{\n" \
	"\t.reg .pred \t%p<31>;\n" \
	"\t.reg .f32 \t%f<396>;\n" \
	"\t.reg .b32 \t%r<174>;\n" \
	"\t.reg .b64 \t%rd<106>;\n" \
	"\tld.param.u64 \t%rd47, [aq_llm_attend_param_0];\n" \
	"\tld.param.u64 \t%rd48, [aq_llm_attend_param_1];\n" \
	"\tld.param.u64 \t%rd49, [aq_llm_attend_param_2];\n" \
	"\tld.param.u64 \t%rd46, [aq_llm_attend_param_3];\n" \
	"\tld.param.u32 \t%r36, [aq_llm_attend_param_4];\n" \
	"\tld.param.u32 \t%r37, [aq_llm_attend_param_5];\n" \
	"\tld.param.u32 \t%r38, [aq_llm_attend_param_6];\n" \
	"\tld.param.u32 \t%r39, [aq_llm_attend_param_7];\n" \
	"\tcvta.to.global.u64 \t%rd1, %rd48;\n" \
	"\tcvta.to.global.u64 \t%rd2, %rd49;\n" \
	"\tcvta.to.global.u64 \t%rd3, %rd47;\n" \
	"\tmov.u32 \t%r1, %nctaid.x;\n" \
	"\tsetp.lt.u32 \t%p1, %r1, %r36;\n" \
	"\tmov.u32 \t%r162, 1;\n" \
	"\t@%p1 bra \t$L__BB1_2;\n" \
	"\tdiv.u32 \t%r162, %r1, %r36;\n" \
	"$L__BB1_2:\n" \
	"\tcvt.u64.u32 \t%rd4, %r39;\n" \
	"\tmul.wide.u32 \t%rd50, %r39, %r38;\n" \
	"\tshr.u64 \t%rd51, %rd50, 2;\n" \
	"\tand.b64  \t%rd5, %rd51, 1152921504606846975;\n" \
	"\tshl.b64 \t%rd6, %rd51, 4;\n" \
	"\tmov.u32 \t%r41, %ntid.x;\n" \
	"\tshr.u32 \t%r4, %r41, 6;\n" \
	"\tmov.u32 \t%r5, %tid.x;\n" \
	"\tand.b32  \t%r6, %r5, 31;\n" \
	"\tmul.lo.s32 \t%r7, %r162, %r36;\n" \
	"\tmov.u32 \t%r163, %ctaid.x;\n" \
	"\tsetp.ge.u32 \t%p2, %r163, %r7;\n" \
	"\t@%p2 bra \t$L__BB1_39;\n" \
	"\tshr.u32 \t%r9, %r5, 6;\n" \
	"\tand.b32  \t%r10, %r5, 32;\n" \
	"\tcvt.u64.u32 \t%rd52, %r37;\n" \
	"\tmul.lo.s64 \t%rd53, %rd52, %rd4;\n" \
	"\tshl.b64 \t%rd7, %rd53, 2;\n" \
	"\tmul.lo.s32 \t%r43, %r162, %r4;\n" \
	"\tcvt.u64.u32 \t%rd8, %r43;\n" \
	"\tcvt.u64.u32 \t%rd9, %r6;\n" \
	"\tor.b64  \t%rd10, %rd9, 96;\n" \
	"\tnot.b64 \t%rd54, %rd9;\n" \
	"\tadd.s64 \t%rd11, %rd5, %rd54;\n" \
	"\tshr.u64 \t%rd55, %rd11, 5;\n" \
	"\tadd.s64 \t%rd56, %rd55, 1;\n" \
	"\tand.b64  \t%rd12, %rd56, 3;\n" \
	"\tor.b64  \t%rd13, %rd9, 32;\n" \
	"\tor.b64  \t%rd14, %rd9, 64;\n" \
	"\tmul.wide.u32 \t%rd57, %r6, 16;\n" \
	"\tadd.s64 \t%rd58, %rd1, %rd57;\n" \
	"\tadd.s64 \t%rd15, %rd58, 1024;\n" \
	"\tcvta.to.global.u64 \t%rd16, %rd46;\n" \
	"\tmov.u32 \t%r173, 0;\n" \
	"$L__BB1_4:\n" \
	"\tdiv.u32 \t%r44, %r163, %r162;\n" \
	"\tmul.wide.u32 \t%rd59, %r44, 16;\n" \
	"\tadd.s64 \t%rd60, %rd16, %rd59;\n" \
	"\tld.global.u32 \t%r45, [%rd60];\n" \
	"\tcvt.u64.u32 \t%rd17, %r45;\n" \
	"\tld.global.u32 \t%r46, [%rd60+4];\n" \
	"\tcvt.u64.u32 \t%rd18, %r46;\n" \
	"\tld.global.u32 \t%r13, [%rd60+8];\n" \
	"\tmul.lo.s32 \t%r47, %r44, %r162;\n" \
	"\tsub.s32 \t%r48, %r163, %r47;\n" \
	"\tmad.lo.s32 \t%r14, %r48, %r4, %r9;\n" \
	"\tadd.s32 \t%r15, %r45, -1;\n" \
	"\tsetp.ge.u32 \t%p3, %r15, %r46;\n" \
	"\t@%p3 bra \t$L__BB1_38;\n" \
	"\tsetp.eq.s32 \t%p4, %r10, 0;\n" \
	"\t@%p4 bra \t$L__BB1_19;\n" \
	"\tbra.uni \t$L__BB1_6;\n" \
	"$L__BB1_19:\n" \
	"\tcvt.u32.u64 \t%r83, %rd18;\n" \
	"\tshl.b32 \t%r84, %r14, 4;\n" \
	"\tsetp.ge.u32 \t%p15, %r84, %r83;\n" \
	"\t@%p15 bra \t$L__BB1_27;\n" \
	"\tmov.u32 \t%r165, %r14;\n" \
	"$L__BB1_21:\n" \
	"\tadd.s32 \t%r86, %r165, %r13;\n" \
	"\tmul.wide.u32 \t%rd75, %r86, 4;\n" \
	"\tadd.s64 \t%rd76, %rd2, %rd75;\n" \
	"\tld.global.u32 \t%rd77, [%rd76];\n" \
	"\tmul.lo.s64 \t%rd32, %rd6, %rd77;\n" \
	"\tsetp.ge.u64 \t%p16, %rd10, %rd6;\n" \
	"\tmov.u32 \t%r170, 0;\n" \
	"\tmov.u64 \t%rd103, %rd9;\n" \
	"\t@%p16 bra \t$L__BB1_24;\n" \
	"\tshl.b64 \t%rd78, %rd32, 4;\n" \
	"\tadd.s64 \t%rd100, %rd15, %rd78;\n" \
	"\tmov.u32 \t%r170, 0;\n" \
	"\tmov.u64 \t%rd101, %rd9;\n" \
	"$L__BB1_23:\n" \
	"\tld.global.v4.u32 \t{%r88, %r89, %r90, %r91}, [%rd100+-1024];\n" \
	"\tld.global.v4.u32 \t{%r96, %r97, %r98, %r99}, [%rd100+-512];\n" \
	"\tld.global.v4.u32 \t{%r104, %r105, %r106, %r107}, [%rd100];\n" \
	"\tld.global.v4.u32 \t{%r112, %r113, %r114, %r115}, [%rd100+512];\n" \
	"\txor.b32  \t%r120, %r88, %r170;\n" \
	"\txor.b32  \t%r121, %r120, %r89;\n" \
	"\txor.b32  \t%r122, %r121, %r90;\n" \
	"\txor.b32  \t%r123, %r122, %r91;\n" \
	"\txor.b32  \t%r124, %r123, %r96;\n" \
	"\txor.b32  \t%r125, %r124, %r97;\n" \
	"\txor.b32  \t%r126, %r125, %r98;\n" \
	"\txor.b32  \t%r127, %r126, %r99;\n" \
	"\txor.b32  \t%r128, %r127, %r104;\n" \
	"\txor.b32  \t%r129, %r128, %r105;\n" \
	"\txor.b32  \t%r130, %r129, %r106;\n" \
	"\txor.b32  \t%r131, %r130, %r107;\n" \
	"\txor.b32  \t%r132, %r131, %r112;\n" \
	"\txor.b32  \t%r133, %r132, %r113;\n" \
	"\txor.b32  \t%r134, %r133, %r114;\n" \
	"\txor.b32  \t%r170, %r134, %r115;\n" \
	"\tadd.s64 \t%rd100, %rd100, 2048;\n" \
	"\tadd.s64 \t%rd103, %rd101, 128;\n" \
	"\tadd.s64 \t%rd79, %rd101, 224;\n" \
	"\tsetp.lt.u64 \t%p17, %rd79, %rd6;\n" \
	"\tmov.u64 \t%rd101, %rd103;\n" \
	"\t@%p17 bra \t$L__BB1_23;\n" \
	"$L__BB1_24:\n" \
	"\tsetp.ge.u64 \t%p18, %rd103, %rd6;\n" \
	"\t@%p18 bra \t$L__BB1_26;\n" \
	"$L__BB1_25:\n" \
	"\tadd.s64 \t%rd80, %rd103, %rd32;\n" \
	"\tshl.b64 \t%rd81, %rd80, 4;\n" \
	"\tadd.s64 \t%rd82, %rd1, %rd81;\n" \
	"\tld.global.v4.u32 \t{%r135, %r136, %r137, %r138}, [%rd82];\n" \
	"\txor.b32  \t%r143, %r135, %r170;\n" \
	"\txor.b32  \t%r144, %r143, %r136;\n" \
	"\txor.b32  \t%r145, %r144, %r137;\n" \
	"\txor.b32  \t%r170, %r145, %r138;\n" \
	"\tadd.s64 \t%rd103, %rd103, 32;\n" \
	"\tsetp.lt.u64 \t%p19, %rd103, %rd6;\n" \
	"\t@%p19 bra \t$L__BB1_25;\n" \
	"$L__BB1_26:\n" \
	"\txor.b32  \t%r173, %r170, %r173;\n" \
	"\tcvt.u32.u64 \t%r146, %rd8;\n" \
	"\tadd.s32 \t%r165, %r165, %r146;\n" \
	"\tshl.b32 \t%r147, %r165, 4;\n" \
	"\tsetp.lt.u32 \t%p20, %r147, %r83;\n" \
	"\t@%p20 bra \t$L__BB1_21;\n" \
	"$L__BB1_27:\n" \
	"\tcvt.u32.u64 \t%r149, %rd17;\n" \
	"\tsub.s32 \t%r151, %r83, %r149;\n" \
	"\tadd.s32 \t%r172, %r151, %r14;\n" \
	"\tsetp.ge.u32 \t%p21, %r172, %r83;\n" \
	"\t@%p21 bra \t$L__BB1_36;\n" \
	"$L__BB1_28:\n" \
	"\tshr.u32 \t%r152, %r172, 4;\n" \
	"\tadd.s32 \t%r153, %r152, %r13;\n" \
	"\tmul.wide.u32 \t%rd83, %r153, 4;\n" \
	"\tadd.s64 \t%rd84, %rd2, %rd83;\n" \
	"\tld.global.u32 \t%rd85, [%rd84];\n" \
	"\tmul.lo.s64 \t%rd86, %rd6, %rd85;\n" \
	"\tand.b32  \t%r154, %r172, 15;\n" \
	"\tcvt.u64.u32 \t%rd87, %r154;\n" \
	"\tmul.lo.s64 \t%rd88, %rd5, %rd87;\n" \
	"\tadd.s64 \t%rd41, %rd86, %rd88;\n" \
	"\tsetp.le.u64 \t%p22, %rd5, %rd9;\n" \
	"\t@%p22 bra \t$L__BB1_35;\n" \
	"\tsetp.eq.s64 \t%p23, %rd12, 0;\n" \
	"\tmov.u64 \t%rd104, %rd9;\n" \
	"\t@%p23 bra \t$L__BB1_33;\n" \
	"\tsetp.eq.s64 \t%p24, %rd12, 1;\n" \
	"\tadd.s64 \t%rd89, %rd41, %rd9;\n" \
	"\tshl.b64 \t%rd90, %rd89, 4;\n" \
	"\tadd.s64 \t%rd42, %rd1, %rd90;\n" \
	"\tmov.u32 \t%r32, 0;\n" \
	"\tst.global.v4.u32 \t[%rd42], {%r173, %r172, %r6, %r32};\n" \
	"\tmov.u64 \t%rd104, %rd13;\n" \
	"\t@%p24 bra \t$L__BB1_33;\n" \
	"\tsetp.eq.s64 \t%p25, %rd12, 2;\n" \
	"\tst.global.v4.u32 \t[%rd42+512], {%r173, %r172, %r6, %r32};\n" \
	"\tmov.u64 \t%rd104, %rd14;\n" \
	"\t@%p25 bra \t$L__BB1_33;\n" \
	"\tmov.u32 \t%r156, 0;\n" \
	"\tst.global.v4.u32 \t[%rd42+1024], {%r173, %r172, %r6, %r156};\n" \
	"\tmov.u64 \t%rd104, %rd10;\n" \
	"$L__BB1_33:\n" \
	"\tsetp.lt.u64 \t%p26, %rd11, 96;\n" \
	"\t@%p26 bra \t$L__BB1_35;\n" \
	"$L__BB1_34:\n" \
	"\tadd.s64 \t%rd91, %rd41, %rd104;\n" \
	"\tshl.b64 \t%rd92, %rd91, 4;\n" \
	"\tadd.s64 \t%rd93, %rd1, %rd92;\n" \
	"\tmov.u32 \t%r157, 0;\n" \
	"\tst.global.v4.u32 \t[%rd93], {%r173, %r172, %r6, %r157};\n" \
	"\tst.global.v4.u32 \t[%rd93+512], {%r173, %r172, %r6, %r157};\n" \
	"\tst.global.v4.u32 \t[%rd93+1024], {%r173, %r172, %r6, %r157};\n" \
	"\tst.global.v4.u32 \t[%rd93+1536], {%r173, %r172, %r6, %r157};\n" \
	"\tadd.s64 \t%rd104, %rd104, 128;\n" \
	"\tsetp.lt.u64 \t%p27, %rd104, %rd5;\n" \
	"\t@%p27 bra \t$L__BB1_34;\n" \
	"$L__BB1_35:\n" \
	"\tcvt.u32.u64 \t%r159, %rd8;\n" \
	"\tadd.s32 \t%r172, %r172, %r159;\n" \
	"\tsetp.lt.u32 \t%p28, %r172, %r83;\n" \
	"\t@%p28 bra \t$L__BB1_28;\n" \
	"$L__BB1_36:\n" \
	"\tsetp.ne.s32 \t%p29, %r6, 0;\n" \
	"\t@%p29 bra \t$L__BB1_38;\n" \
	"\tshl.b32 \t%r160, %r163, 2;\n" \
	"\tcvt.u64.u32 \t%rd94, %r160;\n" \
	"\tand.b64  \t%rd95, %rd94, 4092;\n" \
	"\tadd.s64 \t%rd96, %rd3, %rd95;\n" \
	"\tst.global.u32 \t[%rd96], %r173;\n" \
	"\tbra.uni \t$L__BB1_38;\n" \
	"$L__BB1_6:\n" \
	"\tmul.lo.s64 \t%rd61, %rd18, %rd17;\n" \
	"\tcvt.u64.u32 \t%rd62, %r15;\n" \
	"\tmul.lo.s64 \t%rd63, %rd62, %rd17;\n" \
	"\tshr.u64 \t%rd64, %rd63, 1;\n" \
	"\tsub.s64 \t%rd65, %rd61, %rd64;\n" \
	"\tmul.lo.s64 \t%rd66, %rd7, %rd65;\n" \
	"\tshr.u64 \t%rd67, %rd66, 12;\n" \
	"\tadd.s64 \t%rd19, %rd67, 1;\n" \
	"\tcvt.u64.u32 \t%rd20, %r14;\n" \
	"\tand.b64  \t%rd68, %rd19, 9007194959773696;\n" \
	"\tsetp.eq.s64 \t%p5, %rd68, 0;\n" \
	"\t@%p5 bra \t$L__BB1_8;\n" \
	"\tdiv.u64 \t%rd97, %rd19, %rd8;\n" \
	"\tmul.lo.s64 \t%rd69, %rd97, %rd8;\n" \
	"\tsub.s64 \t%rd98, %rd19, %rd69;\n" \
	"\tbra.uni \t$L__BB1_9;\n" \
	"$L__BB1_8:\n" \
	"\tcvt.u32.u64 \t%r49, %rd8;\n" \
	"\tcvt.u32.u64 \t%r50, %rd19;\n" \
	"\tdiv.u32 \t%r51, %r50, %r49;\n" \
	"\tmul.lo.s32 \t%r52, %r51, %r49;\n" \
	"\tsub.s32 \t%r53, %r50, %r52;\n" \
	"\tcvt.u64.u32 \t%rd97, %r51;\n" \
	"\tcvt.u64.u32 \t%rd98, %r53;\n" \
	"$L__BB1_9:\n" \
	"\tsetp.gt.u64 \t%p6, %rd98, %rd20;\n" \
	"\tselp.b64 \t%rd70, -1, 0, %p6;\n" \
	"\tsetp.eq.s64 \t%p7, %rd97, %rd70;\n" \
	"\tmov.f32 \t%f360, 0f00000000;\n" \
	"\tmov.f32 \t%f365, %f360;\n" \
	"\tmov.f32 \t%f370, %f360;\n" \
	"\tmov.f32 \t%f375, %f360;\n" \
	"\t@%p7 bra \t$L__BB1_17;\n" \
	"\tselp.u64 \t%rd71, 1, 0, %p6;\n" \
	"\tadd.s64 \t%rd72, %rd97, %rd71;\n" \
	"\tadd.s64 \t%rd73, %rd72, -1;\n" \
	"\tshr.u64 \t%rd74, %rd73, 2;\n" \
	"\tadd.s64 \t%rd27, %rd74, 1;\n" \
	"\tand.b64  \t%rd28, %rd27, 3;\n" \
	"\tsetp.lt.u64 \t%p9, %rd73, 12;\n" \
	"\tmov.f32 \t%f360, 0f00000000;\n" \
	"\tmov.f32 \t%f361, %f360;\n" \
	"\tmov.f32 \t%f362, %f360;\n" \
	"\tmov.f32 \t%f363, %f360;\n" \
	"\tmov.f32 \t%f364, %f360;\n" \
	"\tmov.f32 \t%f366, %f360;\n" \
	"\tmov.f32 \t%f367, %f360;\n" \
	"\tmov.f32 \t%f368, %f360;\n" \
	"\tmov.f32 \t%f369, %f360;\n" \
	"\tmov.f32 \t%f371, %f360;\n" \
	"\tmov.f32 \t%f372, %f360;\n" \
	"\tmov.f32 \t%f373, %f360;\n" \
	"\tmov.f32 \t%f374, %f360;\n" \
	"\t@%p9 bra \t$L__BB1_13;\n" \
	"\tsub.s64 \t%rd99, %rd27, %rd28;\n" \
	"\tmov.f32 \t%f360, 0f00000000;\n" \
	"\tmov.f32 \t%f365, %f360;\n" \
	"\tmov.f32 \t%f370, %f360;\n" \
	"\tmov.f32 \t%f375, %f360;\n" \
	"$L__BB1_12:\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f375, %f374, %f373, %f372}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f375, %f374, %f373, %f372};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f371, %f370, %f369, %f368}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f371, %f370, %f369, %f368};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f367, %f366, %f365, %f364}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f367, %f366, %f365, %f364};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f363, %f362, %f361, %f360}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f363, %f362, %f361, %f360};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f375, %f374, %f373, %f372}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f375, %f374, %f373, %f372};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f371, %f370, %f369, %f368}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f371, %f370, %f369, %f368};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f367, %f366, %f365, %f364}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f367, %f366, %f365, %f364};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f363, %f362, %f361, %f360}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f363, %f362, %f361, %f360};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f375, %f374, %f373, %f372}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f375, %f374, %f373, %f372};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f371, %f370, %f369, %f368}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f371, %f370, %f369, %f368};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f367, %f366, %f365, %f364}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f367, %f366, %f365, %f364};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f363, %f362, %f361, %f360}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f363, %f362, %f361, %f360};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f375, %f374, %f373, %f372}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f375, %f374, %f373, %f372};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f371, %f370, %f369, %f368}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f371, %f370, %f369, %f368};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f367, %f366, %f365, %f364}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f367, %f366, %f365, %f364};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f363, %f362, %f361, %f360}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f363, %f362, %f361, %f360};\n" \
	"\tadd.s64 \t%rd99, %rd99, -4;\n" \
	"\tsetp.ne.s64 \t%p10, %rd99, 0;\n" \
	"\t@%p10 bra \t$L__BB1_12;\n" \
	"$L__BB1_13:\n" \
	"\tsetp.eq.s64 \t%p11, %rd28, 0;\n" \
	"\t@%p11 bra \t$L__BB1_17;\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f375, %f374, %f373, %f372}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f375, %f374, %f373, %f372};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f371, %f370, %f369, %f368}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f371, %f370, %f369, %f368};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f367, %f366, %f365, %f364}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f367, %f366, %f365, %f364};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f363, %f362, %f361, %f360}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f363, %f362, %f361, %f360};\n" \
	"\tsetp.eq.s64 \t%p12, %rd28, 1;\n" \
	"\t@%p12 bra \t$L__BB1_17;\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f375, %f374, %f373, %f372}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f375, %f374, %f373, %f372};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f371, %f370, %f369, %f368}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f371, %f370, %f369, %f368};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f367, %f366, %f365, %f364}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f367, %f366, %f365, %f364};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f363, %f362, %f361, %f360}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f363, %f362, %f361, %f360};\n" \
	"\tsetp.eq.s64 \t%p13, %rd28, 2;\n" \
	"\t@%p13 bra \t$L__BB1_17;\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f375, %f374, %f373, %f372}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f375, %f374, %f373, %f372};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f371, %f370, %f369, %f368}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f371, %f370, %f369, %f368};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f367, %f366, %f365, %f364}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f367, %f366, %f365, %f364};\n" \
	"\tmma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f363, %f362, %f361, %f360}, {%r5, %r5, %r5, %r5}, {%r5, %r5}, {%f363, %f362, %f361, %f360};\n" \
	"$L__BB1_17:\n" \
	"\tadd.f32 \t%f357, %f375, %f370;\n" \
	"\tadd.f32 \t%f358, %f357, %f365;\n" \
	"\tadd.f32 \t%f359, %f358, %f360;\n" \
	"\tsetp.neu.f32 \t%p14, %f359, 0f7F7FC99E;\n" \
	"\t@%p14 bra \t$L__BB1_38;\n" \
	"\tmov.u32 \t%r82, 1;\n" \
	"\tst.global.u32 \t[%rd3], %r82;\n" \
	"$L__BB1_38:\n" \
	"\tmov.u32 \t%r161, %nctaid.x;\n" \
	"\tadd.s32 \t%r163, %r163, %r161;\n" \
	"\tsetp.lt.u32 \t%p30, %r163, %r7;\n" \
	"\t@%p30 bra \t$L__BB1_4;\n" \
	"$L__BB1_39:\n" \
	"\tret;\n" \
	"}\n" \
	".visible .entry aq_llm_pointwise(\n" \
	"\t.param .u64 aq_llm_pointwise_param_0,\n" \
	"\t.param .u64 aq_llm_pointwise_param_1,\n" \
	"\t.param .u64 aq_llm_pointwise_param_2\n" \
	")\n" \
	"{\n" \
	"\t.reg .pred \t%p<3>;\n" \
	"\t.reg .b32 \t%r<14>;\n" \
	"\t.reg .b64 \t%rd<19>;\n" \
	"\tld.param.u64 \t%rd9, [aq_llm_pointwise_param_0];\n" \
	"\tld.param.u64 \t%rd10, [aq_llm_pointwise_param_1];\n" \
	"\tld.param.u64 \t%rd11, [aq_llm_pointwise_param_2];\n" \
	"\tmov.u32 \t%r1, %ntid.x;\n" \
	"\tcvt.u64.u32 \t%rd1, %r1;\n" \
	"\tmov.u32 \t%r2, %ctaid.x;\n" \
	"\tmul.wide.u32 \t%rd12, %r2, %r1;\n" \
	"\tmov.u32 \t%r3, %tid.x;\n" \
	"\tcvt.u64.u32 \t%rd13, %r3;\n" \
	"\tadd.s64 \t%rd18, %rd12, %rd13;\n" \
	"\tshr.u64 \t%rd3, %rd11, 4;\n" \
	"\tsetp.ge.u64 \t%p1, %rd18, %rd3;\n" \
	"\t@%p1 bra \t$L__BB2_3;\n" \
	"\tmov.u32 \t%r4, %nctaid.x;\n" \
	"\tcvt.u64.u32 \t%rd14, %r4;\n" \
	"\tmul.lo.s64 \t%rd4, %rd14, %rd1;\n" \
	"\tcvta.to.global.u64 \t%rd5, %rd10;\n" \
	"\tcvta.to.global.u64 \t%rd6, %rd9;\n" \
	"$L__BB2_2:\n" \
	"\tshl.b64 \t%rd15, %rd18, 4;\n" \
	"\tadd.s64 \t%rd16, %rd5, %rd15;\n" \
	"\tld.global.v4.u32 \t{%r5, %r6, %r7, %r8}, [%rd16];\n" \
	"\tadd.s32 \t%r13, %r5, 1;\n" \
	"\tadd.s64 \t%rd17, %rd6, %rd15;\n" \
	"\tst.global.v4.u32 \t[%rd17], {%r13, %r6, %r7, %r8};\n" \
	"\tadd.s64 \t%rd18, %rd18, %rd4;\n" \
	"\tsetp.lt.u64 \t%p2, %rd18, %rd3;\n" \
	"\t@%p2 bra \t$L__BB2_2;\n" \
	"$L__BB2_3:\n" \
	"\tret;\n" \
	"}\n" \
	".visible .entry aq_llm_fill(\n" \
	"\t.param .u64 aq_llm_fill_param_0,\n" \
	"\t.param .u64 aq_llm_fill_param_1,\n" \
	"\t.param .u32 aq_llm_fill_param_2\n" \
	")\n" \
	"{\n" \
	"\t.reg .pred \t%p<3>;\n" \
	"\t.reg .b32 \t%r<16>;\n" \
	"\t.reg .b64 \t%rd<16>;\n" \
	"\tld.param.u64 \t%rd8, [aq_llm_fill_param_0];\n" \
	"\tld.param.u64 \t%rd9, [aq_llm_fill_param_1];\n" \
	"\tld.param.u32 \t%r1, [aq_llm_fill_param_2];\n" \
	"\tmov.u32 \t%r2, %ntid.x;\n" \
	"\tcvt.u64.u32 \t%rd1, %r2;\n" \
	"\tmov.u32 \t%r3, %ctaid.x;\n" \
	"\tmul.wide.u32 \t%rd10, %r3, %r2;\n" \
	"\tmov.u32 \t%r4, %tid.x;\n" \
	"\tcvt.u64.u32 \t%rd11, %r4;\n" \
	"\tadd.s64 \t%rd15, %rd10, %rd11;\n" \
	"\tshr.u64 \t%rd3, %rd9, 2;\n" \
	"\tsetp.ge.u64 \t%p1, %rd15, %rd3;\n" \
	"\t@%p1 bra \t$L__BB3_3;\n" \
	"\tmov.u32 \t%r5, %nctaid.x;\n" \
	"\tcvt.u64.u32 \t%rd12, %r5;\n" \
	"\tmul.lo.s64 \t%rd4, %rd12, %rd1;\n" \
	"\tcvta.to.global.u64 \t%rd5, %rd8;\n" \
	"$L__BB3_2:\n" \
	"\tcvt.u32.u64 \t%r6, %rd15;\n" \
	"\tmul.lo.s32 \t%r7, %r6, -1640531535;\n" \
	"\txor.b32  \t%r8, %r7, %r1;\n" \
	"\tshr.u32 \t%r9, %r8, 15;\n" \
	"\txor.b32  \t%r10, %r9, %r8;\n" \
	"\tmul.lo.s32 \t%r11, %r10, -2048144777;\n" \
	"\tshr.u32 \t%r12, %r11, 13;\n" \
	"\txor.b32  \t%r13, %r12, %r11;\n" \
	"\tand.b32  \t%r14, %r13, -2080406529;\n" \
	"\tor.b32  \t%r15, %r14, 1006648320;\n" \
	"\tshl.b64 \t%rd13, %rd15, 2;\n" \
	"\tadd.s64 \t%rd14, %rd5, %rd13;\n" \
	"\tst.global.u32 \t[%rd14], %r15;\n" \
	"\tadd.s64 \t%rd15, %rd15, %rd4;\n" \
	"\tsetp.lt.u64 \t%p2, %rd15, %rd3;\n" \
	"\t@%p2 bra \t$L__BB3_2;\n" \
	"$L__BB3_3:\n" \
	"\tret;\n" \
	"}\n"
/* clang-format on */

#endif /* AQ_BENCH_LLM_KERNELS_PTX_H */
