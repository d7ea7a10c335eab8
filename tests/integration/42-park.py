#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Fractions are parked and come back: by hand, by work, over failures, liars and daemons' deaths."""
import os
import signal
import time

import aqtest
from aqtest import GIB, MIB, between, check, equal, eventually
from rawmover import ARENA, adds_up, arena, await_parked, await_resident, mover, park, resume


def by_hand_there_and_back(machine):
    arena(machine)
    a = mover(machine, "a", 600 * MIB, memory=GIB)
    a.do(f"fixed {100 * MIB}")
    answer = park(machine, "a")
    equal((answer["state"], answer["residency"]), ("parked", "parked"), "state")
    equal(answer["memory_parked_bytes"], 600 * MIB, "parked bytes")
    equal(answer["memory_used_bytes"], 100 * MIB, "what cannot move stays charged")
    state = a.do("state", movable=0, parked=600 * MIB, fixed=100 * MIB)
    check(state["gate"] & 2, "the gate is closed:", state)
    equal(machine.devices()[0]["memory_held_bytes"], 100 * MIB, "held on the device")
    equal(park(machine, "a")["state"], "parked", "parking what is parked")
    answer = resume(machine, "a")
    equal((answer["state"], answer["memory_parked_bytes"]), ("running", 0), "state")
    state = a.do("state", movable=600 * MIB, parked=0)
    equal(state["gate"] & 2, 0, "the gate is open")
    equal(resume(machine, "a")["state"], "running", "resuming what is resident")
    kinds = [e["type"] for e in machine.events(fraction="a")]
    order = [k for k in kinds if k in ("parking", "parked", "resuming", "resumed")]
    equal(order, ["parking", "parked", "resuming", "resumed"], "events")
    parked = machine.events("parked", "a")[0]
    equal((parked["asked_bytes"], parked["reason"]), (600 * MIB, "hand"), "what the event says")
    text = machine.http("GET", "/metrics")[1]
    for line in ('aliquot_fraction_memory_parked_bytes{fraction="a"',
                 'aliquot_fraction_parks_total{fraction="a",project="default"} 1',
                 'aliquot_fraction_resumes_total{fraction="a",project="default"} 1',
                 f'aliquot_fraction_memory_moved_bytes_total{{fraction="a",project="default"}} '
                 f'{1200 * MIB}'):
        check(line in text, "metrics lack", line)
    adds_up(machine)


def by_command(machine):
    arena(machine)
    a = mover(machine, "a", 200 * MIB, memory=GIB)
    machine.cli("park", "a")
    shown = {f["name"]: f for f in machine.json("ps")}["a"]
    equal((shown["state"], shown["memory_parked_bytes"]), ("parked", 200 * MIB), "ps")
    check("parked" in machine.cli("ps")[0], "ps for people:", machine.cli("ps")[0])
    machine.cli("resume", "a")
    a.do("state", movable=200 * MIB, parked=0)
    _, text = machine.cli("park", "nobody", code=1)
    check("no fraction" in text, "error:", text)
    machine.cli("park", "a", "--no-wait")
    await_parked(machine, "a")


def work_brings_it_back(machine):
    arena(machine)
    a = mover(machine, "a", 400 * MIB, memory=GIB)
    park(machine, "a")
    answer = a.do("run", parked=0, movable=400 * MIB)
    check(answer["ran"] == 1, "ran:", answer)
    await_resident(machine, "a")
    # Held, it waits for `resume`.
    park(machine, "a", hold=True)
    a.send("run")
    time.sleep(0.3)
    equal(machine.fraction("a")["residency"], "parked", "held")
    resume(machine, "a")
    equal(a.answer()["parked"], 0, "parked when it ran")


def its_room_serves_others(machine):
    """While one is parked, another uses its memory, and it is back when that is free again."""
    arena(machine)
    a = mover(machine, "a", 1200 * MIB, memory=0, memory_limit=ARENA)
    b = mover(machine, "b", memory=0, memory_limit=ARENA)
    park(machine, "a", hold=True)
    b.do(f"fixed {1200 * MIB}")
    resume(machine, "a", code=408, wait_ms=50)
    equal(machine.fraction("a")["state"], "parked", "no room yet")
    b.kill()
    await_resident(machine, "a")
    a.do("state", movable=1200 * MIB, parked=0)
    adds_up(machine)


def what_cannot_move_says_so(machine):
    arena(machine)
    check("has no memory" in park(machine, "rest", code=409)["error"], "a program that uses no device")
    mover(machine, "a", memory=2 * GIB).do(f"fixed {GIB}")
    answer = park(machine, "a", code=409)
    equal((answer["reason"], answer["memory_used_bytes"], answer["movable_bytes"]),
          ("immovable", GIB, 0), "refusal")
    check("1 GiB" in answer["error"], "the line:", answer)
    _, text = machine.cli("park", "a", code=1)
    check("1 GiB" in text and len(text.strip().splitlines()) <= 2, "the command's line:", text)


def host_pool_is_a_budget(machine):
    machine.start_daemon(config="host_memory: 500M\nhost_memory_per_fraction: 300M\n")
    a = mover(machine, "a", 300 * MIB, memory=GIB)
    b = mover(machine, "b", 400 * MIB, memory=GIB)
    c = mover(machine, "c", 202 * MIB, memory=GIB)
    answer = park(machine, "b", code=409)
    equal((answer["reason"], answer["movable_bytes"], answer["host_free_bytes"]),
          ("host_full", 400 * MIB, 300 * MIB), "one's own budget")
    park(machine, "a", hold=True)
    answer = park(machine, "c", code=409)
    equal(answer["host_free_bytes"], 200 * MIB, "left of the node's budget")
    c.do(f"free {2 * MIB}")
    park(machine, "c", hold=True)
    b.do(f"free {398 * MIB}")
    equal(park(machine, "b", code=409)["host_free_bytes"], 0, "the pool is full")
    a.kill()
    machine.gone("a")
    park(machine, "b")
    resume(machine, "c")
    adds_up(machine)


