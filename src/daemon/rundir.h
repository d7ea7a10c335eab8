/* SPDX-License-Identifier: Apache-2.0 */
/* The directory of a daemon, and the lock by which there is one daemon in it. */
#ifndef AQ_DAEMON_RUNDIR_H
#define AQ_DAEMON_RUNDIR_H

#include "daemon/daemon.h"

/**
 * aqd_rundir_choose() - work out all paths. Makes nothing.
 * @socket_path: of guards (absolute or not), or NULL for the user's own directory
 * @system:      use the system's directory instead
 * Return: 0; -ENAMETOOLONG; -EINVAL; other negative errno
 */
int aqd_rundir_choose(struct aqd *d, const char *socket_path, bool system);

/* Make the directory. Return: 0; -EPERM it is not safe to use; other negative errno. */
int aqd_rundir_make(struct aqd *d);

/**
 * aqd_rundir_lock() - become the daemon of this directory.
 * A daemon that is just ending is waited for.
 * @ret_pid: of the one that has it, when -EBUSY or -ETIMEDOUT; 0 unknown
 * Return: 0; -EBUSY another daemon serves here; -ETIMEDOUT another has it, and nobody can reach it;
 *         other negative errno
 */
int aqd_rundir_lock(struct aqd *d, pid_t *ret_pid);
void aqd_rundir_unlock(struct aqd *d);

/* Move the sockets' names away, so that nobody can come any more, or back. */
void aqd_rundir_hide(struct aqd *d, bool hide);

/* Send stderr to aliquotd.log there. Return: 0 or negative errno. */
int aqd_rundir_log(struct aqd *d);

#endif /* AQ_DAEMON_RUNDIR_H */
