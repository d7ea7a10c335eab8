/* SPDX-License-Identifier: Apache-2.0 */
/* Shows devices, fractions and the daemon itself. Changes nothing. */
#include "daemon/json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "daemon/client.h"
#include "daemon/compute.h"
#include "daemon/device.h"
#include "daemon/event.h"
#include "daemon/need.h"
#include "daemon/residency.h"
#include "base/banned.h"

static const char *const priorities[] = {
	[AQ_PRIORITY_LOW] = "low",
	[AQ_PRIORITY_NORMAL] = "normal",
	[AQ_PRIORITY_HIGH] = "high",
};

const char *aqd_priority_word(enum aq_priority priority)
{
	return priorities[priority];
}

int aqd_priority_parse(const char *word, enum aq_priority *ret)
{
	for (size_t i = 0; i < AQ_ARRAY_SIZE(priorities); i++)
		if (!strcmp(word, priorities[i])) {
			*ret = (enum aq_priority)i;
			return 0;
		}
	return -EINVAL;
}

static void set_uint(json_t *o, const char *key, uint64_t value)
{
	json_object_set_new(o, key, json_integer((json_int_t)value));
}

static void set_text(json_t *o, const char *key, const char *text)
{
	json_t *s = json_string(text);

	json_object_set_new(o, key, s ? s : json_string("?")); /* not UTF-8 */
}

static void set_bool(json_t *o, const char *key, bool value)
{
	json_object_set_new(o, key, json_boolean(value));
}

json_t *aqd_json_device(struct aqd *d, struct aqd_device *dev)
{
	const struct aq_ledger_device *l = &d->ledger.device[dev->index];
	json_t *o = json_object();
	char capability[32];
	uint64_t used;

	if (!o)
		return NULL;
	if (aq_nvml_memory_used(dev->nvml, dev->nvml_index, &used) < 0)
		used = l->held_bytes;
	snprintf(capability, sizeof(capability), "%u.%u", dev->info.capability_major,
		 dev->info.capability_minor);
	set_uint(o, "index", dev->index);
	set_text(o, "uuid", dev->uuid);
	set_text(o, "name", dev->info.name);
	set_uint(o, "memory_total_bytes", l->total_bytes);
	set_uint(o, "memory_used_bytes", used);
	set_uint(o, "memory_reserved_bytes", l->request_bytes);
	set_uint(o, "memory_held_bytes", l->held_bytes);
	set_uint(o, "memory_free_bytes", aq_ledger_device_free(&d->ledger, dev->index));
	set_uint(o, "compute_reserved_permille", l->compute_request_permille);
	set_text(o, "mechanism", aqd_device_mechanism(d, dev));
	set_bool(o, "simulated", dev->simulated);
	set_uint(o, "fractions", l->fraction_count);
	set_text(o, "pci_bus_id", dev->info.pci_bus_id);
	set_text(o, "driver_version", dev->info.driver_version);
	set_text(o, "compute_capability", capability);
	if (dev->profile[0])
		set_text(o, "profile", dev->profile);
	return o;
}

json_t *aqd_json_devices(struct aqd *d)
{
	json_t *all = json_array();

	for (uint32_t i = 0; i < d->ledger.device_count; i++)
		json_array_append_new(all, aqd_json_device(d, &d->device[i]));
	return all;
}

struct totals {
	uint64_t request, limit, used;
};

static json_t *shares_json(struct aqd *d, const struct aqd_fraction *f, struct totals *sum)
{
	const struct aq_ledger_fraction *l = &f->ledger;
	json_t *all = json_array();

	for (uint32_t i = 0; i < l->share_count; i++) {
		const struct aq_ledger_share *s = &l->share[i];
		json_t *o = json_object();
		uint64_t used = aq_ledger_used(&d->ledger, l, i);

		set_text(o, "uuid", d->device[s->device].uuid);
		set_uint(o, "index", s->device);
		set_uint(o, "memory_request_bytes", s->request_bytes);
		set_uint(o, "memory_limit_bytes", s->limit_bytes);
		set_uint(o, "memory_used_bytes", used);
		set_uint(o, "memory_free_bytes", aqd_need_free(d, f, i));
		set_uint(o, "gpu_time_ns", aqd_lease_gpu_ns(&f->lease, i));
		set_uint(o, "memory_parked_bytes", aqd_parked_share(f, i));
		set_bool(o, "over_limit", s->over);
		json_array_append_new(all, o);
		sum->request += s->request_bytes;
		sum->limit += s->limit_bytes;
		sum->used += used;
	}
	return all;
}

