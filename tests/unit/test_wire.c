/* SPDX-License-Identifier: Apache-2.0 */
/* Packets: what passes, what is refused, and what happens to descriptors on the way. */
#include "cm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "abi/wire.h"

static unsigned int open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void pair(int fds[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
}

static void test_wire__every_message_passes_its_own_check(void **state)
{
	union aq_msg msg;

#define AQ_MSG(name, value, type)                                                                  \
	aq_msg_init(&msg, AQ_MSG_##name, 5);                                                       \
	assert_int_equal(aq_msg_check(&msg, msg.head.size), 0);                                    \
	assert_string_equal(aq_msg_name(value), #name);
	AQ_MSG_LIST(AQ_MSG)
#undef AQ_MSG
	assert_string_equal(aq_msg_name(0), "?");
	assert_string_equal(aq_msg_name(65535), "?");
}

static void test_wire__wrong_sizes_are_refused(void **state)
{
	union aq_msg msg;

	aq_msg_init(&msg, AQ_MSG_GROW, 1);
	for (size_t size = 0; size < sizeof(msg); size++) {
		int want = size == sizeof(msg.grow) ? 0 : -EBADMSG;

		msg.head.size = (uint32_t)size;
		assert_int_equal(aq_msg_check(&msg, size), want);
	}
	msg.head.size = sizeof(msg.grow) + 1; /* says one thing, is another */
	assert_int_equal(aq_msg_check(&msg, sizeof(msg.grow)), -EBADMSG);
}

static void test_wire__unknown_types_and_versions_are_told_apart(void **state)
{
	union aq_msg msg;

	aq_msg_init(&msg, AQ_MSG_HELLO, 1);
	msg.head.abi++;
	assert_int_equal(aq_msg_check(&msg, msg.head.size), -EPROTO);
	msg.head.abi--;
	msg.head.type = 999;
	assert_int_equal(aq_msg_check(&msg, msg.head.size), -EBADMSG);
	msg.head.type = 0;
	assert_int_equal(aq_msg_check(&msg, msg.head.size), -EBADMSG);
	msg.head.type = AQ_MSG_HELLO;
	msg.head.magic = 0;
	assert_int_equal(aq_msg_check(&msg, msg.head.size), -EBADMSG);
}

static void test_wire__strings_must_end(void **state)
{
	union aq_msg msg;

	aq_msg_init(&msg, AQ_MSG_HELLO, 1);
	memset(msg.hello.fraction, 'x', sizeof(msg.hello.fraction));
	assert_int_equal(aq_msg_check(&msg, msg.head.size), -EBADMSG);
	aq_msg_init(&msg, AQ_MSG_GROW, 1);
	memset(msg.grow.api, 'x', sizeof(msg.grow.api));
	assert_int_equal(aq_msg_check(&msg, msg.head.size), -EBADMSG);
	aq_msg_init(&msg, AQ_MSG_PROCS_REPLY, 1);
	msg.procs_reply.count = 3; /* but none follows */
	assert_int_equal(aq_msg_check(&msg, msg.head.size), -EBADMSG);
}

static void test_wire__pieces_lie_in_their_span(void **state)
{
	union aq_msg msg;

	aq_msg_init(&msg, AQ_MSG_LEND, 1);
	msg.piece.at = 2 << 20;
	msg.piece.piece_bytes = 4 << 20;
	msg.piece.span_bytes = 6 << 20;
	msg.piece.offset = 512;
	msg.piece.bytes = (6 << 20) - 512;
	assert_int_equal(aq_msg_check(&msg, msg.head.size), 0);
	msg.piece.bytes++;
	assert_int_equal(aq_msg_check(&msg, msg.head.size), -EBADMSG);
	msg.piece.bytes = UINT64_MAX - 511; /* the sum is 0 */
	assert_int_equal(aq_msg_check(&msg, msg.head.size), -EBADMSG);
	msg.piece.bytes = 1;
	msg.piece.at++;
	assert_int_equal(aq_msg_check(&msg, msg.head.size), -EBADMSG);
	msg.piece.at = UINT64_MAX;
	assert_int_equal(aq_msg_check(&msg, msg.head.size), -EBADMSG);
	msg.piece.result = -ENOENT; /* then there is no piece */
	assert_int_equal(aq_msg_check(&msg, msg.head.size), 0);
	msg.piece.result = 1;
	assert_int_equal(aq_msg_check(&msg, msg.head.size), -EBADMSG);
	aq_msg_init(&msg, AQ_MSG_ASK_REPLY, 1);
	msg.ask_reply.what = AQ_ASK_CLOSED + 1;
	assert_int_equal(aq_msg_check(&msg, msg.head.size), -EBADMSG);
}

static void test_wire__a_descriptor_travels(void **state)
{
	int fds[2], passed = open("/dev/null", O_RDONLY), got = -1;
	union aq_msg out, in;
	unsigned int before;

	pair(fds);
	before = open_fds();
	aq_msg_init(&out, AQ_MSG_HELLO, 9);
	assert_int_equal(aq_msg_send(fds[0], &out, passed), 0);
	assert_int_equal(aq_msg_receive(fds[1], &in, &got), 0);
	assert_int_equal(in.head.seq, 9);
	assert_true(got >= 0);
	assert_true(fcntl(got, F_GETFD) & FD_CLOEXEC);
	close(got);

	/* Not asked for: closed, not leaked. */
	assert_int_equal(aq_msg_send(fds[0], &out, passed), 0);
	assert_int_equal(aq_msg_receive(fds[1], &in, NULL), 0);
	assert_int_equal(open_fds(), before);
	close(fds[0]);
	close(fds[1]);
	close(passed);
}

static void test_wire__surplus_descriptors_end_it_and_do_not_leak(void **state)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(9 * sizeof(int))];
	} control = {0};
	union aq_msg out, in;
	struct iovec iov = {.iov_base = &out};
	struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space};
	struct cmsghdr *c;
	unsigned int before;
	int fds[2], got = -1;

	pair(fds);
	aq_msg_init(&out, AQ_MSG_HELLO, 1);
	iov.iov_len = out.head.size;
	for (unsigned int count = 2; count <= 9; count += 7) {
		hdr.msg_controllen = CMSG_SPACE(count * sizeof(int));
		c = CMSG_FIRSTHDR(&hdr);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(count * sizeof(int));
		for (unsigned int i = 0; i < count; i++)
			memcpy(CMSG_DATA(c) + i * sizeof(int), &fds[0], sizeof(int));
		before = open_fds();
		assert_true(sendmsg(fds[0], &hdr, 0) > 0);
		assert_int_equal(aq_msg_receive(fds[1], &in, &got), -EBADMSG);
		assert_int_equal(got, -1);
		assert_int_equal(open_fds(), before);
	}
	close(fds[0]);
	close(fds[1]);
}

