/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuBLAS for the matrices of prompts, where it is installed and the device takes it: its kernels
 * reach what a card can do, which those of kernels.cu do not. A simulated device refuses it.
 */
#ifndef AQ_BENCH_LLM_BLAS_H
#define AQ_BENCH_LLM_BLAS_H

#include "cuda/cuda_abi.h"

struct llm_blas;

/**
 * llm_blas_open() - load the library and get a handle for @stream, in the current context.
 * @ret_why: when it cannot be had: why, a constant text
 * Return: 0; -ENOENT no library; -ENOTSUP it does not work with this device; -ENOMEM
 */
int llm_blas_open(CUstream stream, struct llm_blas **ret_blas, const char **ret_why);

/* Accepts NULL. The library stays loaded. */
void llm_blas_close(struct llm_blas *b);

/* c[m][n] = a[m][k] b[k][n], rows one after the other, bf16, scaled. Return: CUDA_SUCCESS or an
 * error. */
CUresult llm_blas_gemm(struct llm_blas *b, CUdeviceptr c, CUdeviceptr a, CUdeviceptr weights,
		       uint32_t m, uint32_t n, uint32_t k);

#endif /* AQ_BENCH_LLM_BLAS_H */
