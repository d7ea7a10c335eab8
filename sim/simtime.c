/* SPDX-License-Identifier: Apache-2.0 */
/* Device time for contexts of this process: the engine of a device under its lock and with the
 * clock, and what things cost by the profile. */
#include "sim.h"

#include <errno.h>
#include <stdlib.h>

#include "base/timing.h"
#include "base/banned.h"

#define NS_PER_S 1000000000ull

/* A prediction is checked again at least so often, since others may end and make it sooner. */
#define WAIT_STEP_NS (20 * 1000000ull)

/* How often a waiting context looks whether those it shares the engine with still live. Works of a
 * killed process stop on hardware at once; here, at the next look. */
#define CHECK_NS 1000000ull

/* Drop the queues of processes that died. Without the engine's lock. */
static void check_others(struct sim_context *ctx, bool contended)
{
	static uint64_t last_ns; /* of this process; races only cost a look */
	uint64_t now;

	if (!contended)
		return;
	now = aq_now_ns();
	if (now - __atomic_load_n(&last_ns, __ATOMIC_RELAXED) < CHECK_NS)
		return;
	__atomic_store_n(&last_ns, now, __ATOMIC_RELAXED);
	sim_machine_sweep(&sim.machine);
}

static bool is_contended(const struct sim_engine *e, uint32_t index)
{
	for (uint32_t i = 0; i < e->clock.n_contexts; i++) {
		if (i != index && e->contexts[i].used &&
		    e->contexts[i].first != e->contexts[i].last)
			return true;
	}
	return false;
}

int sim_time_submit(struct sim_context *ctx, uint64_t not_before_ns, uint64_t duration_ns,
		    uint64_t *ret_ticket)
{
	uint32_t device = ctx->device->index;
	struct sim_engine *e = sim_engine_lock(&sim.machine, device);
	int r = sim_engine_push(e, ctx->engine_index, not_before_ns, duration_ns, aq_now_ns(),
				ret_ticket);

	sim_engine_unlock(&sim.machine, device);
	return r;
}

int sim_time_finished(struct sim_context *ctx, uint64_t ticket, uint64_t *ret_start_ns,
		      uint64_t *ret_finish_ns)
{
	uint32_t device = ctx->device->index;
	struct sim_engine *e = sim_engine_lock(&sim.machine, device);
	bool contended = false;
	int r;

	sim_engine_advance(e, aq_now_ns());
	r = sim_engine_times(e, ctx->engine_index, ticket, ret_start_ns, ret_finish_ns);
	if (r == 0) {
		*ret_finish_ns = sim_engine_predict(e, ctx->engine_index, ticket);
		contended = is_contended(e, ctx->engine_index);
	}
	sim_engine_unlock(&sim.machine, device);
	check_others(ctx, contended);
	return r;
}

int sim_time_wait(struct sim_context *ctx, uint64_t ticket, uint64_t *ret_finish_ns)
{
	uint64_t start, step;
	int r;

	for (;;) {
		r = sim_time_finished(ctx, ticket, &start, ret_finish_ns);
		if (r != 0)
			return r < 0 ? r : 0;
		step = aq_now_ns() + WAIT_STEP_NS;
		aq_sleep_until_ns(*ret_finish_ns < step ? *ret_finish_ns : step);
	}
}

uint64_t sim_time_pending(struct sim_context *ctx)
{
	uint32_t device = ctx->device->index;
	struct sim_engine *e = sim_engine_lock(&sim.machine, device);
	uint64_t n;

	sim_engine_advance(e, aq_now_ns());
	n = sim_engine_pending(e, ctx->engine_index);
	sim_engine_unlock(&sim.machine, device);
	return n;
}

bool sim_time_displaced(struct sim_context *ctx)
{
	uint32_t device = ctx->device->index, loaded;
	struct sim_engine *e = sim_engine_lock(&sim.machine, device);

	sim_engine_advance(e, aq_now_ns());
	loaded = e->clock.loaded;
	sim_engine_unlock(&sim.machine, device);
	return loaded != SIM_ENGINE_NONE && loaded != ctx->engine_index;
}

void sim_time_copy(struct sim_context *ctx, enum sim_copy_engine engine, uint64_t not_before_ns,
		   uint64_t bytes, uint64_t *ret_start_ns, uint64_t *ret_finish_ns)
{
	uint32_t device = ctx->device->index;
	struct sim_engine *e = sim_engine_lock(&sim.machine, device);

	sim_engine_copy(e, ctx->engine_index, engine, not_before_ns,
			sim_cost_copy(ctx->device, engine, bytes), ret_start_ns, ret_finish_ns);
	sim_engine_unlock(&sim.machine, device);
}

/* @amount / (@per_s * @permille / 1000) in ns, without overflow for whole devices. */
static uint64_t cost_ns(uint64_t amount, uint64_t per_s, uint64_t permille)
{
	return (uint64_t)((unsigned __int128)amount * NS_PER_S * 1000 /
			  ((unsigned __int128)per_s * permille));
}

uint64_t sim_cost_traffic(const struct sim_device *device, uint64_t bytes)
{
	const struct sim_profile *p = device->profile;

	return cost_ns(bytes, p->memory_bytes_per_s, p->memory_permille);
}

uint64_t sim_cost_kernel(const struct sim_device *device, uint64_t bytes, uint64_t flops)
{
	const struct sim_profile *p = device->profile;
	uint64_t memory = sim_cost_traffic(device, bytes);
	uint64_t compute = cost_ns(flops, p->bf16_flops_per_s, p->flops_permille);

	return p->launch_ns + (memory > compute ? memory : compute);
}

/* $ALIQUOT_SIM_LINK_GB_S; 0: the profile says. What this host copies is no limit then. */
static uint64_t link_bytes_per_s(void)
{
	static _Atomic uint64_t known = UINT64_MAX; /* until read; every thread reads the same */
	uint64_t per_s = known;
	const char *text;
	char *end;
	double rate;

	if (per_s != UINT64_MAX)
		return per_s;
	text = getenv("ALIQUOT_SIM_LINK_GB_S");
	rate = text ? strtod(text, &end) : 0;
	/* Nonsense means the profile's; from a megabyte to what no link has. */
	if (!text || end == text || *end || !(rate >= 0.001) || rate > 1e4)
		rate = 0;
	per_s = (uint64_t)(rate * 1e9);
	known = per_s;
	return per_s;
}

uint64_t sim_cost_copy(const struct sim_device *device, enum sim_copy_engine engine, uint64_t bytes)
{
	const struct sim_profile *p = device->profile;
	uint64_t told = engine == SIM_COPY_P2P ? 0 : link_bytes_per_s();
	uint64_t per_s = engine == SIM_COPY_H2D	  ? p->h2d_bytes_per_s
			 : engine == SIM_COPY_D2H ? p->d2h_bytes_per_s
						  : p->peer_bytes_per_s;

	return cost_ns(bytes, told ? told : per_s, 1000);
}
