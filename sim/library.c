/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Libraries: code that belongs to no context. Its kernels are loaded into a context, as a module of
 * it, the first time that they are used there.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "exec.h"
#include "jit.h"
#include "library.h"
#include "module.h"

#include "base/banned.h"

/* What a library has loaded in one context. */
struct loaded {
	struct aq_list link; /* sim_library.loaded */
	struct sim_context *ctx;
	struct sim_module *module;
};

struct sim_library {
	uint32_t magic;
	struct sim_image *image;
	struct sim_kernel_handle *kernels; /* image->code.n_entries */
	struct aq_list loaded;		   /* under libraries_lock */
	struct aq_list link;		   /* libraries; likewise */
};

/* Taken before sim_executor.lock and the locks of sim.h; recursive loading does not occur. */
static pthread_mutex_t libraries_lock = PTHREAD_MUTEX_INITIALIZER;
static struct aq_list libraries = {&libraries, &libraries};

static CUresult library_check(CUlibrary handle, struct sim_library **ret_lib)
{
	struct sim_library *lib = (struct sim_library *)handle;

	if ((uintptr_t)handle < 4096 || lib->magic != SIM_LIBRARY_MAGIC)
		return CUDA_ERROR_INVALID_HANDLE;
	*ret_lib = lib;
	return CUDA_SUCCESS;
}

CUresult sim_kernel_check(CUkernel handle, struct sim_kernel_handle **ret_kernel)
{
	struct sim_kernel_handle *k = (struct sim_kernel_handle *)handle;

	if ((uintptr_t)handle < 4096 || k->magic != SIM_KERNEL_MAGIC)
		return CUDA_ERROR_INVALID_HANDLE;
	*ret_kernel = k;
	return CUDA_SUCCESS;
}

/* The library's module in @ctx, loaded if need be. */
static CUresult library_module(struct sim_library *lib, struct sim_context *ctx,
			       struct sim_module **ret_module)
{
	struct loaded *l, *tmp;
	CUresult r;

	pthread_mutex_lock(&libraries_lock);
	AQ_LIST_FOREACH (l, tmp, &lib->loaded, link) {
		if (l->ctx != ctx)
			continue;
		*ret_module = l->module;
		pthread_mutex_unlock(&libraries_lock);
		return CUDA_SUCCESS;
	}
	l = malloc(sizeof(*l));
	r = l ? sim_module_create(ctx, lib->image, &l->module) : CUDA_ERROR_OUT_OF_MEMORY;
	if (r == CUDA_SUCCESS) {
		l->ctx = ctx;
		l->module->library = lib;
		for (uint32_t i = 0; i < lib->image->code.n_entries; i++) {
			struct sim_function *f = l->module->functions[i];

			f->max_dynamic_shared_bytes = lib->kernels[i].max_dynamic_shared_bytes;
			f->carveout = lib->kernels[i].carveout;
		}
		aq_list_append(&lib->loaded, &l->link);
		*ret_module = l->module;
	} else {
		free(l);
	}
	pthread_mutex_unlock(&libraries_lock);
	return r;
}

CUresult sim_kernel_function(CUkernel handle, struct sim_context *ctx,
			     struct sim_function **ret_function)
{
	struct sim_kernel_handle *k;
	struct sim_module *m;
	CUresult r;

	r = sim_kernel_check(handle, &k);
	if (r == CUDA_SUCCESS)
		r = library_module(k->library, ctx, &m);
	if (r == CUDA_SUCCESS)
		*ret_function = m->functions[k->index];
	return r;
}

const struct sim_ptx_entry *sim_kernel_entry(const struct sim_kernel_handle *k)
{
	return &k->library->image->code.entries[k->index];
}

void sim_kernel_set(struct sim_kernel_handle *k)
{
	struct loaded *l, *tmp;

	pthread_mutex_lock(&libraries_lock);
	AQ_LIST_FOREACH (l, tmp, &k->library->loaded, link) {
		struct sim_function *f = l->module->functions[k->index];

		f->max_dynamic_shared_bytes = k->max_dynamic_shared_bytes;
		f->carveout = k->carveout;
	}
	pthread_mutex_unlock(&libraries_lock);
}

void sim_library_context_gone(struct sim_context *ctx)
{
	struct sim_library *lib, *next;
	struct loaded *l, *tmp;

	pthread_mutex_lock(&libraries_lock);
	AQ_LIST_FOREACH (lib, next, &libraries, link) {
		AQ_LIST_FOREACH (l, tmp, &lib->loaded, link) {
			if (l->ctx != ctx)
				continue;
			aq_list_remove(&l->link); /* the module is the context's to free */
			free(l);
		}
	}
	pthread_mutex_unlock(&libraries_lock);
}

