/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages between a guard and the daemon over aliquotd.sock.
 *
 * The socket is AF_UNIX, SOCK_SEQPACKET: one message is one packet, so there is nothing to
 * reassemble and a wrong length is simply a wrong packet. Every message starts with struct
 * aq_msg_head. The guard speaks first (HELLO); then every request gets exactly one reply with the
 * same `seq`, in order; BELL and WITHDRAW get none. The daemon never sends unasked: what changes by
 * itself (limits, gates) is in the page. At most one descriptor travels with a packet, and only with
 * HELLO (a page that the client kept over the death of a daemon), HELLO_REPLY (a new page), LEND and
 * IMPORT_REPLY (memory that one client lends another).
 *
 * All integers are of the machine's byte order; strings are NUL-terminated and padded with NUL.
 * A packet that breaks a rule ends the connection; the reason becomes an event.
 */
#ifndef AQ_PROTO_H
#define AQ_PROTO_H

#include <aliquot/abi.h>

#define AQ_MSG_MAGIC 0x4d51u /* "QM" */
#define AQ_MSG_MAX_BYTES 4096u
#define AQ_API_BYTES 48u     /* longest entry point name that is reported, with NUL */
#define AQ_TEXT_BYTES 160u   /* longest line for people, with NUL */
#define AQ_MAX_PROCS 128u    /* processes in one PROCS_REPLY */

/* AQ_MSG(name, value, struct): every message once; codec, fuzzers and names come from here. */
#define AQ_MSG_LIST(AQ_MSG)                                                                        \
	AQ_MSG(HELLO, 1, aq_msg_hello)                                                             \
	AQ_MSG(HELLO_REPLY, 2, aq_msg_hello_reply)                                                 \
	AQ_MSG(GROW, 3, aq_msg_grow)                                                               \
	AQ_MSG(GROW_REPLY, 4, aq_msg_grow_reply)                                                   \
	AQ_MSG(COST, 5, aq_msg_cost)                                                               \
	AQ_MSG(COST_REPLY, 6, aq_msg_cost_reply)                                                   \
	AQ_MSG(QUERY, 7, aq_msg_query)                                                             \
	AQ_MSG(QUERY_REPLY, 8, aq_msg_query_reply)                                                 \
	AQ_MSG(PROCS, 9, aq_msg_query)                                                             \
	AQ_MSG(PROCS_REPLY, 10, aq_msg_procs_reply)                                                \
	AQ_MSG(BELL, 11, aq_msg_bell)                                                              \
	AQ_MSG(SHRINK, 12, aq_msg_shrink)                                                          \
	AQ_MSG(SHRINK_REPLY, 13, aq_msg_shrink_reply)                                              \
	AQ_MSG(EXPORT, 14, aq_msg_export)                                                          \
	AQ_MSG(WITHDRAW, 15, aq_msg_export)                                                        \
	AQ_MSG(IMPORT, 16, aq_msg_import)                                                          \
	AQ_MSG(IMPORT_REPLY, 17, aq_msg_piece)                                                     \
	AQ_MSG(CLOSE, 18, aq_msg_import)                                                           \
	AQ_MSG(ASK, 19, aq_msg_ask)                                                                \
	AQ_MSG(ASK_REPLY, 20, aq_msg_ask_reply)                                                    \
	AQ_MSG(LEND, 21, aq_msg_piece)                                                             \
	AQ_MSG(SHARE_REPLY, 22, aq_msg_share_reply)

enum aq_msg_type {
#define AQ_MSG(name, value, type) AQ_MSG_##name = value,
	AQ_MSG_LIST(AQ_MSG)
#undef AQ_MSG
};

struct aq_msg_head {
	uint16_t magic; /* AQ_MSG_MAGIC */
	uint16_t type;  /* enum aq_msg_type */
	uint32_t size;  /* bytes of the whole packet, this head included */
	uint32_t abi;   /* AQ_ABI_VERSION of the sender */
	uint32_t seq;   /* chosen by the guard; a reply repeats it */
};

enum aq_hello_kind {
	AQ_HELLO_CLIENT = 1,   /* will use GPUs: gets a page */
	AQ_HELLO_OBSERVER = 2, /* only asks (the NVML face): no page, cannot GROW */
	AQ_HELLO_BACK = 3,     /* a client of this daemon whose descriptors the program closed: it
	                        * still maps the page that it was given */
};

