/* SPDX-License-Identifier: Apache-2.0 */
/* Our own parts: guard, simulator, directories, daemons. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <aliquot/abi.h>

#include "base/cleanup.h"
#include "base/paths.h"
#include "cli/api.h"
#include "cli/doctor.h"
#include "cli/json.h"
#include "cli/start.h"
#include "base/banned.h"

#define AGAIN "reinstall aliquot, or set ALIQUOT_LIBDIR"

/* What aq_driver_link() made in @dir. */
static void remove_links(const char *dir, const char *links)
{
	for (int i = 0; i < AQ_DRIVER_LIBRARIES; i++) {
		char path[2 * AQ_PATH_BYTES];

		snprintf(path, sizeof(path), "%s/%s", links, aq_driver_names[i].alias);
		unlink(path);
	}
	rmdir(links);
	rmdir(dir);
}

/* Load one face of the guard as a program would: with the driver, or the simulator, behind it. */
static void check_face(struct aq_doctor *d, enum aq_driver_library which)
{
	static const char *const names[] = {
		[AQ_DRIVER_CUDA] = "guard",
		[AQ_DRIVER_NVML] = "guard (NVML)",
	};
	char path[AQ_PATH_BYTES], dir[AQ_PATH_BYTES], list[3 * AQ_PATH_BYTES];
	char files[AQ_DRIVER_LIBRARIES][AQ_PATH_BYTES], temp[] = "/tmp/aliquot-doctor.XXXXXX";
	const char *error, *behind = "the driver";
	bool linked = false;
	json_t *said;

	snprintf(path, sizeof(path), "%.200s/guard/%s", d->libdir, aq_driver_names[which].soname);
	if (access(path, R_OK) < 0) {
		aq_doctor_add(d, names[which],
			      which == AQ_DRIVER_CUDA ? AQ_HEALTH_FAIL : AQ_HEALTH_WARN, AGAIN,
			      "%s: %s", path, strerror(errno));
		return;
	}
	if (d->driver[AQ_DRIVER_CUDA][0] && mkdtemp(temp))
		linked = aq_driver_link(temp, files, dir) == 0;
	if (!linked) {
		if (!d->has_simulator) {
			aq_doctor_add(d, names[which], AQ_HEALTH_NA, NULL,
				      "%s: nothing to try it with", path);
			return;
		}
		snprintf(dir, sizeof(dir), "%.200s/sim-driver", d->libdir);
		behind = "the simulator";
	}
	snprintf(list, sizeof(list), "%s/guard:%s", d->libdir, dir);
	said = aq_probe_run(path, list);
	error = said ? aq_json_text(said, "error", NULL) : "crashes or hangs when it is loaded";
	if (!said || !aq_json_true(said, "loaded"))
		aq_doctor_add(d, names[which], AQ_HEALTH_FAIL, AGAIN, "%s: %s", path, error);
	else
		aq_doctor_add(d, names[which], AQ_HEALTH_OK, NULL, "%s, loads in front of %s",
			      path, behind);
	json_decref(said);
	if (linked)
		remove_links(temp, dir);
}

static void check_simulator(struct aq_doctor *d)
{
	static const char *const parts[] = {
		"sim/libcuda.so.1", "sim/libnvidia-ml.so.1", "sim-driver/libaliquot-driver.so.1",
		"sim-driver/libaliquot-driver-nvml.so.1",
	};
	char path[AQ_PATH_BYTES];

	for (size_t i = 0; i < AQ_ARRAY_SIZE(parts); i++) {
		if (!aq_paths_join(path, d->libdir, parts[i]) && !access(path, R_OK))
			continue;
		aq_doctor_add(d, "simulator", AQ_HEALTH_WARN, "needed for --sim only: " AGAIN,
			      "%s: %s", path, strerror(errno));
		return;
	}
	d->has_simulator = true;
	aq_doctor_add(d, "simulator", AQ_HEALTH_OK, NULL, "%s/sim", d->libdir);
}

