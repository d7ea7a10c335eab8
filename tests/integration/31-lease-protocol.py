#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Leases as the daemon gives them, with guards played by hand: what they write into their pages is
up to the test, so each step of the protocol is looked at by itself. Shares are counted in the time
that the played kernels took, as far as a busy machine lets one. What is timed is printed."""
import json
import os
import select
import signal
import socket
import time

import aqtest
import rawclient
from aqtest import between, check, equal, eventually
from spinning import guarded

GRACE_S = 0.02
FOREVER = rawclient.MAX
STANDING = rawclient.MAX - 1  # AQ_LEASE_STANDING


class Player:
    """A process that is a client of a fraction, which it makes first when it is told its terms, and
    then does what it is told: ask("get", "want") calls Lessee.get("want") there. Fractions made
    here end with their players."""

    def __init__(self, machine, fraction, running=True, **terms):
        self.fraction = fraction
        self.path = str(machine.rundir / "aliquotd.sock")
        self.link, there = socket.socketpair()
        self.pid = os.fork()
        if not self.pid:
            self.link.close()
            self._serve(machine, there, running, terms)
        there.close()
        self.file = self.link.makefile("rw")
        self.ended = False
        equal(self.answer(), "ready", "player")

    def _serve(self, machine, there, running, terms):
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            file = there.makefile("rw")
            if terms:
                make(machine, self.fraction, **terms)
            lessee = rawclient.Lessee(self.path)
            lessee.attach(self.fraction, running=running)
            value = "ready"
            while True:
                file.write(json.dumps(value) + "\n")
                file.flush()
                line = file.readline()
                if not line:
                    break
                name, args, more = json.loads(line)
                value = getattr(lessee, name)(*args, **more)
            status = 0
        finally:
            os._exit(status)

    def tell(self, name, *args, **more):
        self.file.write(json.dumps([name, args, more]) + "\n")
        self.file.flush()

    def answer(self, timeout=30):
        check(select.select([self.link], [], [], timeout)[0], f"no answer of {self.fraction}")
        line = self.file.readline()
        check(line, f"player of {self.fraction} died")
        return json.loads(line)

    def ask(self, name, *args, **more):
        self.tell(name, *args, **more)
        return self.answer()

    def get(self, field):
        return self.ask("get", field)

    def put(self, field, value, ring=True):
        self.ask("put", field, value)
        if ring:
            self.ask("ring")

    def want(self, value=1):
        self.put("want", value)

    def has_lease(self):
        return (self.get("lease_until_ns") > rawclient.now_ns() and
                self.get("lease_turn") != self.get("done_turn"))

    def take(self):
        """Wants, and enters as soon as it may. Return: the turn."""
        turn = self.ask("acquire", timeout=20)
        check(turn is not None, f"{self.fraction} has the lease")
        return turn

    def back(self, turn, used_ns=0, want=0):
        self.ask("give_back", turn, used_ns, want)

    def end(self, number=signal.SIGKILL):
        if not self.ended:
            os.kill(self.pid, number)
            os.waitpid(self.pid, 0)
            self.link.close()
        self.ended = True


def start(machine):
    """A daemon with which fractions end soon after their players."""
    return machine.start_daemon(config="linger: 50ms\n")


def make(machine, name, compute=100, limit=1000, **more):
    """A fraction that is held by this process."""
    status, body = machine.http("POST", "/v1/fractions", {
        "name": name, "memory_request_bytes": 1 << 30, "memory_limit_bytes": 1 << 30,
        "compute_request_permille": compute, "compute_limit_permille": limit, **more})
    equal(status, 201, f"POST ({body})")


def players(machine, *names, **terms):
    return [Player(machine, name, compute=200, **terms) for name in names]


def end_all(*all_of_them):
    for player in all_of_them:
        player.end()


def settle(*of):
    """Wait until gates are closed for all of these."""
    for player in of:
        eventually(lambda p=player: p.get("gate") == rawclient.LEASED, "the gate is closed")


def works(players, seconds):
    """All work for so long; device seconds of each."""
    for p in players:
        p.tell("work", seconds)
    return [p.answer() for p in players]


def shares(players, seconds, low, high, what):
    """The first one's part of the time that all had, judged by the first good of some windows: a
    player that has no processor when its turn comes loses it. Return: time of each, in all."""
    total = [0.0] * len(players)
    seen = []
    for _ in range(6):
        used = works(players, seconds)
        total = [t + u for t, u in zip(total, used)]
        seen.append(round(used[0] / sum(used), 3))
        if low <= seen[-1] <= high:
            return total
    raise aqtest.Failure(f"{what}: {seen}, expected {low} to {high}")


def still_waits(machine, player, what):
    """It has no lease; unless this test is slower than the grace that others have."""
    check(not player.get("lease_until_ns") or machine.events("overran"), what)


def mechanism(machine):
    return machine.devices()[0]["mechanism"]


def alone_nothing_happens(machine):
    start(machine)
    one = Player(machine, "one", compute=500)
    one.want()
    time.sleep(0.3)
    for field in ("gate", "gates", "lease_turn", "news", "waiting"):
        equal(one.get(field), 0, field)
    equal(mechanism(machine), "exclusive", "mechanism")
    # A second one without a context changes nothing; with one, it does; and back.
    two = Player(machine, "two", running=False, compute=500)
    time.sleep(0.3)
    equal(one.get("gates"), 0, "gates beside one without a context")
    two.put("contexts", 1)
    settle(one, two)
    equal(mechanism(machine), "leases", "mechanism")
    two.end()
    eventually(lambda: one.get("gates") == 0, "the gate opens again")
    equal(mechanism(machine), "exclusive", "mechanism")
    one.end()


def by_turns(machine):
    """The steps of a hand-over, one by one."""
    start(machine)
    a, b = players(machine, "a", "b")
    settle(a, b)
    turn = a.take()
    equal(a.get("lease_until_ns"), FOREVER, "nobody waits: until told")
    equal(a.get("waiting"), 0, "waiting")
    news = a.get("news")
    b.want()
    eventually(lambda: a.get("lease_until_ns") == 0, "a's lease ends")
    check(a.get("news") > news, "its own thread was told")
    still_waits(machine, b, "b has none while a has work in flight")
    a.back(turn, want=1)
    eventually(lambda: b.get("lease_turn") > 0, "b has it")  # for 4 ms: over by now, perhaps
    # Unused, it is back when its time is over, without a word of b's.
    eventually(lambda: a.get("lease_turn") != turn, "a has had it again")
    equal(machine.events("overran", "b"), [], "overruns")
    end_all(a, b)


def two_want_and_share(machine):
    start(machine)
    both = [Player(machine, f"of-{compute}", compute=compute) for compute in (250, 750)]
    used = shares(both, 1, 0.17, 0.33, "share of the small one")
    told = [machine.fraction(p.fraction)["gpu_time_ns"] / 1e9 for p in both]
    for want, got in zip(used, told):
        between(got, want * 0.95 - 0.1, want * 1.05 + 0.1, "gpu_time_ns")
    text = machine.http("GET", "/metrics")[1]
    check('aliquot_fraction_gpu_seconds_total{fraction="of-250"' in text, "metrics")
    check('aliquot_fraction_lease_wait_seconds_total{fraction="of-750"' in text, "metrics")
    end_all(*both)


def a_high_priority_ends_a_lease(machine):
    start(machine)
    low = Player(machine, "low", compute=200, priority="low")
    other = Player(machine, "other", compute=200, priority="low")
    high = Player(machine, "high", compute=200, priority="high")
    settle(low, other, high)

    def goes_first(first, second):
        """`second` wants before `first`, while low has the lease. This may be too slow: then low
        is not waited for, and `second` served before `first` wants."""
        turn = low.take()
        eventually(lambda: first.get("lease_until_ns") == STANDING, f"{first.fraction} need not ask")
        check(second.get("lease_until_ns") == 0, f"{second.fraction} has to ask")
        before = second.get("lease_turn")
        second.want()
        first.want()
        eventually(lambda: low.get("lease_until_ns") == 0, "the low lease ends")
        low.back(turn, want=0)
        eventually(lambda: first.get("lease_until_ns") not in (0, STANDING),
                   f"{first.fraction} is served")
        passed = second.get("lease_turn") != before
        first.want(0)
        second.want(0)
        return not passed

    def check_first(first, second):
        check(any(goes_first(first, second) for _ in range(20)), f"{first.fraction} goes first")

    check_first(high, other)
    # As it changes, so it counts: now it is the other that goes first.
    equal(machine.http("PATCH", "/v1/fractions/other", {"priority": "high"})[0], 200, "PATCH")
    equal(machine.http("PATCH", "/v1/fractions/high", {"priority": "low"})[0], 200, "PATCH")
    check_first(other, high)
    end_all(low, other, high)


def death_frees_the_lease(machine):
    start(machine)
    third = Player(machine, "third", compute=100)

    def once(kill, name):
        """How long it took, or None where it was the grace that ended the lease."""
        a, b = players(machine, f"a-{name}", f"b-{name}")
        settle(a, b, third)
        a.take()
        b.tell("acquire", timeout=10)
        while a.get("lease_until_ns"):
            pass
        begin = time.monotonic()
        kill(a)
        check(b.answer() is not None, "b has the lease")
        took = time.monotonic() - begin
        late = machine.events("overran", a.fraction)
        end_all(a, b)
        return None if late else took

    for word, kill in (("died", lambda p: p.end()), ("hung up", lambda p: p.ask("close"))):
        tries = (once(kill, f"{word[0]}{i}") for i in range(10))
        took = next((t for t in tries if t is not None), None)
        check(took is not None, "waited for the grace to end, each time")
        print(f"   served {took * 1e3:.1f} ms after the holder {word}")
    third.end()


def an_overrun_is_told_and_charged(machine):
    start(machine)
    hog = Player(machine, "hog", compute=100)
    other = Player(machine, "other", compute=900)
    settle(hog, other)
    turn = hog.take()
    begin = time.monotonic()
    got = other.ask("acquire", timeout=10)
    waited = time.monotonic() - begin
    check(got is not None and waited >= GRACE_S * 0.9, "other goes on after the grace", waited)
    event = eventually(lambda: machine.events("overran", "hog"), "event")[0]
    equal((event["pid"], event["reason"]), (hog.pid, "lease"), "overran")
    equal(event["device"], machine.devices()[0]["uuid"], "overran")
    other.back(got, 0, want=1)
    other.ask("work", 0.5)
    equal(len(machine.events("overran", "hog")), 1, "told once")
    late = int((time.monotonic() - begin) * 1e9)
    hog.back(turn, late, want=0)
    event = eventually(lambda: machine.events("returned", "hog"), "event")[0]
    check("charged" in event["text"], event)
    # It pays: beside a saturating one it gets next to nothing for a while.
    hog.tell("work", 1)
    other.tell("work", 1)
    paid, had = hog.answer(), other.answer()
    check(paid < 0.2 * had, "the debtor had", paid, "the other", had)
    check(machine.fraction("hog")["gpu_time_ns"] <= late * 1.1 + 1e9, "device time of the hog")
    end_all(hog, other)


def stopped_with_the_lease(machine):
    start(machine)
    a, b, c = players(machine, "a", "b", "c")
    settle(a, b, c)
    turn = a.take()
    os.kill(a.pid, signal.SIGSTOP)
    used = shares((b, c), 1, 0.3, 0.7, "share of one of the others")
    check(sum(used) > 0.4, "the others go on", used)
    equal(len(machine.events("overran", "a")), 1, "event")
    os.kill(a.pid, signal.SIGCONT)
    a.back(turn, 1000000, want=0)
    eventually(lambda: machine.events("returned", "a"), "event")
    turn = a.take()
    a.back(turn)
    end_all(a, b, c)


def who_does_not_wake_is_left_out(machine):
    """It wants, is stopped, and sleeps through its lease: once."""
    start(machine)
    sleeper, other = players(machine, "sleeper", "other")
    settle(sleeper, other)
    turn = other.take()
    sleeper.want()
    eventually(lambda: other.get("lease_until_ns") == 0, "the sleeper waits")
    other.back(turn, want=0)
    other.ask("work", 1)
    turns = sleeper.get("lease_turn")
    between(turns, 1, 3, "leases of who never took one, in a second")
    sleeper.ask("ring")
    eventually(lambda: sleeper.get("lease_turn") > turns, "it rings: it counts again")
    end_all(sleeper, other)


def a_cap_holds_alone(machine):
    start(machine)
    one = Player(machine, "one", compute=100, limit=300)
    settle(one)
    begin = time.monotonic()
    used = one.ask("work", 1.5)
    between(used / (time.monotonic() - begin), 0.2, 0.33, "part of the time")
    # Live.
    begin = time.monotonic()
    equal(machine.http("PATCH", "/v1/fractions/one", {"compute_limit_permille": 1000})[0], 200,
          "PATCH")
    eventually(lambda: one.get("gates") == 0, "no cap, no gate")
    took = time.monotonic() - begin
    machine.http("PATCH", "/v1/fractions/one", {"compute_limit_permille": 500})
    settle(one)
    print(f"   a changed cap was in the page after {took * 1e3:.1f} ms at the most")
    check(took < 5, took)
    one.end()


def live_shares(machine):
    start(machine)
    a, b = players(machine, "a", "b")
    shares((a, b), 0.7, 0.4, 0.6, "equal shares")
    machine.cli("resize", "a", "--compute", "0.8")
    shares((a, b), 0.7, 0.7, 0.88, "four fifths")
    end_all(a, b)


def a_daemon_dies_in_contention(machine):
    daemon = start(machine)
    a, b = players(machine, "a", "b")
    works((a, b), 0.5)
    turn = a.take()
    b.want()
    turn_of_b = b.get("lease_turn")
    before = {n: f["gpu_time_ns"] for n, f in machine.fractions().items()}
    machine.kill_daemon(daemon)
    start(machine)
    equal([p.ask("come_back", p.path) for p in (a, b)], [0, 0], "HELLO")
    begin = time.monotonic()
    check(a.get("lease_turn") != turn or a.get("lease_until_ns") == 0, "old leases are over")
    after = {n: f["gpu_time_ns"] for n, f in machine.fractions().items()}
    for name in before:
        check(after[name] >= before[name], "device time goes back", before, after)
    # b wanted before, and wants: it need not say so again. a has its old work still.
    eventually(lambda: b.get("lease_turn") != turn_of_b, "who waited is served")
    print(f"   served {1e3 * (time.monotonic() - begin):.1f} ms after it came back")
    a.back(turn, want=0)
    settle(a, b)
    shares((a, b), 0.7, 0.35, 0.65, "shares are back")
    end_all(a, b)


def a_flood_of_bells(machine):
    start(machine)
    flooder = Player(machine, "flooder", compute=100)
    a, b = players(machine, "a", "b")
    settle(flooder, a, b)
    flooder.tell("flood", 1.5)
    used = works((a, b), 1.5)
    rung = flooder.answer()
    check(rung > 1000, "bells", rung)
    check(sum(used) > 0.5, "the others went on", used, rung)
    check(all(u > 0.1 for u in used), "both of them", used)
    machine.api("/v1/version")
    # A device that it has not.
    flooder.ask("ring", 2)
    eventually(lambda: machine.events("babbled", "flooder"), "event")
    check(flooder.ask("closed"), "the connection is closed")
    end_all(flooder, a, b)


def impossible_device_time(machine):
    start(machine)
    liar, other = players(machine, "liar", "other")
    settle(liar, other)
    begin = time.monotonic()
    for used in (10 ** 15, 10 ** 17, -10 ** 15):
        turn = liar.take()
        liar.back(turn, used)
    event = eventually(lambda: machine.events("lied", "liar"), "event")
    equal([e["reason"] for e in event], ["gpu_time"], "told once")
    told = machine.fraction("liar")["gpu_time_ns"]
    check(told <= (time.monotonic() - begin + 1) * 1e9, "device time", told)
    check(liar.take() > 0, "it is not cut off for that")
    end_all(liar, other)


def time_without_leases(machine):
    """Alone nothing is measured: the driver's samples are the account, over a restart, too."""
    daemon = start(machine)
    alone = guarded(machine, "--kernel 1ms --mode sync --idle 1ms", 60, every=0.5, name="alone")
    alone.begin().go()

    def both():
        done = alone.report()["done_ns"] / 1e9
        return done, machine.fraction("alone")["gpu_time_ns"] / 1e9

    eventually(lambda: machine.fraction("alone")["gpu_time_ns"], "the first sample")
    last = 0.0
    for _ in range(6):
        done, told = both()
        check(told >= last, "device time goes back:", last, told)
        last = told
    # Samples come once a second, and what was before the first is a guess.
    between(told, done - 0.8, done + 0.4, "gpu_time_ns")
    equal([f["mechanism"] for f in machine.devices()], ["exclusive"], "mechanism")
    machine.kill_daemon(daemon)
    start(machine)
    eventually(lambda: machine.events("adopted"), "it comes back")
    told = machine.fraction("alone")["gpu_time_ns"] / 1e9
    check(told >= last, "device time goes back:", last, told)
    eventually(lambda: machine.fraction("alone")["gpu_time_ns"] / 1e9 > told, "and it goes on")
    alone.kill()


