#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Real programs whose memory is parked and comes back: every byte of it is looked at each time."""
import time

import aqtest
from aqtest import GIB, MIB, between, check, equal, eventually, program
from rawmover import ARENA, adds_up, arena, await_parked, await_resident, park, resume

MOVE = {"ALIQUOT_MOVE": "1"}  # in a program's environment: its linear memory can be moved


def pattern(machine, name, sizes=(), **terms):
    """A program with patterns in its memory, in a fraction of its own."""
    terms = {"compute": "0.01", "movable": True, **terms}
    args = machine.run_args([program("pattern"), "-"], name=name, **terms)
    child = machine.spawn(args, kind=aqtest.Tenant)
    child.do("start")
    for size in sizes:
        child.do(f"alloc {size}")
    return child


def held(machine):
    return machine.devices()[0]["memory_held_bytes"]


def all_bytes_survive(machine):
    arena(machine)
    a = pattern(machine, "a", ("1000", "300K", "2M", "2M", "20M", "33M", "70K", "150M"), memory=GIB)
    before = machine.fraction("a")["memory_used_bytes"]
    for _ in range(3):
        answer = park(machine, "a")
        between(answer["memory_parked_bytes"], 208 * MIB, 214 * MIB, "parked")
        equal(before - answer["memory_used_bytes"], answer["memory_parked_bytes"],
              "charged no longer")
        answer = resume(machine, "a")
        equal((answer["memory_parked_bytes"], answer["memory_used_bytes"]), (0, before), "back")
        a.do("check", bad=0)
    adds_up(machine)
    a.quit()


def graphs_survive(machine):
    arena(machine)
    a = pattern(machine, "a", ("40M", "40M"), memory=GIB)
    a.do("graph")
    for _ in range(3):
        park(machine, "a")
        resume(machine, "a")
        a.do("replay", bad=0)
    a.quit()


def work_brings_it_back(machine):
    """Whatever a program does next finds its memory there: a launch, a copy, an allocation."""
    arena(machine)
    a = pattern(machine, "a", ("64M", "8M"), memory=GIB)
    for command in ("step", "check", "alloc 5M", "check"):
        park(machine, "a")
        a.do(command)
        await_resident(machine, "a")
    park(machine, "a")
    a.do("free 1")  # needs nothing back
    equal(machine.fraction("a")["residency"], "parked", "still parked after a free")
    a.do("check", bad=0)
    a.quit()


def its_room_is_free_for_others(machine):
    arena(machine)
    a = pattern(machine, "a", ("300M", "250M"), memory=0, memory_limit=ARENA)
    b = pattern(machine, "b", memory=0, memory_limit=ARENA)
    base = held(machine)  # two contexts, and what is to be parked
    park(machine, "a", hold=True)
    equal(base - held(machine), 550 * MIB, "free on the device")
    b.do("alloc 600M")
    b.do("check", bad=0)
    b.do("free 0")
    resume(machine, "a")
    a.do("check", bad=0)
    a.quit()
    b.quit()


def while_threads_work(machine):
    """Threads allocate, capture, launch and wait; all the while it is parked and comes back."""
    arena(machine)
    a = pattern(machine, "a", ("30M", "2M", "300K"), memory=GIB)
    a.do("work 4")
    deadline, parks = time.monotonic() + (3 if aqtest.SHORT else 8), 0
    while time.monotonic() < deadline:
        status, answer = machine.http("POST", "/v1/fractions/a/park", {"wait_ms": 10000})
        # Its threads want it back at once: it may be on its way when the answer is written.
        check(status in (200, 409), "parking:", status, answer)
        parks += status == 200
        time.sleep(0.02)
    answer = a.do("rest", bad=0, timeout=60)
    check(answer["rounds"] > 0, "no work was done:", answer)
    moves = len(machine.events("parked", "a"))
    check(moves >= 3, "parked only", moves, "times in", parks, "tries")
    a.do("check", bad=0)
    adds_up(machine)
    a.quit()


def a_new_daemon_brings_it_back(machine):
    arena(machine)
    a = pattern(machine, "a", ("100M", "3M"), memory=GIB)
    park(machine, "a")
    machine.kill_daemon()
    a.send("check")  # cannot be answered: nobody can give it room
    time.sleep(0.3)
    machine.start_daemon()
    answer = a.answer(60)
    equal((answer["code"], answer["bad"]), (0, 0), f"after the new daemon came ({answer})")
    a.quit()


