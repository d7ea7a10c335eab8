/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads a driver library and asks its version, in a process of its own: a broken driver may crash
 * or hang, and the library path is fixed when a process starts. The answer is a line of JSON.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/timing.h"
#include "cli/doctor.h"
#include "cli/json.h"
#include "base/banned.h"

#define ANSWER_BYTES 16384
#define PATIENCE_MS 20000
#define MAX_DEVICES 64

/*
 * The few entry points, by name and type. Source: CUDA Driver API, cuDriverGetVersion; NVML API
 * Reference, device queries.
 */
struct nvml {
	int (*init)(void);
	const char *(*error_string)(int error);
	int (*driver_version)(char *text, unsigned int size);
	int (*count)(unsigned int *count);
	int (*handle)(unsigned int index, void **device);
	int (*name)(void *device, char *text, unsigned int size);
	int (*compute_mode)(void *device, int *mode);
	int (*mig_mode)(void *device, unsigned int *current, unsigned int *pending);
	int (*persistence)(void *device, int *on);
};

static json_t *ask_device(const struct nvml *n, unsigned int index)
{
	unsigned int mig = 0, pending = 0;
	int mode = 0, persistent = 1;
	char name[96] = "?";
	void *device;

	if (n->handle(index, &device))
		return json_null();
	if (n->name)
		n->name(device, name, sizeof(name));
	if (n->compute_mode)
		n->compute_mode(device, &mode);
	if (n->mig_mode && n->mig_mode(device, &mig, &pending))
		mig = 0; /* not supported */
	if (n->persistence)
		n->persistence(device, &persistent);
	return json_pack("{s:s, s:i, s:b, s:b}", "name", name, "compute_mode", mode, "mig",
			 (int)mig, "persistent", persistent);
}

static void ask_nvml(void *library, json_t *answer)
{
	struct nvml n = {
		.init = dlsym(library, "nvmlInit_v2"),
		.error_string = dlsym(library, "nvmlErrorString"),
		.driver_version = dlsym(library, "nvmlSystemGetDriverVersion"),
		.count = dlsym(library, "nvmlDeviceGetCount_v2"),
		.handle = dlsym(library, "nvmlDeviceGetHandleByIndex_v2"),
		.name = dlsym(library, "nvmlDeviceGetName"),
		.compute_mode = dlsym(library, "nvmlDeviceGetComputeMode"),
		.mig_mode = dlsym(library, "nvmlDeviceGetMigMode"),
		.persistence = dlsym(library, "nvmlDeviceGetPersistenceMode"),
	};
	json_t *devices = json_array();
	unsigned int count = 0;
	char version[96] = "";
	int error;

	json_object_set_new(answer, "devices", devices);
	if (!n.init || !n.driver_version || !n.count || !n.handle) {
		json_object_set_new(answer, "error", json_string("lacks entry points of NVML"));
		return;
	}
	error = n.init();
	if (error) {
		const char *text = n.error_string ? n.error_string(error) : NULL;

		json_object_set_new(answer, "error", json_string(text ? text : "nvmlInit fails"));
		return;
	}
	n.driver_version(version, sizeof(version));
	json_object_set_new(answer, "release", json_string(version));
	n.count(&count);
	for (unsigned int i = 0; i < count && i < MAX_DEVICES; i++)
		json_array_append_new(devices, ask_device(&n, i));
}

int aq_probe_main(const char *library)
{
	json_t *answer = json_object();
	int (*driver_version)(int *version);
	void *handle;
	int version;

	handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	json_object_set_new(answer, "loaded", json_boolean(handle != NULL));
	if (!handle) {
		json_object_set_new(answer, "error", json_string(dlerror()));
	} else {
		driver_version = (int (*)(int *))dlsym(handle, "cuDriverGetVersion");
		if (driver_version && !driver_version(&version))
			json_object_set_new(answer, "cuda_version", json_integer(version));
		if (dlsym(handle, "nvmlInit_v2"))
			ask_nvml(handle, answer);
	}
	json_dumpf(answer, stdout, JSON_COMPACT);
	json_decref(answer);
	return 0;
}

/* All that comes within @deadline_ns, NUL-terminated. Return: bytes. */
static size_t read_answer(int fd, char *buf, size_t size, uint64_t deadline_ns)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	size_t len = 0;
	ssize_t n = 1;

	while (n > 0 && len < size - 1) {
		uint64_t now = aq_now_ns();

		if (now >= deadline_ns ||
		    poll(&p, 1, (int)((deadline_ns - now) / AQ_NS_PER_MS) + 1) <= 0)
			break;
		n = read(fd, buf + len, size - 1 - len);
		if (n > 0)
			len += (size_t)n;
	}
	buf[len] = '\0';
	return len;
}

static void __attribute__((noreturn)) become_probe(const char *library, const char *path, int out)
{
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (path)
		setenv("LD_LIBRARY_PATH", path, 1);
	else
		unsetenv("LD_LIBRARY_PATH");
	if (null_fd >= 0 && dup2(null_fd, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0 &&
	    dup2(null_fd, STDERR_FILENO) >= 0)
		execl("/proc/self/exe", "aliquot", "doctor", "--probe", library, (char *)NULL);
	_exit(1);
}

json_t *aq_probe_run(const char *library, const char *library_path)
{
	AQ_CLEANUP(close) int from = -1;
	char answer[ANSWER_BYTES];
	int fds[2];
	pid_t child;
	size_t n;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return NULL;
	from = fds[0];
	child = fork();
	if (!child)
		become_probe(library, library_path, fds[1]);
	close(fds[1]);
	if (child < 0)
		return NULL;
	n = read_answer(from, answer, sizeof(answer), aq_now_ns() + PATIENCE_MS * AQ_NS_PER_MS);
	kill(child, SIGKILL); /* it has answered, or hangs */
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	return n ? json_loadb(answer, n, 0, NULL) : NULL;
}