def two_processes_or_none(machine):
    """One of two cannot park: the other comes back, and the reason is said."""
    arena(machine)
    one = mover(machine, "a", 400 * MIB, memory=2 * GIB)
    two = mover(machine, "a", 300 * MIB)
    two.do("fail 12")
    answer = park(machine, "a", code=409)
    equal(answer["reason"], "not_moved", "reason")
    await_resident(machine, "a")
    one.do("state", movable=400 * MIB, parked=0, gate=0)
    two.do("state", movable=300 * MIB, parked=0, gate=0)
    check("Cannot allocate memory" in machine.events("park_failed", "a")[0]["text"], "event")
    two.do("fail 0")
    equal(park(machine, "a")["memory_parked_bytes"], 700 * MIB, "both")
    # One that dies in host memory takes nothing along but its own.
    one.kill()
    one.wait()
    eventually(lambda: machine.fraction("a")["memory_parked_bytes"] == 300 * MIB, "one is gone")
    two.do("fail 5")
    resume(machine, "a", code=409)
    equal(machine.fraction("a")["state"], "parked", "it stays parked")
    two.do("fail 0")
    two.do("run", parked=0)
    adds_up(machine)


def undone_whatever_others_take(machine):
    """What a client gave up while parking is still its own until all have parked."""
    arena(machine)
    one = mover(machine, "a", 500 * MIB, memory=0, memory_limit=ARENA)
    two = mover(machine, "a", 500 * MIB)
    b = mover(machine, "b", ARENA - 1100 * MIB, memory=0, memory_limit=ARENA)
    two.do("slow 1500")
    two.do("fail 5")
    park(machine, "a", code=202, wait_ms=0)
    eventually(lambda: one.do("state")["parked"], "the first has left")
    b.send(f"alloc {300 * MIB}")
    eventually(lambda: machine.events("park_failed", "a"), "the second could not")

    def is_back(client):
        state = client.do("state")
        return (state["movable"], state["parked"]) == (500 * MIB, 0)

    # Once it has been idle for a second b's need has it tried again, and undone again.
    eventually(lambda: is_back(one) and is_back(two), "both have all that they had")
    adds_up(machine)


def deaf_one_is_told_to_stay(machine):
    machine.start_daemon(config="move_timeout: 3s\n")
    a = mover(machine, "a", 2 * MIB, memory=GIB)
    a.do("deaf 1")
    started = time.monotonic()
    answer = park(machine, "a", code=409, wait_ms=60000)
    equal(answer["reason"], "late", "reason")
    between(time.monotonic() - started, 2.9, 30, "seconds")
    check(machine.fraction("a")["memory_used_bytes"] >= 2 * MIB, "it stays charged")
    a.do("deaf 0")
    await_resident(machine, "a")
    a.do("state", movable=2 * MIB, parked=0, gate=0)


def liars_are_cut_off(machine):
    arena(machine)
    a = mover(machine, "a", 200 * MIB, memory=GIB)
    a.do(f"claim {1 << 60}")
    park(machine, "a", code=202, wait_ms=0)
    eventually(lambda: machine.events("lied", "a"), "the lie is seen")
    adds_up(machine)
    b = mover(machine, "b", 200 * MIB, memory=GIB)
    park(machine, "b")
    resume(machine, "b")
    b.do("state", movable=200 * MIB)


def new_daemon_finds_them_parked(machine):
    daemon = machine.start_daemon()
    a = mover(machine, "a", 300 * MIB, memory=GIB)
    b = mover(machine, "b", 200 * MIB, memory=GIB)
    park(machine, "a", hold=True)
    b.do("slow 1500")
    park(machine, "b", code=202, wait_ms=0)
    machine.kill_daemon(daemon)
    machine.start_daemon()
    a.do("back")
    b.do("back")
    await_parked(machine, "a")
    await_parked(machine, "b")
    equal(machine.fraction("a")["memory_parked_bytes"], 300 * MIB, "parked bytes of a")
    equal(machine.fraction("b")["memory_parked_bytes"], 200 * MIB, "parked bytes of b")
    b.do("slow 0")
    b.do("run", parked=0, movable=200 * MIB)
    a.send("run")
    time.sleep(0.3)
    equal(machine.fraction("a")["residency"], "parked", "held over the daemon's death")
    resume(machine, "a")
    equal(a.answer()["movable"], 300 * MIB, "back")
    adds_up(machine)


def by_command_of_one_that_is_stopped(machine):
    """Nobody waits for minutes without being told for what."""
    arena(machine)
    a = mover(machine, "a", 200 * MIB, memory=GIB)
    os.kill(a.pid, signal.SIGSTOP)
    try:
        command = machine.spawn([aqtest.CLI, "park", "a"])
        eventually(lambda: f"kill -CONT {a.pid}" in command.stderr(), "it says what to do")
    finally:
        os.kill(a.pid, signal.SIGCONT)
    equal(command.wait(), 0, "status of park, after that")
    equal(machine.fraction("a")["residency"], "parked", "residency")


aqtest.run(by_hand_there_and_back, by_command, work_brings_it_back, its_room_serves_others,
           what_cannot_move_says_so, host_pool_is_a_budget, two_processes_or_none,
           undone_whatever_others_take, deaf_one_is_told_to_stay, liars_are_cut_off,
           new_daemon_finds_them_parked, by_command_of_one_that_is_stopped)
