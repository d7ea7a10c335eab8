/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulated NVML: memory, and what changes from moment to moment. Clocks, power and temperature
 * follow the load by a line from idle to full: plausible to a reader, measured on nothing.
 */
#include "sim/nvml/look.h"

#include <string.h>

#include "base/timing.h"

#include "base/banned.h"

/* Source: guesses for a board at rest; 345 MHz is Hopper's. */
#define IDLE_MHZ 345u
#define IDLE_POWER_PERMILLE 120u
#define IDLE_CELSIUS 32u
#define FULL_CELSIUS 68u
#define VIDEO_PERIOD_US 166000u

static struct sim_nvml_rates rates(const struct sim_nvml_device *d)
{
	struct sim_nvml_rates r;

	sim_nvml_rates(d, &r);
	return r;
}

uint32_t sim_nvml_power_mw(const struct sim_nvml_device *d, uint32_t busy)
{
	uint32_t full = d->profile->power_w * 1000;
	uint32_t idle = full / 1000 * IDLE_POWER_PERMILLE;

	return idle + (full - idle) / 100 * busy;
}

uint32_t sim_nvml_celsius(uint32_t busy)
{
	return IDLE_CELSIUS + (FULL_CELSIUS - IDLE_CELSIUS) * busy / 100;
}

/* Idle power ever since the machine exists, and the rest while a kernel ran. */
static unsigned long long energy_mj(const struct sim_nvml_device *d)
{
	struct sim_device_times t = {0};
	uint64_t idle_mw = sim_nvml_power_mw(d, 0), full_mw = sim_nvml_power_mw(d, 100);
	uint64_t alive_ms, busy_ms;

	sim_machine_times(d->machine, d->index, &t);
	alive_ms = (t.now_ns - d->machine->shared->created_ns) / AQ_NS_PER_MS;
	busy_ms = t.compute_ns / AQ_NS_PER_MS;
	return (alive_ms * idle_mw + busy_ms * (full_mw - idle_mw)) / 1000;
}

/*
 * Memory. `used` of v1 has what the driver reserves in it; v2 tells it apart.
 */

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, memory, &d);
	uint64_t free_bytes, total_bytes;

	if (status != NVML_SUCCESS)
		return status;
	if (memory->version != NVML_STRUCT_VERSION(Memory, 2))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	sim_memory_info(d.machine, d.index, &free_bytes, &total_bytes);
	memory->total = d.profile->nvml_total_bytes;
	memory->reserved = d.profile->nvml_total_bytes - total_bytes;
	memory->free = free_bytes;
	memory->used = total_bytes - free_bytes;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, memory, &d);
	uint64_t free_bytes, total_bytes;

	if (status != NVML_SUCCESS)
		return status;
	sim_memory_info(d.machine, d.index, &free_bytes, &total_bytes);
	memory->total = d.profile->nvml_total_bytes;
	memory->free = free_bytes;
	memory->used = memory->total - free_bytes;
	return NVML_SUCCESS;
}

/* The window is as large as the memory, rounded up, on boards for servers; small on others. */
nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t *memory)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, memory, &d);
	uint64_t total = 256ull << 20;

	if (status != NVML_SUCCESS)
		return status;
	while (d.profile->ecc && total < d.profile->nvml_total_bytes)
		total <<= 1;
	memory->bar1Total = total;
	memory->bar1Used = 1 << 20;
	memory->bar1Free = total - memory->bar1Used;
	return NVML_SUCCESS;
}

/* Accounting is switched off, which is how boards are delivered. */
ANSWER(nvmlDeviceGetAccountingMode, nvmlEnableState_t, NVML_FEATURE_DISABLED)
ANSWER(nvmlDeviceGetAccountingBufferSize, unsigned int, 4000)

/*
 * Rates and what follows from them.
 */

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *ret)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, ret, &d);
	struct sim_nvml_rates r;

	if (status != NVML_SUCCESS)
		return status;
	sim_nvml_rates(&d, &r);
	ret->gpu = r.busy;
	ret->memory = r.copying;
	return NVML_SUCCESS;
}

/* Video engines are not simulated: idle. */
static nvmlReturn_t idle_engine(nvmlDevice_t device, unsigned int *utilization,
				unsigned int *period_us)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, utilization, &d);

	if (status != NVML_SUCCESS)
		return status;
	if (!period_us)
		return NVML_ERROR_INVALID_ARGUMENT;
	*utilization = 0;
	*period_us = VIDEO_PERIOD_US;
	return NVML_SUCCESS;
}

#define IDLE_ENGINE(sym)                                                                           \
	nvmlReturn_t sym(nvmlDevice_t device, unsigned int *utilization, unsigned int *period_us)  \
	{                                                                                          \
		return idle_engine(device, utilization, period_us);                                \
	}

