/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hooks that name processes: a tenant sees those of its fraction and no others.
 *
 * The compute processes are the daemon's list, with the bytes that the ledger holds against each.
 * All other lists (graphics, MPS, utilisation, sessions, accounting) are NVML's own, read into
 * memory of ours and without whoever is not of the fraction. For what happens when we fail see
 * face.h; a program that asks only for the length of a list gets the length of what it may see.
 */
#include "guard/nvml/face.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "guard/guest.h"

#define NO_INSTANCE UINT32_MAX
#define LIST_TRIES 4 /* a list may grow while it is read */
#define LIST_FIRST 128u
#define LIST_SPARE 16u
#define LIST_MAX 65536u /* entries; more than that is no list of processes */

/* Reads a whole list of NVML's. @arg: what else the function wants. */
typedef nvmlReturn_t reader(nvmlDevice_t device, void *arg, unsigned int *count, void *entries);

/* What an entry of a list looks like, as far as it matters here. */
struct shape {
	size_t bytes;
	size_t pid; /* offset of an unsigned int */
};

#define SHAPE(type) ((struct shape){sizeof(type), offsetof(type, pid)})

const struct aq_msg_proc *aq__nvml_find(const struct aq__procs *procs, unsigned int pid)
{
	for (uint32_t i = 0; i < procs->count; i++) {
		if ((unsigned int)procs->proc[i].pid == pid)
			return &procs->proc[i];
	}
	return NULL;
}

/* Pages of our own: the program's allocator is none of our business. NULL when there are none. */
static void *scratch_map(size_t bytes)
{
	int saved = errno;
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	errno = saved;
	return p == MAP_FAILED ? NULL : p;
}

static void scratch_unmap(void *p, size_t bytes)
{
	int saved = errno;

	if (p)
		munmap(p, bytes);
	errno = saved;
}

/* Move the fraction's entries to the front. Return: how many they are. */
static unsigned int keep_ours(void *entries, unsigned int count, struct shape shape,
			      const struct aq__procs *procs)
{
	char *base = entries;
	unsigned int kept = 0;

	for (unsigned int i = 0; i < count; i++) {
		unsigned int pid;

		memcpy(&pid, base + i * shape.bytes + shape.pid, sizeof(pid));
		if (aq__nvml_find(procs, pid))
			memmove(base + kept++ * shape.bytes, base + i * shape.bytes, shape.bytes);
	}
	return kept;
}

/* A list as NVML has it, in pages of ours. */
struct list {
	void *entries;
	size_t bytes; /* mapped */
	unsigned int count;
};

static nvmlReturn_t list_read(nvmlDevice_t device, reader *read, void *arg, size_t entry_bytes,
			      struct list *ret)
{
	unsigned int room = LIST_FIRST;

	for (int i = 0; i < LIST_TRIES && room <= LIST_MAX; i++) {
		struct list l = {.bytes = room * entry_bytes, .count = room};
		nvmlReturn_t status;

		l.entries = scratch_map(l.bytes);
		if (!l.entries)
			return NVML_ERROR_MEMORY;
		status = read(device, arg, &l.count, l.entries);
		if (status == NVML_SUCCESS && l.count <= room) {
			*ret = l;
			return NVML_SUCCESS;
		}
		scratch_unmap(l.entries, l.bytes);
		if (status != NVML_SUCCESS && status != NVML_ERROR_INSUFFICIENT_SIZE)
			return status;
		room = (l.count > room ? l.count : room) + LIST_SPARE;
	}
	return NVML_ERROR_UNKNOWN;
}

/* NVML's way to hand over a list: the count tells the room, then the length. */
static nvmlReturn_t hand_over(unsigned int *count, void *ret, const void *entries, unsigned int n,
			      size_t entry_bytes)
{
	bool fits = *count >= n && (ret || !n);

	*count = n;
	if (fits && n)
		memcpy(ret, entries, n * entry_bytes);
	return fits ? NVML_SUCCESS : NVML_ERROR_INSUFFICIENT_SIZE;
}

/**
 * filtered() - a list of NVML's, without whoever is not of the fraction.
 * @empty: status for a list with nobody in it
 * @count: as the program gave it, not NULL
 * @ret:   likewise, or NULL
 */
