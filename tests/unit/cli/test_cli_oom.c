/* SPDX-License-Identifier: Apache-2.0 */
/* Memory runs out at each allocation in turn: an error, never a crash, a leak or half an answer. */
#include "oom.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/http.h"
#include "cli/ldcache.h"
#include "cli/pathlist.h"
#include "cli/request.h"
#include "cli/text.h"

static int join_paths(void)
{
	static const char *const dirs[] = {"/a", "/b", NULL};
	char *list = aq_pathlist_front(dirs, "/c:/d", NULL);

	free(list);
	return list ? 0 : -ENOMEM;
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
	return r;
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
	return r;
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
	return members == 5 ? 0 : -ENOMEM; /* all or nothing that is sent */
}

static void test_oom__each_part_survives_each_failure(void **state)
{
	json_set_alloc_funcs(__wrap_malloc, __wrap_free);
	oom_walk(join_paths, -ENOMEM);
	oom_walk(fill_table, -ENOMEM);
	if (!access(AQ_LDCACHE_PATH, R_OK)) /* else a system without a cache */
		oom_walk(change_cache, -ENOMEM);
	oom_walk(make_request, -ENOMEM);
}

static void test_oom__a_request_is_whole_or_none(void **state)
{
	const struct aq_request q = {.has_gpu = true, .gpu_permille = 500, .name = "chat"};

	json_set_alloc_funcs(__wrap_malloc, __wrap_free);
	for (int n = 0; n < 20; n++) {
		json_t *body;

		oom_begin(n);
		body = aq_request_json(&q);
		oom_end();
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
