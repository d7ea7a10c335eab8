#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A client that lies or babbles costs itself its connection, and nobody else anything."""
import contextlib
import os
import random
import resource

import aqtest
import rawclient as raw
from aqtest import GIB, MIB, OOM, check, equal, eventually, fd_count, fd_count_at_rest, words

PYTHON = "/usr/bin/python3"


class Scene:
    """A daemon, an innocent tenant, and a fraction whose member misbehaves."""

    def __init__(self, machine):
        self.machine = machine
        self.daemon = machine.start_daemon()
        self.innocent = machine.tenant(memory="8G", name="innocent")
        self.innocent.do("alloc linear 2G")
        self.innocent.do("put 0 3")
        self.member = machine.tenant(memory="4G", name="hostile")
        self.sock = str(machine.rundir / "aliquotd.sock")
        self.used = machine.used("innocent")
        self.fds = fd_count_at_rest(self.daemon.pid)

    def link(self, timeout=10):
        return raw.Link(self.sock, timeout)

    def misdeed(self, name, seed=1):
        """A process of the hostile fraction; returns it after the deed, still alive."""
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rawclient.py")
        child = self.machine.spawn([PYTHON, script, self.sock, "hostile", name, str(seed)])
        line = child.line()
        check(line is not None, f"{name}: {child.stderr()[-800:]}")
        child.answer = words(line)
        return child

    def innocents_are_well(self, what):
        """The innocent can grow, use, free; its account is as it was; the daemon answers."""
        equal(self.daemon.process.poll(), None, f"the daemon after {what}")
        self.innocent.do("alloc linear 1G")
        self.innocent.do("free last")
        self.innocent.do("check 0 3", bad=0)
        equal(self.machine.used("innocent"), self.used, f"used by the innocent after {what}")
        for name, size in (("innocent", 8 * GIB), ("hostile", 4 * GIB)):
            equal(self.machine.fraction(name)["memory_limit_bytes"], size,
                  f"limit of {name} after {what}")
        late = self.machine.sibling(self.innocent)
        late.do("alloc linear 1M")
        late.quit()

    def members(self):
        return self.machine.fraction("hostile")["clients"]

    def descriptors_are_back(self, what):
        try:
            eventually(lambda: fd_count(self.daemon.pid) <= self.fds,
                       f"descriptors of the daemon after {what} (were {self.fds})")
        except aqtest.Failure:
            print("open:", *aqtest.fds(self.daemon.pid), sep="\n  ")
            raise


def unknown_abi_is_answered(machine):
    scene = Scene(machine)
    for abi in (0, raw.ABI + 1, 999):
        link = scene.link()
        reply = link.ask(raw.hello("hostile", abi=abi))
        check(reply is not None, f"abi {abi}: hung up without a word")
        equal(reply["result"], -71, f"result for abi {abi} (-EPROTO)")
        equal(reply["their_abi"], raw.ABI, "the daemon's abi")
        check(str(abi) in reply["text"] and str(raw.ABI) in reply["text"],
              f"both versions are named: {reply['text']!r}")
        check(link.closed(), "the connection stays open")
        link.close()
    scene.innocents_are_well("a stale abi")
    scene.descriptors_are_back("a stale abi")


def broken_packets(machine):
    """Every way in which a packet can be wrong, one connection each."""
    scene = Scene(machine)
    whole = raw.hello("hostile")
    rng = random.Random(5)
    packets = [whole[:n] for n in (1, 2, 15, 16, 17, 95)] + [
        whole + b"\0", whole + b"\0" * 4000, b"\0" * 16, b"\xff" * 96, rng.randbytes(4096),
        raw.hello("hostile", magic=0x4D50), raw.hello("hostile", size=95),
        raw.hello("hostile", size=0), raw.hello("hostile", size=0xFFFFFFFF),
        raw.head(0, b""), raw.head(11, b""), raw.head(0xFFFF, b"x" * 80),
        raw.hello("hostile", kind=0), raw.hello("hostile", kind=3), raw.hello("x" * 64),
        raw.hello("../x"), raw.hello("ghost"), raw.hello("a b"), raw.hello("\x1b[2J"),
        raw.grow(1 << 20), raw.cost(raw.BEGIN, 1), raw.query(), raw.query(kind=raw.PROCS),
        raw.head(raw.HELLO_REPLY, b"\0" * 240), raw.head(raw.GROW_REPLY, b"\0" * 40),
        raw.hello("hostile", has_page=1), raw.hello("hostile", has_page=2),
    ] + [raw.head(k, rng.randbytes(n)) for k in range(1, 11) for n in (0, 8, 24, 64, 72, 80, 240)]
    for number, packet in enumerate(packets):
        link = scene.link()
        reply = link.ask(packet)
        ended = reply is None or link.closed() if not (reply and reply.get("result") == 0) else True
        check(ended, f"packet {number} ({packet[:24].hex()}): {reply}, and it stays")
        link.close()
    scene.innocents_are_well("broken packets")
    scene.descriptors_are_back("broken packets")
    check(len(machine.events("babbled")) >= 20, "events:", len(machine.events("babbled")))


