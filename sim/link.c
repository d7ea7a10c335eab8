/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The linker in the driver, and options of loading. Linking joins no code: the image that comes out
 * is the input that has the entries, so one input of each kind of use is what works.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "jit.h"
#include "module.h"
#include "sim.h"

#include "base/banned.h"

#define LINK_MAGIC 0x53494d58u

struct link_state {
	uint32_t magic;
	struct sim_jit jit;
	char *image; /* of the input with entries, NUL-terminated; else of the first */
	size_t bytes;
	uint32_t n_entries;
	unsigned int n_inputs;
};

bool sim_jit_read(struct sim_jit *jit, unsigned int n, const CUjit_option *options, void **values)
{
	*jit = (struct sim_jit){0};
	if (n && (!options || !values))
		return false;
	for (unsigned int i = 0; i < n; i++) {
		unsigned int number = (unsigned int)(uintptr_t)values[i];

		switch (options[i]) {
		case CU_JIT_INFO_LOG_BUFFER:
			jit->info = values[i];
			break;
		case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
			jit->info_bytes = number;
			jit->info_size = &values[i];
			break;
		case CU_JIT_ERROR_LOG_BUFFER:
			jit->error = values[i];
			break;
		case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
			jit->error_bytes = number;
			jit->error_size = &values[i];
			break;
		case CU_JIT_WALL_TIME:
			jit->wall_time = &values[i];
			break;
		default:
			if ((unsigned int)options[i] >= CU_JIT_NUM_OPTIONS)
				return false;
		}
	}
	return true;
}

/* Fill a log; the length that was used, NUL included, replaces the size. */
static void write_log(char *buffer, unsigned int bytes, void **ret_size, const char *text)
{
	size_t used = 0;

	if (buffer && bytes) {
		snprintf(buffer, bytes, "%s", text);
		used = *text ? strlen(buffer) + 1 : 0;
	}
	if (ret_size)
		*ret_size = (void *)(uintptr_t)used;
}

void sim_jit_log(const struct sim_jit *jit, CUresult result, const struct sim_ptx *why)
{
	char text[160] = "";
	float ms = 0;

	if (!jit)
		return;
	if (result != CUDA_SUCCESS && why->error[0])
		snprintf(text, sizeof(text), "ptxas application ptx input, line %u; fatal   : %s\n",
			 why->error_line, why->error);
	write_log(jit->error, jit->error_bytes, jit->error_size, text);
	write_log(jit->info, jit->info_bytes, jit->info_size, "");
	if (jit->wall_time) /* a float in place of the option's value */
		memcpy(jit->wall_time, &ms, sizeof(ms));
}

static CUresult link_check(CUlinkState handle, struct link_state **ret_state)
{
	struct link_state *l = (struct link_state *)handle;

	if ((uintptr_t)handle < 4096 || l->magic != LINK_MAGIC)
		return CUDA_ERROR_INVALID_HANDLE;
	*ret_state = l;
	return CUDA_SUCCESS;
}

CUresult cuLinkCreate_v2(unsigned int noptions, CUjit_option *options, void **values,
			 CUlinkState *state_out)
{
	struct link_state *l;
	struct sim_jit jit;

	SIM_ENTER_CONTEXT(ctx);
	if (!state_out || !sim_jit_read(&jit, noptions, options, values))
		return CUDA_ERROR_INVALID_VALUE;
	l = calloc(1, sizeof(*l));
	if (!l)
		return CUDA_ERROR_OUT_OF_MEMORY;
	l->magic = LINK_MAGIC;
	l->jit = jit;
	*state_out = (CUlinkState)l;
	return CUDA_SUCCESS;
}

static CUresult add_input(struct sim_context *ctx, struct link_state *l, CUjitInputType type,
			  const void *data, size_t bytes)
{
	struct sim_ptx why = {0};
	struct sim_image *image;
	char *copy;
	CUresult r;

	if (type == CU_JIT_INPUT_NVVM)
		return CUDA_ERROR_NOT_SUPPORTED;
	r = sim_image_load(ctx->device, data, bytes, &image, &why);
	sim_jit_log(&l->jit, r, &why);
	if (r != CUDA_SUCCESS)
		return r;
	if (!l->n_inputs++ || image->code.n_entries > l->n_entries) {
		copy = malloc(bytes + 1);
		if (!copy) {
			sim_image_put(image);
			return CUDA_ERROR_OUT_OF_MEMORY;
		}
		memcpy(copy, data, bytes);
		copy[bytes] = '\0';
		free(l->image);
		l->image = copy;
		l->bytes = bytes;
		l->n_entries = image->code.n_entries;
	}
	sim_image_put(image);
	return CUDA_SUCCESS;
}

CUresult cuLinkAddData_v2(CUlinkState state, CUjitInputType type, void *data, size_t size,
			  const char *name, unsigned int noptions, CUjit_option *options,
			  void **values)
{
	struct link_state *l;
	struct sim_jit jit;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	r = link_check(state, &l);
	if (r != CUDA_SUCCESS)
		return r;
	if (!data || !size || (unsigned int)type >= CU_JIT_NUM_INPUT_TYPES ||
	    !sim_jit_read(&jit, noptions, options, values))
		return CUDA_ERROR_INVALID_VALUE;
	return add_input(ctx, l, type, data, size);
}

CUresult cuLinkAddFile_v2(CUlinkState state, CUjitInputType type, const char *path,
			  unsigned int noptions, CUjit_option *options, void **values)
{
	struct link_state *l;
	void *bytes = NULL;
	struct sim_jit jit;
	size_t size;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	r = link_check(state, &l);
	if (r != CUDA_SUCCESS)
		return r;
	if (!path || (unsigned int)type >= CU_JIT_NUM_INPUT_TYPES ||
	    !sim_jit_read(&jit, noptions, options, values))
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_file_map(path, &bytes, &size);
	if (r != CUDA_SUCCESS)
		return r;
	r = add_input(ctx, l, type, bytes, size);
	munmap(bytes, size);
	return r;
}

CUresult cuLinkComplete(CUlinkState state, void **cubin_out, size_t *size_out)
{
	struct link_state *l;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	r = link_check(state, &l);
	if (r != CUDA_SUCCESS)
		return r;
	if (!cubin_out)
		return CUDA_ERROR_INVALID_VALUE;
	if (!l->image)
		return CUDA_ERROR_INVALID_IMAGE;
	*cubin_out = l->image;
	if (size_out)
		*size_out = l->bytes;
	return CUDA_SUCCESS;
}

CUresult cuLinkDestroy(CUlinkState state)
{
	struct link_state *l;
	CUresult r;

	SIM_ENTER();
	r = link_check(state, &l);
	if (r != CUDA_SUCCESS)
		return r;
	l->magic = 0;
	free(l->image);
	free(l);
	return CUDA_SUCCESS;
}

/* The first variants have the same parameters. */
CUresult cuLinkCreate(unsigned int noptions, CUjit_option *options, void **values,
		      CUlinkState *state_out)
{
	return cuLinkCreate_v2(noptions, options, values, state_out);
}

CUresult cuLinkAddData(CUlinkState state, CUjitInputType type, void *data, size_t size,
		       const char *name, unsigned int noptions, CUjit_option *options,
		       void **values)
{
	return cuLinkAddData_v2(state, type, data, size, name, noptions, options, values);
}

CUresult cuLinkAddFile(CUlinkState state, CUjitInputType type, const char *path,
		       unsigned int noptions, CUjit_option *options, void **values)
{
	return cuLinkAddFile_v2(state, type, path, noptions, options, values);
}
