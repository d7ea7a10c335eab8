/* SPDX-License-Identifier: Apache-2.0 */
/* Lists devices through src/nvml and keeps their last readings. Judges nothing. */
#include "daemon/device.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/banned.h"

#define SIM_MARKER "made-by-aliquotd"
#define FIRST_PROCS 256u
#define MAX_PROCS 16384u /* on one device; beyond that the reading is given up */

static struct aqd_device *known_device(struct aqd *d, const uint8_t uuid[16])
{
	for (uint32_t i = 0; i < d->ledger.device_count; i++)
		if (!memcmp(d->device[i].info.uuid, uuid, 16))
			return &d->device[i];
	return NULL;
}

struct aqd_device *aqd_device_by_uuid(struct aqd *d, const uint8_t uuid[16])
{
	return known_device(d, uuid);
}

static void add_device(struct aqd *d, struct aq_nvml *n, uint32_t nvml_index,
		       const struct aq_nvml_device *info, bool simulated, const char *profile)
{
	struct aqd_device *dev;
	int index = aq_ledger_add_device(&d->ledger, info->memory_total_bytes);

	if (index < 0) {
		aq_warn("device '%s' left out: %s", info->name, strerror(-index));
		return;
	}
	dev = &d->device[index];
	dev->index = (uint32_t)index;
	dev->nvml = n;
	dev->nvml_index = nvml_index;
	dev->info = *info;
	dev->simulated = simulated;
	aq_uuid_format(info->uuid, dev->uuid);
	aq_list_init(&dev->foreigners);
	if (profile)
		aqd_device_set_profile(dev, profile);
	aq_info("device %d: %s, %s, %llu bytes%s", index, info->name, dev->uuid,
		(unsigned long long)info->memory_total_bytes, simulated ? ", simulated" : "");
}

/* Take in what @n shows and is not known; the others may have a new index or library. */
static int list_devices(struct aqd *d, struct aq_nvml *n, bool simulated, const char *profile)
{
	int count = aq_nvml_device_count(n);

	if (count < 0)
		return count;
	for (uint32_t i = 0; i < (uint32_t)count; i++) {
		struct aq_nvml_device info;
		struct aqd_device *dev;
		int r = aq_nvml_device_info(n, i, &info);

		if (r < 0) {
			aq_warn("device %u: %s", i, strerror(-r));
			continue;
		}
		dev = known_device(d, info.uuid);
		if (dev) {
			dev->nvml = n;
			dev->nvml_index = i;
		} else if (info.mig_enabled) {
			aq_warn("device '%s' is cut into MIG instances: left out", info.name);
		} else {
			add_device(d, n, i, &info, simulated, profile);
		}
	}
	return 0;
}

void aqd_device_set_profile(struct aqd_device *dev, const char *profile)
{
	snprintf(dev->profile, sizeof(dev->profile), "%s", profile);
}

static int sim_library(const struct aqd *d, char *path, size_t size)
{
	if (!d->libdir[0])
		return -ENOENT;
	snprintf(path, size, "%s/sim/libnvidia-ml.so.1", d->libdir);
	return access(path, R_OK) < 0 ? -errno : 0;
}

static bool machine_exists(const struct aqd *d)
{
	char path[AQ_PATH_BYTES + 16];
	struct stat st;

	snprintf(path, sizeof(path), "%s/machine", d->sim_dir);
	return lstat(path, &st) == 0;
}

/*
 * That a machine is the daemon's to remove is said by a file beside it, which is there before the
 * machine is: so it outlives whatever happens to the daemon and to its state.
 */
static int marker_path(const struct aqd *d, char *buf)
{
	return aq_paths_join(buf, d->sim_dir, SIM_MARKER);
}

