/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ledger: who holds which bytes of which device, and who may have more.
 *
 * Pure: no clock, no I/O, no allocation. All objects are the caller's; the ledger links them and
 * writes the fields below, the caller only reads them. Sums are kept while things change, so that
 * growing costs O(1) as long as nothing must be taken back; aq_ledger_check() adds everything up
 * anew and compares.
 *
 * Words: a client *holds* what it was granted (used or not), what was measured beside that
 * (overhead: contexts, modules) and what is reserved for something about to be made. A fraction
 * holds what its clients hold. A device has *committed*, for each fraction, the greater of what the
 * fraction requests and what it holds. The two rules:
 *   1. a fraction holds no more than its limit;
 *   2. a device commits no more than it has.
 * So a fraction below its request can always grow: nobody else may borrow that. The exception is a
 * fraction that is parked: while it cannot use its request, that may be *lent*, counting as nothing
 * in what is committed, until it fits again (aq_ledger_lend()). Requests are promised once only, lent
 * or not: their sum stays within the device. Only two things break a rule, both facts that the ledger is told and cannot refuse: a measurement and the
 * adoption of what a client already has. `over` marks where that happened, until it is mended.
 *
 * Numbers from outside may be anything: what exceeds AQ_LEDGER_MAX_BYTES is refused or cut to it,
 * and sums of AQ_LEDGER_MAX_CLIENTS such numbers fit into 64 bits.
 */
#ifndef AQ_CORE_LEDGER_H
#define AQ_CORE_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include <aliquot/abi.h>

#include "base/list.h"

#define AQ_LEDGER_MAX_DEVICES 64u
#define AQ_LEDGER_MAX_CLIENTS 4096u
#define AQ_LEDGER_MAX_BYTES (1ull << 48)    /* 256 TiB: far above any device, far below overflow */
#define AQ_LEDGER_CHUNK_BYTES (32ull << 20) /* guess: 16 of the driver's 2 MiB blocks a message */
#define AQ_PERMILLE 1000u

enum aq_priority { AQ_PRIORITY_LOW, AQ_PRIORITY_NORMAL, AQ_PRIORITY_HIGH };

struct aq_ledger_device {
	uint64_t total_bytes;
	uint64_t request_bytes;		   /* sum of requests, <= total_bytes */
	uint64_t held_bytes;		   /* sum of what fractions hold */
	uint64_t committed_bytes;	   /* sum of max(request, held) */
	uint32_t compute_request_permille; /* sum, <= AQ_PERMILLE */
	uint32_t fraction_count;
	bool over; /* committed_bytes > total_bytes, by measurement or adoption */
};

/* What a fraction is entitled to on one device. */
struct aq_ledger_share {
	uint32_t device; /* index into the ledger's devices */
	uint64_t request_bytes, limit_bytes;
	uint64_t held_bytes;
	bool over; /* held_bytes > limit_bytes, by measurement or adoption */
	bool lent; /* others may have what of the request is not held */
};

/* What of a share's request binds others now. */
static inline uint64_t aq_ledger_bound(const struct aq_ledger_share *s)
{
	return s->lent ? 0 : s->request_bytes;
}

struct aq_ledger_fraction {
	struct aq_list link;	/* in aq_ledger.fractions */
	struct aq_list clients; /* of aq_ledger_client.link */
	uint32_t client_count;
	uint32_t share_count; /* 0: not in the ledger */
	struct aq_ledger_share share[AQ_MAX_DEVICES];
	uint32_t compute_request_permille, compute_limit_permille; /* of each device */
	enum aq_priority priority;
};

struct aq_ledger_hold {
	uint64_t granted_bytes;	 /* whole grains; what the daemon believes of the page's grant */
	uint64_t overhead_bytes; /* measured, beside what is granted */
	uint64_t reserved_bytes; /* for what is about to be made */
};

struct aq_ledger_client {
	struct aq_list link;
	struct aq_ledger_fraction *fraction;	    /* NULL: not in the ledger */
	bool cut;				    /* gets nothing more, nothing is taken back */
	struct aq_ledger_hold hold[AQ_MAX_DEVICES]; /* by the fraction's share index */
};

/* How the ledger looks at and changes grants that live outside (in the shared pages). */
struct aq_ledger_ops {
	/* Bytes of the grant that the client uses now; cut by the ledger to what is granted. */
	uint64_t (*used)(void *context, const struct aq_ledger_client *c, uint32_t share);
	/* Take back at most @max_bytes (whole grains) that are not used. Return: bytes taken. */
	uint64_t (*revoke)(void *context, struct aq_ledger_client *c, uint32_t share,
			   uint64_t max_bytes);
};

