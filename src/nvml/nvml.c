/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's view of one NVML library, loaded at run time. Caches nothing, logs nothing. */
#include "nvml/nvml.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/name.h"
#include "nvml/nvml_abi.h"

#include "base/banned.h"

#define SYSTEM_LIBRARY "libnvidia-ml.so.1"

/* A process list may grow between asking for its length and reading it: ask again, this often. */
#define LIST_TRIES 4
#define LIST_SPARE 8u
#define LIST_MAX 4096u /* more compute processes than any device holds contexts */

struct entry_points {
	nvmlReturn_t (*init)(void);
	nvmlReturn_t (*shutdown)(void);
	nvmlReturn_t (*driver_version)(char *, unsigned int);
	nvmlReturn_t (*count)(unsigned int *);
	nvmlReturn_t (*by_index)(unsigned int, nvmlDevice_t *);
	nvmlReturn_t (*uuid)(nvmlDevice_t, char *, unsigned int);
	nvmlReturn_t (*name)(nvmlDevice_t, char *, unsigned int);
	nvmlReturn_t (*memory)(nvmlDevice_t, nvmlMemory_t *);
	nvmlReturn_t (*memory_v2)(nvmlDevice_t, nvmlMemory_v2_t *);
	nvmlReturn_t (*pci)(nvmlDevice_t, nvmlPciInfo_t *);
	nvmlReturn_t (*minor)(nvmlDevice_t, unsigned int *);
	nvmlReturn_t (*capability)(nvmlDevice_t, int *, int *);
	nvmlReturn_t (*mig_mode)(nvmlDevice_t, unsigned int *, unsigned int *);
	nvmlReturn_t (*processes)(nvmlDevice_t, unsigned int *, nvmlProcessInfo_t *);
	nvmlReturn_t (*processes_v1)(nvmlDevice_t, unsigned int *, nvmlProcessInfo_v1_t *);
	nvmlReturn_t (*utilisation)(nvmlDevice_t, nvmlProcessUtilizationSample_t *, unsigned int *,
				    unsigned long long);
	int (*sim_add)(const char *, const char *);
	int (*sim_remove)(const char *);
};

struct aq_nvml {
	void *library;
	bool initialised; /* false for the simulator's library as long as there is no machine */
	struct entry_points api; /* optional ones are NULL where the library has them not */
};

/* Newest name first; the older ones take the same arguments. */
static const struct {
	const char *name;
	size_t offset;
	bool required;
} symbols[] = {
#define SYMBOL(name, field, required)                                                              \
	{                                                                                          \
		name, offsetof(struct entry_points, field), required                               \
	}
	SYMBOL("nvmlInit_v2", init, true),
	SYMBOL("nvmlShutdown", shutdown, true),
	SYMBOL("nvmlSystemGetDriverVersion", driver_version, true),
	SYMBOL("nvmlDeviceGetCount_v2", count, true),
	SYMBOL("nvmlDeviceGetHandleByIndex_v2", by_index, true),
	SYMBOL("nvmlDeviceGetUUID", uuid, true),
	SYMBOL("nvmlDeviceGetName", name, true),
	SYMBOL("nvmlDeviceGetMemoryInfo", memory, true),
	SYMBOL("nvmlDeviceGetMemoryInfo_v2", memory_v2, false),
	SYMBOL("nvmlDeviceGetPciInfo_v3", pci, false),
	SYMBOL("nvmlDeviceGetMinorNumber", minor, false),
	SYMBOL("nvmlDeviceGetCudaComputeCapability", capability, false),
	SYMBOL("nvmlDeviceGetMigMode", mig_mode, false),
	SYMBOL("nvmlDeviceGetComputeRunningProcesses_v3", processes, false),
	SYMBOL("nvmlDeviceGetComputeRunningProcesses_v2", processes, false),
	SYMBOL("nvmlDeviceGetComputeRunningProcesses", processes_v1, false),
	SYMBOL("nvmlDeviceGetProcessUtilization", utilisation, false),
	SYMBOL("aliquotSimAdd", sim_add, false),
	SYMBOL("aliquotSimRemove", sim_remove, false),
#undef SYMBOL
};

