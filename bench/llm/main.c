/* SPDX-License-Identifier: Apache-2.0 */
/* aliquot-llm-server: reads options, then serves or measures. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/size.h"
#include "bench/llm/measure.h"
#include "bench/llm/server.h"
#include "base/banned.h"

#define EXIT_USAGE 2

#define DEFAULT_UTILIZATION 900u /* Source: vLLM's gpu_memory_utilization, 0.9 until 0.27 */
#define DEFAULT_REQUESTS 4096u
#define DEFAULT_DRAIN_S 30u

static const char usage[] =
	"usage: aliquot-llm-server --model MODEL [options]\n"
	"\n"
	"Serves a language model's work on a GPU by the CUDA driver API: the memory, the launches "
	"and\n"
	"the scheduling of a real engine, on random weights, and made-up words by an "
	"OpenAI-compatible\n"
	"API. When it serves, it says where on stdout, in one line of JSON.\n"
	"\n"
	"  --model MODEL                 one of --list\n"
	"  --list                        print the models, with sizes, and end\n"
	"  --host ADDRESS                to listen on (127.0.0.1)\n"
	"  --port PORT                   likewise; 0 takes any (8000)\n"
	"  --served-model-name NAME      as clients know it\n"
	"  --device N                    of those visible (0)\n"
	"  --gpu-memory-utilization F    of the device's memory (0.9)\n"
	"  --max-model-len N             tokens of a sequence (the model's, or what the cache "
	"holds)\n"
	"  --max-num-seqs N              running at once (1024 from 70 GiB on, else 256)\n"
	"  --max-num-batched-tokens N    of a step (8192 from 70 GiB on, else 2048)\n"
	"  --max-requests N              being answered or waiting; more get 503 (4096)\n"
	"  --enforce-eager               no CUDA graphs\n"
	"  --no-blas                     do not use cuBLAS, though it is there\n"
	"  --host-costs vllm|trtllm|none time of an engine's host side that is added (vllm)\n"
	"  --mean-output N               answers end by themselves after so many tokens on "
	"average,\n"
	"                                unless a request has ignore_eos (never)\n"
	"  --drain SECONDS               after SIGTERM, for what runs (30)\n"
	"  --measure WHAT[,WHAT...]      time single steps and end: decode:BATCH:CONTEXT, "
	"prefill:N,\n"
	"                                prefill:N:CONTEXT\n";

enum {
	OPT_MODEL = 256,
	OPT_LIST,
	OPT_HOST,
	OPT_PORT,
	OPT_SERVED,
	OPT_DEVICE,
	OPT_UTILIZATION,
	OPT_MAX_LEN,
	OPT_MAX_SEQS,
	OPT_BUDGET,
	OPT_MAX_REQUESTS,
	OPT_EAGER,
	OPT_NO_BLAS,
	OPT_HOST_COSTS,
	OPT_MEAN_OUTPUT,
	OPT_DRAIN,
	OPT_MEASURE,
	OPT_HELP,
};

static const struct option options[] = {
	{"model", required_argument, NULL, OPT_MODEL},
	{"list", no_argument, NULL, OPT_LIST},
	{"host", required_argument, NULL, OPT_HOST},
	{"port", required_argument, NULL, OPT_PORT},
	{"served-model-name", required_argument, NULL, OPT_SERVED},
	{"device", required_argument, NULL, OPT_DEVICE},
	{"gpu-memory-utilization", required_argument, NULL, OPT_UTILIZATION},
	{"max-model-len", required_argument, NULL, OPT_MAX_LEN},
	{"max-num-seqs", required_argument, NULL, OPT_MAX_SEQS},
	{"max-num-batched-tokens", required_argument, NULL, OPT_BUDGET},
	{"max-requests", required_argument, NULL, OPT_MAX_REQUESTS},
	{"enforce-eager", no_argument, NULL, OPT_EAGER},
	{"no-blas", no_argument, NULL, OPT_NO_BLAS},
	{"host-costs", required_argument, NULL, OPT_HOST_COSTS},
	{"mean-output", required_argument, NULL, OPT_MEAN_OUTPUT},
	{"drain", required_argument, NULL, OPT_DRAIN},
	{"measure", required_argument, NULL, OPT_MEASURE},
	{"help", no_argument, NULL, OPT_HELP},
	{0},
};

struct settings {
	struct llm_server_options server;
	const char *measure;
};

static int bad(const char *option, const char *value, const char *what)
{
	aq_error("--%s %s: %s", option, value, what);
	return -EINVAL;
}

static int take_number(const char *option, const char *text, uint64_t min, uint64_t max,
		       uint32_t *ret)
{
	uint64_t v;

	if (aq_uint_parse(text, min, max, &v) < 0) {
		aq_error("--%s %s: not a number from %llu to %llu", option, text,
			 (unsigned long long)min, (unsigned long long)max);
		return -EINVAL;
	}
	*ret = (uint32_t)v;
	return 0;
}

static int take_real(const char *option, const char *text, double min, double max, double *ret)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || !(v >= min && v <= max)) {
		aq_error("--%s %s: not a number from %g to %g", option, text, min, max);
		return -EINVAL;
	}
	*ret = v;
	return 0;
}

