#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Whoever has work is resident: borrowers make room, requests are kept, nobody is killed for it."""
import os
import random
import signal
import time

import aqtest
from aqtest import MIB, OOM, between, check, equal, eventually
from rawmover import ARENA, adds_up, arena, await_parked, mover, park, take_the_rest


def idle(machine, *names):
    """Wait until the daemon has seen for long enough that they do nothing."""
    time.sleep(1.3)


def kinds(machine, *wanted):
    return [(e["type"], e["fraction"]) for e in machine.events() if e["type"] in wanted]


def an_idle_borrower_leaves_for_growth(machine):
    arena(machine)
    a = mover(machine, "a", 1500 * MIB, memory=0, memory_limit=ARENA)
    b = mover(machine, "b", memory=0, memory_limit=ARENA)
    idle(machine, "a")
    free = machine.fraction("b")["devices"][0]["memory_free_bytes"]
    check(free >= 1900 * MIB, "free counts what reclaim makes free:", free)
    b.do(f"alloc {1500 * MIB}")
    equal(machine.fraction("a")["residency"], "parked", "who was idle")
    parked = machine.events("parked", "a")[0]
    equal((parked["reason"], parked["asked_bytes"]), ("need", 1500 * MIB), "the event")
    # It has work: b's turn ends when b is idle and has stayed for long enough.
    a.do("run", parked=0, movable=1500 * MIB)
    await_parked(machine, "b")
    equal(kinds(machine, "denied", "killed", "lied"), [], "nothing was refused")
    adds_up(machine)


def what_only_lingers_leaves_for_growth(machine):
    """The request of a fraction whose program has ended is kept for a while, but from nobody."""
    config = os.path.join(machine.directory, "config")
    with open(config, "w") as file:
        file.write("linger: 60s\n")
    machine.start_daemon("--config", config)
    grows = machine.tenant(memory="1G", memory_limit="70G")
    machine.output("/bin/true", name="gone", memory="60G")
    check("gone" in machine.fractions(), "it lingers")
    grows.do("fill linear 1G 40", count=40)
    check("gone" not in machine.fractions(), "it is gone")
    equal(kinds(machine, "denied"), [], "nothing was refused")


def within_its_request_nobody_is_touched(machine):
    arena(machine)
    a = mover(machine, "a", 900 * MIB, memory=1024 * MIB)
    b = mover(machine, "b", memory=0, memory_limit=ARENA)
    idle(machine, "a")
    equal(b.ask(f"alloc {1500 * MIB}")["code"], OOM, "1500 MiB beside a request of 1024")
    denied = machine.events("denied", "b")[0]
    equal((denied["reason"], denied["asked_bytes"]), ("device", 1500 * MIB), "the event")
    equal(machine.fraction("a")["residency"], "resident", "a")
    b.do(f"alloc {1000 * MIB}")


def a_request_is_lent_and_comes_back(machine):
    """A parked one's guarantee is used by others, who leave as soon as it wants it, busy or not."""
    arena(machine)
    a = mover(machine, "a", 1400 * MIB, memory=1500 * MIB)
    b = mover(machine, "b", memory=0, memory_limit=ARENA)
    park(machine, "a")
    b.do(f"alloc {1800 * MIB}")
    check(machine.events("lent", "a"), "the loan is an event")
    b.do("busy 1")
    started = time.monotonic()
    a.do("run", parked=0)
    check(time.monotonic() - started < 5, "a guarantee does not wait for anybody's turn")
    eventually(lambda: machine.fraction("b")["memory_parked_bytes"] == 1800 * MIB, "b left")
    check(machine.fraction("a")["residency"] == "resident", "a is back")
    equal(kinds(machine, "denied", "killed"), [], "nothing was refused")
    adds_up(machine)


def what_is_lent_is_for_what_can_leave(machine):
    """Memory that cannot move has to fit beside all requests: nobody could get it back."""
    arena(machine)
    a = mover(machine, "a", 1400 * MIB, memory=1500 * MIB)
    b = mover(machine, "b", memory=0, memory_limit=ARENA)
    c = mover(machine, "c", memory=0, memory_limit=ARENA)
    park(machine, "a")
    b.do(f"alloc {900 * MIB}")
    check(machine.events("lent", "a"), "to what moves it is lent")
    equal(c.ask(f"fixed {1000 * MIB}")["code"], OOM, "what cannot move")
    denied = machine.events("denied", "c")[0]
    equal((denied["reason"], denied["asked_bytes"]), ("device", 1000 * MIB), "the event")
    # Beside the request of 1500 MiB there are 548: b leaves for that, being idle.
    idle(machine, "b")
    c.do(f"fixed {500 * MIB}")
    a.do("run", parked=0, timeout=60)
    equal(machine.fraction("a")["memory_used_bytes"], 1400 * MIB, "a has all it was promised")
    adds_up(machine)


