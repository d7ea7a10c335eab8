#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Guards: attaching, growing, costs, questions; and those that babble or lie."""
import os
import signal
import socket
import subprocess
import time

from aqd import (ABI, BEGIN, CLIENT, COST, COST_BODY, EACCES, END, EINVAL, ENODEV, ENOENT,
                 ENOMEM, EPROTO, GIB, GRAIN, GROW, GROW_BODY, HEAD,
                 HELLO, HELLO_BODY, HELLO_REPLY, HELLO_REPLY_BODY, MAGIC, MIB, OBSERVER, QUERY,
                 QUERY_BODY, UNDO, Guard, Remote, run, wait_for)


def test_attach_and_grow_to_the_limit(daemon):
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        g = d.guard("f")
        assert (g.result, g.abi, g.device_count, g.fail_open, g.fraction) == (0, ABI, 1, 0, "f")
        assert g.limit() == GIB and g.get("request_bytes") == GIB and g.word(0) == (0, 0)
        used = 0
        while g.alloc(100 * MIB):
            used += 100 * MIB
        assert used == 1000 * MIB
        result, granted, limit, all_used, free = g.grow(GIB)
        assert (result, granted, limit, all_used, free) == (-ENOMEM, 0, GIB, used, GIB - used)
        assert g.alloc(GIB - used) and not g.alloc(1)
        f = d.fraction("f")
        assert f["memory_used_bytes"] == GIB and f["clients"] == [
            {"pid": os.getpid(), "memory_used_bytes": GIB, "memory_overhead_bytes": 0,
             "memory_parked_bytes": 0, "connected": True}], f
        e = d.events("denied")
        assert len(e) == 3 and e[0]["asked_bytes"] == e[0]["asked_bytes"]
        assert e[-1]["free_bytes"] == 0 and e[-1]["used_bytes"] == GIB and e[-1]["pid"] == os.getpid()
        assert e[-1]["reason"] == "limit" and e[-1]["api"] == "cuMemAlloc_v2" and e[-1]["text"]
        assert e[-1]["device"] == d.get("/v1/devices")[0]["uuid"]
        assert "aliquot_fraction_memory_used_bytes{fraction=\"f\"" in d.get("/metrics")
        d.check()


def test_absurd_sizes(daemon):
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        g = d.guard("f")
        for need in (1 << 64) - 1, 1 << 63, (1 << 63) - 1, 1 << 42, GIB + 1, (1 << 64) - 511:
            assert g.grow(need)[0] == -ENOMEM, need
            assert g.cost(BEGIN, need)[0] == -ENOMEM, need
        assert g.grow(0)[0] == -EINVAL
        assert g.grow(1, device=1)[0] == -ENODEV and g.grow(1, device=(1 << 32) - 1)[0] == -ENODEV
        assert g.cost(END, 1, device=16)[0] == -ENODEV
        assert g.cost(UNDO, (1 << 64) - 1)[0] == 0
        assert g.cost(END, (1 << 64) - 1)[0] == 0
        assert g.query(device=3)["result"] == -ENODEV
        assert g.alloc(GIB)
        d.check()


def test_unused_grants_move_between_clients(daemon):
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        a, b = Remote(d, "f"), Remote(d, "f")
        assert a.hello["result"] == b.hello["result"] == 0
        assert a.alloc(1 * MIB) and a.granted() > MIB
        # b can have everything that a does not use
        assert b.alloc(GIB - MIB) and not b.alloc(1)
        assert a.granted() == MIB and not a.alloc(1)
        b.free(MIB)
        assert a.alloc(MIB) and not a.alloc(1)
        q = a.query()
        assert q["used"] == GIB and q["free"] == 0 and q["clients"] == 2 and q["limit"] == GIB
        assert a.procs() == {str(a.pid): 2 * MIB, str(b.pid): GIB - 2 * MIB}
        b.end()
        wait_for(lambda: d.fraction("f")["memory_used_bytes"] == 2 * MIB, 1)
        assert a.alloc(GIB - 2 * MIB)
        d.check()
        a.end()


