/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hooks that tell memory: total is the fraction's limit, used what the fraction uses, free what
 * it could get now, the same three as cuMemGetInfo() and cuDeviceTotalMem() give.
 * For what happens when we fail see face.h.
 */
#include "guard/nvml/face.h"

#include <errno.h>
#include <string.h>

#include "base/name.h"

#include "base/number.h"
#include "guard/guest.h"

/* A MIG instance has a UUID of another form: it is a device that the fraction does not have. */
static nvmlReturn_t uuid_of(nvmlDevice_t device, uint8_t ret[16])
{
	char text[NVML_DEVICE_UUID_V2_BUFFER_SIZE] = "";
	nvmlReturn_t status = AQ__REAL(nvmlDeviceGetUUID, device, text, sizeof(text));

	if (status == NVML_SUCCESS && aq_uuid_parse(text, ret) < 0)
		memset(ret, 0, 16);
	return status;
}

nvmlReturn_t aq__nvml_refused(void)
{
	return NVML_ERROR_NO_PERMISSION;
}

static enum aq__view view_of(int r, nvmlReturn_t *ret_status)
{
	if (r == -ENOENT)
		return AQ__VIEW_OPEN;
	if (r >= 0)
		return AQ__VIEW_SHARE;
	*ret_status = aq__nvml_refused();
	return AQ__VIEW_ERROR;
}

enum aq__view aq__nvml_share(nvmlDevice_t device, struct aq__share *ret, nvmlReturn_t *ret_status)
{
	uint8_t uuid[16];

	*ret_status = uuid_of(device, uuid);
	if (*ret_status != NVML_SUCCESS)
		return AQ__VIEW_ERROR;
	return view_of(aq__observe_share(uuid, ret), ret_status);
}

enum aq__view aq__nvml_procs(nvmlDevice_t device, struct aq__procs *ret, nvmlReturn_t *ret_status)
{
	uint8_t uuid[16];

	*ret_status = uuid_of(device, uuid);
	if (*ret_status != NVML_SUCCESS)
		return AQ__VIEW_ERROR;
	return view_of(aq__observe_procs(uuid, ret), ret_status);
}

/*
 * What the fraction sees of each answer. The members of NVML's memory structures are set in their
 * order (total, free, used): a guest may not write the name of the second.
 */

static void view_memory(nvmlMemory_t *m, const struct aq__share *share)
{
	*m = (nvmlMemory_t){share->limit_bytes, share->free_bytes, share->used_bytes};
}

/* What the driver reserves is no part of the limit, so there is none. */
static void view_memory_v2(nvmlMemory_v2_t *m, const struct aq__share *share)
{
	*m = (nvmlMemory_v2_t){m->version, share->limit_bytes, 0, share->free_bytes,
			       share->used_bytes};
}

/* The window to the device is shared; what others have mapped through it is not told. */
static void view_bar1(nvmlBAR1Memory_t *m, const struct aq__share *share)
{
	m->bar1Total = aq_min(m->bar1Total, share->limit_bytes);
	m->bar1Used = 0;
	m->bar1Free = m->bar1Total;
}

static void view_cc_sizes(nvmlConfComputeMemSizeInfo_t *sizes, const struct aq__share *share)
{
	sizes->protectedMemSizeKib = aq_min(sizes->protectedMemSizeKib, share->limit_bytes >> 10);
	sizes->unprotectedMemSizeKib = aq_min(sizes->unprotectedMemSizeKib, share->limit_bytes >> 10);
}

/* All zero where confidential computing is off. */
static void view_cc_usage(nvmlMemory_t *m, const struct aq__share *share)
{
	unsigned long long total = aq_min(m->total, share->limit_bytes);
	unsigned long long used = aq_min(total, share->used_bytes);

	*m = (nvmlMemory_t){total, aq_min(total - used, share->free_bytes), used};
}

static void view_attributes(nvmlDeviceAttributes_t *attributes, const struct aq__share *share)
{
	attributes->memorySizeMB = aq_min(attributes->memorySizeMB, share->limit_bytes >> 20);
}

/* MEMORY_HOOK(function, type, view): ask NVML into a copy, let @view change it, hand it over. */
#define MEMORY_HOOK(sym, type, view)                                                               \
	nvmlReturn_t sym(nvmlDevice_t device, type *ret)                                           \
	{                                                                                          \
		struct aq__share share;                                                            \
		nvmlReturn_t status;                                                               \
		type real;                                                                         \
                                                                                                   \
		if (!ret)                                                                          \
			return AQ__REAL(sym, device, ret);                                         \
		real = *ret; /* a version may be in it */                                          \
		status = AQ__REAL(sym, device, &real);                                             \
		if (status != NVML_SUCCESS)                                                        \
			return status;                                                             \
		switch (aq__nvml_share(device, &share, &status)) {                                 \
		case AQ__VIEW_SHARE:                                                               \
			view(&real, &share);                                                       \
			break;                                                                     \
		case AQ__VIEW_OPEN:                                                                \
			break;                                                                     \
		default:                                                                           \
			return status;                                                             \
		}                                                                                  \
		*ret = real;                                                                       \
		return NVML_SUCCESS;                                                               \
	}

MEMORY_HOOK(nvmlDeviceGetMemoryInfo, nvmlMemory_t, view_memory)
MEMORY_HOOK(nvmlDeviceGetMemoryInfo_v2, nvmlMemory_v2_t, view_memory_v2)
MEMORY_HOOK(nvmlDeviceGetBAR1MemoryInfo, nvmlBAR1Memory_t, view_bar1)
MEMORY_HOOK(nvmlDeviceGetConfComputeMemSizeInfo, nvmlConfComputeMemSizeInfo_t, view_cc_sizes)
MEMORY_HOOK(nvmlDeviceGetConfComputeProtectedMemoryUsage, nvmlMemory_t, view_cc_usage)
MEMORY_HOOK(nvmlDeviceGetAttributes, nvmlDeviceAttributes_t, view_attributes)
MEMORY_HOOK(nvmlDeviceGetAttributes_v2, nvmlDeviceAttributes_t, view_attributes)

/*
 * Fields by number. None that is known tells memory in use or names a process; those that count
 * traffic, power and time do so for the whole device and pass like the functions that tell the
 * same. What a later driver may have invented is not passed on unseen.
 * When we fail: a tenant is a tenant (observer.h), and the same is done.
 */
nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values)
{
	nvmlReturn_t status = AQ__REAL(nvmlDeviceGetFieldValues, device, count, values);

	if (status != NVML_SUCCESS || !values || aq__observe_tenant() == -ENOENT)
		return status;
	for (int i = 0; i < count; i++) {
		if (values[i].fieldId < NVML_FI_MAX)
			continue;
		values[i].nvmlReturn = NVML_ERROR_NOT_SUPPORTED;
		values[i].value.ullVal = 0;
	}
	return status;
}

/* Clearing counts that all tenants read is not a tenant's to do. */
nvmlReturn_t nvmlDeviceClearFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values)
{
	if (aq__observe_tenant() != -ENOENT)
		return aq__nvml_refused();
	return AQ__REAL(nvmlDeviceClearFieldValues, device, count, values);
}
