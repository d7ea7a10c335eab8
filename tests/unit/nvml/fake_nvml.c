/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library in the place of NVIDIA's for unit tests: one device, answers as `fake` says.
 * With FAKE_OLD it is a driver of before 510: first versions of everything, and nothing new.
 */
#include "fake_nvml.h"

#include <stdio.h>
#include <string.h>

#include "nvml/nvml_api.h"

AQ_NVML_EXPORT extern struct fake_nvml fake;
struct fake_nvml fake;

#define DEVICE ((nvmlDevice_t)&fake)

static nvmlReturn_t text(char *buf, unsigned int length, const char *s)
{
	snprintf(buf, length, "%s", s);
	return NVML_SUCCESS;
}

static nvmlReturn_t room(unsigned int *count, unsigned int n, const void *array)
{
	int fits = *count >= n && (array || !n);

	*count = n;
	return fits ? NVML_SUCCESS : NVML_ERROR_INSUFFICIENT_SIZE;
}

nvmlReturn_t nvmlInit_v2(void)
{
	fake.inits += fake.init_status == NVML_SUCCESS;
	return fake.init_status;
}

nvmlReturn_t nvmlShutdown(void)
{
	fake.shutdowns++;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
	return text(version, length, "550.54.15");
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count)
{
	*count = 1;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device)
{
	*device = DEVICE;
	return index ? NVML_ERROR_INVALID_ARGUMENT : NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length)
{
	return device == DEVICE ? text(uuid, length, FAKE_UUID) : NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length)
{
	return text(name, length, "NVIDIA Fake");
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
	if (device != DEVICE)
		return NVML_ERROR_INVALID_ARGUMENT;
	memory->total = FAKE_TOTAL;
	memory->used = FAKE_USED + FAKE_RESERVED;
	memory->free = FAKE_TOTAL - memory->used;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, unsigned int *count,
						  nvmlProcessInfo_v1_t *infos)
{
	nvmlReturn_t status = room(count, fake.n_processes, infos);

	fake.calls++;
	for (unsigned int i = 0; status == NVML_SUCCESS && i < fake.n_processes; i++)
		infos[i] = (nvmlProcessInfo_v1_t){fake.pids[i], fake.used[i]};
	return status;
}

#ifndef FAKE_OLD

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
	if (memory->version != NVML_STRUCT_VERSION(Memory, 2))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	memory->total = FAKE_TOTAL;
	memory->reserved = FAKE_RESERVED;
	memory->used = FAKE_USED;
	memory->free = FAKE_TOTAL - FAKE_USED - FAKE_RESERVED;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
	memset(pci, 0, sizeof(*pci));
	pci->bus = 0x1b;
	return text(pci->busId, sizeof(pci->busId), "00000000:1B:00.0");
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int *minor)
{
	*minor = 3;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
	*major = 9;
	*minor = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending)
{
	*current = *pending = 1;
	return NVML_SUCCESS;
}

static nvmlReturn_t list(unsigned int *count, nvmlProcessInfo_t *infos)
{
	nvmlReturn_t status;

	fake.calls++;
	status = room(count, fake.n_processes, infos);
	for (unsigned int i = 0; status == NVML_SUCCESS && i < fake.n_processes; i++)
		infos[i] = (nvmlProcessInfo_t){fake.pids[i], fake.used[i], ~0u, ~0u};
	return status;
}

/* As if processes came between one reading and the next. */
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count,
						     nvmlProcessInfo_t *infos)
{
	if (fake.grow) {
		*count += fake.grow;
		fake.grow = 0;
		return NVML_ERROR_INSUFFICIENT_SIZE;
	}
	return list(count, infos);
}

#define LIST(sym)                                                                                  \
	nvmlReturn_t sym(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *infos)       \
	{                                                                                          \
		return list(count, infos);                                                         \
	}

LIST(nvmlDeviceGetComputeRunningProcesses_v2)
LIST(nvmlDeviceGetGraphicsRunningProcesses_v2)
LIST(nvmlDeviceGetGraphicsRunningProcesses_v3)
LIST(nvmlDeviceGetMPSComputeRunningProcesses_v2)
LIST(nvmlDeviceGetMPSComputeRunningProcesses_v3)

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses(nvmlDevice_t device, unsigned int *count,
						   nvmlProcessInfo_v1_t *infos)
{
	return nvmlDeviceGetComputeRunningProcesses(device, count, infos);
}

nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses(nvmlDevice_t device, unsigned int *count,
						     nvmlProcessInfo_v1_t *infos)
{
	return nvmlDeviceGetComputeRunningProcesses(device, count, infos);
}

nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device,
						   nvmlProcessDetailList_v1_t *l)
{
	nvmlReturn_t status = room(&l->numProcArrayEntries, fake.n_processes, l->procArray);

	for (unsigned int i = 0; status == NVML_SUCCESS && i < fake.n_processes; i++)
		l->procArray[i] = (nvmlProcessDetail_v1_t){fake.pids[i], fake.used[i], ~0u, ~0u, 0};
	return status;
}

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device,
					     nvmlProcessUtilizationSample_t *samples,
					     unsigned int *count, unsigned long long since)
{
	nvmlReturn_t status = room(count, fake.n_processes, samples);

	for (unsigned int i = 0; status == NVML_SUCCESS && i < fake.n_processes; i++)
		samples[i] = (nvmlProcessUtilizationSample_t){
			.pid = fake.pids[i], .timeStamp = 1000, .smUtil = 10 + i};
	return status;
}

nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device,
						   nvmlProcessesUtilizationInfo_v1_t *info)
{
	nvmlReturn_t status =
		room(&info->processSamplesCount, fake.n_processes, info->procUtilArray);

	for (unsigned int i = 0; status == NVML_SUCCESS && i < fake.n_processes; i++)
		info->procUtilArray[i] = (nvmlProcessUtilizationInfo_v1_t){.pid = fake.pids[i]};
	return status;
}

nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t *memory)
{
	*memory = (nvmlBAR1Memory_t){FAKE_BAR1, FAKE_BAR1 / 2, FAKE_BAR1 / 2};
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetConfComputeMemSizeInfo(nvmlDevice_t device,
						 nvmlConfComputeMemSizeInfo_t *sizes)
{
	*sizes = (nvmlConfComputeMemSizeInfo_t){0, FAKE_TOTAL >> 10};
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetConfComputeProtectedMemoryUsage(nvmlDevice_t device, nvmlMemory_t *memory)
{
	*memory = (nvmlMemory_t){FAKE_TOTAL, FAKE_TOTAL / 2, FAKE_TOTAL / 2};
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAttributes(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes)
{
	*attributes = (nvmlDeviceAttributes_t){132, .memorySizeMB = FAKE_TOTAL >> 20};
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes)
{
	return nvmlDeviceGetAttributes(device, attributes);
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values)
{
	for (int i = 0; i < count; i++) {
		values[i].nvmlReturn = NVML_SUCCESS;
		values[i].valueType = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
		values[i].value.ullVal = 7;
	}
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceClearFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values)
{
	fake.cleared++;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t device, unsigned int *count,
					 unsigned int *pids)
{
	nvmlReturn_t status = room(count, fake.n_processes, pids);

	for (unsigned int i = 0; status == NVML_SUCCESS && i < fake.n_processes; i++)
		pids[i] = fake.pids[i];
	return status;
}

nvmlReturn_t nvmlDeviceGetAccountingStats(nvmlDevice_t device, unsigned int pid,
					  nvmlAccountingStats_t *stats)
{
	*stats = (nvmlAccountingStats_t){.maxMemoryUsage = pid};
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAccountingStats_v2(nvmlDevice_t device, nvmlAccountingStats_v2_t *stats)
{
	stats->maxMemoryUsage = stats->pid;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceSetAccountingMode(nvmlDevice_t device, nvmlEnableState_t mode)
{
	fake.cleared++;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceClearAccountingPids(nvmlDevice_t device)
{
	fake.cleared++;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetEncoderSessions(nvmlDevice_t device, unsigned int *count,
					  nvmlEncoderSessionInfo_t *sessions)
{
	nvmlReturn_t status = room(count, fake.n_processes, sessions);

	for (unsigned int i = 0; status == NVML_SUCCESS && i < fake.n_processes; i++)
		sessions[i] = (nvmlEncoderSessionInfo_t){.sessionId = i, .pid = fake.pids[i]};
	return status;
}

nvmlReturn_t nvmlDeviceGetFBCSessions(nvmlDevice_t device, unsigned int *count,
				      nvmlFBCSessionInfo_t *sessions)
{
	nvmlReturn_t status = room(count, fake.n_processes, sessions);

	for (unsigned int i = 0; status == NVML_SUCCESS && i < fake.n_processes; i++)
		sessions[i] = (nvmlFBCSessionInfo_t){.sessionId = i, .pid = fake.pids[i]};
	return status;
}

nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length)
{
	return text(name, length, "program");
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates)
{
	*rates = (nvmlUtilization_t){55, 22};
	return NVML_SUCCESS;
}

/* The table that nvidia-smi asks for: its size, and three functions that list processes. */

struct table_entry {
	nvmlProcessDetail_v1_t detail;
	char name[4096];
};

static nvmlReturn_t table_list(nvmlDevice_t device, unsigned int *count, struct table_entry *ret)
{
	for (unsigned int i = 0; i < fake.n_processes && i < *count; i++) {
		ret[i].detail = (nvmlProcessDetail_v1_t){fake.pids[i], fake.used[i], ~0u, ~0u, 0};
		snprintf(ret[i].name, sizeof(ret[i].name), "program %u", fake.pids[i]);
	}
	*count = fake.n_processes;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlInternalGetExportTable(const void **table, const void *id)
{
	static void *words[300];

	words[0] = (void *)sizeof(words);
	words[81] = (void *)nvmlDeviceGetHandleByIndex_v2;
	words[213] = words[214] = words[215] = (void *)table_list;
	*table = words;
	return NVML_SUCCESS;
}

#endif /* !FAKE_OLD */
