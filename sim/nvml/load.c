/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulated NVML: what changes from moment to moment. Memory, processes, rates, clocks, power.
 *
 * The machine keeps sums (compute time, copy time), no past. A rate is the difference between two
 * looks, so each look of this process is kept for a while. Clocks, power and temperature follow the
 * rate by a line from idle to full: plausible to a reader, measured on nothing.
 */
#include "sim/nvml/state.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/timing.h"

#include "base/banned.h"

#define PAST_LOOKS 32u		      /* kept for each device */
#define PAST_STEP_NS (50000000ull)    /* looks closer together than this replace each other */
#define WINDOW_NS (166000000ull)      /* Source: nvmlUtilization_t, "between 1 second and 1/6" */
#define WINDOW_LEAST_NS (20000000ull) /* rates over less say nothing: wait until then */
#define PROCESSES_MAX SIM_MAX_PROCESSES
#define NO_INSTANCE UINT32_MAX /* gpuInstanceId outside MIG */

/* Source: guesses for a data-centre board at rest; 345 MHz and P8-like idling are Hopper's. */
#define IDLE_MHZ 345u
#define IDLE_POWER_PERMILLE 120u
#define IDLE_CELSIUS 32u
#define FULL_CELSIUS 68u

struct process_time {
	int32_t pid;
	uint32_t contexts;
	uint64_t gpu_time_ns;
	uint64_t memory_bytes;
};

struct look {
	uint64_t time_us; /* since 1970 */
	uint64_t now_ns;  /* of the machine; 0: no look */
	uint64_t compute_ns;
	uint64_t copy_ns[SIM_COPY_ENGINES];
	uint32_t n_processes;
	struct process_time *processes; /* malloc'ed, or NULL when there was no memory for it */
};

/* All under `lock`. looks[(next - 1) % PAST_LOOKS] is the last. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	struct look looks[PAST_LOOKS];
	uint32_t next;
} past[SIM_MAX_DEVICES];

static uint64_t wall_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Processes of a device. Return: their number; *ret is malloc'ed, NULL for none or no memory. */
static uint32_t list_processes(const struct sim_nvml_device *d, struct sim_process_usage **ret)
{
	uint32_t room = 64;

	*ret = NULL;
	for (;;) {
		struct sim_process_usage *usage = calloc(room, sizeof(*usage));
		uint32_t n;

		if (!usage)
			return 0;
		n = sim_machine_usage(d->machine, d->index, usage, room);
		if (n <= room) {
			*ret = usage;
			return n;
		}
		free(usage);
		room = n + 16;
	}
}

static void look_now(const struct sim_nvml_device *d, struct look *ret)
{
	AQ_CLEANUP(free) struct sim_process_usage *usage = NULL;
	struct sim_device_times times = {0};
	uint32_t n = list_processes(d, &usage);

	sim_machine_times(d->machine, d->index, &times);
	*ret = (struct look){
		.time_us = wall_us(),
		.now_ns = times.now_ns ? times.now_ns : 1,
		.compute_ns = times.compute_ns,
	};
	memcpy(ret->copy_ns, times.copy_ns, sizeof(ret->copy_ns));
	ret->processes = n ? calloc(n, sizeof(*ret->processes)) : NULL;
	if (!ret->processes)
		return;
	ret->n_processes = n;
	for (uint32_t i = 0; i < n; i++)
		ret->processes[i] =
			(struct process_time){usage[i].pid, usage[i].contexts, usage[i].gpu_time_ns,
					      usage[i].memory_bytes};
}

static struct look *look_before(uint32_t device, uint32_t steps)
{
	if (steps > PAST_LOOKS || steps > past[device].next)
		return NULL;
	return &past[device].looks[(past[device].next - steps) % PAST_LOOKS];
}

static void keep_look(uint32_t device, struct look *look)
{
	struct look *last = look_before(device, 1);
	struct look *before = look_before(device, 2);
	struct look *slot;

	if (last && before && look->now_ns - before->now_ns < PAST_STEP_NS)
		slot = last;
	else
		slot = &past[device].looks[past[device].next++ % PAST_LOOKS];
	free(slot->processes);
	*slot = *look;
}

