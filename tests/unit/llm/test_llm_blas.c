/* SPDX-License-Identifier: Apache-2.0 */
/* What cuBLAS is asked for, with one that computes on host memory in its place. */
#include "../cm.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bench/llm/blas.h"

#define M 3u
#define N 5u
#define K 4u

static uint16_t bf16(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	return (uint16_t)(bits >> 16);
}

static float value(uint16_t b)
{
	uint32_t bits = (uint32_t)b << 16;
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

/* Rows one after the other: c[i][j] is the sum of a[i][l] b[l][j], but for the scale. */
static void test_llm_blas__the_product_is_that_of_rows(void **state)
{
	uint16_t a[M * K], b[K * N], c[M * N];
	struct llm_blas *blas;
	const char *why;
	float scale = 0;

	for (uint32_t i = 0; i < M * K; i++)
		a[i] = bf16((float)(i % 7));
	for (uint32_t i = 0; i < K * N; i++)
		b[i] = bf16((float)(i % 5) + 1);
	assert_int_equal(llm_blas_open((CUstream)(uintptr_t)1, &blas, &why), 0);
	assert_int_equal(llm_blas_gemm(blas, (uintptr_t)c, (uintptr_t)a, (uintptr_t)b, M, N, K),
			 CUDA_SUCCESS);
	for (uint32_t i = 0; i < M; i++)
		for (uint32_t j = 0; j < N; j++) {
			float want = 0;

			for (uint32_t l = 0; l < K; l++)
				want += value(a[i * K + l]) * value(b[l * N + j]);
			if (!scale)
				scale = value(c[0]) / want;
			if (fabsf(value(c[i * N + j]) - want * scale) > 0.02f * want * scale)
				fail_msg("[%u][%u] is %f, not %f", i, j,
					 (double)value(c[i * N + j]), (double)(want * scale));
		}
	/* A row of random weights keeps the size of what goes through it. */
	assert_true(scale > 0.5f && scale < 5);
	llm_blas_close(blas);
}

static void test_llm_blas__one_that_does_not_start(void **state)
{
	struct llm_blas *blas = NULL;
	const char *why = NULL;

	setenv("FAKE_CUBLAS", "broken", 1);
	assert_int_equal(llm_blas_open((CUstream)(uintptr_t)1, &blas, &why), -ENOTSUP);
	unsetenv("FAKE_CUBLAS");
	assert_null(blas);
	assert_non_null(strstr(why, "this device"));
	llm_blas_close(NULL);
}

/* Its errors are errors of the step. */
static void test_llm_blas__errors_are_passed_on(void **state)
{
	uint16_t x[4] = {0};
	struct llm_blas *blas;
	const char *why;

	assert_int_equal(llm_blas_open(NULL, &blas, &why), 0); /* the fake wants a stream */
	assert_int_not_equal(llm_blas_gemm(blas, (uintptr_t)x, (uintptr_t)x, (uintptr_t)x, 1, 1, 1),
			     CUDA_SUCCESS);
	llm_blas_close(blas);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_llm_blas__the_product_is_that_of_rows),
		cmocka_unit_test(test_llm_blas__one_that_does_not_start),
		cmocka_unit_test(test_llm_blas__errors_are_passed_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
