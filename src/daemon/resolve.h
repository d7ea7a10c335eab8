/* SPDX-License-Identifier: Apache-2.0 */
/* Which fraction a process belongs to that cannot say so itself. */
#ifndef AQ_DAEMON_RESOLVE_H
#define AQ_DAEMON_RESOLVE_H

#include "daemon/daemon.h"

/* By its ancestors, else by its mount namespace. NULL: none. */
struct aqd_fraction *aqd_resolve(struct aqd *d, pid_t pid);

/* Is there a fraction whose mount namespace is yet to be learnt? */
bool aqd_resolve_curious(const struct aqd *d);

/* Remember the mount namespace of @pid as the fraction's, unless it is our own. */
void aqd_resolve_learn(struct aqd *d, struct aqd_fraction *f, pid_t pid);

#endif /* AQ_DAEMON_RESOLVE_H */