def broken_packets_of_a_client(machine):
    """After a proper HELLO: what is refused, what ends the connection; nothing is charged."""
    scene = Scene(machine)
    before = machine.used("hostile")
    refused = [raw.grow(raw.MAX), raw.grow(1 << 63), raw.grow((4 << 30) + 512),
               raw.grow(1 << 20, device=1), raw.grow(1 << 20, device=99),
               raw.grow(1 << 20, device=0xFFFFFFFF), raw.cost(raw.BEGIN, raw.MAX),
               raw.cost(raw.BEGIN, 1 << 63), raw.cost(raw.BEGIN, 1, device=16),
               raw.query(device=77)]
    ends = [raw.hello("hostile"), raw.head(raw.GROW, b"\0" * 71), raw.head(99, b""), b"x",
            raw.grow(1, api=b"x" * 48), raw.cost(0, 1), raw.cost(9, 1), raw.grow(1, abi=raw.ABI + 1),
            raw.head(raw.PROCS_REPLY, b"\0" * 1000)]

    def commit():
        for packet in refused:
            link = scene.link()
            link.attach("hostile")
            reply = link.ask(packet)
            check(reply is None or reply["result"] < 0, f"{packet[16:40].hex()}: {reply}")
            link.close()
        for packet in ends:
            link = scene.link()
            link.attach("hostile")
            reply = link.ask(packet)
            check(reply is None or reply.get("result", 0) < 0, f"{packet[:40].hex()}: {reply}")
            link.close()

    aqtest.aside(commit)
    eventually(lambda: machine.used("hostile") == before, "nothing stays charged")
    scene.innocents_are_well("broken requests")
    scene.descriptors_are_back("broken requests")


def pages_that_lie(machine):
    scene = Scene(machine)
    for name in ("grant_itself", "use_more_than_granted"):
        child = scene.misdeed(name)
        equal(child.answer["answered"], 0, f"{name}: growth after the lie")
        lied = eventually(lambda: [e for e in machine.events("lied") if e["pid"] == child.pid],
                          f"{name}: an event")
        equal(lied[0]["fraction"], "hostile", "fraction of the event")
        check(lied[0].get("reason"), "reason:", lied[0])
        scene.innocents_are_well(name)
        child.kill()
        child.wait()
    for seed in range(1, 4):
        child = scene.misdeed("scribble", seed)
        equal(child.answer["answered"], 0, "scribble: growth after the lie")
        scene.innocents_are_well("scribbling")
        child.kill()
        child.wait()
    child = scene.misdeed("resize_page")
    equal(child.answer["refused"], 3, "attempts to resize the page")
    child.kill()
    child.wait()
    eventually(lambda: len(scene.members()) == 1, "the liars are gone")
    # And honest processes of that fraction can use what is theirs.
    equal(scene.member.ask("fill linear 256M")["code"], OOM, "the honest member")
    check(machine.used("hostile") > 3 * GIB, "used", machine.used("hostile"))
    scene.descriptors_are_back("lies")


def hoarding_is_undone(machine):
    """Grants that are not used are taken back when a sibling needs them."""
    scene = Scene(machine)
    free = scene.member.free()
    child = scene.misdeed("hoard")
    check(child.answer["granted"] > 1 * GIB, "it could hoard:", child.answer)
    filled = scene.member.ask("squeeze linear 256M")
    equal(filled["code"], OOM, "code at the end")
    check(filled["bytes"] > free - 16 * MIB, "the sibling gets nearly all:", filled, free)
    child.kill()
    child.wait()
    scene.innocents_are_well("hoarding")


def pages_that_are_forged(machine):
    """has_page=1 with something that is no page of ours, or one that claims the moon."""
    scene = Scene(machine)
    before = machine.used("hostile")
    read_end, write_end = os.pipe()
    plain = open(os.path.join(machine.directory, "plain"), "wb+")
    plain.truncate(raw.PAGE_BYTES)
    forgeries = [[], [read_end], [plain.fileno()], [os.open("/dev/null", os.O_RDWR)],
                 [raw.forged_page("hostile", 8, 8, seal=0)],
                 [raw.forged_page("hostile", 8, 8, seal=raw.SEAL_SEAL | raw.SEAL_GROW)],
                 [raw.forged_page("hostile", 8, 8, size=100)],
                 [raw.forged_page("hostile", 8, 8, size=8192)],
                 [raw.forged_page("hostile", 8, 8, magic=1)],
                 [raw.forged_page("hostile", 8, 8, abi=raw.ABI + 1)],
                 [raw.forged_page("hostile", 8, 8, devices=0)],
                 [raw.forged_page("hostile", 8, 8, devices=17)],
                 [raw.forged_page("hostile", 8, 8, devices=2)],
                 [raw.forged_page("hostile", 1, 8)],
                 [raw.forged_page("innocent", 8, 8)],
                 [raw.forged_page("", 8, 8)]]
    for number, fds in enumerate(forgeries):
        link = scene.link()
        reply = link.ask(raw.hello("hostile", has_page=1), fds)
        check(reply is None or reply["result"] != 0, f"forgery {number} was adopted: {reply}")
        link.close()
    moon = raw.forged_page("hostile", 0xFFFFFFFF, 0xFFFFFFFF)
    link = scene.link()
    link.ask(raw.hello("hostile", has_page=1), [moon])
    scene.innocents_are_well("a forged page")
    link.close()
    eventually(lambda: machine.used("hostile") == before, "the hostile account is as it was")
    scene.descriptors_are_back("forged pages")
    os.close(read_end)
    os.close(write_end)
    plain.close()


