/* SPDX-License-Identifier: Apache-2.0 */
/* Makes, extends and deletes simulated machines. A lock file in the directory of a machine keeps
 * two from doing so at once; a machine is complete before its link appears. */
#include "machine.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/paths.h"
#include "base/timing.h"
#include "base/banned.h"

#define SHM_DIR "/dev/shm"
#define BACKING_PREFIX "aliquot-sim-"
#define LOCK_FILE "lock"

/* A smaller /dev/shm (containers have 64 MiB) could not hold what programs write to a device. */
#define SHM_MIN_BYTES (1ull << 30)

/* A backing directory without a machine that names it is garbage, once creation must be over. */
#define GARBAGE_AGE_S 60

/* Delete a backing directory. */
static void delete_backing(const char *backing)
{
	AQ_CLEANUP(closedir) DIR *dir = opendir(backing);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	rmdir(backing);
}

/* Whether the machine that a backing directory belongs to is still named by its directory, or some
 * process uses it. */
static bool backing_in_use(const char *backing)
{
	char named[AQ_PATH_BYTES];
	struct sim_machine m;
	bool used;
	int r = sim_machine_open_backing(&m, backing);

	if (r < 0) /* of another version: not ours to judge; never completed: garbage by its age */
		return r != -ENOENT && r != -EAGAIN;
	used = sim_machine_read_link(m.shared->directory, named) == 0 &&
	       strcmp(named, backing) == 0;
	for (uint32_t i = 0; !used && i < m.shared->n_processes; i++)
		used = sim_machine_alive(&m, i);
	sim_machine_close(&m);
	return used;
}

/* Machines whose directory was deleted leave their backing behind: delete ours among those. */
static void collect_garbage(void)
{
	AQ_CLEANUP(closedir) DIR *dir = opendir(SHM_DIR);
	char path[AQ_PATH_BYTES];
	struct dirent *entry;
	struct timespec now;
	struct stat st;

	clock_gettime(CLOCK_REALTIME, &now);
	while (dir && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, BACKING_PREFIX, strlen(BACKING_PREFIX)) != 0)
			continue;
		if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
		    st.st_mtime > now.tv_sec - GARBAGE_AGE_S)
			continue;
		if (aq_paths_join(path, SHM_DIR, entry->d_name) == 0 && !backing_in_use(path))
			delete_backing(path);
	}
}

/*
 * A new backing directory. Who may open it can read and write all that is on its devices, other
 * programs' memory too, and break the machine: it is its user's; root's is also its group's.
 */
static int make_backing(const char *dir, char *buf)
{
	struct statvfs vfs;
	bool shm = statvfs(SHM_DIR, &vfs) == 0 &&
		   (uint64_t)vfs.f_blocks * vfs.f_frsize >= SHM_MIN_BYTES &&
		   access(SHM_DIR, W_OK) == 0;
	int n = snprintf(buf, AQ_PATH_BYTES, "%s/" BACKING_PREFIX "XXXXXX", shm ? SHM_DIR : dir);

	if (n < 0 || n >= (int)sizeof(((struct sim_machine *)0)->backing))
		return -ENAMETOOLONG;
	if (!mkdtemp(buf))
		return -errno;
	if (geteuid() == 0 && chmod(buf, 0770) < 0)
		return -errno;
	return 0;
}

