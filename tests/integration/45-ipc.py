#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Movable memory in other processes: opened through the daemon, with no right to trace anybody.

In every test the importers get EPERM for pidfd_getfd(2), ptrace(2) and process_vm_readv(2), as with
Yama's ptrace_scope=1 between siblings, whoever runs the test.
"""
import ctypes
import os
import random
import struct
import time

import aqtest
from aqtest import GIB, MIB, check, equal, eventually, on, program
from rawmover import adds_up, await_resident, is_resident, park, resume

INVALID, MAP_FAILED = 1, 205
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 38, 22, 2
CALLS = {"x86_64": (438, 101, 310), "aarch64": (438, 117, 270)}  # pidfd_getfd, ptrace, vm_readv
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO_EPERM = 0x7FFF0000, 0x00050001


class Filter(ctypes.Structure):
    _fields_ = [("count", ctypes.c_ushort), ("code", ctypes.c_char_p)]


def seccomp_filter():
    """EPERM for those of CALLS. The numbers of other architectures are not looked for."""
    def op(code, yes, no, value):
        return struct.pack("<HBBI", code, yes, no, value)
    calls = CALLS[os.uname().machine]
    code = op(LOAD, 0, 0, 0)  # the number of the call
    for i, call in enumerate(calls):
        code += op(EQUAL, len(calls) - i, 0, call)
    return code + op(RETURN, 0, 0, ALLOW) + op(RETURN, 0, 0, ERRNO_EPERM)


CODE = seccomp_filter()
LIBC = ctypes.CDLL(None, use_errno=True)


def untrusted():
    """In a child before exec."""
    program_ = Filter(len(CODE) // 8, CODE)
    if LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or \
            LIBC.prctl(PR_SET_SECCOMP, FILTER, ctypes.byref(program_), 0, 0):
        os._exit(99)
    if LIBC.syscall(CALLS[os.uname().machine][0], -1, 0, 0) != -1 or ctypes.get_errno() != 1:
        os._exit(98)


def fill(child, sizes, device=0):
    child.do(f"start {device}")
    for size in sizes:
        child.do(f"alloc {size}")
    return child


def first(machine, name, sizes=(), **terms):
    """A program in a fraction of its own."""
    args = machine.run_args([program("pattern"), "-"], name=name,
                            **{"compute": "0.01", "movable": True, **terms})
    return fill(machine.spawn(args, kind=aqtest.Tenant, preexec=untrusted), sizes)


def sibling(machine, member, sizes=(), device=0):
    """One more in the same fraction."""
    env = {**aqtest.fraction_env(member.pid), "ALIQUOT_MOVE": "1"}
    return fill(machine.spawn([program("pattern"), "-"], env, kind=aqtest.Tenant,
                              preexec=untrusted), sizes, device)


def handle_of(child, n):
    return child.do(f"ipc {n}")["handle"]


def borrow(child, handle, size):
    return child.do(f"borrow {handle} {size}")["id"]


def movable(machine, name):
    """How much leaves when it is parked; it comes back."""
    status, answer = machine.http("POST", f"/v1/fractions/{name}/park", {})
    if status == 409:
        return 0
    equal(status, 200, f"status of parking {name} ({answer})")
    resume(machine, name)
    return answer["memory_parked_bytes"]


def await_movable(machine, name, size):
    """Exporters hear a little later that somebody has closed something."""
    eventually(lambda: movable(machine, name) == size, f"{size} bytes are movable again")


def siblings_share(machine):
    """Large, small, and reaching over several chunks: both see what either writes, charged once."""
    machine.start_daemon()
    a = first(machine, "a", ("10M", "10M", "10M"), memory=4 * GIB)
    for n in range(3):
        a.do(f"free {n}")
    sizes = {3: "28M", 4: "1000", 5: "70K", 6: "2M", 7: "33M"}
    for size in sizes.values():
        a.do(f"alloc {size}")
    b = sibling(machine, a)
    before = machine.used("a")
    for n, size in sizes.items():
        lent = borrow(b, handle_of(a, n), size)
        b.do(f"look {lent} {n + 1}", bad=0)
        b.do(f"poke {lent} {n + 100}")
        a.do(f"expect {n} {n + 100}")
    a.do("check", bad=0)
    equal(machine.used("a"), before, "charged once")
    for n in range(len(sizes)):
        b.do(f"return {n}")
    a.do("check", bad=0)
    equal(machine.used("a"), before, "charged to who has it")
    adds_up(machine)
    a.quit()
    b.quit()


def fractions_share(machine):
    """Of one user, whatever their fractions; the driver's own memory, too."""
    machine.start_daemon()
    a = first(machine, "a", ("40M",), memory=4 * GIB)
    b = first(machine, "b", ("20M",), memory=4 * GIB)
    c = first(machine, "c", ("30M",), memory=4 * GIB, movable=None, no_movable=True)
    before = [machine.used(name) for name in "abc"]
    everybody = ((a, "40M"), (b, "20M"), (c, "30M"))
    for exporter, size in everybody:
        handle = handle_of(exporter, 0)
        for importer, _ in everybody:
            if importer is not exporter:
                importer.do(f"look {borrow(importer, handle, size)} 1", bad=0)
    equal([machine.used(name) for name in "abc"], before, "nobody pays for another's")
    for child, _ in everybody:
        child.quit()