def a_new_request_sends_borrowers_away(machine):
    arena(machine)
    a = mover(machine, "a", 1500 * MIB, memory=0, memory_limit=ARENA)
    a.do("busy 1")
    b = mover(machine, "b", 900 * MIB, memory=1000 * MIB)
    b.do("state", movable=900 * MIB)
    check(machine.events("parked", "a"), "a left")
    adds_up(machine)


def what_cannot_move_is_refused_or_ended(machine):
    arena(machine)
    a = mover(machine, "a", memory=0, memory_limit=ARENA)
    a.do(f"fixed {1500 * MIB}")
    idle(machine, "a")
    failed = machine.run("true", name="b", memory=1000 * MIB, compute="0.01")
    equal(failed.wait(), 125, "no room that could be made")
    equal(kinds(machine, "killed", "reclaim_kill"), [], "and nobody ended")


def or_ended_where_that_is_allowed(machine):
    machine.start_daemon(config="reclaim_kill: true\n")
    take_the_rest(machine)
    a = mover(machine, "a", memory=0, memory_limit=ARENA)
    a.do(f"fixed {1500 * MIB}")
    c = mover(machine, "c", memory=0, memory_limit=ARENA)
    # A burst is no reason.
    equal(c.ask(f"alloc {1000 * MIB}")["code"], OOM, "a burst")
    b = mover(machine, "b", memory=1000 * MIB)
    b.do(f"alloc {900 * MIB}")
    a.wait()
    event = machine.events("reclaim_kill", "a")[0]
    equal((event["reason"], event["asked_bytes"]), ("reclaim", 1500 * MIB), "the event")


def more_than_fits_take_turns(machine):
    """Four that always have work, in room for one: each has its turns, and most time is work."""
    machine.start_daemon(config="residence_factor: 4\n")
    take_the_rest(machine)
    names = ("a", "b", "c", "d")
    movers = {}
    for name in names:
        movers[name] = mover(machine, name, memory=0, memory_limit=ARENA)
        movers[name].do("slow 20")
        movers[name].do(f"alloc {1500 * MIB}")
        movers[name].do("busy 1")
    time.sleep(6)
    turns = {n: len(machine.events("resumed", n)) for n in names}
    ran = {n: movers[n].do("state")["ran"] for n in names}
    check(min(turns.values()) >= 2, "turns:", turns)
    check(min(ran.values()) * 6 > max(ran.values()), "work:", ran)
    text = machine.http("GET", "/metrics")[1]
    moving = sum(float(line.split()[-1]) for line in text.splitlines()
                 if line.startswith(("aliquot_fraction_park_seconds_total{",
                                     "aliquot_fraction_resume_seconds_total{")))
    print(f"   turns {turns}, work {ran}, moving {moving:.2f} s of 6")
    check(moving < 3, "seconds of moving in 6:", moving)
    thrash = machine.events("thrash")
    equal(len(thrash), 1, "thrash is told once an episode")
    check(thrash[0]["asked_bytes"] > thrash[0]["limit_bytes"] - 100 * MIB, "numbers:", thrash)
    equal(kinds(machine, "denied", "killed", "lied"), [], "nothing was refused")
    adds_up(machine)


def whoever_has_work_is_resident(machine):
    """32 in room for 4, each used now and then: every one of them gets its turn."""
    arena(machine)
    each = 48 * MIB
    mover(machine, "ballast", memory=ARENA - 4 * each - 20 * MIB)
    movers = []
    for i in range(32):
        movers.append(mover(machine, f"m{i}", each, memory=0, memory_limit=ARENA))
    rng = random.Random(5)
    slowest = 0
    for i in [*range(32), *(rng.randrange(32) for _ in range(40))]:
        answer = movers[i].do("run", parked=0, movable=each, timeout=60)
        slowest = max(slowest, answer["ms"])
    check(slowest < 20000, "slowest wake-up in ms:", slowest)
    parked = sum(f["memory_parked_bytes"] for f in machine.fractions().values())
    check(parked >= 28 * each, "28 of 32 are parked:", parked)
    equal(kinds(machine, "denied", "killed", "lied"), [], "nothing was refused")
    adds_up(machine)


