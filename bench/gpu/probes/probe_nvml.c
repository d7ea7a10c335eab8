/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a probe reads through NVML: names, clocks, memory in use, processes. It only reads.
 */
#include "probe.h"
#include "probe_internal.h"
#include "nvml/nvml_abi.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_PROCESSES 256

static struct {
	nvmlDevice_t device;
	nvmlReturn_t (*init)(void);
	nvmlReturn_t (*driver_version)(char *, unsigned int);
	nvmlReturn_t (*by_index)(unsigned int, nvmlDevice_t *);
	nvmlReturn_t (*by_uuid)(const char *, nvmlDevice_t *);
	nvmlReturn_t (*name)(nvmlDevice_t, char *, unsigned int);
	nvmlReturn_t (*uuid)(nvmlDevice_t, char *, unsigned int);
	nvmlReturn_t (*clock)(nvmlDevice_t, unsigned int, unsigned int *);
	nvmlReturn_t (*max_clock)(nvmlDevice_t, unsigned int, unsigned int *);
	nvmlReturn_t (*memory)(nvmlDevice_t, nvmlMemory_v2_t *);
	nvmlReturn_t (*processes)(nvmlDevice_t, unsigned int *, nvmlProcessInfo_t *);
	nvmlReturn_t (*mig)(nvmlDevice_t, unsigned int *, unsigned int *);
	nvmlReturn_t (*persistence)(nvmlDevice_t, unsigned int *);
	nvmlReturn_t (*compute_mode)(nvmlDevice_t, unsigned int *);
	nvmlReturn_t (*power)(nvmlDevice_t, unsigned int *);
	nvmlReturn_t (*temperature)(nvmlDevice_t, unsigned int, unsigned int *);
	nvmlReturn_t (*pcie_gen)(nvmlDevice_t, unsigned int *);
	nvmlReturn_t (*pcie_width)(nvmlDevice_t, unsigned int *);
	nvmlReturn_t (*gsp)(nvmlDevice_t, char *);
	nvmlReturn_t (*virtual_mode)(nvmlDevice_t, unsigned int *);
} nvml;

/* The device that CUDA will call probe_device(): as CUDA_VISIBLE_DEVICES says, else by index. */
static nvmlDevice_t find_device(void)
{
	const char *visible = getenv("CUDA_VISIBLE_DEVICES");
	int index = probe_device();
	nvmlDevice_t found = NULL;
	char one[96];

	for (int i = 0; visible && i < index; i++)
		if ((visible = strchr(visible, ',')))
			visible++;
	if (visible && *visible) {
		snprintf(one, sizeof(one), "%.*s", (int)strcspn(visible, ","), visible);
		if (strspn(one, "0123456789") == strlen(one))
			index = atoi(one);
		else if (nvml.by_uuid && nvml.by_uuid(one, &found) == NVML_SUCCESS)
			return found;
	}
	if (!nvml.by_index || nvml.by_index((unsigned)index, &found) != NVML_SUCCESS)
		return NULL;
	return found;
}

void probe_nvml_open(void)
{
	void *lib;

	strcpy(probe_state.device_name, "unknown");
	strcpy(probe_state.driver_version, "unknown");
	lib = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		return;
#define FIND(field, symbol) *(void **)&nvml.field = dlsym(lib, symbol)
	FIND(init, "nvmlInit_v2");
	FIND(driver_version, "nvmlSystemGetDriverVersion");
	FIND(by_index, "nvmlDeviceGetHandleByIndex_v2");
	FIND(by_uuid, "nvmlDeviceGetHandleByUUID");
	FIND(name, "nvmlDeviceGetName");
	FIND(uuid, "nvmlDeviceGetUUID");
	FIND(clock, "nvmlDeviceGetClockInfo");
	FIND(max_clock, "nvmlDeviceGetMaxClockInfo");
	FIND(memory, "nvmlDeviceGetMemoryInfo_v2");
	FIND(processes, "nvmlDeviceGetComputeRunningProcesses_v3");
	FIND(mig, "nvmlDeviceGetMigMode");
	FIND(persistence, "nvmlDeviceGetPersistenceMode");
	FIND(compute_mode, "nvmlDeviceGetComputeMode");
	FIND(power, "nvmlDeviceGetPowerUsage");
	FIND(temperature, "nvmlDeviceGetTemperature");
	FIND(pcie_gen, "nvmlDeviceGetCurrPcieLinkGeneration");
	FIND(pcie_width, "nvmlDeviceGetCurrPcieLinkWidth");
	FIND(gsp, "nvmlDeviceGetGspFirmwareVersion");
	FIND(virtual_mode, "nvmlDeviceGetVirtualizationMode");
#undef FIND
	/* Only this project's simulated NVML has it. */
	probe_state.simulated = dlsym(lib, "aliquotSimAdd") != NULL;
	if (!nvml.init || nvml.init() != NVML_SUCCESS)
		return;
	if (nvml.driver_version)
		nvml.driver_version(probe_state.driver_version, sizeof(probe_state.driver_version));
	nvml.device = find_device();
	if (nvml.device && nvml.name)
		nvml.name(nvml.device, probe_state.device_name, sizeof(probe_state.device_name));
}

