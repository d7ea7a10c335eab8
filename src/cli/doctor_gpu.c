/* SPDX-License-Identifier: Apache-2.0 */
/* The GPUs' device nodes, the driver, and what else wants to share the GPUs. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/size.h"
#include "cli/doctor.h"
#include "cli/json.h"
#include "base/banned.h"

#define OLDEST_RELEASE 535 /* what we are tested with starts there */

/* Values of nvmlComputeMode_t. Source: NVML API Reference, device enumerations. */
enum { COMPUTE_DEFAULT = 0, COMPUTE_PROHIBITED = 2, COMPUTE_EXCLUSIVE_PROCESS = 3 };

/* /dev/nvidia0, /dev/nvidia1, ... */
static bool is_gpu_node(const char *name)
{
	if (strncmp(name, "nvidia", 6) || !name[6])
		return false;
	for (name += 6; *name; name++)
		if (!isdigit((unsigned char)*name))
			return false;
	return true;
}

static void check_helper_nodes(struct aq_doctor *d)
{
	static const struct {
		const char *path, *advice;
	} nodes[] = {
		{"/dev/nvidiactl", "nvidia-modprobe, as root"},
		{"/dev/nvidia-uvm", "nvidia-modprobe -u -c 0, as root: CUDA cannot start without"},
	};

	for (size_t i = 0; i < AQ_ARRAY_SIZE(nodes); i++)
		if (access(nodes[i].path, R_OK | W_OK) < 0)
			aq_doctor_add(d, "device nodes", AQ_HEALTH_FAIL, nodes[i].advice, "%s: %s",
				      nodes[i].path, strerror(errno));
}

void aq_doctor_devices(struct aq_doctor *d)
{
	AQ_CLEANUP(closedir) DIR *dev = opendir("/dev");
	unsigned int closed = 0;
	struct dirent *e;

	while (dev && (e = readdir(dev))) {
		char path[300];

		if (!is_gpu_node(e->d_name))
			continue;
		d->nodes++;
		snprintf(path, sizeof(path), "/dev/%s", e->d_name);
		if (!access(path, R_OK | W_OK))
			continue;
		closed++;
		aq_doctor_add(d, "device nodes", AQ_HEALTH_FAIL,
			      "ask for permission: usually the group that ls -l shows", "%s: %s",
			      path, strerror(errno));
	}
	if (!d->nodes && !access("/dev/dxg", F_OK)) {
		aq_doctor_add(d, "device nodes", AQ_HEALTH_WARN, NULL,
			      "/dev/dxg: a GPU through WSL, with which this is not tested");
		return;
	}
	if (!d->nodes) {
		aq_doctor_add(d, "device nodes", AQ_HEALTH_NA,
			      "for a real GPU install NVIDIA's driver (containers: pass the device "
			      "in); without one use --sim h100", "no NVIDIA GPU in /dev");
		return;
	}
	check_helper_nodes(d);
	if (!closed)
		aq_doctor_add(d, "device nodes", AQ_HEALTH_OK, NULL, "%u GPU%s, readable and "
			      "writable", d->nodes, d->nodes == 1 ? "" : "s");
}

/* One driver library. Return: what the probe said, or NULL. */
static json_t *check_library(struct aq_doctor *d, enum aq_driver_library which)
{
	const char *soname = aq_driver_names[which].soname, *error;
	enum aq_health missing = d->nodes ? AQ_HEALTH_FAIL : AQ_HEALTH_NA;
	char *path = d->driver[which];
	json_t *said;
	int64_t version;

	if (aq_driver_find(which, path) < 0) {
		path[0] = '\0';
		aq_doctor_add(d, soname, missing, d->nodes ?
			      which == AQ_DRIVER_CUDA ?
			      "install the driver's CUDA library (Debian: libcuda1); containers: "
			      "NVIDIA_DRIVER_CAPABILITIES=compute,utility" :
			      "install the driver's management library (Debian: libnvidia-ml1); "
			      "containers: NVIDIA_DRIVER_CAPABILITIES=compute,utility" : NULL,
			      "not installed");
		return NULL;
	}
	said = aq_probe_run(path, getenv("LD_LIBRARY_PATH"));
	error = said ? aq_json_text(said, "error", NULL) : "crashes or hangs when it is loaded";
	version = aq_json_int(said, "cuda_version");
	if (error)
		aq_doctor_add(d, soname, missing, d->nodes ?
			      "compare with nvidia-smi and the kernel's log (dmesg | grep NVRM)" :
			      NULL, "%s: %s", path, error);
	else if (version)
		aq_doctor_add(d, soname, AQ_HEALTH_OK, NULL, "%s, CUDA %lld.%lld", path,
			      (long long)version / 1000, (long long)version % 1000 / 10);
	else
		aq_doctor_add(d, soname, AQ_HEALTH_OK, NULL, "%s, %zu device(s)", path,
			      json_array_size(json_object_get(said, "devices")));
	return said;
}

