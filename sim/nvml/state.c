/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated NVML: start and end, the system as a whole, and handles of devices. */
#include "sim/nvml/state.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/name.h"

#include "base/banned.h"

/* A handle is the address of one of these; which one is all that it says. */
struct nvmlDevice_st {
	char nothing;
};

static struct nvmlDevice_st handles[SIM_MAX_DEVICES];

/* All under `lock`, but that readers between init and shutdown may read `machine` without. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sim_machine machine;
static unsigned int n_inits;
static char chosen[256]; /* directory of the last aliquotSimAdd(), which goes first */

/* Our own words, near enough to NVIDIA's that a reader knows them again. */
static const char *const error_texts[] = {
	[NVML_SUCCESS] = "Success",
	[NVML_ERROR_UNINITIALIZED] = "Uninitialized",
	[NVML_ERROR_INVALID_ARGUMENT] = "Invalid Argument",
	[NVML_ERROR_NOT_SUPPORTED] = "Not Supported",
	[NVML_ERROR_NO_PERMISSION] = "Insufficient Permissions",
	[NVML_ERROR_ALREADY_INITIALIZED] = "Already Initialized",
	[NVML_ERROR_NOT_FOUND] = "Not Found",
	[NVML_ERROR_INSUFFICIENT_SIZE] = "Insufficient Size",
	[NVML_ERROR_INSUFFICIENT_POWER] = "Insufficient External Power",
	[NVML_ERROR_DRIVER_NOT_LOADED] = "Driver Not Loaded",
	[NVML_ERROR_TIMEOUT] = "Timeout",
	[NVML_ERROR_IRQ_ISSUE] = "Interrupt Request Issue",
	[NVML_ERROR_LIBRARY_NOT_FOUND] = "NVML Shared Library Not Found",
	[NVML_ERROR_FUNCTION_NOT_FOUND] = "Function Not Found",
	[NVML_ERROR_CORRUPTED_INFOROM] = "Corrupted infoROM",
	[NVML_ERROR_GPU_IS_LOST] = "GPU is lost",
	[NVML_ERROR_RESET_REQUIRED] = "GPU requires restart",
	[NVML_ERROR_OPERATING_SYSTEM] = "Operating System Call Failed",
	[NVML_ERROR_LIB_RM_VERSION_MISMATCH] = "Driver/library version mismatch",
	[NVML_ERROR_IN_USE] = "In use by another client",
	[NVML_ERROR_MEMORY] = "Insufficient memory",
	[NVML_ERROR_NO_DATA] = "No data",
	[NVML_ERROR_VGPU_ECC_NOT_SUPPORTED] = "ECC is not supported with vGPU",
	[NVML_ERROR_INSUFFICIENT_RESOURCES] = "Insufficient resources",
	[NVML_ERROR_FREQ_NOT_SUPPORTED] = "Frequency not supported",
	[NVML_ERROR_ARGUMENT_VERSION_MISMATCH] = "Argument version mismatch",
	[NVML_ERROR_DEPRECATED] = "Deprecated",
	[NVML_ERROR_NOT_READY] = "Not ready",
	[NVML_ERROR_GPU_NOT_FOUND] = "GPU not found",
	[NVML_ERROR_INVALID_STATE] = "Invalid state",
	[NVML_ERROR_RESET_TYPE_NOT_SUPPORTED] = "Reset type not supported",
};

static nvmlReturn_t status_of(int error)
{
	switch (error) {
	case 0:
		return NVML_SUCCESS;
	case -ENOENT:
		return NVML_ERROR_DRIVER_NOT_LOADED;
	case -EPROTO:
		return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
	case -EACCES:
	case -EPERM:
		return NVML_ERROR_NO_PERMISSION;
	case -ENOMEM:
		return NVML_ERROR_MEMORY;
	default:
		return NVML_ERROR_UNKNOWN;
	}
}

static bool has_device(uint32_t index)
{
	return index < sim_machine_n_devices(&machine);
}

nvmlReturn_t sim_nvml_ready(void)
{
	return __atomic_load_n(&n_inits, __ATOMIC_ACQUIRE) ? NVML_SUCCESS
							   : NVML_ERROR_UNINITIALIZED;
}

