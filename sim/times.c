/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aliquot-sim-times: what a simulated machine itself knows of the time of its devices, as JSON, for
 * tests and benchmarks that compare other accounts with it. Changes nothing in the machine but to
 * sweep what dead processes left.
 *
 *   aliquot-sim-times [DIR]       one line, and end
 *   aliquot-sim-times DIR -       one line for each line on standard input
 *
 * Without DIR, the machine that a program in this environment would find. A line is an object:
 *
 *   now_ns                        CLOCK_MONOTONIC, of the first device's reading
 *   devices[]                     index, profile, now_ns; since the device was made: compute_ns,
 *                                 copy_ns {h2d, d2h, p2p}, switched_ns, switches, and
 *                                 gaps_us [[from, switches], ...]: switches by how long the engine
 *                                 had been idle before them, in steps of 5 us; the last is open
 *   devices[].contexts[]          id, pid, alive, compute_ns, copy_ns of every context, of
 * processes that have ended too (the last 4096 contexts that ended)
 *
 * All of a device is of one instant. Copies are accounted to their engine when they are accepted,
 * and overlap with kernels; copies inside a device are compute time.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

#include "base/cleanup.h"

#define MAX_ACCOUNTS (SIM_ENGINE_CONTEXTS + SIM_ENGINE_PAST)

static void print_copies(const uint64_t *copy_ns)
{
	printf("\"copy_ns\":{\"h2d\":%" PRIu64 ",\"d2h\":%" PRIu64 ",\"p2p\":%" PRIu64 "}",
	       copy_ns[SIM_COPY_H2D], copy_ns[SIM_COPY_D2H], copy_ns[SIM_COPY_P2P]);
}

static void print_gaps(const uint64_t *gaps)
{
	const char *comma = "";

	printf("\"gaps_us\":[");
	for (uint32_t i = 0; i < SIM_ENGINE_GAPS; i++) {
		if (!gaps[i])
			continue;
		printf("%s[%u,%" PRIu64 "]", comma, i * (uint32_t)(SIM_ENGINE_GAP_NS / 1000),
		       gaps[i]);
		comma = ",";
	}
	printf("]");
}

static void print_accounts(const struct sim_account *accounts, uint32_t n)
{
	printf("\"contexts\":[");
	for (uint32_t i = 0; i < n; i++) {
		printf("%s{\"id\":%" PRIu64 ",\"pid\":%d,\"alive\":%s,\"compute_ns\":%" PRIu64 ",",
		       i ? "," : "", accounts[i].id, accounts[i].pid,
		       accounts[i].alive ? "true" : "false", accounts[i].compute_ns);
		print_copies(accounts[i].copy_ns);
		printf("}");
	}
	printf("]");
}

static void print_device(struct sim_machine *m, uint32_t device, struct sim_account *accounts)
{
	uint64_t gaps[SIM_ENGINE_GAPS];
	struct sim_device_times t;
	uint32_t n = sim_machine_accounts(m, device, &t, accounts, MAX_ACCOUNTS, gaps);

	if (!device)
		printf("{\"now_ns\":%" PRIu64 ",\"devices\":[", t.now_ns);
	printf("%s{\"index\":%u,\"profile\":\"%s\",\"now_ns\":%" PRIu64 ",\"compute_ns\":%" PRIu64
	       ",\"switched_ns\":%" PRIu64 ",\"switches\":%" PRIu64 ",",
	       device ? "," : "", device, sim_machine_profile(m, device)->id, t.now_ns,
	       t.compute_ns, t.switched_ns, t.switches);
	print_copies(t.copy_ns);
	printf(",");
	print_gaps(gaps);
	printf(",");
	print_accounts(accounts, n < MAX_ACCOUNTS ? n : MAX_ACCOUNTS);
	printf("}");
}

static void print_machine(struct sim_machine *m, struct sim_account *accounts)
{
	uint32_t n = sim_machine_n_devices(m);

	for (uint32_t i = 0; i < n; i++)
		print_device(m, i, accounts);
	printf("%s]}\n", n ? "" : "{\"now_ns\":0,\"devices\":[");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	AQ_CLEANUP(free) struct sim_account *accounts = calloc(MAX_ACCOUNTS, sizeof(*accounts));
	struct sim_machine m;
	char line[16];
	int r;

	if (argc > 3 || (argc == 3 && strcmp(argv[2], "-") != 0)) {
		fprintf(stderr, "usage: aliquot-sim-times [DIR [-]]\n");
		return 2;
	}
	if (!accounts)
		return 1;
	unsetenv("ALIQUOT_SIM"); /* to look must not make a machine */
	r = argc > 1 ? sim_machine_open(&m, argv[1]) : sim_machine_find(&m);
	if (r < 0) {
		fprintf(stderr, "aliquot-sim-times: no simulated machine: %s\n", strerror(-r));
		return 1;
	}
	if (argc < 3) {
		print_machine(&m, accounts);
	} else {
		while (fgets(line, sizeof(line), stdin))
			print_machine(&m, accounts);
	}
	sim_machine_close(&m);
	return 0;
}
