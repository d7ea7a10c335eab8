/* SPDX-License-Identifier: Apache-2.0 */
/* Counts, and prints what was counted; see metrics.h. */
#include "bench/llm/metrics.h"

#include <event2/buffer.h>

#include "base/cleanup.h"
#include "bench/llm/blocks.h"

#include "base/banned.h"

#define N_BOUNDS(a) (uint32_t) AQ_ARRAY_SIZE(a)

/* Source of all bounds: vLLM, vllm/v1/metrics/loggers.py */
static const double ttft_buckets[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,
				      0.25,  0.5,   0.75, 1,	2.5,  5,    7.5,  10,
				      20,    40,    80,	  160,	640,  2560};
static const double token_buckets[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
				       0.75, 1,	    2.5,  5,	 7.5, 10,   20,	 40,  80};
static const double request_buckets[] = {0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,	10,   15,  20,
					 30,  40,  50,	60, 120, 240, 480, 960, 1920, 7680};
static const double step_buckets[] = {1,   8,	 16,   32,   64,   128,	 256,
				      512, 1024, 2048, 4096, 8192, 16384};
static const double size_buckets[] = {1,   2,	 5,    10,   20,    50,	   100,	  200,
				      500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};

static const struct {
	const char *name, *help;
	const double *bounds;
	uint32_t n_bounds;
} histograms[] = {
#define LLM_GAUGE(field, name, help)
#define LLM_COUNTER(field, name, help)
#define LLM_HISTOGRAM(field, name, bounds, help) {name, help, bounds, N_BOUNDS(bounds)},
#include "bench/llm/metrics.def"
#undef LLM_GAUGE
#undef LLM_COUNTER
#undef LLM_HISTOGRAM
};

void llm_histogram_observe(struct llm_histogram *h, enum llm_histogram_id id, double value)
{
	uint32_t i = 0;

	while (i < histograms[id].n_bounds && value > histograms[id].bounds[i])
		i++;
	h->buckets[i]++;
	h->count++;
	h->sum += value;
}

static void head(struct evbuffer *to, const char *name, const char *type, const char *help)
{
	evbuffer_add_printf(to, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void print_histogram(const struct llm_histogram *h, enum llm_histogram_id id,
			    const char *model, struct evbuffer *to)
{
	const char *name = histograms[id].name;
	uint64_t sum = 0;

	head(to, name, "histogram", histograms[id].help);
	for (uint32_t i = 0; i < histograms[id].n_bounds; i++) {
		sum += h->buckets[i];
		evbuffer_add_printf(to,
				    "%s_bucket{engine=\"0\",le=\"%.9g\",model_name=\"%s\"} %llu\n",
				    name, histograms[id].bounds[i], model, (unsigned long long)sum);
	}
	evbuffer_add_printf(to, "%s_bucket{engine=\"0\",le=\"+Inf\",model_name=\"%s\"} %llu\n",
			    name, model, (unsigned long long)h->count);
	evbuffer_add_printf(to, "%s_sum{engine=\"0\",model_name=\"%s\"} %.9g\n", name, model,
			    h->sum);
	evbuffer_add_printf(to, "%s_count{engine=\"0\",model_name=\"%s\"} %llu\n", name, model,
			    (unsigned long long)h->count);
}

static void print_one(struct evbuffer *to, const char *name, const char *type, const char *help,
		      const char *model, double value)
{
	head(to, name, type, help);
	evbuffer_add_printf(to, "%s{engine=\"0\",model_name=\"%s\"} %.17g\n", name, model, value);
}

static void print_success(const struct llm_metrics *m, const char *model, struct evbuffer *to)
{
	const struct {
		const char *reason;
		uint64_t n;
	} all[] = {{"stop", m->success_stop},
		   {"length", m->success_length},
		   {"abort", m->success_abort}};

	head(to, "vllm:request_success_total", "counter",
	     "Count of successfully processed requests.");
	for (size_t i = 0; i < AQ_ARRAY_SIZE(all); i++)
		evbuffer_add_printf(
			to,
			"vllm:request_success_total{engine=\"0\",finished_reason=\"%s\","
			"model_name=\"%s\"} %llu\n",
			all[i].reason, model, (unsigned long long)all[i].n);
}

void llm_metrics_print(const struct llm_metrics *m, const char *model, uint32_t n_blocks,
		       struct evbuffer *to)
{
#define LLM_GAUGE(field, name, help) print_one(to, name, "gauge", help, model, m->field);
#define LLM_COUNTER(field, name, help)                                                             \
	print_one(to, name, "counter", help, model, (double)m->field);
#define LLM_HISTOGRAM(field, name, bounds, help)                                                   \
	print_histogram(&m->field, LLM_HISTOGRAM_##field, model, to);
#include "bench/llm/metrics.def"
#undef LLM_GAUGE
#undef LLM_COUNTER
#undef LLM_HISTOGRAM
	print_success(m, model, to);
	head(to, "vllm:cache_config_info", "gauge", "Information of the engine's cache.");
	evbuffer_add_printf(to,
			    "vllm:cache_config_info{block_size=\"%u\",engine=\"0\","
			    "num_gpu_blocks=\"%u\"} 1\n",
			    LLM_BLOCK_TOKENS, n_blocks);
}
