/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's objects: one struct aqd, and what hangs off it. Functions are in one header per
 * concern. Everything runs in one thread, on one libevent base; a *turn* is one pass of the loop.
 *
 * Life times: nothing is freed while the handlers of a turn run. aqd_defer() puts an object's end
 * off to the end of the turn, when no event can name it any more.
 */
#ifndef AQ_DAEMON_H
#define AQ_DAEMON_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <event2/event.h>
#include <event2/http.h>

#include <aliquot/abi.h>

#include "abi/wire.h"
#include "base/list.h"
#include "base/name.h"
#include "base/paths.h"
#include "base/timing.h"
#include "core/ledger.h"
#include "core/placement.h"
#include "core/reclaim.h"
#include "daemon/config.h"
#include "daemon/lease.h"
#include "nvml/nvml.h"

#define AQD_MAX_CLIENTS AQ_LEDGER_MAX_CLIENTS
#define AQD_MAX_CONNECTIONS 8192u   /* a client and an observer for each */
#define AQD_PROCESS_CONNECTIONS 16u /* of one process */
#define AQD_MAX_FRACTIONS 4096u
#define AQD_PID_BUCKETS 1024u /* a power of two */
#define AQD_COMMAND_BYTES 256u
#define AQD_TOKEN_BUCKETS 1024u /* a power of two */
#define AQD_PROFILE_BYTES 64u

struct aqd;

/* Something to be ended at the end of the turn; at most once. */
struct aqd_deferred {
	struct aq_list link;
	void (*end)(struct aqd *d, struct aqd_deferred *what); /* NULL: not deferred */
};

/* A process that matters to us, named for ever by pid and start time, watched by a pidfd. */
struct aqd_process {
	struct aq_list bucket; /* in aqd.processes, until dead */
	struct aqd_deferred deferred;
	struct aqd *daemon;
	pid_t pid;
	uint64_t start_ticks;
	int pidfd;
	struct event *exited;
	struct aq_list clients;	 /* aqd_client.of_process */
	struct aq_list holdings; /* aqd_fraction.of_holder */
	struct aq_list waits;	 /* aqd_wait.of_process */
	uint32_t connections;
	uint32_t refs;
	bool dead;
};

/* One device, real or simulated; its index is that of the ledger. */
struct aqd_device {
	uint32_t index;
	struct aq_nvml *nvml;
	uint32_t nvml_index;
	struct aq_nvml_device info;
	char uuid[AQ_UUID_TEXT];
	bool simulated;
	char profile[AQD_PROFILE_BYTES]; /* the --sim word it came by; empty when unknown */
	uint64_t context_bytes;		 /* last measured cost of a context; 0 unknown */
	uint64_t memory_used_bytes;	 /* last reading */
	bool memory_used_known;
	struct aq_list foreigners; /* see measure.c */
	/* The last list of processes, sorted by pid. */
	struct aq_nvml_process *procs;
	size_t proc_count;
	bool procs_known; /* the library can tell, and did */
	bool procs_warned;
	struct aq_reclaim_episode thrash;
	bool samples;			/* the library tells utilisation by process */
	uint64_t sampled_us;		/* time of the last sample; 0: nobody has a context */
	uint64_t sampled_ns;		/* when the library was asked for samples */
	uint64_t asked_us;		/* ... by the calendar */
	struct aqd_client *first_maker; /* makes the first context; NULL: nobody, or it is made */
	bool contexts_untold;		/* the library does not say what one takes */
};

/* What is known of one client's overhead on one device; see reading.c. */
struct aqd_reading {
	uint64_t used_bytes, changes; /* what the page said right before the last reading */
	uint64_t overhead_bytes;      /* what that came to; the least of several if not whole */
	bool told;		      /* the driver says what the process has */
	bool whole;		      /* the page did not change meanwhile */
	/* Of the periodic ones. */
	uint64_t quiet_ns; /* since when they all say the same, and less than counts; 0 not */
	uint64_t quiet_used_bytes, quiet_changes, quiet_overhead_bytes;
	uint64_t least_bytes; /* of those in a row that were not whole */
	uint32_t broken;      /* how many those are */
	uint64_t unmeasured;  /* the page's counter when it was last looked at */
};

