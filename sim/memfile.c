/* SPDX-License-Identifier: Apache-2.0 */
/* The files behind device memory: one sparse file for each device, and one for each object that was
 * exported, which is locked while a descriptor of it is open. */
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/paths.h"
#include "base/banned.h"

/* What is in an export file, before device, frame and id. */
#define EXPORT_MAGIC 0x5450584553514c41ull

struct export_record {
	uint64_t magic;
	uint32_t device, first;
	uint64_t id;
};

static int memory_fd(struct sim_machine *m, uint32_t device)
{
	char name[32], path[AQ_PATH_BYTES];
	int fd, none = -1;

	if (__atomic_load_n(&m->memory_fd[device], __ATOMIC_ACQUIRE) >= 0)
		return m->memory_fd[device];
	snprintf(name, sizeof(name), "memory-%u", device);
	if (aq_paths_join(path, m->backing, name) < 0)
		return -ENAMETOOLONG;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (!__atomic_compare_exchange_n(&m->memory_fd[device], &none, fd, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE))
		close(fd); /* another thread was faster */
	return m->memory_fd[device];
}

int sim_memory_map(struct sim_machine *m, uint32_t device, uint8_t **ret_bytes)
{
	size_t size = (size_t)m->shared->devices[device].n_frames * SIM_FRAME_BYTES;
	int fd = memory_fd(m, device);
	void *p;

	if (fd < 0)
		return fd;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	madvise(p, size, MADV_DONTDUMP);
	madvise(p, size, MADV_DONTFORK); /* a child may not use the device anyway */
	*ret_bytes = p;
	return 0;
}

bool sim_memory_punch(struct sim_machine *m, uint32_t device, uint32_t first, uint32_t n)
{
	int fd = memory_fd(m, device);

	return fd >= 0 && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    (off_t)(first * SIM_FRAME_BYTES),
				    (off_t)(n * SIM_FRAME_BYTES)) == 0;
}

uint64_t sim_memory_written(struct sim_machine *m, uint32_t device, uint64_t offset)
{
	int fd = memory_fd(m, device);
	off_t data = fd < 0 ? -1 : lseek(fd, (off_t)offset, SEEK_DATA);

	if (data >= 0)
		return (uint64_t)data;
	return fd >= 0 && errno == ENXIO ? UINT64_MAX : offset; /* who cannot tell says here */
}

static int export_path(struct sim_machine *m, uint32_t device, uint64_t id, char *path)
{
	char name[64];

	snprintf(name, sizeof(name), "export-%u-%llu", device, (unsigned long long)id);
	return aq_paths_join(path, m->backing, name);
}

bool sim_export_open(struct sim_machine *m, uint32_t device, struct sim_frame *head)
{
	char path[AQ_PATH_BYTES];
	AQ_CLEANUP(close) int fd = -1;

	if (!(head->flags & SIM_FRAME_EXPORTED) || export_path(m, device, head->id, path) < 0)
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT)
		return true; /* cannot say: its user will */
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0)
		return true;
	unlink(path);
	head->flags &= ~SIM_FRAME_EXPORTED;
	return false;
}

int sim_frames_export(struct sim_machine *m, uint32_t device, uint32_t first, uint64_t id)
{
	struct export_record record = {
		.magic = EXPORT_MAGIC, .device = device, .first = first, .id = id};
	char path[AQ_PATH_BYTES];
	struct sim_frame *head;
	int fd = -ENOENT;

	if (export_path(m, device, id, path) < 0)
		return -ENAMETOOLONG;
	sim_memory_lock(m, device);
	head = sim_object_at(&m->shared->devices[device], first, id);
	if (head && !(head->flags & SIM_FRAME_DYING)) {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
		if (fd < 0) {
			fd = -errno;
		} else if (flock(fd, LOCK_SH) < 0 ||
			   pwrite(fd, &record, sizeof(record), 0) != (ssize_t)sizeof(record)) {
			close(fd);
			fd = -EIO;
		} else {
			head->flags |= SIM_FRAME_EXPORTED;
		}
	}
	sim_memory_unlock(m, device);
	return fd;
}

int sim_frames_import(struct sim_machine *m, int fd, uint32_t *ret_device, uint32_t *ret_first,
		      uint64_t *ret_id)
{
	struct export_record record;
	char path[AQ_PATH_BYTES];
	struct stat mine, named;

	if (pread(fd, &record, sizeof(record), 0) != (ssize_t)sizeof(record) ||
	    record.magic != EXPORT_MAGIC || record.device >= sim_machine_n_devices(m))
		return -EINVAL;
	/* Only a file that this machine made is believed. */
	if (export_path(m, record.device, record.id, path) < 0 || fstat(fd, &mine) < 0 ||
	    stat(path, &named) < 0 || mine.st_ino != named.st_ino || mine.st_dev != named.st_dev)
		return -EINVAL;
	*ret_device = record.device;
	*ret_first = record.first;
	*ret_id = record.id;
	return 0;
}
