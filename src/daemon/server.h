/* SPDX-License-Identifier: Apache-2.0 */
/* One daemon as a whole, from nothing to listening and back. */
#ifndef AQ_DAEMON_SERVER_H
#define AQ_DAEMON_SERVER_H

#include "daemon/daemon.h"

struct aqd_server_options {
	const char *config, *socket; /* or NULL */
	bool system, foreground;
};

/* Return: NULL when memory is out. */
struct aqd *aqd_server_create(void);

/* Work out paths and read the configuration; what is wrong is logged. Makes no file.
 * Return: 0 or negative errno */
int aqd_server_configure(struct aqd *d, const struct aqd_server_options *o);

/**
 * aqd_server_start() - take the directory, list devices, restore, listen. What fails is logged.
 * @sim: as aqd_devices_init()
 * Return: 0; -EBUSY another daemon serves there; other negative errno
 */
int aqd_server_start(struct aqd *d, const char *sim);

/* Stop listening, save what shall be adopted, free everything. Fine after a failed start. */
void aqd_server_free(struct aqd *d);

#endif /* AQ_DAEMON_SERVER_H */
