/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dynamic linker's cache, /etc/ld.so.cache: looking names up, making one with other answers.
 *
 * ldconfig(8) cannot do the latter for us: it files a library under the soname that is written in
 * it, so a link `libaliquot-driver.so.1` to the driver would be filed as another `libcuda.so.1`.
 * Source of the format: glibc, sysdeps/generic/dl-cache.h ("glibc-ld.so.cache1.1", since 2.2; with
 * the extension directory since 2.33).
 */
#ifndef AQ_CLI_LDCACHE_H
#define AQ_CLI_LDCACHE_H

#include <stddef.h>
#include <stdint.h>

#define AQ_LDCACHE_PATH "/etc/ld.so.cache"
#define AQ_LDCACHE_MAX_BYTES (16u << 20)

struct aq_ldcache {
	const char *data; /* of the new format's header; not owned */
	size_t size;
	uint32_t count;
};

/* @data must outlive @ret. Return: 0; -EPROTO not a cache that this understands. */
int aq_ldcache_open(const void *data, size_t size, struct aq_ldcache *ret);

/**
 * aq_ldcache_find() - the @nth library for programs like this one that answers to @name.
 * Return: its path, inside the data; NULL when there are no more
 */
const char *aq_ldcache_find(const struct aq_ldcache *c, const char *name, unsigned int nth);

struct aq_ldcache_entry {
	const char *name, *path;
};

/**
 * aq_ldcache_replace() - a copy in which each name of @entries leads to its path and to no other.
 * Libraries of that name for other architectures are left out: they would escape the guard.
 * @ret_data: malloc'ed; the caller frees it
 * Return: 0; -ENOMEM; -EPROTO parts of @c lie over each other; -ENOTSUP this machine's architecture is
 *         unknown here
 */
int aq_ldcache_replace(const struct aq_ldcache *c, const struct aq_ldcache_entry *entries,
		       size_t count, void **ret_data, size_t *ret_size);

/* Names in the cache's order: digits count as numbers. Return: as strcmp(3). */
int aq_ldcache_compare(const char *a, const char *b);

#endif /* AQ_CLI_LDCACHE_H */