@on("h100:2")
def devices_share(machine):
    """Memory of one device is opened in a context of another, as the ranks of a server do."""
    machine.start_daemon()
    a = first(machine, "a", ("30M",), memory=4 * GIB, gpus=2)
    b = sibling(machine, a, device=1)
    b.do("alloc 5M")
    before = machine.used("a")
    lent, back = borrow(b, handle_of(a, 0), "30M"), borrow(a, handle_of(b, 0), "5M")
    b.do(f"look {lent} 1", bad=0)
    a.do(f"look {back} 1", bad=0)
    b.do(f"poke {lent} 5")
    a.do(f"poke {back} 6")
    a.do("expect 0 5")
    b.do("expect 0 6")
    for rank in (a, b):
        rank.do("check", bad=0)
        rank.do("return 0")
    equal(machine.used("a"), before, "charged once")
    await_movable(machine, "a", 36 * MIB)
    for rank in (a, b):
        rank.do("check", bad=0)
        rank.quit()


def closed_by_all_moves_again(machine):
    machine.start_daemon()
    a = first(machine, "a", ("50M", "70M"), memory=4 * GIB)
    b = sibling(machine, a)
    c = sibling(machine, a)
    handle = handle_of(a, 0)
    equal(movable(machine, "a"), 120 * MIB, "movable while nobody has it open")
    lent = borrow(b, handle, "50M")
    borrow(c, handle, "50M")
    equal(movable(machine, "a"), 70 * MIB, "movable while two have it open")
    equal(park(machine, "a")["memory_parked_bytes"], 70 * MIB, "parked")
    b.do(f"look {lent} 1", bad=0)
    b.do(f"return {lent}")
    resume(machine, "a")
    equal(movable(machine, "a"), 70 * MIB, "movable while one has it open")
    c.kill()
    c.wait()
    await_movable(machine, "a", 120 * MIB)
    equal(park(machine, "a")["memory_parked_bytes"], 120 * MIB, "all of it is parked")
    a.do("check", bad=0)
    a.quit()
    b.quit()


def opening_brings_it_back(machine):
    """A handle may be opened while the memory is away, and it is the same memory then."""
    machine.start_daemon()
    a = first(machine, "a", ("50M", "70M"), memory=4 * GIB)
    b = first(machine, "b", memory=4 * GIB)
    handle = handle_of(a, 0)
    for seed in (1, 2, 3):
        equal(park(machine, "a")["memory_parked_bytes"], 120 * MIB, "parked")
        lent = borrow(b, handle, "50M")
        await_resident(machine, "a")
        b.do(f"look {lent} {seed}", bad=0)
        b.do(f"poke {lent} {seed + 1}")
        b.do(f"return {lent}")
        a.do(f"expect 0 {seed + 1}")
        a.do("check", bad=0)
        await_movable(machine, "a", 120 * MIB)
    park(machine, "a", hold=True)
    b.send(f"borrow {handle} 50M")
    time.sleep(0.3)
    check(not is_resident(machine, "a"), "brought back although it is held")
    resume(machine, "a")
    b.do(f"look {b.answer()['id']} 4", bad=0)
    a.quit()
    b.quit()