static json_t *clients_json(struct aqd *d, const struct aq_ledger_fraction *l)
{
	json_t *all = json_array();
	struct aq_ledger_client *c, *tmp;

	AQ_LIST_FOREACH (c, tmp, &l->clients, link) {
		json_t *o = json_object();
		uint64_t used = 0, overhead = 0;

		for (uint32_t i = 0; i < l->share_count; i++) {
			used += aq_ledger_client_used(&d->ledger, c, i);
			overhead += c->hold[i].overhead_bytes + c->hold[i].reserved_bytes;
		}
		set_uint(o, "pid", (uint64_t)aqd_client_of(c)->process->pid);
		set_uint(o, "memory_used_bytes", used);
		set_uint(o, "memory_overhead_bytes", overhead);
		set_uint(o, "memory_parked_bytes", aqd_parked_client(aqd_client_of(c)));
		set_bool(o, "connected", aqd_client_of(c)->conn != NULL);
		if (c->cut)
			set_bool(o, "cut_off", true);
		json_array_append_new(all, o);
	}
	return all;
}

json_t *aqd_json_fraction(struct aqd *d, const struct aqd_fraction *f)
{
	json_t *o = json_object(), *shares;
	struct totals sum = {0};

	if (!o)
		return NULL;
	shares = shares_json(d, f, &sum);
	set_text(o, "name", f->name);
	set_text(o, "project", f->project);
	set_text(o, "priority", aqd_priority_word(f->ledger.priority));
	set_text(o, "state", aqd_parked(f) ? "parked" : "running");
	set_text(o, "residency", aqd_residency_word(f->residency.state));
	json_object_set_new(o, "devices", shares);
	set_uint(o, "memory_request_bytes", sum.request);
	set_uint(o, "memory_limit_bytes", sum.limit);
	set_uint(o, "memory_used_bytes", sum.used);
	set_uint(o, "memory_parked_bytes", aqd_parked(f));
	set_uint(o, "compute_request_permille", f->ledger.compute_request_permille);
	set_uint(o, "compute_limit_permille", f->ledger.compute_limit_permille);
	set_uint(o, "gpu_time_ns", aqd_compute_gpu_ns(f));
	json_object_set_new(o, "clients", clients_json(d, &f->ledger));
	set_text(o, "command", f->command);
	set_uint(o, "owner_uid", f->owner);
	json_object_set_new(o, "holder_pid",
			    f->holder ? json_integer(f->holder->pid) : json_null());
	set_uint(o, "created_s", f->created_s);
	set_uint(o, "denials", f->denials);
	return o;
}

json_t *aqd_json_waiting(struct aqd *d, const struct aqd_wait *w)
{
	json_t *o = json_object();
	struct aq_ledger_spec spec = {0};
	uint32_t n = w->ask.placement.device_count;

	if (!o)
		return NULL;
	/* What it would be on the first device that it may have. */
	for (uint32_t i = 0; i < d->ledger.device_count; i++)
		if (w->ask.placement.allowed & 1ull << i) {
			aq_placement_terms(&w->ask.placement, d->ledger.device[i].total_bytes,
					   &spec);
			break;
		}
	set_text(o, "name", w->ask.name);
	set_text(o, "project", w->ask.project);
	set_text(o, "priority", aqd_priority_word(w->ask.placement.priority));
	set_text(o, "state", "waiting");
	json_object_set_new(o, "devices", json_array());
	set_uint(o, "memory_request_bytes", n * spec.share[0].request_bytes);
	set_uint(o, "memory_limit_bytes", n * spec.share[0].limit_bytes);
	set_uint(o, "memory_used_bytes", 0);
	set_uint(o, "memory_parked_bytes", 0);
	set_uint(o, "compute_request_permille", spec.compute_request_permille);
	set_uint(o, "compute_limit_permille", spec.compute_limit_permille);
	set_uint(o, "gpu_time_ns", 0);
	json_object_set_new(o, "clients", json_array());
	set_text(o, "command", w->ask.command);
	set_uint(o, "owner_uid", w->ask.owner);
	json_object_set_new(o, "holder_pid", json_integer(w->ask.holder->pid));
	return o;
}

