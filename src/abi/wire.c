/* SPDX-License-Identifier: Apache-2.0 */
/* Moves packets over a SOCK_SEQPACKET socket and judges their form. Keeps no connection state. */
#include "abi/wire.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/banned.h"

#define MAX_PASSED_FDS 4 /* one is allowed; the rest is room to see and close a babbler's */
#define PROCS_FIXED_BYTES offsetof(struct aq_msg_procs_reply, proc)

static const struct {
	const char *name;
	size_t size;
} types[] = {
#define AQ_MSG(msg_name, value, type) [value] = {#msg_name, sizeof(struct type)},
	AQ_MSG_LIST(AQ_MSG)
#undef AQ_MSG
};

const char *aq_msg_name(unsigned int type)
{
	if (type >= sizeof(types) / sizeof(types[0]) || !types[type].name)
		return "?";
	return types[type].name;
}

static bool terminated(const char *s, size_t size)
{
	return memchr(s, '\0', size) != NULL;
}

/* No sum of these overflows, and the allocation and the piece lie inside the span. */
static bool piece_ok(const struct aq_msg_piece *m)
{
	if (m->result < 0)
		return true;
	return m->result == 0 && m->at <= m->span_bytes &&
	       m->piece_bytes <= m->span_bytes - m->at && m->offset <= m->span_bytes &&
	       m->bytes <= m->span_bytes - m->offset;
}

/* Strings and counts inside a packet whose size is right. */
static bool body_ok(const union aq_msg *msg, size_t size)
{
	switch (msg->head.type) {
	case AQ_MSG_HELLO:
		return terminated(msg->hello.fraction, sizeof(msg->hello.fraction)) &&
		       msg->hello.has_page <= 1;
	case AQ_MSG_HELLO_REPLY:
		return terminated(msg->hello_reply.fraction, sizeof(msg->hello_reply.fraction)) &&
		       terminated(msg->hello_reply.text, sizeof(msg->hello_reply.text)) &&
		       msg->hello_reply.device_count <= AQ_MAX_DEVICES;
	case AQ_MSG_GROW:
		return terminated(msg->grow.api, sizeof(msg->grow.api));
	case AQ_MSG_COST:
		return terminated(msg->cost.api, sizeof(msg->cost.api));
	case AQ_MSG_PROCS_REPLY:
		return msg->procs_reply.count <= AQ_MAX_PROCS &&
		       size == PROCS_FIXED_BYTES +
				       msg->procs_reply.count * sizeof(struct aq_msg_proc);
	case AQ_MSG_LEND:
	case AQ_MSG_IMPORT_REPLY:
		return piece_ok(&msg->piece);
	case AQ_MSG_ASK_REPLY:
		return msg->ask_reply.what <= AQ_ASK_CLOSED;
	default:
		return true;
	}
}

int aq_msg_check(const union aq_msg *msg, size_t size)
{
	unsigned int type;

	if (size < sizeof(msg->head) || msg->head.magic != AQ_MSG_MAGIC || msg->head.size != size)
		return -EBADMSG;
	type = msg->head.type;
	if (type >= sizeof(types) / sizeof(types[0]) || !types[type].name)
		return -EBADMSG;
	if (msg->head.abi != AQ_ABI_VERSION)
		return -EPROTO;
	if (type != AQ_MSG_PROCS_REPLY && size != types[type].size)
		return -EBADMSG;
	if (type == AQ_MSG_PROCS_REPLY && size < PROCS_FIXED_BYTES)
		return -EBADMSG;
	return body_ok(msg, size) ? 0 : -EBADMSG;
}

void aq_msg_init(union aq_msg *msg, enum aq_msg_type type, uint32_t seq)
{
	size_t size = type == AQ_MSG_PROCS_REPLY ? PROCS_FIXED_BYTES : types[type].size;

	memset(msg, 0, types[type].size);
	msg->head = (struct aq_msg_head){
		.magic = AQ_MSG_MAGIC,
		.type = (uint16_t)type,
		.size = (uint32_t)size,
		.abi = AQ_ABI_VERSION,
		.seq = seq,
	};
}

int aq_msg_send(int fd, const union aq_msg *msg, int pass_fd)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)msg, .iov_len = msg->head.size};
	struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (pass_fd >= 0) {
		struct cmsghdr *c;

		hdr.msg_control = control.space;
		hdr.msg_controllen = sizeof(control.space);
		c = CMSG_FIRSTHDR(&hdr);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &pass_fd, sizeof(int));
	}
	do {
		n = sendmsg(fd, &hdr, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/*
 * Keep the first descriptor when it is wanted, close all others.
 * Return: 0; -EBADMSG too many came; -EMFILE one was sent, but there is no room for it here
 */
static int take_fds(struct msghdr *hdr, int *ret_fd)
{
	unsigned int count = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(hdr); c; c = CMSG_NXTHDR(hdr, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++, count++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (ret_fd && *ret_fd < 0)
				*ret_fd = fd;
			else
				close(fd);
		}
	}
	if (!(hdr->msg_flags & MSG_CTRUNC))
		return count <= 1 ? 0 : -EBADMSG;
	return count ? -EBADMSG : -EMFILE;
}

int aq_msg_receive(int fd, union aq_msg *msg, int *ret_fd)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(MAX_PASSED_FDS * sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = msg, .iov_len = sizeof(*msg)};
	struct msghdr hdr = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof(control.space),
	};
	int got_fd = -1;
	ssize_t n;
	int r;

	do {
		n = recvmsg(fd, &hdr, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	r = take_fds(&hdr, ret_fd ? &got_fd : NULL);
	if (r == 0 && (hdr.msg_flags & MSG_TRUNC))
		r = -EBADMSG;
	if (r < 0)
		goto fail;
	if (!n) {
		r = -ECONNRESET;
		goto fail;
	}
	r = aq_msg_check(msg, (size_t)n);
	if (r < 0)
		goto fail;
	if (ret_fd)
		*ret_fd = got_fd;
	return 0;
fail:
	if (got_fd >= 0)
		close(got_fd);
	return r;
}