/* Reserved for contexts whose maker did not know what they cost. */
struct aqd_blind {
	uint64_t reserved_bytes;
	uint32_t count;
};

/* The memory of one client on one device: the last order about it, and its answer. */
struct aqd_move {
	uint32_t turn;	       /* of the last order */
	bool park;	       /* it was to park; else to stay, or to come back */
	bool pending;	       /* not answered: nothing is taken from its grant meanwhile */
	int result;	       /* the answer: 0 or negative errno */
	uint64_t before_bytes; /* granted when it was ordered to park */
	uint64_t away_bytes;   /* in host memory, as far as that can be true */
	uint64_t host_bytes;   /* set aside for it in the host's pool */
};

/* Memory that one client lends others, and has from others; see share.c. */
struct aqd_sharing {
	uid_t uid;		/* of its process, by its connection */
	struct aq_list exports; /* aqd_export.of_client */
	uint32_t export_count;
	struct aq_list tell; /* aqd_loan.of_exporter: what it is to be told */
	struct aq_list told;
	struct aq_list loans; /* aqd_loan.of_importer */
	uint32_t loan_count, pending_count; /* of those; of those that it has not got yet */
};

struct aqd_client {
	struct aq_ledger_client ledger; /* first */
	struct aqd_fraction *fraction;	/* NULL: being ended */
	struct aqd_process *process;
	struct aq_list of_process;
	struct aqd_deferred deferred;
	struct aqd_conn *conn;	       /* NULL: connection lost, process alive */
	struct aq_page *page;	       /* NULL: of an earlier daemon, not back yet */
	uint64_t page_inode;	       /* names the memfd */
	uint64_t seen_ns;	       /* adopted: when the daemon before saw it last; else 0 */
	bool lied;		       /* its page or its messages were false */
	const char *lie;	       /* found while the ledger was at work: to be dealt with */
	uint32_t notice[AQ_MAX_DEVICES]; /* number of the last one; see idle.c */
	uint32_t gate[AQ_MAX_DEVICES]; /* AQ_GATE_*; the page has a copy; see gate.c */
	struct aqd_reading reading[AQ_MAX_DEVICES];
	struct aqd_blind blind[AQ_MAX_DEVICES];
	struct aq_list due;   /* in aqd.due */
	uint32_t due_shares;  /* bits: to be read at the end of the turn */
	uint32_t anew_shares; /* those of them of which nothing else is known */
	struct aqd_lessee lessee;
	struct aqd_move move[AQ_MAX_DEVICES];
	bool moves; /* it has asked for memory that can be parked, or had some when it came back */
	uint64_t fresh_ns[AQ_MAX_DEVICES]; /* until then its grant is for what it waited for */
	struct aqd_sharing sharing;
};

enum aqd_conn_state { AQD_CONN_HELLO, AQD_CONN_CLIENT, AQD_CONN_OBSERVER, AQD_CONN_CLOSED };

/* What a connection waits for before it gets its reply; it is not read from meanwhile. */
enum aqd_conn_wait {
	AQD_WAIT_NOTHING,
	AQD_WAIT_MEASURE,
	AQD_WAIT_ADOPTION,
	AQD_WAIT_ROOM,	 /* bells are heard meanwhile */
	AQD_WAIT_SHRINK, /* an observer */
};

/* Somebody who needs room; see need.c. Embedded in who that is. */
struct aqd_need {
	struct aq_list link;	       /* in aqd.needs, in order of arrival */
	struct aqd_fraction *fraction; /* NULL: needs nothing */
	struct aqd_conn *conn;	       /* whose request waits; NULL: a parked fraction */
	uint32_t share;		       /* of the request */
	uint64_t bytes;
	uint64_t since_ns;
	bool fixed; /* for what cannot move: not of what is lent */
	bool told;  /* that nobody can make room */
	bool waits; /* room is on its way, or will be: later bursts stay behind */
};