def everybody_opens_everybodys(machine):
    """At the same moment, as the ranks of a collective do."""
    machine.start_daemon()
    size, count = "6M", 4
    ranks = [first(machine, "a", (size, "1000"), memory=4 * GIB)]
    ranks += [sibling(machine, ranks[0], (size, "1000")) for _ in range(count - 1)]
    for _ in range(3):
        handles = [[handle_of(rank, n) for n in (0, 1)] for rank in ranks]
        for peer in range(1, count):
            for n, bytes_ in enumerate((size, "1000")):
                for i, rank in enumerate(ranks):
                    rank.send(f"borrow {handles[(i + peer) % count][n]} {bytes_}")
                for rank in ranks:
                    answer = rank.answer()
                    equal(answer["code"], 0, f"opening ({answer})")
                    rank.do(f"look {answer['id']} {n + 1}", bad=0)
                    rank.do(f"return {answer['id']}")
    # An order to park says how much goes; a loan that comes back just then would be more.
    await_movable(machine, "a", count * 8 * MIB)
    park(machine, "a")
    for rank in ranks:
        rank.do("check", bad=0)
        rank.quit()


def threads_open_it_together(machine):
    """As the driver's own: one address in a context, however many open it."""
    machine.start_daemon()
    a = first(machine, "a", ("6M",), memory=4 * GIB)
    b = sibling(machine, a)
    handle = handle_of(a, 0)
    for _ in range(10):
        b.do(f"together {handle} 8", addresses=1)
    await_movable(machine, "a", 6 * MIB)
    equal(b.ask("together " + handle[:16] + "5a" * 56 + " 8")["code"], INVALID, "a wrong one")
    a.quit()
    b.quit()


def a_new_daemon_knows_them(machine):
    daemon = machine.start_daemon()
    a = first(machine, "a", ("50M", "70M"), memory=4 * GIB)
    b = first(machine, "b", memory=4 * GIB)
    handles = [handle_of(a, n) for n in (0, 1)]
    lent = borrow(b, handles[0], "50M")
    time.sleep(0.5)  # what is open is noted a little later
    machine.kill_daemon(daemon)
    b.do(f"look {lent} 1", bad=0)
    b.send(f"borrow {handles[1]} 70M")
    machine.start_daemon()
    answer = b.answer(30)
    equal(answer["code"], 0, f"opened by a handle of the last daemon's time ({answer})")
    b.do(f"look {answer['id']} 2", bad=0)
    b.do(f"return {answer['id']}")
    await_movable(machine, "a", 70 * MIB)
    equal(park(machine, "a")["memory_parked_bytes"], 70 * MIB, "parked")
    b.do(f"poke {lent} 9")
    a.do("expect 0 9")
    a.do("check", bad=0)
    b.do(f"return {lent}")
    await_movable(machine, "a", 120 * MIB)
    a.do("check", bad=0)
    a.quit()
    b.quit()


def without_a_daemon(machine):
    daemon = machine.start_daemon()
    a = first(machine, "a", ("50M", "1M"), memory=4 * GIB)
    b = sibling(machine, a)
    handle = handle_of(a, 0)
    machine.kill_daemon(daemon)
    equal(a.ask("ipc 1")["code"], MAP_FAILED, "exporting without a daemon")
    equal(b.ask(f"borrow {handle} 50M", timeout=30)["code"], MAP_FAILED, "opening without one")
    machine.start_daemon()
    b.do(f"look {borrow(b, handle, '50M')} 1", bad=0)
    handle_of(a, 1)
    a.quit()
    b.quit()