/* The look to compare with: the newest that is old enough, else the oldest. */
static const struct look *base_look(uint32_t device, uint64_t now_ns, uint64_t since_us)
{
	const struct look *found = NULL;

	for (uint32_t i = 1; i <= PAST_LOOKS; i++) {
		const struct look *l = look_before(device, i);

		if (!l)
			break;
		if (l->now_ns >= now_ns)
			continue;
		found = l;
		if (now_ns - l->now_ns >= WINDOW_NS || l->time_us <= since_us)
			break;
	}
	return found;
}

static uint32_t percent(uint64_t part_ns, uint64_t whole_ns)
{
	uint64_t p = whole_ns ? part_ns * 100 / whole_ns : 0;

	return p > 100 ? 100 : (uint32_t)p;
}

/**
 * look_pair() - the present, and a look before it that is far enough away. Under `lock`.
 * @since_us: if not 0, a base at or before this time will do even if it is close
 * The pointers hold as long as the lock does.
 */
static void look_pair(const struct sim_nvml_device *d, uint64_t since_us,
		      const struct look **ret_base, const struct look **ret_now)
{
	const struct look *base;
	struct look now;

	for (;;) {
		look_now(d, &now);
		base = base_look(d->index, now.now_ns, since_us);
		if (base && now.now_ns - base->now_ns >= WINDOW_LEAST_NS)
			break;
		keep_look(d->index, &now);
		/* Nobody waits long for a lock behind this: it happens once in a process's life. */
		aq_sleep_until_ns(aq_now_ns() + WINDOW_LEAST_NS);
	}
	keep_look(d->index, &now);
	*ret_now = look_before(d->index, 1);
	*ret_base = base_look(d->index, (*ret_now)->now_ns, since_us);
}

void sim_nvml_rates_reset(struct sim_machine *m)
{
	pthread_mutex_lock(&lock);
	for (uint32_t i = 0; i < SIM_MAX_DEVICES; i++) {
		for (uint32_t j = 0; j < PAST_LOOKS; j++)
			free(past[i].looks[j].processes);
		memset(&past[i], 0, sizeof(past[i]));
	}
	for (uint32_t i = 0; i < sim_machine_n_devices(m); i++) {
		struct sim_nvml_device d = {.machine = m, .index = i};
		struct look look;

		look_now(&d, &look);
		keep_look(i, &look);
	}
	pthread_mutex_unlock(&lock);
}

static void rates_between(const struct sim_nvml_device *d, const struct look *base,
			  const struct look *now, struct sim_nvml_rates *ret)
{
	uint64_t span = now->now_ns - base->now_ns;
	uint64_t in = now->copy_ns[SIM_COPY_H2D] - base->copy_ns[SIM_COPY_H2D];
	uint64_t out = now->copy_ns[SIM_COPY_D2H] - base->copy_ns[SIM_COPY_D2H];
	uint64_t peer = now->copy_ns[SIM_COPY_P2P] - base->copy_ns[SIM_COPY_P2P];
	const uint64_t kib = 1024;

	*ret = (struct sim_nvml_rates){
		.time_us = now->time_us,
		.busy = percent(now->compute_ns - base->compute_ns, span),
		.copying = percent(in + out + peer, span),
		.rx_kib_s = (uint32_t)(d->profile->h2d_bytes_per_s / kib * percent(in, span) / 100),
		.tx_kib_s =
			(uint32_t)(d->profile->d2h_bytes_per_s / kib * percent(out, span) / 100),
	};
}

void sim_nvml_rates(const struct sim_nvml_device *d, struct sim_nvml_rates *ret)
{
	const struct look *base, *now;

	pthread_mutex_lock(&lock);
	look_pair(d, 0, &base, &now);
	rates_between(d, base, now, ret);
	pthread_mutex_unlock(&lock);
}

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

/*
 * Processes. All of the simulator's are compute processes.
 */

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
	n = list_processes(&d, &usage);
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
	n = list_processes(&d, &usage);
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
	uint32_t n;

	if (status != NVML_SUCCESS)
		return status;
	if (list->version != NVML_STRUCT_VERSION(ProcessDetailList, 1))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	if (list->mode > NVML_PROCESS_MODE_ALL)
		return NVML_ERROR_INVALID_ARGUMENT;
	n = list->mode == NVML_PROCESS_MODE_COMPUTE || list->mode == NVML_PROCESS_MODE_ALL
		    ? list_processes(&d, &usage)
		    : 0;
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

