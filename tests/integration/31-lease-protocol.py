#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Leases as the daemon gives them, with guards played by hand: what they write into their pages is
up to the test. Shares are counted in turns and in the time that the played kernels took."""
import json
import os
import select
import time

import aqtest
import rawclient
from aqtest import check, equal, eventually


class Player:
    """A process that is a client of a fraction, which it makes first when it is told its terms. It
    does what `play(lessee)` says, then sits there. Its answer, whatever json can carry, comes with
    answer(). Fractions made here end with their players."""

    def __init__(self, machine, fraction, play, **terms):
        self.reader, writer = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self.reader)
            status = 1
            try:
                if terms:
                    make(machine, fraction, **terms)
                lessee = rawclient.Lessee(str(machine.rundir / "aliquotd.sock"))
                lessee.attach(fraction, running=False)
                os.write(writer, b"\n")
                value = play(lessee)
                os.write(writer, json.dumps(value).encode() + b"\n")
                status = 0
                time.sleep(60)
            finally:
                os._exit(status)
        os.close(writer)
        self.buffer = b""
        self.line()

    def line(self, timeout=30):
        end = time.monotonic() + timeout
        while b"\n" not in self.buffer:
            left = end - time.monotonic()
            check(left > 0 and select.select([self.reader], [], [], left)[0], "no answer")
            chunk = os.read(self.reader, 65536)
            check(chunk, f"player {self.pid} died")
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line

    def answer(self, timeout=30):
        return json.loads(self.line(timeout))

    def end(self, number=9):
        os.kill(self.pid, number)
        os.waitpid(self.pid, 0)
        os.close(self.reader)


def make(machine, name, compute=100, limit=1000, **more):
    """A fraction that is held by this process."""
    status, body = machine.http("POST", "/v1/fractions", {
        "name": name, "memory_request_bytes": 1 << 30, "memory_limit_bytes": 1 << 30,
        "compute_request_permille": compute, "compute_limit_permille": limit, **more})
    equal(status, 201, f"POST ({body})")


def run_for(seconds, **how):
    def play(lessee):
        lessee.put("client_state", rawclient.RUNNING)
        lessee.ring()
        used = lessee.work(seconds, **how)
        return {"turns": lessee.turns, "used": used}
    return play


def two_want_and_share(machine):
    machine.start_daemon()
    players = [Player(machine, f"of-{compute}", run_for(3), compute=compute)
               for compute in (250, 750)]
    answers = [p.answer() for p in players]
    for p in players:
        p.end()
    check(all(a["turns"] > 20 for a in answers), answers)
    share = answers[0]["used"] / sum(a["used"] for a in answers)
    check(0.17 < share < 0.33, "share of the small one:", share, answers)


if __name__ == "__main__":
    aqtest.run(two_want_and_share)
