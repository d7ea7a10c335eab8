/* SPDX-License-Identifier: Apache-2.0 */
/* Processes by identity: pid and start time, held by a pidfd. */
#ifndef AQ_DAEMON_PROCESS_H
#define AQ_DAEMON_PROCESS_H

#include "daemon/daemon.h"

/**
 * aqd_process_of_peer() - the process at the other end of a unix socket.
 * Return: 0 and a reference in @ret; -ESRCH it is gone; other negative errno
 */
int aqd_process_of_peer(struct aqd *d, int fd, uid_t *ret_uid, struct aqd_process **ret);

/* The process with this pid that started at @start_ticks. Return: as above. */
int aqd_process_of_pid(struct aqd *d, pid_t pid, uint64_t start_ticks, struct aqd_process **ret);

/* A living process that is known already, or NULL. Takes no reference. */
struct aqd_process *aqd_process_known(struct aqd *d, pid_t pid);

/* Give a reference back. NULL is fine. */
void aqd_process_put(struct aqd *d, struct aqd_process *p);

/* If it has exited and the loop was not told yet, what follows from that happens now. Return: it
 * has, and did. */
bool aqd_process_notice(struct aqd *d, struct aqd_process *p);

/* Return: 0 or negative errno; -ESRCH when it is gone. */
int aqd_process_signal(const struct aqd_process *p, int sig);

#endif /* AQ_DAEMON_PROCESS_H */