static int mark(struct aqd *d)
{
	AQ_CLEANUP(close) int fd = -1;
	char path[AQ_PATH_BYTES];
	int r = marker_path(d, path);

	if (r < 0)
		return r;
	if (mkdir(d->sim_dir, d->system ? 0755 : 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : 0;
}

static void unmark(struct aqd *d)
{
	char path[AQ_PATH_BYTES];

	if (marker_path(d, path) == 0)
		unlink(path);
	if (rmdir(d->sim_dir) < 0 && errno != ENOENT)
		aq_debug("'%s': %s", d->sim_dir, strerror(errno));
}

static bool is_marked(const struct aqd *d)
{
	char path[AQ_PATH_BYTES];

	return marker_path(d, path) == 0 && access(path, F_OK) == 0;
}

/* (Re)open the simulator, which creates the machine from $ALIQUOT_SIM when there is none. */
static int open_sim(struct aqd *d, const char *spec)
{
	char path[AQ_PATH_BYTES + 32];
	struct aq_nvml *n;
	int r = sim_library(d, path, sizeof(path));

	if (r < 0)
		return r;
	setenv("ALIQUOT_SIM_DIR", d->sim_dir, 1);
	if (spec)
		setenv("ALIQUOT_SIM", spec, 1);
	r = aq_nvml_open(path, &n);
	unsetenv("ALIQUOT_SIM");
	if (r < 0)
		return r;
	d->nvml_sim = n;
	return 0;
}

/* `h100:2` -> `h100`; a list of several has no one word. */
static const char *profile_word(const char *spec, char *buf)
{
	size_t n = strcspn(spec, ":,");

	if (strchr(spec, ',') || n >= AQD_PROFILE_BYTES)
		return NULL;
	memcpy(buf, spec, n);
	buf[n] = '\0';
	return buf;
}

static int simulate(struct aqd *d, const char *spec)
{
	char word[AQD_PROFILE_BYTES];
	bool existed = machine_exists(d);
	int r = existed ? 0 : mark(d);

	if (r == 0 && !d->nvml_sim)
		r = open_sim(d, spec);
	if (r == 0)
		r = aq_nvml_sim_add(d->nvml_sim, d->sim_dir, spec);
	if (r < 0) {
		if (!machine_exists(d))
			unmark(d);
		return r;
	}
	if (!existed)
		d->sim_made = true;
	return list_devices(d, d->nvml_sim, true, profile_word(spec, word));
}

void aqd_devices_unsimulate(struct aqd *d)
{
	int r;

	if (!d->sim_made || !d->nvml_sim)
		return;
	r = aq_nvml_sim_remove(d->nvml_sim, d->sim_dir);
	if (r < 0 && r != -ENOENT) {
		aq_error("simulated machine '%s': %s", d->sim_dir, strerror(-r));
		return;
	}
	unmark(d);
	d->sim_made = false;
}

uint64_t aqd_devices_simulated(const struct aqd *d)
{
	uint64_t bits = 0;

	for (uint32_t i = 0; i < d->ledger.device_count; i++)
		bits |= d->device[i].simulated ? 1ull << i : 0;
	return bits;
}

int aqd_devices_simulate(struct aqd *d, const char *spec, uint64_t *ret_allowed)
{
	char word[AQD_PROFILE_BYTES];
	uint64_t same = 0, unknown = 0;
	int r;

	if (!profile_word(spec, word))
		return -EINVAL;
	r = simulate(d, spec);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < d->ledger.device_count; i++) {
		if (!d->device[i].simulated)
			continue;
		if (!strcasecmp(d->device[i].profile, word))
			same |= 1ull << i;
		else if (!d->device[i].profile[0])
			unknown |= 1ull << i;
	}
	/* A machine that others made: its devices say no profile, but one of them is it. */
	*ret_allowed = same ? same : unknown;
	return *ret_allowed ? 0 : -ENOENT;
}

uint64_t aqd_devices_auto(const struct aqd *d)
{
	uint64_t real = 0, simulated = 0;

	for (uint32_t i = 0; i < d->ledger.device_count; i++)
		*(d->device[i].simulated ? &simulated : &real) |= 1ull << i;
	return real ? real : simulated;
}

int aqd_devices_init(struct aqd *d, const char *sim_spec)
{
	int r;

	/* The system's library first: see aq_nvml_open(). */
	r = aq_nvml_open(NULL, &d->nvml_real);
	if (r == 0)
		r = list_devices(d, d->nvml_real, false, NULL);
	d->nvml_real_error = r;
	if (r < 0)
		aq_info("no NVIDIA device: %s",
			r == -ENOENT ? "no driver or no libnvidia-ml.so.1" : strerror(-r));

	d->sim_made = is_marked(d) && machine_exists(d);
	if (!sim_spec && !machine_exists(d))
		return 0;
	if (sim_spec) {
		r = simulate(d, sim_spec);
	} else {
		r = open_sim(d, NULL);
		if (r == 0)
			r = list_devices(d, d->nvml_sim, true, NULL);
		if (r < 0) { /* a leftover, or no simulator installed: real devices still serve */
			aq_warn("simulated devices in '%s': %s", d->sim_dir, strerror(-r));
			r = 0;
		}
	}
	return r;
}

void aqd_devices_finish(struct aqd *d)
{
	for (uint32_t i = 0; i < d->ledger.device_count; i++)
		free(d->device[i].procs);
	aq_nvml_close(d->nvml_sim);
	aq_nvml_close(d->nvml_real);
	d->nvml_sim = d->nvml_real = NULL;
}

static int by_pid(const void *a, const void *b)
{
	const struct aq_nvml_process *x = a, *y = b;

	return x->pid < y->pid ? -1 : x->pid > y->pid;
}

int aqd_device_read(struct aqd *d, struct aqd_device *dev)
{
	size_t room = FIRST_PROCS;
	int n;

	dev->memory_used_known =
		aq_nvml_memory_used(dev->nvml, dev->nvml_index, &dev->memory_used_bytes) == 0;
	for (;;) {
		struct aq_nvml_process *procs = realloc(dev->procs, room * sizeof(*procs));

		if (!procs)
			return -ENOMEM;
		dev->procs = procs;
		n = aq_nvml_processes(dev->nvml, dev->nvml_index, procs, room);
		if (n != -ENOSPC || room >= MAX_PROCS)
			break;
		room *= 4;
	}
	dev->procs_known = n >= 0;
	dev->proc_count = n > 0 ? (size_t)n : 0;
	if (n < 0) {
		if (!dev->procs_warned)
			aq_warn("processes of device '%s': %s", dev->uuid, strerror(-n));
		dev->procs_warned = true;
		return n;
	}
	qsort(dev->procs, dev->proc_count, sizeof(*dev->procs), by_pid);
	return 0;
}

bool aqd_device_process(const struct aqd_device *dev, pid_t pid, uint64_t *ret_used_bytes)
{
	struct aq_nvml_process key = {.pid = pid}, *hit;

	if (!dev->proc_count)
		return false;
	hit = bsearch(&key, dev->procs, dev->proc_count, sizeof(key), by_pid);
	if (!hit)
		return false;
	*ret_used_bytes = hit->used_bytes;
	return true;
}

const char *aqd_device_mechanism(const struct aqd *d, const struct aqd_device *dev)
{
	return aqd_leases_manage(&d->leases, dev->index) ? "leases" : "exclusive";
}
