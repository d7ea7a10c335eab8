/* SPDX-License-Identifier: Apache-2.0 */
/* Reads /proc, opens pidfds, reads and replaces small files. Keeps no state. */
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

#define STAT_BYTES 1024
#define PATH_BYTES 4096

/* The text of /proc/PID/stat behind the command's closing bracket: fields 3 and on. */
static int read_stat(pid_t pid, char *buf, size_t size, const char **ret_fields)
{
	char path[64];
	AQ_CLEANUP(close) int fd = -1;
	ssize_t n;
	char *close_bracket;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ESRCH ? -ESRCH : -EIO;
	n = read(fd, buf, size - 1);
	if (n <= 0)
		return n < 0 && errno == ESRCH ? -ESRCH : -EIO;
	buf[n] = '\0';
	close_bracket = strrchr(buf, ')'); /* the command may hold brackets and blanks itself */
	if (!close_bracket || close_bracket[1] != ' ')
		return -EIO;
	*ret_fields = close_bracket + 2;
	return 0;
}

int aq_pid_start_time(pid_t pid, uint64_t *ret_ticks)
{
	char buf[STAT_BYTES];
	const char *p;
	int r = read_stat(pid, buf, sizeof(buf), &p);

	if (r < 0)
		return r;
	for (int field = 3; field < 22; field++) {
		p = strchr(p, ' ');
		if (!p)
			return -EIO;
		p++;
	}
	*ret_ticks = strtoull(p, NULL, 10);
	return 0;
}

bool aq_pid_stopped(pid_t pid)
{
	char buf[STAT_BYTES];
	const char *p;

	return read_stat(pid, buf, sizeof(buf), &p) == 0 && (*p == 'T' || *p == 't');
}

pid_t aq_pid_parent(pid_t pid)
{
	char buf[STAT_BYTES];
	const char *p;
	int r = read_stat(pid, buf, sizeof(buf), &p);

	if (r < 0)
		return r;
	p = strchr(p, ' ');
	return p ? (pid_t)strtol(p + 1, NULL, 10) : -EIO;
}

int aq_pidfd_open(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : fd;
}

int aq_pid_maps(pid_t pid, uint64_t inode)
{
	char path[64], *line = NULL;
	size_t size = 0;
	FILE *maps;
	int r = 0;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	maps = fopen(path, "re");
	if (!maps)
		return errno == ENOENT ? -ESRCH : -errno;
	/* from-to rwxs offset major:minor inode name */
	while (!r && getline(&line, &size, maps) > 0) {
		unsigned long long found;

		r = sscanf(line, "%*x-%*x %*s %*x %*x:%*x %llu", &found) == 1 && found == inode;
	}
	if (!r && ferror(maps))
		r = -EIO;
	free(line);
	fclose(maps);
	return r;
}

int aq_fds_standard(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

ssize_t aq_file_read(const char *path, size_t max, char **ret_text)
{
	AQ_CLEANUP(close) int fd = open(path, O_RDONLY | O_CLOEXEC);
	AQ_CLEANUP(free) char *text = NULL;
	size_t len = 0;

	if (fd < 0)
		return -errno;
	text = malloc(max + 2);
	if (!text)
		return -ENOMEM;
	for (;;) {
		ssize_t n = read(fd, text + len, max + 1 - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		len += (size_t)n;
		if (len > max)
			return -EFBIG;
	}
	text[len] = '\0';
	*ret_text = AQ_STEAL(text);
	return (ssize_t)len;
}

uint64_t aq_memory_available(void)
{
	AQ_CLEANUP(close) int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	unsigned long long kib;
	const char *line;
	char text[512]; /* it is the third line */
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n < 0)
		return UINT64_MAX;
	text[n] = '\0';
	line = strstr(text, "MemAvailable:");
	return line && sscanf(line, "MemAvailable: %llu kB", &kib) == 1 ? (uint64_t)kib << 10
									: UINT64_MAX;
}

int aq_file_replace(const char *path, const char *text, size_t size)
{
	char temp[PATH_BYTES];
	AQ_CLEANUP(close) int fd = -1;
	int n, r;

	n = snprintf(temp, sizeof(temp), "%s.new", path);
	if (n < 0 || (size_t)n >= sizeof(temp))
		return -ENAMETOOLONG;
	fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	while (size) {
		ssize_t done = write(fd, text, size);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0) {
			r = done < 0 ? -errno : -EIO;
			goto fail;
		}
		text += done;
		size -= (size_t)done;
	}
	if (rename(temp, path) < 0) {
		r = -errno;
		goto fail;
	}
	return 0;
fail:
	unlink(temp);
	return r;
}
