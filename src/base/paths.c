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

static int has_guard(const char *dir)
{
	char path[AQ_PATH_BYTES + 32];

	snprintf(path, sizeof(path), "%s/guard/libcuda.so.1", dir);
	return access(path, R_OK) == 0;
}

int aq_paths_libdir(char *buf)
{
	/* Relative to the directory of the program: build tree, then installed forms. */
	static const char *const beside[] = {
		"../../lib", "../lib", "../../lib/aliquot", "../lib/x86_64-linux-gnu/aliquot",
		"../lib/aarch64-linux-gnu/aliquot", "../lib64/aliquot", "../lib/aliquot",
	};
	const char *env = getenv("ALIQUOT_LIBDIR");
	char exe[AQ_PATH_BYTES];
	ssize_t n;

	if (env && env[0] == '/') {
		if (strlen(env) >= AQ_PATH_BYTES)
			return -ENAMETOOLONG;
		snprintf(buf, AQ_PATH_BYTES, "%s", env);
		return has_guard(buf) ? 0 : -ENOENT;
	}

	n = readlink("/proc/self/exe", exe, sizeof(exe));
	if (n < 0 || (size_t)n >= sizeof(exe))
		return n < 0 ? -errno : -ENAMETOOLONG;
	exe[n] = '\0';
	*strrchr(exe, '/') = '\0';
	for (size_t i = 0; i < AQ_ARRAY_SIZE(beside); i++) {
		char joined[AQ_PATH_BYTES * 2];
		AQ_CLEANUP(free) char *real = NULL;

		snprintf(joined, sizeof(joined), "%s/%s", exe, beside[i]);
		real = realpath(joined, NULL);
		if (!real || !has_guard(real))
			continue;
		if (strlen(real) >= AQ_PATH_BYTES)
			return -ENAMETOOLONG;
		snprintf(buf, AQ_PATH_BYTES, "%s", real);
		return 0;
	}
	return -ENOENT;
}

int aq_paths_helper(char *buf, const char *name)
{
	static const char *const places[] = {"../libexec/aliquot", ".", "../../bin"};
	const char *base = strrchr(name, '/');
	char exe[AQ_PATH_BYTES], path[AQ_PATH_BYTES * 2];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe));

	if (n < 0 || (size_t)n >= sizeof(exe))
		return n < 0 ? -errno : -ENAMETOOLONG;
	exe[n] = '\0';
	*strrchr(exe, '/') = '\0';
	base = base ? base + 1 : name;
	for (size_t i = 0; i <= AQ_ARRAY_SIZE(places); i++) {
		AQ_CLEANUP(free) char *real = NULL;

		snprintf(path, sizeof(path), "%s/%s/%s", exe, i ? places[i - 1] : "../..",
			 i ? base : name);
		real = realpath(path, NULL);
		if (!real || access(real, X_OK) < 0)
			continue;
		if (strlen(real) >= AQ_PATH_BYTES)
			return -ENAMETOOLONG;
		snprintf(buf, AQ_PATH_BYTES, "%s", real);
		return 0;
	}
	return -ENOENT;
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