IDLE_ENGINE(nvmlDeviceGetEncoderUtilization)
IDLE_ENGINE(nvmlDeviceGetDecoderUtilization)
IDLE_ENGINE(nvmlDeviceGetJpgUtilization)
IDLE_ENGINE(nvmlDeviceGetOfaUtilization)

nvmlReturn_t nvmlDeviceGetEncoderCapacity(nvmlDevice_t device, nvmlEncoderType_t type,
					  unsigned int *capacity)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, capacity, &d);

	if (status == NVML_SUCCESS)
		*capacity = 0;
	return status;
}

nvmlReturn_t nvmlDeviceGetEncoderStats(nvmlDevice_t device, unsigned int *sessions,
				       unsigned int *fps, unsigned int *latency)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, sessions, &d);

	if (status != NVML_SUCCESS)
		return status;
	if (!fps || !latency)
		return NVML_ERROR_INVALID_ARGUMENT;
	*sessions = *fps = *latency = 0;
	return NVML_SUCCESS;
}

ANSWER(nvmlDeviceGetFBCStats, nvmlFBCStats_t, ((nvmlFBCStats_t){0}))
ANSWER(nvmlDeviceGetPowerUsage, unsigned int, sim_nvml_power_mw(&d, rates(&d).busy))
ANSWER(nvmlDeviceGetTotalEnergyConsumption, unsigned long long, energy_mj(&d))
ANSWER(nvmlDeviceGetPerformanceState, nvmlPstates_t, NVML_PSTATE_0)
ANSWER(nvmlDeviceGetPowerState, nvmlPstates_t, NVML_PSTATE_0)
ANSWER(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long,
       rates(&d).busy ? nvmlClocksEventReasonNone : nvmlClocksEventReasonGpuIdle)
ANSWER(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long,
       rates(&d).busy ? nvmlClocksEventReasonNone : nvmlClocksEventReasonGpuIdle)

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *mhz)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, mhz, &d);

	if (status != NVML_SUCCESS)
		return status;
	if ((unsigned int)type >= NVML_CLOCK_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (type == NVML_CLOCK_MEM)
		*mhz = d.profile->memory_clock_khz / 1000;
	else
		*mhz = rates(&d).busy ? d.profile->clock_khz / 1000 : IDLE_MHZ;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetClock(nvmlDevice_t device, nvmlClockType_t type, nvmlClockId_t id,
				unsigned int *mhz)
{
	if ((unsigned int)id >= NVML_CLOCK_ID_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	return id == NVML_CLOCK_ID_CURRENT ? nvmlDeviceGetClockInfo(device, type, mhz)
					   : nvmlDeviceGetMaxClockInfo(device, type, mhz);
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor,
				      unsigned int *celsius)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, celsius, &d);

	if (status != NVML_SUCCESS)
		return status;
	if (sensor != NVML_TEMPERATURE_GPU)
		return NVML_ERROR_INVALID_ARGUMENT;
	*celsius = sim_nvml_celsius(rates(&d).busy);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_v1_t *temperature)
{
	unsigned int celsius;
	nvmlReturn_t status;

	if (!temperature)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (temperature->version != NVML_STRUCT_VERSION(Temperature, 1))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	status = nvmlDeviceGetTemperature(device, temperature->sensorType, &celsius);
	if (status == NVML_SUCCESS)
		temperature->temperature = (int)celsius;
	return status;
}

nvmlReturn_t nvmlDeviceGetMarginTemperature(nvmlDevice_t device, nvmlMarginTemperature_v1_t *margin)
{
	unsigned int now, slowdown;
	nvmlReturn_t status;

	if (!margin)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (margin->version != NVML_STRUCT_VERSION(MarginTemperature, 1))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	status = nvmlDeviceGetTemperature(device, NVML_TEMPERATURE_GPU, &now);
	if (status == NVML_SUCCESS)
		status = nvmlDeviceGetTemperatureThreshold(
			device, NVML_TEMPERATURE_THRESHOLD_SLOWDOWN, &slowdown);
	if (status == NVML_SUCCESS)
		margin->marginTemperature = (int)slowdown - (int)now;
	return status;
}

nvmlReturn_t nvmlDeviceGetThermalSettings(nvmlDevice_t device, unsigned int sensor,
					  nvmlGpuThermalSettings_t *settings)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, settings, &d);

	if (status != NVML_SUCCESS)
		return status;
	memset(settings, 0, sizeof(*settings));
	settings->count = 1;
	settings->sensor[0].controller = 1;
	settings->sensor[0].target = 1;
	settings->sensor[0].currentTemp = (int)sim_nvml_celsius(rates(&d).busy);
	settings->sensor[0].defaultMaxTemp = 127;
	return NVML_SUCCESS;
}

