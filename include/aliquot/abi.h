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

#define AQ_ABI_VERSION 1u          /* changes whenever this file or proto.h does */
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

/**
 * struct aq_page_device - one device of the client's fraction.
 *
 * grant packs two counts of grains: the high 32 bits are what the daemon has granted to this client
 * on this device, the low 32 bits what the client has used of it; used <= granted always. The
 * client adds to and subtracts from `used`; the daemon adds to `granted`, and takes back what is
 * not used, each by compare-and-swap on the whole word. Acquire-release on both sides.
 */
struct aq_page_device {
	_Atomic uint64_t grant;
	_Atomic uint64_t limit_bytes;   /* of the fraction on this device; daemon writes */
	_Atomic uint64_t request_bytes; /* guaranteed part of it; daemon writes */
	_Atomic uint64_t context_bytes; /* expected cost of a context; 0 unknown; daemon writes */
	uint8_t uuid[16];               /* as cuDeviceGetUuid(); written before the page is sent */
	_Atomic uint32_t gate;          /* 0 open; else submitting must wait; daemon writes */
	uint32_t reserved0;
	_Atomic uint64_t unmeasured;    /* calls that took memory no call shows; client adds */
	uint64_t reserved[8];
};

struct aq_page {
	uint32_t magic;                  /* AQ_PAGE_MAGIC */
	uint32_t abi;                    /* AQ_ABI_VERSION */
	uint32_t size;                   /* AQ_PAGE_BYTES */
	uint32_t device_count;           /* 1..AQ_MAX_DEVICES, fixed for the page's life */
	_Atomic uint32_t gates;          /* bit i: device[i].gate is not open; daemon writes */
	_Atomic uint32_t client_state;   /* enum aq_client_state; client writes */
	_Atomic uint64_t beat_ns;        /* CLOCK_MONOTONIC at the daemon's last look; daemon writes */
	char fraction[AQ_NAME_BYTES];    /* name, NUL-terminated; written before the page is sent */
	uint64_t reserved[4];
	struct aq_page_device device[AQ_MAX_DEVICES];
};

enum aq_client_state {
	AQ_CLIENT_ATTACHED = 1, /* has the page */
	AQ_CLIENT_RUNNING = 2,  /* has a context */
};

static_assert(sizeof(struct aq_page_device) == 128, "two cache lines a device");
static_assert(offsetof(struct aq_page, device) == 128, "devices begin on a cache line");
static_assert(sizeof(struct aq_page) <= AQ_PAGE_BYTES, "one page");

#endif /* AQ_ABI_H */
