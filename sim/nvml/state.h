/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the simulated libnvidia-ml.so.1 share: the one machine that this process looks
 * at, device handles, and the recent past of each device, from which rates are told.
 *
 * The library only looks: it never joins the machine, and so leaves no trace in it.
 */
#ifndef SIM_NVML_STATE_H
#define SIM_NVML_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "nvml/nvml_api.h"
#include "sim/machine.h"

/* A device that a handle names, as long as the call at hand lasts. */
struct sim_nvml_device {
	struct sim_machine *machine;
	const struct sim_profile *profile;
	uint32_t index;
	const struct sim_machine_device *shared;
};

/**
 * sim_nvml_look() - start of every function that takes a device and answers through a pointer.
 * @ret: where the answer will go; only compared with NULL
 * Return: NVML_SUCCESS; NVML_ERROR_UNINITIALIZED; NVML_ERROR_INVALID_ARGUMENT
 */
nvmlReturn_t sim_nvml_look(nvmlDevice_t device, const void *ret, struct sim_nvml_device *d);

/* NVML_SUCCESS between nvmlInit and nvmlShutdown, else NVML_ERROR_UNINITIALIZED. */
nvmlReturn_t sim_nvml_ready(void);

/* The machine, or NULL outside init and shutdown. */
struct sim_machine *sim_nvml_machine(void);

/* Handle of a device by index; the caller knows that there is one. */
nvmlDevice_t sim_nvml_handle(uint32_t index);

/* Copy text with its NUL. Return: NVML_SUCCESS, INVALID_ARGUMENT or INSUFFICIENT_SIZE. */
nvmlReturn_t sim_nvml_text(char *buf, unsigned int length, const char *text);

/* Name of the program that a process runs, cut to fit. Return: false when there is no such. */
bool sim_nvml_process_name(unsigned int pid, char *buf, unsigned int length);

/* What happened on a device between two instants. */
struct sim_nvml_rates {
	uint64_t time_us;  /* end of it, since 1970 */
	uint32_t busy;	   /* percent of the time with a kernel running */
	uint32_t copying;  /* percent of the time with a copy engine at work, 0..100 */
	uint32_t rx_kib_s; /* over the bus, to the device */
	uint32_t tx_kib_s;
};

/**
 * sim_nvml_rates() - over the last 1/6 to 1 second, as NVML has it.
 * The first question of a process may wait some 20 ms, for want of a past to compare with.
 */
void sim_nvml_rates(const struct sim_nvml_device *d, struct sim_nvml_rates *ret);

/* Forget the past; begin one. Called when the machine is opened. */
void sim_nvml_rates_reset(struct sim_machine *m);

/* Forget the past. Called when the machine is closed: the library may be unloaded then. */
void sim_nvml_rates_forget(void);

/**
 * sim_nvml_processes() - the processes of a device, as many as there are.
 * @ret: malloc'ed; caller frees
 * Return: NVML_SUCCESS; NVML_ERROR_MEMORY
 */
nvmlReturn_t sim_nvml_processes(const struct sim_nvml_device *d, struct sim_process_usage **ret,
				uint32_t *ret_n);

/* Microseconds since 1970, as NVML's time stamps. */
uint64_t sim_nvml_wall_us(void);

/* Milliwatts at a load of @busy percent, and degrees Celsius. */
uint32_t sim_nvml_power_mw(const struct sim_nvml_device *d, uint32_t busy);
uint32_t sim_nvml_celsius(uint32_t busy);

/*
 * ANSWER(function, type, expression): a function that takes a device handle and gives one value,
 * which @expression computes from `d`.
 */
#define ANSWER(sym, type, expression)                                                              \
	nvmlReturn_t sym(nvmlDevice_t device, type *ret)                                           \
	{                                                                                          \
		struct sim_nvml_device d;                                                          \
		nvmlReturn_t status = sim_nvml_look(device, ret, &d);                              \
                                                                                                   \
		if (status == NVML_SUCCESS)                                                        \
			*ret = (expression);                                                       \
		return status;                                                                     \
	}

#endif /* SIM_NVML_STATE_H */