/* Boards for servers have none: the chassis blows. */
nvmlReturn_t nvmlDeviceGetFanSpeed_v2(nvmlDevice_t device, unsigned int fan, unsigned int *percents)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, percents, &d);
	unsigned int fans = 0;

	if (status != NVML_SUCCESS)
		return status;
	status = nvmlDeviceGetNumFans(device, &fans);
	if (status != NVML_SUCCESS || !fans)
		return NVML_ERROR_NOT_SUPPORTED;
	if (fan >= fans)
		return NVML_ERROR_INVALID_ARGUMENT;
	*percents = rates(&d).busy * 7 / 10;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetFanSpeed(nvmlDevice_t device, unsigned int *percents)
{
	return nvmlDeviceGetFanSpeed_v2(device, 0, percents);
}

nvmlReturn_t nvmlDeviceGetTargetFanSpeed(nvmlDevice_t device, unsigned int fan,
					 unsigned int *percents)
{
	return nvmlDeviceGetFanSpeed_v2(device, fan, percents);
}

nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, nvmlPcieUtilCounter_t counter,
					 unsigned int *kib_per_s)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, kib_per_s, &d);
	struct sim_nvml_rates r;

	if (status != NVML_SUCCESS)
		return status;
	if ((unsigned int)counter >= NVML_PCIE_UTIL_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	sim_nvml_rates(&d, &r);
	*kib_per_s = counter == NVML_PCIE_UTIL_TX_BYTES ? r.tx_kib_s : r.rx_kib_s;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDynamicPstatesInfo(nvmlDevice_t device, nvmlGpuDynamicPstatesInfo_t *info)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, info, &d);
	struct sim_nvml_rates r;

	if (status != NVML_SUCCESS)
		return status;
	sim_nvml_rates(&d, &r);
	memset(info, 0, sizeof(*info));
	for (int i = 0; i < 4; i++)
		info->utilization[i].bIsPresent = 1;
	info->utilization[0].percentage = r.busy;
	info->utilization[1].percentage = r.copying;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetViolationStatus(nvmlDevice_t device, nvmlPerfPolicyType_t policy,
					  nvmlViolationTime_t *violation)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, violation, &d);

	if (status != NVML_SUCCESS)
		return status;
	if ((unsigned int)policy >= NVML_PERF_POLICY_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	*violation = (nvmlViolationTime_t){.referenceTime = sim_nvml_wall_us()};
	return NVML_SUCCESS;
}

static bool sample_of(const struct sim_nvml_device *d, nvmlSamplingType_t type,
		      const struct sim_nvml_rates *r, nvmlValue_t *value)
{
	switch (type) {
	case NVML_TOTAL_POWER_SAMPLES:
		value->uiVal = sim_nvml_power_mw(d, r->busy);
		return true;
	case NVML_GPU_UTILIZATION_SAMPLES:
		value->uiVal = r->busy;
		return true;
	case NVML_MEMORY_UTILIZATION_SAMPLES:
		value->uiVal = r->copying;
		return true;
	case NVML_ENC_UTILIZATION_SAMPLES:
	case NVML_DEC_UTILIZATION_SAMPLES:
	case NVML_JPG_UTILIZATION_SAMPLES:
	case NVML_OFA_UTILIZATION_SAMPLES:
		value->uiVal = 0;
		return true;
	case NVML_PROCESSOR_CLK_SAMPLES:
		value->uiVal = r->busy ? d->profile->clock_khz / 1000 : IDLE_MHZ;
		return true;
	case NVML_MEMORY_CLK_SAMPLES:
		value->uiVal = d->profile->memory_clock_khz / 1000;
		return true;
	default:
		return false;
	}
}

nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, nvmlSamplingType_t type,
				  unsigned long long since, nvmlValueType_t *value_type,
				  unsigned int *count, nvmlSample_t *samples)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, count, &d);
	struct sim_nvml_rates r = {0};
	const struct sim_look *base, *now;
	unsigned int n = 0;
	nvmlValue_t value;

	if (status != NVML_SUCCESS)
		return status;
	if ((unsigned int)type >= NVML_SAMPLINGTYPE_COUNT || !value_type)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (!sample_of(&d, type, &r, &value))
		return NVML_ERROR_NOT_SUPPORTED;
	*value_type = NVML_VALUE_TYPE_UNSIGNED_INT;
	if (!samples) {
		*count = SIM_LOOKS;
		return NVML_SUCCESS;
	}
	sim_look_lock();
	sim_look_pair(&d, since, &base, &now);
	for (uint32_t i = SIM_LOOKS - 1; i >= 1; i--) { /* oldest first */
		base = sim_look_before(d.index, i + 1);
		now = sim_look_before(d.index, i);
		if (!base || !now || now->time_us <= since || now->now_ns <= base->now_ns ||
		    n >= *count)
			continue;
		sim_look_rates(&d, base, now, &r);
		sample_of(&d, type, &r, &value);
		samples[n++] = (nvmlSample_t){.timeStamp = now->time_us, .sampleValue = value};
	}
	sim_look_unlock();
	*count = n;
	return n ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