static int errno_of(nvmlReturn_t status)
{
	switch (status) {
	case NVML_SUCCESS:
		return 0;
	case NVML_ERROR_UNINITIALIZED:
	case NVML_ERROR_INVALID_ARGUMENT:
	case NVML_ERROR_ARGUMENT_VERSION_MISMATCH:
		return -EINVAL;
	case NVML_ERROR_NOT_SUPPORTED:
	case NVML_ERROR_FUNCTION_NOT_FOUND:
		return -EOPNOTSUPP;
	case NVML_ERROR_NO_PERMISSION:
		return -EPERM;
	case NVML_ERROR_NOT_FOUND:
	case NVML_ERROR_DRIVER_NOT_LOADED:
	case NVML_ERROR_LIBRARY_NOT_FOUND:
	case NVML_ERROR_GPU_NOT_FOUND:
		return -ENOENT;
	case NVML_ERROR_INSUFFICIENT_SIZE:
		return -ENOSPC;
	case NVML_ERROR_TIMEOUT:
		return -ETIMEDOUT;
	case NVML_ERROR_MEMORY:
		return -ENOMEM;
	case NVML_ERROR_IN_USE:
		return -EBUSY;
	default: /* a lost GPU, a driver of another version, what later releases add */
		return -EIO;
	}
}

static int resolve(struct aq_nvml *n)
{
	for (size_t i = 0; i < AQ_ARRAY_SIZE(symbols); i++) {
		void **slot = (void **)((char *)&n->api + symbols[i].offset);

		if (!*slot)
			*slot = dlsym(n->library, symbols[i].name);
		if (!*slot && symbols[i].required)
			return -ENOENT;
	}
	return 0;
}

/*
 * The library behind one that stands in its place and answers some functions itself, as our own
 * guard does, and others' tools: the daemon wants the truth. Told by two functions, one of which
 * such a library changes and one of which it leaves alone, not being in the same file.
 */
static void *look_behind(void *library)
{
	void *changed = dlsym(library, "nvmlDeviceGetMemoryInfo");
	void *left_alone = dlsym(library, "nvmlDeviceGetCount_v2");
	Dl_info front, behind;
	void *real;

	if (!changed || !left_alone || !dladdr(changed, &front) || !dladdr(left_alone, &behind) ||
	    front.dli_fbase == behind.dli_fbase)
		return library;
	real = dlopen(behind.dli_fname, RTLD_NOW | RTLD_LOCAL);
	dlclose(library);
	return real;
}

static int initialise(struct aq_nvml *n)
{
	int r = errno_of(n->api.init());

	n->initialised = r == 0;
	return r;
}

static int device_at(struct aq_nvml *n, uint32_t index, nvmlDevice_t *ret_device)
{
	nvmlReturn_t status;

	if (!n->initialised)
		return -ENOENT;
	status = n->api.by_index(index, ret_device);
	/* An index beyond the count is, to NVML, an invalid argument. */
	return status == NVML_ERROR_INVALID_ARGUMENT ? -ENOENT : errno_of(status);
}

/* Total without what the driver keeps for itself, and what programs use of that. */
static int memory_of(struct aq_nvml *n, nvmlDevice_t device, uint64_t *ret_total,
		     uint64_t *ret_used)
{
	nvmlMemory_v2_t v2 = {.version = NVML_STRUCT_VERSION(Memory, 2)};
	nvmlMemory_t v1 = {0};
	int r;

	if (n->api.memory_v2 && n->api.memory_v2(device, &v2) == NVML_SUCCESS &&
	    v2.reserved <= v2.total) {
		*ret_total = v2.total - v2.reserved;
		*ret_used = v2.used;
		return 0;
	}
	/* Drivers before 510: the reserved part is in both numbers and cannot be told apart. */
	r = errno_of(n->api.memory(device, &v1));
	if (r < 0)
		return r;
	*ret_total = v1.total;
	*ret_used = v1.used;
	return 0;
}