struct sim_machine *sim_nvml_machine(void)
{
	return sim_nvml_ready() == NVML_SUCCESS ? &machine : NULL;
}

nvmlDevice_t sim_nvml_handle(uint32_t index)
{
	return &handles[index];
}

nvmlReturn_t sim_nvml_look(nvmlDevice_t device, const void *ret, struct sim_nvml_device *d)
{
	uintptr_t offset = (uintptr_t)device - (uintptr_t)handles;

	if (sim_nvml_ready() != NVML_SUCCESS)
		return NVML_ERROR_UNINITIALIZED;
	if (!ret || offset >= sizeof(handles) || offset % sizeof(handles[0]) ||
	    !has_device((uint32_t)(offset / sizeof(handles[0]))))
		return NVML_ERROR_INVALID_ARGUMENT;
	d->machine = &machine;
	d->index = (uint32_t)(offset / sizeof(handles[0]));
	d->profile = sim_machine_profile(&machine, d->index);
	d->shared = &machine.shared->devices[d->index];
	return NVML_SUCCESS;
}

nvmlReturn_t sim_nvml_text(char *buf, unsigned int length, const char *text)
{
	if (!buf)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (strlen(text) >= length)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	memcpy(buf, text, strlen(text) + 1);
	return NVML_SUCCESS;
}

bool sim_nvml_process_name(unsigned int pid, char *buf, unsigned int length)
{
	AQ_CLEANUP(free) char *text = NULL;
	char path[64];
	ssize_t got;

	/* argv[0], as the driver has it; a kernel thread or a program that erased it has only comm.
	 */
	snprintf(path, sizeof(path), "/proc/%u/cmdline", pid);
	got = aq_file_read(path, PATH_MAX, &text);
	if (got <= 0 || !text[0]) {
		free(text);
		text = NULL;
		snprintf(path, sizeof(path), "/proc/%u/comm", pid);
		got = aq_file_read(path, PATH_MAX, &text);
		if (got <= 0)
			return false;
		text[strcspn(text, "\n")] = '\0';
	}
	if (length)
		snprintf(buf, length, "%s", text);
	return true;
}

/*
 * Start and end. The library counts, as NVML does.
 */

nvmlReturn_t nvmlInitWithFlags(unsigned int flags)
{
	int r = 0;

	if (flags &
	    ~(NVML_INIT_FLAG_NO_GPUS | NVML_INIT_FLAG_NO_ATTACH | NVML_INIT_FLAG_FORCE_INIT))
		return NVML_ERROR_INVALID_ARGUMENT;
	pthread_mutex_lock(&lock);
	if (!n_inits) {
		memset(&machine, 0, sizeof(machine));
		r = chosen[0] ? sim_machine_open(&machine, chosen) : sim_machine_find(&machine);
		if (!r && !sim_machine_n_devices(&machine) && !(flags & NVML_INIT_FLAG_NO_GPUS)) {
			sim_machine_close(&machine);
			r = -ENOENT;
		}
		if (!r)
			sim_nvml_rates_reset(&machine);
	}
	if (!r)
		__atomic_store_n(&n_inits, n_inits + 1, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&lock);
	return status_of(r);
}

nvmlReturn_t nvmlInit_v2(void)
{
	return nvmlInitWithFlags(0);
}

nvmlReturn_t nvmlInit(void)
{
	return nvmlInitWithFlags(0);
}

nvmlReturn_t nvmlShutdown(void)
{
	nvmlReturn_t status = NVML_ERROR_UNINITIALIZED;

	pthread_mutex_lock(&lock);
	if (n_inits) {
		__atomic_store_n(&n_inits, n_inits - 1, __ATOMIC_RELEASE);
		if (!n_inits) {
			sim_nvml_rates_forget();
			sim_machine_close(&machine);
		}
		status = NVML_SUCCESS;
	}
	pthread_mutex_unlock(&lock);
	return status;
}

/*
 * For the daemon, beside NVML: make or delete the machine that this library looks at.
 */

AQ_NVML_EXPORT int aliquotSimAdd(const char *dir, const char *spec);
AQ_NVML_EXPORT int aliquotSimRemove(const char *dir);

