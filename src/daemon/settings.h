/* SPDX-License-Identifier: Apache-2.0 */
/* Puts the configuration into effect, at the start and again on SIGHUP. */
#ifndef AQ_DAEMON_SETTINGS_H
#define AQ_DAEMON_SETTINGS_H

#include "daemon/daemon.h"

/* Read d->config_path, if there is one. Return: 0; negative errno, with @error of @size. */
int aqd_settings_load(struct aqd *d, char *error, size_t size);

/* Read it again; what is wrong leaves everything as it was, and is said in an event. */
void aqd_settings_reload(struct aqd *d);

#endif /* AQ_DAEMON_SETTINGS_H */