def test_stopped_and_forked_clients(daemon):
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        a, b = Remote(d, "f"), Remote(d, "f")
        assert a.alloc(MIB) and a.granted() > MIB
        os.kill(a.pid, signal.SIGSTOP)  # it need not take part for its grant to be taken back
        assert b.alloc(GIB - MIB) and not b.alloc(1)
        os.kill(a.pid, signal.SIGCONT)
        assert a.granted() == MIB
        # its child has its socket and its page, and outlives it: the charge goes with the process
        child = a.fork_child()
        a.end()
        assert os.path.exists("/proc/%d" % child)
        wait_for(lambda: b.alloc(MIB) is True, 1)
        assert len(d.fraction("f")["clients"]) == 1
        os.kill(child, signal.SIGKILL)
        d.check()
        b.end()


def test_burst_into_what_nobody_reserves(daemon):
    with daemon() as d:
        d.create(name="a", memory_request_bytes=20 * GIB, memory_limit_bytes=60 * GIB)
        d.create(name="b", memory_request_bytes=40 * GIB, compute_request_permille=100)
        a, b = Remote(d, "a"), Remote(d, "b")
        assert a.alloc(40 * GIB) and not a.alloc(GRAIN)
        e = d.events("denied")[-1]
        assert e["reason"] == "device" and e["free_bytes"] == 0, e
        assert b.alloc(40 * GIB) and not b.alloc(1)
        r = d.refused("POST", "/v1/fractions", {"memory_limit_bytes": GIB})
        assert r.code == 409 and r.body["free_bytes"] == 0
        a.free(20 * GIB)
        # what it does not use any more is taken back for a new one
        d.create(name="c", memory_limit_bytes=20 * GIB)
        assert a.granted() == 20 * GIB and not a.alloc(GRAIN)
        d.check()
        a.end(), b.end()


def test_costs_are_measured(daemon):
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        g, me = d.guard("f"), os.getpid()
        assert g.cost(BEGIN, 300 * MIB)[0] == 0
        assert g.alloc(724 * MIB) and not g.alloc(1)
        g.free(724 * MIB)
        d.usage([(0, me, 200 * MIB)])
        assert g.cost(END, 300 * MIB)[:2] == (0, 200 * MIB)
        assert g.get("context_bytes") == 200 * MIB  # the next one knows
        assert g.query()["free"] == GIB - 200 * MIB
        assert g.alloc(824 * MIB) and not g.alloc(1)
        # a context that turns out larger than there is room: counted, refused, undone
        g.free(824 * MIB)
        assert g.alloc(600 * MIB)
        assert g.cost(BEGIN, 100 * MIB)[0] == 0
        d.usage([(0, me, 1100 * MIB)])
        assert g.cost(END, 100 * MIB)[0] == -ENOMEM
        assert d.events("over_limit") and d.events("denied")[-1]["api"] == "cuCtxCreate_v4"
        assert not g.alloc(1) or g.granted() > 600 * MIB
        d.usage([(0, me, 800 * MIB)])
        assert g.cost(UNDO, 100 * MIB)[:2] == (0, 200 * MIB)
        assert g.alloc(GIB - 800 * MIB) and not g.alloc(1)
        # and without being told, within a second or two
        d.usage([(0, me, 1014 * MIB)])
        wait_for(lambda: g.query()["used"] == GIB, 3)
        d.check()


def test_overhead_comes_and_goes(daemon):
    """Readings between an allocation's charge and the driver's own must not hide what is there."""
    with daemon(sim="fake:2") as d:
        d.create(name="f", gpus=2, memory_limit_bytes=GIB)
        g, me = d.guard("f"), os.getpid()
        second = d.get("/v1/devices")[1]["uuid"]
        uuid = bytes.fromhex(second[4:].replace("-", ""))

        def used():
            return g.query(device=(1 << 32) - 1, uuid=uuid)["used"]
        assert g.query(device=(1 << 32) - 1, uuid=b"x" * 16)["result"] == -ENODEV
        d.usage([(1, me, 400 * MIB)])
        wait_for(lambda: used() == 400 * MIB, 3)
        # charged, and NVML shows it only later: one reading less is not believed
        assert g.alloc(100 * MIB, 1)
        time.sleep(1.3)
        assert used() == 500 * MIB
        d.usage([(1, me, 500 * MIB)])
        time.sleep(1.2)
        assert used() == 500 * MIB
        # but two are
        d.usage([(1, me, 150 * MIB)])
        wait_for(lambda: used() == 150 * MIB, 4)
        # what the guard knows that it cannot measure is looked at sooner
        g.tell_unmeasured(1)
        d.usage([(1, me, 250 * MIB)])
        wait_for(lambda: used() == 250 * MIB, 2)
        d.check()


