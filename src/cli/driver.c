/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the machine's own driver libraries and links the guard's names for them. Loads nothing. */
#include "cli/driver.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "cli/ldcache.h"
#include "base/banned.h"

#if defined(__x86_64__)
#define NATIVE_MACHINE EM_X86_64
#define MULTIARCH "x86_64-linux-gnu"
#elif defined(__aarch64__)
#define NATIVE_MACHINE EM_AARCH64
#define MULTIARCH "aarch64-linux-gnu"
#else
#error "no NVIDIA driver for this architecture is known here"
#endif

#define ALIAS_STEM "libaliquot-driver" /* what every alias begins with */
#define GUARD_MAX_BYTES (16u << 20)    /* a guard is a fraction of that, libcuda.so.1 more */

const struct aq_driver_name aq_driver_names[AQ_DRIVER_LIBRARIES] = {
#define AQ_DRIVER(id, soname, link, alias) {soname, link, alias},
	AQ_DRIVER_LIST(AQ_DRIVER)
#undef AQ_DRIVER
};

/* Where packages, containers and WSL put the driver when the linker's cache does not know it. */
static const char usual[] = "/usr/lib/" MULTIARCH ":/usr/lib/" MULTIARCH "/nvidia/current:"
			    "/usr/lib64:/usr/lib:/usr/local/nvidia/lib64:/usr/lib/wsl/lib:"
			    "/run/opengl-driver/lib";

bool aq_driver_is_guard(const char *path)
{
	AQ_CLEANUP(free) char *data = NULL;
	ssize_t size = aq_file_read(path, GUARD_MAX_BYTES, &data);

	return size > 0 && memmem(data, (size_t)size, ALIAS_STEM, strlen(ALIAS_STEM));
}

static bool is_native(const char *path)
{
	AQ_CLEANUP(close) int fd = open(path, O_RDONLY | O_CLOEXEC);
	Elf64_Ehdr h;

	return fd >= 0 && read(fd, &h, sizeof(h)) == sizeof(h) &&
	       !memcmp(h.e_ident, ELFMAG, SELFMAG) && h.e_ident[EI_CLASS] == ELFCLASS64 &&
	       h.e_machine == NATIVE_MACHINE;
}

/* Take @path if it is a driver and no guard. Return: 0; -ENOENT. */
static int take(const char *path, char *buf)
{
	if (strlen(path) >= AQ_PATH_BYTES || !is_native(path) || aq_driver_is_guard(path))
		return -ENOENT;
	snprintf(buf, AQ_PATH_BYTES, "%s", path);
	return 0;
}

static int find_in_list(const char *list, const char *soname, char *buf)
{
	while (list && *list) {
		size_t len = strcspn(list, ":");
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%.*s/%s", (int)len, list, soname);
		if (len && !take(path, buf))
			return 0;
		list += len + (list[len] == ':');
	}
	return -ENOENT;
}

static int find_in_cache(const char *soname, char *buf)
{
	AQ_CLEANUP(free) char *data = NULL;
	ssize_t size = aq_file_read(AQ_LDCACHE_PATH, AQ_LDCACHE_MAX_BYTES, &data);
	struct aq_ldcache cache;
	const char *path;

	if (size < 0 || aq_ldcache_open(data, (size_t)size, &cache) < 0)
		return -ENOENT;
	for (unsigned int i = 0; (path = aq_ldcache_find(&cache, soname, i)); i++)
		if (!take(path, buf))
			return 0;
	return -ENOENT;
}

static int find(enum aq_driver_library which, const char *first, char *buf)
{
	const char *soname = aq_driver_names[which].soname;

	if (first && !find_in_list(first, soname, buf))
		return 0;
	if (!find_in_cache(soname, buf))
		return 0;
	return find_in_list(usual, soname, buf);
}

int aq_driver_find(enum aq_driver_library which, char *buf)
{
	return find(which, getenv("LD_LIBRARY_PATH"), buf);
}

/* Any number of commands may do this at once: the link appears whole, by rename. */
static int make_link(const char *dir, const char *name, const char *target)
{
	char path[AQ_PATH_BYTES], temp[AQ_PATH_BYTES + 16], now[AQ_PATH_BYTES];
	ssize_t n;
	int r;

	r = aq_paths_join(path, dir, name);
	if (r < 0)
		return r;
	n = readlink(path, now, sizeof(now) - 1);
	if (n >= 0) {
		now[n] = '\0';
		if (!strcmp(now, target))
			return 0;
	}
	snprintf(temp, sizeof(temp), "%s.%d", path, (int)getpid());
	if (symlink(target, temp) < 0)
		return -errno;
	if (rename(temp, path) < 0) {
		r = -errno;
		unlink(temp);
		return r;
	}
	return 0;
}

/* FNV-1a: only tells directories apart. */
static uint32_t hash(const char *text)
{
	uint32_t h = 2166136261u;

	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * 16777619u;
	return h;
}

int aq_driver_link(const char *rundir, char ret_files[AQ_DRIVER_LIBRARIES][AQ_PATH_BYTES],
		   char *ret_dir)
{
	char system[AQ_PATH_BYTES], name[32] = "driver";
	int r;

	r = aq_driver_find(AQ_DRIVER_CUDA, ret_files[AQ_DRIVER_CUDA]);
	if (r < 0)
		return r;
	if (aq_driver_find(AQ_DRIVER_NVML, ret_files[AQ_DRIVER_NVML]) < 0)
		ret_files[AQ_DRIVER_NVML][0] = '\0';
	if (find(AQ_DRIVER_CUDA, NULL, system) < 0 ||
	    strcmp(system, ret_files[AQ_DRIVER_CUDA]) != 0)
		snprintf(name, sizeof(name), "driver-%08x", hash(ret_files[AQ_DRIVER_CUDA]));

	r = aq_paths_make_rundir(rundir);
	if (!r)
		r = aq_paths_join(ret_dir, rundir, name);
	if (!r)
		r = aq_paths_make_rundir(ret_dir);
	for (int i = 0; !r && i < AQ_DRIVER_LIBRARIES; i++)
		if (ret_files[i][0])
			r = make_link(ret_dir, aq_driver_names[i].alias, ret_files[i]);
	return r;
}
