/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ways in which a program can come by the driver without being linked to it. Each prints
 * `WAY code=N total=BYTES small=CODE over=CODE`: how much memory device 0 seems to have, what a
 * small allocation answers and what one above that total does. Built twice: dynamic and static.
 *
 *   loaders local|now-global|deepbind|default|handle-of-handle|namespace|walk
 *   loaders path FILE             dlopen by absolute path
 *   loaders plugin FILE           a plugin linked with -lcuda, RTLD_LOCAL
 *   loaders plugin-deepbind FILE  the same, RTLD_DEEPBIND
 */
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "cu.h"

typedef void *(*look_up)(void *handle, const char *name);

static int (*plugin_probe)(size_t *, int *, int *);

static int probe(const char *way, void *handle, look_up find)
{
	CUresult (*init)(unsigned int), (*get)(CUdevice *, int), (*total_mem)(size_t *, CUdevice);
	CUresult (*retain)(CUcontext *, CUdevice), (*current)(CUcontext);
	CUresult (*alloc)(CUdeviceptr *, size_t);
	size_t total = 0;
	CUdeviceptr p;
	CUcontext ctx;
	CUdevice dev;
	CUresult r;

	*(void **)&init = find(handle, "cuInit");
	*(void **)&get = find(handle, "cuDeviceGet");
	*(void **)&total_mem = find(handle, "cuDeviceTotalMem_v2");
	*(void **)&retain = find(handle, "cuDevicePrimaryCtxRetain");
	*(void **)&current = find(handle, "cuCtxSetCurrent");
	*(void **)&alloc = find(handle, "cuMemAlloc_v2");
	if (!init || !get || !total_mem || !retain || !current || !alloc) {
		printf("%s code=-2\n", way);
		return 1;
	}
	r = init(0);
	if (r == CUDA_SUCCESS)
		r = get(&dev, 0);
	if (r == CUDA_SUCCESS)
		r = retain(&ctx, dev);
	if (r == CUDA_SUCCESS)
		r = current(ctx);
	if (r == CUDA_SUCCESS)
		r = total_mem(&total, dev);
	if (r != CUDA_SUCCESS) {
		printf("%s code=%d\n", way, (int)r);
		return 1;
	}
	printf("%s code=0 total=%zu small=%d over=%d\n", way, total, (int)alloc(&p, 1 << 20),
	       (int)alloc(&p, total + (2 << 20)));
	return 0;
}

static int open_and_probe(const char *way, const char *file, int flags)
{
	void *handle = dlopen(file, flags);

	if (!handle) {
		printf("%s code=-3\n", way);
		fprintf(stderr, "loaders: %s\n", dlerror());
		return 1;
	}
	return probe(way, handle, dlsym);
}

static int open_plugin(const char *way, const char *file, int flags)
{
	void *handle = dlopen(file, flags);
	int small = -1, over = -1, r;
	size_t total = 0;

	if (!handle) {
		printf("%s code=-3\n", way);
		fprintf(stderr, "loaders: %s\n", dlerror());
		return 1;
	}
	*(void **)&plugin_probe = dlsym(handle, "plugin_probe");
	r = plugin_probe ? plugin_probe(&total, &small, &over) : -2;
	printf("%s code=%d total=%zu small=%d over=%d\n", way, r, total, small, over);
	return r != 0;
}

#ifndef LOADERS_STATIC
/* dlsym, found by dlsym. */
static void *find_twice(void *handle, const char *name)
{
	look_up again;

	*(void **)&again = dlsym(RTLD_DEFAULT, "dlsym");
	return again ? again(handle, name) : NULL;
}

/* Reads the symbol table of the library itself, as some languages' runtimes do; hidden from dlsym
 * overrides. Falls back to the libraries it names, as a linker would. */
static void *find_by_walking(void *handle, const char *name)
{
	const struct link_map *map = handle;
	const ElfW(Sym) *symbols = NULL;
	const char *strings = NULL;
	size_t bytes_to_strings;

	for (const ElfW(Dyn) *d = map->l_ld; d->d_tag != DT_NULL; d++) {
		if (d->d_tag == DT_SYMTAB)
			symbols = (const void *)(uintptr_t)d->d_un.d_ptr;
		if (d->d_tag == DT_STRTAB)
			strings = (const void *)(uintptr_t)d->d_un.d_ptr;
	}
	if (!symbols || !strings || (const char *)symbols > strings)
		return NULL;
	/* The string table follows the symbol table in every linker's output. */
	bytes_to_strings = (size_t)(strings - (const char *)symbols);
	for (size_t i = 1; i < bytes_to_strings / sizeof(*symbols); i++) {
		if (symbols[i].st_shndx != SHN_UNDEF && !strcmp(strings + symbols[i].st_name, name))
			return (void *)(uintptr_t)(map->l_addr + symbols[i].st_value);
	}
	return dlsym(handle, name);
}

static int dynamic_only(const char *way)
{
	void *handle;

	if (!strcmp(way, "default")) {
		if (!dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL))
			return 1;
		return probe(way, RTLD_DEFAULT, dlsym);
	}
	if (!strcmp(way, "namespace"))
		handle = dlmopen(LM_ID_NEWLM, "libcuda.so.1", RTLD_NOW);
	else
		handle = dlopen("libcuda.so.1", RTLD_NOW);
	if (!handle) {
		printf("%s code=-3\n", way);
		fprintf(stderr, "loaders: %s\n", dlerror());
		return 1;
	}
	if (!strcmp(way, "namespace"))
		return probe(way, handle, dlsym);
	if (!strcmp(way, "handle-of-handle"))
		return probe(way, handle, find_twice);
	if (!strcmp(way, "walk"))
		return probe(way, handle, find_by_walking);
	return 2;
}
#else
static int dynamic_only(const char *way)
{
	return 2;
}
#endif

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "";

	if (argc == 2 && !strcmp(way, "local"))
		return open_and_probe(way, "libcuda.so.1", RTLD_LAZY);
	if (argc == 2 && !strcmp(way, "now-global"))
		return open_and_probe(way, "libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
	if (argc == 2 && !strcmp(way, "deepbind"))
		return open_and_probe(way, "libcuda.so.1", RTLD_NOW | RTLD_DEEPBIND);
	if (argc == 3 && !strcmp(way, "path"))
		return open_and_probe(way, argv[2], RTLD_NOW);
	if (argc == 3 && !strcmp(way, "plugin"))
		return open_plugin(way, argv[2], RTLD_NOW);
	if (argc == 3 && !strcmp(way, "plugin-deepbind"))
		return open_plugin(way, argv[2], RTLD_NOW | RTLD_DEEPBIND);
	if (argc == 2)
		return dynamic_only(way);
	return 2;
}
