/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the entry points of driver.def in libcuda.so.1. */
#include "bench/llm/driver.h"

#include <dlfcn.h>
#include <errno.h>

#include "base/log.h"
#include "base/banned.h"

struct llm_cu llm_cu;

int llm_cu_load(void)
{
	void *lib = dlopen("libcuda.so.1", RTLD_NOW);

	if (!lib) {
		aq_error("no CUDA driver: %s; without a GPU, start it by `aliquot run --sim h100 -- ...`",
			 dlerror());
		return -ENOENT;
	}
#define LLM_CU(name, symbol)                                                                       \
	llm_cu.name = (__typeof__(llm_cu.name))dlsym(lib, #symbol);                                \
	if (!llm_cu.name) {                                                                        \
		aq_error("the CUDA driver has no %s", #symbol);                                    \
		return -ENOENT;                                                                    \
	}
#include "bench/llm/driver.def"
#undef LLM_CU
	return 0;
}

int llm_cu_check(CUresult r, const char *what)
{
	const char *name = NULL;

	if (r == CUDA_SUCCESS)
		return 0;
	if (llm_cu.get_error_name(r, &name) != CUDA_SUCCESS || !name)
		name = "unknown error";
	aq_error("%s: %s", what, name);
	if (r == CUDA_ERROR_OUT_OF_MEMORY)
		return -ENOMEM;
	return r == CUDA_ERROR_NO_DEVICE ? -ENODEV : -EIO;
}