def thousands_of_descriptors(machine):
    scene = Scene(machine)
    nulls = [os.open("/dev/null", os.O_RDONLY) for _ in range(250)]
    for _ in range(40):
        link = scene.link()
        with contextlib.suppress(OSError):
            link.send(raw.hello("hostile"), nulls)
            reply = link.receive()
            while reply:
                link.send(raw.query(), nulls)
                reply = link.receive()
        link.close()
    scene.innocents_are_well("ten thousand descriptors")
    for fd in nulls:
        os.close(fd)
    scene.descriptors_are_back("ten thousand descriptors")


def many_connections(machine):
    """Half-open ones by the hundred, from many processes; others still get in."""
    scene = Scene(machine)
    code = ("import socket,sys,time\n"
            "held=[]\n"
            "for _ in range(200):\n"
            "    try:\n"
            "        s=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET)\n"
            "        s.settimeout(2)\n"
            "        s.connect(sys.argv[1]); held.append(s)\n"
            "    except OSError: break\n"
            "print('held', 'count=%d' % len(held), flush=True)\n"
            "sys.stdin.read()\n")
    crowd = [machine.spawn([PYTHON, "-c", code, scene.sock]) for _ in range(6)]
    for child in crowd:
        check(child.line(), "one of the crowd failed", child.stderr())
    scene.innocents_are_well("half-open connections")
    for child in crowd:
        child.process.stdin.close()
        child.wait()
    scene.descriptors_are_back("half-open connections")


def who_never_reads(machine):
    scene = Scene(machine)
    child = scene.misdeed("flood")
    scene.innocents_are_well("a flood of requests")
    check(child.answer["end"] != "none", "the daemon took all of it:", child.answer)
    child.kill()
    child.wait()
    reserved = scene.misdeed("cost_without_end")
    equal(reserved.answer["result"], 0, "a reservation")
    reserved.kill()
    reserved.wait()
    eventually(lambda: len(scene.members()) == 1, "they are gone")
    equal(scene.member.ask("alloc linear 3G")["code"], 0, "nothing stays reserved")
    scene.descriptors_are_back("a flood")


def random_packets(machine):
    """A thousand random mutations of good conversations; the seed is printed."""
    seed = int(os.environ.get("AQ_SEED", "20"))
    rounds = 200 if aqtest.SHORT else 1000
    print(f"seed {seed}, {rounds} rounds")
    rng = random.Random(seed)
    token = bytes(range(16))
    null = os.open("/dev/null", os.O_RDONLY)
    scene = Scene(machine)

    def babble():
        link = scene.link()
        with contextlib.suppress(OSError):
            if rng.random() < 0.7:
                link.send(raw.hello("hostile"))
                link.receive()
            for _ in range(rng.randrange(1, 4)):
                packet = bytearray(rng.choice([
                    raw.hello("hostile"), raw.grow(rng.randrange(1 << 34)), raw.query(),
                    raw.cost(rng.randrange(4), rng.randrange(1 << 34)),
                    raw.query(kind=raw.PROCS), raw.export(token), raw.borrow(token), raw.ask(),
                    raw.export(token, kind=raw.WITHDRAW), raw.borrow(token, kind=raw.CLOSE),
                    raw.lend(rng.randrange(8))]))
                for _ in range(rng.randrange(0, 4)):
                    packet[rng.randrange(len(packet))] = rng.randrange(256)
                if rng.random() < 0.1:
                    packet = packet[:rng.randrange(len(packet) + 1)]
                if packet:
                    link.send(bytes(packet), [null] if rng.random() < 0.1 else [])
            link.sock.settimeout(0.002)
            link.receive()
        link.close()

    def all_rounds():
        for _ in range(rounds):
            babble()

    aqtest.aside(all_rounds)
    os.close(null)
    scene.innocents_are_well("random packets")
    scene.descriptors_are_back("random packets")


with contextlib.suppress(ValueError, OSError):
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
aqtest.run(unknown_abi_is_answered, broken_packets, broken_packets_of_a_client, pages_that_lie,
           hoarding_is_undone, pages_that_are_forged, thousands_of_descriptors, many_connections,
           who_never_reads, random_packets)
