/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cuBLAS of four calls, on host memory: column after column, as the documentation has it. Refuses
 * to start with FAKE_CUBLAS=broken in the environment, as on a device that is not a real one.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

static int handle;
static void *stream;

EXPORT int cublasCreate_v2(void **ret);
EXPORT int cublasSetStream_v2(void *h, void *s);
EXPORT int cublasDestroy_v2(void *h);
EXPORT int cublasGemmEx(void *h, int op_a, int op_b, int m, int n, int k, const void *alpha,
			const void *a, int type_a, int lda, const void *b, int type_b, int ldb,
			const void *beta, void *c, int type_c, int ldc, int compute, int algo);

int cublasCreate_v2(void **ret)
{
	const char *how = getenv("FAKE_CUBLAS");

	if (how && !strcmp(how, "broken"))
		return 1; /* CUBLAS_STATUS_NOT_INITIALIZED */
	*ret = &handle;
	handle++;
	return 0;
}

int cublasSetStream_v2(void *h, void *s)
{
	stream = s;
	return h != &handle;
}

int cublasDestroy_v2(void *h)
{
	handle--;
	return h != &handle;
}

static float widen(uint16_t bf16)
{
	uint32_t bits = (uint32_t)bf16 << 16;
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

static uint16_t narrow(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	return (uint16_t)(bits >> 16);
}

int cublasGemmEx(void *h, int op_a, int op_b, int m, int n, int k, const void *alpha, const void *a,
		 int type_a, int lda, const void *b, int type_b, int ldb, const void *beta, void *c,
		 int type_c, int ldc, int compute, int algo)
{
	const uint16_t *x = a, *y = b;
	uint16_t *z = c;

	if (h != &handle || !stream || op_a || op_b || type_a != 14 || type_b != 14 ||
	    type_c != 14 || compute != 68 || algo != -1 || *(const float *)beta != 0 || lda < m ||
	    ldb < k || ldc < m)
		return 7; /* CUBLAS_STATUS_INVALID_VALUE */
	for (int j = 0; j < n; j++)
		for (int i = 0; i < m; i++) {
			float sum = 0;

			for (int l = 0; l < k; l++)
				sum += widen(x[i + l * lda]) * widen(y[l + j * ldb]);
			z[i + j * ldc] = narrow(*(const float *)alpha * sum);
		}
	return 0;
}