int aq_nvml_open(const char *library_path, struct aq_nvml **ret)
{
	struct aq_nvml *n = calloc(1, sizeof(*n));
	int r;

	if (!n)
		return -ENOMEM;
	n->library = dlopen(library_path ? library_path : SYSTEM_LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (n->library && !library_path)
		n->library = look_behind(n->library);
	if (!n->library) {
		r = -ENOENT;
		goto fail;
	}
	r = resolve(n);
	if (r < 0)
		goto fail;
	if (!library_path && n->api.sim_add) {
		r = -ENOENT;
		goto fail;
	}
	r = initialise(n);
	if (r < 0 && !(r == -ENOENT && n->api.sim_add))
		goto fail;
	*ret = n;
	return 0;
fail:
	aq_nvml_close(n);
	return r;
}

void aq_nvml_close(struct aq_nvml *n)
{
	if (!n)
		return;
	if (n->initialised)
		n->api.shutdown();
	if (n->library)
		dlclose(n->library);
	free(n);
}

int aq_nvml_device_count(struct aq_nvml *n)
{
	unsigned int count = 0;
	int r;

	if (!n->initialised)
		return 0;
	r = errno_of(n->api.count(&count));
	return r < 0 ? r : (int)count;
}

int aq_nvml_device_info(struct aq_nvml *n, uint32_t index, struct aq_nvml_device *ret_device)
{
	struct aq_nvml_device d = {.minor = UINT32_MAX};
	char uuid[96] = ""; /* Source: NVML_DEVICE_UUID_V2_BUFFER_SIZE */
	unsigned int mig = 0, pending = 0;
	nvmlPciInfo_t pci = {0};
	uint64_t used;
	int major, minor;
	nvmlDevice_t device;
	int r;

	r = device_at(n, index, &device);
	if (r < 0)
		return r;
	r = errno_of(n->api.uuid(device, uuid, sizeof(uuid)));
	if (r < 0)
		return r;
	r = aq_uuid_parse(uuid, d.uuid);
	if (r < 0)
		return r;
	r = memory_of(n, device, &d.memory_total_bytes, &used);
	if (r < 0)
		return r;

	if (n->api.name(device, d.name, sizeof(d.name)) != NVML_SUCCESS)
		d.name[0] = '\0';
	if (n->api.driver_version(d.driver_version, sizeof(d.driver_version)) != NVML_SUCCESS)
		d.driver_version[0] = '\0';
	if (n->api.pci && n->api.pci(device, &pci) == NVML_SUCCESS)
		memcpy(d.pci_bus_id, pci.busId, sizeof(d.pci_bus_id) - 1);
	if (n->api.minor && n->api.minor(device, &d.minor) != NVML_SUCCESS)
		d.minor = UINT32_MAX;
	if (n->api.capability && n->api.capability(device, &major, &minor) == NVML_SUCCESS) {
		d.capability_major = (uint32_t)major;
		d.capability_minor = (uint32_t)minor;
	}
	if (n->api.mig_mode && n->api.mig_mode(device, &mig, &pending) == NVML_SUCCESS)
		d.mig_enabled = mig != 0;
	d.name[sizeof(d.name) - 1] = '\0';
	*ret_device = d;
	return 0;
}

int aq_nvml_memory_used(struct aq_nvml *n, uint32_t index, uint64_t *ret_bytes)
{
	nvmlDevice_t device;
	uint64_t total;
	int r = device_at(n, index, &device);

	return r < 0 ? r : memory_of(n, device, &total, ret_bytes);
}

/* One reading into entries of the older form, whichever form the library speaks. */
static int read_processes(struct aq_nvml *n, nvmlDevice_t device, unsigned int *count,
			  struct aq_nvml_process *ret_procs)
{
	const unsigned int room = *count;
	AQ_CLEANUP(free) nvmlProcessInfo_t *now = NULL;
	AQ_CLEANUP(free) nvmlProcessInfo_v1_t *old = NULL;
	nvmlReturn_t status;

	if (n->api.processes) {
		now = calloc(*count, sizeof(*now));
		if (!now)
			return -ENOMEM;
		status = n->api.processes(device, count, now);
	} else if (n->api.processes_v1) {
		old = calloc(*count, sizeof(*old));
		if (!old)
			return -ENOMEM;
		status = n->api.processes_v1(device, count, old);
	} else {
		return -EOPNOTSUPP;
	}
	if (status != NVML_SUCCESS)
		return errno_of(status);
	if (*count > room)
		return -EIO;
	for (unsigned int i = 0; i < *count; i++) {
		unsigned long long used = now ? now[i].usedGpuMemory : old[i].usedGpuMemory;

		ret_procs[i] = (struct aq_nvml_process){
			.pid = (int32_t)(now ? now[i].pid : old[i].pid),
			.used_bytes = used == NVML_VALUE_NOT_AVAILABLE_ULL ? AQ_NVML_UNKNOWN : used,
		};
	}
	return 0;
}

int aq_nvml_processes(struct aq_nvml *n, uint32_t index, struct aq_nvml_process *procs, size_t max)
{
	nvmlDevice_t device;
	unsigned int room = 64;
	int r = device_at(n, index, &device);

	if (r < 0)
		return r;
	for (int i = 0; i < LIST_TRIES; i++) {
		AQ_CLEANUP(free) struct aq_nvml_process *read = calloc(room, sizeof(*read));
		unsigned int count = room;

		if (!read)
			return -ENOMEM;
		r = read_processes(n, device, &count, read);
		if (r == -ENOSPC && count < LIST_MAX) {
			room = (count > room ? count : room) + LIST_SPARE;
			continue;
		}
		if (r < 0)
			return r;
		if (count > max)
			return -ENOSPC;
		memcpy(procs, read, count * sizeof(*read));
		return (int)count;
	}
	return -EBUSY;
}

int aq_nvml_utilisations(struct aq_nvml *n, uint32_t index, uint64_t since_us,
			 struct aq_nvml_utilisation *samples, size_t max)
{
	unsigned int count = max > LIST_MAX ? LIST_MAX : (unsigned int)max;
	const unsigned int room = count;
	AQ_CLEANUP(free) nvmlProcessUtilizationSample_t *read = calloc(room, sizeof(*read));
	nvmlDevice_t device;
	nvmlReturn_t status;
	int r = read ? device_at(n, index, &device) : -ENOMEM;

	if (r < 0)
		return r;
	if (!n->api.utilisation)
		return -EOPNOTSUPP;
	status = n->api.utilisation(device, read, &count, since_us);
	if (status == NVML_ERROR_NOT_FOUND) /* nobody had work since */
		return 0;
	if (status != NVML_SUCCESS)
		return errno_of(status);
	if (count > room)
		return -EIO;
	for (unsigned int i = 0; i < count; i++)
		samples[i] = (struct aq_nvml_utilisation){
			.pid = (int32_t)read[i].pid,
			.sm_percent = read[i].smUtil > 100 ? 100 : read[i].smUtil,
			.time_us = read[i].timeStamp,
		};
	return (int)count;
}

int aq_nvml_sim_add(struct aq_nvml *n, const char *dir, const char *spec)
{
	int r;

	if (!n->api.sim_add)
		return -ENOSYS;
	r = n->api.sim_add(dir, spec);
	if (r < 0 || n->initialised)
		return r;
	return initialise(n);
}

int aq_nvml_sim_remove(struct aq_nvml *n, const char *dir)
{
	return n->api.sim_remove ? n->api.sim_remove(dir) : -ENOSYS;
}
