#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Who exports, who borrows, and what the daemon keeps of it: honest clients, and others."""
import json
import os
import random
import time
import socket

from aqd import (ASK_REPLY, CLOSE, CLOSED, EINVAL, EMFILE, ENOENT, EXPORT, GIB, IMPORT_REPLY,
                 LEND, MIB, NOTHING, SHARE_REPLY, WANTED, WITHDRAW, Guard, Remote, ask, borrow,
                 export, head, lend, run, wait_for)

EAGAIN, EEXIST, ECANCELED, EIO = 11, 17, 125, 5
PIECE = 2 * MIB


def token(n):
    return ("%032x" % (n + 1 << 64 | random.getrandbits(64)))


class Sharer(Guard):
    """A guard that shares; tokens are in hexadecimal, descriptors are named by what they are."""

    def export(self, t):
        return self.ask(SHARE_REPLY, export(bytes.fromhex(t), seq=self.next()))[0]["result"]

    def withdraw(self, t):
        self.raw(export(bytes.fromhex(t), kind=WITHDRAW, seq=self.next()))

    def borrow(self, t, at=0, number=1):
        """[the reply, what is in the descriptor that came]"""
        reply, fds = self.ask(IMPORT_REPLY, borrow(bytes.fromhex(t), at, number, seq=self.next()))
        texts = [os.pread(fd, 100, 0).decode() for fd in fds]
        for fd in fds:
            os.close(fd)
        return [reply, texts]

    def give_back(self, number=1):
        packet = borrow(bytes(16), number=number, kind=CLOSE, seq=self.next())
        return self.ask(SHARE_REPLY, packet)[0]["result"]

    def what(self):
        return self.ask(ASK_REPLY, ask(seq=self.next()))[0]

    def lend(self, loan, kind="memory", text="", **how):
        made = self.make(kind, text)
        try:
            packet = lend(loan, seq=self.next(), **how)
            return self.ask(SHARE_REPLY, packet, made[:1])[0]["result"]
        finally:
            for fd in made:
                os.close(fd)

    def lend_how(self, loan, kind, how):
        return self.lend(loan, kind, **how)

    @staticmethod
    def make(kind, text=""):
        if kind == "none":
            return []
        if kind == "memory":
            fd = os.memfd_create("lent")
            os.write(fd, text.encode())
            return [fd]
        if kind == "device":
            return [os.open("/dev/null", os.O_RDWR)]
        if kind == "directory":
            return [os.open("/", os.O_RDONLY)]
        if kind == "socket":
            return [s.detach() for s in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)]
        return list(os.pipe())

    def shares(self):
        return self.get("shares")

    def many_exports(self, first, count):
        """Results other than 0, and how many there were of those."""
        odd = {}
        for n in range(first, first + count):
            r = self.export("%032x" % (n + 1 << 100))
            if r:
                odd[str(r)] = odd.get(str(r), 0) + 1
        return odd

    def babble(self, packet, kinds):
        fds = [fd for kind in kinds for fd in self.make(kind)]
        self.raw(bytes.fromhex(packet), fds)
        for fd in fds:
            os.close(fd)
        return self.closed()


class Apart(Remote):
    guard = Sharer


def two(d, one="f", other="f"):
    for name in {one, other}:
        d.create(name=name, memory_limit_bytes=GIB)
    return Apart(d, one), Apart(d, other)


def fds(d):
    return len(os.listdir("/proc/%d/fd" % d.process.pid))


def fds_at_rest(d):
    """Without those that are open for a moment."""
    counts = []
    while len(counts) < 10 or len(set(counts[-10:])) > 1:
        counts.append(fds(d))
        time.sleep(0.01)
    return counts[-1]


def await_noted(d, count):
    def noted():
        with open(d.path("state.json")) as f:
            return sum(len(x["loans"]) for x in json.load(f)["fractions"])
    wait_for(lambda: noted() == count)


