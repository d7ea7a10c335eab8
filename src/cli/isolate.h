/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A private mount namespace for the program that `run` becomes, in which the guard is what every
 * way to the driver leads to: a child with an empty environment, a set-uid program, an absolute
 * path. The environment alone does not reach those (doc/ARCHITECTURE.md, "Trust").
 */
#ifndef AQ_CLI_ISOLATE_H
#define AQ_CLI_ISOLATE_H

#include <stdbool.h>

#include "cli/driver.h"

enum aq_isolate { AQ_ISOLATE_AUTO, AQ_ISOLATE_YES, AQ_ISOLATE_NO };

/* `auto`, `yes`, `no`. Return: enum aq_isolate; -EINVAL. */
int aq_isolate_parse(const char *text);

/* The driver's files, kept reachable inside a namespace whose own names for them are covered. */
#define AQ_ISOLATE_COVERED_DIR "driver-covered"

/* Leave for a namespace of this process's own, with nothing changed yet. Return: 0 or -errno. */
int aq_isolate_begin(void);

struct aq_isolate_plan {
	const char *guard_dir;
	const char *driver_dir; /* has the guard's names for the driver */
	const char *rundir;     /* of the daemon, for children that do not know XDG_RUNTIME_DIR */
	const char *own_rundir; /* the user's, for mount points */
	/* The driver's files, which the guard will cover; NULL: simulated, or covered already. */
	const char (*files)[AQ_PATH_BYTES];
};

/**
 * aq_isolate_arrange() - mount what is needed, after aq_isolate_begin().
 * @ret_driver_dir: of AQ_PATH_BYTES: where the guard's names for the driver are from now on
 * @ret_failed:     static text: what failed
 * Return: 0; negative errno, and everything mounted so far stays: each part is of use alone
 */
int aq_isolate_arrange(const struct aq_isolate_plan *plan, char *ret_driver_dir,
		       const char **ret_failed);

#endif /* AQ_CLI_ISOLATE_H */
