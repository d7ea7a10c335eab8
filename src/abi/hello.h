/* SPDX-License-Identifier: Apache-2.0 */
/* The way to a daemon: find one, say HELLO. For whoever speaks proto.h to aliquotd.sock. */
#ifndef AQ_ABI_HELLO_H
#define AQ_ABI_HELLO_H

#include "abi/wire.h"

/**
 * aq_hello_connect() - connect to the daemon that this process belongs to.
 * Told where by ALIQUOT_SOCKET: there and nowhere else. Else the user's own daemon, which must be of
 * root or of the user, for anybody may have made a directory in /tmp first; then the system's.
 * Programs with more rights than their user are told nothing.
 * @path: of AQ_PATH_BYTES; where it was looked for last, also on failure
 * Return: fd, close-on-exec; -EPERM the user's own is somebody else's; -ENAMETOOLONG; errno of
 *         connect(2)
 */
int aq_hello_connect(char *path);

/**
 * aq_hello() - HELLO and its reply.
 * @timeout_s: for the daemon to take a message or to answer one; stays set on @fd
 * @fraction: up to AQ_NAME_BYTES - 1 bytes; empty: find me by my ancestors
 * @page_fd:  goes along, unless -1
 * @msg:      the reply
 * @ret_fd:   what came with it, or -1; caller closes. May be NULL.
 * Return: 0 there is a reply, whatever its result; -EBADMSG; as aq_msg_send(), aq_msg_receive()
 */
int aq_hello(int fd, int timeout_s, enum aq_hello_kind kind, const char *fraction, int page_fd,
	     union aq_msg *msg, int *ret_fd);

#endif /* AQ_ABI_HELLO_H */
