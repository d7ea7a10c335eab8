/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks through /proc for the fraction of a process whose environment was emptied. Says nothing
 * about whether the process may use it: that is a matter of its uid.
 */
#include "daemon/resolve.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "daemon/process.h"
#include "base/banned.h"

#define MAX_STEPS 64 /* ancestors; deeper trees than this are loops of a changing /proc */

static struct aqd_fraction *fraction_of(struct aqd *d, pid_t pid)
{
	struct aqd_process *p = aqd_process_known(d, pid);

	if (!p)
		return NULL;
	if (!aq_list_empty(&p->clients))
		return aq_container_of(p->clients.next, struct aqd_client, of_process)->fraction;
	if (!aq_list_empty(&p->holdings)) /* the newest, when it made several */
		return aq_container_of(p->holdings.prev, struct aqd_fraction, of_holder);
	return NULL;
}

static bool mount_namespace_of(pid_t pid, struct stat *ret)
{
	char path[64];

	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)pid);
	else
		snprintf(path, sizeof(path), "/proc/self/ns/mnt");
	return stat(path, ret) == 0;
}

void aqd_resolve_learn(struct aqd *d, struct aqd_fraction *f, pid_t pid)
{
	struct stat own, its;

	if (!f->mount_namespace || f->mount_inode || !mount_namespace_of(0, &own) ||
	    !mount_namespace_of(pid, &its))
		return;
	if (own.st_dev == its.st_dev && own.st_ino == its.st_ino)
		return; /* `run` has not made it yet */
	f->mount_device = its.st_dev;
	f->mount_inode = its.st_ino;
}

bool aqd_resolve_curious(const struct aqd *d)
{
	struct aqd_fraction *f, *tmp;

	AQ_LIST_FOREACH (f, tmp, &d->fractions, link)
		if (f->mount_namespace && !f->mount_inode && f->holder)
			return true;
	return false;
}

static struct aqd_fraction *by_namespace(struct aqd *d, pid_t pid)
{
	struct aqd_fraction *f, *tmp;
	struct stat its;

	if (!mount_namespace_of(pid, &its))
		return NULL;
	AQ_LIST_FOREACH (f, tmp, &d->fractions, link) {
		if (f->holder)
			aqd_resolve_learn(d, f, f->holder->pid);
		if (f->mount_inode && f->mount_inode == its.st_ino && f->mount_device == its.st_dev)
			return f;
	}
	return NULL;
}

struct aqd_fraction *aqd_resolve(struct aqd *d, pid_t pid)
{
	pid_t at = pid;

	for (int i = 0; i < MAX_STEPS && at > 1; i++) {
		struct aqd_fraction *f = fraction_of(d, at);

		if (f)
			return f;
		at = aq_pid_parent(at);
	}
	return by_namespace(d, pid);
}