/* MB/s of one link, one way. Source: `nvidia-smi nvlink -s` of A100, H100 and B200. */
static uint32_t link_mbps(const struct sim_nvml_device *d)
{
	if (!d->profile->nvlinks)
		return 0;
	return d->profile->cc_major == 8 ? 25781 : d->profile->cc_major == 9 ? 26562 : 53125;
}

/* Return: NVML_SUCCESS with value and its type set, or NVML_ERROR_NOT_SUPPORTED. */
static nvmlReturn_t field_of(const struct sim_nvml_device *d, nvmlFieldValue_t *field)
{
	const unsigned int id = field->fieldId;
	uint32_t full_mw = d->profile->power_w * 1000;

	field->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
	field->value.ullVal = 0;
	if (id >= NVML_FI_DEV_ECC_CURRENT && id <= NVML_FI_DEV_RETIRED_PENDING) {
		if (!d->profile->ecc)
			return NVML_ERROR_NOT_SUPPORTED;
		if (id <= NVML_FI_DEV_ECC_PENDING)
			field->value.uiVal = NVML_FEATURE_ENABLED;
		else
			field->valueType = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
		return NVML_SUCCESS;
	}
	if (id >= NVML_FI_DEV_PERF_POLICY_POWER &&
	    id <= NVML_FI_DEV_PERF_POLICY_TOTAL_BASE_CLOCKS) {
		field->valueType = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
		return NVML_SUCCESS;
	}
	if (id >= NVML_FI_DEV_NVLINK_SPEED_MBPS_L0 && id <= NVML_FI_DEV_NVLINK_SPEED_MBPS_L5) {
		if (id - NVML_FI_DEV_NVLINK_SPEED_MBPS_L0 < d->profile->nvlinks)
			field->value.uiVal = link_mbps(d);
		return NVML_SUCCESS;
	}
	if (id >= NVML_FI_DEV_NVLINK_SPEED_MBPS_L6 && id <= NVML_FI_DEV_NVLINK_SPEED_MBPS_L11) {
		if (id - NVML_FI_DEV_NVLINK_SPEED_MBPS_L6 + 6 < d->profile->nvlinks)
			field->value.uiVal = link_mbps(d);
		return NVML_SUCCESS;
	}
	if (id >= NVML_FI_DEV_REMAPPED_COR && id <= NVML_FI_DEV_REMAPPED_FAILURE)
		return d->profile->ecc ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;

	switch (id) {
	case NVML_FI_DEV_MEMORY_TEMP:
		field->value.uiVal = sim_nvml_celsius(rates(d).busy) + 8;
		break;
	case NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION:
	case NVML_FI_DEV_ENERGY:
		field->valueType = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
		field->value.ullVal = energy_mj(d);
		break;
	case NVML_FI_DEV_NVLINK_SPEED_MBPS_COMMON:
		field->value.uiVal = link_mbps(d);
		break;
	case NVML_FI_DEV_NVLINK_LINK_COUNT:
		field->value.uiVal = d->profile->nvlinks;
		break;
	case NVML_FI_DEV_PCIE_REPLAY_COUNTER:
	case NVML_FI_DEV_PCIE_REPLAY_ROLLOVER_COUNTER:
	case NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED:
		break;
	case NVML_FI_DEV_POWER_AVERAGE:
	case NVML_FI_DEV_POWER_INSTANT:
		field->value.uiVal = sim_nvml_power_mw(d, rates(d).busy);
		break;
	case NVML_FI_DEV_POWER_MIN_LIMIT:
		field->value.uiVal = full_mw / 3;
		break;
	case NVML_FI_DEV_POWER_MAX_LIMIT:
	case NVML_FI_DEV_POWER_DEFAULT_LIMIT:
	case NVML_FI_DEV_POWER_CURRENT_LIMIT:
	case NVML_FI_DEV_POWER_REQUESTED_LIMIT:
		field->value.uiVal = full_mw;
		break;
	default:
		return NVML_ERROR_NOT_SUPPORTED;
	}
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, values, &d);

	if (status != NVML_SUCCESS)
		return status;
	if (count < 0)
		return NVML_ERROR_INVALID_ARGUMENT;
	for (int i = 0; i < count; i++) {
		uint64_t start_ns = aq_now_ns();

		values[i].nvmlReturn = field_of(&d, &values[i]);
		values[i].timestamp = (long long)sim_nvml_wall_us();
		values[i].latencyUsec = (long long)((aq_now_ns() - start_ns) / AQ_NS_PER_US);
	}
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceClearFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values)
{
	struct sim_nvml_device d;

	return sim_nvml_look(device, values, &d);
}
