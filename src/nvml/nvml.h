/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the daemon asks of NVML, and no more: one opened library, real or simulated, as one object.
 *
 * Two instances may live at once: the system's library and the simulator's. Calls are blocking
 * (up to some milliseconds on a real driver) and thread-safe, as NVML itself is. Nothing is logged.
 * Every function returns 0 or more, else negative errno:
 *   -ENOENT no such library, driver or device      -EPERM refused by the driver
 *   -ENOSYS or -EOPNOTSUPP this library or device cannot      -EINVAL, -ENOSPC, -ETIMEDOUT, -EIO
 */
#ifndef AQ_NVML_H
#define AQ_NVML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aq_nvml;

#define AQ_NVML_NAME_BYTES 96	   /* Source: NVML_DEVICE_NAME_V2_BUFFER_SIZE */
#define AQ_NVML_PCI_BYTES 32	   /* Source: NVML_DEVICE_PCI_BUS_ID_BUFFER_SIZE */
#define AQ_NVML_VERSION_BYTES 80   /* Source: NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE */
#define AQ_NVML_UNKNOWN UINT64_MAX /* a number of bytes that the driver does not tell */

struct aq_nvml_device {
	uint8_t uuid[16]; /* as cuDeviceGetUuid() gives it */
	char name[AQ_NVML_NAME_BYTES];
	char pci_bus_id[AQ_NVML_PCI_BYTES];	    /* "00000000:01:00.0" */
	char driver_version[AQ_NVML_VERSION_BYTES]; /* "550.54.15" */
	uint64_t memory_total_bytes; /* what programs can have: NVML's total less its reserved */
	uint32_t minor;		     /* N of /dev/nvidiaN; UINT32_MAX unknown */
	uint32_t capability_major;   /* compute capability; 0.0 unknown */
	uint32_t capability_minor;
	bool mig_enabled; /* cut into MIG instances: not usable as one device */
};

struct aq_nvml_process {
	int32_t pid; /* as the driver has it: of the host */
	uint32_t reserved;
	uint64_t used_bytes; /* or AQ_NVML_UNKNOWN (older drivers, some platforms) */
};

/**
 * aq_nvml_open() - load and initialise one NVML library.
 * The simulator's opens without a machine too, and has no devices until aq_nvml_sim_add().
 * @library_path: absolute path, or NULL for the system's libnvidia-ml.so.1; where the guard or
 *                another interposer is found under that name, for the one behind it
 * Return: 0; -ENOENT no library, no driver loaded, or @library_path NULL and what the loader finds
 *         under that name is the simulator; others as above
 * Context: open NULL before the simulator's library: once that is loaded, the loader takes its
 *          name for the system's.
 * Owns: *ret is the caller's, until aq_nvml_close().
 */
int aq_nvml_open(const char *library_path, struct aq_nvml **ret);

/* Shuts the library down and unloads it. NULL is fine. */
void aq_nvml_close(struct aq_nvml *n);

/* Return: number of devices, MIG instances not among them. */
int aq_nvml_device_count(struct aq_nvml *n);

/**
 * aq_nvml_device_info() - what does not change about one device (but for MIG mode).
 * @index: [0, count), NVML order, which is PCI order
 * Return: 0; -ENOENT no such index; fields that the driver cannot tell are zero or "unknown" as
 *         their comments say, and only UUID and memory must be there
 */
int aq_nvml_device_info(struct aq_nvml *n, uint32_t index, struct aq_nvml_device *ret_device);

/* Memory in use by all processes, in the same account as memory_total_bytes. */
int aq_nvml_memory_used(struct aq_nvml *n, uint32_t index, uint64_t *ret_bytes);

/**
 * aq_nvml_processes() - compute processes on a device (MPS clients are among them) and their use.
 * @max: room in @procs
 * Return: number of entries written; -ENOSPC there are more than @max, nothing is written
 */
int aq_nvml_processes(struct aq_nvml *n, uint32_t index, struct aq_nvml_process *procs, size_t max);

/* How busy a process has kept a device, over the time up to @time_us. */
struct aq_nvml_utilisation {
	int32_t pid;
	uint32_t sm_percent; /* 0..100 */
	uint64_t time_us;    /* CLOCK_REALTIME, as the driver has it */
};

/**
 * aq_nvml_utilisations() - what the driver has sampled of processes after @since_us.
 * One sample for each process that had work, as drivers of r450 and later give it.
 * Source: NVML API, nvmlDeviceGetProcessUtilization
 * Return: number of entries written, 0 when nothing is new; -ENOSPC there are more than @max;
 *         -EOPNOTSUPP the device does not sample (MIG, some vGPUs)
 */
int aq_nvml_utilisations(struct aq_nvml *n, uint32_t index, uint64_t since_us,
			 struct aq_nvml_utilisation *samples, size_t max);

/**
 * aq_nvml_sim_add() - make sure that a simulated machine has certain devices.
 * @dir:  the machine's directory, made if need be
 * @spec: PROFILE[:COUNT][,PROFILE[:COUNT]...]
 * Return: 0; -ENOSYS not the simulator's library; -EINVAL bad @spec; others
 */
int aq_nvml_sim_add(struct aq_nvml *n, const char *dir, const char *spec);

/* Take the simulated machine in @dir away, its memory too. Return: as aq_nvml_sim_add(). */
int aq_nvml_sim_remove(struct aq_nvml *n, const char *dir);

#endif /* AQ_NVML_H */
