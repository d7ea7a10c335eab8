/* SPDX-License-Identifier: Apache-2.0 */
/* Which daemon is found, who may be it, and what counts as its answer. */
#include "cm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "abi/hello.h"
#include "base/paths.h"

#define STRANGER 65534

static char base[64], dir[80], own[AQ_PATH_BYTES];
static int listener;

static int setup(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	snprintf(base, sizeof(base), "/tmp/aqhello.XXXXXX");
	assert_non_null(mkdtemp(base));
	snprintf(dir, sizeof(dir), "%s/aliquot", base);
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(aq_paths_join(own, dir, AQ_GUARD_SOCKET), 0);
	setenv("XDG_RUNTIME_DIR", base, 1);
	unsetenv("ALIQUOT_SOCKET");
	memcpy(addr.sun_path, own, strlen(own));
	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_true(listener >= 0);
	return bind(listener, (struct sockaddr *)&addr, sizeof(addr));
}

static int teardown(void **state)
{
	close(listener);
	unlink(own);
	rmdir(dir);
	return rmdir(base);
}

static void test_hello__the_users_own_daemon_is_found(void **state)
{
	char path[AQ_PATH_BYTES];
	int fd;

	assert_int_equal(listen(listener, 1), 0);
	fd = aq_hello_connect(path);
	assert_true(fd >= 0);
	assert_string_equal(path, own);
	close(fd);
}

static void test_hello__told_where_it_looks_nowhere_else(void **state)
{
	char path[AQ_PATH_BYTES], missing[AQ_PATH_BYTES];

	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(aq_paths_join(missing, dir, "none.sock"), 0);
	setenv("ALIQUOT_SOCKET", missing, 1);
	assert_int_equal(aq_hello_connect(path), -ENOENT);
	assert_string_equal(path, missing);
}

static void test_hello__a_strangers_daemon_is_not_the_users(void **state)
{
	char path[AQ_PATH_BYTES];

	if (geteuid() != 0)
		skip(); /* needs root, to listen as somebody else */
	assert_int_equal(seteuid(STRANGER), 0);
	assert_int_equal(listen(listener, 1), 0); /* the peer is who listens */
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(aq_hello_connect(path), -EPERM);
}

static void test_hello__only_a_reply_to_it_is_an_answer(void **state)
{
	static const struct {
		enum aq_msg_type type;
		int result;
	} answers[] = {{AQ_MSG_HELLO_REPLY, 0}, {AQ_MSG_QUERY_REPLY, -EBADMSG}};

	for (size_t i = 0; i < 2; i++) {
		union aq_msg answer, msg;
		int fds[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
		aq_msg_init(&answer, answers[i].type, 0);
		assert_int_equal(aq_msg_send(fds[1], &answer, -1), 0);
		assert_int_equal(aq_hello(fds[0], 1, AQ_HELLO_OBSERVER, "f", -1, &msg, NULL),
				 answers[i].result);
		assert_int_equal(aq_msg_receive(fds[1], &msg, NULL), 0);
		assert_int_equal(msg.head.type, AQ_MSG_HELLO);
		assert_int_equal(msg.hello.kind, AQ_HELLO_OBSERVER);
		assert_int_equal(msg.hello.pid, getpid());
		assert_string_equal(msg.hello.fraction, "f");
		close(fds[0]);
		close(fds[1]);
	}
}

static void test_hello__silence_has_an_end(void **state)
{
	union aq_msg msg;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(aq_hello(fds[0], 1, AQ_HELLO_CLIENT, "", -1, &msg, NULL), -EAGAIN);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_hello__the_users_own_daemon_is_found, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_hello__told_where_it_looks_nowhere_else, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_hello__a_strangers_daemon_is_not_the_users,
						setup, teardown),
		cmocka_unit_test(test_hello__only_a_reply_to_it_is_an_answer),
		cmocka_unit_test(test_hello__silence_has_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
