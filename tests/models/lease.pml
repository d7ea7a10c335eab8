/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lease protocol of include/aliquot/abi.h between a daemon and two clients on one device, word
 * by word: every store and every load of the page is a step of its own, in the order in which
 * src/daemon/lease.c and src/guard/gate*.c make them. Says nothing of who is next, of how long things
 * take, nor of the grace after which a daemon goes on without who does not come out. With -DPRIORITY
 * client 0 is of a higher priority: its leases end those of client 1, and do not wait for its work;
 * with -DSTANDING it has a lease to take up unasked while client 1 has its own.
 *
 * Checked: never have both clients work under way by a lease, but for what the higher priority has
 * passed over, or is about to (assertion in `enter`); whoever waits is served in the end (ltl
 * served). Bells are not in it: a lost one is repeated, so that the daemon looks again in the end,
 * and that is all that it may rely on. One client may die at any instant (-DDEATH). See
 * run_models.py.
 *
 * Numbers of turns are infinite, so that they are kept by their age: 0 the current turn, 1 the one
 * before it, OLD any earlier one.
 */
#define OLD 2
#define OLDER(x) ((x) < OLD -> (x) + 1 : OLD)

/* The page of client i, but for lease_turn, which is what ages are counted from. */
bool until[2];	/* lease_until_ns is in the future, as far as the daemon wrote it */
bool over[2];	/* ... but that instant has passed */
bool want[2];
byte claimed[2] = OLD; /* active_turn: `active` is a word of this language */
byte done[2] = OLD;   /* done_turn */

byte turn[2] = OLD; /* the turn that client i has read and goes by */
bool inside[2];	    /* work is under way by a lease */
bool waiting[2];
bool dead[2];
bool stands;  /* until[0] is AQ_LEASE_STANDING */
bool slipped; /* client 0 took that up as it was withdrawn, and has not given back */
bool passed; /* client 1 has not given back yet what it was passed over for: `late` in the daemon */

/* ---- a client with one thread, which does the work of the guard's own thread, too ---- */

#define RUNS(i) (until[i] && !over[i])

inline give_back(i, more)
{
	atomic {
		inside[i] = false;
		passed = passed && i == 0;
		slipped = slipped && i == 1
	};
	want[i] = more;
	/* Only forward: see claim() in gate.c. */
	if
	:: d_step { turn[i] <= done[i] -> done[i] = turn[i] }
	:: else
	fi
}

inline enter(i)
{
	inside[i] = true;
	waiting[i] = false;
	assert(!inside[1 - i] || (i == 0 && passed) || stands || slipped)
}

proctype client(byte i) provided (!dead[i])
{
	bool had;

idle:
	if
	:: true -> skip /* something to submit */
	:: true -> goto asleep
	fi;
submit:
	turn[i] = 0; /* lease_turn is read */
	if
	:: done[i] == turn[i] -> goto must_wait /* given back already */
	:: done[i] != turn[i] || turn[i] == OLD -> skip
	fi;
	d_step { turn[i] <= claimed[i] -> claimed[i] = turn[i] }; /* the claim, before the looks */
	had = (turn[i] == 0); /* first look: is it lease_turn still? */
	if
	:: atomic { had && RUNS(i) -> had = false; enter(i) } /* second look */
	:: else -> had = false; give_back(i, true); goto must_wait
	fi;
#ifdef STANDING
	if
	:: i == 0 && stands -> want[i] = true
	:: else
	fi;
#endif

commands:
	/* Commands; each looks again before the next. */
	if
	:: true -> skip
	:: true -> goto holding
	fi;
leave:
	if
	:: give_back(i, true); goto must_wait
	:: give_back(i, false); goto idle
	fi;

holding: /* all has drained, but the lease is kept, as long as it lasts and nobody waits */
	inside[i] = false;
	if
	:: turn[i] != 0 || !RUNS(i) -> goto leave /* news: its end */
	:: want[1 - i] -> goto leave		  /* news: somebody waits */
	:: turn[i] == 0 ->			  /* something to submit: looks first */
		if
		:: atomic { RUNS(i) && turn[i] == 0 -> enter(i) }; goto commands
		:: else -> goto leave
		fi
	fi;

must_wait:
	waiting[i] = true;
	want[i] = true;
	/* Sleeps on lease_turn, and looks again after 10 ms whatever happens. */
	goto submit;

asleep:
	if
	:: goto idle
	:: goto gone
	fi;
gone:
	skip
}

