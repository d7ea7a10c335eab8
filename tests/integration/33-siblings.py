#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Several processes of one fraction at work at once: its gpu_time_ns is what the simulator knows
that they had together, beside another fraction, whatever they launch, and alone. The hardware slices
a lease between them, so each measures its siblings' slices: counted as measured it was 10 to 40 %
too much."""
import time

import aqtest
import spinning
from aqtest import between, check
from spinning import DEEP, MS, Tally, guarded, join, keep, start

WAITS = "--mode sync --kernel 300us"
SHORT = "--mode sync --kernel 50us"
GRAPHS = "--graph 5ms --kernel 50us --depth 8"

WARM = 2.2  # seconds, until the driver has sampled twice
TIME = 2


def members(machine, options):
    keeper = keep(machine, "it")
    spinners = [join(machine, keeper, o) for o in options]
    return spinners, Tally(machine, "it", [s.pid for s in spinners])


def compare(before, after):
    told, true = after["told"] - before["told"], after["true"] - before["true"]
    print(f"   told {told / MS:.1f} true {true / MS:.1f} ms, {100 * (told / true - 1):+.2f} %",
          flush=True)
    # Between two samples it is what was learned of those before; a busy host changes who has what.
    slack = true * 0.03 + 25 * MS + before["edge"] + after["edge"]
    between(told, true - slack, true + slack, "gpu_time_ns")


def beside(machine, *options):
    machine.start_daemon()
    spinners, tally = members(machine, options)
    other = guarded(machine, DEEP["100us"], compute="0.5", name="other")
    start(other, *spinners)
    time.sleep(WARM)
    before = now = tally.read()
    until = time.monotonic() + TIME
    while time.monotonic() < until:
        time.sleep(0.05)
        was, now = now, tally.read()
        check(now["told"] >= was["told"], f"went back from {was['told']} to {now['told']}")
    compare(before, now)


def deep_ones(machine):
    beside(machine, DEEP["100us"], DEEP["100us"])


def short_steps(machine):
    beside(machine, SHORT, SHORT)


def of_each_kind(machine):
    beside(machine, DEEP["100us"], WAITS, GRAPHS, WAITS)


def alone(machine):
    """Without leases it is the driver's samples, to the half percent for each process."""
    machine.start_daemon()
    spinners, tally = members(machine, [DEEP["100us"], WAITS, GRAPHS])
    start(*spinners)
    time.sleep(1.2)
    before = tally.at_change()
    time.sleep(TIME)
    compare(before, tally.at_change())


def one_leaves(machine):
    """The account of who has ended does not move, and who stays is measured again."""
    machine.start_daemon()
    spinners, tally = members(machine, [DEEP["100us"], WAITS])
    other = guarded(machine, DEEP["100us"], compute="0.5", name="other")
    start(other, *spinners)
    time.sleep(WARM)
    before = tally.read()
    spinners[0].kill()
    spinners[0].wait()
    time.sleep(TIME)
    compare(before, tally.read())


aqtest.run(deep_ones, short_steps, of_each_kind, alone, one_leaves)
