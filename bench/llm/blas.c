/* SPDX-License-Identifier: Apache-2.0 */
/* Calls cuBLAS by its documented C interface, without its headers. */
#include "bench/llm/blas.h"

#include <dlfcn.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/banned.h"

/* Source: cuBLAS documentation, cublasOperation_t, cudaDataType_t, cublasComputeType_t,
 * cublasGemmAlgo_t; the same from 11.0 to 13. */
#define OP_N 0
#define TYPE_BF16 14
#define COMPUTE_F32 68
#define ALGO_DEFAULT (-1)

/* Keeps the size of numbers from layer to layer: the weights of aq_llm_fill, whose exponents are
 * spread evenly from 2^-7 to 2^0, have a root mean square of about this. */
#define WEIGHT_RMS 0.36

struct llm_blas {
	void *handle;
	int (*destroy)(void *handle);
	int (*gemm)(void *handle, int op_a, int op_b, int m, int n, int k, const void *alpha,
		    const void *a, int type_a, int lda, const void *b, int type_b, int ldb,
		    const void *beta, void *c, int type_c, int ldc, int compute, int algo);
};

static void *load(void)
{
	static const char *const names[] = {"libcublas.so.13", "libcublas.so.12",
					    "libcublas.so.11"};
	void *lib = NULL;

	for (size_t i = 0; i < AQ_ARRAY_SIZE(names) && !lib; i++)
		lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	return lib;
}

int llm_blas_open(CUstream stream, struct llm_blas **ret_blas, const char **ret_why)
{
	int (*create)(void **handle), (*set_stream)(void *handle, CUstream s);
	struct llm_blas *b;
	void *lib = load();

	*ret_why = "no libcublas.so";
	if (!lib)
		return -ENOENT;
	b = calloc(1, sizeof(*b));
	*ret_why = "out of memory";
	if (!b)
		return -ENOMEM;
	create = (__typeof__(create))dlsym(lib, "cublasCreate_v2");
	set_stream = (__typeof__(set_stream))dlsym(lib, "cublasSetStream_v2");
	b->destroy = (__typeof__(b->destroy))dlsym(lib, "cublasDestroy_v2");
	b->gemm = (__typeof__(b->gemm))dlsym(lib, "cublasGemmEx");
	*ret_why = "libcublas.so lacks what is needed";
	if (create && set_stream && b->destroy && b->gemm) {
		*ret_why = "cuBLAS does not work with this device";
		if (!create(&b->handle) && !set_stream(b->handle, stream)) {
			*ret_blas = b;
			return 0;
		}
	}
	llm_blas_close(b);
	return -ENOTSUP;
}

void llm_blas_close(struct llm_blas *b)
{
	if (b && b->handle)
		b->destroy(b->handle);
	free(b);
}

CUresult llm_blas_gemm(struct llm_blas *b, CUdeviceptr c, CUdeviceptr a, CUdeviceptr weights,
		       uint32_t m, uint32_t n, uint32_t k)
{
	float alpha = (float)(1 / (WEIGHT_RMS * sqrt(k))), beta = 0;

	/* cuBLAS has columns one after the other: what it takes for the transposed matrices, in the
	 * other order, is what we mean. */
	return b->gemm(b->handle, OP_N, OP_N, (int)n, (int)m, (int)k, &alpha,
		       (const void *)(uintptr_t)weights, TYPE_BF16, (int)n,
		       (const void *)(uintptr_t)a, TYPE_BF16, (int)k, &beta, (void *)(uintptr_t)c,
		       TYPE_BF16, (int)n, COMPUTE_F32, ALGO_DEFAULT)
		       ? CUDA_ERROR_UNKNOWN
		       : CUDA_SUCCESS;
}
