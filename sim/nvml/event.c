/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated NVML: event sets. Nothing ever happens to a simulated device, so a wait times out. */
#include "sim/nvml/state.h"

#include <stdlib.h>

#include "base/timing.h"

#include "base/banned.h"

struct nvmlEventSet_st {
	unsigned int registered;
};

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set)
{
	if (sim_nvml_ready() != NVML_SUCCESS)
		return NVML_ERROR_UNINITIALIZED;
	if (!set)
		return NVML_ERROR_INVALID_ARGUMENT;
	*set = calloc(1, sizeof(**set));
	return *set ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}

nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set)
{
	if (sim_nvml_ready() != NVML_SUCCESS)
		return NVML_ERROR_UNINITIALIZED;
	free(set);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeout_ms)
{
	if (sim_nvml_ready() != NVML_SUCCESS)
		return NVML_ERROR_UNINITIALIZED;
	if (!set || !data)
		return NVML_ERROR_INVALID_ARGUMENT;
	aq_sleep_until_ns(aq_now_ns() + timeout_ms * AQ_NS_PER_MS);
	return NVML_ERROR_TIMEOUT;
}

nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeout_ms)
{
	return nvmlEventSetWait_v2(set, data, timeout_ms);
}

ANSWER(nvmlDeviceGetSupportedEventTypes, unsigned long long, nvmlEventTypeXidCriticalError)

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types,
				      nvmlEventSet_t set)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, set, &d);

	if (status != NVML_SUCCESS)
		return status;
	if (types & ~nvmlEventTypeXidCriticalError)
		return NVML_ERROR_NOT_SUPPORTED;
	set->registered++;
	return NVML_SUCCESS;
}

/* Profiling metrics are not simulated, and whoever asks is told so in the proper way. */
nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, nvmlGpmSupport_t *support)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, support, &d);

	if (status == NVML_SUCCESS)
		support->isSupportedDevice = 0;
	return status;
}