/* First message. A client that outlived a daemon sends its page along (has_page = 1). */
struct aq_msg_hello {
	struct aq_msg_head head;
	uint32_t kind;              /* enum aq_hello_kind */
	uint32_t has_page;          /* 0 or 1 */
	int32_t pid;                /* as the client sees itself; the kernel's word counts */
	uint32_t reserved;
	char fraction[AQ_NAME_BYTES]; /* ALIQUOT_FRACTION; empty: find me by my ancestors */
};

struct aq_msg_hello_reply {
	struct aq_msg_head head;
	int32_t result;             /* 0, or negative errno: -EPROTO abi, -ENOENT no such fraction,
	                             * -EACCES not yours, -EMFILE too many clients, -EINVAL */
	uint32_t abi;               /* of the daemon */
	uint32_t device_count;
	uint32_t fail_open;         /* administrator's choice for cuInit() without a daemon */
	char fraction[AQ_NAME_BYTES];
	char text[AQ_TEXT_BYTES];   /* one line for stderr when result < 0 */
};

/* Ask for at least need_bytes more on device; the daemon adds them to the page's grant. */
struct aq_msg_grow {
	struct aq_msg_head head;
	uint32_t device;            /* index into the page */
	uint32_t movable;           /* 0 or 1: it is for memory that can be parked */
	uint64_t need_bytes;        /* what the call at hand lacks */
	uint64_t call_bytes;        /* what the whole call asked for, for the event */
	char api[AQ_API_BYTES];     /* entry point that needs it, for the event */
};

struct aq_msg_grow_reply {
	struct aq_msg_head head;
	int32_t result;             /* 0 granted; -ENOMEM refused; -ENODEV; -EINVAL */
	uint32_t device;
	uint64_t granted_bytes;     /* added by this reply; 0: others make room still, ask again */
	uint64_t limit_bytes;       /* of the fraction on the device */
	uint64_t used_bytes;        /* by the whole fraction, contexts included */
	uint64_t free_bytes;        /* what the fraction could still get now */
};

enum aq_cost_phase {
	AQ_COST_BEGIN = 1, /* about to make something that takes memory unseen: reserve estimate */
	AQ_COST_END = 2,   /* made: measure, and count what was measured instead */
	AQ_COST_UNDO = 3,  /* not made: drop the reservation, measure */
};

/* Memory that no allocation call shows: contexts, modules, graph executables. Measured by NVML. */
struct aq_msg_cost {
	struct aq_msg_head head;
	uint32_t device;
	uint32_t phase;             /* enum aq_cost_phase */
	uint64_t estimate_bytes;    /* BEGIN: at least this; END/UNDO: the same again */
	char api[AQ_API_BYTES];
};

struct aq_msg_cost_reply {
	struct aq_msg_head head;
	int32_t result;             /* 0; -ENOMEM: does not fit (END: the guard undoes its call);
	                             * -EAGAIN, only of BEGIN: others make room still, ask again */
	uint32_t device;
	uint64_t overhead_bytes;    /* of this client on the device, now */
	uint64_t free_bytes;        /* as in aq_msg_grow_reply */
};

/* QUERY: the fraction on one device, whole. PROCS: its processes there. */
struct aq_msg_query {
	struct aq_msg_head head;
	uint32_t device;            /* index in the fraction, or UINT32_MAX: by uuid */
	uint32_t reserved;
	uint8_t uuid[16];
};

struct aq_msg_query_reply {
	struct aq_msg_head head;
	int32_t result;             /* 0; -ENODEV: the fraction has nothing there */
	uint32_t device;
	uint64_t limit_bytes;
	uint64_t request_bytes;
	uint64_t used_bytes;        /* by the whole fraction, contexts included */
	uint64_t free_bytes;        /* what it could get now */
	uint32_t client_count;
	uint32_t reserved;
	uint8_t uuid[16];
};

struct aq_msg_proc {
	int32_t pid;                /* as the daemon's pid namespace has it */
	uint32_t reserved;
	uint64_t used_bytes;
};

struct aq_msg_procs_reply {
	struct aq_msg_head head;
	int32_t result;
	uint32_t count;             /* entries that follow, <= AQ_MAX_PROCS */
	struct aq_msg_proc proc[AQ_MAX_PROCS]; /* head.size covers only `count` of them */
};

/*
 * Look at my page: something that I write there has changed. Has no reply, so a guard sends it from
 * any thread, without waiting and without a lock; a lost one costs a delay, for the page is the truth.
 */
