/* SPDX-License-Identifier: Apache-2.0 */
/* Arranges the program's mount namespace. Changes nothing outside of it but empty mount points. */
#include "cli/isolate.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "cli/ldcache.h"
#include "base/banned.h"

#define MAX_ENTRIES (3 * AQ_DRIVER_LIBRARIES)

int aq_isolate_parse(const char *text)
{
	static const char *const words[] = {
		[AQ_ISOLATE_AUTO] = "auto",
		[AQ_ISOLATE_YES] = "yes",
		[AQ_ISOLATE_NO] = "no",
	};

	for (size_t i = 0; i < AQ_ARRAY_SIZE(words); i++)
		if (!strcmp(text, words[i]))
			return (int)i;
	return -EINVAL;
}

int aq_isolate_begin(void)
{
	if (unshare(CLONE_NEWNS) < 0)
		return -errno;
	/* Mounts of the machine still arrive here; ours do not leave. */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return -errno;
	return 0;
}

static int bind_file(const char *from, const char *over)
{
	return mount(from, over, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}

static int make_mount_point(const char *path)
{
	int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/*
 * Cover each driver file by the guard, after giving the file itself another name. Inside the
 * namespace of another `run` that has been done: its names are taken over.
 */
static int cover_driver(const struct aq_isolate_plan *plan, char *ret_dir)
{
	char alias[AQ_PATH_BYTES], guard[AQ_PATH_BYTES];
	struct stat st;
	int r;

	r = aq_paths_join(ret_dir, plan->own_rundir, AQ_ISOLATE_COVERED_DIR);
	if (!r)
		r = aq_paths_make_rundir(ret_dir);
	for (int i = 0; !r && i < AQ_DRIVER_LIBRARIES; i++) {
		const struct aq_driver_name *name = &aq_driver_names[i];

		if (!plan->files[i][0])
			continue;
		r = aq_paths_join(alias, ret_dir, name->alias);
		if (!r)
			r = aq_paths_join(guard, plan->guard_dir, name->soname);
		if (!r)
			r = make_mount_point(alias);
		if (r < 0)
			break;
		if (!stat(alias, &st) && st.st_size)
			continue; /* mounted already */
		r = bind_file(plan->files[i], alias);
		if (!r)
			r = bind_file(guard, plan->files[i]);
	}
	return r;
}

static int write_cache(const char *path, const void *data, size_t size)
{
	AQ_CLEANUP(close) int fd = -1;

	unlink(path);
	/* Everybody in the namespace reads it, whatever user they become. */
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0644) < 0)
		return -errno;
	while (size) {
		ssize_t n = write(fd, data, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		data = (const char *)data + n;
		size -= (size_t)n;
	}
	return 0;
}

/* The linker's cache, with the guard in the driver's place and the driver under its alias. */
static int cover_cache(const struct aq_isolate_plan *plan, const char *driver_dir)
{
	char paths[MAX_ENTRIES][AQ_PATH_BYTES], temp[AQ_PATH_BYTES];
	struct aq_ldcache_entry entries[MAX_ENTRIES];
	AQ_CLEANUP(free) char *old = NULL;
	AQ_CLEANUP(free) void *data = NULL;
	struct aq_ldcache cache;
	size_t size, n = 0;
	ssize_t old_size;
	int r;

	for (int i = 0; i < AQ_DRIVER_LIBRARIES; i++) {
		const struct aq_driver_name *name = &aq_driver_names[i];
		const struct {
			const char *name, *dir, *file;
		} want[] = {
			{name->soname, plan->guard_dir, name->soname},
			{name->link, plan->guard_dir, name->soname},
			{name->alias, driver_dir, name->alias},
		};

		for (size_t j = 0; j < AQ_ARRAY_SIZE(want); j++) {
			r = aq_paths_join(paths[n], want[j].dir, want[j].file);
			if (r < 0)
				return r;
			if (access(paths[n], R_OK) < 0)
				continue;
			entries[n].name = want[j].name;
			entries[n].path = paths[n];
			n++;
		}
	}
	old_size = aq_file_read(AQ_LDCACHE_PATH, AQ_LDCACHE_MAX_BYTES, &old);
	if (old_size < 0)
		return (int)old_size;
	r = aq_ldcache_open(old, (size_t)old_size, &cache);
	if (!r)
		r = aq_ldcache_replace(&cache, entries, n, &data, &size);
	if (r < 0)
		return r;
	/* The mount holds the file: its name is needed for this moment only. */
	snprintf(temp, sizeof(temp), "%.200s/ld.so.cache.%d", plan->own_rundir, (int)getpid());
	r = write_cache(temp, data, size);
	if (!r)
		r = bind_file(temp, AQ_LDCACHE_PATH);
	/* Inside another `run`: its cache has no name any more, and cannot be mounted on. */
	if (r == -ENOENT && !umount2(AQ_LDCACHE_PATH, MNT_DETACH))
		r = bind_file(temp, AQ_LDCACHE_PATH);
	unlink(temp);
	return r;
}

/* A child without XDG_RUNTIME_DIR looks for the daemon, and for simulated devices, in /tmp. */
static int show_rundir(const char *rundir)
{
	char usual[AQ_PATH_BYTES];
	int r;

	snprintf(usual, sizeof(usual), "/tmp/aliquot-%u", (unsigned int)getuid());
	if (!strcmp(rundir, usual) || !strcmp(rundir, AQ_SYSTEM_RUNDIR))
		return 0;
	r = aq_paths_make_rundir(usual);
	return r < 0 ? r : bind_file(rundir, usual);
}

int aq_isolate_arrange(const struct aq_isolate_plan *plan, char *ret_driver_dir,
		       const char **ret_failed)
{
	char covered[AQ_PATH_BYTES];
	int r;

	*ret_failed = "the run directory";
	snprintf(ret_driver_dir, AQ_PATH_BYTES, "%s", plan->driver_dir);
	r = aq_paths_make_rundir(plan->own_rundir);
	if (!r)
		r = show_rundir(plan->rundir);
	if (r < 0)
		return r;
	if (plan->files) {
		*ret_failed = "the driver's files";
		r = cover_driver(plan, covered);
		if (r < 0)
			return r;
		snprintf(ret_driver_dir, AQ_PATH_BYTES, "%s", covered);
	}
	*ret_failed = AQ_LDCACHE_PATH;
	return cover_cache(plan, ret_driver_dir);
}