static void check_release(struct aq_doctor *d)
{
	const char *release = aq_json_text(d->nvml, "release", "");
	long major = strtol(release, NULL, 10);

	if (!major)
		aq_doctor_add(d, "driver release", AQ_HEALTH_NA, NULL, "no driver loaded");
	else if (major >= OLDEST_RELEASE)
		aq_doctor_add(d, "driver release", AQ_HEALTH_OK, NULL, "%s", release);
	else
		aq_doctor_add(d, "driver release", AQ_HEALTH_WARN, "use r535 or later",
			      "%s is older than what this is tested with", release);
}

void aq_doctor_driver(struct aq_doctor *d)
{
	json_decref(check_library(d, AQ_DRIVER_CUDA));
	d->nvml = check_library(d, AQ_DRIVER_NVML);
	check_release(d);
}

static void check_modes(struct aq_doctor *d)
{
	const json_t *devices = json_object_get(d->nvml, "devices"), *device;
	bool bad = false;
	size_t i;

	json_array_foreach(devices, i, device) {
		int64_t mode = aq_json_int(device, "compute_mode");
		char advice[96];

		if (mode == COMPUTE_EXCLUSIVE_PROCESS || mode == COMPUTE_PROHIBITED) {
			snprintf(advice, sizeof(advice), "nvidia-smi -i %zu -c DEFAULT, as root",
				 i);
			aq_doctor_add(d, "compute mode", AQ_HEALTH_FAIL, advice,
				      "GPU %zu admits %s", i, mode == COMPUTE_PROHIBITED ?
				      "no program" : "one program only");
			bad = true;
		}
		if (aq_json_true(device, "mig")) {
			snprintf(advice, sizeof(advice), "nvidia-smi -i %zu -mig 0, as root", i);
			aq_doctor_add(d, "MIG", AQ_HEALTH_WARN, advice,
				      "GPU %zu is cut into hardware slices, which are not divided "
				      "further", i);
			bad = true;
		}
		if (!aq_json_true(device, "persistent"))
			aq_doctor_add(d, "persistence", AQ_HEALTH_WARN,
				      "nvidia-smi -pm 1, or nvidia-persistenced, as root",
				      "GPU %zu is started anew for each program, which takes a "
				      "second or more", i);
	}
	if (!json_array_size(devices))
		aq_doctor_add(d, "compute mode", AQ_HEALTH_NA, NULL, "no GPU to ask");
	else if (!bad)
		aq_doctor_add(d, "compute mode", AQ_HEALTH_OK, NULL,
			      "all GPUs admit several programs; none is in MIG mode");
}

/* Source: Multi-Process Service, CUDA_MPS_PIPE_DIRECTORY and its default. */
static void check_mps(struct aq_doctor *d)
{
	const char *dir = getenv("CUDA_MPS_PIPE_DIRECTORY");
	AQ_CLEANUP(free) char *text = NULL;
	char path[512];
	long pid = 0;

	if (!dir || !*dir)
		dir = "/tmp/nvidia-mps";
	snprintf(path, sizeof(path), "%.400s/nvidia-cuda-mps-control.pid", dir);
	if (aq_file_read(path, 64, &text) > 0)
		pid = strtol(text, NULL, 10);
	if (pid > 0 && (!kill((pid_t)pid, 0) || errno == EPERM))
		aq_doctor_add(d, "MPS", AQ_HEALTH_WARN,
			      "for separate programs end it: echo quit | nvidia-cuda-mps-control",
			      "running (pid %ld): a fault in one program ends the others, and its "
			      "server holds their memory", pid);
	else
		aq_doctor_add(d, "MPS", AQ_HEALTH_OK, NULL, "not running");
}

void aq_doctor_sharing(struct aq_doctor *d)
{
	check_modes(d);
	check_mps(d);
}