struct aq_msg_bell {
	struct aq_msg_head head;
	uint32_t devices;           /* bit i: device i of the page */
	uint32_t reserved;
};

/*
 * From an observer: tell me when my fraction is asked to use less memory. Answered when there is a
 * request that it has not seen, or after wait_ms; then it asks again.
 */
#define AQ_SHRINK_WAIT_MS 5000u /* at most: who waits knows that the daemon lives */

struct aq_msg_shrink {
	struct aq_msg_head head;
	uint32_t seen;              /* number of the last request that it knows; 0 none */
	uint32_t answered;          /* 0 or 1: did what that one asked for, as far as it can */
	uint32_t wait_ms;
	uint32_t reserved;
};

struct aq_msg_shrink_reply {
	struct aq_msg_head head;
	int32_t result;             /* 0 */
	uint32_t turn;              /* number of the last request; as `seen`: nothing new */
	uint32_t device;            /* index in the fraction */
	uint32_t reserved;
	uint64_t keep_bytes;        /* please use no more than this there */
	uint64_t used_bytes;        /* what the whole fraction uses there now */
	uint8_t uuid[16];
};

/*
 * Memory that moves, in another process (IPC). The exporter gives an allocation a random token
 * (EXPORT; WITHDRAW when it is freed, without a reply) and nothing else: what nobody has open goes
 * on moving. Who knows the token asks for it (IMPORT), one piece of physical memory after the
 * other, and again while the answer is -EAGAIN. Meanwhile the exporter, whose page's `shares` has
 * changed, is told so when it asks (ASK) and lends a descriptor (LEND) for this one borrower: from
 * then on the memory stays where it is, until ASK says that the loan has come back, since the
 * borrower has closed it (CLOSE) or is no more. The daemon keeps a descriptor only on its way.
 */
#define AQ_TOKEN_BYTES 16u

struct aq_msg_export {
	struct aq_msg_head head;
	uint8_t token[AQ_TOKEN_BYTES]; /* from getrandom(2); not all zeros */
};

/* CLOSE: all that was imported under @number; token and at are not looked at. */
struct aq_msg_import {
	struct aq_msg_head head;
	uint8_t token[AQ_TOKEN_BYTES];
	uint64_t at;                /* the piece that begins there, counted from the first one */
	uint64_t number;            /* of this opening, chosen by the importer, never used twice */
};

/* LEND, with a descriptor if result is 0; IMPORT_REPLY, the same. */
struct aq_msg_piece {
	struct aq_msg_head head;
	int32_t result;             /* 0; IMPORT_REPLY: -EAGAIN ask again; -ENOENT nobody exports it,
	                             * or no longer; -EMFILE too much is open; LEND and both: what
	                             * the exporter failed by */
	uint32_t away;              /* IMPORT_REPLY, -EAGAIN: 1: the memory must come back first */
	uint64_t loan;              /* LEND: as in ASK_REPLY */
	uint64_t at;                /* as asked */
	uint64_t piece_bytes;       /* of the descriptor's memory; at + piece_bytes <= span */
	uint64_t span_bytes;        /* of all pieces that the allocation lies in */
	uint64_t offset;            /* of the allocation from the beginning of the first one */
	uint64_t bytes;             /* of the allocation */
};

struct aq_msg_ask {
	struct aq_msg_head head;
};

enum aq_ask_what {
	AQ_ASK_NOTHING = 0,
	AQ_ASK_WANTED = 1, /* lend this piece, or say why not */
	AQ_ASK_CLOSED = 2, /* this loan has come back */
};

struct aq_msg_ask_reply {
	struct aq_msg_head head;
	uint32_t what;              /* enum aq_ask_what */
	uint32_t reserved;
	uint64_t loan;              /* number of it, not used again by this daemon or a later one */
	uint64_t at;
	uint8_t token[AQ_TOKEN_BYTES];
};

/* To EXPORT, LEND and CLOSE. */
struct aq_msg_share_reply {
	struct aq_msg_head head;
	int32_t result;             /* 0; EXPORT: -EMFILE too many; -EEXIST another's token; -EINVAL;
	                             * LEND: nobody has got it: -ECANCELED not wanted any more;
	                             * -ENOENT no such loan; -EINVAL no such piece of memory */
	uint32_t reserved;
};

static_assert(sizeof(struct aq_msg_head) == 16, "packed by construction");
static_assert(sizeof(struct aq_msg_procs_reply) <= AQ_MSG_MAX_BYTES, "one packet");

#endif /* AQ_PROTO_H */
