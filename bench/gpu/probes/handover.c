/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bubble when the right to use the device passes from one process to another: two processes
 * take turns; each launches a few kernels, sees that they are done, and hands the turn over; the
 * other wakes and launches. The kernels stamp device time, so the idle time between the last kernel
 * of one and the first of the other is read on one clock. No arbiter of the project takes part; a
 * third process may carry the message, as a daemon would.
 */
#include "probe.h"

#define KERNELS 4

enum drain { DRAIN_FLAG, DRAIN_WRITE, DRAIN_EVENT, DRAIN_EVENT_BLOCKING, DRAIN_STREAM };
enum wake { WAKE_SPIN, WAKE_FUTEX, WAKE_BROKER };

struct turn {
	uint64_t first_start, last_end;		     /* device time; 0 where it does not compute */
	uint64_t woken, launched, drained, released; /* host time */
};

struct shared {
	struct barrier ready;
	_Atomic uint32_t turn;	/* whose, counting up: the process turn % 2 */
	_Atomic uint32_t asked; /* broker: the turn it is to pass on */
	_Atomic uint32_t failed;
	uint32_t rounds;
	enum drain drain;
	enum wake wake;
	uint64_t kernel_ns;
	bool computes;
	struct turn turns[];
};

struct side {
	struct gpu g;
	CUevent plain, blocking;
	_Atomic uint32_t *flag;
	CUdeviceptr stamps; /* KERNELS pairs */
	uint64_t iters;
};

static int drain(struct side *p, enum drain how, uint32_t value)
{
	void *flag = p->flag;
	uint64_t give_up = now_ns() + 2 * SEC;

	switch (how) {
	case DRAIN_STREAM:
		TRY(cu.cuStreamSynchronize(p->g.stream));
		return 0;
	case DRAIN_EVENT:
		TRY(cu.cuEventRecord(p->plain, p->g.stream));
		TRY(cu.cuEventSynchronize(p->plain));
		return 0;
	case DRAIN_EVENT_BLOCKING:
		TRY(cu.cuEventRecord(p->blocking, p->g.stream));
		TRY(cu.cuEventSynchronize(p->blocking));
		return 0;
	case DRAIN_WRITE:
		TRY(cu.cuStreamWriteValue32_v2(p->g.stream, (CUdeviceptr)(uintptr_t)flag, value,
					       0));
		break;
	case DRAIN_FLAG:
		TRY(gpu_run(&p->g, K_FLAG, 1, 1, p->g.stream, &flag, &value));
		break;
	}
	while (atomic_load_explicit(p->flag, memory_order_acquire) != value)
		if (now_ns() > give_up) {
			report_failed(NULL, "the flag did not come");
			return -1;
		}
	return 0;
}

static bool wait_turn(struct shared *s, uint32_t mine)
{
	if (s->wake != WAKE_SPIN) {
		uint32_t now;

		while ((now = atomic_load(&s->turn)) != mine)
			if (!futex_wait(&s->turn, now, 5))
				return false;
		return true;
	}
	for (uint64_t end = now_ns() + 5 * SEC; atomic_load(&s->turn) != mine;)
		if (now_ns() > end)
			return false;
	return true;
}

static int one_turn(struct side *p, struct shared *s, uint32_t i)
{
	static const uint64_t fresh[2 * KERNELS] = {~0ull, 0, ~0ull, 0, ~0ull, 0, ~0ull, 0};
	struct turn *t = &s->turns[i];
	uint64_t seen[2 * KERNELS] = {0};
	CUdeviceptr none = 0;

	TRY(cu.cuMemcpyHtoD_v2(p->stamps, fresh, sizeof(fresh)));
	if (!wait_turn(s, i))
		return -1;
	t->woken = now_ns();
	for (int k = 0; k < KERNELS; k++) {
		CUdeviceptr stamp = p->stamps + (unsigned)k * 16;

		TRY(gpu_run(&p->g, K_WORK, 1, 32, p->g.stream, &p->iters, &stamp, &none));
	}
	t->launched = now_ns();
	if (drain(p, s->drain, i + 1))
		return -1;
	t->drained = now_ns();
	if (s->wake == WAKE_BROKER)
		futex_set(&s->asked, i + 1);
	else
		futex_set(&s->turn, i + 1);
	t->released = now_ns();
	TRY(cu.cuStreamSynchronize(p->g.stream));
	TRY(cu.cuMemcpyDtoH_v2(seen, p->stamps, sizeof(seen)));
	if (s->computes) {
		t->first_start = seen[0];
		t->last_end = seen[2 * KERNELS - 1];
	}
	return 0;
}

static int open_side(struct side *p, struct shared *s)
{
	if (gpu_open(&p->g))
		return -1;
	s->computes = p->g.computes;
	p->flag = gpu_pinned(4096);
	if (!p->flag)
		return -1;
	TRY(cu.cuEventCreate(&p->plain, CU_EVENT_DISABLE_TIMING));
	TRY(cu.cuEventCreate(&p->blocking, CU_EVENT_DISABLE_TIMING | CU_EVENT_BLOCKING_SYNC));
	TRY(cu.cuMemAlloc_v2(&p->stamps, 2 * KERNELS * sizeof(uint64_t)));
	p->iters = gpu_calibrate(&p->g, 1, 32, s->kernel_ns);
	return p->iters ? 0 : -1;
}