def test_what_is_there_for_a_moment_is_no_overhead(daemon):
    """A page that says the same before and after a reading has not stood still for that."""
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        g, me = d.guard("f"), os.getpid()
        assert g.alloc(600 * MIB) and not g.alloc(GIB)
        g.free(400 * MIB)
        d.usage([(0, me, 300 * MIB)])
        wait_for(lambda: g.query()["used"] == 300 * MIB, 3)
        seen = []

        def comes_and_goes():
            assert g.alloc(300 * MIB)  # inside the grant, so nobody is asked
            g.free(300 * MIB)
            seen.append(time.monotonic())
            return [(0, me, 600 * MIB)]
        with d.usage_served(comes_and_goes):
            wait_for(lambda: len(seen) >= 4, 5)  # two for each reading
            assert g.query()["used"] == 300 * MIB
        d.usage([(0, me, 300 * MIB)])
        assert not d.events("over_limit")
        d.check()


def test_who_never_rests_hides_nothing(daemon):
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        g, me = d.guard("f"), os.getpid()
        assert g.alloc(100 * MIB)

        def restless():
            g.free(MIB)
            assert g.alloc(MIB)
            return [(0, me, 900 * MIB)]
        with d.usage_served(restless):
            wait_for(lambda: g.query()["used"] == 900 * MIB, 8)
        assert not g.alloc(GIB - 900 * MIB + GRAIN)
        d.check()


def test_the_first_context_is_made_alone(daemon):
    """Of many whose cost nobody knows, one goes first; the others then fit, or are refused."""
    with daemon(sim="fake:2") as d:
        d.create(name="f", gpus=2, memory_limit_bytes=GIB)
        a, b, c = (Remote(d, "f") for _ in range(3))
        assert a.cost(BEGIN, 0)[0] == 0
        b.begin("cost", BEGIN, 0, 0, "cuDevicePrimaryCtxRetain")
        c.begin("cost", BEGIN, 0)
        assert b.waits(0.3) and c.waits(0.1)
        # what is no context, or one elsewhere, is not held up
        assert a.cost(BEGIN, MIB, 0, "cuModuleLoad")[0] == 0
        assert a.cost(UNDO, MIB, 0, "cuModuleLoad")[0] == 0
        assert a.cost(BEGIN, 0, 1)[0] == 0 and a.cost(UNDO, 0, 1)[0] == 0
        d.usage([(0, a.pid, 400 * MIB)])
        assert a.cost(END, 0)[:2] == [0, 400 * MIB]
        # 400 MiB are reserved for one of them, and there is no room for the other
        results = [(r.result()[0], r) for r in (b, c)]
        assert sorted(r for r, _ in results) == [-ENOMEM, 0], results
        maker = [r for n, r in results if n == 0][0]
        assert d.fraction("f")["memory_used_bytes"] == 800 * MIB
        d.usage([(0, a.pid, 400 * MIB), (0, maker.pid, 400 * MIB)])
        assert maker.cost(END, 0)[:2] == [0, 400 * MIB]
        assert a.query()["free"] == GIB - 800 * MIB
        assert len(d.events("denied")) == 1 and not d.events("over_limit")
        d.check()
        a.end(), b.end(), c.end()


