/* SPDX-License-Identifier: Apache-2.0 */
/* GET /metrics: Prometheus text. Every metric once, in one table each for devices and fractions. */
#include <inttypes.h>
#include <stdio.h>

#include <event2/buffer.h>

#include "base/cleanup.h"
#include "daemon/api.h"
#include "daemon/device.h"
#include "daemon/event.h"
#include "daemon/residency.h"
#include "base/banned.h"

enum unit { UNIT_PLAIN, UNIT_PERMILLE, UNIT_NS }; /* how an integer becomes the base unit */

static uint64_t device_total(struct aqd *d, const struct aqd_device *dev)
{
	return d->ledger.device[dev->index].total_bytes;
}

static uint64_t device_used(struct aqd *d, const struct aqd_device *dev)
{
	uint64_t used;

	return aq_nvml_memory_used(dev->nvml, dev->nvml_index, &used) < 0
		       ? d->ledger.device[dev->index].held_bytes
		       : used;
}

static uint64_t device_held(struct aqd *d, const struct aqd_device *dev)
{
	return d->ledger.device[dev->index].held_bytes;
}

static uint64_t device_reserved(struct aqd *d, const struct aqd_device *dev)
{
	return d->ledger.device[dev->index].request_bytes;
}

static uint64_t device_compute(struct aqd *d, const struct aqd_device *dev)
{
	return d->ledger.device[dev->index].compute_request_permille;
}

static uint64_t device_fractions(struct aqd *d, const struct aqd_device *dev)
{
	return d->ledger.device[dev->index].fraction_count;
}

static const struct {
	const char *name, *help;
	enum unit unit;
	uint64_t (*value)(struct aqd *d, const struct aqd_device *dev);
} device_metrics[] = {
	{"memory_total_bytes", "Memory that programs can have.", UNIT_PLAIN, device_total},
	{"memory_used_bytes", "Memory in use by all processes, as NVML has it.", UNIT_PLAIN,
	 device_used},
	{"memory_held_bytes", "Memory held by fractions, as the ledger has it.", UNIT_PLAIN,
	 device_held},
	{"memory_reserved_bytes", "Sum of memory requests.", UNIT_PLAIN, device_reserved},
	{"compute_reserved_ratio", "Sum of compute requests.", UNIT_PERMILLE, device_compute},
	{"fractions", "Fractions on the device.", UNIT_PLAIN, device_fractions},
};

static uint64_t share_request(struct aqd *d, const struct aqd_fraction *f, uint32_t share)
{
	return f->ledger.share[share].request_bytes;
}

static uint64_t share_limit(struct aqd *d, const struct aqd_fraction *f, uint32_t share)
{
	return f->ledger.share[share].limit_bytes;
}

static uint64_t share_used(struct aqd *d, const struct aqd_fraction *f, uint32_t share)
{
	return aq_ledger_used(&d->ledger, &f->ledger, share);
}

static uint64_t share_compute(struct aqd *d, const struct aqd_fraction *f, uint32_t share)
{
	return f->ledger.compute_request_permille;
}

static uint64_t share_cap(struct aqd *d, const struct aqd_fraction *f, uint32_t share)
{
	return f->ledger.compute_limit_permille;
}

static uint64_t share_gpu_ns(struct aqd *d, const struct aqd_fraction *f, uint32_t share)
{
	return aqd_lease_gpu_ns(&f->lease, share);
}

static uint64_t share_leases(struct aqd *d, const struct aqd_fraction *f, uint32_t share)
{
	return f->lease.grants;
}

static uint64_t share_waited(struct aqd *d, const struct aqd_fraction *f, uint32_t share)
{
	return f->lease.wait_ns;
}

static uint64_t share_overruns(struct aqd *d, const struct aqd_fraction *f, uint32_t share)
{
	return f->lease.overruns;
}

static uint64_t share_parked(struct aqd *d, const struct aqd_fraction *f, uint32_t share)
{
	return aqd_parked_share(f, share);
}

static uint64_t share_clients(struct aqd *d, const struct aqd_fraction *f, uint32_t share)
{
	return f->ledger.client_count;
}

static uint64_t parks(struct aqd *d, const struct aqd_fraction *f, uint32_t share)
{
	return f->residency.moves[0];
}

static uint64_t resumes(struct aqd *d, const struct aqd_fraction *f, uint32_t share)
{
	return f->residency.moves[1];
}

static uint64_t parks_ns(struct aqd *d, const struct aqd_fraction *f, uint32_t share)
{
	return f->residency.moves_ns[0];
}

static uint64_t resumes_ns(struct aqd *d, const struct aqd_fraction *f, uint32_t share)
{
	return f->residency.moves_ns[1];
}

static uint64_t moved_bytes(struct aqd *d, const struct aqd_fraction *f, uint32_t share)
{
	return f->residency.moves_bytes[0] + f->residency.moves_bytes[1];
}

static uint64_t share_denials(struct aqd *d, const struct aqd_fraction *f, uint32_t share)
{
	return f->denials;
}