static int create_file(const char *backing, const char *name, uint64_t bytes)
{
	char path[AQ_PATH_BYTES];
	int fd, r = aq_paths_join(path, backing, name);

	if (r < 0)
		return r;
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if ((geteuid() == 0 && fchmod(fd, 0660) < 0) || ftruncate(fd, (off_t)bytes) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

static int create_state(const char *dir, const char *backing)
{
	AQ_CLEANUP(close) int fd = create_file(backing, SIM_STATE_FILE, sizeof(struct sim_shared));
	AQ_CLEANUP(free) char *real = NULL;
	struct sim_shared *shared;

	if (fd < 0)
		return fd;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
		      0);
	if (shared == MAP_FAILED)
		return -errno;
	shared->abi = SIM_MACHINE_ABI;
	shared->size = sizeof(*shared);
	shared->created_ns = aq_now_ns();
	/* As others find it, wherever they stand. */
	real = realpath(dir, NULL);
	snprintf(shared->directory, sizeof(shared->directory), "%s", real ? real : dir);
	sim_lock_init(&shared->lock);
	__atomic_store_n(&shared->magic, SIM_MACHINE_MAGIC, __ATOMIC_RELEASE);
	munmap(shared, sizeof(*shared));
	return 0;
}

/* Make @dir/machine point into @backing, in one step. */
static int set_link(const char *dir, const char *backing)
{
	char target[AQ_PATH_BYTES], path[AQ_PATH_BYTES], fresh[AQ_PATH_BYTES];
	int r = aq_paths_join(target, backing, SIM_STATE_FILE);

	if (r == 0)
		r = aq_paths_join(path, dir, SIM_STATE_FILE);
	if (r == 0)
		r = aq_paths_join(fresh, dir, SIM_STATE_FILE ".new");
	if (r < 0)
		return r;
	unlink(fresh);
	if (symlink(target, fresh) < 0 || rename(fresh, path) < 0)
		return -errno;
	return 0;
}

/* Lock file of @dir, locked. Who deletes a machine deletes this too, so look again once locked. */
static int lock_dir(const char *dir)
{
	char path[AQ_PATH_BYTES];
	struct stat mine, named;
	int fd, r = aq_paths_join(path, dir, LOCK_FILE);

	if (r < 0)
		return r;
	for (;;) {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0)
			return -errno;
		while (flock(fd, LOCK_EX) < 0 && errno == EINTR)
			;
		if (fstat(fd, &mine) == 0 && stat(path, &named) == 0 && mine.st_ino == named.st_ino)
			return fd;
		close(fd);
	}
}

static int make_dirs(const char *dir)
{
	char path[AQ_PATH_BYTES];

	if (strlen(dir) >= sizeof(path))
		return -ENAMETOOLONG;
	snprintf(path, sizeof(path), "%s", dir);
	for (char *p = path + 1;; p++) {
		char c = *p;

		if (c && c != '/')
			continue;
		*p = 0;
		/* For all when root makes it, like what lies in it; the parents decide. */
		if (mkdir(path, geteuid() == 0 ? 0755 : 0700) < 0 && errno != EEXIST)
			return -errno;
		*p = c;
		if (!c)
			return 0;
	}
}

/* Append one device. Under the machine's lock. */
static int add_device(struct sim_machine *m, const struct sim_profile *profile)
{
	uint32_t index = m->shared->n_devices;
	struct sim_machine_device *d = &m->shared->devices[index];
	char name[32], path[AQ_PATH_BYTES];
	int fd;

	if (index >= SIM_MAX_DEVICES)
		return -ENOSPC;
	d->total_bytes = profile->nvml_total_bytes - profile->reserved_bytes;
	d->n_frames = (uint32_t)(d->total_bytes / SIM_FRAME_BYTES);
	snprintf(name, sizeof(name), "memory-%u", index);
	fd = create_file(m->backing, name, d->n_frames * SIM_FRAME_BYTES);
	/* Somebody died here, and may have had another size in mind. */
	if (fd == -EEXIST && aq_paths_join(path, m->backing, name) == 0 && unlink(path) == 0)
		fd = create_file(m->backing, name, d->n_frames * SIM_FRAME_BYTES);
	if (fd < 0)
		return fd;
	close(fd);

	memset(d->profile, 0, sizeof(d->profile));
	snprintf(d->profile, sizeof(d->profile), "%s", profile->id);
	if (getrandom(d->uuid, sizeof(d->uuid), 0) != (ssize_t)sizeof(d->uuid))
		return -EIO;
	d->uuid[6] = (uint8_t)((d->uuid[6] & 0x0f) | 0x40); /* RFC 4122, version 4 */
	d->uuid[8] = (uint8_t)((d->uuid[8] & 0x3f) | 0x80);
	d->pci_bus = 0x17 + 0x0d * index; /* distinct, below 256 */
	sim_lock_init(&d->memory_lock);
	sim_lock_init(&d->engine_lock);
	sim_frames_init(d);
	sim_engine_init(&d->engine, profile->slice_ns, profile->switch_ns, aq_now_ns());
	__atomic_store_n(&m->shared->n_devices, index + 1, __ATOMIC_RELEASE);
	return 0;
}