static nvmlReturn_t filtered(nvmlDevice_t device, reader *read, void *arg, struct shape shape,
			     const struct aq__procs *procs, nvmlReturn_t empty, unsigned int *count,
			     void *ret)
{
	struct list l;
	nvmlReturn_t status = list_read(device, read, arg, shape.bytes, &l);

	if (status != NVML_SUCCESS)
		return status;
	l.count = keep_ours(l.entries, l.count, shape, procs);
	status = hand_over(count, ret, l.entries, l.count, shape.bytes);
	if (!l.count)
		status = empty;
	scratch_unmap(l.entries, l.bytes);
	return status;
}

/*
 * Compute processes.
 */

/* Only who uses the device is on it: a client without a context is none of its processes. */
static unsigned int users_of(struct aq__procs *procs)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < procs->count; i++) {
		if (procs->proc[i].used_bytes)
			procs->proc[n++] = procs->proc[i];
	}
	return procs->count = n;
}

#define COMPUTE_HOOK(sym, type, ...)                                                               \
	nvmlReturn_t sym(nvmlDevice_t device, unsigned int *count, type *infos)                    \
	{                                                                                          \
		struct aq__procs procs;                                                            \
		nvmlReturn_t status;                                                               \
		unsigned int n;                                                                    \
		bool fits;                                                                         \
                                                                                                   \
		if (!count)                                                                        \
			return AQ__REAL(sym, device, count, infos);                                \
		switch (aq__nvml_procs(device, &procs, &status)) {                                 \
		case AQ__VIEW_SHARE:                                                               \
			break;                                                                     \
		case AQ__VIEW_OPEN:                                                                \
			return AQ__REAL(sym, device, count, infos);                                \
		default:                                                                           \
			return status;                                                             \
		}                                                                                  \
		n = users_of(&procs);                                                              \
		fits = *count >= n && (infos || !n);                                               \
		*count = n;                                                                        \
		for (unsigned int i = 0; fits && i < n; i++)                                       \
			infos[i] = (type){.pid = (unsigned int)procs.proc[i].pid,                  \
					  .usedGpuMemory = procs.proc[i].used_bytes,               \
					  __VA_ARGS__};                                            \
		return fits ? NVML_SUCCESS : NVML_ERROR_INSUFFICIENT_SIZE;                         \
	}

#define NO_INSTANCES .gpuInstanceId = NO_INSTANCE, .computeInstanceId = NO_INSTANCE

COMPUTE_HOOK(nvmlDeviceGetComputeRunningProcesses, nvmlProcessInfo_v1_t)
COMPUTE_HOOK(nvmlDeviceGetComputeRunningProcesses_v2, nvmlProcessInfo_t, NO_INSTANCES)
COMPUTE_HOOK(nvmlDeviceGetComputeRunningProcesses_v3, nvmlProcessInfo_t, NO_INSTANCES)

/*
 * Lists of NVML's with the usual arguments. `null_succeeds`: asking for the length alone is a
 * success, which NVML's functions do not agree on.
 */
#define FILTER_HOOK(sym, type, null_succeeds)                                                      \
	static nvmlReturn_t read_##sym(nvmlDevice_t device, void *arg, unsigned int *count,        \
				       void *entries)                                              \
	{                                                                                          \
		return AQ__REAL(sym, device, count, (type *)entries);                              \
	}                                                                                          \
                                                                                                   \
	nvmlReturn_t sym(nvmlDevice_t device, unsigned int *count, type *ret)                      \
	{                                                                                          \
		struct aq__procs procs;                                                            \
		nvmlReturn_t status;                                                               \
                                                                                                   \
		if (!count)                                                                        \
			return AQ__REAL(sym, device, count, ret);                                  \
		switch (aq__nvml_procs(device, &procs, &status)) {                                 \
		case AQ__VIEW_SHARE:                                                               \
			status = filtered(device, read_##sym, NULL, SHAPE(type), &procs,           \
					  NVML_SUCCESS, count, ret);                               \
			if (null_succeeds && !ret && status == NVML_ERROR_INSUFFICIENT_SIZE)       \
				status = NVML_SUCCESS;                                             \
			return status;                                                             \
		case AQ__VIEW_OPEN:                                                                \
			return AQ__REAL(sym, device, count, ret);                                  \
		default:                                                                           \
			return status;                                                             \
		}                                                                                  \
	}

