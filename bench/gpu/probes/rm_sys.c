/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two things that the recorder and the controls ask of the kernel. A file of its own, so that
 * tests can put another kernel in its place.
 */
#include "rm.h"

#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define NVIDIA_MAJOR 195 /* of /dev/nvidiactl and /dev/nvidiaN; Documentation/admin-guide/devices  \
			  */

bool rm_is_device(int fd, uint32_t *ret_minor)
{
	struct stat st;

	if (fstat(fd, &st) || !S_ISCHR(st.st_mode) || major(st.st_rdev) != NVIDIA_MAJOR)
		return false;
	*ret_minor = minor(st.st_rdev);
	return true;
}

int rm_raw_ioctl(int fd, unsigned long request, void *arg)
{
	return (int)syscall(SYS_ioctl, fd, request, arg);
}
