/* SPDX-License-Identifier: Apache-2.0 */
/* Counters and histograms of the engine, and their text for Prometheus. No locks of its own. */
#ifndef AQ_BENCH_LLM_METRICS_H
#define AQ_BENCH_LLM_METRICS_H

#include <stddef.h>
#include <stdint.h>

struct evbuffer;

#define LLM_MAX_BOUNDS 24u

struct llm_histogram {
	uint64_t buckets[LLM_MAX_BOUNDS + 1]; /* the last: above every bound */
	uint64_t count;
	double sum;
};

struct llm_metrics {
#define LLM_GAUGE(field, name, help) double field;
#define LLM_COUNTER(field, name, help) uint64_t field;
#define LLM_HISTOGRAM(field, name, bounds, help) struct llm_histogram field;
#include "bench/llm/metrics.def"
#undef LLM_GAUGE
#undef LLM_COUNTER
#undef LLM_HISTOGRAM
	uint64_t success_length, success_stop, success_abort; /* vllm:request_success_total */
};

/* Which histogram, by its field's name: LLM_OBSERVE(m, ttft, seconds). */
enum llm_histogram_id {
#define LLM_GAUGE(field, name, help)
#define LLM_COUNTER(field, name, help)
#define LLM_HISTOGRAM(field, name, bounds, help) LLM_HISTOGRAM_##field,
#include "bench/llm/metrics.def"
#undef LLM_GAUGE
#undef LLM_COUNTER
#undef LLM_HISTOGRAM
	LLM_HISTOGRAMS,
};

void llm_histogram_observe(struct llm_histogram *h, enum llm_histogram_id id, double value);

#define LLM_OBSERVE(m, field, value)                                                               \
	llm_histogram_observe(&(m)->field, LLM_HISTOGRAM_##field, value)

/**
 * llm_metrics_print() - everything, in Prometheus' text format.
 * @model: the label model_name; it has no character that would have to be escaped
 */
void llm_metrics_print(const struct llm_metrics *m, const char *model, uint32_t n_blocks,
		       struct evbuffer *to);

#endif /* AQ_BENCH_LLM_METRICS_H */
