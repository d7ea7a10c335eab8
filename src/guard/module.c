/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Code: modules and libraries. Their code and variables take device memory that no call shows, at
 * load or, when the driver loads lazily, at first use. Three ways to count it, the cheapest that
 * does:
 *   an image that tells a large size (a cubin's sections, a PTX text's arrays) is reserved before
 *     it is loaded, and measured after;
 *   a load after which the device has visibly less is measured, and undone if it does not fit;
 *   anything else only makes the daemon measure sooner.
 *
 * When we fail: CUDA_ERROR_OUT_OF_MEMORY with the module unloaded again.
 */
#include <ctype.h>
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "guard/guard.h"
#include "guard/guest.h"

#define WORTH_BYTES (1ull << 20)     /* guess: a message and a measurement for no less than this */
#define MAX_CUBIN_BYTES (4ull << 30) /* guess: no image is longer */
#define PTX_SCAN_BYTES (64ull << 20) /* guess: no text is longer */

/* ---- what an image says of its size ---- */

static uint64_t elf_bytes(const void *image)
{
	const Elf64_Ehdr *e = image;
	uint64_t sum = 0;

	if (e->e_ident[EI_CLASS] != ELFCLASS64 || e->e_machine != EM_CUDA ||
	    e->e_shentsize != sizeof(Elf64_Shdr) || e->e_shoff > MAX_CUBIN_BYTES)
		return 0; /* whatever it is, the driver will say */
	for (unsigned int i = 0; i < e->e_shnum; i++) {
		const Elf64_Shdr *s = (const Elf64_Shdr *)((const char *)image + e->e_shoff) + i;

		if ((s->sh_flags & SHF_ALLOC) && __builtin_add_overflow(sum, s->sh_size, &sum))
			return UINT64_MAX;
	}
	return sum;
}

/* Bytes of the element type that @p names (.b8 .u32 .f64 .v4 ...), 1 where it names none. */
static uint64_t ptx_element(const char *p, const char *end)
{
	uint64_t bytes = 1, vector = 1;

	for (; p < end; p++) {
		if (*p != '.' || p + 2 >= end || !isdigit((unsigned char)p[2]))
			continue;
		if (p[1] == 'v')
			vector = strtoull(p + 2, NULL, 10);
		else if (strchr("busf", p[1]))
			bytes = strtoull(p + 2, NULL, 10) / 8;
	}
	return (bytes ? bytes : 1) * (vector ? vector : 1);
}

/* Bytes of one declaration, from behind `.global` to its end: element times dimensions. */
static uint64_t ptx_variable(const char *p, const char *end)
{
	const char *dims = memchr(p, '[', (size_t)(end - p));
	uint64_t bytes = ptx_element(p, dims ? dims : end);

	while (dims) {
		uint64_t n = strtoull(dims + 1, NULL, 0);

		if (__builtin_mul_overflow(bytes, n, &bytes))
			return UINT64_MAX;
		dims = memchr(dims + 1, '[', (size_t)(end - dims - 1));
	}
	return bytes;
}

static uint64_t ptx_bytes(const char *text)
{
	const char *end = text + strnlen(text, PTX_SCAN_BYTES);
	uint64_t sum = 0;

	for (const char *p = text; (p = memmem(p, (size_t)(end - p), ".global", 7));) {
		const char *stop;

		p += 7;
		if (p < end && *p != ' ' && *p != '\t' && *p != '\n')
			continue; /* ld.global.u32 and the like */
		stop = p + strcspn(p, ";={");
		if (__builtin_add_overflow(sum, ptx_variable(p, stop), &sum))
			return UINT64_MAX;
	}
	return sum;
}

/* Device bytes that @image will take, as far as it says so; 0 otherwise. */
static uint64_t image_bytes(const void *image)
{
	const unsigned char *p = image;
	uint32_t magic;

	if (!image)
		return 0;
	memcpy(&magic, p, sizeof(magic)); /* every image is longer */
	if (!memcmp(&magic, ELFMAG, SELFMAG))
		return elf_bytes(image);
	/* A fat binary has code for many devices, of which one is loaded: its size says nothing. */
	for (int i = 0; i < 4; i++) {
		if (!isprint(p[i]) && !isspace(p[i]))
			return 0;
	}
	return ptx_bytes(image);
}

/* ---- loading ---- */

struct load {
	struct aq__cost cost;
	struct aq__place place;
	size_t free_before;
	bool reserved;
};

