/* SPDX-License-Identifier: Apache-2.0 */
/* Paths, directory, lock and log file. Sockets are made by those who listen on them. */
#include "daemon/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/banned.h"

#define LOG_MAX_BYTES (4 << 20) /* a longer log starts anew with the daemon */
#define LOCK_TRY_NS (20 * AQ_NS_PER_MS)
#define LOCK_TRIES 150 /* 3 s: far longer than a daemon needs to end */

/* Split @socket_path into directory and file; the directory must exist to become absolute. */
static int choose_by_socket(struct aqd *d, const char *socket_path)
{
	const char *slash = strrchr(socket_path, '/');
	const char *file = slash ? slash + 1 : socket_path;
	AQ_CLEANUP(free) char *dir = NULL, *real = NULL;

	if (!*file || !strcmp(file, AQ_API_SOCKET))
		return -EINVAL;
	dir = slash ? strndup(socket_path, slash == socket_path ? 1 : (size_t)(slash - socket_path))
		    : strdup(".");
	if (!dir)
		return -ENOMEM;
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	real = realpath(dir, NULL);
	if (!real)
		return -errno;
	if (strlen(real) >= sizeof(d->rundir))
		return -ENAMETOOLONG;
	snprintf(d->rundir, sizeof(d->rundir), "%s", real);
	return aq_paths_join(d->guard_path, d->rundir, file);
}

int aqd_rundir_choose(struct aqd *d, const char *socket_path, bool system)
{
	const char *sim_dir = getenv("ALIQUOT_SIM_DIR");
	int r = 0;

	if (socket_path)
		r = choose_by_socket(d, socket_path);
	else if (system)
		snprintf(d->rundir, sizeof(d->rundir), "%s", AQ_SYSTEM_RUNDIR);
	else
		r = aq_paths_rundir_user(d->rundir);
	if (r < 0)
		return r;
	d->system = !strcmp(d->rundir, AQ_SYSTEM_RUNDIR);
	if (!socket_path)
		r = aq_paths_join(d->guard_path, d->rundir, AQ_GUARD_SOCKET);
	if (r == 0)
		r = aq_paths_join(d->api_path, d->rundir, AQ_API_SOCKET);
	if (r == 0 && sim_dir && sim_dir[0] == '/')
		r = snprintf(d->sim_dir, sizeof(d->sim_dir), "%s", sim_dir) <
				    (int)sizeof(d->sim_dir)
			    ? 0
			    : -ENAMETOOLONG;
	else if (r == 0)
		r = aq_paths_join(d->sim_dir, d->rundir, "sim");
	if (r == 0 && aq_paths_libdir(d->libdir) < 0)
		d->libdir[0] = '\0';
	return r;
}

int aqd_rundir_make(struct aqd *d)
{
	struct stat st;

	if (!d->system)
		return aq_paths_make_rundir(d->rundir);
	/* All users must reach the sockets; nobody but root may put anything beside them. */
	if (mkdir(d->rundir, 0755) < 0 && errno != EEXIST)
		return -errno;
	if (lstat(d->rundir, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 022) ? 0 : -EPERM;
}

static pid_t read_pid(int fd)
{
	char text[32];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return 0;
	text[n] = '\0';
	return (pid_t)strtol(text, NULL, 10);
}

/* Does somebody serve here, or is the one who has the lock about to leave? */
static bool is_served(const struct aqd *d)
{
	AQ_CLEANUP(close) int fd = aq_paths_connect(d->api_path, SOCK_STREAM);

	return fd >= 0;
}

int aqd_rundir_lock(struct aqd *d, pid_t *ret_pid)
{
	AQ_CLEANUP(close) int fd = -1;
	char path[AQ_PATH_BYTES], text[32];
	int r = aq_paths_join(path, d->rundir, "aliquotd.pid");

	if (r < 0)
		return r;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return -errno;
	for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		*ret_pid = read_pid(fd);
		if (is_served(d))
			return -EBUSY;
		if (i >= LOCK_TRIES)
			return -ETIMEDOUT;
		aq_sleep_until_ns(aq_now_ns() + LOCK_TRY_NS);
	}
	snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, strlen(text), 0) < 0)
		return -errno;
	d->lock_fd = aq_steal_fd(&fd);
	return 0;
}

void aqd_rundir_unlock(struct aqd *d)
{
	if (d->lock_fd < 0)
		return;
	/* The file stays: who removes a lock file may remove the next one's. */
	if (ftruncate(d->lock_fd, 0) < 0)
		aq_debug("aliquotd.pid: %s", strerror(errno));
	close(d->lock_fd);
	d->lock_fd = -1;
}

void aqd_rundir_hide(struct aqd *d, bool hide)
{
	const char *paths[] = {d->guard_path, d->api_path};

	for (size_t i = 0; i < AQ_ARRAY_SIZE(paths); i++) {
		char aside[AQ_PATH_BYTES + 8];

		snprintf(aside, sizeof(aside), "%s.ending", paths[i]);
		if (rename(hide ? paths[i] : aside, hide ? aside : paths[i]) < 0)
			aq_error("'%s': %s", paths[i], strerror(errno));
	}
	d->hidden = hide;
}

int aqd_rundir_log(struct aqd *d)
{
	AQ_CLEANUP(close) int fd = -1, null = -1;
	char path[AQ_PATH_BYTES];
	struct stat st;
	int r = aq_paths_join(path, d->rundir, "aliquotd.log");

	if (r < 0)
		return r;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && st.st_size > LOG_MAX_BYTES && ftruncate(fd, 0) < 0)
		return -errno;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(fd, STDOUT_FILENO) < 0 ||
	    dup2(fd, STDERR_FILENO) < 0)
		return -errno;
	return 0;
}
