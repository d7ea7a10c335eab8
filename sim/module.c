/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Modules: code that was read from PTX text or a cubin, its functions and its variables. Nothing is
 * compiled; what a function does is kernels.c's matter.
 */
#include "module.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "cubin.h"
#include "exec.h"
#include "jit.h"

#include "base/banned.h"

/* Device memory that code takes: cubins as long as they are; PTX by its text, from which roughly as
 * much machine code is made. Guess. */
#define CODE_MIN_BYTES 4096u

/* Newest PTX that a driver of this version reads. Source: PTX ISA release notes, 9.0 with 13.0. */
#define PTX_NEWEST 90u

#define SIM_MAX_VARS_BYTES (UINT64_C(1) << 40)

void sim_image_get(struct sim_image *image)
{
	atomic_fetch_add_explicit(&image->refs, 1, memory_order_relaxed);
}

void sim_image_put(struct sim_image *image)
{
	if (!image || atomic_fetch_sub_explicit(&image->refs, 1, memory_order_acq_rel) != 1)
		return;
	sim_ptx_finish(&image->code);
	free(image);
}

static CUresult read_ptx(const struct sim_device *device, const char *text, size_t bytes,
			 struct sim_ptx *p)
{
	uint32_t target = 10 * device->profile->cc_major + device->profile->cc_minor;
	int r = sim_ptx_parse(text, bytes, p);

	if (r == -ENOMEM)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (p->version > PTX_NEWEST) {
		if (r == 0)
			sim_ptx_finish(p);
		snprintf(p->error, sizeof(p->error), "unsupported .version");
		return CUDA_ERROR_UNSUPPORTED_PTX_VERSION;
	}
	if (r < 0)
		return CUDA_ERROR_INVALID_PTX;
	if (p->target > target) {
		sim_ptx_finish(p);
		snprintf(p->error, sizeof(p->error), "SM version of .target is higher than sm_%u",
			 target);
		return CUDA_ERROR_INVALID_PTX;
	}
	return CUDA_SUCCESS;
}

static CUresult read_cubin(const struct sim_device *device, const void *data, size_t bytes,
			   struct sim_ptx *p)
{
	int r = sim_cubin_parse(data, bytes, p);

	if (r == -ENOMEM)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (r < 0)
		return CUDA_ERROR_INVALID_IMAGE;
	/* Machine code runs on its own major architecture only. */
	if (p->target / 10 != device->profile->cc_major) {
		sim_ptx_finish(p);
		return CUDA_ERROR_NO_BINARY_FOR_GPU;
	}
	return CUDA_SUCCESS;
}

static CUresult read_code(const struct sim_device *device, const void *data, size_t bytes,
			  struct sim_ptx *p, uint64_t *ret_bytes)
{
	uint32_t target = 10 * device->profile->cc_major + device->profile->cc_minor;
	struct sim_fat_image fat;
	int r;

	if ((!bytes || bytes >= 4) && sim_fatbin_probe(data)) {
		r = sim_fatbin_select(data, target, &fat);
		if (r < 0)
			return r == -ENOENT ? CUDA_ERROR_NO_BINARY_FOR_GPU
					    : CUDA_ERROR_INVALID_IMAGE;
		*ret_bytes = fat.bytes;
		return fat.is_ptx ? read_ptx(device, fat.image, fat.bytes, p)
				  : read_cubin(device, fat.image, fat.bytes, p);
	}
	if ((!bytes || bytes >= 64) && sim_cubin_probe(data)) {
		*ret_bytes = bytes ? bytes : sim_cubin_bytes(data);
		return read_cubin(device, data, *ret_bytes, p);
	}
	*ret_bytes = bytes ? bytes : strlen(data);
	/* What is neither is no image at all, unlike text that almost is PTX. */
	if (!sim_ptx_probe(data, *ret_bytes)) {
		for (size_t i = 0; i < *ret_bytes && i < 64; i++)
			if (((const unsigned char *)data)[i] >= 0x80)
				return CUDA_ERROR_INVALID_IMAGE;
		if (!*ret_bytes)
			return CUDA_ERROR_INVALID_IMAGE;
	}
	return read_ptx(device, data, *ret_bytes, p);
}