static const struct {
	const char *name, *type, *help;
	enum unit unit;
	bool per_device; /* else of the fraction as a whole */
	uint64_t (*value)(struct aqd *d, const struct aqd_fraction *f, uint32_t share);
} fraction_metrics[] = {
	{"memory_request_bytes", "gauge", "Guaranteed memory.", UNIT_PLAIN, true, share_request},
	{"memory_limit_bytes", "gauge", "Most memory.", UNIT_PLAIN, true, share_limit},
	{"memory_used_bytes", "gauge", "Memory in use, contexts included.", UNIT_PLAIN, true,
	 share_used},
	{"memory_parked_bytes", "gauge", "Memory parked in host RAM.", UNIT_PLAIN, true,
	 share_parked},
	{"compute_request_ratio", "gauge", "Guaranteed part of the device's time.", UNIT_PERMILLE,
	 true, share_compute},
	{"compute_limit_ratio", "gauge", "Most of the device's time.", UNIT_PERMILLE, true,
	 share_cap},
	{"gpu_seconds_total", "counter", "Time that its work ran on the device.", UNIT_NS, true,
	 share_gpu_ns},
	{"leases_total", "counter", "Leases that it was given.", UNIT_PLAIN, false, share_leases},
	{"lease_wait_seconds_total", "counter", "Time with work to submit and no lease.", UNIT_NS,
	 false, share_waited},
	{"lease_overruns_total", "counter", "Leases that had to be taken as back.", UNIT_PLAIN,
	 false, share_overruns},
	{"parks_total", "counter", "Times that it was parked.", UNIT_PLAIN, false, parks},
	{"resumes_total", "counter", "Times that it came back.", UNIT_PLAIN, false, resumes},
	{"park_seconds_total", "counter", "Time that parking took.", UNIT_NS, false, parks_ns},
	{"resume_seconds_total", "counter", "Time that coming back took.", UNIT_NS, false,
	 resumes_ns},
	{"memory_moved_bytes_total", "counter", "Moved to host memory and back.", UNIT_PLAIN, false,
	 moved_bytes},
	{"clients", "gauge", "Attached processes.", UNIT_PLAIN, false, share_clients},
	{"denials_total", "counter", "Refused allocations.", UNIT_PLAIN, false, share_denials},
};

static void add_value(struct evbuffer *out, enum unit unit, uint64_t value)
{
	switch (unit) {
	case UNIT_PLAIN:
		evbuffer_add_printf(out, "%" PRIu64 "\n", value);
		break;
	case UNIT_PERMILLE:
		evbuffer_add_printf(out, "%" PRIu64 ".%03" PRIu64 "\n", value / 1000, value % 1000);
		break;
	case UNIT_NS:
		evbuffer_add_printf(out, "%llu.%09llu\n", value / AQ_NS_PER_S, value % AQ_NS_PER_S);
		break;
	}
}

static void add_devices(struct aqd *d, struct evbuffer *out)
{
	for (size_t m = 0; m < AQ_ARRAY_SIZE(device_metrics); m++) {
		evbuffer_add_printf(
			out, "# HELP aliquot_device_%s %s\n# TYPE aliquot_device_%s gauge\n",
			device_metrics[m].name, device_metrics[m].help, device_metrics[m].name);
		for (uint32_t i = 0; i < d->ledger.device_count; i++) {
			evbuffer_add_printf(out, "aliquot_device_%s{uuid=\"%s\",gpu=\"%u\"} ",
					    device_metrics[m].name, d->device[i].uuid, i);
			add_value(out, device_metrics[m].unit,
				  device_metrics[m].value(d, &d->device[i]));
		}
	}
}

static void add_fraction(struct aqd *d, struct evbuffer *out, size_t m,
			 const struct aqd_fraction *f)
{
	/* Names are letters, digits, `.`, `_`, `-`: nothing to escape. */
	for (uint32_t i = 0; i < f->ledger.share_count; i++) {
		const struct aqd_device *dev = &d->device[f->ledger.share[i].device];

		evbuffer_add_printf(out, "aliquot_fraction_%s{fraction=\"%s\",project=\"%s\"",
				    fraction_metrics[m].name, f->name, f->project);
		if (fraction_metrics[m].per_device)
			evbuffer_add_printf(out, ",uuid=\"%s\",gpu=\"%u\"", dev->uuid, dev->index);
		evbuffer_add_printf(out, "} ");
		add_value(out, fraction_metrics[m].unit, fraction_metrics[m].value(d, f, i));
		if (!fraction_metrics[m].per_device)
			break;
	}
}

static void add_fractions(struct aqd *d, struct evbuffer *out)
{
	struct aqd_fraction *f, *next;

	for (size_t m = 0; m < AQ_ARRAY_SIZE(fraction_metrics); m++) {
		evbuffer_add_printf(
			out, "# HELP aliquot_fraction_%s %s\n# TYPE aliquot_fraction_%s %s\n",
			fraction_metrics[m].name, fraction_metrics[m].help,
			fraction_metrics[m].name, fraction_metrics[m].type);
		AQ_LIST_FOREACH (f, next, &d->fractions, link)
			add_fraction(d, out, m, f);
	}
}

void aqd_api_metrics(struct aqd_call *call)
{
	struct evbuffer *out = evhttp_request_get_output_buffer(call->request);
	struct aqd *d = call->daemon;

	add_devices(d, out);
	add_fractions(d, out);
	evbuffer_add_printf(
		out, "# HELP aliquot_events_total Events since the daemon started, by type.\n"
		     "# TYPE aliquot_events_total counter\n");
	for (int t = 0; t < AQD_EVENT_TYPES; t++)
		evbuffer_add_printf(out, "aliquot_events_total{type=\"%s\"} %" PRIu64 "\n",
				    aqd_event_word((enum aqd_event_type)t),
				    aqd_events_count(d, (enum aqd_event_type)t));
	aqd_api_send(call->request, 200, "text/plain; version=0.0.4");
}
