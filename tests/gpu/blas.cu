/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuBLAS, which carries a runtime of its own: small products against the host, then large ones in
 * single and half precision on several streams, with its workspaces. Prints `max_error=...`.
 */
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cublas_v2.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <vector>

#define CHECK(call)                                                                                \
	do {                                                                                       \
		int e_ = (int)(call);                                                              \
		if (e_) {                                                                          \
			printf("%s: error %d\n", #call, e_);                                       \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

static int small(cublasHandle_t blas, double *ret_error)
{
	const int n = 96;
	std::vector<float> a(n * n), b(n * n), c(n * n);
	float one = 1, zero = 0, *da, *db, *dc;

	for (int i = 0; i < n * n; i++) {
		a[i] = (float)(i % 7) - 3;
		b[i] = (float)(i % 5) - 2;
	}
	CHECK(cudaMalloc(&da, n * n * 4));
	CHECK(cudaMalloc(&db, n * n * 4));
	CHECK(cudaMalloc(&dc, n * n * 4));
	CHECK(cudaMemcpy(da, a.data(), n * n * 4, cudaMemcpyHostToDevice));
	CHECK(cudaMemcpy(db, b.data(), n * n * 4, cudaMemcpyHostToDevice));
	CHECK(cublasSgemm(blas, CUBLAS_OP_N, CUBLAS_OP_N, n, n, n, &one, da, n, db, n, &zero, dc, n));
	CHECK(cudaMemcpy(c.data(), dc, n * n * 4, cudaMemcpyDeviceToHost));
	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++) {
			double sum = 0;

			for (int k = 0; k < n; k++)
				sum += (double)a[k * n + i] * b[j * n + k];
			*ret_error = std::fmax(*ret_error, std::fabs(sum - c[j * n + i]));
		}
	CHECK(cudaFree(da));
	CHECK(cudaFree(db));
	CHECK(cudaFree(dc));
	return 0;
}

static int large(cublasHandle_t blas)
{
	const int n = 4096;
	__half *a, *b, *c;
	float one = 1, zero = 0;
	cudaStream_t s[3];

	CHECK(cudaMalloc(&a, (size_t)n * n * 2));
	CHECK(cudaMalloc(&b, (size_t)n * n * 2));
	CHECK(cudaMalloc(&c, (size_t)n * n * 2));
	CHECK(cudaMemset(a, 0, (size_t)n * n * 2));
	CHECK(cudaMemset(b, 0, (size_t)n * n * 2));
	for (int i = 0; i < 3; i++) {
		CHECK(cudaStreamCreate(&s[i]));
		CHECK(cublasSetStream(blas, s[i]));
		CHECK(cublasGemmEx(blas, CUBLAS_OP_T, CUBLAS_OP_N, n, n, n, &one, a, CUDA_R_16F, n, b,
				   CUDA_R_16F, n, &zero, c, CUDA_R_16F, n, CUBLAS_COMPUTE_32F,
				   CUBLAS_GEMM_DEFAULT));
	}
	CHECK(cudaDeviceSynchronize());
	return 0;
}

int main()
{
	cublasHandle_t blas;
	double error = 0;

	CHECK(cublasCreate(&blas));
	if (small(blas, &error) || large(blas))
		return 1;
	CHECK(cublasDestroy(blas));
	printf("max_error=%g\n", error);
	return error > 0;
}
