/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and writes ld.so.cache in memory. Checks every offset; touches no file. */
#include "cli/ldcache.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/banned.h"

#define MAGIC "glibc-ld.so.cache1.1"
#define EXTENSION_MAGIC 0xeaa42174u
#define EXTENSION_HWCAPS 1u
#define MAX_SECTIONS 64u

/* What the linker wants of a library on this architecture: glibc's _DL_CACHE_DEFAULT_ID. */
#if defined(__x86_64__)
#define NATIVE_FLAGS 0x0303
#elif defined(__aarch64__)
#define NATIVE_FLAGS 0x0a03
#else
#define NATIVE_FLAGS (-1)
#endif

struct header {
	char magic[20];
	uint32_t count;
	uint32_t string_bytes;
	uint8_t flags, padding[3];
	uint32_t extension_at; /* 0: none */
	uint32_t unused[3];
};

struct entry {
	int32_t flags;
	uint32_t name_at, path_at; /* from the header's first byte */
	uint32_t os_version;
	uint64_t hwcap;
};

struct section {
	uint32_t tag, flags, at, size;
};

static_assert(sizeof(struct header) == 48, "as in glibc");
static_assert(sizeof(struct entry) == 24, "as in glibc");

static struct entry entry_at(const struct aq_ldcache *c, uint32_t i)
{
	struct entry e;

	memcpy(&e, c->data + sizeof(struct header) + i * sizeof(e), sizeof(e));
	return e;
}

/* Where the entries end, and strings and the extension begin. */
static size_t tail_of(uint32_t count)
{
	return sizeof(struct header) + (size_t)count * sizeof(struct entry);
}

/* A string behind the entries that ends inside the file. */
static bool string_valid(const struct aq_ldcache *c, uint32_t at)
{
	return at >= tail_of(c->count) && at < c->size && memchr(c->data + at, '\0', c->size - at);
}

static uint32_t get32(const char *at)
{
	uint32_t v;

	memcpy(&v, at, sizeof(v));
	return v;
}

static void put32(char *at, uint32_t v)
{
	memcpy(at, &v, sizeof(v));
}

static bool extension_valid(const struct aq_ldcache *c, uint32_t at)
{
	uint32_t count;

	if (at % 4 || at < tail_of(c->count) || at > c->size || c->size - at < 8)
		return false;
	count = get32(c->data + at + 4);
	if (get32(c->data + at) != EXTENSION_MAGIC || count > MAX_SECTIONS ||
	    c->size - at - 8 < count * sizeof(struct section))
		return false;
	for (uint32_t i = 0; i < count; i++) {
		struct section s;

		memcpy(&s, c->data + at + 8 + i * sizeof(s), sizeof(s));
		if (s.at < tail_of(c->count) || s.at > c->size || s.size > c->size - s.at)
			return false;
		for (uint32_t j = 0; s.tag == EXTENSION_HWCAPS && j + 4 <= s.size; j += 4)
			if (!string_valid(c, get32(c->data + s.at + j)))
				return false;
	}
	return true;
}

int aq_ldcache_open(const void *data, size_t size, struct aq_ldcache *ret)
{
	struct aq_ldcache c = {.data = data, .size = size};
	struct header h;

	/* Older systems keep the old format in front of this one. */
	c.data = memmem(data, size, MAGIC, strlen(MAGIC));
	if (!c.data)
		return -EPROTO;
	c.size -= (size_t)(c.data - (const char *)data);
	if (c.size < sizeof(h) || c.size > AQ_LDCACHE_MAX_BYTES)
		return -EPROTO;
	memcpy(&h, c.data, sizeof(h));
	c.count = h.count;
	if (h.count > (c.size - sizeof(h)) / sizeof(struct entry))
		return -EPROTO;
	for (uint32_t i = 0; i < c.count; i++) {
		struct entry e = entry_at(&c, i);

		if (!string_valid(&c, e.name_at) || !string_valid(&c, e.path_at))
			return -EPROTO;
	}
	if (h.extension_at && !extension_valid(&c, h.extension_at))
		return -EPROTO;
	*ret = c;
	return 0;
}

const char *aq_ldcache_find(const struct aq_ldcache *c, const char *name, unsigned int nth)
{
	for (uint32_t i = 0; i < c->count; i++) {
		struct entry e = entry_at(c, i);

		if (e.flags == NATIVE_FLAGS && !strcmp(c->data + e.name_at, name) && !nth--)
			return c->data + e.path_at;
	}
	return NULL;
}

int aq_ldcache_compare(const char *a, const char *b)
{
	while (*a) {
		bool digit_a = isdigit((unsigned char)*a), digit_b = isdigit((unsigned char)*b);
		unsigned long number_a, number_b;
		char *end;

		if (digit_a != digit_b)
			return digit_a ? 1 : -1;
		if (!digit_a) {
			if (*a != *b)
				return (unsigned char)*a - (unsigned char)*b;
			a++;
			b++;
			continue;
		}
		number_a = strtoul(a, &end, 10);
		a = end;
		number_b = strtoul(b, &end, 10);
		b = end;
		if (number_a != number_b)
			return number_a > number_b ? 1 : -1;
	}
	return -(unsigned char)*b;
}