def lent(a, b, t, text="bytes", number=1):
    """The whole of it: b gets what a lends. Return: number of the loan."""
    assert b.borrow(t, 0, number)[0]["result"] == -EAGAIN
    asked = a.what()
    assert (asked["what"], asked["token"], asked["at"]) == (WANTED, t, 0), asked
    assert b.borrow(t, 0, number)[0]["result"] == -EAGAIN
    assert a.lend(asked["loan"], "memory", text) == 0
    reply, texts = b.borrow(t, 0, number)
    assert (reply["result"], reply["piece"], texts) == (0, PIECE, [text]), (reply, texts)
    return asked["loan"]


def test_lent_and_given_back(daemon):
    with daemon() as d:
        a, b = two(d)
        t = token(1)
        assert a.export(t) == 0 and a.export(t) == 0
        assert b.export(t) == -EEXIST and a.export("0" * 32) == -EINVAL
        quiet = fds_at_rest(d)
        turn = a.shares()
        loan = lent(a, b, t)
        assert a.shares() > turn and a.what()["what"] == NOTHING
        assert fds_at_rest(d) == quiet  # nothing of it stays with the daemon
        assert b.give_back() == 0
        told = a.what()
        assert (told["what"], told["loan"]) == (CLOSED, loan), told
        assert a.what()["what"] == NOTHING
        a.withdraw(t)
        wait_for(lambda: b.borrow(t)[0]["result"] == -ENOENT)
        a.end(), b.end()


def test_fractions_of_one_user_share(daemon):
    with daemon() as d:
        a, b = two(d, "f", "g")
        t = token(2)
        a.export(t)
        lent(a, b, t)
        assert a.borrow(t)[0]["result"] == -ENOENT  # its own is not for it
        a.end(), b.end()


def test_users_do_not_share(daemon):
    if os.getuid() != 0:
        return
    with daemon() as d:
        for path in d.dir, d.rundir:
            os.chmod(path, 0o755)
        for name in "aliquotd.sock", "api.sock":
            os.chmod(d.path(name), 0o666)
        d.create(name="f", memory_limit_bytes=GIB)
        a = Apart(d, "f")
        t = token(3)
        a.export(t)
        pid = os.fork()
        if not pid:
            os.setuid(65534)
            try:
                d.create(name="its", gpu_permille=10)
                g = Sharer(d.path("aliquotd.sock"), "its")
                reply = g.borrow(t)[0]
                os._exit(0 if reply["result"] == -ENOENT and g.export(t) == -EEXIST else 1)
            except BaseException as e:  # pylint: disable=broad-except
                print(repr(e))
                os._exit(2)
        assert os.waitpid(pid, 0)[1] == 0
        assert a.what()["what"] == NOTHING
        a.end()


def test_the_dead_lend_and_keep_nothing(daemon):
    with daemon() as d:
        a, b = two(d)
        t, u = token(4), token(5)
        a.export(t), a.export(u)
        loan = lent(a, b, t)
        # the borrower dies: told; once while it has it, once while it is on its way
        b.borrow(u, 0, 7)
        wanted = a.what()
        b.end()
        wait_for(lambda: a.what()["loan"] == loan)
        assert a.lend(wanted["loan"]) == -ECANCELED
        assert a.lend(wanted["loan"]) == -ENOENT
        b = Apart(d, "f")
        b.borrow(u)
        assert a.lend(a.what()["loan"]) == 0
        quiet = fds_at_rest(d)
        b.end()  # with the descriptor still on its way
        told = wait_for(lambda: (lambda r: r["what"] and r)(a.what()))
        assert told["what"] == CLOSED
        assert fds_at_rest(d) < quiet
        # the exporter dies: nobody gets anything any more
        b = Apart(d, "f")
        b.borrow(u)
        asked = a.what()
        a.lend(asked["loan"])
        a.end()
        wait_for(lambda: b.borrow(u)[0]["result"] == -ENOENT)
        assert b.borrow(t, 0, 3)[0]["result"] == -ENOENT and b.give_back() == 0
        b.end()