def left_alone_it_leaves(machine):
    """--park-idle alone: the program's memory is movable, and goes when it has no work."""
    arena(machine)
    a = pattern(machine, "a", ("90M",), memory=GIB, movable=None, park_idle="300ms")
    await_parked(machine, "a")
    a.do("check", bad=0)
    await_parked(machine, "a")
    a.do("check", bad=0)
    a.quit()


def asked_not_to_nothing_moves(machine):
    arena(machine)
    a = pattern(machine, "a", ("90M",), memory=GIB, movable=None, no_movable=True)
    equal(park(machine, "a", code=409)["reason"], "immovable", "why not")
    a.do("check", bad=0)
    a.quit()


def killed_on_the_way(machine):
    """kill -9 at any instant of a move leaves nothing charged and nothing on the device."""
    arena(machine)
    base = held(machine)
    for i in range(6):
        a = pattern(machine, f"k{i}", ("200M",), memory=GIB)
        machine.http("POST", f"/v1/fractions/k{i}/park", {"wait_ms": 0})
        time.sleep(0.004 * i)
        a.kill()
        a.wait()
    eventually(lambda: held(machine) <= base, "nothing is held any more")
    adds_up(machine)


def two_processes_move_together(machine):
    arena(machine)
    a = pattern(machine, "a", ("80M",), memory=ARENA)
    b = machine.spawn([program("pattern"), "-"], {**aqtest.fraction_env(a.pid), **MOVE},
                      aqtest.Tenant)
    b.do("start")
    b.do("alloc 120M")
    answer = park(machine, "a")
    equal(answer["memory_parked_bytes"], 200 * MIB, "of both")
    resume(machine, "a")
    a.do("check", bad=0)
    b.do("check", bad=0)
    b.quit()
    a.quit()


def what_is_shared_stays(machine):
    """Memory that another process has open does not move, and both see the same bytes."""
    arena(machine)
    a = pattern(machine, "a", ("50M", "70M"), memory=GIB)
    b = pattern(machine, "b", ("50M",), memory=GIB)
    handle = a.do("ipc 0")["handle"]
    lent = b.do(f"borrow {handle} 50M")["id"]
    b.do(f"look {lent} 1", bad=0)
    equal(park(machine, "a")["memory_parked_bytes"], 70 * MIB, "parked")
    b.do(f"look {lent} 1", bad=0)
    b.do(f"open {handle} 0", bad=0)
    b.do(f"look {lent} 1", bad=0)
    a.do("check", bad=0)
    a.quit()
    b.quit()

def own_memory(child):
    """Bytes of the host's memory that the process has for itself."""
    with open(f"/proc/{child.pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon:")) << 10


def kept_host_memory_yields(machine):
    """What a program keeps pinned for its next parking is given up when another needs the pool."""
    machine.start_daemon(config="host_memory: 250M\n")
    a = pattern(machine, "a", ("100M",), memory=GIB)
    b = pattern(machine, "b", ("100M",), memory=GIB)
    c = pattern(machine, "c", ("100M",), memory=GIB)
    for name in ("a", "b"):
        park(machine, name)
        resume(machine, name)
    kept = own_memory(a)
    park(machine, "b")  # in its own
    time.sleep(0.3)
    check(own_memory(a) > kept - 10 * MIB, "there was room beside it:", own_memory(a), kept)
    park(machine, "c")
    # Long before it would be given back anyway.
    eventually(lambda: own_memory(a) < kept - 90 * MIB, "a let go", 6)
    for child, name in ((a, "a"), (b, "b"), (c, "c")):
        resume(machine, name)
        child.do("check", bad=0)
        child.quit()


def shrinking_below_use_parks(machine):
    arena(machine)
    a = pattern(machine, "a", ("400M",), memory=ARENA)
    less = {"memory_request_bytes": 600 * MIB, "memory_limit_bytes": 600 * MIB}
    status, answer = machine.http("PATCH", "/v1/fractions/a", {**less, "force_park": True})
    check(status in (200, 202), "status of the resize", status, answer)
    await_parked(machine, "a")
    status, answer = machine.http("PATCH", "/v1/fractions/a", {"memory_request_bytes": ARENA,
                                                               "memory_limit_bytes": ARENA})
    equal(status, 200, f"status of growing again ({answer})")
    a.do("check", bad=0)
    a.quit()


aqtest.run(all_bytes_survive, graphs_survive, work_brings_it_back, its_room_is_free_for_others,
           while_threads_work, a_new_daemon_brings_it_back, left_alone_it_leaves,
           asked_not_to_nothing_moves, killed_on_the_way,
           two_processes_move_together, what_is_shared_stays, kept_host_memory_yields,
           shrinking_below_use_parks)