int aliquotSimAdd(const char *dir, const char *spec)
{
	int r;

	if (!dir || !spec || strlen(dir) >= sizeof(chosen))
		return -EINVAL;
	r = sim_machine_add(dir, spec);
	if (r < 0)
		return r;
	pthread_mutex_lock(&lock);
	snprintf(chosen, sizeof(chosen), "%s", dir);
	pthread_mutex_unlock(&lock);
	return 0;
}

int aliquotSimRemove(const char *dir)
{
	return dir ? sim_machine_remove(dir) : -EINVAL;
}

/*
 * The system.
 */

const char *nvmlErrorString(nvmlReturn_t status)
{
	unsigned int i = (unsigned int)status;

	return i < AQ_ARRAY_SIZE(error_texts) && error_texts[i] ? error_texts[i] : "Unknown Error";
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
	nvmlReturn_t status = sim_nvml_ready();

	return status == NVML_SUCCESS ? sim_nvml_text(version, length, SIM_DRIVER_TEXT) : status;
}

/* NVML's own version is that of CUDA, a dot, and that of the driver. */
nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length)
{
	char text[64];

	snprintf(text, sizeof(text), "%d.%s", SIM_DRIVER_VERSION / 1000, SIM_DRIVER_TEXT);
	return sim_nvml_text(version, length, text);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version)
{
	if (!version)
		return NVML_ERROR_INVALID_ARGUMENT;
	*version = SIM_DRIVER_VERSION;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version)
{
	return nvmlSystemGetCudaDriverVersion(version);
}

nvmlReturn_t nvmlSystemGetDriverBranch(nvmlSystemDriverBranchInfo_v1_t *branch, unsigned int length)
{
	if (sim_nvml_ready() != NVML_SUCCESS)
		return NVML_ERROR_UNINITIALIZED;
	if (!branch)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (branch->version != NVML_STRUCT_VERSION(SystemDriverBranchInfo, 1))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	return sim_nvml_text(branch->branch,
			     length < sizeof(branch->branch) ? length : sizeof(branch->branch),
			     "r580_00");
}

nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length)
{
	if (sim_nvml_ready() != NVML_SUCCESS)
		return NVML_ERROR_UNINITIALIZED;
	if (!name || !length)
		return NVML_ERROR_INVALID_ARGUMENT;
	return sim_nvml_process_name(pid, name, length) ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlSystemGetHicVersion(unsigned int *count, nvmlHwbcEntry_t *entries)
{
	if (!count)
		return NVML_ERROR_INVALID_ARGUMENT;
	*count = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetConfComputeCapabilities(nvmlConfComputeSystemCaps_t *caps)
{
	if (!caps)
		return NVML_ERROR_INVALID_ARGUMENT;
	*caps = (nvmlConfComputeSystemCaps_t){0};
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetConfComputeState(nvmlConfComputeSystemState_t *state)
{
	if (!state)
		return NVML_ERROR_INVALID_ARGUMENT;
	*state = (nvmlConfComputeSystemState_t){0};
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetConfComputeGpusReadyState(unsigned int *accepting)
{
	if (!accepting)
		return NVML_ERROR_INVALID_ARGUMENT;
	*accepting = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlUnitGetCount(unsigned int *count)
{
	if (!count)
		return NVML_ERROR_INVALID_ARGUMENT;
	*count = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlUnitGetHandleByIndex(unsigned int index, nvmlUnit_t *unit)
{
	return NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlGetExcludedDeviceCount(unsigned int *count)
{
	if (!count)
		return NVML_ERROR_INVALID_ARGUMENT;
	*count = 0;
	return NVML_SUCCESS;
}

/* All CPUs are near all devices. */
nvmlReturn_t nvmlSystemGetTopologyGpuSet(unsigned int cpu, unsigned int *count,
					 nvmlDevice_t *devices)
{
	uint32_t n;

	if (sim_nvml_ready() != NVML_SUCCESS)
		return NVML_ERROR_UNINITIALIZED;
	if (!count)
		return NVML_ERROR_INVALID_ARGUMENT;
	n = sim_machine_n_devices(&machine);
	for (uint32_t i = 0; devices && i < n && i < *count; i++)
		devices[i] = &handles[i];
	if (!devices || *count > n)
		*count = n;
	return NVML_SUCCESS;
}

/*
 * Handles.
 */

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count)
{
	if (sim_nvml_ready() != NVML_SUCCESS)
		return NVML_ERROR_UNINITIALIZED;
	if (!count)
		return NVML_ERROR_INVALID_ARGUMENT;
	*count = sim_machine_n_devices(&machine);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount(unsigned int *count)
{
	return nvmlDeviceGetCount_v2(count);
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device)
{
	if (sim_nvml_ready() != NVML_SUCCESS)
		return NVML_ERROR_UNINITIALIZED;
	if (!device || !has_device(index))
		return NVML_ERROR_INVALID_ARGUMENT;
	*device = &handles[index];
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t *device)
{
	return nvmlDeviceGetHandleByIndex_v2(index, device);
}

static nvmlReturn_t find_uuid(const uint8_t uuid[16], nvmlDevice_t *device)
{
	for (uint32_t i = 0; has_device(i); i++) {
		if (!memcmp(machine.shared->devices[i].uuid, uuid, 16)) {
			*device = &handles[i];
			return NVML_SUCCESS;
		}
	}
	return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *text, nvmlDevice_t *device)
{
	uint8_t uuid[16];

	if (sim_nvml_ready() != NVML_SUCCESS)
		return NVML_ERROR_UNINITIALIZED;
	if (!text || !device)
		return NVML_ERROR_INVALID_ARGUMENT;
	return aq_uuid_parse(text, uuid) < 0 ? NVML_ERROR_NOT_FOUND : find_uuid(uuid, device);
}

nvmlReturn_t nvmlDeviceGetHandleByUUIDV(const nvmlUUID_v1_t *uuid, nvmlDevice_t *device)
{
	char text[NVML_DEVICE_UUID_ASCII_LEN + 1];

	if (sim_nvml_ready() != NVML_SUCCESS)
		return NVML_ERROR_UNINITIALIZED;
	if (!uuid || !device)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (uuid->version != NVML_STRUCT_VERSION(UUID, 1))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	switch (uuid->type) {
	case NVML_UUID_TYPE_ASCII:
		memcpy(text, uuid->value.str, NVML_DEVICE_UUID_ASCII_LEN);
		text[NVML_DEVICE_UUID_ASCII_LEN] = '\0';
		return nvmlDeviceGetHandleByUUID(text, device);
	case NVML_UUID_TYPE_BINARY:
		return find_uuid(uuid->value.bytes, device);
	default:
		return NVML_ERROR_INVALID_ARGUMENT;
	}
}

/* With or without domain: "00000000:1b:00.0", "0000:1B:00.0", "1b:0.0", "0:1b:0". */
nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *device)
{
	unsigned int domain, bus, slot, function = 0;
	int end = 0;

	if (sim_nvml_ready() != NVML_SUCCESS)
		return NVML_ERROR_UNINITIALIZED;
	if (!bus_id || !device)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (sscanf(bus_id, "%8x:%2x:%2x%n.%1x%n", &domain, &bus, &slot, &end, &function, &end) <
	    3) {
		domain = 0;
		if (sscanf(bus_id, "%2x:%2x%n.%1x%n", &bus, &slot, &end, &function, &end) < 2)
			return NVML_ERROR_INVALID_ARGUMENT;
	}
	if (bus_id[end])
		return NVML_ERROR_INVALID_ARGUMENT;
	for (uint32_t i = 0; has_device(i); i++) {
		if (!domain && !slot && !function && machine.shared->devices[i].pci_bus == bus) {
			*device = &handles[i];
			return NVML_SUCCESS;
		}
	}
	return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *bus_id, nvmlDevice_t *device)
{
	return nvmlDeviceGetHandleByPciBusId_v2(bus_id, device);
}

nvmlReturn_t nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *device)
{
	char text[32];

	if (sim_nvml_ready() != NVML_SUCCESS)
		return NVML_ERROR_UNINITIALIZED;
	if (!serial || !device)
		return NVML_ERROR_INVALID_ARGUMENT;
	for (uint32_t i = 0; has_device(i); i++) {
		if (nvmlDeviceGetSerial(&handles[i], text, sizeof(text)) == NVML_SUCCESS &&
		    !strcmp(text, serial)) {
			*device = &handles[i];
			return NVML_SUCCESS;
		}
	}
	return NVML_ERROR_NOT_FOUND;
}
