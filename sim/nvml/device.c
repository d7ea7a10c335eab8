/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated NVML: what does not change about a device. Identity, board, limits, topology. */
#include "sim/nvml/state.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/name.h"

#include "base/banned.h"

static bool is_geforce(const struct sim_nvml_device *d)
{
	return strstr(d->profile->name, "GeForce") != NULL;
}

static uint32_t architecture(const struct sim_nvml_device *d)
{
	static const struct {
		const char *name;
		uint32_t code;
	} known[] = {
		{"ampere", NVML_DEVICE_ARCH_AMPERE},
		{"ada", NVML_DEVICE_ARCH_ADA},
		{"hopper", NVML_DEVICE_ARCH_HOPPER},
		{"blackwell", NVML_DEVICE_ARCH_BLACKWELL},
	};

	for (size_t i = 0; i < AQ_ARRAY_SIZE(known); i++) {
		if (!strcasecmp(d->profile->architecture, known[i].name))
			return known[i].code;
	}
	return NVML_DEVICE_ARCH_UNKNOWN;
}

/* 13 digits, as boards have them, out of the UUID. */
static void serial_of(const struct sim_nvml_device *d, char text[14])
{
	uint64_t number = 0;

	for (int i = 0; i < 8; i++)
		number = number << 8 | d->shared->uuid[i];
	snprintf(text, 14, "9%012llu", (unsigned long long)(number % 1000000000000ull));
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, name, &d);

	return status == NVML_SUCCESS ? sim_nvml_text(name, length, d.profile->name) : status;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, uuid, &d);
	char text[AQ_UUID_TEXT];

	if (status != NVML_SUCCESS)
		return status;
	return sim_nvml_text(uuid, length, aq_uuid_format(d.shared->uuid, text));
}

nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t device, char *serial, unsigned int length)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, serial, &d);
	char text[14];

	if (status != NVML_SUCCESS)
		return status;
	if (is_geforce(&d))
		return NVML_ERROR_NOT_SUPPORTED;
	serial_of(&d, text);
	return sim_nvml_text(serial, length, text);
}

nvmlReturn_t nvmlDeviceGetBoardPartNumber(nvmlDevice_t device, char *part, unsigned int length)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, part, &d);

	return status == NVML_SUCCESS ? sim_nvml_text(part, length, "SIMULATED") : status;
}

nvmlReturn_t nvmlDeviceGetVbiosVersion(nvmlDevice_t device, char *version, unsigned int length)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, version, &d);

	return status == NVML_SUCCESS ? sim_nvml_text(version, length, "00.00.00.00.00") : status;
}

nvmlReturn_t nvmlDeviceGetInforomImageVersion(nvmlDevice_t device, char *version,
					      unsigned int length)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, version, &d);

	return status == NVML_SUCCESS ? sim_nvml_text(version, length, "SIM0.0000.00.00") : status;
}

nvmlReturn_t nvmlDeviceGetGspFirmwareVersion(nvmlDevice_t device, char *version)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, version, &d);

	if (status != NVML_SUCCESS)
		return status;
	return sim_nvml_text(version, NVML_GSP_FIRMWARE_VERSION_BUF_SIZE, SIM_DRIVER_TEXT);
}

nvmlReturn_t nvmlDeviceGetGspFirmwareMode(nvmlDevice_t device, unsigned int *enabled,
					  unsigned int *by_default)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, enabled, &d);

	if (status != NVML_SUCCESS)
		return status;
	*enabled = 1;
	if (by_default)
		*by_default = 1;
	return NVML_SUCCESS;
}

/* The first two forms end where their structures did; see nvml_abi.h. */
static nvmlReturn_t pci_info(nvmlDevice_t device, nvmlPciInfo_t *pci, size_t size)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, pci, &d);
	nvmlPciInfo_t full = {0};

	if (status != NVML_SUCCESS)
		return status;
	full.bus = d.shared->pci_bus;
	full.pciDeviceId = d.profile->pci_device_id;
	full.pciSubSystemId = d.profile->pci_subsystem_id;
	snprintf(full.busIdLegacy, sizeof(full.busIdLegacy), "%04X:%02X:%02X.0", 0u,
		 full.bus & 0xffu, 0u);
	snprintf(full.busId, sizeof(full.busId), "%08X:%02X:%02X.0", 0u, full.bus & 0xffu, 0u);
	memcpy(pci, &full, size);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
	return pci_info(device, pci, offsetof(nvmlPciInfo_t, pciSubSystemId));
}

nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
	return pci_info(device, pci, offsetof(nvmlPciInfo_t, busId));
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
	return pci_info(device, pci, sizeof(*pci));
}

nvmlReturn_t nvmlDeviceGetPciInfoExt(nvmlDevice_t device, nvmlPciInfoExt_v1_t *pci)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, pci, &d);
	const unsigned int version = NVML_STRUCT_VERSION(PciInfoExt, 1);

	if (status != NVML_SUCCESS)
		return status;
	if (pci->version != version)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	*pci = (nvmlPciInfoExt_v1_t){
		.version = version,
		.bus = d.shared->pci_bus,
		.pciDeviceId = d.profile->pci_device_id,
		.pciSubSystemId = d.profile->pci_subsystem_id,
		.baseClass = 3, /* display */
		.subClass = 2,	/* 3D controller. Source: PCI Code and ID Assignment */
	};
	snprintf(pci->busId, sizeof(pci->busId), "%08X:%02X:%02X.0", 0u, pci->bus & 0xffu, 0u);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, major, &d);

	if (status != NVML_SUCCESS)
		return status;
	if (!minor)
		return NVML_ERROR_INVALID_ARGUMENT;
	*major = (int)d.profile->cc_major;
	*minor = (int)d.profile->cc_minor;
	return NVML_SUCCESS;
}

ANSWER(nvmlDeviceGetBrand, nvmlBrandType_t, is_geforce(&d) ? NVML_BRAND_GEFORCE : NVML_BRAND_NVIDIA)
ANSWER(nvmlDeviceGetIndex, unsigned int, d.index)
ANSWER(nvmlDeviceGetMinorNumber, unsigned int, d.index)
ANSWER(nvmlDeviceGetModuleId, unsigned int, d.index + 1)
ANSWER(nvmlDeviceGetBoardId, unsigned int, d.shared->pci_bus << 8)
ANSWER(nvmlDeviceGetMultiGpuBoard, unsigned int, 0)
ANSWER(nvmlDeviceGetArchitecture, nvmlDeviceArchitecture_t, architecture(&d))
ANSWER(nvmlDeviceGetNumGpuCores, unsigned int, d.profile->sm_count *d.profile->cores_per_sm)
ANSWER(nvmlDeviceGetMemoryBusWidth, unsigned int, d.profile->bus_bits)
ANSWER(nvmlDeviceGetBusType, nvmlBusType_t, NVML_BUS_TYPE_PCIE)
ANSWER(nvmlDeviceGetDisplayMode, nvmlEnableState_t, NVML_FEATURE_DISABLED)
ANSWER(nvmlDeviceGetDisplayActive, nvmlEnableState_t, NVML_FEATURE_DISABLED)
ANSWER(nvmlDeviceGetPersistenceMode, nvmlEnableState_t, NVML_FEATURE_ENABLED)
ANSWER(nvmlDeviceGetComputeMode, nvmlComputeMode_t, NVML_COMPUTEMODE_DEFAULT)
ANSWER(nvmlDeviceGetVirtualizationMode, nvmlGpuVirtualizationMode_t,
       NVML_GPU_VIRTUALIZATION_MODE_NONE)
