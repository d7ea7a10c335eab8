#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Real programs that share less memory than they want: what they are told is free can be had, who
does nothing makes room, and every byte that any of them has is kept."""
import random
import time

import aqtest
from aqtest import MIB, check, equal, eventually, program
from rawmover import ARENA, adds_up, arena, await_parked, mover

LIMIT = 4096 * MIB
STUCK = 90  # seconds that anything may take on a busy machine


def refusals(machine):
    return [e for e in machine.events() if e["type"] in ("denied", "killed", "lied")]


def real_program(machine, name, **terms):
    """A program that knows every byte it has, and whose memory moves."""
    args = machine.run_args([program("pattern"), "-"], name=name, movable=True, compute="0.01",
                            **terms)
    child = machine.spawn(args, kind=aqtest.Tenant)
    child.do("start", timeout=60)
    return child


def free_is_a_promise(machine):
    """Who asks how much is free and takes all of it gets it, though others have to leave for it."""
    arena(machine)
    a = real_program(machine, "a", memory=0, memory_limit=ARENA)
    b = real_program(machine, "b", memory=0, memory_limit=ARENA)
    a.do("alloc 100M")
    mover(machine, "ballast", memory=machine.devices()[0]["memory_free_bytes"] - 150 * MIB)
    eventually(lambda: b.do("info")["free"] >= 240 * MIB, "free counts the idle one's")
    info = b.do("info")
    b.do(f"alloc {info['free'] // (2 * MIB) * 2}M", timeout=60)
    check(machine.events("parked", "a"), "a has left for it")
    b.do("check", bad=0)
    b.do("free 0")
    a.do("check", timeout=60, bad=0)
    equal(refusals(machine), [], "nothing was refused")
    a.quit()
    b.quit()


def a_lease_that_nobody_waits_for_is_not_work(machine):
    """On a divided device the last to have worked keeps the lease: idle it is all the same."""
    arena(machine)
    a = real_program(machine, "a", memory=0, memory_limit=ARENA, park_idle="1500ms")
    b = real_program(machine, "b", memory=0, memory_limit=ARENA)
    a.do("alloc 100M")
    a.do("work 1")
    time.sleep(3)
    check(not machine.events("parked", "a"), "who has work stays")
    a.do("rest", bad=0)
    await_parked(machine, "a")
    equal(machine.events("parked", "a")[0]["reason"], "idle", "reason")
    a.do("check", bad=0)
    a.quit()
    b.quit()


def real_programs_take_turns(machine):
    """Two programs of 100 MiB in room for one beside their contexts: every byte of them is kept."""
    arena(machine)
    programs = [real_program(machine, f"p{i}", memory=0, memory_limit=ARENA) for i in range(2)]
    free = machine.devices()[0]["memory_free_bytes"] // MIB * MIB
    mover(machine, "ballast", memory=free - 160 * MIB)
    for child in programs:
        child.do("alloc 100M", timeout=60)
    for i in (0, 1, 0):
        programs[i].do("step", timeout=120)
        programs[i].do("check", timeout=120, bad=0)
    check(machine.events("resumed"), "somebody came back")
    equal(refusals(machine), [], "nothing was refused")
    adds_up(machine)
    for child in programs:
        child.quit()


def thirty_two_in_room_for_four(machine):
    """More fractions than memory, each used now and then: every byte of all of them is kept."""
    machine.start_daemon()
    count, each = 32, 20 * MIB
    programs = [real_program(machine, f"p{i}", memory=0, memory_limit=LIMIT) for i in range(count)]
    free = machine.devices()[0]["memory_free_bytes"]
    machine.run("sleep", "3600", name="rest", compute="0.01", memory=free - 4 * each - 10 * MIB)
    eventually(lambda: "rest" in machine.fractions(), "the rest of the device is taken")
    for child in programs:
        child.do(f"alloc {each}", timeout=STUCK)
    rng = random.Random(32)
    for i in rng.sample(range(count), count) + [rng.randrange(count) for _ in range(8)]:
        programs[i].do("check", timeout=STUCK, bad=0)
    fractions = machine.fractions()
    parked = sum(f["memory_parked_bytes"] > 0 for f in fractions.values())
    check(parked >= count - 4, "parked:", parked)
    equal(refusals(machine), [], "nothing was refused")
    adds_up(machine)
    for child in programs:
        child.quit()


aqtest.run(free_is_a_promise, a_lease_that_nobody_waits_for_is_not_work, real_programs_take_turns,
           thirty_two_in_room_for_four)
