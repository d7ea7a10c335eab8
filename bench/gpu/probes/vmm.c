/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What virtual memory management costs: create, map, set access, unmap, release at several sizes,
 * in one process and in two at once, and plain allocation beside it. Many small handles under one
 * call of set-access, and reuse of a handle that exists, are measured too, since a memory that
 * moves can choose among them.
 */
#include "probe.h"

#include <stdlib.h>

enum op { OP_CREATE, OP_MAP, OP_ACCESS, OP_UNMAP, OP_RELEASE, OP_ALLOC, OP_FREE, OP_COUNT };

static const char *const op_names[OP_COUNT] = {
	"create", "map", "set_access", "unmap", "release", "alloc", "free",
};

static const struct {
	const char *name;
	size_t bytes;
	unsigned rounds;
} sizes[] = {
	{"2MiB", 2 * MIB, 400},
	{"32MiB", 32 * MIB, 150},
	{"512MiB", 512 * MIB, 25},
	{"2GiB", 2 * GIB, 12},
};

#define MAX_ROUNDS 400

struct shared {
	struct barrier ready;
	unsigned processes;
	double ns[2][OP_COUNT][MAX_ROUNDS];
	unsigned n[2][OP_COUNT];
	size_t bytes;
	unsigned rounds;
};

static CUmemAllocationProp properties(const struct gpu *g)
{
	return (CUmemAllocationProp){
		.type = CU_MEM_ALLOCATION_TYPE_PINNED,
		.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = g->dev},
	};
}

static CUmemAccessDesc access_all(const struct gpu *g)
{
	return (CUmemAccessDesc){
		.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = g->dev},
		.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
	};
}

static void note(struct shared *s, int index, enum op op, uint64_t t0)
{
	unsigned *n = &s->n[index][op];

	if (*n < MAX_ROUNDS)
		s->ns[index][op][(*n)++] = (double)(now_ns() - t0);
}

#define TIMED(op, call)                                                                            \
	do {                                                                                       \
		uint64_t t0_ = now_ns();                                                           \
		TRY(call);                                                                         \
		note(s, index, op, t0_);                                                           \
	} while (0)

static int one_round(struct gpu *g, struct shared *s, int index, CUdeviceptr at)
{
	CUmemAllocationProp prop = properties(g);
	CUmemAccessDesc access = access_all(g);
	CUmemGenericAllocationHandle h;
	CUdeviceptr p;

	TIMED(OP_CREATE, cu.cuMemCreate(&h, s->bytes, &prop, 0));
	TIMED(OP_MAP, cu.cuMemMap(at, s->bytes, 0, h, 0));
	TIMED(OP_ACCESS, cu.cuMemSetAccess(at, s->bytes, &access, 1));
	TRY(cu.cuMemsetD8_v2(at, 1, 4096)); /* it can be used */
	TRY(cu.cuCtxSynchronize());
	TIMED(OP_UNMAP, cu.cuMemUnmap(at, s->bytes));
	TIMED(OP_RELEASE, cu.cuMemRelease(h));
	TIMED(OP_ALLOC, cu.cuMemAlloc_v2(&p, s->bytes));
	TIMED(OP_FREE, cu.cuMemFree_v2(p));
	return 0;
}

static int rounds(int index, void *arg)
{
	struct shared *s = arg;
	CUdeviceptr at;
	struct gpu g;

	probe_step("process");
	if (gpu_open(&g) || WANT(cuMemCreate) || WANT(cuMemMap) || WANT(cuMemSetAccess) ||
	    WANT(cuMemAddressReserve))
		return 1;
	TRY(cu.cuMemAddressReserve(&at, s->bytes, 0, 0, 0));
	if (!barrier_wait(&s->ready, s->processes, 20))
		return 1;
	for (unsigned i = 0; i < s->rounds; i++)
		if (one_round(&g, s, index, at))
			return 1;
	TRY(cu.cuMemAddressFree(at, s->bytes));
	gpu_close(&g);
	return 0;
}

static void side_by_side(unsigned processes, size_t z)
{
	struct shared *s = shared_alloc(sizeof(*s));
	pid_t pids[2] = {0};
	char what[64];

	s->processes = processes;
	s->bytes = sizes[z].bytes;
	s->rounds = probe_quick() ? 4 : sizes[z].rounds;
	snprintf(what, sizeof(what), "%s_x%u", sizes[z].name, processes);
	for (unsigned i = 0; i < processes; i++)
		pids[i] = spawn(rounds, (int)i, s);
	if (!join(pids, (int)processes, 40)) {
		report_skipped(what, "a process could not finish (see its own record)");
		return;
	}
	for (enum op op = 0; op < OP_COUNT; op++) {
		struct samples all = {0};

		for (unsigned i = 0; i < processes; i++)
			for (unsigned j = 1; j < s->n[i][op]; j++) /* the first one warms up */
				samples_add(&all, s->ns[i][op][j]);
		snprintf(what, sizeof(what), "%s.%s_x%u", op_names[op], sizes[z].name, processes);
		report(what, "ns", &all, "%u process%s at once", processes,
		       processes > 1 ? "es" : "");
	}
}

