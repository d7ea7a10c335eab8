/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page that one client and the daemon share: its layout and its rules, nothing else.
 *
 * The daemon creates the page (a memfd of AQ_PAGE_BYTES, sealed against growing, shrinking and
 * further seals) and sends it once, over the client's socket. Nobody else ever holds it: a tenant
 * can neither read nor write the state of another. Every field has one writer, except `grant`,
 * which is one atomic word so that both sides may change it and no instruction at which either
 * dies leaves it half written.
 *
 * The daemon believes nothing in the page that it cannot check: see aq_page_check() in src/abi.
 */
#ifndef AQ_ABI_H
#define AQ_ABI_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define AQ_ABI_VERSION 5u          /* changes whenever this file or proto.h does */
#define AQ_PAGE_MAGIC 0x31514c41u  /* "ALQ1", little endian */
#define AQ_PAGE_BYTES 4096u
#define AQ_MAX_DEVICES 16u         /* devices of one fraction */
#define AQ_NAME_BYTES 64u          /* fraction and project names, with the closing NUL */

/*
 * Memory is counted in grains. Source: cuMemAlloc() returns pointers aligned to 512 bytes at the
 * least, so no two allocations share a grain (CUDA Programming Guide says 256; 512 observed).
 * 2^32 grains are 2 TiB for one client on one device.
 */
#define AQ_GRAIN_BYTES 512u

/* Bits of aq_page_device.gate; while it is 0, submitting is free of everything. */
#define AQ_GATE_LEASED 1u /* only with a lease: others share the device, or a cap is in force */
#define AQ_GATE_PARKED 2u /* nobody submits: the memory is away, or moving */
#define AQ_GATE_NOTICE 4u /* whoever submits next writes `notice` into `noticed` and rings, once */

/* Values of lease_until_ns. */
#define AQ_LEASE_UNTIL_TOLD UINT64_MAX
#define AQ_LEASE_STANDING (UINT64_MAX - 1) /* the same, and who takes it rings */

/* Values of `waiting`. */
#define AQ_WAITING_NOBODY 0u
#define AQ_WAITING_OTHERS 1u
#define AQ_WAITING_URGENT 2u /* the lease has ended for a higher priority */
#define AQ_WAITING_PEERS 3u  /* others, and nobody there goes before this fraction */

/* What the daemon wants done with a client's movable memory on a device. */
enum aq_order {
	AQ_ORDER_STAY = 0, /* on the device, or on its way back to it */
	AQ_ORDER_PARK = 1, /* in host memory */
};

/**
 * struct aq_page_device - one device of the client's fraction; a cache line for each concern.
 *
 * Memory. grant packs two counts of grains: the high 32 bits are what the daemon has granted to
 * this client on this device, the low 32 bits what the client has used of it; used <= granted
 * always. The client adds to and subtracts from `used`; the daemon adds to `granted`, and takes
 * back what is not used, each by compare-and-swap on the whole word. Acquire-release on both sides.
 *
 * Compute. The lease is the right to submit until lease_until_ns; it counts while AQ_GATE_LEASED
 * is set. Each time that the daemon gives it, it first writes lease_until_ns, then adds 1 to
 * lease_turn and wakes who sleeps on that word. A client that submits writes the turn into
 * active_turn *first* and looks at lease_turn and lease_until_ns *after* (both sequentially
 * consistent); the daemon ends a lease early by writing 0 to lease_until_ns first and looking at
 * active_turn after. So a lease of which active_turn is not the turn is back at once, without a
 * word from the client; otherwise it is back when the client writes the turn into done_turn, after
 * its threads have left the driver and what they submitted has run, or will have by the time that
 * somebody else can begin. A client that has to wait sets `want`, and clears it when it gives a
 * lease back and has nothing more to submit. After changing want or done_turn it rings
 * (AQ_MSG_BELL); nothing is in the message but which device to look at.
 *
 * A lease that ends for a higher priority is not waited for: that one is given its own at once, and
 * the hardware divides the device until what is in flight of the lower one is done. The daemon says
 * so in `waiting` and writes the 0 after; the client gives back as soon as it knows how much that
 * is, and counts it in gpu_ns.
 *
 * Who would be given such a lease the moment it wants one has it beforehand, a standing one: it
 * submits at once, and rings; the daemon then ends the lower lease, and writes until when this one
 * is good, under the same number.
 *
 * Residency. The daemon writes `order`, then adds 1 to order_turn. The client carries it out
 * (parking: with the gate closed by AQ_GATE_PARKED and its work drained), writes order_result and
 * the byte counts, then order_turn into order_done, and rings. Failing to park leaves everything
 * where it was. The charge of memory that is away is given back through `grant`, and taken again
 * before it comes back.
 */