def whoever_listens_is_asked_first(machine):
    """A busy borrower that hears is asked before it is moved; one that gives enough stays."""
    arena(machine)
    a = mover(machine, "a", 1500 * MIB, memory=0, memory_limit=ARENA)
    env = aqtest.fraction_env(a.pid)
    listener = machine.spawn([str(aqtest.BUILD / "examples/shrink"), "60"], env)
    equal(listener.line(), "listening", "the example")
    a.do("busy 1")
    time.sleep(0.2)
    b = mover(machine, "b", memory=0, memory_limit=ARENA)
    b.send(f"alloc {1000 * MIB}")
    words = listener.line().split()
    equal((words[0], words[1]), ("request", "1:"), "the line")
    equal(int(words[2]), 1500 * MIB, "bytes in use")
    keep = int(words[-1])
    between(keep, 900 * MIB, 1100 * MIB, "asked for at most")
    a.do(f"free {600 * MIB}")
    equal(b.answer(timeout=20)["code"], 0, "room was made")
    equal(machine.fraction("a")["residency"], "resident", "who gave enough stays")
    event = machine.events("shrink", "a")[0]
    equal((event["asked_bytes"], event["used_bytes"]), (keep, 1500 * MIB), "the event")
    # Asked again, it gives nothing: then it leaves.
    b.send(f"alloc {800 * MIB}")
    check(listener.line().startswith("request 2:"), "asked again")
    equal(b.answer(timeout=20)["code"], 0, "room was made")
    check(machine.events("parked", "a"), "who gave nothing left")


def a_larger_request_sends_borrowers_away(machine):
    arena(machine)
    a = mover(machine, "a", 200 * MIB, memory=300 * MIB)
    b = mover(machine, "b", 1500 * MIB, memory=0, memory_limit=ARENA)
    b.do("busy 1")
    started = time.monotonic()
    machine.cli("resize", "a", "--memory", 1200 * MIB)
    check(time.monotonic() - started < 10, "seconds")
    a.do(f"alloc {900 * MIB}")
    equal(machine.fraction("a")["memory_request_bytes"], 1200 * MIB, "request")
    equal(len(machine.events("parked", "b")), 1, "the borrower left, and did not come in between")
    adds_up(machine)


def a_larger_request_is_not_overtaken(machine):
    """What a borrower leaves for a request is not for somebody else's burst."""
    arena(machine)
    a = mover(machine, "a", 200 * MIB, memory=300 * MIB)
    b = mover(machine, "b", 1500 * MIB, memory=0, memory_limit=ARENA)
    c = mover(machine, "c", memory=0, memory_limit=ARENA)
    b.do("slow 700")
    b.do("busy 1")
    resize = machine.spawn([aqtest.CLI, "resize", "a", "--memory", str(2000 * MIB)])
    eventually(lambda: machine.events("parking", "b"), "b is leaving")
    equal(c.ask(f"fixed {200 * MIB}")["code"], OOM, "there was room for this, but not for both")
    equal(resize.wait(), 0, "the resize")
    equal(machine.fraction("a")["memory_request_bytes"], 2000 * MIB, "request")
    a.do(f"alloc {1700 * MIB}")
    adds_up(machine)


def a_limit_below_use(machine):
    """Refused with the numbers; or, as asked, what is in use leaves until the limit allows it."""
    arena(machine)
    a = mover(machine, "a", 600 * MIB, memory=0, memory_limit=1000 * MIB)
    _, text = machine.cli("resize", "a", "--memory-limit", 400 * MIB, code=1)
    check("600 MiB" in text and "400 MiB" in text, "the numbers:", text)
    machine.cli("resize", "a", "--memory-limit", 400 * MIB, "--force-park")
    fraction = machine.fraction("a")
    equal((fraction["memory_limit_bytes"], fraction["memory_parked_bytes"]),
          (400 * MIB, 600 * MIB), "limit and parked")
    a.send("run")
    event = eventually(lambda: machine.events("resume_failed", "a"), "it waits, and says why")[0]
    equal((event["reason"], event["asked_bytes"]), ("limit", 600 * MIB), "the event")
    # What is parked counts as in use.
    _, text = machine.cli("resize", "a", "--memory-limit", 300 * MIB, code=1)
    check("600 MiB" in text, "the numbers:", text)
    machine.cli("resize", "a", "--memory-limit", 600 * MIB)
    equal(a.answer(timeout=20)["parked"], 0, "back when the limit allows it")
    adds_up(machine)