FILTER_HOOK(nvmlDeviceGetGraphicsRunningProcesses, nvmlProcessInfo_v1_t, false)
FILTER_HOOK(nvmlDeviceGetGraphicsRunningProcesses_v2, nvmlProcessInfo_t, false)
FILTER_HOOK(nvmlDeviceGetGraphicsRunningProcesses_v3, nvmlProcessInfo_t, false)
FILTER_HOOK(nvmlDeviceGetMPSComputeRunningProcesses, nvmlProcessInfo_v1_t, false)
FILTER_HOOK(nvmlDeviceGetMPSComputeRunningProcesses_v2, nvmlProcessInfo_t, false)
FILTER_HOOK(nvmlDeviceGetMPSComputeRunningProcesses_v3, nvmlProcessInfo_t, false)
FILTER_HOOK(nvmlDeviceGetEncoderSessions, nvmlEncoderSessionInfo_t, true)
FILTER_HOOK(nvmlDeviceGetFBCSessions, nvmlFBCSessionInfo_t, true)

/*
 * Lists with arguments of their own.
 */

static nvmlReturn_t read_details(nvmlDevice_t device, void *arg, unsigned int *count, void *entries)
{
	nvmlProcessDetailList_v1_t list = *(const nvmlProcessDetailList_v1_t *)arg;
	nvmlReturn_t status;

	list.numProcArrayEntries = *count;
	list.procArray = entries;
	status = AQ__REAL(nvmlDeviceGetRunningProcessDetailList, device, &list);
	*count = list.numProcArrayEntries;
	return status;
}

nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device,
						   nvmlProcessDetailList_v1_t *list)
{
	struct aq__procs procs;
	nvmlReturn_t status;
	enum aq__view view;

	if (!list)
		return AQ__REAL(nvmlDeviceGetRunningProcessDetailList, device, list);
	view = aq__nvml_procs(device, &procs, &status);
	if (view == AQ__VIEW_OPEN)
		return AQ__REAL(nvmlDeviceGetRunningProcessDetailList, device, list);
	if (view == AQ__VIEW_ERROR)
		return status;
	return filtered(device, read_details, list, SHAPE(nvmlProcessDetail_v1_t), &procs,
			NVML_SUCCESS, &list->numProcArrayEntries, list->procArray);
}

static nvmlReturn_t read_utilization(nvmlDevice_t device, void *arg, unsigned int *count,
				     void *entries)
{
	return AQ__REAL(nvmlDeviceGetProcessUtilization, device,
			(nvmlProcessUtilizationSample_t *)entries, count,
			*(const unsigned long long *)arg);
}

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device,
					     nvmlProcessUtilizationSample_t *samples,
					     unsigned int *count, unsigned long long since)
{
	struct aq__procs procs;
	nvmlReturn_t status;
	enum aq__view view;

	if (!count)
		return AQ__REAL(nvmlDeviceGetProcessUtilization, device, samples, count, since);
	view = aq__nvml_procs(device, &procs, &status);
	if (view == AQ__VIEW_OPEN)
		return AQ__REAL(nvmlDeviceGetProcessUtilization, device, samples, count, since);
	if (view == AQ__VIEW_ERROR)
		return status;
	return filtered(device, read_utilization, &since, SHAPE(nvmlProcessUtilizationSample_t),
			&procs, NVML_ERROR_NOT_FOUND, count, samples);
}

static nvmlReturn_t read_utilization_info(nvmlDevice_t device, void *arg, unsigned int *count,
					  void *entries)
{
	nvmlProcessesUtilizationInfo_v1_t info = *(const nvmlProcessesUtilizationInfo_v1_t *)arg;
	nvmlReturn_t status;

	info.processSamplesCount = *count;
	info.procUtilArray = entries;
	status = AQ__REAL(nvmlDeviceGetProcessesUtilizationInfo, device, &info);
	*count = info.processSamplesCount;
	return status;
}

nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device,
						   nvmlProcessesUtilizationInfo_v1_t *info)
{
	struct aq__procs procs;
	nvmlReturn_t status;
	enum aq__view view;

	if (!info)
		return AQ__REAL(nvmlDeviceGetProcessesUtilizationInfo, device, info);
	view = aq__nvml_procs(device, &procs, &status);
	if (view == AQ__VIEW_OPEN)
		return AQ__REAL(nvmlDeviceGetProcessesUtilizationInfo, device, info);
	if (view == AQ__VIEW_ERROR)
		return status;
	return filtered(device, read_utilization_info, info, SHAPE(nvmlProcessUtilizationInfo_v1_t),
			&procs, NVML_ERROR_NOT_FOUND, &info->processSamplesCount,
			info->procUtilArray);
}

/*
 * Accounting: what the driver records of each process. Ended processes of the fraction are in
 * nobody's list any more, and so are not told of.
 */

static nvmlReturn_t read_accounting(nvmlDevice_t device, void *arg, unsigned int *count,
				    void *entries)
{
	return AQ__REAL(nvmlDeviceGetAccountingPids, device, count, (unsigned int *)entries);
}

nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t device, unsigned int *count,
					 unsigned int *pids)
{
	const struct shape shape = {sizeof(*pids), 0};
	struct aq__procs procs;
	nvmlReturn_t status;
	enum aq__view view;

	if (!count)
		return AQ__REAL(nvmlDeviceGetAccountingPids, device, count, pids);
	view = aq__nvml_procs(device, &procs, &status);
	if (view == AQ__VIEW_OPEN)
		return AQ__REAL(nvmlDeviceGetAccountingPids, device, count, pids);
	if (view == AQ__VIEW_ERROR)
		return status;
	return filtered(device, read_accounting, NULL, shape, &procs, NVML_SUCCESS, count, pids);
}

/* Return: NVML_SUCCESS when NVML may answer for @pid. */
static nvmlReturn_t may_ask(nvmlDevice_t device, unsigned int pid)
{
	struct aq__procs procs;
	nvmlReturn_t status;

	switch (aq__nvml_procs(device, &procs, &status)) {
	case AQ__VIEW_SHARE:
		return aq__nvml_find(&procs, pid) ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
	case AQ__VIEW_OPEN:
		return NVML_SUCCESS;
	default:
		return status;
	}
}

nvmlReturn_t nvmlDeviceGetAccountingStats(nvmlDevice_t device, unsigned int pid,
					  nvmlAccountingStats_t *stats)
{
	nvmlReturn_t status = may_ask(device, pid);

	if (status != NVML_SUCCESS)
		return status;
	return AQ__REAL(nvmlDeviceGetAccountingStats, device, pid, stats);
}

nvmlReturn_t nvmlDeviceGetAccountingStats_v2(nvmlDevice_t device, nvmlAccountingStats_v2_t *stats)
{
	nvmlReturn_t status = stats ? may_ask(device, stats->pid) : NVML_SUCCESS;

	if (status != NVML_SUCCESS)
		return status;
	return AQ__REAL(nvmlDeviceGetAccountingStats_v2, device, stats);
}

/* What is recorded is recorded for all tenants: not one tenant's to change. */
nvmlReturn_t nvmlDeviceSetAccountingMode(nvmlDevice_t device, nvmlEnableState_t mode)
{
	if (aq__observe_tenant() != -ENOENT)
		return aq__nvml_refused();
	return AQ__REAL(nvmlDeviceSetAccountingMode, device, mode);
}

nvmlReturn_t nvmlDeviceClearAccountingPids(nvmlDevice_t device)
{
	if (aq__observe_tenant() != -ENOENT)
		return aq__nvml_refused();
	return AQ__REAL(nvmlDeviceClearAccountingPids, device);
}

nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length)
{
	int r = aq__observe_pid((int32_t)pid);

	if (r == 0)
		return NVML_ERROR_NOT_FOUND;
	if (r == -EACCES)
		return aq__nvml_refused();
	return AQ__REAL(nvmlSystemGetProcessName, pid, name, length);
}
