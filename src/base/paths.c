/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the run directory and the library directory. Reads environment and file system only. */
#include "base/paths.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"

#define SOCKET_PATH_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

int aq_paths_rundir_user(char *buf)
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	int n;

	if (xdg && xdg[0] == '/')
		n = snprintf(buf, AQ_PATH_BYTES, "%s/aliquot", xdg);
	else
		n = snprintf(buf, AQ_PATH_BYTES, "/tmp/aliquot-%u", (unsigned int)getuid());
	if (n < 0 || (size_t)n + strlen("/" AQ_GUARD_SOCKET) > SOCKET_PATH_MAX)
		return -ENAMETOOLONG;
	return 0;
}

int aq_paths_make_rundir(const char *dir)
{
	struct stat st;

	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	if (lstat(dir, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
		return -EPERM;
	return 0;
}

int aq_paths_join(char *buf, const char *dir, const char *name)
{
	int n = snprintf(buf, AQ_PATH_BYTES, "%s/%s", dir, name);

	return n < 0 || n >= AQ_PATH_BYTES ? -ENAMETOOLONG : 0;
}

int aq_paths_beside(char *buf, const char *place, bool (*fits)(const char *path))
{
	char exe[AQ_PATH_BYTES], joined[AQ_PATH_BYTES * 2];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe));
	AQ_CLEANUP(free) char *real = NULL;

	if (n < 0 || (size_t)n >= sizeof(exe))
		return n < 0 ? -errno : -ENAMETOOLONG;
	exe[n] = '\0';
	*strrchr(exe, '/') = '\0';
	if (snprintf(joined, sizeof(joined), "%s/%s", exe, place) >= (int)sizeof(joined))
		return -ENAMETOOLONG;
	real = realpath(joined, NULL);
	if (!real || !fits(real))
		return -ENOENT;
	if (strlen(real) >= AQ_PATH_BYTES)
		return -ENAMETOOLONG;
	snprintf(buf, AQ_PATH_BYTES, "%s", real);
	return 0;
}

static bool has_guard(const char *dir)
{
	char path[AQ_PATH_BYTES * 2];

	snprintf(path, sizeof(path), "%s/guard/libcuda.so.1", dir);
	return access(path, R_OK) == 0;
}

int aq_paths_libdir(char *buf)
{
	/* Relative to the directory of the program: build tree, then installed forms. */
	static const char *const places[] = {
		"../../lib", "../lib", "../../lib/aliquot", "../lib/x86_64-linux-gnu/aliquot",
		"../lib/aarch64-linux-gnu/aliquot", "../lib64/aliquot", "../lib/aliquot",
	};
	const char *env = getenv("ALIQUOT_LIBDIR");
	int r = -ENOENT;

	if (env && env[0] == '/') {
		if (strlen(env) >= AQ_PATH_BYTES)
			return -ENAMETOOLONG;
		snprintf(buf, AQ_PATH_BYTES, "%s", env);
		return has_guard(buf) ? 0 : -ENOENT;
	}
	for (size_t i = 0; i < AQ_ARRAY_SIZE(places) && r == -ENOENT; i++)
		r = aq_paths_beside(buf, places[i], has_guard);
	return r;
}

bool aq_paths_is_program(const char *path)
{
	return access(path, X_OK) == 0;
}

int aq_paths_helper(char *buf, const char *name)
{
	static const char *const places[] = {"../libexec/aliquot", ".", "../../bin"};
	const char *base = strrchr(name, '/');
	char place[AQ_PATH_BYTES];
	int r;

	base = base ? base + 1 : name;
	if (aq_paths_join(place, "../..", name) < 0)
		return -ENAMETOOLONG;
	r = aq_paths_beside(buf, place, aq_paths_is_program);
	for (size_t i = 0; i < AQ_ARRAY_SIZE(places) && r == -ENOENT; i++) {
		aq_paths_join(place, places[i], base); /* not longer than the one before */
		r = aq_paths_beside(buf, place, aq_paths_is_program);
	}
	return r;
}

int aq_paths_connect(const char *path, int type)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	AQ_CLEANUP(close) int fd = -1;

	if (strlen(path) > SOCKET_PATH_MAX)
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	while (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		if (errno != EINTR)
			return -errno;
	return aq_steal_fd(&fd);
}