struct aq_ledger {
	const struct aq_ledger_ops *ops;
	void *context;
	uint32_t device_count;
	struct aq_ledger_device device[AQ_LEDGER_MAX_DEVICES];
	struct aq_list fractions;
	uint32_t fraction_count, client_count;
};

/* What a fraction is to be: at creation and at resize. */
struct aq_ledger_spec {
	uint32_t share_count;
	struct {
		uint32_t device;
		uint64_t request_bytes, limit_bytes; /* the limit is cut to whole grains */
	} share[AQ_MAX_DEVICES];
	uint32_t compute_request_permille, compute_limit_permille;
	enum aq_priority priority;
};

enum aq_refusal_reason {
	AQ_REFUSED_NOT,
	AQ_REFUSED_INVALID, /* request above limit, limit below a grain, permille above 1000 ... */
	AQ_REFUSED_TOO_LARGE, /* beyond what the device has at all */
	AQ_REFUSED_DEVICE,    /* the device has no room: requests and borrowed memory of others */
	AQ_REFUSED_COMPUTE,   /* the device's compute is promised to others */
	AQ_REFUSED_LIMIT,     /* the fraction's limit */
	AQ_REFUSED_IN_USE,    /* a limit below what is in use */
	AQ_REFUSED_OVER,      /* the fraction is over its limit already */
	AQ_REFUSED_CUT,	      /* the client is cut off */
	AQ_REFUSED_CLIENTS,   /* too many clients */
};

/* Why something was refused, with the numbers that let one see it. Filled only on refusal. */
struct aq_refusal {
	enum aq_refusal_reason reason;
	uint32_t device; /* ledger index */
	uint64_t asked_bytes;
	uint64_t limit_bytes;
	uint64_t used_bytes;
	uint64_t free_bytes;	/* what could have been had */
	uint32_t asked_permille, free_permille; /* of compute; only with AQ_REFUSED_COMPUTE */
};

/* Short stable word for a reason ("limit", "device", ...), as events and the API show it. */
const char *aq_refusal_word(enum aq_refusal_reason reason);

void aq_ledger_init(struct aq_ledger *l, const struct aq_ledger_ops *ops, void *context);

/* Return: index of the new device; -ENOSPC too many; -EINVAL no bytes or too many bytes. */
int aq_ledger_add_device(struct aq_ledger *l, uint64_t total_bytes);

/**
 * aq_ledger_create() - enter a new fraction, all shares or nothing.
 * Unused grants of others above their request are taken back when that makes the room.
 * @f: caller's, zeroed; linked until aq_ledger_end()
 * Return: 0; -EINVAL, -E2BIG (never possible), -ENOSPC (not now); @ret_refusal says why
 */
int aq_ledger_create(struct aq_ledger *l, struct aq_ledger_fraction *f,
		     const struct aq_ledger_spec *spec, struct aq_refusal *ret_refusal);

/**
 * aq_ledger_resize() - change requests, limits, compute and priority; same devices, same order.
 * Lowering a limit takes unused grants back first; below what is in use is refused.
 * Return: as aq_ledger_create(), and -EBUSY a limit below use; nothing but grants changed then
 */
int aq_ledger_resize(struct aq_ledger *l, struct aq_ledger_fraction *f,
		     const struct aq_ledger_spec *spec, struct aq_refusal *ret_refusal);

/* Take a fraction and all its clients out. Harmless when it is not in. */
void aq_ledger_end(struct aq_ledger *l, struct aq_ledger_fraction *f);

/**
 * aq_ledger_admit() - a client that holds nothing yet joins a fraction.
 * Return: 0; -EMFILE too many clients
 */
int aq_ledger_admit(struct aq_ledger *l, struct aq_ledger_fraction *f, struct aq_ledger_client *c);

/* What an admitted client had been granted by an earlier daemon: a fact, whatever the limit says.
 * Rounded up to grains, and cut to AQ_GRANT_MAX_BYTES. */
void aq_ledger_adopt(struct aq_ledger *l, struct aq_ledger_client *c, uint32_t share,
		     uint64_t granted_bytes);

/* All that the client holds is free again. Harmless when it is not in. */
void aq_ledger_remove(struct aq_ledger *l, struct aq_ledger_client *c);

/* The client gets nothing more, and what it was granted counts as used until it is removed. */
void aq_ledger_cut(struct aq_ledger *l, struct aq_ledger_client *c);