bool probe_nvml_clocks(int *ret_sm_mhz, int *ret_mem_mhz)
{
	unsigned int sm, mem;

	if (!nvml.device || !nvml.clock ||
	    nvml.clock(nvml.device, NVML_CLOCK_SM, &sm) != NVML_SUCCESS ||
	    nvml.clock(nvml.device, NVML_CLOCK_MEM, &mem) != NVML_SUCCESS)
		return false;
	*ret_sm_mhz = (int)sm;
	*ret_mem_mhz = (int)mem;
	return true;
}

static bool read_memory(nvmlMemory_v2_t *m)
{
	memset(m, 0, sizeof(*m));
	m->version = NVML_STRUCT_VERSION(Memory, 2);
	return nvml.device && nvml.memory && nvml.memory(nvml.device, m) == NVML_SUCCESS;
}

int64_t nvml_device_used(void)
{
	nvmlMemory_v2_t m;

	return read_memory(&m) ? (int64_t)m.used : -1;
}

static int read_processes(nvmlProcessInfo_t *list)
{
	unsigned int n = MAX_PROCESSES;

	if (!nvml.device || !nvml.processes ||
	    nvml.processes(nvml.device, &n, list) != NVML_SUCCESS)
		return -1;
	return (int)n;
}

int64_t nvml_process_used(pid_t pid)
{
	nvmlProcessInfo_t list[MAX_PROCESSES];
	int n = read_processes(list);

	for (int i = 0; i < n; i++)
		if (list[i].pid == (unsigned)pid &&
		    list[i].usedGpuMemory != NVML_VALUE_NOT_AVAILABLE_ULL)
			return (int64_t)list[i].usedGpuMemory;
	return -1;
}

int nvml_process_count(void)
{
	nvmlProcessInfo_t list[MAX_PROCESSES];

	return read_processes(list);
}

bool nvml_divided(const char **ret_how)
{
	unsigned int now = 0, pending = 0;

	*ret_how = "nothing";
	if (!nvml.device)
		return false;
	if (nvml.mig && nvml.mig(nvml.device, &now, &pending) == NVML_SUCCESS && now)
		*ret_how = "MIG";
	/* 0 none, 1 passed through whole, 2 and more some form of virtual GPU */
	else if (nvml.virtual_mode && nvml.virtual_mode(nvml.device, &now) == NVML_SUCCESS &&
		 now > 1)
		*ret_how = "virtual GPU";
	else
		return false;
	return true;
}

int driver_major(void)
{
	return atoi(probe_state.driver_version);
}

static void fact_number(const char *what, nvmlReturn_t (*get)(nvmlDevice_t, unsigned int *))
{
	unsigned int value;

	if (get && get(nvml.device, &value) == NVML_SUCCESS)
		report_fact(what, "%u", value);
	else
		report_skipped(what, "NVML does not say");
}

void nvml_report_facts(void)
{
	unsigned int now, pending, clock;
	nvmlMemory_v2_t m;
	char text[96];

	if (!nvml.device) {
		report_skipped("nvml", "no NVML, or it has no such device");
		return;
	}
	if (nvml.uuid && nvml.uuid(nvml.device, text, sizeof(text)) == NVML_SUCCESS)
		report_fact("uuid", "%s", text);
	if (nvml.gsp && nvml.gsp(nvml.device, text) == NVML_SUCCESS)
		report_fact("gsp_firmware", "%s", text);
	else
		report_fact("gsp_firmware", "not in use, or not told");
	if (nvml.mig && nvml.mig(nvml.device, &now, &pending) == NVML_SUCCESS)
		report_fact("mig_mode", "%u", now);
	else
		report_fact("mig_mode", "not supported");
	fact_number("compute_mode", nvml.compute_mode);
	fact_number("virtualization_mode", nvml.virtual_mode);
	fact_number("persistence_mode", nvml.persistence);
	fact_number("power_mw", nvml.power);
	fact_number("pcie_generation_now", nvml.pcie_gen);
	fact_number("pcie_width_now", nvml.pcie_width);
	if (nvml.temperature && nvml.temperature(nvml.device, 0, &now) == NVML_SUCCESS)
		report_fact("temperature_c", "%u", now);
	if (nvml.max_clock && nvml.max_clock(nvml.device, NVML_CLOCK_SM, &clock) == NVML_SUCCESS)
		report_fact("max_sm_clock_mhz", "%u", clock);
	if (nvml.max_clock && nvml.max_clock(nvml.device, NVML_CLOCK_MEM, &clock) == NVML_SUCCESS)
		report_fact("max_mem_clock_mhz", "%u", clock);
	if (read_memory(&m))
		report_fact("nvml_memory", "total %llu reserved %llu used %llu free %llu bytes",
			    m.total, m.reserved, m.used, m.free);
	report_fact("processes_on_device", "%d", nvml_process_count());
}
