/* SPDX-License-Identifier: Apache-2.0 */
/* Checking, sending and receiving packets of <aliquot/proto.h>. */
#ifndef AQ_ABI_WIRE_H
#define AQ_ABI_WIRE_H

#include <stddef.h>

#include <aliquot/proto.h>

/* Room for any message; aligned for every one of them. */
union aq_msg {
	struct aq_msg_head head;
	struct aq_msg_hello hello;
	struct aq_msg_hello_reply hello_reply;
	struct aq_msg_grow grow;
	struct aq_msg_grow_reply grow_reply;
	struct aq_msg_cost cost;
	struct aq_msg_cost_reply cost_reply;
	struct aq_msg_query query;
	struct aq_msg_query_reply query_reply;
	struct aq_msg_procs_reply procs_reply;
	struct aq_msg_bell bell;
	struct aq_msg_shrink shrink;
	struct aq_msg_shrink_reply shrink_reply;
	struct aq_msg_export export;
	struct aq_msg_import import;
	struct aq_msg_piece piece;
	struct aq_msg_ask_reply ask_reply;
	struct aq_msg_share_reply share_reply;
	unsigned char bytes[AQ_MSG_MAX_BYTES];
};

/* Name of a message type for logs; "?" when unknown. Static string. */
const char *aq_msg_name(unsigned int type);

/**
 * aq_msg_check() - may the packet of @size bytes in @msg be looked at as its type says?
 * Checks head (magic, abi, size), the exact size of the type, counts, and that every string is
 * terminated. A HELLO of another abi passes as far as its head, so that it can be answered:
 * -EPROTO then, with head readable.
 * Return: 0; -EPROTO another abi; -EBADMSG anything else
 */
int aq_msg_check(const union aq_msg *msg, size_t size);

/* Zero @msg and fill its head for @type; the size is that of the type (PROCS_REPLY: no entry). */
void aq_msg_init(union aq_msg *msg, enum aq_msg_type type, uint32_t seq);

/**
 * aq_msg_send() - one packet, with @pass_fd unless it is -1. Never raises SIGPIPE.
 * Return: 0; -EAGAIN on a full non-blocking socket; negative errno
 */
int aq_msg_send(int fd, const union aq_msg *msg, int pass_fd);

/**
 * aq_msg_receive() - one packet, checked.
 * @ret_fd: descriptor that came along, or -1; close-on-exec; caller closes. Surplus ones are
 *          closed here. May be NULL: then all are closed.
 * Return: 0; -ECONNRESET peer is gone; -EAGAIN; -EPROTO or -EBADMSG as aq_msg_check(); -EMFILE a
 *         descriptor came, and this process may have no more; errno
 */
int aq_msg_receive(int fd, union aq_msg *msg, int *ret_fd);

#endif /* AQ_ABI_WIRE_H */