struct aq_page_device {
	_Atomic uint64_t grant;
	_Atomic uint64_t limit_bytes;   /* of the fraction on this device; daemon writes */
	_Atomic uint64_t request_bytes; /* guaranteed part of it; daemon writes */
	_Atomic uint64_t context_bytes; /* expected cost of a context; 0 unknown; daemon writes */
	uint8_t uuid[16];               /* as cuDeviceGetUuid(); written before the page is sent */
	_Atomic uint64_t unmeasured;    /* calls that took memory no call shows; client adds */
	_Atomic uint64_t changes;       /* of `used`; client adds 1 after each; wraps */

	_Atomic uint32_t gate;          /* AQ_GATE_*; daemon writes */
	_Atomic uint32_t lease_turn;    /* number of the lease, wraps; futex; daemon writes */
	_Atomic uint64_t lease_until_ns; /* CLOCK_MONOTONIC; 0 not held; daemon writes */
	_Atomic uint32_t waiting;       /* AQ_WAITING_*: others wait for the device, or did lately, or
					 * a cap is in force: bound what is in flight (of a lease that only
					 * peers wait for, by its end), give the lease back as soon as it is
					 * drained; daemon writes */
	_Atomic uint32_t want;          /* 0 or 1; client writes */
	_Atomic uint32_t active_turn;   /* last turn in which it may have submitted; client writes */
	_Atomic uint32_t done_turn;     /* last turn that is given back; client writes */
	_Atomic uint64_t gpu_ns;        /* device time measured in leases, only grows; client writes
					 * it before done_turn */
	_Atomic uint32_t notice;        /* daemon writes */
	_Atomic uint32_t noticed;       /* client writes */
	_Atomic uint64_t total_ns;      /* device time of the whole fraction so far; daemon writes,
					 * for the daemon after it */
	_Atomic uint32_t early_ns;      /* what handing over takes: give the lease back so long before
					 * what is in flight is done; 0: a default; daemon writes */
	_Atomic uint32_t edge_ns;       /* the low half of an instant (CLOCK_MONOTONIC): when
					 * active_turn was claimed, or, once it is given back, when
					 * what is in flight of it will be done (0: not known); client
					 * writes it before active_turn or done_turn */

	_Atomic uint32_t order;         /* enum aq_order; daemon writes */
	_Atomic uint32_t order_turn;    /* number of the order, wraps; daemon writes */
	_Atomic uint32_t order_done;    /* last one carried out, or given up; client writes */
	_Atomic int32_t order_result;   /* of it: 0 or negative errno; client writes */
	_Atomic uint64_t movable_bytes; /* on the device, could be parked; client writes */
	_Atomic uint64_t parked_bytes;  /* in host memory; client writes */
	_Atomic uint64_t host_limit_bytes; /* of parked_bytes, and of pinned_bytes in whole steps
					    * of the client's; daemon writes */
	_Atomic uint64_t shrink_bytes;  /* please use no more than this; 0 nothing asked; daemon */
	_Atomic uint32_t shrink_turn;   /* number of that request; futex; daemon writes */
	_Atomic uint32_t shrink_done;   /* last one that the program answered; client writes */
	_Atomic uint64_t pinned_bytes;  /* host memory kept for parking, that of parked_bytes
					 * included; client writes */
};

struct aq_page {
	uint32_t magic;                  /* AQ_PAGE_MAGIC */
	uint32_t abi;                    /* AQ_ABI_VERSION */
	uint32_t size;                   /* AQ_PAGE_BYTES */
	uint32_t device_count;           /* 1..AQ_MAX_DEVICES, fixed for the page's life */
	_Atomic uint32_t gates;          /* bit i: device[i].gate is not 0; daemon writes */
	_Atomic uint32_t contexts;       /* bit i: it has, or had, a context on device[i]; client
					  * writes, and rings */
	_Atomic uint64_t beat_ns;        /* CLOCK_MONOTONIC at the daemon's last look; daemon writes */
	char fraction[AQ_NAME_BYTES];    /* name, NUL-terminated; written before the page is sent */
	_Atomic uint32_t news;           /* futex: the daemon adds 1 and wakes after a change that
					  * the guard's own thread must act on: the end of a lease
					  * came nearer, `waiting`, an order */
	_Atomic uint32_t shares;         /* futex: the daemon adds 1 and wakes when ASK has an answer,
					  * and when it has adopted the client */
	uint64_t reserved[3];
	struct aq_page_device device[AQ_MAX_DEVICES];
};

static_assert(sizeof(struct aq_page_device) == 192, "three cache lines a device");
static_assert(offsetof(struct aq_page_device, gate) == 64, "compute has a line of its own");
static_assert(offsetof(struct aq_page_device, order) == 128, "residency has a line of its own");
static_assert(offsetof(struct aq_page, device) == 128, "devices begin on a cache line");
static_assert(sizeof(struct aq_page) <= AQ_PAGE_BYTES, "one page");

#endif /* AQ_ABI_H */
