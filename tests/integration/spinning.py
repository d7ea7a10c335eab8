# SPDX-License-Identifier: Apache-2.0
"""Tenants that keep a device busy (tests/programs/spinner.c), and who had how much of it.

What counts is the simulator's own account, read at an instant that it names itself: neither a late
test nor a late tenant changes it. On a real device it is what the tenants say that they got done.
"""
import json
import time

import aqtest
from aqtest import Child, check

US, MS, S = 1000, 1000000, 1000000000

# Everything in flight of a tenant at a time must fit the driver's queue of 1024 launches.
DEEP = {
    "10us": "--kernel 10us --steps 20 --depth 50",
    "100us": "--kernel 100us --steps 2 --depth 100",
    "1ms": "--kernel 1ms --depth 100",
    "10ms": "--kernel 10ms --depth 20",
}
GRAPHS = "--graph 5ms --kernel 50us --depth 8"


# Steps of the kernel in a microsecond. The simulator's takes 1 ns a step; None: each spinner measures
# for itself, which calibrate() does once for all.
rate = None if aqtest.REAL else 1000


def say(*text):
    print("  ", *text, flush=True)


class Spinner(Child):
    """A spinner that waits for go(); its reports as dicts."""

    def begin(self):
        ready = json.loads(self.line() or "{}")
        check("ready" in ready, f"spinner did not begin: {ready} {self.stderr()[-500:]}")
        self.rate = ready["steps_per_us"]
        return self

    def go(self):
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        return self

    def report(self, timeout=None):
        line = self.line(timeout)
        if line is None:
            raise aqtest.Failure(f"spinner ended with {self.wait()}: {self.stderr()[-500:]}")
        answer = json.loads(line)
        check("error" not in answer, f"{self.args[-6:]}: {answer}")
        return answer

    def last(self, timeout=None):
        """The final report, however many others come before."""
        while True:
            answer = self.report(timeout)
            if answer.get("final"):
                return answer


def spinner_args(options, seconds, every=1.0):
    known = ["--rate", str(rate)] if rate else []
    return [aqtest.program("spinner"), "--hold", "--for", f"{seconds}s", "--every", f"{every}s",
            *known, *options.split()]


def guarded(machine, options, seconds=60, every=1.0, env=None, **terms):
    """A spinner in a fraction of its own with those terms; begun, not going."""
    terms.setdefault("memory", "2G")
    args = machine.run_args(spinner_args(options, seconds, every), **terms)
    return machine.spawn(args, env, Spinner)


def plain(machine, options, seconds=60, every=1.0):
    """A spinner on the driver itself: what the hardware's own slicing gives it."""
    if not machine.sim:
        return machine.spawn(spinner_args(options, seconds, every), kind=Spinner)
    env = {"LD_LIBRARY_PATH": str(aqtest.LIB / "sim"), "ALIQUOT_SIM": machine.sim,
           "ALIQUOT_SIM_DIR": str(machine.bare_dir)}
    machine.bare_dir.mkdir(exist_ok=True)
    return machine.spawn(spinner_args(options, seconds, every), env, Spinner)


def calibrate(machine):
    """Measure the kernel on the device, alone, for all spinners that follow."""
    global rate
    if not rate:
        spinner = plain(machine, "--kernel 100us").begin()
        rate = spinner.rate
        spinner.close()


def start(*spinners):
    """All together."""
    for spinner in spinners:
        spinner.begin()
    for spinner in spinners:
        spinner.go()


def device_ns(truth, pid, device=0, what="compute_ns"):
    """Device time of a process, of contexts that have ended too."""
    return sum(c[what] for c in truth["devices"][device]["contexts"] if c["pid"] == pid)


class Truth(Child):
    """aliquot-sim-times that stays: a look takes well under a millisecond."""

    def look(self):
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        return json.loads(self.line() or "{}")


def watch(machine, bare=False):
    if aqtest.REAL:
        raise aqtest.Skip("needs the simulator's account of device time")
    where = machine.bare_dir if bare else machine.rundir / "sim"
    return machine.spawn([aqtest.BUILD / "sim/aliquot-sim-times", where, "-"], kind=Truth)


class Account:
    """Who had how much between two looks."""

    def __init__(self, machine, spinners, bare=False, device=0):
        self.pids, self.device = [s.pid for s in spinners], device
        self.watcher = watch(machine, bare)
        self.before = self.look()

    def look(self):
        truth = self.watcher.look()
        found = truth["devices"][self.device]
        return {"now_ns": found["now_ns"], "all_ns": found["compute_ns"],
                "switched_ns": found["switched_ns"], "switches": found["switches"],
                "gaps": {us: n for us, n in found["gaps_us"]},
                "each_ns": [device_ns(truth, pid, self.device) for pid in self.pids]}

    def window(self):
        """Since the last call (or the beginning)."""
        now, before = self.look(), self.before
        self.before = now
        each = [b - a for a, b in zip(before["each_ns"], now["each_ns"])]
        wall = now["now_ns"] - before["now_ns"]
        return {"wall_ns": wall, "each_ns": each, "busy": sum(each) / wall,
                "of_wall": [ns / wall for ns in each],
                "switches": now["switches"] - before["switches"],
                "gaps": {us: n - before["gaps"].get(us, 0) for us, n in now["gaps"].items()},
                "shares": [ns / max(1, sum(each)) for ns in each]}

    def after(self, seconds):
        time.sleep(seconds)
        return self.window()

    def until(self, good, seconds, what, tries=8):
        """The first window that is good; a busy host may spoil some of them."""
        for _ in range(tries):
            window = self.after(seconds)
            if good(window):
                return window
        raise aqtest.Failure(f"{what}: of the device {window['of_wall']} in the last of {tries} "
                             f"windows of {seconds} s")


def keep(machine, name):
    """A fraction that lasts, however short its programs: an idle tenant without a context."""
    keeper = machine.tenant(start=False, name=name, memory="2G", compute="0.5")
    aqtest.eventually(lambda: "ALIQUOT_FRACTION" in aqtest.fraction_env(keeper.pid),
                      "the keeper runs")
    return keeper


def join(machine, keeper, options, seconds=60):
    """A spinner in the keeper's fraction; begun, not going."""
    return machine.spawn(spinner_args(options, seconds), aqtest.fraction_env(keeper.pid), Spinner)


class Tally:
    """Device time of a fraction, as it is told and as it is true, at instants."""

    def __init__(self, machine, name, pids):
        self.machine, self.name, self.pids = machine, name, pids
        self.truth = watch(machine)

    def true_ns(self):
        device = self.truth.look()["devices"][0]
        mine = [c for c in device["contexts"] if c["pid"] in self.pids]
        return sum(c["compute_ns"] + sum(c["copy_ns"].values()) for c in mine)

    def read(self):
        """`edge`: by how much the true one may be off, for it moved while the other was asked."""
        before = self.true_ns()
        told = self.machine.fraction(self.name)["gpu_time_ns"]
        after = self.true_ns()
        return {"told": told, "true": (before + after) // 2, "edge": (after - before) // 2}

    def at_change(self, patience=3):
        """When told has moved; or, where it does not, at the end of that patience."""
        first, until = self.read(), time.monotonic() + patience
        while time.monotonic() < until:
            now = self.read()
            if now["told"] != first["told"]:
                break
            time.sleep(0.002)
        return now