ANSWER(nvmlDeviceIsMigDeviceHandle, unsigned int, 0)
ANSWER(nvmlDeviceGetMaxMigDeviceCount, unsigned int, 0)
ANSWER(nvmlDeviceGetMaxPcieLinkGeneration, unsigned int, d.profile->pcie_gen)
ANSWER(nvmlDeviceGetGpuMaxPcieLinkGeneration, unsigned int, d.profile->pcie_gen)
ANSWER(nvmlDeviceGetCurrPcieLinkGeneration, unsigned int, d.profile->pcie_gen)
ANSWER(nvmlDeviceGetMaxPcieLinkWidth, unsigned int, d.profile->pcie_width)
ANSWER(nvmlDeviceGetCurrPcieLinkWidth, unsigned int, d.profile->pcie_width)
/* Code 1 is 2.5 GT/s of generation 1, and so on; the speed itself in MT/s. */
ANSWER(nvmlDeviceGetPcieLinkMaxSpeed, unsigned int, d.profile->pcie_gen)
ANSWER(nvmlDeviceGetPcieSpeed, unsigned int, 2000u << (d.profile->pcie_gen - 1))
ANSWER(nvmlDeviceGetPcieReplayCounter, unsigned int, 0)
ANSWER(nvmlDeviceGetAdaptiveClockInfoStatus, unsigned int, 0)
ANSWER(nvmlDeviceGetPowerSource, nvmlPowerSource_t, NVML_POWER_SOURCE_AC)
ANSWER(nvmlDeviceGetPowerManagementMode, nvmlEnableState_t, NVML_FEATURE_ENABLED)
ANSWER(nvmlDeviceGetPowerManagementLimit, unsigned int, d.profile->power_w * 1000)
ANSWER(nvmlDeviceGetPowerManagementDefaultLimit, unsigned int, d.profile->power_w * 1000)
ANSWER(nvmlDeviceGetEnforcedPowerLimit, unsigned int, d.profile->power_w * 1000)
ANSWER(nvmlDeviceGetNumFans, unsigned int, is_geforce(&d) ? 2 : 0)
ANSWER(nvmlDeviceGetNumaNodeId, unsigned int, 0)
ANSWER(nvmlDeviceGetDefaultEccMode, nvmlEnableState_t,
       d.profile->ecc ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED)
ANSWER(nvmlDeviceGetRetiredPagesPendingStatus, nvmlEnableState_t, NVML_FEATURE_DISABLED)
ANSWER(nvmlDeviceGetSupportedClocksEventReasons, unsigned long long, nvmlClocksEventReasonGpuIdle)
ANSWER(nvmlDeviceGetSupportedClocksThrottleReasons, unsigned long long,
       nvmlClocksEventReasonGpuIdle)
ANSWER(nvmlDeviceGetGpuFabricInfo, nvmlGpuFabricInfo_t,
       ((nvmlGpuFabricInfo_t){.state = NVML_GPU_FABRIC_STATE_NOT_SUPPORTED}))
ANSWER(nvmlDeviceGetC2cModeInfoV, nvmlC2cModeInfo_v1_t, ((nvmlC2cModeInfo_v1_t){0}))
ANSWER(nvmlDeviceGetClkMonStatus, nvmlClkMonStatus_t, ((nvmlClkMonStatus_t){0}))
ANSWER(nvmlDeviceGetBridgeChipInfo, nvmlBridgeChipHierarchy_t, ((nvmlBridgeChipHierarchy_t){0}))
ANSWER(nvmlDeviceGetGridLicensableFeatures_v4, nvmlGridLicensableFeatures_t,
       ((nvmlGridLicensableFeatures_t){0}))
/* Most rows can be remapped in all banks. Source: guess, the count of an A100's 640 banks. */
ANSWER(nvmlDeviceGetRowRemapperHistogram, nvmlRowRemapperHistogramValues_t,
       ((nvmlRowRemapperHistogramValues_t){.max = 640}))

nvmlReturn_t nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t device, nvmlGpuFabricInfo_v3_t *info)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, info, &d);
	unsigned int version;

	if (status != NVML_SUCCESS)
		return status;
	version = info->version;
	if (version == NVML_STRUCT_VERSION(GpuFabricInfo, 2))
		memset(info, 0, sizeof(nvmlGpuFabricInfo_v2_t));
	else if (version == NVML_STRUCT_VERSION(GpuFabricInfo, 3))
		memset(info, 0, sizeof(nvmlGpuFabricInfo_v3_t));
	else
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	info->version = version;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, attributes, &d);

	if (status != NVML_SUCCESS)
		return status;
	*attributes = (nvmlDeviceAttributes_t){
		.multiprocessorCount = d.profile->sm_count,
		.sharedCopyEngineCount = d.profile->copy_engines,
		.memorySizeMB = d.shared->total_bytes >> 20,
	};
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAttributes(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes)
{
	return nvmlDeviceGetAttributes_v2(device, attributes);
}

/* Not cut into MIG instances, whether the card could be or not; other cards know no such mode. */
nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, current, &d);

	if (status != NVML_SUCCESS)
		return status;
	if (architecture(&d) == NVML_DEVICE_ARCH_ADA)
		return NVML_ERROR_NOT_SUPPORTED;
	if (!pending)
		return NVML_ERROR_INVALID_ARGUMENT;
	*current = *pending = 0;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index,
						 nvmlDevice_t *instance)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, instance, &d);

	return status == NVML_SUCCESS ? NVML_ERROR_NOT_FOUND : status;
}

nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t instance,
							  nvmlDevice_t *device)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(instance, device, &d);

	return status == NVML_SUCCESS ? NVML_ERROR_INVALID_ARGUMENT : status;
}

nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, nvmlEnableState_t *current,
				  nvmlEnableState_t *pending)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, current, &d);

	if (status != NVML_SUCCESS)
		return status;
	if (!pending)
		return NVML_ERROR_INVALID_ARGUMENT;
	*current = *pending = d.profile->ecc ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
	return NVML_SUCCESS;
}

/* Simulated memory has no errors. */
static nvmlReturn_t no_errors(nvmlDevice_t device, void *ret, size_t size)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, ret, &d);

	if (status != NVML_SUCCESS)
		return status;
	if (!d.profile->ecc)
		return NVML_ERROR_NOT_SUPPORTED;
	memset(ret, 0, size);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type,
					 nvmlEccCounterType_t counter, unsigned long long *count)
{
	return no_errors(device, count, sizeof(*count));
}

nvmlReturn_t nvmlDeviceGetDetailedEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type,
					    nvmlEccCounterType_t counter,
					    nvmlEccErrorCounts_t *counts)
{
	return no_errors(device, counts, sizeof(*counts));
}

nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, nvmlMemoryErrorType_t type,
					     nvmlEccCounterType_t counter,
					     nvmlMemoryLocation_t location,
					     unsigned long long *count)
{
	return no_errors(device, count, sizeof(*count));
}

nvmlReturn_t nvmlDeviceGetSramEccErrorStatus(nvmlDevice_t device,
					     nvmlEccSramErrorStatus_v1_t *errors)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, errors, &d);

	if (status != NVML_SUCCESS)
		return status;
	if (errors->version != NVML_STRUCT_VERSION(EccSramErrorStatus, 1))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	status = no_errors(device, errors, sizeof(*errors));
	errors->version = NVML_STRUCT_VERSION(EccSramErrorStatus, 1);
	return status;
}

nvmlReturn_t nvmlDeviceGetRetiredPages_v2(nvmlDevice_t device, nvmlPageRetirementCause_t cause,
					  unsigned int *count, unsigned long long *addresses,
					  unsigned long long *times)
{
	return no_errors(device, count, sizeof(*count));
}

nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, nvmlPageRetirementCause_t cause,
				       unsigned int *count, unsigned long long *addresses)
{
	return no_errors(device, count, sizeof(*count));
}

nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned int *corrected,
				       unsigned int *uncorrected, unsigned int *pending,
				       unsigned int *failed)
{
	if (!uncorrected || !pending || !failed)
		return NVML_ERROR_INVALID_ARGUMENT;
	*uncorrected = *pending = *failed = 0;
	return no_errors(device, corrected, sizeof(*corrected));
}

nvmlReturn_t nvmlDeviceGetAPIRestriction(nvmlDevice_t device, nvmlRestrictedAPI_t api,
					 nvmlEnableState_t *restricted)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, restricted, &d);

	if (status != NVML_SUCCESS)
		return status;
	if ((unsigned int)api >= NVML_RESTRICTED_API_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	*restricted = NVML_FEATURE_ENABLED;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device, unsigned int *min,
							  unsigned int *max)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, min, &d);

	if (status != NVML_SUCCESS)
		return status;
	if (!max)
		return NVML_ERROR_INVALID_ARGUMENT;
	/* Source: guess; real boards allow between a quarter and a half at the least. */
	*min = d.profile->power_w * 1000 / 3;
	*max = d.profile->power_w * 1000;
	return NVML_SUCCESS;
}