CUresult sim_image_load(const struct sim_device *device, const void *data, size_t bytes,
			struct sim_image **ret_image, struct sim_ptx *ret_ptx)
{
	struct sim_image *image = calloc(1, sizeof(*image));
	CUresult r;

	if (!image)
		return CUDA_ERROR_OUT_OF_MEMORY;
	atomic_init(&image->refs, 1);
	r = read_code(device, data, bytes, &image->code, &image->code_bytes);
	if (r != CUDA_SUCCESS) {
		if (ret_ptx)
			*ret_ptx = image->code;
		free(image);
		return r;
	}
	if (image->code_bytes < CODE_MIN_BYTES)
		image->code_bytes = CODE_MIN_BYTES;
	*ret_image = image;
	return CUDA_SUCCESS;
}

/*
 * Functions.
 */

void sim_function_get(struct sim_function *f)
{
	atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
}

void sim_function_put(struct sim_function *f)
{
	if (!f || atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) != 1)
		return;
	sim_image_put(f->image);
	free(f->param_buffer);
	free(f);
}

static const struct sim_kernel *known_kernel(const struct sim_ptx_entry *e)
{
	uint32_t sizes[8];

	if (e->n_params > AQ_ARRAY_SIZE(sizes))
		return NULL;
	for (uint32_t i = 0; i < e->n_params; i++)
		sizes[i] = e->params[i].size_bytes;
	return sim_kernel_find(e->name, e->n_params, sizes);
}

static struct sim_function *function_create(struct sim_module *m, const struct sim_ptx_entry *e)
{
	struct sim_function *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->magic = SIM_FUNCTION_MAGIC;
	atomic_init(&f->refs, 1);
	f->module = m;
	f->ctx = m->ctx;
	f->image = m->image;
	sim_image_get(f->image);
	f->entry = e;
	f->known = known_kernel(e);
	f->carveout = CU_SHAREDMEM_CARVEOUT_DEFAULT;
	f->block[0] = f->block[1] = f->block[2] = 1;
	for (int i = 0; i < 3; i++)
		f->cluster[i] = (int32_t)e->cluster[i];
	return f;
}

CUresult sim_function_check(CUfunction handle, struct sim_context *ctx,
			    struct sim_function **ret_function)
{
	struct sim_function *f = (struct sim_function *)handle;

	if ((uintptr_t)handle < 4096)
		return CUDA_ERROR_INVALID_HANDLE;
	if (f->magic == SIM_KERNEL_MAGIC)
		return sim_kernel_function((CUkernel)handle, ctx, ret_function);
	if (f->magic != SIM_FUNCTION_MAGIC || !f->module)
		return CUDA_ERROR_INVALID_HANDLE;
	*ret_function = f;
	return CUDA_SUCCESS;
}

uint32_t sim_kernel_task_n_params(const struct sim_kernel_task *t)
{
	return t->function->entry->n_params;
}

uint32_t sim_kernel_task_offset(const struct sim_kernel_task *t, uint32_t i)
{
	return t->function->entry->params[i].offset_bytes;
}

/*
 * Variables.
 */

static uint64_t align_up(uint64_t value, uint64_t align)
{
	return align > 1 ? (value + align - 1) / align * align : value;
}

