/* SPDX-License-Identifier: Apache-2.0 */
/* Loaded code: images, the modules and libraries that are made of them, and their functions. */
#ifndef SIM_MODULE_H
#define SIM_MODULE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "cuda/cuda_abi.h"
#include "ptx.h"
#include "sim.h"
#include "task.h"

#define SIM_MODULE_MAGIC 0x53494d4du
#define SIM_FUNCTION_MAGIC 0x53494d46u
#define SIM_KERNEL_MAGIC 0x53494d4bu
#define SIM_LIBRARY_MAGIC 0x53494d4cu

/* What was read from PTX or a cubin. Constant; shared by those that have it loaded. */
struct sim_image {
	atomic_uint refs;
	struct sim_ptx code;
	uint64_t code_bytes; /* device memory that it takes */
};

/* One entry in one context. A CUfunction is a pointer to this. */
struct sim_function {
	uint32_t magic;		   /* SIM_FUNCTION_MAGIC */
	atomic_uint refs;	   /* of its module, and of tasks that name it */
	struct sim_module *module; /* NULL once unloaded */
	struct sim_context *ctx;
	struct sim_image *image;
	const struct sim_ptx_entry *entry; /* in @image */
	const struct sim_kernel *known;	   /* NULL: unknown */
	int32_t max_dynamic_shared_bytes;
	int32_t carveout;
	int32_t cluster[3];
	int32_t cluster_policy;
	bool non_portable_cluster;
	CUfunc_cache cache;
	/* Old style of launching: cuFuncSetBlockShape and cuParamSet*. */
	uint32_t block[3];
	uint32_t shared_bytes;
	uint32_t param_size;
	uint8_t *param_buffer; /* SIM_OLD_PARAM_BYTES, NULL before first use */
};

#define SIM_OLD_PARAM_BYTES 4096u

struct sim_module {
	uint32_t magic;
	struct sim_context *ctx;
	struct sim_image *image;
	struct sim_function **functions; /* image->code.n_entries */
	CUdeviceptr globals;		 /* variables, one after the other; 0: none */
	uint64_t globals_bytes;
	uint64_t *offsets;	     /* of each variable in there */
	struct sim_library *library; /* that it belongs to; NULL: loaded by itself */
	struct aq_list link;	     /* sim_exec.modules */
};

/**
 * sim_image_load() - read code.
 * @data:  PTX text with a NUL, cubin, or fat binary
 * @bytes: length, or 0 to find it out
 * @ret_ptx: the failed reader's words, for the log; may be NULL
 * Return: CUDA_SUCCESS, CUDA_ERROR_INVALID_PTX, ..._INVALID_IMAGE, ..._NO_BINARY_FOR_GPU,
 * ..._UNSUPPORTED_PTX_VERSION, ..._OUT_OF_MEMORY.
 */
CUresult sim_image_load(const struct sim_device *device, const void *data, size_t bytes,
			struct sim_image **ret_image, struct sim_ptx *ret_ptx);
void sim_image_get(struct sim_image *image);
void sim_image_put(struct sim_image *image);

/* Load @image, which gains a reference, into @ctx. */
CUresult sim_module_create(struct sim_context *ctx, struct sim_image *image,
			   struct sim_module **ret_module);
/* Unload; waits for the context's work first. */
void sim_module_destroy(struct sim_module *m);
/* Unload all modules of a context that is going away, without waiting. */
void sim_module_destroy_all(struct sim_context *ctx);

/* NULL: no such thing in the module. */
struct sim_function *sim_module_function(struct sim_module *m, const char *name);
/* Return: CUDA_SUCCESS or CUDA_ERROR_NOT_FOUND. */
CUresult sim_module_global(struct sim_module *m, const char *name, CUdeviceptr *ret_address,
			   size_t *ret_bytes);

/**
 * sim_function_check() - a handle that a caller gave: a CUfunction, or a CUkernel, which means its
 * function in @ctx (loaded there if need be).
 * Return: CUDA_SUCCESS, CUDA_ERROR_INVALID_HANDLE.
 */
CUresult sim_function_check(CUfunction handle, struct sim_context *ctx,
			    struct sim_function **ret_function);
void sim_function_get(struct sim_function *f);
void sim_function_put(struct sim_function *f);

/* library.c: the function of a kernel handle in @ctx. CUDA_ERROR_INVALID_HANDLE: it is none. */
CUresult sim_kernel_function(CUkernel handle, struct sim_context *ctx,
			     struct sim_function **ret_function);
/* library.c: forget what a context that is going away had loaded of libraries. */
void sim_library_context_gone(struct sim_context *ctx);

#endif /* SIM_MODULE_H */
