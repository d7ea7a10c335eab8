#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Many at once: 300 that attach together, 1,000 that sit idle on 16 devices, and their deaths.

Times depend on the machine and on what else it does: the limits here catch what grows with the
square, the figures are for bench/.
"""
import os
import socket
import subprocess
import threading
import time

from aqd import GIB, run, wait_for

SWARM = os.environ["AQ_SWARM"]


def swarm(d, clients, idle, fractions):
    out = subprocess.run([SWARM, d.path("aliquotd.sock"), str(d.process.pid), str(clients), str(idle)]
                         + fractions, stdout=subprocess.PIPE, timeout=120, check=True, text=True)
    print(out.stdout.strip(), flush=True)
    return {k: int(v) for k, v in (w.split("=") for w in out.stdout.split())}


def test_300_attach_at_once(daemon):
    with daemon() as d:
        names = [d.create(gpu_permille=100)["name"] for _ in range(10)]
        slow = 10 if d.sanitized() else 1
        fds = len(os.listdir("/proc/%d/fd" % d.process.pid))
        for _ in range(2):
            r = swarm(d, 300, 0, names)
            assert r["attached"] == 300
            assert r["p99_us"] < 300000 * slow and r["max_us"] < 1000000 * slow, r
            wait_for(lambda: all(not f["clients"] for f in d.get("/v1/fractions")), 5)
        time.sleep(0.2)
        assert len(os.listdir("/proc/%d/fd" % d.process.pid)) <= fds + 2
        maps = open("/proc/%d/maps" % d.process.pid).read()
        assert "aliquot-page" not in maps
        d.check()


def test_1000_idle(daemon):
    with daemon(sim="fake:16") as d:
        names = [d.create(gpus=16, memory_limit_bytes=GIB, compute_request_permille=10)["name"]
                 for _ in range(20)]
        slow = 10 if d.sanitized() else 1
        r = swarm(d, 1000, 4, names)
        assert r["attached"] == 1000 and r["idle_permille"] < 40 * slow, r
        wait_for(lambda: all(not f["clients"] for f in d.get("/v1/fractions")), 10)
        d.check()


def test_nobody_there_costs_nothing(daemon):
    with daemon() as d:
        d.create(gpu_permille=100)

        def wakes():
            with open("/proc/%d/status" % d.process.pid) as f:
                return [int(l.split()[1]) for l in f if l.startswith("voluntary_ctxt_switches")][0]
        time.sleep(0.3)
        before = wakes()
        time.sleep(2)
        assert wakes() - before <= 2, wakes() - before


def test_patience(daemon):
    """Who waits for room or follows events is not timed out, as an idle connection is."""
    with daemon() as d:
        d.create(name="a")
        answer = []
        waits = threading.Thread(target=lambda: answer.append(
            d.call("POST", "/v1/fractions", {"name": "w", "gpu_permille": 500, "wait_ms": -1}, 60)))
        waits.start()
        follows, idle = (socket.socket(socket.AF_UNIX) for _ in range(2))
        for s in follows, idle:
            s.settimeout(30)
            s.connect(d.path("api.sock"))
        follows.sendall(b"GET /v1/events?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        start = time.monotonic()
        assert idle.recv(1) == b"" and 10 < time.monotonic() - start < 25
        time.sleep(1)
        d.call("PATCH", "/v1/fractions/a", {"gpu_permille": 100})
        waits.join(10)
        assert answer[0]["name"] == "w"
        text = b""
        while b"resized" not in text:
            more = follows.recv(65536)
            assert more, "the stream ended: %r" % text
            text += more


if __name__ == "__main__":
    run([v for k, v in list(globals().items()) if k.startswith("test_")])
