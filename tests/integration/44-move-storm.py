#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Real programs in a storm of park, resume, resize and kill -9, of them and of the daemon, while
host memory runs short and the driver refuses calls in the middle of moves: every byte that a living
one has is looked at, all the time and at the end.

AQ_STORM_S=200 lets it storm for so many seconds; else 8. AQ_SEED repeats a storm.
"""
import http.client
import os
import random
import select
import signal
import time

import aqtest
from aqtest import MIB, OOM, check, eventually, program
from rawmover import adds_up

SECONDS = float(os.environ.get("AQ_STORM_S", "5" if aqtest.SHORT else "8"))
SEED = int(os.environ.get("AQ_SEED", "0")) or int(time.time())
NOT_PERMITTED = 800
COUNT = 6
ROOM = 400 * MIB  # for what they allocate, beside their contexts: about half of what they want
LIMIT = 4096 * MIB
STUCK = 90  # seconds that anything may take once the storm is over
# What the guard calls when it moves memory, and the programs do not; and how it may fail.
FAULTS = [("cuMemHostRegister_v2", OOM), ("cuMemCreate", OOM), ("cuMemMap", OOM),
          ("cuMemcpyDtoHAsync_v2", 1), ("cuMemcpyHtoDAsync_v2", 1), ("cuStreamCreate", OOM),
          ("cuMemSetAccess", 1)]


class Member:
    """A program that does one thing at a time, and is not waited for."""

    def __init__(self, child, name, faulty):
        self.child, self.name, self.faulty = child, name, faulty
        self.doing, self.since = None, 0
        self.started = self.working = False

    def poll(self, timeout=0):
        """Take its answer if there is one. Return: it is at rest."""
        if not self.doing:
            return True
        if b"\n" not in self.child.buffer and \
                not select.select([self.child.process.stdout], [], [], timeout)[0]:
            return False
        did, self.doing = self.doing, None
        line = self.child.line()
        if line is None and did == "start":  # the daemon died while it asked for its fraction
            aqtest.equal(self.child.wait(), 125, f"status of {self.name}, not yet started")
            return True
        check(line is not None, f"{self.name} ended at `{did}`: {self.child.stderr()[-500:]}")
        answer = aqtest.words(line)
        # Only what asks for memory may be refused: for want of room, or with what the driver said;
        # and a start while there is no daemon.
        allocates = did.startswith(("alloc", "rest", "start"))
        check(answer["code"] == 0 or (allocates and (answer["code"] == OOM or self.faulty)) or
              (did == "start" and answer["code"] == NOT_PERMITTED),
              f"{self.name}: `{did}`:", answer)
        check(answer.get("bad", 0) == 0, f"{self.name}: wrong bytes after `{did}`:", answer)
        self.started = self.started or (did == "start" and answer["code"] == 0)
        return True

    def begin(self, command):
        self.doing, self.since = command, time.monotonic()
        self.child.send(command)

    def finish(self, command=None):
        if command:
            self.finish()
            self.begin(command)
        check(self.poll(STUCK), f"{self.name}: `{self.doing}` for "
              f"{time.monotonic() - self.since:.0f} s")


class Storm:
    def __init__(self, machine):
        self.machine, self.rng = machine, random.Random(SEED)
        self.config = os.path.join(machine.directory, "config")
        self.members, self.made, self.counts = {}, 0, {}
        machine.daemon_statuses = (0, -signal.SIGKILL, 1)
        self.allow_host("8G")
        machine.start_daemon("--config", self.config)
        total = machine.devices()[0]["memory_total_bytes"]
        first = self.start(faults=False)
        first.finish("alloc 2M")
        context = machine.fraction(first.name)["memory_used_bytes"]
        machine.run("sleep", "3600", name="rest", compute="0.01",
                    memory=total - COUNT * context - ROOM)
        eventually(lambda: "rest" in machine.fractions(), "the rest of the device is taken")

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def http(self, *args):
        """A request; 0 when there is no daemon."""
        try:
            return self.machine.http(*args, timeout=10)[0]
        except (OSError, http.client.HTTPException):
            return 0

    def allow_host(self, size):
        with open(self.config + ".new", "w") as file:
            file.write(f"host_memory: {size}\nmove_timeout: 20s\n")
        os.replace(self.config + ".new", self.config)

    def start(self, faults=True):
        name, rng = f"p{self.made}", self.rng
        self.made += 1
        env = {}
        if faults and rng.random() < 0.6:
            rules = []
            for _ in range(rng.randrange(1, 8)):
                call, code = rng.choice(FAULTS)
                rules.append(f"{call}:{int(1 + rng.random() ** 2 * 60)}={code}")
            env["ALIQUOT_SIM_FAULT"] = ",".join(rules)
        args = self.machine.run_args([program("pattern"), "-"], name=name, movable=True,
                                     memory=rng.choice([0, 0, 40 * MIB]), memory_limit=LIMIT,
                                     compute="0.01", wait="30s")
        member = Member(self.machine.spawn(args, env, aqtest.Tenant), name, bool(env))
        self.members[name] = member
        member.begin("start")
        return member

    # Deeds

    def work(self, m):
        deed = self.rng.random()
        if not m.started:
            self.kill_one(m.name)
        elif m.working and deed < 0.5:
            m.working = False
            m.begin("rest")
        elif deed < 0.3:
            m.begin(f"alloc {self.rng.choice([5, 300, 2048, 20480, 71000])}K")
        elif deed < 0.4 and not m.working:
            m.working = True
            m.begin("work 2")
        else:
            m.begin(self.rng.choice(["check", "check", "info"]))

    def resize(self, name):
        low = self.rng.choice([300, 600, 1000]) * MIB
        body = self.rng.choice([{"memory_limit_bytes": low},
                                {"memory_limit_bytes": low, "force_park": True},
                                {"memory_limit_bytes": LIMIT},
                                {"memory_request_bytes": self.rng.choice([0, 20 * MIB]),
                                 "memory_limit_bytes": LIMIT}])
        try:  # force_park answers when it is done: nobody waits here for that
            link = aqtest.UnixHTTP(str(self.machine.rundir / "api.sock"), 0.2)
            link.request("PATCH", f"/v1/fractions/{name}", aqtest.json.dumps(body),
                         {"Content-Type": "application/json"})
            link.getresponse().read()
            link.close()
        except (OSError, http.client.HTTPException):
            link.close()

    def kill_one(self, name):
        m = self.members.pop(name)
        m.child.kill()
        m.child.process.wait()
        m.child.close()
        self.machine.children.remove(m.child)
        self.start()

    def kill_daemon(self):
        machine = self.machine
        try:
            pid = machine.daemon_pid()
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: not aqtest.alive(pid), "the daemon is dead")
        except (OSError, IndexError, ValueError):
            pass
        time.sleep(self.rng.random() ** 2 * 0.3)
        self.ensure_daemon()

    def ensure_daemon(self):
        """Start one; a program that came first may have done so, without the configuration."""
        def up():
            try:
                self.machine.daemons.add(self.machine.api("/v1/version")["pid"])
                return True
            except (OSError, ValueError, http.client.HTTPException, aqtest.Failure):
                try:
                    self.machine.start_daemon("--config", self.config)
                except aqtest.Failure:
                    time.sleep(0.05)
                return False
        eventually(up, "a daemon answers")

    def shortage(self):
        self.allow_host(self.rng.choice(["1M", "60M", "150M", "8G", "8G"]))
        try:
            os.kill(self.machine.daemon_pid(), signal.SIGHUP)
        except (OSError, IndexError, ValueError):
            pass

    def step(self):
        rng = self.rng
        name = rng.choice(sorted(self.members))
        deed = rng.random()
        if deed < 0.30:
            self.count("parks")
            self.http("POST", f"/v1/fractions/{name}/park", {"wait_ms": 0,
                                                             "hold": rng.random() < 0.1})
        elif deed < 0.50:
            self.count("resumes")
            self.http("POST", f"/v1/fractions/{name}/resume", {"wait_ms": 0})
        elif deed < 0.62:
            self.count("resizes")
            self.resize(name)
        elif deed < 0.68:
            self.count("kills")
            self.kill_one(name)
        elif deed < 0.70:
            self.count("daemons")
            self.kill_daemon()
        elif deed < 0.76:
            self.count("shortages")
            self.shortage()
        for m in list(self.members.values()):
            if m.poll() and rng.random() < 0.3:
                self.work(m)

    def calm(self):
        """Everybody may have what he wants; then everybody has every byte."""
        self.ensure_daemon()
        self.allow_host("8G")
        os.kill(self.machine.daemon_pid(), signal.SIGHUP)
        for name in self.members:
            eventually(lambda n=name: self.http("PATCH", f"/v1/fractions/{n}",
                                                {"memory_limit_bytes": LIMIT}) == 200,
                       f"{name} has its limit again")
            self.http("POST", f"/v1/fractions/{name}/resume", {"wait_ms": 0})
        for m in self.members.values():
            m.finish()
            if m.working:
                m.finish("rest")
            if m.started:
                m.finish("check")


def storm(machine):
    print(f"seed {SEED}, {SECONDS:g} s")
    scene = Storm(machine)
    while len(scene.members) < COUNT:
        scene.start()
    for m in scene.members.values():
        m.finish()
    deadline, steps = time.monotonic() + SECONDS, 0
    while time.monotonic() < deadline:
        scene.step()
        steps += 1
        if steps % 50 == 0:
            adds_up(machine)
        time.sleep(scene.rng.random() ** 2 * 0.06)
    scene.calm()
    print(f"{steps} steps:", ", ".join(f"{n} {what}" for what, n in sorted(scene.counts.items())))
    adds_up(machine)
    lies = machine.events("lied")
    check(not lies, "nobody is a liar:", lies)
    for name in sorted(scene.members):
        fraction = machine.fraction(name)
        check(fraction["memory_used_bytes"] <= fraction["memory_limit_bytes"], "over", fraction)
    for m in scene.members.values():
        m.child.quit()
    eventually(lambda: sorted(machine.fractions()) == ["rest"], "all but one are gone")
    rest = machine.fraction("rest")["memory_request_bytes"]
    device = machine.devices()[0]
    check(device["memory_held_bytes"] == 0 and device["memory_reserved_bytes"] == rest,
          "nothing is left charged:", device)
    eventually(lambda: machine.devices()[0]["memory_used_bytes"] == 0, "nor on the device")


aqtest.run(storm, limit_s=int(SECONDS) + 200)
