/* SPDX-License-Identifier: Apache-2.0 */
/* The names under which the guard finds the driver behind it. */
#ifndef AQ_CLI_DRIVER_H
#define AQ_CLI_DRIVER_H

#include <stdbool.h>

#include "cli/api.h"

#define AQ_DRIVER_CUDA "libaliquot-driver.so.1"
#define AQ_DRIVER_NVML "libaliquot-driver-nvml.so.1"

/**
 * aq_driver_dir() - a directory that has the two names above.
 * For simulated devices it is installed; for real ones it is rundir/driver/, whose links are made
 * here if the daemon has not made them.
 * @buf: of AQ_PATH_BYTES
 * Return: 0; negative errno after one line on stderr
 */
int aq_driver_dir(const struct aq_api *api, const char *libdir, bool simulated, char *buf);

#endif /* AQ_CLI_DRIVER_H */
