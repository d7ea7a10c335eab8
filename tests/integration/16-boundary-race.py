#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Eight processes of one fraction allocate at its boundary at once: never one byte over, and all
of it can be had."""
import aqtest
from aqtest import GIB, MIB, OOM, Tally, between, check, equal, eventually

COUNT = 8
PAGE = 2 * MIB  # what the device gives at a time


def eight(machine, **limits):
    tally = Tally(machine)
    first = machine.tenant(name="race", env=tally.env, **limits)
    members = [first] + [machine.sibling(first, env=tally.env) for _ in range(COUNT - 1)]
    return tally, members


def ask_all(members, command):
    for member in members:
        member.send(command)
    return [member.answer() for member in members]


def squeeze_all(machine, steps):
    """All eight halve their wishes until not even a grain is left, once for each first step."""
    machine.start_daemon()
    tally, members = eight(machine, memory="8G")
    overhead = machine.used("race")
    check(0 < overhead < 6 * GIB, "eight contexts:", overhead)
    for step in steps:
        tally.reset()
        filled = ask_all(members, f"squeeze linear {step}")
        equal({f["code"] for f in filled}, {OOM}, "codes at the end")
        total = sum(f["bytes"] for f in filled)
        fraction = machine.fraction("race")
        limit = fraction["memory_limit_bytes"]
        now, peak = tally.read()
        equal(now, total, "the account of the tenants")
        equal(peak, total, "never more than at the end")
        check(overhead + peak <= limit, f"over by {overhead + peak - limit}")
        between(limit - fraction["memory_used_bytes"], 0, PAGE - 1, f"left with {step}")
        device = machine.devices()[0]["memory_used_bytes"]
        check(device <= limit, f"the device gave {device - limit} more than the limit")
        equal({f["code"] for f in ask_all(members, "alloc linear 2M")}, {OOM}, "a page more")
        equal({f["code"] for f in ask_all(members, "free all")}, {0}, "frees")
        eventually(lambda: machine.used("race") <= overhead + 8 * MIB, "all came back")


def to_the_last_grain(machine):
    squeeze_all(machine, ["64M"])


def to_the_last_page_with_odd_steps(machine):
    squeeze_all(machine, ["3M", "1100K", "100K"])


def churning_at_the_boundary(machine):
    """All eight allocate and free at random for a while; the highest sum ever held is within."""
    machine.start_daemon()
    tally, members = eight(machine, memory="6G")
    overhead = machine.used("race")
    limit = machine.fraction("race")["memory_limit_bytes"]
    refusals = 0
    for number, method in enumerate(("linear", "linear", "vmm", "async")):
        tally.reset()
        rounds = 60 if aqtest.SHORT else 200
        for i, member in enumerate(members):
            member.send(f"churn {method} 256M {rounds} {number * 100 + i + 1}")
        seen = 0
        answers = []
        for member in members:
            answers.append(member.answer())
            seen = max(seen, machine.used("race"))
        equal({a["other"] for a in answers}, {0}, f"{method}: odd codes {answers}")
        refusals += sum(a["oom"] for a in answers)
        _, peak = tally.read()
        check(peak > (limit - overhead) // 2, f"{method}: they never came near: {peak}")
        check(overhead + peak <= limit, f"{method}: over by {overhead + peak - limit}")
        check(seen <= limit, f"{method}: seen over by {seen - limit}")
    check(refusals > 50, "hardly a refusal:", refusals)


def two_fractions_do_not_touch_each_other(machine):
    """Two fractions at their boundaries on one device that they fill together."""
    machine.start_daemon()
    pairs = []
    for name in ("left", "right"):
        first = machine.tenant(gpu=0.5, name=name)
        pairs.append((name, [first] + [machine.sibling(first) for _ in range(3)]))
    everybody = [m for _, members in pairs for m in members]
    filled = ask_all(everybody, "squeeze linear 2G")
    equal({f["code"] for f in filled}, {OOM}, "codes")
    for name, _ in pairs:
        fraction = machine.fraction(name)
        between(fraction["memory_limit_bytes"] - fraction["memory_used_bytes"], 0, 16 * MIB,
                f"left of {name}")
    device = machine.devices()[0]
    check(device["memory_used_bytes"] <= device["memory_total_bytes"], "the device", device)


aqtest.run(to_the_last_grain, to_the_last_page_with_odd_steps, churning_at_the_boundary, two_fractions_do_not_touch_each_other)
