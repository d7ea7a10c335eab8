/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A daemon of one fraction on two devices, in a thread of the test: grants, counts, refuses, dies
 * and comes back as told. Its rules are those of the real one, without its policies.
 */
#ifndef AQ_TESTS_FAKE_DAEMON_H
#define AQ_TESTS_FAKE_DAEMON_H

#include <stdbool.h>
#include <stdint.h>

#include <aliquot/abi.h>

#define FAKE_LIMIT (64ull << 20)   /* of the fraction on device 0 */
#define FAKE_LIMIT_1 (32ull << 20) /* on device 1, when it is in the fraction */
#define FAKE_CONTEXT_BYTES (4ull << 20)

struct fake_daemon {
	/* Set before or between calls. */
	_Atomic uint64_t chunk;	      /* granted at once, when there is as much */
	_Atomic int refuse_hello;     /* negative errno */
	_Atomic bool refuse_measured; /* answer -ENOMEM to COST END */
	_Atomic uint32_t devices;     /* of the fraction: 1 or 2 */
	const uint32_t
		*contexts; /* of each device, as measuring finds them; NULL: they cost nothing */
	const uint8_t (*uuids)[16]; /* of the devices; NULL: of the fake driver's */
	_Atomic uint64_t limit;	    /* on every device; 0: as below */
	/* Written by the thread. */
	_Atomic uint32_t hellos, adoptions, grows, refusals, costs, queries, bells, withdrawals;
	_Atomic uint64_t overhead[2];
	struct aq_page *_Atomic page;
};

extern struct fake_daemon fake_daemon;

/* Listen in a directory of its own and set ALIQUOT_SOCKET and ALIQUOT_FRACTION. */
void fake_daemon_prepare(void);
void fake_daemon_start(void);
void fake_daemon_stop(void);
void fake_daemon_clean(void);

/* As another process that opens the last allocation that was exported, and closes it again. */
void fake_daemon_borrow(uint64_t at); /* ask for it; does not wait */
int fake_daemon_lent(uint64_t *ret_loan, uint64_t *ret_span); /* wait for the answer: its result */
void fake_daemon_give_back(uint64_t loan);

/* Bytes that the page says are used and granted. */
uint64_t fake_daemon_used(int index);
uint64_t fake_daemon_granted(int index);

#endif /* AQ_TESTS_FAKE_DAEMON_H */