def idle_ones_leave_by_themselves(machine):
    arena(machine)
    a = mover(machine, "a", 300 * MIB, memory=500 * MIB, park_idle="2s")
    b = mover(machine, "b", 300 * MIB, memory=500 * MIB, park_idle="2s")
    b.do("busy 1")
    await_parked(machine, "a")
    equal(machine.events("parked", "a")[0]["reason"], "idle", "reason")
    time.sleep(2.5)
    equal(machine.fraction("b")["residency"], "resident", "who has work stays")
    b.do("busy 0")
    await_parked(machine, "b")
    a.do("run", parked=0)


def a_full_host_pool_refuses_growth(machine):
    """Nobody leaves when host memory would not hold it: growth is refused, and says so."""
    machine.start_daemon(config="host_memory: 1G\n")
    take_the_rest(machine)
    a = mover(machine, "a", 1500 * MIB, memory=0, memory_limit=ARENA)
    b = mover(machine, "b", memory=0, memory_limit=ARENA)
    idle(machine, "a")
    free = machine.fraction("b")["devices"][0]["memory_free_bytes"]
    equal(free, ARENA - 1500 * MIB, "free does not count what cannot leave")
    equal(b.ask(f"alloc {1000 * MIB}")["code"], OOM, "growth")
    equal(machine.events("denied", "b")[0]["reason"], "device", "why")
    equal(machine.fraction("a")["residency"], "resident", "a")
    a.do(f"free {600 * MIB}")
    idle(machine, "a")
    b.do(f"alloc {1200 * MIB}")
    equal(machine.fraction("a")["memory_parked_bytes"], 900 * MIB, "what is left fits")
    adds_up(machine)


def storm(machine):
    """Park, resume, resize, work, deaths: nobody is stuck, and the ledger adds up all along."""
    arena(machine)
    rng = random.Random(int(os.environ.get("AQ_SEED", "11")))
    count, rounds = 6, int(os.environ.get("AQ_ROUNDS", "120"))
    made = 0
    movers = {}

    def start():
        nonlocal made
        name = f"s{made}"
        made += 1
        movers[name] = mover(machine, name, memory=rng.choice([0, 0, 200 * MIB]),
                             memory_limit=ARENA)
        movers[name].send(f"alloc {rng.randrange(100, 500) * MIB}")
        movers[name].answer(timeout=60)
        movers[name].do(f"slow {rng.randrange(30)}")
        movers[name].do(f"busy {rng.randrange(2)}")

    for _ in range(count):
        start()
    for step in range(rounds):
        name = rng.choice(sorted(movers))
        deed = rng.randrange(12)
        if deed < 3:
            machine.http("POST", f"/v1/fractions/{name}/park", {"wait_ms": 0})
        elif deed < 6:
            machine.http("POST", f"/v1/fractions/{name}/resume", {"wait_ms": 0})
        elif deed < 8:
            machine.http("PATCH", f"/v1/fractions/{name}",
                         {"memory_request_bytes": rng.choice([0, 100 * MIB, 300 * MIB]),
                          "memory_limit_bytes": rng.choice([ARENA, 600 * MIB])})
        elif deed < 9:
            movers[name].do(f"fail {rng.choice([0, 5, 12])}")
            movers[name].do("fail 0")
        elif deed < 11:
            movers[name].do(f"busy {rng.randrange(2)}")
        else:
            movers[name].kill(signal.SIGKILL)
            movers.pop(name).wait()
            start()
        if step % 20 == 0:
            adds_up(machine)
    for name, child in movers.items():
        child.do("busy 0")
        machine.http("PATCH", f"/v1/fractions/{name}", {"memory_limit_bytes": ARENA})
    for name, child in movers.items():
        answer = child.do("run", timeout=60)
        equal(answer["used"], answer["movable"] + answer["fixed"], f"what {name} is charged")
        equal(answer["parked"], 0, f"{name} is on the device when it runs")
    adds_up(machine)
    equal(kinds(machine, "lied"), [], "nobody was taken for a liar")
    held = machine.devices()[0]["memory_held_bytes"]
    check(held <= ARENA, "held:", held)


aqtest.run(an_idle_borrower_leaves_for_growth, within_its_request_nobody_is_touched,
           a_request_is_lent_and_comes_back, what_is_lent_is_for_what_can_leave,
           a_new_request_sends_borrowers_away, what_cannot_move_is_refused_or_ended,
           or_ended_where_that_is_allowed, more_than_fits_take_turns, whoever_has_work_is_resident,
           whoever_listens_is_asked_first, a_larger_request_sends_borrowers_away,
           a_larger_request_is_not_overtaken, a_limit_below_use, idle_ones_leave_by_themselves,
           a_full_host_pool_refuses_growth, what_only_lingers_leaves_for_growth, storm)
