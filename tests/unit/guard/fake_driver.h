/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver of two devices that keeps books and does nothing else, for the guard's unit tests: what
 * it says is held is what the guard's charges are compared with. Reuses handles and addresses as
 * soon as it can, which is what a careless guard gets wrong.
 */
#ifndef AQ_TESTS_FAKE_DRIVER_H
#define AQ_TESTS_FAKE_DRIVER_H

#include <stdint.h>

#define FAKE_BLOCK_BYTES (2ull << 20) /* linear memory is taken in these */
#define FAKE_DEVICES 2

struct fake {
	uint64_t total[FAKE_DEVICES];
	uint64_t used[FAKE_DEVICES];	 /* bytes held now; atomic */
	uint64_t peak[FAKE_DEVICES];	 /* most ever held at once; atomic */
	uint32_t contexts[FAKE_DEVICES]; /* live ones; atomic */
	uint64_t pool_step;		 /* pools grow by multiples of this */
	uint64_t pitch_align;
	uint32_t frees;	       /* calls of cuMemFree that came through; atomic */
	uint64_t module_bytes; /* a module takes */
	uint32_t module_loads;
	uint32_t looks; /* calls that ask where the thread is; atomic */
	uint32_t events; /* calls that make, record or ask for events, or ask about captures; atomic */
	int init_calls;
	int fail_init; /* CUresult of the next cuInit */
	int fail_free; /* CUresult of every free while nonzero */
	int capturing; /* every stream is */
};

/* Exported beside the driver's own entry points. */
typedef struct fake *fake_get_fn(void);
struct fake *fake_get(void);

#endif /* AQ_TESTS_FAKE_DRIVER_H */