static void test_wire__no_room_for_a_descriptor_is_told(void **state)
{
	struct rlimit old, few;
	union aq_msg out, in;
	int fds[2], got = -1, lowest;

	pair(fds);
	lowest = dup(fds[0]);
	close(lowest);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = (struct rlimit){.rlim_cur = (rlim_t)lowest, .rlim_max = old.rlim_max};
	aq_msg_init(&out, AQ_MSG_HELLO, 1);
	assert_int_equal(aq_msg_send(fds[0], &out, fds[0]), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(aq_msg_receive(fds[1], &in, &got), -EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(got, -1);
	close(fds[0]);
	close(fds[1]);
}

static void test_wire__the_end_of_a_peer_is_an_error_not_a_signal(void **state)
{
	union aq_msg msg;
	int fds[2];

	pair(fds);
	close(fds[0]);
	assert_int_equal(aq_msg_receive(fds[1], &msg, NULL), -ECONNRESET);
	aq_msg_init(&msg, AQ_MSG_QUERY, 1);
	assert_int_equal(aq_msg_send(fds[1], &msg, -1), -EPIPE);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wire__every_message_passes_its_own_check),
		cmocka_unit_test(test_wire__wrong_sizes_are_refused),
		cmocka_unit_test(test_wire__unknown_types_and_versions_are_told_apart),
		cmocka_unit_test(test_wire__strings_must_end),
		cmocka_unit_test(test_wire__pieces_lie_in_their_span),
		cmocka_unit_test(test_wire__a_descriptor_travels),
		cmocka_unit_test(test_wire__surplus_descriptors_end_it_and_do_not_leak),
		cmocka_unit_test(test_wire__no_room_for_a_descriptor_is_told),
		cmocka_unit_test(test_wire__the_end_of_a_peer_is_an_error_not_a_signal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
