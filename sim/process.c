/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process table of a machine: joining, finding out who died, and giving back what the dead had.
 * Also what readers see of the living.
 *
 * A slot is in use from the moment at which its process's own thread holds the slot's mutex. That
 * thread never lets go, so who can lock the mutex of a used slot knows that its process is dead,
 * and is the only one that sweeps it.
 */
#include "machine.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/timing.h"
#include "base/banned.h"

struct joining {
	struct sim_machine *m;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool done;
	int result;
};

/* Try to become the owner of a slot's mutex. Return: whether it is ours now. */
static bool try_slot(pthread_mutex_t *alive)
{
	int r = pthread_mutex_trylock(alive);

	if (r == EOWNERDEAD) {
		pthread_mutex_consistent(alive);
		r = 0;
	}
	return r == 0;
}

/* Give back all of a dead process; its slot's mutex is ours. */
static void sweep_slot(struct sim_machine *m, uint32_t process)
{
	struct sim_machine_process *p = &m->shared->processes[process];

	for (uint32_t dev = 0; dev < sim_machine_n_devices(m); dev++) {
		struct sim_engine *engine;

		if (!p->on[dev].touched)
			continue;
		engine = sim_engine_lock(m, dev);
		for (uint32_t i = engine->clock.n_contexts; i-- > 0;) {
			if (engine->contexts[i].used && engine->contexts[i].process == process)
				sim_engine_detach(engine, i, aq_now_ns());
		}
		sim_engine_unlock(m, dev);
		sim_frames_sweep(m, dev, process);
	}
	sim_machine_lock(m);
	for (uint32_t i = 0; i < SIM_MAX_SHARED_EVENTS; i++) {
		if (m->shared->events[i].id && m->shared->events[i].process == process)
			m->shared->events[i].id = 0;
	}
	p->used = 0;
	sim_machine_unlock(m);
}

void sim_machine_sweep(struct sim_machine *m)
{
	uint32_t n = m->shared->n_processes;

	for (uint32_t i = 0; i < n && i < SIM_MAX_PROCESSES; i++) {
		struct sim_machine_process *p = &m->shared->processes[i];

		if (!__atomic_load_n(&p->used, __ATOMIC_ACQUIRE) || i == m->self ||
		    !try_slot(&p->alive))
			continue;
		if (p->used) /* else somebody swept it just now */
			sweep_slot(m, i);
		sim_unlock(&p->alive);
	}
}

bool sim_machine_alive(struct sim_machine *m, uint32_t process)
{
	struct sim_machine_process *p = &m->shared->processes[process];

	if (process >= SIM_MAX_PROCESSES || !__atomic_load_n(&p->used, __ATOMIC_ACQUIRE))
		return false;
	if (process == m->self || !try_slot(&p->alive))
		return true;
	sim_unlock(&p->alive);
	return false;
}

/* Find a slot, lock it for ever, and fill it in. Runs in the thread that stays. */
static int take_slot(struct sim_machine *m)
{
	struct sim_machine_process *p = NULL;
	uint32_t i;

	sim_machine_lock(m);
	for (i = 0; i < SIM_MAX_PROCESSES; i++) {
		p = &m->shared->processes[i];
		if (i == m->shared->n_processes) {
			sim_lock_init(&p->alive);
			m->shared->n_processes = i + 1;
		}
		/* A free slot may be held for a moment by who has just swept it. */
		if (!p->used && try_slot(&p->alive))
			break;
	}
	if (i == SIM_MAX_PROCESSES) {
		sim_machine_unlock(m);
		return -EUSERS;
	}
	memset(p->on, 0, sizeof(p->on));
	p->pid = getpid();
	p->start_ticks = 0;
	aq_pid_start_time(p->pid, &p->start_ticks);
	memset(p->name, 0, sizeof(p->name));
	snprintf(p->name, sizeof(p->name), "%s", program_invocation_short_name);
	m->self = i;
	__atomic_store_n(&p->used, 1, __ATOMIC_RELEASE);
	sim_machine_unlock(m);
	return 0;
}

/* The thread whose death is the process's. It does nothing else. */
static void *stay_alive(void *arg)
{
	struct joining *joining = arg;
	int r;

	prctl(PR_SET_NAME, "sim-alive");
	r = take_slot(joining->m);
	pthread_mutex_lock(&joining->lock);
	joining->done = true;
	joining->result = r;
	pthread_cond_signal(&joining->changed);
	pthread_mutex_unlock(&joining->lock);
	while (r == 0)
		pause();
	return NULL;
}