static int player(int index, void *arg)
{
	struct shared *s = arg;
	struct side p = {0};

	probe_step("player");
	if (open_side(&p, s) || (s->drain == DRAIN_FLAG && !p.g.computes) ||
	    (s->drain == DRAIN_WRITE && !cu.cuStreamWriteValue32_v2) ||
	    !barrier_wait(&s->ready, s->wake == WAKE_BROKER ? 3 : 2, 30)) {
		atomic_store(&s->failed, 1);
		return 1;
	}
	for (uint32_t i = (uint32_t)index; i < s->rounds; i += 2)
		if (one_turn(&p, s, i)) {
			atomic_store(&s->failed, 1);
			return 1;
		}
	return 0;
}

static int broker(int index, void *arg)
{
	struct shared *s = arg;

	(void)index;
	if (!barrier_wait(&s->ready, 3, 30))
		return 1;
	for (uint32_t i = 0; i < s->rounds; i++) {
		if (!futex_wait(&s->asked, i, 5))
			return 1;
		futex_set(&s->turn, i + 1);
	}
	return 0;
}

static void evaluate(const char *name, struct shared *s)
{
	struct samples bubble = {0}, host = {0}, seen = {0}, wake = {0}, launch = {0};
	char what[96];

	for (uint32_t i = s->rounds / 10; i + 1 < s->rounds; i++) {
		const struct turn *a = &s->turns[i], *b = &s->turns[i + 1];

		if (a->last_end && b->first_start > a->last_end && b->first_start != UINT64_MAX)
			samples_add(&bubble, (double)(b->first_start - a->last_end));
		samples_add(&host, (double)b->launched - (double)a->drained);
		samples_add(&wake, (double)b->woken - (double)a->drained);
		samples_add(&launch, (double)(b->launched - b->woken));
		samples_add(&seen, (double)(a->drained - a->launched));
	}
	snprintf(what, sizeof(what), "%s.bubble", name);
	if (s->computes)
		report(what, "ns", &bubble,
		       "device idle between the last kernel of one process and the first of the "
		       "other, on the device's clock");
	else
		report_skipped(what, "kernels do not compute here");
	snprintf(what, sizeof(what), "%s.host", name);
	report(what, "ns", &host, "from the drain seen to %d kernels launched by the other",
	       KERNELS);
	snprintf(what, sizeof(what), "%s.wake", name);
	report(what, "ns", &wake, "of that, until the other runs");
	samples_finish(&launch);
	samples_finish(&seen);
}

static void hand_over(const char *name, enum drain drain_by, enum wake wake_by, uint32_t rounds)
{
	struct shared *s = shared_alloc(sizeof(*s) + rounds * sizeof(s->turns[0]));
	pid_t pids[3];
	int n = 0;

	s->rounds = rounds;
	s->drain = drain_by;
	s->wake = wake_by;
	s->kernel_ns = 50 * USEC;
	pids[n++] = spawn(player, 0, s);
	pids[n++] = spawn(player, 1, s);
	if (wake_by == WAKE_BROKER)
		pids[n++] = spawn(broker, 0, s);
	if (join(pids, n, 60) && !atomic_load(&s->failed))
		evaluate(name, s);
	else
		report_skipped(name, "a process could not take its turns (see its own record)");
}

/* The message alone, no device: what a process pays to wake another. */
struct ball {
	struct barrier ready;
	_Atomic uint32_t turn;
	uint32_t rounds;
	bool spin;
	uint64_t released;
	double took[];
};

static int bounce(int index, void *arg)
{
	struct ball *b = arg;

	if (!barrier_wait(&b->ready, 2, 10))
		return 1;
	for (uint32_t i = (uint32_t)index; i < b->rounds; i += 2) {
		uint32_t now;
		uint64_t end = now_ns() + 5 * SEC;

		while ((now = atomic_load(&b->turn)) != i) {
			if (!b->spin && !futex_wait(&b->turn, now, 5))
				return 1;
			if (b->spin && now_ns() > end)
				return 1;
		}
		b->took[i] = (double)(now_ns() - b->released);
		sleep_ns(50 * USEC); /* long enough for the other to sleep */
		b->released = now_ns();
		futex_set(&b->turn, i + 1);
	}
	return 0;
}

static void message(const char *what, bool spin, uint32_t rounds)
{
	struct ball *b = shared_alloc(sizeof(*b) + rounds * sizeof(b->took[0]));
	struct samples s = {0};
	pid_t pids[2];

	b->rounds = rounds;
	b->spin = spin;
	pids[0] = spawn(bounce, 0, b);
	pids[1] = spawn(bounce, 1, b);
	if (!join(pids, 2, 30)) {
		report_failed(what, "the two processes did not finish");
		return;
	}
	for (uint32_t i = 2; i < rounds; i++)
		samples_add(&s, b->took[i]);
	report(what, "ns", &s,
	       "from before the store in one process to after it is seen in another");
}

int main(int argc, char **argv)
{
	uint32_t rounds;
	bool computes;

	probe_begin(argc, argv, "handover", 120, NULL);
	rounds = probe_quick() ? 40 : 400;
	message("message_spin", true, rounds * 2);
	message("message_futex", false, rounds * 2);
	if (!device_there(&computes))
		return probe_end();
	hand_over("flag_futex", DRAIN_FLAG, WAKE_FUTEX, rounds);
	hand_over("flag_spin", DRAIN_FLAG, WAKE_SPIN, rounds);
	hand_over("flag_broker", DRAIN_FLAG, WAKE_BROKER, rounds);
	hand_over("write_value_futex", DRAIN_WRITE, WAKE_FUTEX, rounds);
	hand_over("event_futex", DRAIN_EVENT, WAKE_FUTEX, rounds);
	hand_over("event_blocking_futex", DRAIN_EVENT_BLOCKING, WAKE_FUTEX, rounds);
	hand_over("stream_futex", DRAIN_STREAM, WAKE_FUTEX, rounds);
	return probe_end();
}