static CUresult library_create(const void *code, size_t bytes, const struct sim_jit *jit,
			       CUlibrary *ret)
{
	struct sim_device *device = sim_device_get(0);
	struct sim_ptx why = {0};
	struct sim_context *ctx;
	struct sim_library *lib;
	CUresult r;

	/* No context is needed; with one, its device says what code will do. */
	if (sim_current_live(&ctx) == CUDA_SUCCESS)
		device = ctx->device;
	lib = calloc(1, sizeof(*lib));
	if (!lib)
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = sim_image_load(device, code, bytes, &lib->image, &why);
	sim_jit_log(jit, r, &why);
	if (r == CUDA_SUCCESS) {
		lib->kernels = calloc(lib->image->code.n_entries + 1u, sizeof(*lib->kernels));
		if (!lib->kernels)
			r = CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (r != CUDA_SUCCESS) {
		sim_image_put(lib->image);
		free(lib);
		return r;
	}
	lib->magic = SIM_LIBRARY_MAGIC;
	aq_list_init(&lib->loaded);
	for (uint32_t i = 0; i < lib->image->code.n_entries; i++)
		lib->kernels[i] = (struct sim_kernel_handle){
			.magic = SIM_KERNEL_MAGIC,
			.library = lib,
			.index = i,
			.carveout = CU_SHAREDMEM_CARVEOUT_DEFAULT,
		};
	pthread_mutex_lock(&libraries_lock);
	aq_list_append(&libraries, &lib->link);
	pthread_mutex_unlock(&libraries_lock);
	*ret = (CUlibrary)lib;
	return CUDA_SUCCESS;
}

static bool library_options_valid(unsigned int n, const CUlibraryOption *options, void **values)
{
	if (n && !options)
		return false;
	for (unsigned int i = 0; i < n; i++) {
		if ((unsigned int)options[i] >= CU_LIBRARY_NUM_OPTIONS)
			return false;
		if (options[i] == CU_LIBRARY_HOST_UNIVERSAL_FUNCTION_AND_DATA_TABLE && !values)
			return false;
	}
	return true;
}

CUresult cuLibraryLoadData(CUlibrary *lib, const void *code, CUjit_option *jit_options,
			   void **jit_values, unsigned int njit_options,
			   CUlibraryOption *lib_options, void **lib_values,
			   unsigned int nlib_options)
{
	struct sim_jit jit;

	SIM_ENTER();
	if (!lib || !code || !sim_jit_read(&jit, njit_options, jit_options, jit_values) ||
	    !library_options_valid(nlib_options, lib_options, lib_values))
		return CUDA_ERROR_INVALID_VALUE;
	return library_create(code, 0, &jit, lib);
}

CUresult cuLibraryLoadFromFile(CUlibrary *lib, const char *path, CUjit_option *jit_options,
			       void **jit_values, unsigned int njit_options,
			       CUlibraryOption *lib_options, void **lib_values,
			       unsigned int nlib_options)
{
	void *bytes = NULL;
	struct sim_jit jit;
	size_t size;
	CUresult r;

	SIM_ENTER();
	if (!lib || !path || !sim_jit_read(&jit, njit_options, jit_options, jit_values) ||
	    !library_options_valid(nlib_options, lib_options, lib_values))
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_file_map(path, &bytes, &size);
	if (r != CUDA_SUCCESS)
		return r;
	r = library_create(bytes, size, &jit, lib);
	munmap(bytes, size);
	return r;
}

CUresult cuLibraryUnload(CUlibrary handle)
{
	struct sim_library *lib;
	CUresult r;

	SIM_ENTER();
	r = library_check(handle, &lib);
	if (r == CUDA_SUCCESS)
		r = sim_exec_unsafe_call();
	if (r != CUDA_SUCCESS)
		return r;
	pthread_mutex_lock(&libraries_lock);
	lib->magic = 0;
	aq_list_remove(&lib->link);
	while (!aq_list_empty(&lib->loaded)) {
		struct loaded *l = aq_container_of(lib->loaded.next, struct loaded, link);

		aq_list_remove(&l->link);
		sim_module_destroy(l->module);
		free(l);
	}
	pthread_mutex_unlock(&libraries_lock);
	sim_image_put(lib->image);
	free(lib->kernels);
	free(lib);
	return CUDA_SUCCESS;
}

CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary handle, const char *name)
{
	struct sim_library *lib;
	CUresult r;

	SIM_ENTER();
	if (!kernel || !name)
		return CUDA_ERROR_INVALID_VALUE;
	r = library_check(handle, &lib);
	if (r != CUDA_SUCCESS)
		return r;
	for (uint32_t i = 0; i < lib->image->code.n_entries; i++) {
		if (strcmp(lib->image->code.entries[i].name, name))
			continue;
		*kernel = (CUkernel)&lib->kernels[i];
		return CUDA_SUCCESS;
	}
	return CUDA_ERROR_NOT_FOUND;
}

