/* SPDX-License-Identifier: Apache-2.0 */
/* Memory runs out at each allocation in turn: an error, never a crash, a leak or half an answer. */
#include "cm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "cli/http.h"
#include "cli/ldcache.h"
#include "cli/pathlist.h"
#include "cli/request.h"
#include "cli/text.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);

/* Allocations until the one that fails; -1: none does. */
static int left = -1;

static int fails(void)
{
	return left >= 0 && left-- == 0;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	return fails() ? NULL : __real_reallocarray(p, n, size);
}

/* Run @once, which says whether it succeeded, with ever later failures until it does. */
static void walk(int (*once)(void))
{
	for (int n = 0;; n++) {
		int ok;

		assert_true(n < 1000);
		left = n;
		ok = once();
		left = -1;
		if (ok) {
			assert_true(n > 0); /* something was allocated at all */
			return;
		}
	}
}

static int join_paths(void)
{
	static const char *const dirs[] = {"/a", "/b", NULL};
	char *list = aq_pathlist_front(dirs, "/c:/d", NULL);

	free(list);
	return list != NULL;
}

static int fill_table(void)
{
	static const struct aq_column columns[] = {{.head = "A"}};
	struct aq_table t;
	int r = 0;

	aq_table_init(&t, columns, 1);
	for (int i = 0; i < 100 && !r; i++) {
		r = aq_table_row(&t);
		if (!r)
			aq_table_cell(&t, "%d", i);
	}
	aq_table_finish(&t);
	assert_true(!r || r == -ENOMEM);
	return !r;
}

static int change_cache(void)
{
	static const struct aq_ldcache_entry entry = {"libcuda.so.1", "/x"};
	struct aq_ldcache cache;
	char *data = NULL;
	void *changed = NULL;
	size_t size;
	ssize_t n = aq_file_read(AQ_LDCACHE_PATH, AQ_LDCACHE_MAX_BYTES, &data);
	int r = n < 0 ? (int)n : aq_ldcache_open(data, (size_t)n, &cache);

	if (!r)
		r = aq_ldcache_replace(&cache, &entry, 1, &changed, &size);
	free(data);
	free(changed);
	if (r == -ENOENT)
		return 1; /* a system without a cache */
	assert_true(!r || r == -ENOMEM);
	return !r;
}

static int make_request(void)
{
	const struct aq_request q = {
		.has_gpu = true, .gpu_permille = 500, .name = "chat", .project = "web",
		.has_wait = true, .wait_ms = -1, .device = "auto",
	};
	json_t *body = aq_request_json(&q);
	size_t members = json_object_size(body);

	json_decref(body);
	return members == 5; /* all or nothing that is sent */
}

static void test_oom__each_part_survives_each_failure(void **state)
{
	json_set_alloc_funcs(__wrap_malloc, free);
	walk(join_paths);
	walk(fill_table);
	walk(change_cache);
	walk(make_request);
}

static void test_oom__a_request_is_whole_or_none(void **state)
{
	const struct aq_request q = {.has_gpu = true, .gpu_permille = 500, .name = "chat"};

	json_set_alloc_funcs(__wrap_malloc, free);
	for (int n = 0; n < 20; n++) {
		json_t *body;

		left = n;
		body = aq_request_json(&q);
		left = -1;
		assert_true(!body || json_object_size(body) == 2);
		json_decref(body);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_oom__each_part_survives_each_failure),
		cmocka_unit_test(test_oom__a_request_is_whole_or_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