static int take_model(struct settings *s, const char *name)
{
	s->server.engine.device.model = llm_model_find(name);
	return s->server.engine.device.model ? 0 : bad("model", name, "no such model; --list has them");
}

/* It stands in answers and in the labels of metrics as it is. */
static int take_served(struct settings *s, const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				"._-/");

	if (!n || n > 100 || name[n])
		return bad("served-model-name", name, "1 to 100 of letters, digits and ._-/");
	s->server.served = name;
	return 0;
}

static int take_host_costs(struct settings *s, const char *name)
{
	const struct llm_host *h = llm_host_find(name);

	if (!h)
		return bad("host-costs", name, "vllm, trtllm or none");
	s->server.engine.host = *h;
	return 0;
}

static int take_utilization(struct settings *s, const char *text)
{
	double v;
	int r = take_real("gpu-memory-utilization", text, 0.01, 1, &v);

	if (r == 0)
		s->server.engine.device.utilization_permille = (uint32_t)lround(v * 1000);
	return r;
}

static int take_port(struct settings *s, const char *text)
{
	uint32_t v;
	int r = take_number("port", text, 0, UINT16_MAX, &v);

	if (r == 0)
		s->server.port = (uint16_t)v;
	return r;
}

static int take(struct settings *s, int option, const char *value)
{
	struct llm_device_options *d = &s->server.engine.device;

	switch (option) {
	case OPT_MODEL:
		return take_model(s, value);
	case OPT_HOST:
		s->server.host = value;
		return 0;
	case OPT_PORT:
		return take_port(s, value);
	case OPT_SERVED:
		return take_served(s, value);
	case OPT_DEVICE:
		return take_number("device", value, 0, 1023, &d->device);
	case OPT_UTILIZATION:
		return take_utilization(s, value);
	case OPT_MAX_LEN:
		return take_number("max-model-len", value, 2, LLM_MAX_TOKENS, &d->max_tokens);
	case OPT_MAX_SEQS:
		return take_number("max-num-seqs", value, 1, LLM_MAX_SEQS, &d->max_seqs);
	case OPT_BUDGET:
		return take_number("max-num-batched-tokens", value, 1, LLM_MAX_BUDGET, &d->budget);
	case OPT_MAX_REQUESTS:
		return take_number("max-requests", value, 1, 1000000, &s->server.max_requests);
	case OPT_EAGER:
		d->graphs = false;
		return 0;
	case OPT_NO_BLAS:
		d->blas = false;
		return 0;
	case OPT_HOST_COSTS:
		return take_host_costs(s, value);
	case OPT_MEAN_OUTPUT:
		return take_real("mean-output", value, 1, LLM_MAX_TOKENS, &s->server.mean_output);
	case OPT_DRAIN:
		return take_number("drain", value, 0, 86400, &s->server.drain_s);
	case OPT_MEASURE:
		s->measure = value;
		return 0;
	default:
		return -EINVAL;
	}
}

static void list_models(void)
{
	char w[AQ_SIZE_TEXT], k[AQ_SIZE_TEXT];

	printf("%-22s %10s %10s %10s %8s  %s\n", "MODEL", "PARAMETERS", "WEIGHTS", "KV/TOKEN",
	       "CONTEXT", "NAME");
	for (size_t i = 0; i < llm_n_models; i++) {
		const struct llm_model *m = &llm_models[i];

		printf("%-22s %9.2fB %10s %10s %8u  %s\n", m->id, (double)llm_model_params(m) / 1e9,
		       aq_size_format(llm_model_weight_bytes(m), w),
		       aq_size_format(llm_model_kv_token_bytes(m), k), m->max_tokens, m->hf);
	}
}

/* Return: 1: go on; 0: ended well; negative errno. */
static int read_options(int argc, char **argv, struct settings *s)
{
	int option, r = 0;

	while (r == 0 && (option = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
		if (option == OPT_HELP || option == 'h') {
			fputs(usage, stdout);
			return 0;
		}
		if (option == OPT_LIST) {
			list_models();
			return 0;
		}
		r = take(s, option, optarg);
	}
	if (r == 0 && optind < argc)
		r = bad("", argv[optind], "no such argument");
	if (r == 0 && !s->server.engine.device.model) {
		aq_error("no --model; see --help");
		r = -EINVAL;
	}
	return r < 0 ? r : 1;
}

int main(int argc, char **argv)
{
	struct settings s = {
		.server = {.host = "127.0.0.1",
			   .port = 8000,
			   .max_requests = DEFAULT_REQUESTS,
			   .drain_s = DEFAULT_DRAIN_S,
			   .engine = {.host = *llm_host_find("vllm"),
				      .device = {.utilization_permille = DEFAULT_UTILIZATION,
						 .graphs = true,
						 .blas = true,
						 .init = true}}},
	};
	int r;

	aq_fds_standard();
	aq_log_init("aliquot-llm-server", AQ_LOG_INFO);
	signal(SIGPIPE, SIG_IGN);
	r = read_options(argc, argv, &s);
	if (r <= 0)
		return r < 0 ? EXIT_USAGE : EXIT_SUCCESS;
	if (llm_cu_load() < 0)
		return EXIT_FAILURE;
	r = s.measure ? llm_measure_run(&s.server.engine.device, s.measure)
		      : llm_server_run(&s.server);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