def what_is_gone_cannot_be_opened(machine):
    machine.start_daemon()
    a = first(machine, "a", ("50M", "20M"), memory=4 * GIB)
    b = first(machine, "b", memory=4 * GIB)
    handles = [handle_of(a, n) for n in (0, 1)]
    lent = borrow(b, handles[1], "20M")
    a.do("free 0")
    equal(b.ask(f"borrow {handles[0]} 50M")["code"], INVALID, "opening what is freed")
    a.do("alloc 50M")
    check(handle_of(a, 2) != handles[0], "another allocation has the same handle")
    equal(b.ask(f"borrow {handles[0]} 50M")["code"], INVALID, "opening what was there before")
    guess = handles[1][:16] + "5a" * 16 + handles[1][48:]
    equal(b.ask(f"borrow {guess} 20M")["code"], INVALID, "a token that is guessed")
    a.kill()
    a.wait()
    machine.gone("a")
    b.do(f"look {lent} 2", bad=0)  # what is open stays so
    b.do(f"return {lent}")
    equal(b.ask(f"borrow {handles[1]} 20M")["code"], INVALID, "the exporter is dead")
    b.quit()


def storm(machine):
    """Open, write, close, park, resume and kill in any order: every byte is the last one written."""
    seed = int(os.environ.get("AQ_SEED", "11"))
    rng = random.Random(seed)
    machine.start_daemon()
    sizes = ("24M", "3M", "100K", "1000")
    exporters = {name: first(machine, name, sizes, memory=4 * GIB) for name in "ab"}
    handles = {(name, n): handle_of(e, n) for name, e in exporters.items()
               for n in range(len(sizes))}
    written = {key: key[1] + 1 for key in handles}
    importers = [[sibling(machine, exporters[name]), {}] for name in "aab"]

    def step(slot):
        child, held = importers[slot]
        key = rng.choice(list(handles))
        deed = rng.random()
        if deed < 0.05:
            child.kill()
            child.wait()
            importers[slot] = [sibling(machine, exporters[rng.choice("ab")]), {}]
        elif deed < 0.25:
            machine.http("POST", f"/v1/fractions/{key[0]}/{rng.choice(('park', 'resume'))}",
                         {"wait_ms": rng.choice((0, 5, 1000))})
        elif key not in held:
            held[key] = borrow(child, handles[key], sizes[key[1]])
        elif deed < 0.5:
            child.do(f"return {held.pop(key)}")
        elif deed < 0.7:
            written[key] = rng.randrange(100, 1 << 30)
            child.do(f"poke {held[key]} {written[key]}")
            exporters[key[0]].do(f"expect {key[1]} {written[key]}")
        elif deed < 0.9:
            child.do(f"look {held[key]} {written[key]}", bad=0)
        else:
            exporters[key[0]].do("check", bad=0)

    print(f"seed {seed}")
    deadline = time.monotonic() + (3 if aqtest.SHORT else 6)
    while time.monotonic() < deadline:
        step(rng.randrange(len(importers)))
    for child, held in importers:
        for key, lent in held.items():
            child.do(f"look {lent} {written[key]}", bad=0)
            child.do(f"return {lent}")
    for name, exporter in exporters.items():
        await_movable(machine, name, (24 + 4 + 2) * MIB)
        exporter.do("check", bad=0)
    adds_up(machine)


def a_thousand(machine):
    """Handles and openings by the hundred, and not a descriptor left anywhere."""
    machine.start_daemon()
    count = 50 if aqtest.SHORT else 200
    a = first(machine, "a", ["100K"] * count, memory=4 * GIB)
    b = sibling(machine, a)
    before = [aqtest.fd_count(p) for p in (a.pid, b.pid, machine.daemon_pid())]
    for n in range(count):
        lent = borrow(b, handle_of(a, n), "100K")
        if n % 10 == 0:
            b.do(f"look {lent} {n + 1}", bad=0)
        b.do(f"return {lent}")
    eventually(lambda: [aqtest.fd_count(p) for p in (a.pid, b.pid, machine.daemon_pid())] <=
               [n + 1 for n in before], "descriptors are as before")
    a.do("check", bad=0)
    a.quit()
    b.quit()


aqtest.run(siblings_share, fractions_share, devices_share, closed_by_all_moves_again, opening_brings_it_back,
           everybody_opens_everybodys, threads_open_it_together, a_new_daemon_knows_them, without_a_daemon,
           what_is_gone_cannot_be_opened, storm, a_thousand)