def test_a_failure_reaches_the_borrower(daemon):
    with daemon() as d:
        a, b = two(d)
        t = token(6)
        a.export(t)
        b.borrow(t)
        assert a.lend_how(a.what()["loan"], "none", {"result": -EIO}) == 0
        assert b.borrow(t)[0]["result"] == -EIO
        assert b.borrow(t)[0]["result"] == -EAGAIN  # and it may ask again
        assert a.what()["what"] == WANTED
        a.end(), b.end()


def test_descriptors_that_cannot_be_memory(daemon):
    with daemon() as d:
        a, b = two(d)
        t = token(7)
        a.export(t)
        quiet = fds_at_rest(d)
        for kind in "pipe", "socket", "directory":
            b.borrow(t)
            assert a.lend(a.what()["loan"], kind) == -EINVAL, kind
            assert b.borrow(t)[0]["result"] == -EIO, kind
        for how in {"at": PIECE, "span": 2 * PIECE}, {"piece": 0}, {"size": 0}:
            b.borrow(t)
            assert a.lend_how(a.what()["loan"], "memory", how) == -EINVAL, how
            assert b.borrow(t)[0]["result"] == -EIO, how
        b.borrow(t)
        assert a.lend(a.what()["loan"], "device") == 0  # as a driver's are; /dev/null it is
        b.give_back()
        assert fds_at_rest(d) == quiet
        a.end(), b.end()


def test_senseless_messages_end_the_connection(daemon):
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        good = bytes(range(16))
        for packet, kinds in ((lend(1), []), (lend(1, result=-5), ["memory"]),
                              (lend(1), ["memory", "memory"]), (lend(1, result=3), ["memory"]),
                              (lend(1, at=-1), ["memory"]), (lend(1, size=-1), ["memory"]),
                              (export(good), ["memory"]), (borrow(good), ["memory"]),
                              (ask(), ["memory"]), (head(ASK_REPLY, bytes(40)), []),
                              (head(SHARE_REPLY, bytes(8)), []), (head(LEND, bytes(8)), []),
                              (head(EXPORT, bytes(17)), []), (ask(abi=2), [])):
            g = Apart(d, "f")
            quiet = fds_at_rest(d)
            assert g.babble(packet.hex(), kinds), (packet, kinds)
            wait_for(lambda: fds_at_rest(d) < quiet)
            g.end()


def test_bounds(daemon):
    with daemon() as d:
        a, b = two(d)
        assert a.many_exports(0, 4096) == {}
        assert a.many_exports(4096, 3) == {str(-EMFILE): 3}
        a.withdraw("%032x" % (1 << 100))
        assert a.many_exports(4096, 1) == {}
        t = "%032x" % (2 << 100)
        results = [b.borrow(t, 0, n)[0]["result"] for n in range(1, 18)]
        assert results == [-EAGAIN] * 16 + [-EMFILE], results
        quiet = fds_at_rest(d)
        for _ in range(16):
            assert a.lend(a.what()["loan"]) == 0
        assert fds_at_rest(d) == quiet + 16
        wait_for(lambda: fds_at_rest(d) == quiet, 20)  # nobody fetches them
        assert [a.what()["what"] for _ in range(17)] == [CLOSED] * 16 + [NOTHING]
        for n in range(1, 18):
            b.give_back(n)
        lent(a, b, t, number=99)  # and all is well
        d.check()
        a.end(), b.end()


def test_guessing_finds_nothing(daemon):
    with daemon() as d:
        a, b = two(d)
        t = token(8)
        a.export(t)
        for n in range(2000):
            guess = "%032x" % (int(t, 16) ^ 1 << n % 128) if n < 128 else token(n)
            assert b.borrow(guess, 0, n)[0]["result"] == -ENOENT
        assert a.what()["what"] == NOTHING
        a.end(), b.end()


