/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated NVML: who uses a device, and how much of it. All processes are compute processes. */
#include "sim/nvml/look.h"

#include <stdlib.h>

#include "base/cleanup.h"

#include "base/banned.h"

#define NO_INSTANCE UINT32_MAX /* gpuInstanceId outside MIG */

/* Room for @n; NVML's way to say otherwise. */
static nvmlReturn_t has_room(unsigned int *count, uint32_t n, const void *array)
{
	bool fits = *count >= n && (array || !n);

	*count = n;
	return fits ? NVML_SUCCESS : NVML_ERROR_INSUFFICIENT_SIZE;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count,
						     nvmlProcessInfo_t *infos)
{
	AQ_CLEANUP(free) struct sim_process_usage *usage = NULL;
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, count, &d);
	uint32_t n;

	if (status != NVML_SUCCESS)
		return status;
	status = sim_nvml_processes(&d, &usage, &n);
	if (status != NVML_SUCCESS)
		return status;
	status = has_room(count, n, infos);
	for (uint32_t i = 0; status == NVML_SUCCESS && i < n; i++)
		infos[i] = (nvmlProcessInfo_t){
			.pid = (unsigned int)usage[i].pid,
			.usedGpuMemory = usage[i].memory_bytes,
			.gpuInstanceId = NO_INSTANCE,
			.computeInstanceId = NO_INSTANCE,
		};
	return status;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned int *count,
						     nvmlProcessInfo_t *infos)
{
	return nvmlDeviceGetComputeRunningProcesses_v3(device, count, infos);
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, unsigned int *count,
						  nvmlProcessInfo_v1_t *infos)
{
	AQ_CLEANUP(free) struct sim_process_usage *usage = NULL;
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, count, &d);
	uint32_t n;

	if (status != NVML_SUCCESS)
		return status;
	status = sim_nvml_processes(&d, &usage, &n);
	if (status != NVML_SUCCESS)
		return status;
	status = has_room(count, n, infos);
	for (uint32_t i = 0; status == NVML_SUCCESS && i < n; i++)
		infos[i] = (nvmlProcessInfo_v1_t){
			.pid = (unsigned int)usage[i].pid,
			.usedGpuMemory = usage[i].memory_bytes,
		};
	return status;
}

static nvmlReturn_t no_processes(nvmlDevice_t device, unsigned int *count)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, count, &d);

	if (status == NVML_SUCCESS)
		*count = 0;
	return status;
}

#define NO_PROCESSES(sym, type)                                                                    \
	nvmlReturn_t sym(nvmlDevice_t device, unsigned int *count, type *infos)                    \
	{                                                                                          \
		return no_processes(device, count);                                                \
	}

NO_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses, nvmlProcessInfo_v1_t)
NO_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, nvmlProcessInfo_t)
NO_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, nvmlProcessInfo_t)
NO_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses, nvmlProcessInfo_v1_t)
NO_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v2, nvmlProcessInfo_t)
NO_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3, nvmlProcessInfo_t)
NO_PROCESSES(nvmlDeviceGetEncoderSessions, nvmlEncoderSessionInfo_t)
NO_PROCESSES(nvmlDeviceGetFBCSessions, nvmlFBCSessionInfo_t)

nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device,
						   nvmlProcessDetailList_v1_t *list)
{
	AQ_CLEANUP(free) struct sim_process_usage *usage = NULL;
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, list, &d);
	uint32_t n = 0;

	if (status != NVML_SUCCESS)
		return status;
	if (list->version != NVML_STRUCT_VERSION(ProcessDetailList, 1))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	if (list->mode > NVML_PROCESS_MODE_ALL)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (list->mode == NVML_PROCESS_MODE_COMPUTE || list->mode == NVML_PROCESS_MODE_ALL)
		status = sim_nvml_processes(&d, &usage, &n);
	if (status != NVML_SUCCESS)
		return status;
	status = has_room(&list->numProcArrayEntries, n, list->procArray);
	for (uint32_t i = 0; status == NVML_SUCCESS && i < n; i++)
		list->procArray[i] = (nvmlProcessDetail_v1_t){
			.pid = (unsigned int)usage[i].pid,
			.usedGpuMemory = usage[i].memory_bytes,
			.gpuInstanceId = NO_INSTANCE,
			.computeInstanceId = NO_INSTANCE,
		};
	return status;
}

static uint32_t n_told(const struct sim_look *base, const struct sim_look *now)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < now->n_processes; i++)
		n += sim_look_tells(&now->processes[i], base);
	return n;
}

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device,
					     nvmlProcessUtilizationSample_t *samples,
					     unsigned int *count, unsigned long long since)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, count, &d);
	const struct sim_look *base, *now;
	uint32_t n, told = 0;

	if (status != NVML_SUCCESS)
		return status;
	sim_look_lock();
	sim_look_pair(&d, since, &base, &now);
	n = n_told(base, now);
	if (!n || now->time_us <= since) {
		*count = 0;
		status = NVML_ERROR_NOT_FOUND;
	} else {
		status = has_room(count, n, samples);
	}
	for (uint32_t i = 0; status == NVML_SUCCESS && i < now->n_processes; i++) {
		if (!sim_look_tells(&now->processes[i], base))
			continue;
		samples[told++] = (nvmlProcessUtilizationSample_t){
			.pid = (unsigned int)now->processes[i].pid,
			.timeStamp = now->time_us,
			.smUtil = sim_look_share(&now->processes[i], base, now),
		};
	}
	sim_look_unlock();
	return status;
}

nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device,
						   nvmlProcessesUtilizationInfo_v1_t *info)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, info, &d);
	const struct sim_look *base, *now;
	uint32_t n, told = 0;

	if (status != NVML_SUCCESS)
		return status;
	if (info->version != NVML_STRUCT_VERSION(ProcessesUtilizationInfo, 1))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	sim_look_lock();
	sim_look_pair(&d, info->lastSeenTimeStamp, &base, &now);
	n = n_told(base, now);
	if (!n || now->time_us <= info->lastSeenTimeStamp) {
		info->processSamplesCount = 0;
		status = NVML_ERROR_NOT_FOUND;
	} else {
		status = has_room(&info->processSamplesCount, n, info->procUtilArray);
	}
	for (uint32_t i = 0; status == NVML_SUCCESS && i < now->n_processes; i++) {
		if (!sim_look_tells(&now->processes[i], base))
			continue;
		info->procUtilArray[told++] = (nvmlProcessUtilizationInfo_v1_t){
			.pid = (unsigned int)now->processes[i].pid,
			.timeStamp = now->time_us,
			.smUtil = sim_look_share(&now->processes[i], base, now),
		};
	}
	sim_look_unlock();
	return status;
}
