/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulated NVML: the table of unnamed functions without which nvidia-smi does not start. Only what
 * NVIDIA has published about it is here; what the other places mean is not known.
 *
 * Source: NVIDIA/k8s-test-infra (Apache-2.0), pkg/gpu/mocknvml: found with nvidia-smi 580.65.06;
 * other releases have the functions in other places, and then show no processes in the default
 * table.
 */
#include "sim/nvml/state.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#include "base/banned.h"

#define SLOTS 256u
#define SLOT_HANDLE_BY_INDEX 81u
#define SLOT_PROCESSES_FIRST 213u /* compute, graphics, MPS: which is which is not known */
#define SLOT_HOST_MAX_PCIE_GENERATION 230u
#define TABLE_BYTES 0x1000u /* said to be at the head; must exceed the last place that is used */
#define LIST_MAX 65536u
#define NAME_BYTES 4096

/* 6c3efec4-8fc9-4e6c-a327-ee696e12f7c4, the first three groups in little-endian order. */
static const unsigned char table_id[16] = {0xc4, 0xfe, 0x3e, 0x6c, 0xc9, 0x8f, 0x6c, 0x4e,
					   0xa3, 0x27, 0xee, 0x69, 0x6e, 0x12, 0xf7, 0xc4};

struct process_entry {
	nvmlProcessDetail_v1_t detail;
	char name[NAME_BYTES]; /* an entry without a name is not shown */
};

static_assert(sizeof(struct process_entry) == 4128, "as published");

static union {
	uintptr_t bytes;
	void *function;
} table[SLOTS];

/*
 * A place of unknown meaning. Asked about a device it is not supported, and nothing is written: the
 * other arguments may be anything. Asked about none, nvidia-smi gives up unless all is well.
 */
static nvmlReturn_t unknown(void *a)
{
	struct sim_nvml_device d;

	return sim_nvml_look(a, a, &d) == NVML_SUCCESS ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS;
}

static nvmlReturn_t handle_by_index(unsigned int index, nvmlDevice_t *device)
{
	return nvmlDeviceGetHandleByIndex_v2(index, device);
}

static nvmlReturn_t host_max_pcie_generation(nvmlDevice_t device, unsigned int *generation)
{
	return nvmlDeviceGetMaxPcieLinkGeneration(device, generation);
}

static nvmlReturn_t no_list(nvmlDevice_t device, unsigned int *count)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, count, &d);

	if (status == NVML_SUCCESS)
		*count = 0;
	return status;
}

static nvmlReturn_t processes(nvmlDevice_t device, unsigned int *count, struct process_entry *ret)
{
	AQ_CLEANUP(free) struct sim_process_usage *usage = NULL;
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, count, &d);
	unsigned int n;

	if (status != NVML_SUCCESS)
		return status;
	if (!ret || !*count || *count > LIST_MAX)
		return NVML_ERROR_INVALID_ARGUMENT;
	usage = calloc(*count, sizeof(*usage));
	if (!usage)
		return NVML_ERROR_MEMORY;
	n = sim_machine_usage(d.machine, d.index, usage, *count);
	*count = n < *count ? n : *count;
	for (unsigned int i = 0; i < *count; i++) {
		ret[i].detail = (nvmlProcessDetail_v1_t){
			.pid = (unsigned int)usage[i].pid,
			.usedGpuMemory = usage[i].memory_bytes,
			.gpuInstanceId = UINT32_MAX,
			.computeInstanceId = UINT32_MAX,
		};
		if (!sim_nvml_process_name((unsigned int)usage[i].pid, ret[i].name, NAME_BYTES))
			memcpy(ret[i].name, "-", 2);
	}
	return NVML_SUCCESS;
}

__attribute__((constructor)) static void fill_table(void)
{
	for (unsigned int i = 1; i < SLOTS; i++)
		table[i].function = unknown;
	table[0].bytes = TABLE_BYTES;
	table[SLOT_HANDLE_BY_INDEX].function = handle_by_index;
	table[SLOT_PROCESSES_FIRST].function = processes;
	table[SLOT_PROCESSES_FIRST + 1].function = no_list;
	table[SLOT_PROCESSES_FIRST + 2].function = no_list;
	table[SLOT_HOST_MAX_PCIE_GENERATION].function = host_max_pcie_generation;
}

nvmlReturn_t nvmlInternalGetExportTable(const void **ret_table, const void *id)
{
	if (!ret_table || !id)
		return NVML_ERROR_INVALID_ARGUMENT;
	if (memcmp(id, table_id, sizeof(table_id)))
		return NVML_ERROR_NOT_FOUND;
	*ret_table = table;
	return NVML_SUCCESS;
}
