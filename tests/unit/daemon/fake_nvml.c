/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An NVML for tests of the daemon: devices and the use of each process are what two text files in
 * $ALIQUOT_SIM_DIR say. Simulates no memory; a test writes what NVML is to see.
 *   machine: a line `TOTAL_BYTES NAME` for each device; made by aliquotSimAdd()
 *   usage:   a line `DEVICE PID BYTES` for each process on a device; missing means nobody
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nvml/nvml_abi.h"

#define EXPORT __attribute__((visibility("default")))
#define MAX_DEVICES 16u
#define TOTAL_BYTES (80ull << 30)

static struct fake {
	unsigned long long total;
	char name[64];
} devices[MAX_DEVICES];
static unsigned int count;

EXPORT nvmlReturn_t nvmlInit_v2(void);
EXPORT nvmlReturn_t nvmlShutdown(void);
EXPORT nvmlReturn_t nvmlSystemGetDriverVersion(char *text, unsigned int size);
EXPORT nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *ret);
EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *ret);
EXPORT nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *text, unsigned int size);
EXPORT nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *text, unsigned int size);
EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *ret);
EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *n,
							    nvmlProcessInfo_t *ret);
EXPORT int aliquotSimAdd(const char *dir, const char *spec);
EXPORT int aliquotSimRemove(const char *dir);

static FILE *open_in(const char *dir, const char *name, const char *mode)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return fopen(path, mode);
}

static const char *machine_dir(void)
{
	const char *dir = getenv("ALIQUOT_SIM_DIR");

	return dir ? dir : "/nonexistent";
}

static void load(const char *dir)
{
	FILE *f = open_in(dir, "machine", "r");

	count = 0;
	if (!f)
		return;
	while (count < MAX_DEVICES &&
	       fscanf(f, "%llu %63s", &devices[count].total, devices[count].name) == 2)
		count++;
	fclose(f);
}

/* Each call reads the files anew, as other processes see a machine grow. */
nvmlReturn_t nvmlInit_v2(void)
{
	const char *spec = getenv("ALIQUOT_SIM");

	load(machine_dir());
	if (!count && spec)
		aliquotSimAdd(machine_dir(), spec);
	return count ? NVML_SUCCESS : NVML_ERROR_DRIVER_NOT_LOADED;
}

nvmlReturn_t nvmlShutdown(void)
{
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *text, unsigned int size)
{
	snprintf(text, size, "1.0");
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *ret)
{
	*ret = count;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *ret)
{
	if (index >= count)
		return NVML_ERROR_INVALID_ARGUMENT;
	*ret = (nvmlDevice_t)(void *)&devices[index];
	return NVML_SUCCESS;
}

static unsigned int index_of(nvmlDevice_t device)
{
	return (unsigned int)((struct fake *)(void *)device - devices);
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *text, unsigned int size)
{
	snprintf(text, size, "GPU-00000000-0000-0000-0000-%012x", index_of(device) + 1);
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *text, unsigned int size)
{
	snprintf(text, size, "Fake %s", devices[index_of(device)].name);
	return NVML_SUCCESS;
}

/* Up to @room processes of a device. Return: how many there are. */
static unsigned int read_usage(nvmlDevice_t device, nvmlProcessInfo_t *to, unsigned int room,
			       unsigned long long *sum)
{
	FILE *f = open_in(machine_dir(), "usage", "r");
	unsigned int n = 0, at, pid;
	unsigned long long bytes;

	*sum = 0;
	while (f && fscanf(f, "%u %u %llu", &at, &pid, &bytes) == 3) {
		if (at != index_of(device))
			continue;
		if (n < room) {
			memset(&to[n], 0, sizeof(to[n]));
			to[n].pid = pid;
			to[n].usedGpuMemory = bytes;
		}
		*sum += bytes;
		n++;
	}
	if (f)
		fclose(f);
	return n;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *ret)
{
	unsigned long long used;

	read_usage(device, NULL, 0, &used);
	ret->total = devices[index_of(device)].total;
	ret->used = used;
	ret->free = ret->total - used;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *n,
						     nvmlProcessInfo_t *ret)
{
	unsigned long long sum;
	unsigned int room = *n;

	*n = read_usage(device, ret, room, &sum);
	return *n > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

/* One kind of card only: PROFILE may be any word but `none`. */
int aliquotSimAdd(const char *dir, const char *spec)
{
	const char *colon = strchr(spec, ':');
	unsigned int want = colon ? (unsigned int)strtoul(colon + 1, NULL, 10) : 1, have = 0;
	char word[64];
	FILE *f;

	snprintf(word, sizeof(word), "%.*s", (int)strcspn(spec, ":"), spec);
	if (!strcmp(word, "none") || !want)
		return -EINVAL;
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	load(dir);
	for (unsigned int i = 0; i < count; i++)
		have += !strcmp(devices[i].name, word);
	f = open_in(dir, "machine", "a");
	if (!f)
		return -errno;
	for (; have < want; have++)
		fprintf(f, "%llu %s\n", TOTAL_BYTES, word);
	fclose(f);
	load(dir);
	return 0;
}

int aliquotSimRemove(const char *dir)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/usage", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/machine", dir);
	unlink(path);
	return rmdir(dir) < 0 && errno != ENOENT && errno != ENOTEMPTY ? -errno : 0;
}
