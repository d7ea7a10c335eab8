/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel and the limits it sets. Tries things out in this process or in a child. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/size.h"
#include "cli/doctor.h"
#include "cli/isolate.h"
#include "base/banned.h"

/* A daemon needs about three descriptors for a client, a GPU program a few hundred. */
#define ENOUGH_FILES 1024
#define ENOUGH_SHM_BYTES AQ_GIB

static void check_pidfd(struct aq_doctor *d)
{
	AQ_CLEANUP(close) int fd = aq_pidfd_open(getpid());

	if (fd >= 0)
		aq_doctor_add(d, "pidfd", AQ_HEALTH_OK, NULL, "pidfd_open works");
	else
		aq_doctor_add(d, "pidfd", AQ_HEALTH_FAIL,
			      "use Linux 5.3 or later; containers: let seccomp allow pidfd_open",
			      "pidfd_open: %s", strerror(-fd));
}

static void check_memfd(struct aq_doctor *d)
{
	AQ_CLEANUP(close) int fd = memfd_create("aliquot-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && !fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL))
		aq_doctor_add(d, "memfd", AQ_HEALTH_OK, NULL, "memory can be shared and sealed");
	else
		aq_doctor_add(d, "memfd", AQ_HEALTH_FAIL,
			      "use Linux 3.17 or later; containers: let seccomp allow "
			      "memfd_create", "memfd_create or its seals: %s", strerror(errno));
}

/* In a child, because there is no way back. */
static int try_namespace(void)
{
	int status = 0;
	pid_t child = fork();

	if (child < 0)
		return -errno;
	if (!child)
		_exit(-aq_isolate_begin());
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
}

static void check_namespace(struct aq_doctor *d)
{
	int r = try_namespace();

	if (!r)
		aq_doctor_add(d, "mount namespace", AQ_HEALTH_OK, NULL,
			      "permitted: children with an empty environment are guarded, too");
	else if (r == -EINVAL)
		aq_doctor_add(d, "mount namespace", AQ_HEALTH_NA,
			      "needed only for programs that empty the environment of their "
			      "children: mount --bind the chroot's directory over itself first",
			      "not in this chroot, which is no mount point: programs are guarded by "
			      "their environment");
	else
		aq_doctor_add(d, "mount namespace", AQ_HEALTH_NA,
			      "needed only for programs that empty the environment of their "
			      "children: run as root (CAP_SYS_ADMIN)",
			      "not permitted (%s): programs are guarded by their environment",
			      strerror(-r));
}

static void check_dmem(struct aq_doctor *d)
{
	AQ_CLEANUP(free) char *text = NULL;

	if (aq_file_read("/sys/fs/cgroup/cgroup.controllers", 4096, &text) > 0 &&
	    strstr(text, "dmem"))
		aq_doctor_add(d, "dmem", AQ_HEALTH_OK, NULL,
			      "the kernel can limit device memory where the driver takes part");
	else
		aq_doctor_add(d, "dmem", AQ_HEALTH_NA, NULL,
			      "no dmem controller in cgroup v2: no second line of defence by the "
			      "kernel");
}

void aq_doctor_kernel(struct aq_doctor *d)
{
	struct utsname u;

	if (uname(&u) < 0)
		return;
	aq_doctor_add(d, "kernel", AQ_HEALTH_OK, NULL, "%s %s %s", u.sysname, u.release, u.machine);
	check_pidfd(d);
	check_memfd(d);
	check_namespace(d);
	check_dmem(d);
}

static void check_files(struct aq_doctor *d)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	if (limit.rlim_cur >= ENOUGH_FILES)
		aq_doctor_add(d, "open files", AQ_HEALTH_OK, NULL, "%llu may be open at once",
			      (unsigned long long)limit.rlim_cur);
	else
		aq_doctor_add(d, "open files", AQ_HEALTH_WARN, "ulimit -n 4096, or LimitNOFILE=",
			      "only %llu may be open at once", (unsigned long long)limit.rlim_cur);
}

static void check_shm(struct aq_doctor *d)
{
	char left[AQ_SIZE_TEXT];
	struct statvfs fs;
	uint64_t bytes;

	if (statvfs("/dev/shm", &fs) < 0 || access("/dev/shm", W_OK) < 0) {
		aq_doctor_add(d, "shared memory", AQ_HEALTH_WARN,
			      "mount a tmpfs there: simulated devices keep their memory in it",
			      "/dev/shm: %s", strerror(errno));
		return;
	}
	bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
	aq_size_format(bytes, left);
	if (bytes >= ENOUGH_SHM_BYTES)
		aq_doctor_add(d, "shared memory", AQ_HEALTH_OK, NULL, "%s free in /dev/shm", left);
	else
		aq_doctor_add(d, "shared memory", AQ_HEALTH_WARN,
			      "mount -o remount,size=8G /dev/shm (containers: --shm-size): bytes "
			      "written to simulated devices are kept there",
			      "only %s free in /dev/shm", left);
}

static void check_preload(struct aq_doctor *d)
{
	AQ_CLEANUP(free) char *file = NULL;
	const char *env = getenv("LD_PRELOAD");
	ssize_t n = aq_file_read("/etc/ld.so.preload", 4096, &file);

	if (n > 0)
		file[strcspn(file, "\n")] = '\0';
	if ((env && *env) || (n > 0 && *file))
		aq_doctor_add(d, "preload", AQ_HEALTH_WARN,
			      "another library that stands between programs and the driver (HAMi, "
			      "a profiler) may disturb the guard: take it away if it is one",
			      "preloaded into programs: %s", env && *env ? env : file);
	else
		aq_doctor_add(d, "preload", AQ_HEALTH_OK, NULL,
			      "no other library is preloaded into programs");
}

void aq_doctor_limits(struct aq_doctor *d)
{
	check_files(d);
	check_shm(d);
	check_preload(d);
}
