/* SPDX-License-Identifier: Apache-2.0 */
/* What a test may set in the fake NVML library: one device of which everything is known. */
#ifndef AQ_TESTS_FAKE_NVML_H
#define AQ_TESTS_FAKE_NVML_H

#include "nvml/nvml_abi.h"

#define FAKE_UUID "GPU-00112233-4455-6677-8899-aabbccddeeff"
#define FAKE_TOTAL (80ull << 30)
#define FAKE_RESERVED (1ull << 30)
#define FAKE_USED (40ull << 30)
#define FAKE_BAR1 (128ull << 30)
#define FAKE_PIDS 8

struct fake_nvml {
	nvmlReturn_t init_status;
	int inits, shutdowns;
	unsigned int n_processes; /* <= FAKE_PIDS; of pids */
	unsigned int pids[FAKE_PIDS];
	unsigned long long used[FAKE_PIDS];
	unsigned int grow;    /* processes that come between two readings, once each */
	unsigned int calls;   /* of process lists */
	unsigned int cleared; /* of accounting pids */
};

#endif /* AQ_TESTS_FAKE_NVML_H */