struct aqd_conn {
	struct aq_list link;	/* in aqd.conns */
	struct aq_list pending; /* in aqd.hellos, aqd.measuring or aqd.adopting */
	struct aqd_deferred deferred;
	struct aqd *daemon;
	int fd;
	struct event *readable;
	enum aqd_conn_state state;
	enum aqd_conn_wait wait;
	uid_t uid;
	struct aqd_process *process;
	struct aqd_client *client;     /* state CLIENT */
	struct aqd_fraction *fraction; /* state OBSERVER */
	struct aq_list of_fraction;    /* in aqd_fraction.observers */
	uint64_t deadline_ns;	       /* HELLO: until when; CLIENT: it waits for another's
					* first context until then; 0: it does not */
	struct aqd_need need;
	bool refused_room;	       /* this time the answer is no */
	bool in_turn;		       /* this time it goes before those who wait */
	union aq_msg held;	       /* the request that waits */
};

enum aqd_residency_state {
	AQD_RESIDENT,
	AQD_PARKING,  /* ordered, not all have answered */
	AQD_PARKED,   /* all movable memory is in host memory */
	AQD_RESUMING, /* granted and ordered back, not all have answered */
};

enum aqd_park_reason { AQD_PARK_BY_HAND, AQD_PARK_IDLE, AQD_PARK_NEED, AQD_PARK_REASONS };

/* Where a fraction's memory is, and since when; see residency.c. */
struct aqd_residency {
	enum aqd_residency_state state;
	enum aqd_park_reason reason; /* of the last parking */
	bool hold;		     /* work does not bring it back, only `resume` does */
	bool wanted;		     /* it is to be resident: it has work, or was told to */
	uint64_t began_ns;	     /* the move under way */
	uint64_t deadline_ns;	     /* of it; 0 none, or over already */
	uint64_t since_ns;	     /* resident or parked since */
	uint64_t retry_ns;	     /* not resumed again before */
	uint64_t moved_bytes;	     /* by the last parking */
	uint64_t park_idle_ns;	     /* parked when idle for that long; 0 never */
	uint64_t park_ns, resume_ns; /* how long the last ones took; 0 not known */
	uint64_t moves[2], moves_bytes[2], moves_ns[2]; /* so far: out, in */
	struct aq_list waits;			       /* aqd_residency_wait.link */
	struct aqd_need need;			       /* to be resident */
	uint64_t busy_ns;			       /* seen with work; see idle.c */
	uint64_t gpu_ns;			       /* device time at the last look */
	uint64_t idle_retry_ns;
};

/* The last request to use less memory; see shrink.c. */
struct aqd_shrink {
	uint32_t turn, share;
	uint64_t keep_bytes;
	uint64_t asked_ns; /* 0: never */
	uint64_t heard_ns; /* somebody listened; 0: never */
	bool done;	   /* the program says so */
};

struct aqd_fraction {
	struct aq_ledger_fraction ledger; /* first */
	struct aqd_lease lease;
	struct aq_list link; /* in aqd.fractions, oldest first */
	struct aqd_deferred deferred;
	struct aqd *daemon;
	char name[AQ_NAME_BYTES], project[AQ_NAME_BYTES], command[AQD_COMMAND_BYTES];
	uid_t owner;
	uint64_t created_s;	    /* since the epoch */
	struct aqd_process *holder; /* NULL: gone, or none */
	struct aq_list of_holder;
	struct aq_list observers;	    /* aqd_conn.of_fraction */
	struct event *linger;		    /* runs when nobody holds it */
	struct event *killing;		    /* runs when SIGTERM was sent */
	bool mount_namespace;		    /* made by `run`, or wanted */
	uint64_t mount_device, mount_inode; /* of that namespace; 0: not seen yet */
	bool killed, ended;
	bool restored;	    /* made by an earlier daemon */
	uint64_t settle_ns; /* restored: until then GROW waits for lost clients */
	uint64_t denials;
	char *saved; /* its part of state.json; NULL: to be made anew */
	struct aqd_residency residency;
	struct aqd_shrink shrink;
};