def test_a_first_context_that_never_comes(daemon):
    """Who dies over it, or takes for ever, holds up nobody for long."""
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        a, b, c = (Remote(d, "f") for _ in range(3))
        assert a.cost(BEGIN, 0)[0] == 0
        b.begin("cost", BEGIN, 0)
        assert b.waits(0.2)
        a.end()
        assert not b.waits(1) and b.result()[0] == 0
        start = time.monotonic()
        c.begin("cost", BEGIN, 0)
        assert not c.waits(10) and c.result()[0] == 0
        assert 1.5 < time.monotonic() - start
        d.check()
        b.end(), c.end()


def test_driver_that_tells_no_processes(daemon):
    """Then estimates count: a context is not free because nobody can measure it."""
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        g, me = d.guard("f"), os.getpid()
        d.usage([(0, me, (1 << 64) - 1)])
        assert g.cost(BEGIN, 300 * MIB)[0] == 0
        assert g.cost(END, 300 * MIB)[:2] == (0, 300 * MIB)
        assert g.cost(UNDO, 0)[:2] == (0, 300 * MIB)
        assert g.alloc(724 * MIB) and not g.alloc(1)
        time.sleep(1.2)
        assert g.query()["used"] == GIB
        d.check()


def test_allow_kill(daemon):
    with daemon(config="allow_kill: true\n") as d:
        d.create(name="f", memory_limit_bytes=GIB)
        liar, g = Remote(d, "f"), d.guard("f")
        liar.set_word(1 << 20, 0)
        wait_for(lambda: d.events("killed"), 3)
        assert os.waitpid(liar.pid, 0)[1] == signal.SIGKILL
        assert d.events("killed")[0]["pid"] == liar.pid and d.events("lied")
        # one that uses the device around its guard, and one that is none of ours
        escaped = subprocess.Popen(["/bin/sleep", "60"])
        stranger = os.fork()
        if not stranger:
            os.setsid()
            os.execv("/bin/sh", ["sh", "-c", "sleep 60 & echo $! >%s/pid" % d.dir])
        os.waitpid(stranger, 0)
        stranger = int(wait_for(lambda: open(d.dir + "/pid").read(), 2))
        d.usage([(0, escaped.pid, GIB), (0, stranger, GIB)])
        assert escaped.wait(5) == -signal.SIGKILL
        wait_for(lambda: len(d.events("foreign")) == 2, 3)
        assert {e["pid"]: e["reason"] for e in d.events("foreign")} == {
            escaped.pid: "escaped", stranger: "no_fraction"}
        assert os.path.exists("/proc/%d" % stranger)
        os.kill(stranger, signal.SIGKILL)
        assert g.query()["result"] == 0
        d.check()


def test_hello_refusals(daemon):
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        g = d.guard("nobody")
        assert g.result == -ENOENT and "nobody" in g.text and g.closed()
        g = d.guard("f", attach=False)
        g.send(HELLO, HELLO_BODY.pack(CLIENT, 0, 1, 0, b"f"), abi=ABI + 7)
        packet = g.sock.recv(4096)
        reply = HELLO_REPLY_BODY.unpack(packet[HEAD.size:])
        text = reply[5].rstrip(b"\0").decode()
        assert reply[:2] == (-EPROTO, ABI) and str(ABI + 7) in text and str(ABI) in text, text
        assert g.closed()
        # by ancestry: this process is the holder
        g = d.guard("")
        assert g.result == 0 and g.fraction == "f"
        code = "import os,sys; sys.path.insert(0,%r); from aqd import Guard; g=Guard(%r,''); print(g.result,g.fraction)"
        code %= (os.path.dirname(os.path.abspath(__file__)), d.path("aliquotd.sock"))
        child = ["/usr/bin/env", "-i", "/bin/sh", "-c", "/usr/bin/python3 -Bc \"$0\"; true", code]
        assert subprocess.check_output(child) == b"0 f\n"
        assert [e["text"] for e in d.events("rejected")]
        d.check()