/* One PROFILE[:COUNT] of @spec; moves *@spec behind it and its comma. */
static int parse_item(const char **spec, const struct sim_profile **ret_profile,
		      uint32_t *ret_count)
{
	const char *s = *spec;
	size_t length = strcspn(s, ":,");
	unsigned long count = 1;
	char *end;

	*ret_profile = sim_profile_find(s, length);
	if (!*ret_profile)
		return -EINVAL;
	s += length;
	if (*s == ':') {
		if (!isdigit((unsigned char)s[1]))
			return -EINVAL;
		count = strtoul(s + 1, &end, 10);
		s = end;
	}
	if (count < 1 || count > SIM_MAX_DEVICES || (*s && *s != ','))
		return -EINVAL;
	*ret_count = (uint32_t)count;
	*spec = *s ? s + 1 : s;
	/* "a," has an empty item at its end */
	return *s && !s[1] ? -EINVAL : 0;
}

/* Let the machine have the devices of @spec: as many of a profile as its items say together. */
static int ensure_devices(struct sim_machine *m, const char *spec)
{
	uint32_t wanted[64] = {0};
	uint32_t count;
	int r = 0;

	if (!*spec || sim_n_profiles > AQ_ARRAY_SIZE(wanted))
		return -EINVAL;
	while (*spec) {
		const struct sim_profile *profile;

		r = parse_item(&spec, &profile, &count);
		if (r < 0)
			return r;
		wanted[profile - sim_profiles] += count;
	}
	sim_machine_lock(m);
	for (size_t p = 0; r == 0 && p < sim_n_profiles; p++) {
		count = 0;
		for (uint32_t i = 0; i < m->shared->n_devices; i++)
			count += sim_machine_profile(m, i) == &sim_profiles[p];
		for (; r == 0 && count < wanted[p]; count++)
			r = add_device(m, &sim_profiles[p]);
	}
	sim_machine_unlock(m);
	return r;
}

static int check_spec(const char *spec)
{
	const struct sim_profile *profile;
	uint32_t count, sum = 0;
	int r = *spec ? 0 : -EINVAL;

	while (r == 0 && *spec) {
		r = parse_item(&spec, &profile, &count);
		sum += r == 0 ? count : 0;
	}
	return r == 0 && sum > SIM_MAX_DEVICES ? -ENOSPC : r;
}

/* A new machine for @dir, whose lock the caller holds. Nobody sees it before it is complete. */
static int create(struct sim_machine *m, const char *dir, const char *spec)
{
	char backing[AQ_PATH_BYTES];
	int r = make_backing(dir, backing);

	if (r < 0)
		return r;
	r = create_state(dir, backing);
	if (r == 0)
		r = sim_machine_open_backing(m, backing);
	if (r == 0) {
		r = ensure_devices(m, spec);
		if (r == 0)
			r = set_link(dir, backing);
		if (r < 0)
			sim_machine_close(m);
	}
	if (r < 0)
		delete_backing(backing);
	return r;
}

int sim_machine_open_or_make(struct sim_machine *m, const char *dir, const char *spec)
{
	AQ_CLEANUP(close) int lock = -1;
	int r = check_spec(spec);

	if (r == 0)
		r = make_dirs(dir);
	if (r < 0)
		return r;
	r = sim_machine_open(m, dir);
	if (r == -ENOENT) {
		lock = lock_dir(dir);
		if (lock < 0)
			return lock;
		r = sim_machine_open(m, dir);
	}
	if (r == -ENOENT) {
		collect_garbage();
		return create(m, dir, spec);
	}
	if (r < 0)
		return r;
	r = ensure_devices(m, spec);
	if (r < 0)
		sim_machine_close(m);
	return r;
}

int sim_machine_add(const char *dir, const char *spec)
{
	struct sim_machine m;
	int r = sim_machine_open_or_make(&m, dir, spec);

	if (r == 0)
		sim_machine_close(&m);
	return r;
}

int sim_machine_remove(const char *dir)
{
	char backing[AQ_PATH_BYTES], path[AQ_PATH_BYTES];
	AQ_CLEANUP(close) int lock = -1;
	int r = sim_machine_read_link(dir, backing);

	if (r < 0)
		return r;
	lock = lock_dir(dir);
	if (lock < 0)
		return lock;
	r = sim_machine_read_link(dir, backing);
	if (r < 0)
		return r;
	r = aq_paths_join(path, dir, SIM_STATE_FILE);
	if (r == 0 && unlink(path) < 0)
		r = -errno;
	if (r < 0)
		return r;
	delete_backing(backing);
	if (aq_paths_join(path, dir, LOCK_FILE) == 0)
		unlink(path);
	return 0;
}
