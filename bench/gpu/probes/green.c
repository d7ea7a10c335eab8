/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Green contexts: which sets of multiprocessors can be had, what making one costs, and whether work
 * in it gets that share of the device and no more, alone and with work in the rest.
 */
#include "probe.h"

struct part {
	CUdevResource res;
	CUgreenCtx ctx;
	CUstream stream;
};

static int make_part(struct gpu *g, const CUdevResource *res, struct part *p, double *ret_ns)
{
	uint64_t t0 = now_ns();
	CUdevResourceDesc desc;

	p->res = *res;
	TRY(cu.cuDevResourceGenerateDesc(&desc, &p->res, 1));
	TRY(cu.cuGreenCtxCreate(&p->ctx, desc, g->dev, CU_GREEN_CTX_DEFAULT_STREAM));
	TRY(cu.cuGreenCtxStreamCreate(&p->stream, p->ctx, CU_STREAM_NON_BLOCKING, 0));
	if (ret_ns)
		*ret_ns = (double)(now_ns() - t0);
	return 0;
}

static int end_part(struct part *p)
{
	TRY(cu.cuStreamDestroy_v2(p->stream));
	TRY(cu.cuGreenCtxDestroy(p->ctx));
	return 0;
}

static unsigned blocks(const struct gpu *g)
{
	return (unsigned)g->sms * 32; /* many waves, so that a share shows */
}

/* Time of the same work on one stream or on two at once. */
static int time_on(struct gpu *g, uint64_t iters, CUstream a, CUstream b, double *ret_a,
		   double *ret_b)
{
	CUdeviceptr none = 0;
	uint64_t t0;

	TRY(cu.cuCtxSynchronize());
	t0 = now_ns();
	TRY(gpu_run(g, K_WORK, blocks(g), 256, a, &iters, &none, &none));
	if (b)
		TRY(gpu_run(g, K_WORK, blocks(g), 256, b, &iters, &none, &none));
	if (!b) {
		TRY(cu.cuStreamSynchronize(a));
		*ret_a = (double)(now_ns() - t0);
		return 0;
	}
	*ret_a = *ret_b = 0;
	while (!*ret_a || !*ret_b) {
		if (!*ret_a && cu.cuStreamQuery(a) != CUDA_ERROR_NOT_READY)
			*ret_a = (double)(now_ns() - t0);
		if (!*ret_b && cu.cuStreamQuery(b) != CUDA_ERROR_NOT_READY)
			*ret_b = (double)(now_ns() - t0);
	}
	return 0;
}

static int one_split(struct gpu *g, const CUdevResource *all, unsigned wanted, unsigned flags,
		     uint64_t iters, double full_ns)
{
	struct samples alone = {0}, first = {0}, second = {0}, create = {0};
	CUdevResource group, rest;
	struct part p, q;
	unsigned n = 1;
	char name[64], what[96];
	double ns, a, b;

	snprintf(name, sizeof(name), "%u_wanted%s", wanted, flags ? "_fine" : "");
	probe_step(name);
	TRY(cu.cuDevSmResourceSplitByCount(&group, &n, all, &rest, flags, wanted));
	snprintf(what, sizeof(what), "%s.got", name);
	report_fact(what, "%u multiprocessors, %u left", group.sm.smCount, rest.sm.smCount);
	for (int i = 0; i < 5; i++) {
		if (make_part(g, &group, &p, &ns))
			return -1;
		samples_add(&create, ns);
		if (i < 4 && end_part(&p))
			return -1;
	}
	snprintf(what, sizeof(what), "%s.create", name);
	report(what, "ns", &create, "description, green context and one stream");
	for (int i = 0; i < 6; i++) {
		if (time_on(g, iters, p.stream, NULL, &a, NULL))
			return -1;
		if (i)
			samples_add(&alone, full_ns / a);
	}
	snprintf(what, sizeof(what), "%s.alone", name);
	report(what, "of full", &alone,
	       "throughput of work in the part alone; its share of the "
	       "multiprocessors is %.3f",
	       (double)group.sm.smCount / g->sms);
	if (rest.sm.smCount && rest.type == CU_DEV_RESOURCE_TYPE_SM) {
		if (make_part(g, &rest, &q, NULL))
			return -1;
		for (int i = 0; i < 6; i++) {
			if (time_on(g, iters, p.stream, q.stream, &a, &b))
				return -1;
			samples_add(&first, full_ns / a);
			samples_add(&second, full_ns / b);
		}
		snprintf(what, sizeof(what), "%s.beside_rest", name);
		report(what, "of full", &first, "while the rest works too");
		snprintf(what, sizeof(what), "%s.rest", name);
		report(what, "of full", &second, "the rest, %u multiprocessors", rest.sm.smCount);
		if (end_part(&q))
			return -1;
	}
	return end_part(&p);
}

int main(int argc, char **argv)
{
	static const struct {
		unsigned wanted, flags;
	} splits[] = {{8, 0},
		      {32, 0},
		      {64, 0},
		      {2, CU_DEV_SM_RESOURCE_SPLIT_IGNORE_SM_COSCHEDULING},
		      {33, CU_DEV_SM_RESOURCE_SPLIT_IGNORE_SM_COSCHEDULING}};
	struct samples full = {0};
	CUdevResource all;
	struct gpu g;
	uint64_t iters;
	double ns = 0, median;

	probe_begin(argc, argv, "green", 60, NULL);
	probe_step("open");
	if (gpu_open(&g) || WANT(cuDeviceGetDevResource) || WANT(cuDevSmResourceSplitByCount) ||
	    WANT(cuDevResourceGenerateDesc) || WANT(cuGreenCtxCreate) ||
	    WANT(cuGreenCtxStreamCreate))
		return probe_end();
	if (!g.computes) {
		report_skipped("open", "kernels do not compute here");
		return probe_end();
	}
	iters = gpu_calibrate(&g, blocks(&g), 256, 4 * MSEC);
	probe_step("whole_device");
	for (int i = 0; i < 6; i++)
		if (time_on(&g, iters, g.stream, NULL, &ns, NULL))
			return probe_end();
		else if (i)
			samples_add(&full, ns);
	median = samples_quantile(&full, 0.5);
	report("whole_device", "ns", &full, "the same work on all multiprocessors");
	if (cu.cuDeviceGetDevResource(g.dev, &all, CU_DEV_RESOURCE_TYPE_SM)) {
		report_skipped("resource", "cuDeviceGetDevResource refuses");
		return probe_end();
	}
	report_fact("resource", "%u multiprocessors, smallest part %u, alignment %u",
		    all.sm.smCount, all.sm.minSmPartitionSize, all.sm.smCoscheduledAlignment);
	for (size_t i = 0; i < ARRAY_LEN(splits); i++)
		one_split(&g, &all, splits[i].wanted, splits[i].flags, iters, median);
	gpu_close(&g);
	return probe_end();
}
