#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""300 processes start at once in one fraction: all attach, all end, and it is told how long."""
import time

import aqtest
from aqtest import check, equal, eventually, fd_count, fd_count_at_rest, program, words

COUNT = 300


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def report(answers, what):
    first = min(a["begin_us"] for a in answers)
    last = max(a["begin_us"] + a["init_us"] + a["context_us"] + a["alloc_us"] for a in answers)
    init = [a["init_us"] for a in answers]
    print(f"{len(answers)} processes, {what}: {(last - first) / 1000:.0f} ms from the first to the "
          f"last; cuInit median {percentile(init, .5) / 1000:.1f} ms, "
          f"p99 {percentile(init, .99) / 1000:.1f} ms")
    return (last - first) / 1e6, percentile(init, .5), percentile(init, .99)


def crowd(machine, count, *options, **limits):
    """Start them; returns (the parent, what each said)."""
    parent = machine.run(program("forker"), "many", count, program("starter"), "--hold", *options,
                         name="crowd", **limits)
    answers = [words(parent.line()) for _ in range(count)]
    equal({a["code"] for a in answers}, {0}, "codes")
    equal(len({a["pid"] for a in answers}), count, "different processes")
    return parent, answers


def all_attach(machine):
    daemon = machine.start_daemon()
    witness = machine.tenant(memory="4G", name="witness")
    fds = fd_count_at_rest(daemon.pid)
    started = time.monotonic()
    parent, answers = crowd(machine, COUNT, memory="4G")
    wall = time.monotonic() - started
    fraction = machine.fraction("crowd")
    equal(sorted(c["pid"] for c in fraction["clients"]), sorted(a["pid"] for a in answers),
          "clients of the fraction")
    span, median, p99 = report(answers, "cuInit alone")
    # The bound is for correctness (the fault it guards against took a minute), not for speed.
    check(wall < 30, f"took {wall:.1f} s")
    check(p99 < max(20 * median, 5e6), "one waits much longer than the others:", median, p99)
    check(span < wall, "the clocks agree")
    witness.do("alloc linear 1G")
    parent.process.stdin.close()
    equal(parent.wait(), 0, "exit of all")
    machine.gone("crowd")
    eventually(lambda: fd_count(daemon.pid) <= fds, f"descriptors are back at {fds}")


def with_contexts(machine):
    """100 processes that make a context each; the account is the device's."""
    machine.start_daemon()
    parent, answers = crowd(machine, 60 if aqtest.SHORT else 100, "--context", gpu=1)
    report(answers, "with a context and an allocation")
    fraction = machine.fraction("crowd")
    equal(len(fraction["clients"]), len(answers), "clients")
    equal(sum(c["memory_used_bytes"] for c in fraction["clients"]), fraction["memory_used_bytes"],
          "sum over the clients")
    eventually(lambda: machine.devices()[0]["memory_used_bytes"] ==
               machine.used("crowd"), "the device uses what the fraction does")
    parent.process.stdin.close()
    equal(parent.wait(), 0, "exit of all")
    eventually(lambda: machine.devices()[0]["memory_used_bytes"] == 0, "all came back")


def too_many_contexts_are_refused_not_overdrawn(machine):
    """A fraction that has room for some contexts only: the rest get 2, and the limit holds."""
    machine.start_daemon()
    parent = machine.run(program("forker"), "many", 30, program("starter"), "--hold", "--context",
                         name="narrow", memory="3G")
    answers = [words(parent.line()) for _ in range(30)]
    codes = [a["code"] for a in answers]
    equal(set(codes), {0, 2}, f"codes {codes}")
    fraction = machine.fraction("narrow")
    check(fraction["memory_used_bytes"] <= fraction["memory_limit_bytes"], "over", fraction)
    equal(machine.events("over_limit"), [], "nobody was over it for a moment")
    # Each that is refused is refused before it makes anything, and once.
    equal(len(machine.events("denied")), codes.count(2), "refusals")
    parent.process.stdin.close()
    parent.wait()
    machine.gone("narrow")


def thirty_runs_at_once(machine):
    """Thirty `aliquot run` with no daemon yet: one daemon comes of it, and thirty fractions."""
    runs = [machine.run(program("starter"), "--hold", memory="1G") for _ in range(30)]
    answers = [words(child.line()) for child in runs]
    equal([a["code"] for a in answers], [0] * 30, "codes")
    equal(len(machine.fractions()), 30, "fractions")
    daemons = [pid for pid in machine.ours()
               if open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")[0].endswith(b"aliquotd")]
    equal(len(daemons), 1, "daemons")
    for child in runs:
        child.process.stdin.close()
    equal([child.wait() for child in runs], [0] * 30, "exits")


aqtest.run(all_attach, with_contexts, too_many_contexts_are_refused_not_overdrawn,
           thirty_runs_at_once)