def test_found_by_mount_namespace(daemon):
    """`env -i` and a new parent: only the namespace that `run` made is left to tell."""
    if os.getuid() != 0:
        return
    with daemon() as d:
        def script(name, text):
            with open(os.path.join(d.dir, name), "w") as f:
                f.write(text)
            return f.name
        attach = script("attach.py", """
import sys
sys.path.insert(0, %r)
from aqd import Guard
g = Guard(%r, "")
print(g.result, g.fraction, flush=True)
""" % (os.path.dirname(os.path.abspath(__file__)), d.path("aliquotd.sock")))
        child = script("child.sh", "sleep 0.4; exec /usr/bin/python3 -B " + attach)
        program = script("program.sh", "sleep 1; setsid env -i /bin/sh %s & exit 0" % child)
        holder = script("holder.py", """
import http.client, os, socket
c = http.client.HTTPConnection("x")
c.sock = socket.socket(socket.AF_UNIX)
c.sock.connect(%r)
c.request("POST", "/v1/fractions", b'{"name": "m", "mount_namespace": true}')
assert c.getresponse().status == 201
os.execv("/usr/bin/unshare", ["unshare", "-m", "--propagation", "unchanged", "/bin/sh",
                               %r])  # a chroot's propagation cannot be changed
""" % (d.path("api.sock"), program))
        out = subprocess.check_output(["/usr/bin/python3", "-B", holder], timeout=20)
        assert out == b"0 m\n", out
        # outside of it nobody is found
        pid = os.fork()
        if not pid:
            os.setsid()
            os.execv("/usr/bin/env", ["env", "-i", "/usr/bin/python3", "-B", attach])
        os.waitpid(pid, 0)
        assert d.events("rejected")[-1]["pid"] == pid


def test_uid_rule(daemon):
    if os.getuid() != 0:
        return
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        for path in d.dir, d.rundir:
            os.chmod(path, 0o755)
        os.chmod(d.path("aliquotd.sock"), 0o666)
        os.chmod(d.path("api.sock"), 0o666)
        pid = os.fork()
        if not pid:
            os.setuid(65534)
            try:
                g = Guard(d.path("aliquotd.sock"), "f")
                ok = g.result == -EACCES and g.closed()
                ok = ok and d.refused("PATCH", "/v1/fractions/f", {"gpu_permille": 20}).code == 403
                ok = ok and d.refused("POST", "/v1/fractions/f/kill").code == 403
                f = d.create(name="its", gpu_permille=10)
                ok = ok and f["owner_uid"] == 65534
                ok = ok and Guard(d.path("aliquotd.sock"), "its").result == 0
                os._exit(0 if ok else 1)
            except BaseException as e:
                print(repr(e))
                os._exit(2)
        assert os.waitpid(pid, 0)[1] == 0
        assert d.guard("its").result == 0  # root may
        # the memory of simulated devices is the group's, in which that one still was
        pid = os.fork()
        if not pid:
            os.setgroups([]), os.setgid(65534), os.setuid(65534)
            try:
                for ask in {}, {"sim": "fake"}, {"device": 0}:
                    assert d.refused("POST", "/v1/fractions", ask).code == 403, ask
                os._exit(0)
            except BaseException as e:
                print(repr(e))
                os._exit(2)
        assert os.waitpid(pid, 0)[1] == 0