/* Source: NVML's thresholds of an H100: 90 shuts down, 87 slows down, 95 and 85 are the maxima. */
nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device,
					       nvmlTemperatureThresholds_t threshold,
					       unsigned int *celsius)
{
	static const unsigned int values[] = {
		[NVML_TEMPERATURE_THRESHOLD_SHUTDOWN] = 90,
		[NVML_TEMPERATURE_THRESHOLD_SLOWDOWN] = 87,
		[NVML_TEMPERATURE_THRESHOLD_MEM_MAX] = 95,
		[NVML_TEMPERATURE_THRESHOLD_GPU_MAX] = 85,
	};
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, celsius, &d);

	if (status != NVML_SUCCESS)
		return status;
	if ((unsigned int)threshold >= NVML_TEMPERATURE_THRESHOLD_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	if ((size_t)threshold >= AQ_ARRAY_SIZE(values))
		return NVML_ERROR_NOT_SUPPORTED;
	*celsius = values[threshold];
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *mhz)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, mhz, &d);

	if (status != NVML_SUCCESS)
		return status;
	if ((unsigned int)type >= NVML_CLOCK_COUNT)
		return NVML_ERROR_INVALID_ARGUMENT;
	*mhz = (type == NVML_CLOCK_MEM ? d.profile->memory_clock_khz : d.profile->clock_khz) / 1000;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetApplicationsClock(nvmlDevice_t device, nvmlClockType_t type,
					    unsigned int *mhz)
{
	return nvmlDeviceGetMaxClockInfo(device, type, mhz);
}

nvmlReturn_t nvmlDeviceGetDefaultApplicationsClock(nvmlDevice_t device, nvmlClockType_t type,
						   unsigned int *mhz)
{
	return nvmlDeviceGetMaxClockInfo(device, type, mhz);
}

nvmlReturn_t nvmlDeviceGetMaxCustomerBoostClock(nvmlDevice_t device, nvmlClockType_t type,
						unsigned int *mhz)
{
	return nvmlDeviceGetMaxClockInfo(device, type, mhz);
}

/* A list of one. */
static nvmlReturn_t one_clock(nvmlDevice_t device, nvmlClockType_t type, unsigned int *count,
			      unsigned int *mhz)
{
	if (!count)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (!mhz || !*count) {
		*count = 1;
		return NVML_ERROR_INSUFFICIENT_SIZE;
	}
	*count = 1;
	return nvmlDeviceGetMaxClockInfo(device, type, mhz);
}

nvmlReturn_t nvmlDeviceGetSupportedMemoryClocks(nvmlDevice_t device, unsigned int *count,
						unsigned int *mhz)
{
	return one_clock(device, NVML_CLOCK_MEM, count, mhz);
}

nvmlReturn_t nvmlDeviceGetSupportedGraphicsClocks(nvmlDevice_t device, unsigned int memory_mhz,
						  unsigned int *count, unsigned int *mhz)
{
	return one_clock(device, NVML_CLOCK_GRAPHICS, count, mhz);
}

nvmlReturn_t nvmlDeviceGetSupportedPerformanceStates(nvmlDevice_t device, nvmlPstates_t *states,
						     unsigned int bytes)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, states, &d);

	if (status != NVML_SUCCESS)
		return status;
	if (bytes < sizeof(*states))
		return NVML_ERROR_INSUFFICIENT_SIZE;
	for (unsigned int i = 0; i < bytes / sizeof(*states); i++)
		states[i] = i ? NVML_PSTATE_UNKNOWN : NVML_PSTATE_0;
	return NVML_SUCCESS;
}

/*
 * Devices among each other and in the machine.
 */

nvmlReturn_t nvmlDeviceOnSameBoard(nvmlDevice_t a, nvmlDevice_t b, int *same)
{
	struct sim_nvml_device d, e;
	nvmlReturn_t status = sim_nvml_look(a, same, &d);

	if (status == NVML_SUCCESS)
		status = sim_nvml_look(b, same, &e);
	if (status == NVML_SUCCESS)
		*same = d.index == e.index;
	return status;
}

nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t a, nvmlDevice_t b,
						 nvmlGpuTopologyLevel_t *level)
{
	struct sim_nvml_device d, e;
	nvmlReturn_t status = sim_nvml_look(a, level, &d);

	if (status == NVML_SUCCESS)
		status = sim_nvml_look(b, level, &e);
	if (status == NVML_SUCCESS)
		*level = d.index == e.index ? NVML_TOPOLOGY_INTERNAL : NVML_TOPOLOGY_NODE;
	return status;
}

