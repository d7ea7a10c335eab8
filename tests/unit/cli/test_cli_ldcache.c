/* SPDX-License-Identifier: Apache-2.0 */
/* The linker's cache: this machine's own, changed ones, and damaged ones. */
#include "cm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/ldcache.h"

static const struct aq_ldcache_entry entries[] = {
	{"libcuda.so.1", "/opt/guard/libcuda.so.1"},
	{"libaliquot-driver.so.1", "/run/driver/libaliquot-driver.so.1"},
	{"libzzz.so.10", "/opt/zzz"},
	{"libc.so.6", "/opt/other/libc.so.6"}, /* there is one already */
};
#define ENTRIES (sizeof(entries) / sizeof(entries[0]))

static char *data;
static ssize_t size;

static int read_own(void **state)
{
	size = aq_file_read(AQ_LDCACHE_PATH, AQ_LDCACHE_MAX_BYTES, &data);
	return 0;
}

static int free_own(void **state)
{
	free(data);
	return 0;
}

static void open_own(struct aq_ldcache *c)
{
	if (size < 0)
		skip(); /* a system without a cache */
	assert_int_equal(aq_ldcache_open(data, (size_t)size, c), 0);
}

/* What /sbin/ldconfig -p says about @cache: an independent reader of the format. */
static void list(const void *cache, size_t cache_size, char *buf, size_t buf_size)
{
	char path[] = "/tmp/test_cli_ldcache.XXXXXX", command[128];
	int fd = mkstemp(path);
	FILE *from;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, cache, cache_size), (ssize_t)cache_size);
	close(fd);
	snprintf(command, sizeof(command), "/sbin/ldconfig -p -C %s 2>&1", path);
	from = popen(command, "r");
	assert_non_null(from);
	buf[fread(buf, 1, buf_size - 1, from)] = '\0';
	pclose(from);
	unlink(path);
}

static void test_ldcache__finds_the_c_library(void **state)
{
	struct aq_ldcache c;
	const char *path;

	open_own(&c);
	path = aq_ldcache_find(&c, "libc.so.6", 0);
	assert_non_null(path);
	assert_int_equal(access(path, R_OK), 0);
	assert_null(aq_ldcache_find(&c, "libc.so.6", 99));
	assert_null(aq_ldcache_find(&c, "libsurely-not-there.so.1", 0));
}

static void test_ldcache__replaces_and_keeps_the_rest(void **state)
{
	struct aq_ldcache c, d;
	uint32_t kept = 0;
	void *changed;
	size_t changed_size;

	open_own(&c);
	assert_int_equal(aq_ldcache_replace(&c, entries, ENTRIES, &changed, &changed_size), 0);
	assert_int_equal(aq_ldcache_open(changed, changed_size, &d), 0);
	for (size_t i = 0; i < ENTRIES; i++) {
		assert_string_equal(aq_ldcache_find(&d, entries[i].name, 0), entries[i].path);
		assert_null(aq_ldcache_find(&d, entries[i].name, 1));
	}
	for (uint32_t i = 0; i < c.count; i++) {
		const char *name = c.data + *(const uint32_t *)(c.data + 48 + i * 24 + 4);

		kept += strcmp(name, "libc.so.6") && strcmp(name, "libcuda.so.1");
	}
	assert_int_equal(d.count, kept + ENTRIES);
	free(changed);
}

static void test_ldcache__ldconfig_reads_what_we_write(void **state)
{
	static char before[1 << 20], after[1 << 20];
	struct aq_ldcache c;
	size_t changed_size;
	void *changed;
	char *line, *next;

	open_own(&c);
	if (access("/sbin/ldconfig", X_OK))
		skip();
	assert_int_equal(aq_ldcache_replace(&c, entries, ENTRIES, &changed, &changed_size), 0);
	list(data, (size_t)size, before, sizeof(before));
	list(changed, changed_size, after, sizeof(after));
	free(changed);
	assert_non_null(strstr(after, "libcuda.so.1 (libc6,"));
	assert_non_null(strstr(after, "=> /opt/guard/libcuda.so.1\n"));
	assert_non_null(strstr(after, "=> /run/driver/libaliquot-driver.so.1\n"));
	assert_non_null(strstr(after, "=> /opt/zzz\n"));
	/* Every other line is there word for word; the first and last lines count and name. */
	next = strchr(before, '\n') + 1;
	while ((line = next) && *line == '\t') {
		next = strchr(line, '\n');
		assert_non_null(next);
		*next++ = '\0';
		if (strncmp(line, "\tlibc.so.6 ", 11) && strncmp(line, "\tlibcuda.so.1 ", 14) &&
		    !strstr(after, line))
			fail_msg("lost: %s", line);
	}
}

static void test_ldcache__names_are_in_the_linkers_order(void **state)
{
	struct aq_ldcache c, d;
	const char *last = NULL;
	size_t changed_size;
	void *changed;

	assert_true(aq_ldcache_compare("liba.so.9", "liba.so.10") < 0);
	assert_true(aq_ldcache_compare("liba.so.1", "libb.so.0") < 0);
	assert_true(aq_ldcache_compare("liba1", "liba.") > 0); /* digits behind all else */
	assert_true(aq_ldcache_compare("lib", "liba") < 0);
	assert_int_equal(aq_ldcache_compare("liba.so.01", "liba.so.1"), 0);

	open_own(&c);
	assert_int_equal(aq_ldcache_replace(&c, entries, ENTRIES, &changed, &changed_size), 0);
	assert_int_equal(aq_ldcache_open(changed, changed_size, &d), 0);
	for (uint32_t i = 0; i < d.count; i++) {
		const char *name = d.data + *(const uint32_t *)(d.data + 48 + i * 24 + 4);

		if (last && aq_ldcache_compare(last, name) < 0)
			fail_msg("%s stands before %s", last, name);
		last = name;
	}
	free(changed);
}

static void test_ldcache__damaged_ones_are_refused_not_followed(void **state)
{
	struct aq_ldcache c;
	unsigned int opened = 0;
	char *copy;

	open_own(&c);
	for (size_t n = 0; n < (size_t)size; n += n < 256 ? 1 : 997) {
		copy = malloc(n ? n : 1); /* exact, so that a sanitizer sees a read behind it */
		assert_non_null(copy);
		memcpy(copy, data, n);
		opened += !aq_ldcache_open(copy, n, &c);
		free(copy);
	}
	assert_int_equal(opened, 0);

	copy = malloc((size_t)size);
	assert_non_null(copy);
	srandom(1);
	for (int i = 0; i < 2000; i++) {
		size_t changed_size;
		void *changed;

		memcpy(copy, data, (size_t)size);
		for (int j = 0; j < 4; j++)
			copy[random() % (i % 2 ? 512 : size)] = (char)random();
		if (aq_ldcache_open(copy, (size_t)size, &c) < 0)
			continue;
		aq_ldcache_find(&c, "libcuda.so.1", 0);
		assert_int_equal(aq_ldcache_replace(&c, entries, ENTRIES, &changed, &changed_size),
				 0);
		free(changed);
	}
	free(copy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ldcache__finds_the_c_library),
		cmocka_unit_test(test_ldcache__replaces_and_keeps_the_rest),
		cmocka_unit_test(test_ldcache__ldconfig_reads_what_we_write),
		cmocka_unit_test(test_ldcache__names_are_in_the_linkers_order),
		cmocka_unit_test(test_ldcache__damaged_ones_are_refused_not_followed),
	};

	return cmocka_run_group_tests(tests, read_own, free_own);
}