json_t *aqd_json_fractions(struct aqd *d)
{
	json_t *all = json_array();
	struct aqd_fraction *f, *next_fraction;
	struct aqd_wait *w, *next_wait;

	AQ_LIST_FOREACH (f, next_fraction, &d->fractions, link)
		json_array_append_new(all, aqd_json_fraction(d, f));
	AQ_LIST_FOREACH (w, next_wait, &d->waits, link)
		json_array_append_new(all, aqd_json_waiting(d, w));
	return all;
}

static json_t *warnings_json(struct aqd *d)
{
	json_t *all = json_array();

	if (!d->ledger.device_count)
		json_array_append_new(all, json_string("no device, real or simulated"));
	if (!d->libdir[0])
		json_array_append_new(all,
				      json_string("guard libraries not found beside aliquotd"));
	if (aq_ledger_check(&d->ledger) < 0)
		json_array_append_new(all, json_string("the ledger does not add up: a bug"));
	if (d->state_failed)
		json_array_append_new(
			all,
			json_string("the state cannot be written: a daemon after this one would "
				    "not know of the last changes"));
	for (uint32_t i = 0; i < d->ledger.device_count; i++) {
		const struct aqd_device *dev = &d->device[i];
		char text[128];

		if (dev->procs_warned) {
			snprintf(
				text, sizeof(text),
				"device %u does not tell memory by process: contexts are estimated",
				i);
			json_array_append_new(all, json_string(text));
		}
		if (d->ledger.device[i].over) {
			snprintf(text, sizeof(text), "device %u has more promised than it has", i);
			json_array_append_new(all, json_string(text));
		}
	}
	return all;
}

json_t *aqd_json_status(struct aqd *d)
{
	json_t *mechanisms = json_array(), *events = json_object();
	const struct aqd_config *c = &d->config;

	for (uint32_t i = 0; i < d->ledger.device_count; i++)
		json_array_append_new(mechanisms,
				      json_pack("{s:s,s:s,s:s,s:s?,s:b,s:b}", "uuid",
						d->device[i].uuid, "memory", "guard and ledger",
						"compute", aqd_device_mechanism(d, &d->device[i]),
						"lease_holder", aqd_compute_holder(d, i),
						"time_sampled", (int)d->device[i].samples,
						"measured_by_process",
						(int)!d->device[i].procs_warned));
	for (int t = 0; t < AQD_EVENT_TYPES; t++)
		set_uint(events, aqd_event_word((enum aqd_event_type)t),
			 aqd_events_count(d, (enum aqd_event_type)t));
	return json_pack(
		"{s:s,s:i,s:i,s:s,s:b,s:s,s:s,s:s,s:s?,s:s,s:o,s:I,s:I,s:I,"
		"s:{s:b,s:b,s:I,s:I},s:{s:I,s:I,s:I},s:o,s:o}",
		"version", AQ_VERSION, "abi", (int)AQ_ABI_VERSION, "pid", (int)getpid(), "rundir",
		d->rundir, "system", (int)d->system, "guard_socket", d->guard_path, "api_socket",
		d->api_path, "libdir", d->libdir, "config_path", d->config_path, "nvml",
		d->nvml_real			? "open"
		: d->nvml_real_error == -ENOENT ? "no driver or no libnvidia-ml.so.1"
						: strerror(-d->nvml_real_error),
		"mechanisms", mechanisms, "fractions", (json_int_t)d->ledger.fraction_count,
		"clients", (json_int_t)d->ledger.client_count, "connections",
		(json_int_t)d->conn_count, "config", "fail_open", (int)c->fail_open, "allow_kill",
		(int)c->allow_kill, "linger_ns", (json_int_t)c->linger_ns, "idle_exit_ns",
		(json_int_t)c->idle_exit_ns, "limits", "clients", (json_int_t)AQD_MAX_CLIENTS,
		"fractions", (json_int_t)AQD_MAX_FRACTIONS, "devices_per_fraction",
		(json_int_t)AQ_MAX_DEVICES, "warnings", warnings_json(d), "events", events);
}