CUresult cuLibraryGetKernelCount(unsigned int *count, CUlibrary handle)
{
	struct sim_library *lib;
	CUresult r;

	SIM_ENTER();
	if (!count)
		return CUDA_ERROR_INVALID_VALUE;
	r = library_check(handle, &lib);
	if (r == CUDA_SUCCESS)
		*count = lib->image->code.n_entries;
	return r;
}

CUresult cuLibraryEnumerateKernels(CUkernel *kernels, unsigned int n_kernels, CUlibrary handle)
{
	struct sim_library *lib;
	CUresult r;

	SIM_ENTER();
	if (!kernels || !n_kernels)
		return CUDA_ERROR_INVALID_VALUE;
	r = library_check(handle, &lib);
	if (r != CUDA_SUCCESS)
		return r;
	for (unsigned int i = 0; i < n_kernels; i++)
		kernels[i] = i < lib->image->code.n_entries ? (CUkernel)&lib->kernels[i] : NULL;
	return CUDA_SUCCESS;
}

CUresult cuLibraryGetModule(CUmodule *mod, CUlibrary handle)
{
	struct sim_library *lib;
	struct sim_module *m;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	if (!mod)
		return CUDA_ERROR_INVALID_VALUE;
	r = library_check(handle, &lib);
	if (r == CUDA_SUCCESS)
		r = library_module(lib, ctx, &m);
	if (r == CUDA_SUCCESS)
		*mod = (CUmodule)m;
	return r;
}

static CUresult get_global(struct sim_context *ctx, CUdeviceptr *dptr, size_t *bytes,
			   CUlibrary handle, const char *name, bool managed)
{
	struct sim_library *lib;
	struct sim_module *m;
	CUresult r;

	if (!name || (!dptr && !bytes))
		return CUDA_ERROR_INVALID_VALUE;
	r = library_check(handle, &lib);
	if (r != CUDA_SUCCESS)
		return r;
	for (uint32_t i = 0; i < lib->image->code.n_vars; i++) {
		const struct sim_ptx_var *v = &lib->image->code.vars[i];

		if (v->managed != managed || strcmp(v->name, name))
			continue;
		r = library_module(lib, ctx, &m);
		return r == CUDA_SUCCESS ? sim_module_global(m, name, dptr, bytes) : r;
	}
	return CUDA_ERROR_NOT_FOUND;
}

CUresult cuLibraryGetGlobal(CUdeviceptr *dptr, size_t *bytes, CUlibrary lib, const char *name)
{
	SIM_ENTER_CONTEXT(ctx);
	return get_global(ctx, dptr, bytes, lib, name, false);
}

CUresult cuLibraryGetManaged(CUdeviceptr *dptr, size_t *bytes, CUlibrary lib, const char *name)
{
	SIM_ENTER_CONTEXT(ctx);
	return get_global(ctx, dptr, bytes, lib, name, true);
}

CUresult cuLibraryGetUnifiedFunction(void **fptr, CUlibrary handle, const char *symbol)
{
	struct sim_library *lib;
	CUresult r;

	SIM_ENTER();
	if (!fptr || !symbol)
		return CUDA_ERROR_INVALID_VALUE;
	r = library_check(handle, &lib);
	return r == CUDA_SUCCESS ? CUDA_ERROR_NOT_FOUND : r; /* no code has unified functions */
}

CUresult cuKernelGetFunction(CUfunction *func, CUkernel kernel)
{
	struct sim_function *f;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	if (!func)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_kernel_function(kernel, ctx, &f);
	if (r == CUDA_SUCCESS)
		*func = (CUfunction)f;
	return r;
}

CUresult cuKernelGetLibrary(CUlibrary *lib, CUkernel kernel)
{
	struct sim_kernel_handle *k;
	CUresult r;

	SIM_ENTER();
	if (!lib)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_kernel_check(kernel, &k);
	if (r == CUDA_SUCCESS)
		*lib = (CUlibrary)k->library;
	return r;
}