/* Free bytes of the whole device, or 0. Others change it, too: a hint, no measure. */
static size_t device_free(const struct aq__place *p)
{
	size_t room = 0, total;
	CUstreamCaptureMode mode;

	if (p->index < 0)
		return 0;
	mode = aq__relax_begin();
	if (AQ__CALL(cuMemGetInfo_v2, &room, &total) != CUDA_SUCCESS)
		room = 0;
	aq__relax_end(mode);
	return room;
}

static CUresult load_begin(struct load *l, uint64_t bytes, const char *api)
{
	aq__place_here(&l->place);
	l->cost = (struct aq__cost){.index = l->place.index, .api = api};
	l->reserved = bytes >= WORTH_BYTES;
	l->free_before = 0;
	if (l->reserved)
		return aq__cost_begin(&l->cost, l->place.index, bytes, api);
	l->free_before = device_free(&l->place);
	return CUDA_SUCCESS;
}

/* Return: CUDA_ERROR_OUT_OF_MEMORY where @r was success: the caller unloads. */
static CUresult load_end(struct load *l, CUresult r)
{
	size_t now;

	if (r != CUDA_SUCCESS) {
		if (l->reserved)
			aq__cost_undone(&l->cost);
		return r;
	}
	now = l->reserved ? 0 : device_free(&l->place);
	if (!l->reserved && (now >= l->free_before || l->free_before - now < WORTH_BYTES)) {
		aq__unmeasured(l->place.index);
		return r;
	}
	return aq__cost_fits(&l->cost) ? r : CUDA_ERROR_OUT_OF_MEMORY;
}

/* CHARGE, all variants. */
#define HOOK_LOAD(sym, params, handle, bytes, unload, ...)                                         \
	CUresult sym params                                                                        \
	{                                                                                          \
		struct load l;                                                                     \
		CUresult r, made;                                                                  \
                                                                                                   \
		if (!aq__page_get())                                                               \
			return AQ__CALL(sym, __VA_ARGS__);                                         \
		r = load_begin(&l, bytes, #sym);                                                   \
		if (r != CUDA_SUCCESS)                                                             \
			return r;                                                                  \
		made = AQ__CALL(sym, __VA_ARGS__);                                                 \
		r = load_end(&l, made);                                                            \
		if (r != made) {                                                                   \
			(void)AQ__CALL(unload, *handle);                                           \
			aq__cost_undone(&l.cost);                                                  \
		}                                                                                  \
		return r;                                                                          \
	}

HOOK_LOAD(cuModuleLoad, (CUmodule *mod, const char *path), mod, 0, cuModuleUnload, mod, path)
HOOK_LOAD(cuModuleLoadData, (CUmodule *mod, const void *image), mod, image_bytes(image),
	  cuModuleUnload, mod, image)
HOOK_LOAD(cuModuleLoadDataEx,
	  (CUmodule *mod, const void *image, unsigned int n, CUjit_option *options, void **values),
	  mod, image_bytes(image), cuModuleUnload, mod, image, n, options, values)
HOOK_LOAD(cuModuleLoadFatBinary, (CUmodule *mod, const void *image), mod, 0, cuModuleUnload, mod,
	  image)
HOOK_LOAD(cuLibraryLoadData,
	  (CUlibrary *lib, const void *code, CUjit_option *jo, void **jv, unsigned int nj,
	   CUlibraryOption *lo, void **lv, unsigned int nl),
	  lib, image_bytes(code), cuLibraryUnload, lib, code, jo, jv, nj, lo, lv, nl)
HOOK_LOAD(cuLibraryLoadFromFile,
	  (CUlibrary *lib, const char *path, CUjit_option *jo, void **jv, unsigned int nj,
	   CUlibraryOption *lo, void **lv, unsigned int nl),
	  lib, 0, cuLibraryUnload, lib, path, jo, jv, nj, lo, lv, nl)

/* RELEASE, and CHARGE of a function that is loaded now and not at its first launch. */
#define HOOK_NOTED(sym, type)                                                                      \
	CUresult sym(type handle)                                                                  \
	{                                                                                          \
		CUresult r = AQ__CALL(sym, handle);                                                \
		struct aq__place p;                                                                \
                                                                                                   \
		if (r == CUDA_SUCCESS) {                                                           \
			aq__place_here(&p);                                                        \
			aq__unmeasured(p.index);                                                   \
		}                                                                                  \
		return r;                                                                          \
	}

HOOK_NOTED(cuModuleUnload, CUmodule)
HOOK_NOTED(cuLibraryUnload, CUlibrary)
HOOK_NOTED(cuFuncLoad, CUfunction)