static uint64_t time_of(const struct look *look, int32_t pid)
{
	for (uint32_t i = 0; i < look->n_processes; i++) {
		if (look->processes[i].pid == pid)
			return look->processes[i].gpu_time_ns;
	}
	return 0;
}

static uint32_t share_of(const struct process_time *p, const struct look *base,
			 const struct look *now)
{
	uint64_t before = time_of(base, p->pid);

	return percent(p->gpu_time_ns > before ? p->gpu_time_ns - before : 0,
		       now->now_ns - base->now_ns);
}

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device,
					     nvmlProcessUtilizationSample_t *samples,
					     unsigned int *count, unsigned long long since)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, count, &d);
	const struct look *base, *now;

	if (status != NVML_SUCCESS)
		return status;
	pthread_mutex_lock(&lock);
	look_pair(&d, since, &base, &now);
	if (!now->n_processes || now->time_us <= since) {
		*count = 0;
		status = NVML_ERROR_NOT_FOUND;
	} else {
		status = has_room(count, now->n_processes, samples);
	}
	for (uint32_t i = 0; status == NVML_SUCCESS && i < now->n_processes; i++)
		samples[i] = (nvmlProcessUtilizationSample_t){
			.pid = (unsigned int)now->processes[i].pid,
			.timeStamp = now->time_us,
			.smUtil = share_of(&now->processes[i], base, now),
		};
	pthread_mutex_unlock(&lock);
	return status;
}

nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device,
						   nvmlProcessesUtilizationInfo_v1_t *info)
{
	struct sim_nvml_device d;
	nvmlReturn_t status = sim_nvml_look(device, info, &d);
	const struct look *base, *now;

	if (status != NVML_SUCCESS)
		return status;
	if (info->version != NVML_STRUCT_VERSION(ProcessesUtilizationInfo, 1))
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	pthread_mutex_lock(&lock);
	look_pair(&d, info->lastSeenTimeStamp, &base, &now);
	if (!now->n_processes || now->time_us <= info->lastSeenTimeStamp) {
		info->processSamplesCount = 0;
		status = NVML_ERROR_NOT_FOUND;
	} else {
		status =
			has_room(&info->processSamplesCount, now->n_processes, info->procUtilArray);
	}
	for (uint32_t i = 0; status == NVML_SUCCESS && i < now->n_processes; i++)
		info->procUtilArray[i] = (nvmlProcessUtilizationInfo_v1_t){
			.pid = (unsigned int)now->processes[i].pid,
			.timeStamp = now->time_us,
			.smUtil = share_of(&now->processes[i], base, now),
		};
	pthread_mutex_unlock(&lock);
	return status;
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
	*period_us = WINDOW_NS / AQ_NS_PER_US;
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
	*violation = (nvmlViolationTime_t){.referenceTime = wall_us()};
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
	const struct look *base, *now;
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
		*count = PAST_LOOKS;
		return NVML_SUCCESS;
	}
	pthread_mutex_lock(&lock);
	look_pair(&d, since, &base, &now);
	for (uint32_t i = PAST_LOOKS - 1; i >= 1; i--) { /* oldest first */
		base = look_before(d.index, i + 1);
		now = look_before(d.index, i);
		if (!base || !now || now->time_us <= since || now->now_ns <= base->now_ns ||
		    n >= *count)
			continue;
		rates_between(&d, base, now, &r);
		sample_of(&d, type, &r, &value);
		samples[n++] = (nvmlSample_t){.timeStamp = now->time_us, .sampleValue = value};
	}
	pthread_mutex_unlock(&lock);
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
		values[i].timestamp = (long long)wall_us();
		values[i].latencyUsec = (long long)((aq_now_ns() - start_ns) / AQ_NS_PER_US);
	}
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceClearFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values)
{
	struct sim_nvml_device d;

	return sim_nvml_look(device, values, &d);
}