int sim_machine_join(struct sim_machine *m)
{
	struct joining joining = {
		.m = m,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.changed = PTHREAD_COND_INITIALIZER,
	};
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	sim_machine_sweep(m);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&thread, &attr, stay_alive, &joining);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r)
		return -r;
	pthread_mutex_lock(&joining.lock);
	while (!joining.done)
		pthread_cond_wait(&joining.changed, &joining.lock);
	pthread_mutex_unlock(&joining.lock);
	return joining.result;
}

uint32_t sim_machine_usage(struct sim_machine *m, uint32_t device, struct sim_process_usage *usage,
			   uint32_t max)
{
	struct sim_engine *engine;
	uint32_t n = 0, n_processes;

	sim_machine_sweep(m);
	n_processes = m->shared->n_processes;
	engine = sim_engine_lock(m, device);
	sim_engine_advance(engine, aq_now_ns());
	for (uint32_t i = 0; i < n_processes && i < SIM_MAX_PROCESSES; i++) {
		const struct sim_machine_process *p = &m->shared->processes[i];
		const struct sim_process_share *share = &p->on[device];
		struct sim_process_usage u = {
			.pid = p->pid,
			.memory_bytes = share->frames * SIM_FRAME_BYTES + share->overhead_bytes,
			.gpu_time_ns = share->gpu_time_ns,
		};

		if (!__atomic_load_n(&p->used, __ATOMIC_ACQUIRE))
			continue;
		for (uint32_t c = 0; c < engine->clock.n_contexts; c++) {
			if (engine->contexts[c].used && engine->contexts[c].process == i) {
				u.gpu_time_ns += engine->contexts[c].busy_ns;
				u.contexts++;
			}
		}
		if (!u.contexts && !u.memory_bytes)
			continue;
		if (n < max)
			usage[n] = u;
		n++;
	}
	sim_engine_unlock(m, device);
	return n;
}

static void read_times(struct sim_engine *engine, struct sim_device_times *ret)
{
	ret->now_ns = aq_now_ns();
	sim_engine_advance(engine, ret->now_ns);
	ret->compute_ns = engine->clock.busy_ns;
	for (int i = 0; i < SIM_COPY_ENGINES; i++)
		ret->copy_ns[i] = engine->copy_busy_ns[i];
	ret->switched_ns = engine->clock.switched_ns;
	ret->switches = engine->clock.switches;
}

void sim_machine_times(struct sim_machine *m, uint32_t device, struct sim_device_times *ret_times)
{
	struct sim_engine *engine = sim_engine_lock(m, device);

	read_times(engine, ret_times);
	sim_engine_unlock(m, device);
}

/* Accounts that a caller has room for; all are counted. */
struct listing {
	struct sim_account *accounts;
	uint32_t n, max;
};

static void list_account(struct listing *l, const struct sim_account *account,
			 const uint64_t *copy_ns)
{
	if (l->n < l->max) {
		l->accounts[l->n] = *account;
		memcpy(l->accounts[l->n].copy_ns, copy_ns, sizeof(account->copy_ns));
	}
	l->n++;
}

static void list_living(struct listing *l, const struct sim_engine *engine)
{
	for (uint32_t i = 0; i < engine->clock.n_contexts; i++) {
		const struct sim_engine_context *c = &engine->contexts[i];
		struct sim_account account = {
			.id = c->id, .pid = c->pid, .alive = true, .compute_ns = c->busy_ns};

		if (c->used)
			list_account(l, &account, c->copy_ns);
	}
}

static void list_past(struct listing *l, const struct sim_engine *engine)
{
	uint64_t n = engine->n_past, first = n > SIM_ENGINE_PAST ? n - SIM_ENGINE_PAST : 0;

	for (uint64_t i = first; i < n; i++) {
		const struct sim_engine_past *past = &engine->past[i % SIM_ENGINE_PAST];
		struct sim_account account = {
			.id = past->id, .pid = past->pid, .compute_ns = past->busy_ns};

		list_account(l, &account, past->copy_ns);
	}
}

uint32_t sim_machine_accounts(struct sim_machine *m, uint32_t device,
			      struct sim_device_times *ret_times, struct sim_account *accounts,
			      uint32_t max, uint64_t *ret_gaps)
{
	struct listing l = {.accounts = accounts, .max = max};
	struct sim_engine *engine;

	sim_machine_sweep(m);
	engine = sim_engine_lock(m, device);
	read_times(engine, ret_times);
	list_living(&l, engine);
	list_past(&l, engine);
	if (ret_gaps)
		memcpy(ret_gaps, engine->gaps, sizeof(engine->gaps));
	sim_engine_unlock(m, device);
	return l.n;
}