/* The last name comes first: that is how the linker searches. */
static int by_name(const void *a, const void *b)
{
	const struct aq_ldcache_entry *x = a, *y = b;

	return aq_ldcache_compare(y->name, x->name);
}

static bool replaced(const char *name, const struct aq_ldcache_entry *entries, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(name, entries[i].name))
			return true;
	return false;
}

/*
 * What points into the tail of the file, which moved by @delta as a whole: read from the old file,
 * so that sections that lie over each other lead nowhere.
 */
static void move_extension(char *data, const struct aq_ldcache *old, uint32_t at, uint32_t delta)
{
	uint32_t count = get32(old->data + at + 4);

	for (uint32_t i = 0; i < count; i++) {
		uint32_t where = at + 8 + i * (uint32_t)sizeof(struct section);
		struct section s;

		memcpy(&s, old->data + where, sizeof(s));
		put32(data + (uint32_t)(where + delta) + offsetof(struct section, at), s.at + delta);
		for (uint32_t j = 0; s.tag == EXTENSION_HWCAPS && j + 4 <= s.size; j += 4)
			put32(data + (uint32_t)(s.at + delta) + j,
			      get32(old->data + s.at + j) + delta);
	}
}

struct writer {
	char *data;
	size_t text_at; /* where the next new string goes */
	uint32_t count; /* entries written */
};

static uint32_t write_text(struct writer *w, const char *text)
{
	size_t at = w->text_at, size = strlen(text) + 1;

	memcpy(w->data + at, text, size);
	w->text_at += size;
	return (uint32_t)at;
}

static void write_entry(struct writer *w, const struct entry *e)
{
	memcpy(w->data + sizeof(struct header) + w->count++ * sizeof(*e), e, sizeof(*e));
}

static void write_own(struct writer *w, const struct aq_ldcache_entry *own)
{
	struct entry e = {.flags = NATIVE_FLAGS};

	e.name_at = write_text(w, own->name);
	e.path_at = write_text(w, own->path);
	write_entry(w, &e);
}

/* Old entries that stay, moved by @delta, and the @sorted new ones, each at its place. */
static void merge(struct writer *w, const struct aq_ldcache *c,
		  const struct aq_ldcache_entry *sorted, size_t count, uint32_t delta)
{
	size_t added = 0;

	for (uint32_t i = 0; i < c->count; i++) {
		struct entry e = entry_at(c, i);
		const char *name = c->data + e.name_at;

		if (replaced(name, sorted, count))
			continue;
		while (added < count && aq_ldcache_compare(sorted[added].name, name) > 0)
			write_own(w, &sorted[added++]);
		e.name_at += delta;
		e.path_at += delta;
		write_entry(w, &e);
	}
	while (added < count)
		write_own(w, &sorted[added++]);
}

/* Layout: header, entries, everything that stood behind the entries, the new strings. */
int aq_ldcache_replace(const struct aq_ldcache *c, const struct aq_ldcache_entry *entries,
		       size_t count, void **ret_data, size_t *ret_size)
{
	AQ_CLEANUP(free) struct aq_ldcache_entry *sorted = calloc(count, sizeof(*sorted));
	size_t old_tail = tail_of(c->count), new_tail, size;
	struct aq_ldcache made;
	struct writer w = {0};
	struct header h;
	uint32_t delta;

	if (NATIVE_FLAGS < 0)
		return -ENOTSUP;
	if (!sorted)
		return -ENOMEM;
	memcpy(sorted, entries, count * sizeof(*sorted));
	qsort(sorted, count, sizeof(*sorted), by_name);

	memcpy(&h, c->data, sizeof(h));
	h.count = (uint32_t)count;
	for (uint32_t i = 0; i < c->count; i++)
		h.count += !replaced(c->data + entry_at(c, i).name_at, entries, count);
	new_tail = tail_of(h.count);
	delta = (uint32_t)(new_tail - old_tail); /* modulo 2^32: the tail may move either way */
	w.text_at = size = new_tail + c->size - old_tail;
	for (size_t i = 0; i < count; i++)
		size += strlen(entries[i].name) + strlen(entries[i].path) + 2;
	w.data = calloc(1, size);
	if (!w.data)
		return -ENOMEM;

	h.string_bytes += (uint32_t)(size - w.text_at);
	memcpy(w.data + new_tail, c->data + old_tail, c->size - old_tail);
	if (h.extension_at) {
		move_extension(w.data, c, h.extension_at, delta);
		h.extension_at += delta;
	}
	memcpy(w.data, &h, sizeof(h));
	merge(&w, c, sorted, count, delta);
	/* Where parts of the old file lay over each other, what came of it may be no cache. */
	if (aq_ldcache_open(w.data, size, &made) < 0) {
		free(w.data);
		return -EPROTO;
	}
	*ret_data = w.data;
	*ret_size = size;
	return 0;
}