/* 1 GiB of address space behind handles of one size: a whole range costs so much to bring back. */
static int range(struct gpu *g, size_t piece)
{
	CUmemAllocationProp prop = properties(g);
	CUmemAccessDesc access = access_all(g);
	size_t total = probe_quick() ? 64 * MIB : GIB, n = total / piece;
	CUmemGenericAllocationHandle *h = calloc(n, sizeof(*h));
	struct samples create = {0}, map = {0}, one = {0}, each = {0}, unmap = {0};
	unsigned times = probe_quick() ? 2 : 8;
	CUdeviceptr at;
	char what[64];

	snprintf(what, sizeof(what), "range_of_%zuMiB", (size_t)(piece / MIB));
	probe_step(what);
	if (!h)
		return -1;
	TRY(cu.cuMemAddressReserve(&at, total, 0, 0, 0));
	for (unsigned k = 0; k < times; k++) {
		uint64_t t0 = now_ns();

		for (size_t i = 0; i < n && !k; i++)
			TRY(cu.cuMemCreate(&h[i], piece, &prop, 0));
		if (!k)
			samples_add(&create, (double)(now_ns() - t0));
		t0 = now_ns();
		for (size_t i = 0; i < n; i++)
			TRY(cu.cuMemMap(at + i * piece, piece, 0, h[i], 0));
		samples_add(&map, (double)(now_ns() - t0));
		t0 = now_ns();
		if (k % 2 == 0) {
			TRY(cu.cuMemSetAccess(at, total, &access, 1));
			samples_add(&one, (double)(now_ns() - t0));
		} else {
			for (size_t i = 0; i < n; i++)
				TRY(cu.cuMemSetAccess(at + i * piece, piece, &access, 1));
			samples_add(&each, (double)(now_ns() - t0));
		}
		TRY(cu.cuMemsetD8_v2(at, 1, total));
		TRY(cu.cuCtxSynchronize());
		t0 = now_ns();
		TRY(cu.cuMemUnmap(at, total));
		samples_add(&unmap, (double)(now_ns() - t0));
	}
	for (size_t i = 0; i < n; i++)
		TRY(cu.cuMemRelease(h[i]));
	TRY(cu.cuMemAddressFree(at, total));
	free(h);
#define SHOW(name, s)                                                                              \
	do {                                                                                       \
		char full[96];                                                                     \
		snprintf(full, sizeof(full), "%s." name, what);                                    \
		report(full, "ns", s, "%zu MiB in %zu handles", (size_t)(total / MIB), n);         \
	} while (0)
	SHOW("create_all", &create);
	SHOW("map_all", &map);
	SHOW("set_access_once", &one);
	SHOW("set_access_each", &each);
	SHOW("unmap_once", &unmap);
#undef SHOW
	return 0;
}

static int ranges(int index, void *arg)
{
	size_t granularity = 0;
	struct gpu g;

	(void)index;
	(void)arg;
	probe_step("ranges");
	if (gpu_open(&g) || WANT(cuMemGetAllocationGranularity) || WANT(cuMemCreate))
		return 1;
	for (int recommended = 0; recommended < 2; recommended++) {
		CUmemAllocationProp prop = properties(&g);

		TRY(cu.cuMemGetAllocationGranularity(&granularity, &prop,
						     recommended
							     ? CU_MEM_ALLOC_GRANULARITY_RECOMMENDED
							     : CU_MEM_ALLOC_GRANULARITY_MINIMUM));
		report_fact(recommended ? "granularity_recommended" : "granularity_minimum",
			    "%zu bytes", granularity);
	}
	return range(&g, 2 * MIB) || range(&g, 32 * MIB) ||
	       (!probe_quick() && range(&g, 256 * MIB));
}

int main(int argc, char **argv)
{
	bool computes;
	pid_t pid;

	probe_begin(argc, argv, "vmm", 120, NULL);
	if (!device_there(&computes))
		return probe_end();
	for (size_t z = 0; z < ARRAY_LEN(sizes); z++)
		for (unsigned processes = 1; processes <= 2; processes++)
			if (!probe_quick() || z < 2)
				side_by_side(processes, z);
	pid = spawn(ranges, 0, NULL);
	if (join_one(pid, 40))
		report_skipped("ranges", "could not finish (see its own record)");
	return probe_end();
}
