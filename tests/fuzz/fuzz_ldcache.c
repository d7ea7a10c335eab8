/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: the linker's cache. What is accepted can be searched and changed, and what we write
 * is accepted again and has the names in it.
 * Needs: src/cli/ldcache.c
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ldcache.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct aq_ldcache_entry entries[] = {
		{"libcuda.so.1", "/guard/libcuda.so.1"},
		{"libaliquot-driver.so.1", "/driver/libaliquot-driver.so.1"},
		{"libc.so.6", "/other/libc.so.6"},
	};
	struct aq_ldcache cache, changed;
	void *written = NULL;
	size_t written_size;

	if (aq_ldcache_open(data, size, &cache) < 0)
		return 0;
	aq_ldcache_find(&cache, "libc.so.6", 1);
	if (aq_ldcache_replace(&cache, entries, 3, &written, &written_size) < 0)
		return 0;
	if (aq_ldcache_open(written, written_size, &changed) < 0)
		__builtin_trap();
	for (int i = 0; i < 3; i++) {
		const char *path = aq_ldcache_find(&changed, entries[i].name, 0);

		if (!path || strcmp(path, entries[i].path))
			__builtin_trap();
	}
	free(written);
	return 0;
}
