/* SPDX-License-Identifier: Apache-2.0 */
/* Finds a daemon and introduces the caller. Judges neither the reply's result nor what comes with it. */
#include "abi/hello.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/name.h"
#include "base/paths.h"
#include "base/banned.h"

/* In a directory that anybody could have made first, only root or the user may answer. */
static int trusted(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
	    (peer.uid == 0 || peer.uid == geteuid()))
		return fd;
	close(fd);
	return -EPERM;
}

int aq_hello_connect(char *path)
{
	const char *told = secure_getenv("ALIQUOT_SOCKET");
	char dir[AQ_PATH_BYTES];
	int fd = -ENOENT;
	int r;

	if (told && told[0]) {
		if (strlen(told) >= AQ_PATH_BYTES)
			return -ENAMETOOLONG;
		memcpy(path, told, strlen(told) + 1);
		return aq_paths_connect(path, SOCK_SEQPACKET);
	}
	r = aq_paths_rundir_user(dir);
	if (r == 0 && aq_paths_join(path, dir, AQ_GUARD_SOCKET) == 0)
		fd = aq_paths_connect(path, SOCK_SEQPACKET);
	if (fd >= 0)
		return trusted(fd);
	r = aq_paths_join(path, AQ_SYSTEM_RUNDIR, AQ_GUARD_SOCKET);
	return r < 0 ? r : aq_paths_connect(path, SOCK_SEQPACKET);
}

int aq_hello(int fd, int timeout_s, enum aq_hello_kind kind, const char *fraction, int page_fd,
	     union aq_msg *msg, int *ret_fd)
{
	struct timeval limit = {.tv_sec = timeout_s};
	int r;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	aq_msg_init(msg, AQ_MSG_HELLO, 0);
	msg->hello.kind = kind;
	msg->hello.has_page = page_fd >= 0;
	msg->hello.pid = getpid();
	aq_copy_padded(msg->hello.fraction, sizeof(msg->hello.fraction), fraction);
	r = aq_msg_send(fd, msg, page_fd);
	if (r == 0)
		r = aq_msg_receive(fd, msg, ret_fd);
	if (r < 0)
		return r;
	return msg->head.type == AQ_MSG_HELLO_REPLY ? 0 : -EBADMSG;
}
