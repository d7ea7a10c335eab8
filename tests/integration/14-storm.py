#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 at random moments of every client and of the daemon, round after round.

Three fractions: in two lives one process that is never killed and holds known bytes with a known
pattern; beside them, and in the third, processes allocate and free all the time and die. Every
fifth death or so is the daemon's. Afterwards used bytes are what the living hold, nobody waits, and
the daemon has no more descriptors and pages than a fresh one with the same clients.

AQ_ROUNDS=1000 runs that many rounds, however long it takes; else as many as fit in 45 seconds.
AQ_SEED repeats a storm.
"""
import http.client
import os
import pathlib
import random
import signal
import time

import aqtest
from aqtest import GIB, OOM, Tally, check, equal, eventually, fd_count

ROUNDS = int(os.environ.get("AQ_ROUNDS", "0"))
SECONDS = 20 if aqtest.SHORT else 45
SEED = int(os.environ.get("AQ_SEED", "0")) or int(time.time())
METHODS = ["linear", "vmm", "async", "pool", "array", "managed", "pitch", "graph"]
UNLUCKY = 5


class Storm:
    def __init__(self, machine):
        self.machine = machine
        self.rng = random.Random(SEED)
        self.daemon_deaths = self.client_deaths = self.starts = 0
        # ensure_daemon() may start one while another comes up: the loser says so and ends with 1.
        machine.daemon_statuses = (0, -9, 1)
        machine.start_daemon()
        self.keepers = [machine.tenant(memory="8G", name="keep-a"),
                        machine.tenant(memory="16G", name="keep-b")]
        for number, keeper in enumerate(self.keepers):
            for method in ("linear", "vmm", "async"):
                keeper.do(f"alloc {method} 700M")
            keeper.do(f"put 0 {number}")
            keeper.do(f"put 1 {number}")
        self.env = aqtest.fraction_env(self.keepers[1].pid)
        self.unlucky = []

    def daemon_pid(self):
        """The daemon that answers, or 0."""
        try:
            return self.machine.api("/v1/version")["pid"]
        except (OSError, ValueError, aqtest.Failure, http.client.HTTPException):
            return 0

    def ensure_daemon(self):
        """Start one; a run that came first may have done so, then that is the one."""
        def up():
            if pid := self.daemon_pid():
                self.machine.daemons.add(pid)
                return True
            try:
                self.machine.start_daemon()
            except aqtest.Failure:
                if not self.daemon_pid():
                    time.sleep(0.02)
            return False

        eventually(up, "a daemon answers")

    def start_unlucky(self):
        """A process that allocates and frees until it dies; does not wait for it to begin."""
        self.starts += 1
        method = self.rng.choice(METHODS)
        size = self.rng.choice(["64K", "1M", "8M", "100M"])
        commands = ["init", "dev 0", f"churn {method} {size} 100000000 {self.starts}"]
        if self.rng.random() < 0.5:
            child = self.machine.spawn([aqtest.program("tenant"), *commands], self.env)
        else:
            child = self.machine.run(aqtest.program("tenant"), *commands, memory="4G",
                                     name=f"u{self.starts}")
        self.unlucky.append(child)

    def bury(self, child):
        child.kill(signal.SIGKILL)
        child.process.wait()
        child.close()
        child.errors.close()
        self.unlucky.remove(child)
        self.machine.children.remove(child)

    def round(self, spare_daemon):
        self.unlucky = [c for c in self.unlucky if c.process.poll() is None or self.dead(c)]
        while len(self.unlucky) < UNLUCKY:
            self.start_unlucky()
        time.sleep(self.rng.random() ** 3 * 0.12)
        if self.rng.random() < 0.2 and not spare_daemon:
            pid = self.daemon_pid()
            if pid:
                os.kill(pid, signal.SIGKILL)
                self.daemon_deaths += 1
            time.sleep(self.rng.random() ** 2 * 0.05)
            self.ensure_daemon()
        else:
            self.bury(self.rng.choice(self.unlucky))
            self.client_deaths += 1

    def dead(self, child):
        """One that ended by itself (it found no daemon, or no room): put it away."""
        child.close()
        child.errors.close()
        self.machine.children.remove(child)
        return False


def check_limits(machine):
    for fraction in machine.fractions().values():
        check(fraction["memory_used_bytes"] <= fraction["memory_limit_bytes"], "over", fraction)


def memfds(pid):
    return pathlib.Path(f"/proc/{pid}/maps").read_text().count("/memfd:")


def storm(machine):
    print(f"seed {SEED}")
    scene = Storm(machine)
    started = time.monotonic()
    done = 0
    while done < ROUNDS if ROUNDS else time.monotonic() - started < SECONDS:
        # A daemon that lives through the last quarter shows what it leaks.
        spare = done >= ROUNDS * 3 // 4 if ROUNDS else time.monotonic() - started > SECONDS * 3 // 4
        scene.round(spare)
        done += 1
        if done % 25 == 0:
            check_limits(machine)
    seconds = time.monotonic() - started
    print(f"{done} rounds in {seconds:.0f} s: {scene.client_deaths} clients and "
          f"{scene.daemon_deaths} daemons killed, {scene.starts} processes started")
    check(scene.client_deaths > 10 and scene.daemon_deaths > 2, "hardly a storm")

    for child in list(scene.unlucky):
        scene.bury(child)
    scene.ensure_daemon()
    eventually(lambda: sorted(machine.fractions()) == ["keep-a", "keep-b"] and
               [len(f["clients"]) for f in machine.fractions().values()] == [1, 1],
               "only the keepers are left")

    # Used bytes are what the living hold: by the ledger, by the clients, by the device.
    for name, keeper in zip(("keep-a", "keep-b"), scene.keepers):
        fraction = machine.fraction(name)
        held = 3 * 700 * (1 << 20)
        check(held <= fraction["memory_used_bytes"] < held + 2 * GIB, f"{name} uses", fraction)
        info = keeper.do("info", timeout=10)
        equal(info["free"], info["total"] - fraction["memory_used_bytes"], f"free of {name}")
    eventually(lambda: machine.devices()[0]["memory_used_bytes"] ==
               sum(f["memory_used_bytes"] for f in machine.fractions().values()),
               "the device holds what the fractions use")

    # The contents are intact, and nobody waits: all of the limit can still be had.
    for number, keeper in enumerate(scene.keepers):
        keeper.do(f"check 0 {number}", timeout=10, bad=0)
        keeper.do(f"check 1 {number}", timeout=10, bad=0)
    for name, keeper in zip(("keep-a", "keep-b"), scene.keepers):
        equal(keeper.ask("squeeze linear 512M")["code"], OOM, "code at the end")
        fraction = machine.fraction(name)
        check(fraction["memory_limit_bytes"] - fraction["memory_used_bytes"] < 4 << 20,
              f"{name} can use all of its limit", fraction)

    # Nothing leaks: the daemon that lived through it against a fresh one with the same clients.
    old = scene.daemon_pid()
    veteran = fd_count(old), memfds(old)
    os.kill(old, signal.SIGKILL)
    eventually(lambda: not aqtest.alive(old), "the daemon is dead")
    scene.ensure_daemon()
    new = scene.daemon_pid()
    eventually(lambda: len({e["pid"] for e in machine.events("adopted")}) == 2,
               "the keepers are adopted")
    fresh = fd_count(new), memfds(new)
    print(f"descriptors and shared pages: {veteran} after the storm, {fresh} fresh")
    check(veteran[0] <= fresh[0] + 2 and veteran[1] == fresh[1] == 2, "leaked:", veteran, fresh)


def nothing_is_exceeded_at_any_moment(machine):
    """Eight churn in one fraction while members die; an account of our own never passes it."""
    machine.start_daemon()
    tally = Tally(machine)
    keeper = machine.tenant(memory="6G", name="tight")
    rng = random.Random(SEED)
    for _ in range(6 if aqtest.SHORT else 15):
        tally.reset()
        members = [machine.sibling(keeper, env=tally.env) for _ in range(3)]
        for number, member in enumerate(members):
            member.send(f"churn {rng.choice(['linear', 'async', 'vmm'])} 512M 1000000 {number + 1}")
        time.sleep(0.1 + rng.random() * 0.2)
        # The dead are not taken off the tally, so look before anybody dies.
        _, peak = tally.read()
        check(0 < peak <= 6 * GIB, "held at once:", peak)
        check_limits(machine)
        for member in members:
            member.kill()
            member.wait()
        eventually(lambda: len(machine.fraction("tight")["clients"]) == 1, "the dead are gone")
    keeper.do("alloc linear 5G")


aqtest.run(storm, nothing_is_exceeded_at_any_moment,
           limit_s=max(240, ROUNDS * 2))