static void check_rundir(struct aq_doctor *d)
{
	char rundir[AQ_PATH_BYTES];
	struct stat st;

	if (aq_paths_rundir_user(rundir) < 0) {
		aq_doctor_add(d, "run directory", AQ_HEALTH_FAIL, "set it to something shorter",
			      "XDG_RUNTIME_DIR is too long for a socket");
	} else if (lstat(rundir, &st) < 0) {
		aq_doctor_add(d, "run directory", AQ_HEALTH_OK, NULL,
			      "%s will be made when it is needed", rundir);
	} else if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid()) {
		aq_doctor_add(d, "run directory", AQ_HEALTH_FAIL,
			      "remove it, or set XDG_RUNTIME_DIR", "%s is not a directory of yours",
			      rundir);
	} else if (st.st_mode & 077) {
		char advice[AQ_FINDING_TEXT];

		snprintf(advice, sizeof(advice), "chmod 700 %s", rundir);
		aq_doctor_add(d, "run directory", AQ_HEALTH_FAIL, advice,
			      "%s is open to others", rundir);
	} else {
		aq_doctor_add(d, "run directory", AQ_HEALTH_OK, NULL, "%s", rundir);
	}
}

void aq_doctor_install(struct aq_doctor *d)
{
	check_rundir(d);
	if (aq_paths_libdir(d->libdir) < 0) {
		d->libdir[0] = '\0';
		aq_doctor_add(d, "guard", AQ_HEALTH_FAIL, AGAIN,
			      "guard/libcuda.so.1 is not beside this program");
		return;
	}
	check_simulator(d);
	check_face(d, AQ_DRIVER_CUDA);
	check_face(d, AQ_DRIVER_NVML);
	if (!d->nodes && !d->has_simulator)
		aq_doctor_add(d, "GPU or simulator", AQ_HEALTH_FAIL,
			      "install NVIDIA's driver, or aliquot's simulator",
			      "there is neither");
}

/* What a daemon says about itself. */
static void check_status(struct aq_doctor *d, struct aq_api *api)
{
	json_t *status = aq_api_get(api, "/v1/status", "doctor");
	const json_t *warning;
	size_t i;

	if (aq_json_uint(status, "abi") && aq_json_uint(status, "abi") != AQ_ABI_VERSION)
		aq_doctor_add(d, "daemon", AQ_HEALTH_FAIL,
			      "restart it; programs that run keep what they hold",
			      "version %s speaks ABI %llu, this is " AQ_VERSION " with ABI %u",
			      aq_json_text(status, "version", "?"),
			      (unsigned long long)aq_json_uint(status, "abi"), AQ_ABI_VERSION);
	else if (status)
		aq_doctor_add(d, "daemon", AQ_HEALTH_OK, NULL,
			      "%s, version %s, pid %lld, %lld fraction(s), %lld client(s), in %s",
			      api->system ? "system" : "private",
			      aq_json_text(status, "version", "?"),
			      (long long)aq_json_int(status, "pid"),
			      (long long)aq_json_int(status, "fractions"),
			      (long long)aq_json_int(status, "clients"), api->rundir);
	else
		aq_doctor_add(d, "daemon", AQ_HEALTH_FAIL, "end it, and see aliquotd.log there",
			      "the one in %s listens but does not answer", api->rundir);
	json_array_foreach(json_object_get(status, "warnings"), i, warning)
		if (json_is_string(warning))
			aq_doctor_add(d, "daemon warns", AQ_HEALTH_WARN, NULL, "%s",
				      json_string_value(warning));
	json_decref(status);
}

void aq_doctor_daemon(struct aq_doctor *d)
{
	char program[AQ_PATH_BYTES];
	struct aq_api api;
	int r = aq_api_open(&api, AQ_API_RUNNING, "doctor", NULL);

	if (!r) {
		check_status(d, &api);
	} else if (r != -ECONNREFUSED) {
		aq_doctor_add(d, "daemon", AQ_HEALTH_FAIL, NULL, "%s", strerror(-r));
	} else if (aq_start_find(program) < 0) {
		aq_doctor_add(d, "daemon", AQ_HEALTH_FAIL, AGAIN,
			      "none is running, and aliquotd is not beside this program");
	} else {
		aq_doctor_add(d, "daemon", AQ_HEALTH_OK, NULL,
			      "none is running; 'aliquot run' will start %s", program);
	}
}
