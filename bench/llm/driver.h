/* SPDX-License-Identifier: Apache-2.0 */
/* libcuda.so.1, loaded at run time as any CUDA program's runtime does it. */
#ifndef AQ_BENCH_LLM_DRIVER_H
#define AQ_BENCH_LLM_DRIVER_H

#include <stddef.h>

#include "cuda/cuda_abi.h"

struct llm_cu {
#define LLM_CU(name, symbol) __typeof__(symbol) *name;
#include "bench/llm/driver.def"
#undef LLM_CU
};

/* Valid after llm_cu_load(); constant then. */
extern struct llm_cu llm_cu;

/* Load the library that the program's library path finds. Return: 0; -ENOENT, said in the log. */
int llm_cu_load(void);

/**
 * llm_cu_check() - turn a result into an errno, once, and say what failed.
 * @what: the call or the thing it was for, for the log
 * Return: 0; -ENOMEM out of device memory; -ENODEV no device; -EIO anything else
 */
int llm_cu_check(CUresult r, const char *what);

#endif /* AQ_BENCH_LLM_DRIVER_H */