static CUresult create_vars(struct sim_module *m)
{
	const struct sim_ptx *code = &m->image->code;
	uint64_t bytes = 0;
	CUresult r;

	if (!code->n_vars)
		return CUDA_SUCCESS;
	m->offsets = calloc(code->n_vars, sizeof(*m->offsets));
	if (!m->offsets)
		return CUDA_ERROR_OUT_OF_MEMORY;
	for (uint32_t i = 0; i < code->n_vars; i++) {
		const struct sim_ptx_var *v = &code->vars[i];

		m->offsets[i] = align_up(bytes, v->align_bytes > 256 ? 256 : v->align_bytes);
		bytes = m->offsets[i] + v->size_bytes;
		if (bytes > SIM_MAX_VARS_BYTES)
			return CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (!bytes)
		return CUDA_SUCCESS;
	r = sim_linear_alloc(m->ctx, SIM_MEMORY_GLOBAL, bytes, &m->globals);
	if (r != CUDA_SUCCESS)
		return r;
	m->globals_bytes = bytes;
	r = sim_bytes_fill(m->globals, 0, 1, bytes);
	for (uint32_t i = 0; i < code->n_vars && r == CUDA_SUCCESS; i++)
		if (code->vars[i].init_bytes)
			r = sim_bytes_write(m->globals + m->offsets[i], code->vars[i].init,
					    code->vars[i].init_bytes);
	return r;
}

/*
 * Modules.
 */

/* All but its memory. */
static void module_end(struct sim_module *m)
{
	if (m->functions)
		for (uint32_t i = 0; i < m->image->code.n_entries; i++) {
			struct sim_function *f = m->functions[i];

			if (!f)
				continue;
			f->module = NULL;
			f->magic = 0;
			sim_function_put(f);
		}
	if (m->globals)
		sim_linear_free(m->globals);
	m->magic = 0;
	sim_image_put(m->image);
	free(m->functions);
	free(m->offsets);
}

CUresult sim_module_create(struct sim_context *ctx, struct sim_image *image,
			   struct sim_module **ret_module)
{
	struct sim_module *m;
	CUresult r;

	r = sim_charge_module(ctx, image->code_bytes);
	if (r != CUDA_SUCCESS)
		return r;
	m = calloc(1, sizeof(*m));
	if (!m) {
		sim_release_module(ctx, image->code_bytes);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	m->magic = SIM_MODULE_MAGIC;
	m->ctx = ctx;
	m->image = image;
	sim_image_get(image);
	r = CUDA_ERROR_OUT_OF_MEMORY;
	m->functions = calloc(image->code.n_entries + 1u, sizeof(struct sim_function *));
	if (!m->functions)
		goto fail;
	for (uint32_t i = 0; i < image->code.n_entries; i++) {
		m->functions[i] = function_create(m, &image->code.entries[i]);
		if (!m->functions[i])
			goto fail;
	}
	r = create_vars(m);
	if (r != CUDA_SUCCESS)
		goto fail;
	sim_exec_lock();
	aq_list_append(&ctx->exec->modules, &m->link);
	sim_exec_unlock();
	*ret_module = m;
	return CUDA_SUCCESS;
fail:
	module_end(m);
	free(m);
	sim_release_module(ctx, image->code_bytes);
	return r;
}

void sim_module_destroy(struct sim_module *m)
{
	struct sim_context *ctx = m->ctx;
	uint64_t bytes = m->image->code_bytes;

	sim_wait_context(ctx->exec);
	sim_exec_lock();
	aq_list_remove(&m->link);
	sim_exec_unlock();
	module_end(m);
	free(m);
	sim_release_module(ctx, bytes);
}

void sim_module_destroy_all(struct sim_context *ctx)
{
	struct sim_module *m, *tmp;

	AQ_LIST_FOREACH (m, tmp, &ctx->exec->modules, link) {
		uint64_t bytes = m->image->code_bytes;

		aq_list_remove(&m->link);
		module_end(m);
		sim_exec_lock();
		sim_exec_bury(&m->link);
		sim_exec_unlock();
		sim_release_module(ctx, bytes);
	}
}

struct sim_function *sim_module_function(struct sim_module *m, const char *name)
{
	for (uint32_t i = 0; i < m->image->code.n_entries; i++)
		if (!strcmp(m->image->code.entries[i].name, name))
			return m->functions[i];
	return NULL;
}

CUresult sim_module_global(struct sim_module *m, const char *name, CUdeviceptr *ret_address,
			   size_t *ret_bytes)
{
	const struct sim_ptx *code = &m->image->code;

	for (uint32_t i = 0; i < code->n_vars; i++) {
		if (strcmp(code->vars[i].name, name))
			continue;
		if (ret_address)
			*ret_address = m->globals + m->offsets[i];
		if (ret_bytes)
			*ret_bytes = code->vars[i].size_bytes;
		return CUDA_SUCCESS;
	}
	return CUDA_ERROR_NOT_FOUND;
}

static CUresult module_check(CUmodule handle, struct sim_module **ret_module)
{
	struct sim_module *m = (struct sim_module *)handle;

	if ((uintptr_t)handle < 4096 || m->magic != SIM_MODULE_MAGIC)
		return CUDA_ERROR_INVALID_HANDLE;
	*ret_module = m;
	return CUDA_SUCCESS;
}

/*
 * Entry points.
 */

static CUresult load_data(struct sim_context *ctx, CUmodule *ret, const void *data, size_t bytes,
			  const struct sim_jit *jit)
{
	struct sim_ptx why = {0};
	struct sim_module *m;
	struct sim_image *image;
	CUresult r;

	r = sim_exec_unsafe_call(); /* loading may allocate, and synchronise */
	if (r != CUDA_SUCCESS)
		return r;
	r = sim_image_load(ctx->device, data, bytes, &image, &why);
	sim_jit_log(jit, r, &why);
	if (r != CUDA_SUCCESS)
		return r;
	r = sim_module_create(ctx, image, &m);
	sim_image_put(image);
	if (r == CUDA_SUCCESS)
		*ret = (CUmodule)m;
	return r;
}

CUresult sim_file_map(const char *path, void **ret_bytes, size_t *ret_size)
{
	AQ_CLEANUP(close) int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *bytes;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return CUDA_ERROR_FILE_NOT_FOUND;
	if (st.st_size == 0)
		return CUDA_ERROR_INVALID_IMAGE;
	bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (bytes == MAP_FAILED)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*ret_bytes = bytes;
	*ret_size = (size_t)st.st_size;
	return CUDA_SUCCESS;
}

CUresult cuModuleLoad(CUmodule *mod, const char *path)
{
	void *bytes = NULL;
	size_t size;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	if (!mod || !path)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_file_map(path, &bytes, &size);
	if (r != CUDA_SUCCESS)
		return r;
	r = load_data(ctx, mod, bytes, size, NULL);
	munmap(bytes, size);
	return r;
}

CUresult cuModuleLoadData(CUmodule *mod, const void *image)
{
	SIM_ENTER_CONTEXT(ctx);
	if (!mod || !image)
		return CUDA_ERROR_INVALID_VALUE;
	return load_data(ctx, mod, image, 0, NULL);
}

CUresult cuModuleLoadDataEx(CUmodule *mod, const void *image, unsigned int noptions,
			    CUjit_option *options, void **values)
{
	struct sim_jit jit;

	SIM_ENTER_CONTEXT(ctx);
	if (!mod || !image || !sim_jit_read(&jit, noptions, options, values))
		return CUDA_ERROR_INVALID_VALUE;
	return load_data(ctx, mod, image, 0, &jit);
}

CUresult cuModuleLoadFatBinary(CUmodule *mod, const void *fat_cubin)
{
	SIM_ENTER_CONTEXT(ctx);
	if (!mod || !fat_cubin)
		return CUDA_ERROR_INVALID_VALUE;
	return load_data(ctx, mod, fat_cubin, 0, NULL);
}

CUresult cuModuleUnload(CUmodule mod)
{
	struct sim_module *m;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	r = module_check(mod, &m);
	if (r != CUDA_SUCCESS)
		return r;
	if (m->library) /* goes with it */
		return CUDA_ERROR_NOT_PERMITTED;
	r = sim_exec_unsafe_call();
	if (r != CUDA_SUCCESS)
		return r;
	sim_module_destroy(m);
	return CUDA_SUCCESS;
}

CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode *mode)
{
	const char *text = getenv("CUDA_MODULE_LOADING");

	SIM_ENTER();
	if (!mode)
		return CUDA_ERROR_INVALID_VALUE;
	*mode = text && !strcmp(text, "EAGER") ? CU_MODULE_EAGER_LOADING : CU_MODULE_LAZY_LOADING;
	return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *func, CUmodule mod, const char *name)
{
	struct sim_function *f;
	struct sim_module *m;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	if (!func || !name)
		return CUDA_ERROR_INVALID_VALUE;
	r = module_check(mod, &m);
	if (r != CUDA_SUCCESS)
		return r;
	f = sim_module_function(m, name);
	if (!f)
		return CUDA_ERROR_NOT_FOUND;
	*func = (CUfunction)f;
	return CUDA_SUCCESS;
}

CUresult cuModuleGetFunctionCount(unsigned int *count, CUmodule mod)
{
	struct sim_module *m;
	CUresult r;

	SIM_ENTER();
	if (!count)
		return CUDA_ERROR_INVALID_VALUE;
	r = module_check(mod, &m);
	if (r == CUDA_SUCCESS)
		*count = m->image->code.n_entries;
	return r;
}

CUresult cuModuleEnumerateFunctions(CUfunction *functions, unsigned int n_functions, CUmodule mod)
{
	struct sim_module *m;
	CUresult r;

	SIM_ENTER();
	if (!functions || !n_functions)
		return CUDA_ERROR_INVALID_VALUE;
	r = module_check(mod, &m);
	if (r != CUDA_SUCCESS)
		return r;
	for (unsigned int i = 0; i < n_functions; i++)
		functions[i] = i < m->image->code.n_entries ? (CUfunction)m->functions[i] : NULL;
	return CUDA_SUCCESS;
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr *dptr, size_t *bytes, CUmodule mod, const char *name)
{
	struct sim_module *m;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	if (!name || (!dptr && !bytes))
		return CUDA_ERROR_INVALID_VALUE;
	r = module_check(mod, &m);
	if (r != CUDA_SUCCESS)
		return r;
	return sim_module_global(m, name, dptr, bytes);
}

/* 32-bit addresses: nothing on these devices has one. */
CUresult cuModuleGetGlobal(CUdeviceptr_v1 *dptr, unsigned int *bytes, CUmodule mod,
			   const char *name)
{
	CUdeviceptr address = 0;
	size_t size = 0;
	CUresult r;

	r = cuModuleGetGlobal_v2(&address, &size, mod, name);
	if (r != CUDA_SUCCESS)
		return r;
	if ((dptr && address > UINT32_MAX) || (bytes && size > UINT32_MAX))
		return CUDA_ERROR_INVALID_VALUE;
	if (dptr)
		*dptr = (CUdeviceptr_v1)address;
	if (bytes)
		*bytes = (unsigned int)size;
	return CUDA_SUCCESS;
}

/* No module here has texture or surface references: they left the language with CUDA 12. */
CUresult cuModuleGetTexRef(CUtexref *tex_ref, CUmodule mod, const char *name)
{
	struct sim_module *m;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	if (!tex_ref || !name)
		return CUDA_ERROR_INVALID_VALUE;
	r = module_check(mod, &m);
	return r == CUDA_SUCCESS ? CUDA_ERROR_NOT_FOUND : r;
}

CUresult cuModuleGetSurfRef(CUsurfref *surf_ref, CUmodule mod, const char *name)
{
	struct sim_module *m;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	if (!surf_ref || !name)
		return CUDA_ERROR_INVALID_VALUE;
	r = module_check(mod, &m);
	return r == CUDA_SUCCESS ? CUDA_ERROR_NOT_FOUND : r;
}
