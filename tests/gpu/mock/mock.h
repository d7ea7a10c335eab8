/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device that does not exist, for testing the GPU kit: what its processes share. The mock driver
 * (cuda.c) runs the kit's own kernels by name on the CPU and divides device time between processes
 * by time slices; the mock kernel (rm_sys.c, linked into the probe under test) answers resource
 * manager calls. How slices take effect is MOCK_RULE, so that a test knows the truth beforehand.
 */
#ifndef AQ_TESTS_GPU_MOCK_H
#define AQ_TESTS_GPU_MOCK_H

#include <stdatomic.h>
#include <stdint.h>

#define MOCK_SLOTS 512
#define MOCK_EVENTS 8192
#define MOCK_DEFAULT_US 1024
#define MOCK_SWITCH_NS 40000
#define MOCK_CLOCK_OFFSET 987654321000ull /* device time minus CLOCK_MONOTONIC */

enum mock_kind { MOCK_ON, MOCK_OFF, MOCK_SLICE, MOCK_EXPIRE };

struct mock_event {
	uint64_t t; /* CLOCK_MONOTONIC */
	uint32_t slot, kind;
	uint64_t us;
};

struct mock_state { /* the file $MOCK_DIR/state */
	_Atomic uint32_t lock;
	uint32_t n_slots, n_events;
	struct {
		uint64_t told_us, effective_us;
		_Atomic uint32_t working; /* kernels that are not finished */
	} slots[MOCK_SLOTS];		  /* one for each context ever made */
	struct mock_event events[MOCK_EVENTS];
};

/* Handles of the objects of a slot. */
#define MOCK_CLIENT 0xc1d00000u /* plus the slot */
#define MOCK_DEVICE 0x5c000001u
#define MOCK_SUBDEVICE 0x5c000002u
#define MOCK_GROUP 0x5c00004cu
#define MOCK_COPY_GROUP 0x5c00004du
#define MOCK_CHANNEL 0x5c000100u /* and the seven after it */

#endif
