/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of directories: putting in front, leaving out, searching. */
#include "cm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/pathlist.h"

static void expect(const char *const *dirs, const char *old, const char *const *drop,
		   const char *expected)
{
	char *list = aq_pathlist_front(dirs, old, drop);

	assert_string_equal(list, expected);
	free(list);
}

static void test_front__once_each_and_the_rest_behind(void **state)
{
	static const char *const dirs[] = {"/g", "/d", NULL}, *const none[] = {NULL};
	static const char *const drop[] = {"/old", NULL};

	expect(dirs, NULL, NULL, "/g:/d");
	expect(dirs, "", NULL, "/g:/d");
	expect(dirs, "/usr/lib:/x", NULL, "/g:/d:/usr/lib:/x");
	expect(dirs, "/g:/x:/d:/gg", NULL, "/g:/d:/x:/gg");
	expect(dirs, "/old/guard:/x:/older", drop, "/g:/d:/x");
	expect(dirs, "/x::/y", NULL, "/g:/d:/x::/y");
	expect(none, "/old/guard", drop, "");
	expect(none, "/a:/old:/b", drop, "/a:/b");
}

static void test_find__as_the_shell_would(void **state)
{
	char dir[] = "/tmp/test_cli_pathlist.XXXXXX", file[64], list[128];

	assert_non_null(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/data", dir);
	assert_int_equal(close(open(file, O_CREAT | O_WRONLY, 0644)), 0);
	snprintf(list, sizeof(list), "/nowhere:%s", dir);

	assert_int_equal(aq_pathlist_find("sh", "/bin:/usr/bin"), 0);
	assert_int_equal(aq_pathlist_find("sh", NULL), 0);
	assert_int_equal(aq_pathlist_find("/bin/sh", ""), 0);
	assert_int_equal(aq_pathlist_find("surely-not-there", "/bin:/usr/bin"), -ENOENT);
	assert_int_equal(aq_pathlist_find("", "/bin"), -ENOENT);
	assert_int_equal(aq_pathlist_find("/nowhere/sh", "/bin"), -ENOENT);
	assert_int_equal(aq_pathlist_find("/bin", "/bin"), -EACCES);
	assert_int_equal(aq_pathlist_find("data", list), -EACCES);
	assert_int_equal(aq_pathlist_find(file, ""), -EACCES);
	assert_int_equal(chmod(file, 0755), 0);
	assert_int_equal(aq_pathlist_find("data", list), 0);

	unlink(file);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_front__once_each_and_the_rest_behind),
		cmocka_unit_test(test_find__as_the_shell_would),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