/**
 * aq_ledger_grow() - grant a client at least @need_bytes more, perhaps a chunk.
 * Takes unused grants back from the fraction's other clients when the limit binds, and from
 * fractions above their request when the device does; from nobody when that would not suffice.
 * @ret_granted: whole grains, at least @need_bytes; the caller adds them to the page
 * Return: 0; -ENOMEM refused, nothing granted; @ret_refusal says why
 */
int aq_ledger_grow(struct aq_ledger *l, struct aq_ledger_client *c, uint32_t share,
		   uint64_t need_bytes, struct aq_refusal *ret_refusal, uint64_t *ret_granted);

/* Reserve for something about to be made, by the same rules, exactly @bytes. Return: as grow. */
int aq_ledger_reserve(struct aq_ledger *l, struct aq_ledger_client *c, uint32_t share,
		      uint64_t bytes, struct aq_refusal *ret_refusal);

/* Drop a reservation, or what there is of it. */
void aq_ledger_unreserve(struct aq_ledger *l, struct aq_ledger_client *c, uint32_t share,
			 uint64_t bytes);

/**
 * aq_ledger_measure() - set a client's overhead to what was measured: a fact.
 * When that is more than the limit allows, unused grants of the fraction are taken back.
 * Return: 0 within the rules; -ENOMEM counted, but the share or the device is over
 */
int aq_ledger_measure(struct aq_ledger *l, struct aq_ledger_client *c, uint32_t share,
		      uint64_t overhead_bytes);

/* In use by the whole fraction now: used grants, overhead, reservations. */
uint64_t aq_ledger_used(const struct aq_ledger *l, const struct aq_ledger_fraction *f,
			uint32_t share);

/* In use by one client now. */
uint64_t aq_ledger_client_used(const struct aq_ledger *l, const struct aq_ledger_client *c,
			       uint32_t share);

/* What the fraction could get on top of aq_ledger_used() now, unused grants taken back. */
uint64_t aq_ledger_free(const struct aq_ledger *l, const struct aq_ledger_fraction *f,
			uint32_t share);

/* What a new request could get of a device now, unused grants above requests taken back. */
uint64_t aq_ledger_device_free(const struct aq_ledger *l, uint32_t device);

/**
 * aq_ledger_lend() - let others have what of a parked fraction's request it does not hold, or not
 * any more. Ending it takes unused grants of others back when that makes the room.
 * Return: 0; -ENOSPC it is still borrowed: nothing changed
 */
int aq_ledger_lend(struct aq_ledger *l, struct aq_ledger_fraction *f, uint32_t share, bool lent);

/* Index of the share that @f has on @device, or -1. */
int aq_ledger_share_on(const struct aq_ledger_fraction *f, uint32_t device);

/* What of a device the fractions but @except (or NULL) lend: requested, and not held. */
uint64_t aq_ledger_lent(const struct aq_ledger *l, const struct aq_ledger_fraction *except,
			uint32_t device);

/**
 * aq_ledger_shortfall() - how much the device lacks for @f to hold @bytes more than it uses, its
 * request not lent, as things are held now: what others would have to give up.
 * @beside_lent: it is to fit beside what others lend, too
 * Return: 0 none; UINT64_MAX: the fraction's limit forbids it, whatever others do
 */
uint64_t aq_ledger_shortfall(const struct aq_ledger *l, const struct aq_ledger_fraction *f,
			     uint32_t share, uint64_t bytes, bool beside_lent);

/* What of a device a fraction commits now, and would if its unused grants were taken back. */
uint64_t aq_ledger_committed(const struct aq_ledger *l, const struct aq_ledger_fraction *f,
			     uint32_t share, bool without_unused);

/* Take back at most @max_bytes that the fraction was granted and does not use. Return: bytes. */
uint64_t aq_ledger_take_back(struct aq_ledger *l, struct aq_ledger_fraction *f, uint32_t share,
			     uint64_t max_bytes);

/* Add everything up anew. Return: 0; -EUCLEAN a sum or a rule is broken (then a bug). */
int aq_ledger_check(const struct aq_ledger *l);

/* Within the module. */
void aq__ledger_set_hold(struct aq_ledger *l, struct aq_ledger_client *c, uint32_t share,
			 struct aq_ledger_hold to, bool fact);
bool aq__ledger_make_room(struct aq_ledger *l, const struct aq_ledger_fraction *f, uint32_t device,
			  uint64_t need_bytes);
uint64_t aq__ledger_available(const struct aq_ledger *l, const struct aq_ledger_fraction *self,
			      uint32_t device);
uint64_t aq__ledger_reclaim(struct aq_ledger *l, struct aq_ledger_fraction *f, uint32_t share,
			    const struct aq_ledger_client *except, uint64_t max_bytes);

#endif /* AQ_CORE_LEDGER_H */
