/* SPDX-License-Identifier: Apache-2.0 */
/* Times of single steps by the device's clock, without server or scheduler. */
#ifndef AQ_BENCH_LLM_MEASURE_H
#define AQ_BENCH_LLM_MEASURE_H

#include "bench/llm/device.h"

/**
 * llm_measure_run() - time the steps that @what names, and print them as JSON on stdout.
 * @what: decode:BATCH:CONTEXT or prefill:TOKENS[:CONTEXT], several with commas between
 * Return: 0; negative errno, said in the log
 */
int llm_measure_run(const struct llm_device_options *o, const char *what);

#endif /* AQ_BENCH_LLM_MEASURE_H */