def test_babblers_cost_themselves(daemon):
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        good = d.guard("f")
        fd = os.open("/dev/null", os.O_RDONLY)
        packets = [
            b"x", b"\0" * 4096, b"\xff" * 4096, os.urandom(100), os.urandom(6000),
            HEAD.pack(MAGIC, HELLO, 16, ABI, 1),
            HEAD.pack(MAGIC, HELLO, 96, ABI, 1) + b"\xff" * 80,
            HEAD.pack(MAGIC, 99, 16, ABI, 1),
            HEAD.pack(MAGIC, HELLO_REPLY, 256, ABI, 1) + b"\0" * 240,
            HEAD.pack(MAGIC, GROW, 88, ABI, 1) + GROW_BODY.pack(0, 0, 1, 1, b""),
            HEAD.pack(MAGIC, HELLO, 96, ABI, 1) + HELLO_BODY.pack(9, 0, 1, 0, b"f"),
            HEAD.pack(MAGIC, HELLO, 96, ABI, 1) + HELLO_BODY.pack(CLIENT, 1, 1, 0, b"f"),
            HEAD.pack(MAGIC, HELLO, 96, ABI, 1) + HELLO_BODY.pack(CLIENT, 0, 1, 0, b"../f"),
        ]
        for packet in packets:
            g = d.guard("f", attach=False)
            g.raw(packet)
            assert g.closed(), packet
            g.close()
        for fds in [fd], [fd] * 3, [fd] * 100:
            g = d.guard("f", attach=False)
            g.raw(HEAD.pack(MAGIC, HELLO, 96, ABI, 1) + HELLO_BODY.pack(CLIENT, 0, 1, 0, b"f"), fds)
            assert g.closed()
            g.close()
        # in the middle, as observer, with a descriptor, and with an unknown phase
        for what in range(4):
            g = d.guard("f", kind=OBSERVER)
            assert g.result == 0 and g.page is None and g.query()["result"] == 0
            if what == 0:
                g.send(GROW, GROW_BODY.pack(0, 0, 1, 1, b""))
            elif what == 1:
                g.send(HELLO, HELLO_BODY.pack(CLIENT, 0, 1, 0, b"f"))
            elif what == 2:
                g.send(QUERY, QUERY_BODY.pack(0, 0, b""), fds=[fd])
            else:
                g.send(COST, COST_BODY.pack(0, 7, 1, b""))
            assert g.closed(), what
            g.close()
        assert len(d.events("babbled")) >= len(packets) + 6
        # too many connections of one process: the surplus is closed, the others live
        many = [d.guard("f", attach=False) for _ in range(40)]
        time.sleep(0.2)
        many[-1].sock.setblocking(False)
        assert many[-1].closed()
        for g in many:
            g.close()
        time.sleep(0.1)
        fds = len(os.listdir("/proc/%d/fd" % d.process.pid))
        assert fds < 60, fds
        assert good.alloc(GIB) and not good.alloc(1)
        d.check()


def test_a_flood_starves_nobody(daemon):
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        good = d.guard("f")
        pid = os.fork()
        if not pid:  # requests without end, replies never read
            while True:
                g = Guard(d.path("aliquotd.sock"), "f")
                g.sock.settimeout(5)
                try:
                    while True:
                        g.send(QUERY, QUERY_BODY.pack(0, 0, b""))
                except OSError:
                    g.close()
        try:
            time.sleep(0.3)
            worst = 0
            for _ in range(200):
                start = time.monotonic()
                assert good.query()["result"] == 0
                worst = max(worst, time.monotonic() - start)
                time.sleep(0.002)
            assert worst < 0.25, worst
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        wait_for(lambda: len(d.fraction("f")["clients"]) == 1, 2)
        d.check()


def test_api_hoarders_leave_guards_alone(daemon):
    """Somebody opens more API connections than the daemon has descriptors."""
    with daemon(limits=(512, 512)) as d:
        d.create(name="f", memory_limit_bytes=GIB)
        hoard = []
        for _ in range(700):
            s = socket.socket(socket.AF_UNIX)
            s.setblocking(False)
            try:
                s.connect(d.path("api.sock"))
            except BlockingIOError:
                pass
            hoard.append(s)
        time.sleep(0.5)
        g = d.guard("f")
        assert g.result == 0 and g.alloc(GIB)
        with open("/proc/%d/stat" % d.process.pid) as f:
            before = sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))
        time.sleep(1)
        with open("/proc/%d/stat" % d.process.pid) as f:
            ticks = sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13])) - before
        assert ticks < 20, "busy with nothing: %d of 100" % ticks
        for s in hoard:
            s.close()
        wait_for(lambda: d.fraction("f")["memory_used_bytes"] == GIB, 5)
        d.check()


def test_no_hello_is_closed(daemon):
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        g = d.guard("f", attach=False)
        start = time.monotonic()
        assert g.closed() and 4 < time.monotonic() - start < 7


