/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The classic: c = a + b on the device, from PTX text, checked on the host. Prints what device and
 * how much memory it saw, and exits 0 only when every element is right. Knows nothing of Aliquot.
 *
 *   vectoradd [ELEMENTS]
 */
#include <stdio.h>
#include <stdlib.h>

#include "cu.h"

static const char ptx[] = ".version 7.0\n"
			  ".target sm_70\n"
			  ".address_size 64\n"
			  ".visible .entry vectoradd(\n"
			  "    .param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n)\n"
			  "{\n"
			  "    .reg .pred %p<2>;\n"
			  "    .reg .b32 %r<6>;\n"
			  "    .reg .f32 %f<4>;\n"
			  "    .reg .b64 %rd<11>;\n"
			  "    ld.param.u64 %rd1, [a];\n"
			  "    ld.param.u64 %rd2, [b];\n"
			  "    ld.param.u64 %rd3, [c];\n"
			  "    ld.param.u32 %r1, [n];\n"
			  "    mov.u32 %r2, %ctaid.x;\n"
			  "    mov.u32 %r3, %ntid.x;\n"
			  "    mov.u32 %r4, %tid.x;\n"
			  "    mad.lo.s32 %r5, %r2, %r3, %r4;\n"
			  "    setp.ge.u32 %p1, %r5, %r1;\n"
			  "    @%p1 bra DONE;\n"
			  "    cvta.to.global.u64 %rd4, %rd1;\n"
			  "    cvta.to.global.u64 %rd5, %rd2;\n"
			  "    cvta.to.global.u64 %rd6, %rd3;\n"
			  "    mul.wide.u32 %rd7, %r5, 4;\n"
			  "    add.s64 %rd8, %rd4, %rd7;\n"
			  "    add.s64 %rd9, %rd5, %rd7;\n"
			  "    add.s64 %rd10, %rd6, %rd7;\n"
			  "    ld.global.f32 %f1, [%rd8];\n"
			  "    ld.global.f32 %f2, [%rd9];\n"
			  "    add.f32 %f3, %f1, %f2;\n"
			  "    st.global.f32 [%rd10], %f3;\n"
			  "DONE:\n"
			  "    ret;\n"
			  "}\n";

static void check(CUresult r, const char *what)
{
	const char *name = NULL;

	if (r == CUDA_SUCCESS)
		return;
	if (cuGetErrorName(r, &name) != CUDA_SUCCESS || !name)
		name = "?";
	fprintf(stderr, "vectoradd: %s: %s (%d)\n", what, name, (int)r);
	exit(1);
}

int main(int argc, char **argv)
{
	unsigned int n = argc > 1 ? (unsigned int)strtoul(argv[1], NULL, 10) : 100000;
	size_t bytes = n * sizeof(float), total = 0, free_now = 0;
	char device_name[128] = "";
	CUdeviceptr da, db, dc;
	CUdevice dev;
	CUcontext ctx;
	CUmodule module;
	CUfunction function;
	float *a, *b, *c;

	check(cuInit(0), "cuInit");
	check(cuDeviceGet(&dev, 0), "cuDeviceGet");
	check(cuDeviceGetName(device_name, sizeof(device_name), dev), "cuDeviceGetName");
	check(cuDevicePrimaryCtxRetain(&ctx, dev), "cuDevicePrimaryCtxRetain");
	check(cuCtxSetCurrent(ctx), "cuCtxSetCurrent");
	check(cuMemGetInfo(&free_now, &total), "cuMemGetInfo");
	check(cuModuleLoadData(&module, ptx), "cuModuleLoadData");
	check(cuModuleGetFunction(&function, module, "vectoradd"), "cuModuleGetFunction");

	a = malloc(bytes);
	b = malloc(bytes);
	c = calloc(n, sizeof(float));
	if (!a || !b || !c)
		return 1;
	for (unsigned int i = 0; i < n; i++) {
		a[i] = (float)i;
		b[i] = (float)(2 * i + 1);
	}
	check(cuMemAlloc(&da, bytes), "cuMemAlloc");
	check(cuMemAlloc(&db, bytes), "cuMemAlloc");
	check(cuMemAlloc(&dc, bytes), "cuMemAlloc");
	check(cuMemcpyHtoD(da, a, bytes), "cuMemcpyHtoD");
	check(cuMemcpyHtoD(db, b, bytes), "cuMemcpyHtoD");
	{
		void *params[] = {&da, &db, &dc, &n};

		check(cuLaunchKernel(function, (n + 255) / 256, 1, 1, 256, 1, 1, 0, NULL, params,
				     NULL),
		      "cuLaunchKernel");
	}
	check(cuCtxSynchronize(), "cuCtxSynchronize");
	check(cuMemcpyDtoH(c, dc, bytes), "cuMemcpyDtoH");
	for (unsigned int i = 0; i < n; i++) {
		if (c[i] != a[i] + b[i]) {
			fprintf(stderr, "vectoradd: element %u is %f, not %f\n", i, (double)c[i],
				(double)(a[i] + b[i]));
			return 1;
		}
	}
	check(cuMemFree(da), "cuMemFree");
	check(cuMemFree(db), "cuMemFree");
	check(cuMemFree(dc), "cuMemFree");
	check(cuModuleUnload(module), "cuModuleUnload");
	printf("vectoradd ok=1 elements=%u total=%zu free=%zu device=%s\n", n, total, free_now,
	       device_name);
	free(a);
	free(b);
	free(c);
	return 0;
}