struct aqd_event;
struct aqd_events;
struct aqd_wait;
struct aqd_api;

struct aqd {
	struct aqd_config config;
	char *config_path; /* absolute; NULL: none */
	bool foreground, system;
	char rundir[AQ_PATH_BYTES], guard_path[AQ_PATH_BYTES], api_path[AQ_PATH_BYTES];
	char libdir[AQ_PATH_BYTES]; /* empty: not found */
	char sim_dir[AQ_PATH_BYTES];
	int lock_fd;
	uint64_t started_ns; /* CLOCK_MONOTONIC */

	struct event_base *base;
	uint64_t turn; /* number of the turn, from 1 */
	struct event *signals[3];
	struct event *tick;	 /* about once a second while there are clients */
	struct aq_list deferred; /* aqd_deferred.link */
	bool stopping, taking_down;
	bool hidden; /* the sockets' names are moved away: nobody can come */
	int exit_status;

	struct aq_ledger ledger;
	struct aqd_device device[AQ_LEDGER_MAX_DEVICES];
	struct aq_nvml *nvml_real, *nvml_sim;
	int nvml_real_error; /* why there is none */
	bool sim_made;	     /* the machine in sim_dir is ours to remove */

	struct aqd_leases leases;
	struct event *lease_timer; /* when to look at them again */
	bool leases_dirty;	   /* ... and in this turn */
	uint64_t summed_ns;	   /* when device time was last added up, to be saved */
	uint64_t gpu_ns_saved;	   /* device time of all fractions, as last noticed */

	struct aq_list fractions;
	struct aq_list processes[AQD_PID_BUCKETS];

	int guard_fd;
	struct event *guard_readable, *guard_deadline, *guard_resume;
	struct aq_list conns, hellos, measuring, adopting;
	struct aq_list due; /* aqd_client.due */
	bool due_anew;	    /* what some of those hold is not known yet */
	uint32_t conn_count;
	struct event *adopt_timer;

	struct aqd_events *events;
	struct aqd_api *api;
	struct aq_list waits; /* aqd_wait.link, in order of arrival */
	bool queue_dirty;     /* something became free */
	bool lie_found;	      /* some client's `lie` is set */

	struct aq_list exports[AQD_TOKEN_BUCKETS]; /* aqd_export.bucket */
	uint32_t export_count, noted_loans;
	struct aq_list lent;	       /* aqd_loan.of_lent, oldest first */
	uint64_t last_loan;	       /* number of the newest one */

	struct aq_list needs;	       /* aqd_need.link */
	struct aq_list resizes;	       /* see api_resize.c */
	struct aq_list listening;      /* aqd_conn.pending */
	struct event *idle_watch;
	bool queue_again; /* room is being made for who waits in the queue */
	uint64_t moved_bytes, moved_ns; /* by all moves so far */
	struct event *residency_timer; /* while somebody moves, or waits to */
	uint64_t host_used_bytes;      /* sum of aqd_move.host_bytes */
	bool residency_slow;	       /* the timer is set for listeners only */
	uint64_t available_ns, available_bytes; /* host memory, and when that was read */
	bool residency_dirty;	       /* some move may have gone on */

	bool state_dirty; /* state.json must be written this turn */
	bool state_stale; /* ... or soon (clients) */
	bool state_failed; /* ... or again, for it could not be written */
	struct event *state_timer;
	struct event *idle_timer;
	uint64_t busy_ns;     /* last use */
	uint32_t quick_ticks; /* so many ticks come sooner */
};

#define AQD_LINGER_RESTORED_NS (1 * AQ_NS_PER_S) /* grace for a restored fraction's holders */

static inline struct aqd_client *aqd_client_of(const struct aq_ledger_client *c)
{
	return aq_container_of(c, struct aqd_client, ledger);
}

static inline struct aqd_fraction *aqd_fraction_of(const struct aq_ledger_fraction *f)
{
	return aq_container_of(f, struct aqd_fraction, ledger);
}

#endif /* AQ_DAEMON_H */
