/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated NVML: looks at the machine, keeps the last of them, and tells rates from two. */
#include "sim/nvml/look.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/timing.h"

#include "base/banned.h"

#define STEP_NS 50000000ull	    /* looks closer together than this replace each other */
#define WINDOW_NS 166000000ull	    /* Source: nvmlUtilization_t, "between 1 second and 1/6" */
#define WINDOW_LEAST_NS 20000000ull /* rates over less say nothing: wait until then */
#define ENDED_KEPT 64u		    /* processes that have ended, of the last in a look */

/* All under `lock`. looks[(next - 1) % SIM_LOOKS] is the last. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	struct sim_look looks[SIM_LOOKS];
	uint32_t next;
} past[SIM_MAX_DEVICES];

uint64_t sim_nvml_wall_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

nvmlReturn_t sim_nvml_processes(const struct sim_nvml_device *d, struct sim_process_usage **ret,
				uint32_t *ret_n)
{
	uint32_t room = 64;

	for (;;) {
		struct sim_process_usage *usage = calloc(room, sizeof(*usage));
		uint32_t n;

		if (!usage)
			return NVML_ERROR_MEMORY;
		n = sim_machine_usage(d->machine, d->index, usage, room);
		if (n <= room) {
			*ret = usage;
			*ret_n = n;
			return NVML_SUCCESS;
		}
		free(usage);
		room = n + 16;
	}
}

static struct sim_process_usage *process_of(const struct sim_look *look, int32_t pid)
{
	for (uint32_t i = 0; i < look->n_processes; i++) {
		if (look->processes[i].pid == pid)
			return &look->processes[i];
	}
	return NULL;
}

/* The driver's samples outlive the process. Without memory they do not. */
static void add_ended(const struct sim_nvml_device *d, struct sim_look *look)
{
	const uint32_t room = SIM_ENGINE_CONTEXTS + SIM_ENGINE_PAST, alive = look->n_processes;
	struct sim_account *accounts = calloc(room, sizeof(*accounts));
	struct sim_device_times times;
	uint32_t n, kept = 0;
	void *more;

	if (!accounts)
		return;
	n = sim_machine_accounts(d->machine, d->index, &times, accounts, room, NULL);
	more = realloc(look->processes, (alive + ENDED_KEPT) * sizeof(*look->processes));
	if (more)
		look->processes = more;
	for (uint32_t i = n < room ? n : room; more && i-- && !accounts[i].alive;) {
		struct sim_process_usage *p = process_of(look, accounts[i].pid);

		if (!p && kept < ENDED_KEPT) {
			kept++;
			p = &look->processes[look->n_processes++];
			*p = (struct sim_process_usage){.pid = accounts[i].pid};
		}
		if (p && p >= &look->processes[alive])
			p->gpu_time_ns += accounts[i].compute_ns;
	}
	free(accounts);
}

/* Without memory for the list a look knows of no processes. */
static void look_now(const struct sim_nvml_device *d, struct sim_look *ret)
{
	struct sim_device_times times = {0};

	sim_machine_times(d->machine, d->index, &times);
	*ret = (struct sim_look){
		.time_us = sim_nvml_wall_us(),
		.now_ns = times.now_ns,
		.compute_ns = times.compute_ns,
	};
	memcpy(ret->copy_ns, times.copy_ns, sizeof(ret->copy_ns));
	if (sim_nvml_processes(d, &ret->processes, &ret->n_processes) == NVML_SUCCESS)
		add_ended(d, ret);
}

static struct sim_look *look_before(uint32_t device, uint32_t steps)
{
	if (steps > SIM_LOOKS || steps > past[device].next)
		return NULL;
	return &past[device].looks[(past[device].next - steps) % SIM_LOOKS];
}

static void keep_look(uint32_t device, struct sim_look *look)
{
	struct sim_look *last = look_before(device, 1);
	struct sim_look *before = look_before(device, 2);
	struct sim_look *slot;

	if (last && before && look->now_ns - before->now_ns < STEP_NS)
		slot = last;
	else
		slot = &past[device].looks[past[device].next++ % SIM_LOOKS];
	free(slot->processes);
	*slot = *look;
}

/* The look to compare with: the newest that is old enough, else the oldest. */
static const struct sim_look *base_look(uint32_t device, uint64_t now_ns, uint64_t since_us)
{
	const struct sim_look *found = NULL;

	for (uint32_t i = 1; i <= SIM_LOOKS; i++) {
		const struct sim_look *l = look_before(device, i);

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

void sim_look_pair(const struct sim_nvml_device *d, uint64_t since_us,
		   const struct sim_look **ret_base, const struct sim_look **ret_now)
{
	const struct sim_look *base;
	struct sim_look now;

	for (;;) {
		look_now(d, &now);
		base = base_look(d->index, now.now_ns, since_us);
		if (since_us || (base && now.now_ns - base->now_ns >= WINDOW_LEAST_NS))
			break;
		keep_look(d->index, &now);
		/* Nobody waits long for a lock behind this: it happens once in a process's life. */
		aq_sleep_until_ns(aq_now_ns() + WINDOW_LEAST_NS);
	}
	keep_look(d->index, &now);
	*ret_now = look_before(d->index, 1);
	base = base_look(d->index, (*ret_now)->now_ns, since_us);
	*ret_base = base ? base : *ret_now;
}

static void forget(void)
{
	for (uint32_t i = 0; i < SIM_MAX_DEVICES; i++) {
		for (uint32_t j = 0; j < SIM_LOOKS; j++)
			free(past[i].looks[j].processes);
		memset(&past[i], 0, sizeof(past[i]));
	}
}

void sim_nvml_rates_forget(void)
{
	pthread_mutex_lock(&lock);
	forget();
	pthread_mutex_unlock(&lock);
}

void sim_nvml_rates_reset(struct sim_machine *m)
{
	pthread_mutex_lock(&lock);
	forget();
	for (uint32_t i = 0; i < sim_machine_n_devices(m); i++) {
		struct sim_nvml_device d = {.machine = m, .index = i};
		struct sim_look look;

		look_now(&d, &look);
		keep_look(i, &look);
	}
	pthread_mutex_unlock(&lock);
}

void sim_look_rates(const struct sim_nvml_device *d, const struct sim_look *base,
		    const struct sim_look *now, struct sim_nvml_rates *ret)
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
	const struct sim_look *base, *now;

	pthread_mutex_lock(&lock);
	sim_look_pair(d, 0, &base, &now);
	sim_look_rates(d, base, now, ret);
	pthread_mutex_unlock(&lock);
}

void sim_look_lock(void)
{
	pthread_mutex_lock(&lock);
}

void sim_look_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

const struct sim_look *sim_look_before(uint32_t device, uint32_t steps)
{
	return look_before(device, steps);
}

/* Compute time of a process between two looks. */
static uint64_t had_ns(const struct sim_process_usage *p, const struct sim_look *base)
{
	const struct sim_process_usage *before = process_of(base, p->pid);

	if (!before)
		return p->gpu_time_ns;
	return p->gpu_time_ns > before->gpu_time_ns ? p->gpu_time_ns - before->gpu_time_ns : 0;
}

bool sim_look_tells(const struct sim_process_usage *p, const struct sim_look *base)
{
	return p->contexts || p->memory_bytes || had_ns(p, base);
}

uint32_t sim_look_share(const struct sim_process_usage *p, const struct sim_look *base,
			const struct sim_look *now)
{
	/* To the nearest, or sums over many samples would always be short. */
	return percent(had_ns(p, base) + (now->now_ns - base->now_ns) / 200,
		       now->now_ns - base->now_ns);
}
