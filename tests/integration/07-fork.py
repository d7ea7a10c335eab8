#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""fork with and without exec, before and after cuInit, and children with an empty environment."""

import aqtest
from aqtest import GIB, MIB, OOM, check, equal, eventually, program, words


def by_verb(lines):
    return {answer["verb"]: answer for answer in map(words, lines)}


def fork_before_init(machine):
    answers = by_verb(machine.output(program("forker"), "before", memory="4G"))
    for side in ("child", "parent"):
        equal(answers[side]["code"], 0, side)
        equal(answers[side]["total"], 4 * GIB, f"total of the {side}")
    equal(answers["forker"]["child_exit"], 0, "exit of the child")
    # The child is dead by then, and what it held is back: the parent has one context and 32 MiB.
    check(answers["parent"]["free"] > answers["child"]["free"], "the child's memory came back",
          answers)


def fork_after_init(machine):
    """The child cannot use the driver of its parent; it must not disturb the parent's account."""
    answers = by_verb(machine.output(program("forker"), "after", memory="4G"))
    bare = by_verb(machine.bare(program("forker"), "after").lines())
    equal(answers["child"]["code"], bare["child"]["code"], "what the child gets")
    equal(answers["child"]["step"], bare["child"]["step"], "where the child gets it")
    equal(answers["forker"]["child_exit"], 0, "exit of the child")
    equal(answers["forker"]["after"], answers["forker"]["before"], "free of the parent")
    equal(answers["forker"]["free"], 0, "the parent frees what it holds")


def forked_child_outlives_its_parent(machine):
    """The parent dies; the quiet child holds copies of its descriptors and must not hold its
    memory."""
    machine.start_daemon()
    runner = machine.run(program("forker"), "after-quiet", memory="4G", name="quiet")
    parent = words(runner.line())
    equal(parent["code"], 0, "parent")
    child = words(runner.line())["child"]
    equal(runner.wait(), 0, "exit of the parent")
    check(aqtest.alive(child), "the child lives")

    def back():
        found = machine.fractions().get("quiet")
        return machine.devices()[0]["memory_used_bytes"] == 0 and (
            not found or found["memory_used_bytes"] == 0)

    eventually(back, "the parent's memory is back while its child lives")
    check(aqtest.alive(child), "the child still lives")
    runner.process.stdin.close()
    eventually(lambda: not aqtest.alive(child), "the child ends")


def fork_and_exec(machine):
    lines = machine.output(program("forker"), "exec", program("tenant"), "init", "dev 0", "info",
                           "alloc linear 5G", memory="4G")
    answers = by_verb(lines)
    equal(answers["info"]["total"], 4 * GIB, "total of the child")
    equal(answers["alloc"]["code"], OOM, "over the limit")


def empty_environment(machine):
    """`env -i` under run: caught by the loader's cache in run's own mount namespace."""
    aqtest.need_mount_namespace(machine)
    lines = machine.output(program("forker"), "env-i", program("tenant"), "init", "dev 0", "info",
                           "alloc linear 5G", "alloc linear 64M", memory="4G", name="bare-child")
    allocs = [a for a in map(words, lines) if a["verb"] == "alloc"]
    equal(by_verb(lines)["info"]["total"], 4 * GIB, "total of the child")
    equal([a["code"] for a in allocs], [OOM, 0], "over and under the limit")
    out = machine.output("/usr/bin/env", "-i", program("loaders"), "local", memory="4G")
    equal(words(out[-1])["total"], 4 * GIB, "total under env -i")


def children_share_one_limit(machine):
    """Six children of one fraction, 1 GiB each at most in a fraction of 5 GiB."""
    runner = machine.run(program("forker"), "many", 6, program("tenant"), "init", "dev 0",
                         "fill linear 16M 64", "sleep 1500", memory="5G", name="family")
    fills = []
    highest = 0
    while (line := runner.line()) is not None:
        answer = words(line)
        if answer["verb"] == "fill":
            fills.append(answer)
            highest = max(highest, machine.used("family"))
    equal(runner.wait(), 0, "exit")
    equal(len(fills), 6, "fills")
    total = sum(f["bytes"] for f in fills)
    check(total <= 5 * GIB and highest <= 5 * GIB, "over the limit:", total, highest)
    check(any(f["code"] == OOM for f in fills), "nobody was refused:", fills)
    check(total > 1 * GIB, "too little in all:", total)
    machine.gone("family")
    check(machine.devices()[0]["memory_used_bytes"] < MIB, "device memory is back")


aqtest.run(fork_before_init, fork_after_init, forked_child_outlives_its_parent, fork_and_exec,
           empty_environment, children_share_one_limit)
