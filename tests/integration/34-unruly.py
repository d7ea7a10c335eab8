#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Programs that do the wrong thing while they launch (tests/programs/unruly.c), each beside one that
works on: they come to their end, nobody calls them liars, and the lease is free when they are gone.
One test for each thing done, named after it."""
import json
import time

import aqtest
from aqtest import between, check, equal, eventually
from spinning import DEEP, MS, Account, Tally, guarded, say

TIME = 600  # ms
LONG = 10   # times that, which a busy host may make of it; what hangs, hangs for longer


def neighbour(machine):
    machine.start_daemon()
    return guarded(machine, "--kernel 200us --depth 50", compute="0.5", name="steady",
                   every=60).begin().go()


def ends(machine, steady, what, time=TIME):
    """Run it to its end. Return: what it says."""
    child = machine.run(aqtest.program("unruly"), what, time, memory="4G", compute="0.5", name=what)
    line = child.line(LONG * TIME / 1000)
    equal(child.wait(), 0, f"exit status of {what} ({line} {child.stderr()[-300:]})")
    said = json.loads(line or "{}")
    say(what, said)
    equal(machine.events("lied") + machine.events("babbled"), [], "who was honest")
    account = Account(machine, [steady])
    account.until(lambda w: w["of_wall"][0] > 0.7, 0.3, f"the device is the neighbour's after {what}")
    return said


def comes_to_its_end(what, least=2, may_fail=False):
    """A test that it does, and that at least so many rounds are gone through until then."""
    def test(machine):
        said = ends(machine, neighbour(machine), what)
        check(said["rounds"] >= least and said["steps"] > 0, f"{what} hardly got on: {said}")
        check(may_fail or not said["failed"], f"calls failed: {said}")
    test.__name__ = what.replace("-", "_")
    return test


def leaves_at_any_moment(machine):
    steady = neighbour(machine)
    equal(ends(machine, steady, "exit", 50), {}, "what it says")
    equal(ends(machine, steady, "exec", 50), {}, "what it says")


def a_context_for_each_thread(machine):
    """Each measures the slices of the others, and the last ones were not known: it was told to have
    lied, and 0.4 of its device time counted."""
    steady = neighbour(machine)
    child = machine.run(aqtest.program("unruly"), "own", 3000, memory="70G", compute="0.5", name="own")
    tally = Tally(machine, "own", [child.pid])
    eventually(lambda: tally.true_ns() > 200 * MS, "its threads work")
    before = tally.read()
    time.sleep(1.5)
    after = tally.read()
    told, true = after["told"] - before["told"], after["true"] - before["true"]
    say("told", round(told / MS), "true", round(true / MS))
    between(told, 0.75 * true - 15 * MS, 1.4 * true + 15 * MS, "device time told")
    equal(child.wait(), 0, "exit status")
    equal(machine.events("lied"), [], "who was honest")
    check(steady.process.poll() is None, "the neighbour")


def a_kernel_of_ten_seconds(machine):
    """The neighbour has the hardware's slices meanwhile, one event says so, and all is paid back."""
    machine.start_daemon()
    steady = guarded(machine, "--kernel 200us --depth 50", 90, compute="0.9", name="steady")
    rude = guarded(machine, "--mode sync --kernel 10s", 90, compute="0.1", name="rude")
    steady.begin().go()
    rude.begin().go()
    eventually(lambda: machine.events("overran"), "the event log says so", 5)
    account = Account(machine, [steady, rude])
    during = account.after(8)["of_wall"]
    say("during", [round(part, 3) for part in during])
    between(during[0], 0.3, 0.7, "of the neighbour during the kernel")
    returned = eventually(lambda: machine.events("returned"), "it ends", 60)[0]
    say(returned["text"])
    equal([(e["fraction"], e["pid"]) for e in machine.events("overran")], [("rude", rude.pid)],
          "who overran, once")
    account.window()
    after = account.after(3)["of_wall"]
    say("after", [round(part, 3) for part in after])
    check(after[0] > 0.9, f"paid back: {after}")  # half of the device was had on a tenth
    equal(machine.events("lied"), [], "who was honest")


def starts_over_and_over(machine):
    """A job that crashes in a kernel too long for its request, and is started again each time: each
    of its fractions is new, and would owe nothing. 0.75 was 0.56 of the device."""
    machine.start_daemon()
    steady = guarded(machine, DEEP["1ms"], compute="0.75", name="steady").begin().go()
    time.sleep(0.5)
    account = Account(machine, [steady])
    until, starts = time.monotonic() + 8, 0
    while time.monotonic() < until:
        job = guarded(machine, "--kernel 400ms --depth 1 --end exit", 0.3, compute="0.01",
                      name=f"job{starts}")
        job.begin().go().wait()
        starts += 1
    had = account.window()["of_wall"][0]
    say("starts", starts, "of the device", had)
    check(starts > 4, f"only {starts} starts")
    check(had > 0.72, f"0.75 had {had} of the device")
    check(any(e["fraction"].startswith("job") for e in machine.events("overran")), "no kernel too long")


aqtest.run(*(comes_to_its_end(what) for what in ("cancel", "contexts", "release", "fork", "spawn",
                                                 "signals", "crowd", "streams", "default")),
           comes_to_its_end("reset", may_fail=True),
           # A round takes a lease or two and whatever it takes to see that nothing moves.
           comes_to_its_end("host-wait"), comes_to_its_end("wait-value"),
           comes_to_its_end("ping-pong", least=64), leaves_at_any_moment,
           a_context_for_each_thread, starts_over_and_over, a_kernel_of_ten_seconds)
