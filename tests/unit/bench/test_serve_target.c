/* SPDX-License-Identifier: Apache-2.0 */
/* What people write about targets. */
#include "cm.h"

#include <stdbool.h>
#include <string.h>

#include "serve/target.h"

static const struct aq_target defaults = {
	.plan = {{.users = 3}}, .steps = 1, .isl = {.a = 5}, .osl = {.a = 6}, .model = "standard"};

static struct aq_target parse(const char *text)
{
	const char *why = "";
	struct aq_target t;

	if (aq_target_parse(text, &defaults, 4, &t, &why))
		fail_msg("%s: %s", text, why);
	return t;
}

static void test_target__reads_urls(void **state)
{
	struct aq_target t = parse("http://gpu1:8000");

	assert_string_equal(t.name, "target-4");
	assert_string_equal(t.host, "gpu1");
	assert_int_equal(t.port, 8000);
	assert_string_equal(t.path, "/v1");
	assert_string_equal(t.model, "standard");
	assert_string_equal(parse("http://gpu1:8000/v1/").path, "/v1");
	assert_string_equal(parse("http://gpu1/a/b/v1").path, "/a/b/v1");
	assert_int_equal(parse("http://gpu1/a").port, 80);
	t = parse("http://[::1]:9/v1");
	assert_string_equal(t.host, "::1");
	assert_int_equal(t.port, 9);
}

static void test_target__reads_keys(void **state)
{
	struct aq_target t = parse("chat=http://h:1,model=a=b,api=embeddings,users=2/9@30s,"
				   "isl=uniform:1:9,osl=7");

	assert_string_equal(t.name, "chat");
	assert_string_equal(t.model, "a=b");
	assert_int_equal(t.api, AQ_SERVE_EMBEDDINGS);
	assert_int_equal(t.isl.kind, AQ_DIST_UNIFORM);
	assert_true(t.osl.a == 7);
	assert_int_equal(aq_target_users(&t, 0), 2);
	assert_int_equal(aq_target_users(&t, 29999999999), 2);
	assert_int_equal(aq_target_users(&t, 30000000000), 9);
	assert_int_equal(aq_target_users_most(&t), 9);
	assert_true(parse("http://h:1,rate=2.5").rate == 2.5);
}

static void test_target__refuses_other_texts(void **state)
{
	static const char *const bad[] = {
		"", "gpu1:8000", "https://h", "http://", "http://:80", "http://h:0", "http://h:65536",
		"http://h:80x", "http://[::1", "http://h h", "http://u@h", "http://h/a?b",
		"http://h/a\r\nX: y", "na me=http://h", "=http://h", "http://h,users", "http://h,users=",
		"http://h,users=0", "http://h,users=5@1s", "http://h,users=1/2",
		"http://h,users=1/2@5s/3@5s", "http://h,users=99999", "http://h,rate=0",
		"http://h,rate=x", "http://h,color=red", "http://h,isl=0", "http://h,api=x",
		"http://h,model="};
	const char *why;
	struct aq_target t;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		why = NULL;
		if (!aq_target_parse(bad[i], &defaults, 1, &t, &why))
			fail_msg("'%s' was taken", bad[i]);
		assert_non_null(why);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_target__reads_urls),
		cmocka_unit_test(test_target__reads_keys),
		cmocka_unit_test(test_target__refuses_other_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