def test_lies_cut_the_liar_off(daemon):
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        d.create(name="other", memory_limit_bytes=GIB)
        other = Remote(d, "other")
        liar, honest = Remote(d, "f"), Remote(d, "f")
        assert liar.alloc(100 * MIB) and honest.alloc(100 * MIB)
        before = liar.granted()
        # it grants itself half of the fraction; whoever looks next sees it
        liar.set_word(512 * MIB // GRAIN, 100 * MIB // GRAIN)
        assert honest.query()["result"] == 0
        e = wait_for(lambda: d.events("lied"), 2)[0]
        assert e["pid"] == liar.pid and e["fraction"] == "f"
        assert liar.grow(MIB) == "closed"
        # it can come back neither with its page nor for a new one
        assert liar.reconnect() == -EACCES
        # what it was given stays its own; all the rest is its sibling's
        assert honest.alloc(GIB - before - 100 * MIB) and not honest.alloc(GRAIN)
        # measured, it has no more than it was granted: nothing on top
        d.usage([(0, liar.pid, before)])
        time.sleep(1.2)
        assert d.fraction("f")["memory_used_bytes"] == GIB
        assert other.alloc(GIB)
        liar.end()
        assert wait_for(lambda: honest.alloc(before), 1)
        # a used count beyond the grant, which nobody asks about: found all the same
        other.set_word(GIB // GRAIN, GIB // GRAIN + 1)
        wait_for(lambda: d.events("lied")[-1]["pid"] == other.pid, 2)
        assert other.grow(MIB) == "closed"
        d.check()
        other.end(), honest.end()


def test_exec_and_reattach(daemon):
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        g = d.guard("f")
        assert g.alloc(GIB)
        g.sock.close()  # the connection is lost, the process lives, and so does its charge
        wait_for(lambda: not d.fraction("f")["clients"][0]["connected"], 1)
        assert d.fraction("f")["memory_used_bytes"] == GIB
        back = d.guard("f", page_fd=g.page_fd)
        assert back.result == 0 and back.used() == GIB and not back.alloc(1)
        back.free(MIB)
        assert back.alloc(MIB)
        # a page of its own making
        fd = os.memfd_create("x", os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, 4096)
        assert d.guard("f", page_fd=fd).result == -EACCES
        # anew without a page, as after exec: the old charge is gone, unless NVML still sees it
        d.usage([(0, os.getpid(), 300 * MIB)])
        new = d.guard("f")
        assert new.result == 0 and new.query()["used"] == 300 * MIB
        assert new.alloc(GIB - 300 * MIB) and not new.alloc(1)
        assert len(d.fraction("f")["clients"]) == 1
        d.check()


def test_live_resize(daemon):
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        a, b = Remote(d, "f"), Remote(d, "f")
        assert a.alloc(300 * MIB) and b.alloc(300 * MIB)
        start = time.monotonic()
        d.call("PATCH", "/v1/fractions/f", {"memory_limit_bytes": 2 * GIB})
        assert time.monotonic() - start < 0.05
        assert a.limit() == b.limit() == 2 * GIB
        assert a.alloc(GIB)
        r = d.refused("PATCH", "/v1/fractions/f", {"memory_limit_bytes": GIB})
        assert r.code == 409 and r.body["reason"] == "in_use"
        assert r.body["used_bytes"] == GIB + 600 * MIB
        assert a.limit() == 2 * GIB
        d.call("PATCH", "/v1/fractions/f", {"memory_limit_bytes": GIB + 600 * MIB})
        assert a.granted() + b.granted() == GIB + 600 * MIB and not b.alloc(1)
        assert a.limit() == b.limit() == GIB + 600 * MIB
        d.check()
        a.end(), b.end()


def test_foreigners_are_seen(daemon):
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        g = d.guard("f")
        stranger = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
        d.usage([(0, os.getpid(), MIB), (0, stranger.pid, 5 * GIB), (0, 999999, GIB)])
        e = wait_for(lambda: d.events("foreign"), 2.5)
        assert len(e) == 1 and e[0]["pid"] == stranger.pid and e[0]["used_bytes"] == 5 * GIB, e
        assert e[0]["fraction"] == "f" and e[0]["reason"] == "escaped"  # it is our child
        time.sleep(1.2)
        assert len(d.events("foreign")) == 1
        stranger.kill()
        stranger.wait()
        assert g.query()["result"] == 0


def test_follow(daemon):
    with daemon() as d:
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(10)
        s.connect(d.path("api.sock"))
        s.sendall(b"GET /v1/events?since=0&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        text = b""
        while b"started" not in text:
            text += s.recv(4096)
        d.create(name="o", memory_limit_bytes=GIB)
        d.create(name="f", memory_limit_bytes=GIB)
        while b"created" not in text:
            text += s.recv(4096)
        # one that never reads must not hurt
        slow = socket.socket(socket.AF_UNIX)
        slow.connect(d.path("api.sock"))
        slow.sendall(b"GET /v1/events?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        g = d.guard("f")
        for _ in range(12000):
            assert g.grow(2 * GIB)[0] == -ENOMEM
            s.setblocking(False)
            try:
                s.recv(1 << 20)
            except BlockingIOError:
                pass
        # the flood pushed out neither the other events nor grew without bound
        assert [e["fraction"] for e in d.events("created")] == ["o"]
        assert len(d.events("denied")) == 1024
        rss = int(open("/proc/%d/statm" % d.process.pid).read().split()[1]) * 4096
        assert rss < (400 if d.sanitized() else 64) * MIB, rss
        s.close(), slow.close()
        d.create(name="g", memory_limit_bytes=GIB)
        d.check()


def test_queue(daemon):
    with daemon() as d:
        import threading
        d.create(name="a", gpu_permille=600)
        done = {}

        def ask(name, **how):
            def go():
                try:
                    done[name] = d.call("POST", "/v1/fractions", dict(how, name=name), 30)["name"]
                except Exception as e:
                    done[name] = e
            t = threading.Thread(target=go)
            t.start()
            wait_for(lambda: name in done or [f for f in d.get("/v1/fractions")
                                              if f["name"] == name], 2)
            return t
        ts = [ask("low", gpu_permille=500, wait_ms=-1, priority="low"),
              ask("big", gpu_permille=900, wait_ms=-1),
              ask("second", gpu_permille=500, wait_ms=-1),
              ask("short", gpu_permille=500, wait_ms=200)]
        states = {f["name"]: f["state"] for f in d.get("/v1/fractions")}
        assert states == {"a": "running", "low": "waiting", "big": "waiting", "second": "waiting",
                          "short": "waiting"}, states
        ts[3].join()
        assert done["short"].code == 408 and done["short"].body["free_bytes"] == 32 * GIB
        # nobody jumps the queue but a higher priority
        assert d.refused("POST", "/v1/fractions", {"gpu_permille": 100}).body["reason"] == "queue"
        d.create(name="high", gpu_permille=100, priority="high")
        assert d.refused("POST", "/v1/fractions", {"name": "big"}).body["reason"] == "name_taken"
        assert d.refused("POST", "/v1/fractions", {"memory_limit_bytes": 81 * GIB, "wait_ms": -1}
                         ).body["reason"] == "too_large"
        d.call("PATCH", "/v1/fractions/a", {"gpu_permille": 10})
        time.sleep(0.2)
        assert "second" not in done and "big" not in done  # 890 + 100: big lacks 10
        d.call("PATCH", "/v1/fractions/high", {"gpu_permille": 90})
        ts[1].join(5)
        assert done["big"] == "big", done
        d.call("PATCH", "/v1/fractions/big", {"gpu_permille": 10})
        ts[2].join(5)
        assert done["second"] == "second"
        d.call("PATCH", "/v1/fractions/second", {"gpu_permille": 10})
        ts[0].join(5)
        assert done["low"] == "low"
        # who hangs up leaves the queue
        s = socket.socket(socket.AF_UNIX)
        s.connect(d.path("api.sock"))
        body = b'{"wait_ms": -1, "name": "gone"}'
        s.sendall(b"POST /v1/fractions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" %
                  (len(body), body))
        wait_for(lambda: [f for f in d.get("/v1/fractions") if f["name"] == "gone"], 2)
        s.close()
        wait_for(lambda: not [f for f in d.get("/v1/fractions") if f["name"] == "gone"], 2)
        d.check()


if __name__ == "__main__":
    run([v for k, v in list(globals().items()) if k.startswith("test_")])
