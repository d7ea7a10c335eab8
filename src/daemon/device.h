/* SPDX-License-Identifier: Apache-2.0 */
/* The devices of the machine: finding them, real and simulated, and reading them. */
#ifndef AQ_DAEMON_DEVICE_H
#define AQ_DAEMON_DEVICE_H

#include "daemon/daemon.h"

/**
 * aqd_devices_init() - open NVML and list what is there.
 * @sim_spec: PROFILE[:COUNT][,...] that must be there too, or NULL. A simulated machine that
 *            exists already is listed in any case.
 * Return: 0, also with no device at all; negative errno when @sim_spec cannot be had
 */
int aqd_devices_init(struct aqd *d, const char *sim_spec);
void aqd_devices_finish(struct aqd *d);

/**
 * aqd_devices_simulate() - make sure that simulated devices of @spec exist.
 * @ret_allowed: bit i set for each device of that profile
 * Return: 0; -EINVAL bad spec; -ENOENT no simulator installed; others
 */
int aqd_devices_simulate(struct aqd *d, const char *spec, uint64_t *ret_allowed);

/* Remove the simulated machine if it was made by a daemon of this directory. */
void aqd_devices_unsimulate(struct aqd *d);

/* All simulated devices, as bits. */
uint64_t aqd_devices_simulated(const struct aqd *d);

/* Devices that `auto` may choose: real ones if there are any, else simulated ones. */
uint64_t aqd_devices_auto(const struct aqd *d);

/* By uuid, NULL for none. */
struct aqd_device *aqd_device_by_uuid(struct aqd *d, const uint8_t uuid[16]);

/* Remember which profile a simulated device is of (from the state of an earlier daemon). */
void aqd_device_set_profile(struct aqd_device *dev, const char *profile);

/* Read the list of processes now, into dev->procs. Return: 0 or negative errno. */
int aqd_device_read(struct aqd *d, struct aqd_device *dev);

/* What the last reading says of a process. Return: false when it is not on the list. */
bool aqd_device_process(const struct aqd_device *dev, pid_t pid, uint64_t *ret_used_bytes);

/* The one word for how compute is divided on it. */
const char *aqd_device_mechanism(const struct aqd *d, const struct aqd_device *dev);

#endif /* AQ_DAEMON_DEVICE_H */
