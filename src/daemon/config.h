/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration file: a flat YAML mapping; see doc/configuration.md for the keys. */
#ifndef AQ_DAEMON_CONFIG_H
#define AQ_DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"

struct aqd_config {
	bool fail_open;	       /* told to guards: may a program run unguarded without a daemon? */
	bool allow_kill;       /* may the daemon end processes by its own decision? */
	bool reclaim_kill;     /* ... a borrower, when a guarantee lacks what it cannot give back? */
	uint32_t residence_factor; /* see core/reclaim.h */
	uint64_t move_timeout_ns;  /* a client that does not park in time is told to stay */
	uint64_t linger_ns;    /* a fraction without holders ends after that */
	uint64_t idle_exit_ns; /* the daemon ends when unused for that long; 0: never */
	bool idle_exit_given;
	uint64_t host_memory_bytes;	     /* of the machine, for parked memory; half of it */
	uint64_t host_memory_fraction_bytes; /* of that, for one fraction; all */
	enum aq_log_level log_level;
};

/* The defaults, with which the daemon runs when there is no file. */
void aqd_config_init(struct aqd_config *c);

/**
 * aqd_config_load() - read @path over the defaults.
 * @error: of @error_size; one line, `FILE:LINE: what`, when it fails
 * Return: 0; -EINVAL the file is wrong; other negative errno it cannot be read. @ret is untouched
 *         on failure.
 */
int aqd_config_load(const char *path, struct aqd_config *ret, char *error, size_t error_size);

#endif /* AQ_DAEMON_CONFIG_H */
