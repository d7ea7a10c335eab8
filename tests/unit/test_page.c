/* SPDX-License-Identifier: Apache-2.0 */
/* Shared pages: made, sealed, and refused when they are not what they should be. */
#include "cm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi/grant.h"
#include "abi/page.h"

static int make(struct aq_page **ret_page)
{
	int fd = -1;

	assert_int_equal(aq_page_create(2, "chat", &fd, ret_page), 0);
	return fd;
}

static void test_page__is_seen_by_both_sides(void **state)
{
	struct aq_page *daemon_side, *client_side;
	int fd = make(&daemon_side);

	assert_int_equal(aq_page_map(fd, &client_side), 0);
	assert_true(aq_grant_add(&daemon_side->device[1].grant, 8));
	assert_int_equal(aq_grant_load(&client_side->device[1].grant).granted, 8);
	assert_string_equal(client_side->fraction, "chat");
	aq_page_unmap(client_side);
	aq_page_unmap(daemon_side);
	close(fd);
}

static void test_page__cannot_be_truncated_by_anyone(void **state)
{
	struct aq_page *page;
	int fd = make(&page);

	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(ftruncate(fd, 8192), -1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	aq_page_unmap(page);
	close(fd);
}

static void test_page__bad_arguments_make_none(void **state)
{
	struct aq_page *page;
	int fd = 7;

	assert_int_equal(aq_page_create(0, "chat", &fd, &page), -EINVAL);
	assert_int_equal(aq_page_create(AQ_MAX_DEVICES + 1, "chat", &fd, &page), -EINVAL);
	assert_int_equal(aq_page_create(1, "no/slash", &fd, &page), -EINVAL);
	assert_int_equal(fd, 7);
	aq_page_unmap(NULL);
}

static void test_page__foreign_files_are_refused(void **state)
{
	struct aq_page *page;
	int unsealed = memfd_create("x", MFD_ALLOW_SEALING), pipes[2];

	assert_int_equal(ftruncate(unsealed, AQ_PAGE_BYTES), 0);
	assert_int_equal(aq_page_map(unsealed, &page), -EINVAL);
	assert_int_equal(fcntl(unsealed, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	assert_int_equal(aq_page_map(unsealed, &page), -EINVAL);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(aq_page_map(pipes[0], &page), -EINVAL);
	close(unsealed);
	close(pipes[0]);
	close(pipes[1]);
}

static void test_page__lies_are_found(void **state)
{
	struct aq_page *page;
	int fd = make(&page);

	assert_int_equal(aq_page_check(page), 0);

	page->abi++;
	assert_int_equal(aq_page_check(page), -EPROTO);
	page->abi--;
	page->size = 1;
	assert_int_equal(aq_page_check(page), -EPROTO);
	page->size = AQ_PAGE_BYTES;

	page->device_count = UINT32_MAX;
	assert_int_equal(aq_page_check(page), -EINVAL);
	page->device_count = 0;
	assert_int_equal(aq_page_check(page), -EINVAL);
	page->device_count = 2;

	memset(page->fraction, 'x', sizeof(page->fraction));
	assert_int_equal(aq_page_check(page), -EINVAL);
	memset(page->fraction, 0, sizeof(page->fraction));
	assert_int_equal(aq_page_check(page), -EINVAL);
	strcpy(page->fraction, "chat");

	page->device[1].grant = aq_grant_pack((struct aq_grant){.granted = 1, .used = 2});
	assert_int_equal(aq_page_check(page), -EINVAL);
	page->device[1].grant = 0;
	page->device[2].grant = aq_grant_pack((struct aq_grant){.granted = 1, .used = 2});
	assert_int_equal(aq_page_check(page), 0); /* beyond device_count: nobody looks */

	aq_page_unmap(page);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_page__is_seen_by_both_sides),
		cmocka_unit_test(test_page__cannot_be_truncated_by_anyone),
		cmocka_unit_test(test_page__bad_arguments_make_none),
		cmocka_unit_test(test_page__foreign_files_are_refused),
		cmocka_unit_test(test_page__lies_are_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