def test_back_on_another_connection(daemon):
    """What the exporter may not have heard it hears again; what was open stays open."""
    with daemon() as d:
        a, b = two(d)
        t, u = token(9), token(10)
        a.export(t), a.export(u)
        loan = lent(a, b, t)
        b.borrow(u, 0, 2)
        wanted = a.what()["loan"]
        turn = a.shares()
        assert a.reconnect() == 0
        assert a.shares() > turn
        assert a.what()["loan"] == wanted and a.lend(wanted) == 0
        b.give_back(1)
        assert a.what()["loan"] == loan
        a.end(), b.end()


def test_the_next_daemon_waits_for_exporters(daemon):
    with daemon() as d:
        a, b = two(d)
        t = token(11)
        a.export(t)
        loan = lent(a, b, t)
        await_noted(d, 1)
        d.kill9()
        d.start()
        assert b.reconnect() == 0
        assert b.borrow(t, 0, 2)[0]["result"] == -EAGAIN  # somebody may still come who knows it
        assert b.give_back(1) == 0 and b.give_back(5) == 0
        assert a.reconnect() == 0 and a.export(t) == 0
        told = a.what()
        assert (told["what"], told["loan"]) == (CLOSED, loan), told
        b.borrow(t, 0, 2)
        asked = a.what()
        assert asked["what"] == WANTED and asked["loan"] > loan
        assert b.borrow(token(12), 0, 3)[0]["result"] == -EAGAIN
        wait_for(lambda: b.borrow(token(12), 0, 3)[0]["result"] == -ENOENT, 10)
        a.end(), b.end()


def test_the_next_daemon_knows_what_is_open(daemon):
    """... and who has died meanwhile; of what was not noted in time nobody is ever told."""
    with daemon() as d:
        a, b = two(d)
        c = Apart(d, "f")
        t = token(13)
        a.export(t)
        loans = [lent(a, b, t), lent(a, b, t, number=2), lent(a, c, t)]
        await_noted(d, 3)
        d.kill9()
        c.end()
        d.start()
        assert a.reconnect() == 0 and b.reconnect() == 0
        told = a.what()
        assert (told["what"], told["loan"]) == (CLOSED, loans[2]), told
        assert a.what()["what"] == NOTHING
        await_noted(d, 2)
        b.give_back(2)
        assert a.what()["loan"] == loans[1]
        await_noted(d, 1)
        b.end()
        assert wait_for(lambda: a.what()["loan"]) == loans[0]
        await_noted(d, 0)
        a.end()


def test_storm(daemon):
    """Anything at any time, and kills: nothing is left."""
    with daemon() as d:
        rng = random.Random(5)
        d.create(name="f", memory_limit_bytes=GIB)
        tokens = [token(n) for n in range(20, 28)]
        all_ = [Apart(d, "f") for _ in range(4)]
        quiet = fds_at_rest(d)
        deeds = (lambda g: g.export(rng.choice(tokens)), lambda g: g.withdraw(rng.choice(tokens)),
                 lambda g: g.borrow(rng.choice(tokens), 0, rng.randrange(4)),
                 lambda g: g.give_back(rng.randrange(4)),
                 lambda g: g.lend(g.what()["loan"], rng.choice(("memory", "pipe"))))
        for n in range(1500):
            i = rng.randrange(len(all_))
            if n % 150 == 149:
                all_[i].end()
                all_[i] = Apart(d, "f")
            rng.choice(deeds)(all_[i])
        for g in all_:
            g.end()
        all_ = [Apart(d, "f") for _ in range(4)]
        wait_for(lambda: fds_at_rest(d) == quiet)
        for g in all_:
            g.end()
        d.check()


if __name__ == "__main__":
    run([v for k, v in list(globals().items()) if k.startswith("test_")])