/* Dies at any instant, once: what it had under way goes with it. */
proctype death()
{
	d_step { dead[1] = true; inside[1] = false; passed = false; waiting[1] = false }
}

/* Leases come to their end by themselves, but not before who waits for one could see it. */
proctype clock()
{
	do
	:: d_step { until[0] && !over[0] && !waiting[0] -> over[0] = true }
	:: d_step { until[1] && !over[1] && !waiting[1] -> over[1] = true }
	od
}

/* ---- the daemon ---- */

#define NOBODY 2
/* Of what was read, a word at a time. With -DFORGET_SLIPS a daemon that does not think of clients which
 * claimed the turn before, between the two words of a grant: the assertion must find that. */
#ifdef FORGET_SLIPS
#define HOLDS (a == 0 && b != a)
#else
#define HOLDS (a != OLD && b != a && b != 0)
#endif

/* -DANYBODY passes over whoever holds, whoever waits: the assertion must find that. */
#ifdef ANYBODY
#define PASSES_OVER want[1 - holder]
#else
#ifdef PRIORITY
#define PASSES_OVER (holder == 1 && want[0])
#else
#define PASSES_OVER false
#endif
#endif

byte holder = NOBODY, last = 1, a, b;
bool ended;

inline give(i)
{
	d_step { until[i] = true; over[i] = false }; /* one word: an instant to come */
	d_step { /* lease_turn + 1: everything is a turn older */
		claimed[i] = OLDER(claimed[i]);
		done[i] = OLDER(done[i]);
		turn[i] = OLDER(turn[i])
	};
	d_step { holder = i; last = i; ended = false; a = 0; b = 0 }
}

#ifdef STANDING
inline stand()
{
	if
	:: stands && done[0] == 0 -> /* taken up and given back before we looked */
		d_step { until[0] = false; stands = false }
	:: stands && done[0] != 0 && holder != 1 -> /* the claim is looked at afterwards, as ever */
		atomic { until[0] = false; stands = false; slipped = inside[0] }
	:: !stands && holder == 1 && !ended && !want[0] && !inside[0] && claimed[0] == done[0] &&
	   !dead[0] ->
		d_step { until[0] = true; over[0] = false; stands = true };
		d_step {
			claimed[0] = OLDER(claimed[0]);
			done[0] = OLDER(done[0]);
			turn[0] = OLDER(turn[0])
		}
	:: else
	fi
}
#endif

inline grant(i)
{
	if
	:: i == 0 && stands && done[0] != 0 -> /* the same turn goes on */
		d_step { stands = false; holder = 0; last = 0; ended = false }
	:: else -> give(i)
	fi
}

proctype daemon()
{
	do
	:: true -> /* a bell, or the time of something */
		/* The end: by time, for somebody else, or because all is given back. */
		if
		:: holder != NOBODY && !ended ->
			a = claimed[holder];
			b = done[holder];
			if
			:: over[holder] || (!HOLDS && !(want[holder] && b != 0)) ||
			   /* A lease lasts for long enough to be taken. */
			   (want[1 - holder] && !waiting[holder]) ->
				until[holder] = false;
				d_step { ended = true; a = 0; b = 0 }
			:: else -> d_step { a = 0; b = 0 }
			fi
		:: else
		fi;
		if
		:: holder != NOBODY && (dead[holder] || ended) ->
			a = claimed[holder];
			b = done[holder];
			if
			:: d_step { dead[holder] || !HOLDS -> holder = NOBODY; a = 0; b = 0 }
			:: d_step {
				!dead[holder] && HOLDS && PASSES_OVER ->
				passed = passed || holder == 1;
				holder = NOBODY; a = 0; b = 0
			}
			:: else -> d_step { a = 0; b = 0 }
			fi
		:: else
		fi;
		if
		:: holder == NOBODY && want[1 - last] && !dead[1 - last] -> grant(1 - last)
		:: holder == NOBODY && !want[1 - last] && want[last] && !dead[last] -> grant(last)
		:: else
		fi;
#ifdef STANDING
		stand()
#else
		skip
#endif
	od
}

init
{
	atomic {
		run client(0);
		run client(1);
#ifndef NO_CLOCK /* leases end only for somebody else */
		run clock();
#endif
		run daemon();
#ifdef DEATH
		run death();
#endif
	}
}

ltl served { [] (waiting[0] -> <> !waiting[0]) && [] (waiting[1] -> <> !waiting[1]) }