nvmlReturn_t nvmlDeviceGetTopologyNearestGpus(nvmlDevice_t device, nvmlGpuTopologyLevel_t level,
					      unsigned int *count, nvmlDevice_t *devices)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, count, &d);
	uint32_t n = 0;

	if (status != NVML_SUCCESS)
		return status;
	for (uint32_t i = 0; level == NVML_TOPOLOGY_NODE && i < sim_machine_n_devices(d.machine);
	     i++) {
		if (i == d.index)
			continue;
		if (devices && n < *count)
			devices[n] = sim_nvml_handle(i);
		n++;
	}
	if (!devices || n < *count)
		*count = n;
	return NVML_SUCCESS;
}

/* Over NVLink where both have it, over the bus otherwise; as the simulated driver's peer access. */
nvmlReturn_t nvmlDeviceGetP2PStatus(nvmlDevice_t a, nvmlDevice_t b, nvmlGpuP2PCapsIndex_t cap,
				    nvmlGpuP2PStatus_t *p2p)
{
	struct sim_nvml_device d, e;
	nvmlReturn_t status = sim_nvml_look(a, p2p, &d);
	bool linked;

	if (status == NVML_SUCCESS)
		status = sim_nvml_look(b, p2p, &e);
	if (status != NVML_SUCCESS)
		return status;
	linked = d.profile->nvlinks && e.profile->nvlinks;
	switch (cap) {
	case NVML_P2P_CAPS_INDEX_READ:
	case NVML_P2P_CAPS_INDEX_WRITE:
		*p2p = NVML_P2P_STATUS_OK;
		break;
	case NVML_P2P_CAPS_INDEX_NVLINK:
	case NVML_P2P_CAPS_INDEX_ATOMICS:
		*p2p = linked ? NVML_P2P_STATUS_OK : NVML_P2P_STATUS_NOT_SUPPORTED;
		break;
	case NVML_P2P_CAPS_INDEX_PCI:
		*p2p = linked ? NVML_P2P_STATUS_NOT_SUPPORTED : NVML_P2P_STATUS_OK;
		break;
	default:
		return NVML_ERROR_INVALID_ARGUMENT;
	}
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned int link,
				      nvmlEnableState_t *active)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, active, &d);

	if (status != NVML_SUCCESS)
		return status;
	if (!d.profile->nvlinks)
		return NVML_ERROR_NOT_SUPPORTED;
	if (link >= d.profile->nvlinks)
		return NVML_ERROR_INVALID_ARGUMENT;
	*active = NVML_FEATURE_ENABLED;
	return NVML_SUCCESS;
}

/* All CPUs that this process may use, and the one memory node that is surely there. */
nvmlReturn_t nvmlDeviceGetCpuAffinity(nvmlDevice_t device, unsigned int size, unsigned long *cpus)
{
	const unsigned int bits = 8 * sizeof(*cpus);
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, cpus, &d);
	cpu_set_t set;

	if (status != NVML_SUCCESS)
		return status;
	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return NVML_ERROR_UNKNOWN;
	memset(cpus, 0, size * sizeof(*cpus));
	for (unsigned int i = 0; i < CPU_SETSIZE && i / bits < size; i++) {
		if (CPU_ISSET(i, &set))
			cpus[i / bits] |= 1ul << (i % bits);
	}
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCpuAffinityWithinScope(nvmlDevice_t device, unsigned int size,
						 unsigned long *cpus, nvmlAffinityScope_t scope)
{
	if (scope > NVML_AFFINITY_SCOPE_SOCKET)
		return NVML_ERROR_INVALID_ARGUMENT;
	return nvmlDeviceGetCpuAffinity(device, size, cpus);
}

nvmlReturn_t nvmlDeviceGetMemoryAffinity(nvmlDevice_t device, unsigned int size,
					 unsigned long *nodes, nvmlAffinityScope_t scope)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, nodes, &d);

	if (status != NVML_SUCCESS)
		return status;
	if (!size || scope > NVML_AFFINITY_SCOPE_SOCKET)
		return NVML_ERROR_INVALID_ARGUMENT;
	memset(nodes, 0, size * sizeof(*nodes));
	nodes[0] = 1;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceSetCpuAffinity(nvmlDevice_t device)
{
	struct sim_nvml_device d;

	return sim_nvml_look(device, device, &d);
}

nvmlReturn_t nvmlDeviceClearCpuAffinity(nvmlDevice_t device)
{
	return nvmlDeviceSetCpuAffinity(device);
}
