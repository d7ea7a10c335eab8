/* SPDX-License-Identifier: Apache-2.0 */
/* Names of fractions and UUIDs of devices. */
#include "cm.h"

#include <errno.h>
#include <string.h>

#include "base/name.h"

static void test_name__letters_digits_and_three_signs(void **state)
{
	char longest[65];

	assert_true(aq_name_valid("a"));
	assert_true(aq_name_valid("7b-chat_v1.2"));
	assert_false(aq_name_valid(""));
	assert_false(aq_name_valid("-a"));
	assert_false(aq_name_valid(".."));
	assert_false(aq_name_valid("a/b"));
	assert_false(aq_name_valid("a b"));
	assert_false(aq_name_valid("a\n"));
	assert_false(aq_name_valid("caf\xc3\xa9"));

	memset(longest, 'x', sizeof(longest));
	longest[63] = '\0';
	assert_true(aq_name_valid(longest));
	longest[63] = 'x';
	longest[64] = '\0';
	assert_false(aq_name_valid(longest));
}

static void test_uuid__survives_a_round_trip(void **state)
{
	const char *text = "GPU-00112233-4455-6677-8899-aabbccddeeff";
	char buf[AQ_UUID_TEXT];
	uint8_t uuid[16];

	assert_int_equal(aq_uuid_parse(text, uuid), 0);
	assert_string_equal(aq_uuid_format(uuid, buf), text);
	assert_int_equal(aq_uuid_parse("00112233-4455-6677-8899-AABBCCDDEEFF", uuid), 0);
	assert_string_equal(aq_uuid_format(uuid, buf), text);
}

static void test_uuid__refuses_what_is_not_one(void **state)
{
	uint8_t uuid[16] = {1};

	assert_int_equal(aq_uuid_parse("", uuid), -EINVAL);
	assert_int_equal(aq_uuid_parse("GPU-", uuid), -EINVAL);
	assert_int_equal(aq_uuid_parse("GPU-00112233-4455-6677-8899-aabbccddeef", uuid), -EINVAL);
	assert_int_equal(aq_uuid_parse("GPU-00112233-4455-6677-8899-aabbccddeeff0", uuid), -EINVAL);
	assert_int_equal(aq_uuid_parse("GPU-001122334455-6677-8899-aabbccddeeff-0", uuid), -EINVAL);
	assert_int_equal(uuid[0], 1);
}

static void test_copy__pads_and_cuts(void **state)
{
	char buf[4] = "zzz";

	aq_copy_padded(buf, sizeof(buf), "a");
	assert_memory_equal(buf, "a\0\0\0", 4);
	aq_copy_padded(buf, sizeof(buf), "abcdef");
	assert_memory_equal(buf, "abc\0", 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_name__letters_digits_and_three_signs),
		cmocka_unit_test(test_uuid__survives_a_round_trip),
		cmocka_unit_test(test_uuid__refuses_what_is_not_one),
		cmocka_unit_test(test_copy__pads_and_cuts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
