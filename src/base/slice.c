/* SPDX-License-Identifier: Apache-2.0 */
#include "base/slice.h"

#include <errno.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/banned.h"

/* <linux/sched/types.h> collides with <sched.h> in C libraries from 2.41 on. */
struct attributes {
	uint32_t size;
	uint32_t policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime_ns, deadline_ns, period_ns;
};

static int get(struct attributes *a)
{
	return syscall(SYS_sched_getattr, 0, a, sizeof(*a), 0) ? -errno : 0;
}

int aq_slice_ask(uint64_t slice_ns)
{
	struct attributes a = {0};
	int saved = errno, r = get(&a);

	if (!r && a.policy != SCHED_OTHER)
		r = -ENOTSUP;
	a.runtime_ns = slice_ns;
	if (!r && syscall(SYS_sched_setattr, 0, &a, 0))
		r = -errno;
	if (!r)
		r = get(&a);
	if (!r && a.runtime_ns != slice_ns) /* older kernels take no notice */
		r = -ENOTSUP;
	errno = saved;
	return r;
}
