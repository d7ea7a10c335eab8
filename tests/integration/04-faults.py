#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Fourteen ways in which memory limiters are known to miscount, crash or let through.

Each is a lawful use of the driver API by a program of tests/programs/faults.c; here stands what
has to be seen from outside. Where the answer must be the driver's own, the same program runs on the
simulated driver alone and the two outputs are compared.
"""
import signal
import threading

import aqtest
from aqtest import GIB, MIB, OOM, Tally, check, equal, eventually, on, program, words


def fault(machine, name, **options):
    """Run one fault to its end; its lines as dicts, and the fraction must be gone without trace."""
    options.setdefault("memory", "4G")
    lines = [words(line) for line in machine.output(program("faults"), name, **options)]
    equal(lines[-1].get("ok"), 1, f"{name}: {lines[-1]}")
    return lines


def no_memory_left(machine):
    eventually(lambda: all(d["memory_used_bytes"] == 0 for d in machine.devices()),
               "all device memory is back")


def fault_01_unknown_pointers_are_freed(machine):
    lines = fault(machine, "unknown-free")
    codes = next(line for line in lines if "bogus" in line)
    bare = [words(line) for line in machine.bare(program("faults"), "unknown-free").lines()]
    bare_codes = next(line for line in bare if "bogus" in line)
    equal(codes, bare_codes, "codes for pointers that are none")
    check(codes["bogus"] != 0, "freeing a made-up address succeeded")
    sizes = next(line for line in lines if "before" in line)
    equal(sizes["after"], sizes["before"], "free memory after as before")
    no_memory_left(machine)


def fault_02_stream_ordered_refusal_is_2(machine):
    lines = fault(machine, "pool-limit")
    check(7 <= lines[0]["fitted"] <= 8, "eighths that fitted:", lines[0])
    equal({e["reason"] for e in machine.events("denied")} - {""} != set(), True, "denied events")


@on("h100:2")
def fault_03_vmm_is_charged_where_it_is(machine):
    fault(machine, "vmm-device", gpus=2)
    no_memory_left(machine)


def fault_04_map_and_release_in_a_loop(machine):
    stop = threading.Event()
    highest = []

    def watch():
        while not stop.is_set():
            try:
                for fraction in machine.fractions().values():
                    highest.append((fraction["memory_used_bytes"], fraction["memory_limit_bytes"]))
            except (OSError, ValueError, aqtest.Failure):
                pass

    machine.start_daemon()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        fault(machine, "vmm-loop")
    finally:
        stop.set()
        watcher.join()
    check(highest, "nothing was seen")
    over = [pair for pair in highest if pair[0] > pair[1]]
    check(not over, "seen above the limit:", over[:3])
    no_memory_left(machine)


def fault_05_refused_calls_leave_nothing(machine):
    fault(machine, "boundary")
    no_memory_left(machine)


@on("h100:2")
def fault_06_freed_from_another_context_and_thread(machine):
    fault(machine, "other-context", gpus=2)
    no_memory_left(machine)


def fault_07_null_out_pointers(machine):
    guarded = machine.output(program("faults"), "null-out", memory="4G")
    bare = machine.bare(program("faults"), "null-out")
    expected = bare.lines()
    equal(bare.wait(), 0, "exit of the bare program")
    check(len(expected) > 40, "too few lines:", len(expected))
    different = [f"{b!r} -> {g!r}" for b, g in zip(expected, guarded) if b != g]
    check(not different and len(guarded) == len(expected), "not the driver's own answer:",
          *different)


def fault_08_processes_race_at_the_boundary(machine):
    """Eight processes of one fraction allocate at once: see 16-boundary-race for the long form."""
    tally = Tally(machine)
    runner = machine.run(program("forker"), "many", 8, program("tenant"), "init", "dev 0",
                         "fill linear 8M 60", "sleep 300", memory="8G", env=tally.env)
    lines = [words(line) for line in runner.lines()]
    equal(runner.wait(), 0, "exit of the eight")
    equal(len([line for line in lines if line["verb"] == "fill"]), 8, "fills")
    _, peak = tally.read()
    check(0 < peak <= 8 * GIB, "held at once:", peak)
    no_memory_left(machine)


def fault_09_killed_while_allocating(machine):
    """kill -9 in the middle of a tight loop, 12 times: nobody spins, nothing stays charged."""
    machine.start_daemon()
    other = machine.tenant(memory="4G", name="other")
    before = other.free()
    for round_number in range(12):
        victim = machine.tenant(memory="4G", name=f"victim-{round_number}")
        victim.send("churn linear 4M 100000000 %d" % (round_number + 1))
        aqtest.time.sleep(0.02 + 0.013 * round_number)
        victim.kill(signal.SIGKILL)
        victim.wait()
        eventually(lambda: machine.fractions().get(f"victim-{round_number}", {}).get(
            "memory_used_bytes", 0) == 0, "its memory is back")
        other.do("alloc linear 1M")
        other.do("free last")
    equal(other.free(), before, "free of the other")
    eventually(lambda: machine.devices()[0]["memory_used_bytes"] == machine.used("other"),
               "only the living hold memory")


def fault_10_siblings_are_killed(machine):
    """Two processes of one fraction; one dies; what the other holds stays counted, to the byte."""
    survivor = machine.tenant(memory="8G", name="pair")
    for _ in range(5):
        sibling = machine.sibling(survivor)
        sibling.do("alloc linear 1G")
        survivor.do("alloc linear 100M")
        sibling.send("churn linear 4M 100000000 3")
        aqtest.time.sleep(0.05)
        sibling.kill(signal.SIGKILL)
        sibling.wait()
        eventually(lambda: len(machine.fraction("pair")["clients"]) == 1, "the sibling is gone")
    info = survivor.do("info")
    fraction = machine.fraction("pair")
    equal(fraction["clients"][0]["memory_used_bytes"], fraction["memory_used_bytes"], "one client")
    equal(info["free"], info["total"] - fraction["memory_used_bytes"], "free")
    check(fraction["memory_used_bytes"] >= 500 * MIB, "five times 100 MiB:", fraction)
    filled = survivor.ask("squeeze linear 1G")
    equal(filled["code"], OOM, "code at the end")
    equal(machine.used("pair"), fraction["memory_limit_bytes"], "all of it can be used")


def fault_11_every_method_is_charged(machine):
    lines = fault(machine, "every-method")
    methods = [line["method"] for line in lines if "method" in line]
    equal(methods, ["linear", "pitch", "managed", "array", "array3d", "mipmap", "vmm", "async",
                    "pool", "graph"], "methods")
    no_memory_left(machine)


def fault_12_resolved_entry_points_are_held(machine):
    fault(machine, "resolved")
    fault(machine, "graph-replay")
    no_memory_left(machine)


@on("h100:2")
def fault_13_device_order(machine):
    """CUDA_VISIBLE_DEVICES=1,0: device 0 of the program is the second of the machine."""
    machine.start_daemon()
    uuids = [d["uuid"] for d in machine.devices()]
    holder = machine.tenant(memory="4G", gpus=2, name="swapped")
    env = aqtest.fraction_env(holder.pid)
    equal(sorted(env["CUDA_VISIBLE_DEVICES"].split(",")), sorted(uuids), "both devices")
    env["CUDA_VISIBLE_DEVICES"] = ",".join(reversed(uuids))
    before = {d["uuid"]: d["memory_used_bytes"] for d in machine.devices()}
    child = machine.spawn([program("faults"), "order"], env)
    seen = {}
    while True:
        line = child.line()
        check(line is not None, "the program ended early:", child.stderr())
        answer = words(line)
        if "uuid" in answer:
            raw = str(answer["uuid"])
            seen[answer["device"]] = f"GPU-{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"
        if answer.get("holding"):
            break
    equal([seen[0], seen[1]], list(reversed(uuids)), "uuids as the program has them")
    # Both made a context; what differs is what was allocated: 100 and 300 MiB.
    after = {d["uuid"]: d["memory_used_bytes"] for d in machine.devices()}
    grown = {u: after[u] - before[u] for u in uuids}
    equal(grown[uuids[0]] - grown[uuids[1]], 200 * MIB, f"difference between devices {grown}")
    child.process.stdin.close()
    equal(child.wait(), 0, "exit")


def fault_14_long_and_tiny_kernels(machine):
    """Shares of compute are not divided yet; both kinds of launch must go through all the same."""
    fault(machine, "long-kernel")



aqtest.run(*[test for name, test in sorted(globals().items()) if name.startswith("fault_")])
