/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target without libFuzzer: every file of a corpus folder, then SECONDS of mutations
 * of them with a fixed seed. For compilers that have no -fsanitize=fuzzer; finds less, costs less.
 * Usage: fuzz_X CORPUS SECONDS
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/timing.h"

#define MAX_INPUTS 256
#define MAX_BYTES 8192

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	uint8_t data[MAX_BYTES];
	size_t size;
} inputs[MAX_INPUTS];
static unsigned int input_count;

static uint64_t next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static int load(const char *folder)
{
	DIR *dir = opendir(folder);
	struct dirent *e;

	if (!dir) {
		perror(folder);
		return -1;
	}
	while ((e = readdir(dir)) && input_count < MAX_INPUTS) {
		char path[4096];
		FILE *f;

		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
		f = fopen(path, "rb");
		if (!f)
			continue;
		inputs[input_count].size = fread(inputs[input_count].data, 1, MAX_BYTES, f);
		input_count++;
		fclose(f);
	}
	closedir(dir);
	return 0;
}

static size_t mutate(uint8_t *data, size_t size, uint64_t *seed)
{
	for (uint64_t n = next(seed) % 8 + 1; n; n--) {
		switch (next(seed) % 4) {
		case 0:
			if (size)
				data[next(seed) % size] = (uint8_t)next(seed);
			break;
		case 1:
			if (size)
				data[next(seed) % size] ^= (uint8_t)(1u << next(seed) % 8);
			break;
		case 2:
			size = next(seed) % 3 ? size : next(seed) % (size + 1);
			break;
		default:
			if (size < MAX_BYTES)
				data[size++] = (uint8_t)next(seed);
			break;
		}
	}
	return size;
}

int main(int argc, char **argv)
{
	static uint8_t data[MAX_BYTES];
	uint64_t seed = 0x9e3779b97f4a7c15, end, runs = 0;

	if (argc != 3 || load(argv[1]) < 0 || !input_count) {
		fprintf(stderr, "usage: %s CORPUS SECONDS (corpus must hold files)\n", argv[0]);
		return 2;
	}
	for (unsigned int i = 0; i < input_count; i++, runs++)
		LLVMFuzzerTestOneInput(inputs[i].data, inputs[i].size);
	end = aq_now_ns() + strtoull(argv[2], NULL, 10) * AQ_NS_PER_S;
	while (aq_now_ns() < end) {
		for (unsigned int i = 0; i < 1000; i++, runs++) {
			unsigned int pick = (unsigned int)(next(&seed) % input_count);
			size_t size = inputs[pick].size;

			memcpy(data, inputs[pick].data, size);
			size = mutate(data, size, &seed);
			LLVMFuzzerTestOneInput(data, size);
		}
	}
	printf("%u inputs, %llu runs\n", input_count, (unsigned long long)runs);
	return 0;
}