def two_processes_have_one_lease(machine):
    start(machine)
    first = Player(machine, "pair", compute=500)
    second = Player(machine, "pair")
    other = Player(machine, "other", compute=500)
    settle(first, second, other)
    turns = [first.take()]
    eventually(second.has_lease, "the second one has it, too")
    turns.append(second.ask("enter"))
    other.want()
    eventually(lambda: first.get("lease_until_ns") == 0, "the end, for one")
    eventually(lambda: second.get("lease_until_ns") == 0, "and for the other")
    first.back(turns[0])
    still_waits(machine, other, "one of them is not out")
    second.end()
    eventually(other.has_lease, "now they are")
    end_all(first, other)


def sixty_four(machine):
    start(machine)
    count = 8 if aqtest.SHORT else 64
    everybody = [Player(machine, f"f{i}", compute=15) for i in range(count)]
    for p in everybody:
        p.tell("work", 3, look_s=0.2)
    used = [p.answer(60) for p in everybody]
    print(f"   of {count}: least {min(used):.3f} s, most {max(used):.3f} s, sum {sum(used):.2f} s")
    check(min(used) > 0, "everybody ran", used)
    check(sum(used) > 1, "the device was used", sum(used))
    # Some of these had to wait for a processor rather than for a lease.
    check(sorted(used)[count // 4] > sum(used) / count / 3, "evenly", sorted(used))
    end_all(*everybody)


if __name__ == "__main__":
    aqtest.run(alone_nothing_happens, by_turns, two_want_and_share, a_high_priority_ends_a_lease,
               death_frees_the_lease, an_overrun_is_told_and_charged, stopped_with_the_lease,
               who_does_not_wake_is_left_out, a_cap_holds_alone, live_shares,
               a_daemon_dies_in_contention, a_flood_of_bells, impossible_device_time,
               time_without_leases, two_processes_have_one_lease, sixty_four)
