#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The daemon's own deaths and ends: adoption, grace, idle exit, lock, signals, configuration."""
import json
import os
import random
import signal
import subprocess
import threading
import time

from aqd import EACCES, ENOENT, GIB, GRAIN, MIB, Guard, Remote, other_process, run, wait_for


def back(remote):
    """What the guard does when its daemon is gone: every 100 ms."""
    def once():
        try:
            return remote.reconnect() == 0
        except AssertionError:
            return False
    wait_for(once, 5, 0.1)


def gone(pid):
    """Ended, and perhaps not yet waited for by init."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_killed_and_adopted(daemon):
    with daemon(sim="fake:2") as d:
        me = os.getpid()
        d.create(name="f", gpus=2, memory_limit_bytes=GIB, project="p", priority="high",
                 command="prog x", compute_limit_permille=500)
        d.create(name="lonely", gpu_permille=100)
        before = {f["name"]: f for f in d.get("/v1/fractions")}
        a, b = Remote(d, "f"), Remote(d, "f")
        assert a.alloc(100 * MIB) and a.alloc(200 * MIB, 1) and b.alloc(500 * MIB)
        d.usage([(0, a.pid, 150 * MIB), (0, b.pid, 550 * MIB), (1, a.pid, 200 * MIB)])
        wait_for(lambda: d.fraction("f")["devices"][0]["memory_used_bytes"] == 700 * MIB, 3)
        grants = a.granted() + b.granted()
        d.kill9()
        # goes on with what it holds
        assert a.granted() >= 100 * MIB and not os.path.exists(d.path("state.json.new"))
        d.start()
        # at once, before anybody is back, what NVML sees is counted
        f = d.fraction("f")
        assert f["memory_used_bytes"] == 900 * MIB and len(f["clients"]) == 2, f
        start = time.monotonic()
        back(a)
        # the other one is not back: nobody can know what it was granted, so this waits for it
        t = threading.Thread(target=lambda: (time.sleep(0.4), back(b)))
        t.start()
        assert not a.alloc(GIB)
        assert 0.3 < time.monotonic() - start < 2
        t.join()
        after = d.fraction("f")
        for key in before["f"]:
            if key not in ("memory_used_bytes", "clients", "denials", "devices", "socket",
                           "cuda_visible_devices", "simulated"):
                assert after[key] == before["f"][key], (key, after)
        assert [x["uuid"] for x in after["devices"]] == [x["uuid"] for x in before["f"]["devices"]]
        assert d.fraction("lonely")["holder_pid"] == me
        assert after["devices"][0]["memory_used_bytes"] == 700 * MIB, after
        assert a.granted() + b.granted() <= grants
        # to the byte
        assert a.alloc(GIB - 700 * MIB) and not b.alloc(GRAIN) and not a.alloc(1)
        assert len(d.events("adopted")) == 2 and len(d.events("restored")) == 2
        d.check()
        a.end(), b.end()


def test_adoption_counts_nothing_twice(daemon):
    """What was overhead without a page is use with it, even of a client that never rests."""
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        g, me = d.guard("f"), os.getpid()
        assert g.alloc(400 * MIB)
        d.usage([(0, me, 500 * MIB)])
        time.sleep(0.1)
        d.kill9()
        g.sock.close()
        d.start()
        assert d.fraction("f")["memory_used_bytes"] == 500 * MIB

        def restless():
            g.free(MIB)
            return [(0, me, 500 * MIB)]
        with d.usage_served(restless):
            back_again = Guard(d.path("aliquotd.sock"), "f", page_fd=g.page_fd)
            assert back_again.result == 0 and back_again.query()["used"] <= 500 * MIB
        assert back_again.alloc(GIB - 500 * MIB)
        used = back_again.used()
        assert GIB - 100 * MIB - 20 * MIB <= used <= GIB - 100 * MIB, used // MIB
        assert not d.events("denied", "over_limit")
        d.check()
        back_again.close()


def test_gone_while_it_was_dead(daemon):
    with daemon() as d:
        p = other_process(d, {"name": "g"}, "time.sleep(60)")
        assert p.stdout.readline() == b"201\n"
        c = Remote(d, "g")
        assert c.alloc(GIB)
        time.sleep(0.1)
        d.kill9()
        p.kill(), p.wait()
        c.end()
        d.start()
        assert d.fraction("g")["clients"] == []
        wait_for(lambda: d.get("/v1/fractions") == [], 4)
        assert d.get("/v1/devices")[0]["memory_reserved_bytes"] == 0
        # one that comes back to a fraction that is gone
        assert Guard(d.path("aliquotd.sock"), "g").result == -ENOENT
        d.check()


def test_silent_client_stays_counted(daemon):
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        a, b = Remote(d, "f"), Remote(d, "f")
        assert a.alloc(600 * MIB) and b.alloc(100 * MIB)
        d.usage([(0, a.pid, 600 * MIB), (0, b.pid, 100 * MIB)])
        time.sleep(0.1)
        d.kill9()
        d.start()
        back(b)
        start = time.monotonic()
        assert not b.alloc(500 * MIB)  # a, stopped perhaps, never comes back
        assert time.monotonic() - start < 2
        assert b.alloc(324 * MIB) and not b.alloc(1)
        back(a)  # late, with what it has: a chunk of grant that nobody knew of goes
        assert wait_for(lambda: d.fraction("f")["memory_used_bytes"] == GIB, 2)
        assert a.granted() + b.granted() == GIB and not a.alloc(1) and not b.alloc(1)
        a.end()
        assert wait_for(lambda: b.alloc(600 * MIB), 1)
        d.check()


def test_forged_pages(daemon):
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        d.create(name="other", memory_limit_bytes=GIB)
        a, other = Remote(d, "f"), Remote(d, "other")
        assert a.alloc(100 * MIB) and other.alloc(GIB)
        d.usage([(0, a.pid, 100 * MIB), (0, other.pid, GIB)])
        time.sleep(0.1)
        d.kill9()
        granted = a.granted()
        a.set_word(0xFFFFFFFF, 0)  # two TiB
        d.start()
        assert a.reconnect() == -EACCES and d.events("lied")
        assert d.fraction("f")["memory_used_bytes"] == 100 * MIB
        a.set_word(granted // GRAIN, 100 * MIB // GRAIN)
        assert a.reconnect() == 0
        back(other)
        assert other.used() == GIB and not other.alloc(1)
        d.check()
        a.end(), other.end()


def test_what_was_answered_is_saved(daemon):
    """Whenever it dies: what a caller was told is there afterwards, changes of old ones included."""
    with daemon() as d:
        wanted = {}
        for i in range(8):
            name = "f%d" % i
            d.create(name=name, memory_limit_bytes=GIB, compute_request_permille=10)
            wanted[name] = GIB
            if i % 2:
                changed = "f%d" % (i // 2)
                d.call("PATCH", "/v1/fractions/" + changed, {"memory_limit_bytes": (i + 2) * GIB})
                wanted[changed] = (i + 2) * GIB
            d.kill9()
            d.start()
            found = {f["name"]: f["memory_limit_bytes"] for f in d.get("/v1/fractions")}
            assert found == wanted, (i, found)
        # who is attached follows a little later
        g = Remote(d, "f3")
        time.sleep(0.3)
        d.kill9()
        d.start()
        assert [c["pid"] for c in d.fraction("f3")["clients"]] == [g.pid]
        g.end()
        wait_for(lambda: d.fraction("f3")["clients"] == [], 2)
        d.check()


def test_damaged_state(daemon):
    for text in b"", b"{", b"[]", b'{"version": 99}', os.urandom(1000), b"[" * 100000, \
            b'{"version": 1, "fractions": 7}':
        with daemon() as d:
            d.create(name="f", gpu_permille=100)
            d.kill9()
            with open(d.path("state.json"), "wb") as f:
                f.write(text)
            d.start()
            assert d.get("/v1/fractions") == []
            d.check()
            # whose the simulated machine is was not in there
            d.process.terminate()
            assert d.process.wait(5) == 0
            assert set(os.listdir(d.rundir)) - {"state.json.bad"} == {"aliquotd.pid"}
    with daemon() as d:  # one that was there before the daemon is not the daemon's to remove
        d.kill9()
        os.unlink(d.path("sim/made-by-aliquotd"))
        d.start()
        d.process.terminate()
        assert d.process.wait(5) == 0 and os.path.exists(d.path("sim/machine"))
    with daemon() as d:
        for n in "abc":
            d.create(name=n, gpu_permille=100)
        d.kill9()
        state = json.load(open(d.path("state.json")))
        state["fractions"][0]["shares"][0]["uuid"] = "GPU-99999999-0000-0000-0000-000000000001"
        state["fractions"][1]["name"] = "../b"
        state["fractions"][2]["clients"] = [{"pid": -5, "start": 1}, 7, None,
                                            {"pid": os.getpid(), "start": 12345}]
        json.dump(state, open(d.path("state.json"), "w"))
        d.start()
        assert [f["name"] for f in d.get("/v1/fractions")] == ["c"]
        assert d.fraction("c")["clients"] == []
        state["boot"] = "another"
        d.kill9()
        json.dump(state, open(d.path("state.json"), "w"))
        d.start()
        assert d.get("/v1/fractions") == []


def test_kill9_at_random_moments(daemon):
    """Clients allocate and free all the time; the daemon dies again and again."""
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    with daemon() as d:
        d.create(name="f", memory_limit_bytes=GIB)
        clients = [Remote(d, "f") for _ in range(4)]
        held = {c.pid: [] for c in clients}

        for round_ in range(12):
            killer = threading.Timer(rng.random() * 0.05, d.process.kill)
            killer.start()
            for _ in range(400):
                c = rng.choice(clients)
                size = rng.randrange(1, 200 * MIB)
                if held[c.pid] and rng.random() < 0.45:
                    c.free(held[c.pid].pop())
                    continue
                value = c.alloc(size)
                if value is True:
                    held[c.pid].append(size)
                elif value == "closed":
                    break
            killer.join()
            d.process.wait()
            if round_ % 4 == 3:  # somebody dies while there is no daemon
                victim = clients.pop()
                victim.end()
            d.start()
            for c in clients:
                back(c)
            if round_ % 4 == 3:
                c = Remote(d, "f")
                assert c.hello["result"] == 0
                clients.append(c)
                held[c.pid] = []
            d.check()
            words = [c.word(0) for c in clients]
            expected = [sum(-(-s // GRAIN) for s in held[c.pid]) for c in clients]
            assert [w[1] for w in words] == expected, (seed, words, expected)
            f = d.fraction("f")
            assert f["memory_used_bytes"] == sum(expected) * GRAIN, (seed, f)
            assert sum(w[0] for w in words) * GRAIN <= GIB, (seed, words)
            assert len(f["clients"]) == 4
        for c in clients:
            c.end()
        wait_for(lambda: d.fraction("f")["memory_used_bytes"] == 0, 2)


def test_background_idle_exit_and_lock(daemon):
    with daemon(foreground=False, config="idle_exit: 700ms\nlinger: 200ms\n") as d:
        d.log = d.path("aliquotd.log")
        def aliquotd():
            return subprocess.run([d.exe] + d.args, env=d.env, stderr=subprocess.PIPE, timeout=20)
        assert aliquotd().returncode == 0  # returns when the sockets are there
        v = d.get("/v1/version")
        assert v["rundir"] == d.rundir and not v["system"]
        second = aliquotd()
        assert second.returncode == 1 and b"pid %d" % v["pid"] in second.stderr, second
        c = subprocess.Popen(["/bin/sleep", "60"])
        p = other_process(d, {"name": "g"}, "time.sleep(1.5)")
        p.wait()
        assert d.get("/v1/version")["pid"] == v["pid"]  # a fraction kept it alive
        end = time.monotonic()
        wait_for(lambda: gone(v["pid"]), 5)
        assert 0.6 < time.monotonic() - end < 2.5
        left = sorted(os.listdir(d.rundir))
        assert left == ["aliquotd.log", "aliquotd.pid"], left
        c.kill(), c.wait()
        # many start at once: one wins, and nobody is left without
        starts = [subprocess.Popen([d.exe] + d.args, env=d.env, stderr=subprocess.DEVNULL)
                  for _ in range(6)]
        codes = sorted(s.wait(20) for s in starts)
        assert codes == [0, 1, 1, 1, 1, 1], codes
        pid = d.get("/v1/version")["pid"]
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: gone(pid), 5)
        assert sorted(os.listdir(d.rundir)) == ["aliquotd.log", "aliquotd.pid"]


def test_start_while_another_ends(daemon):
    """A start that meets a daemon in its last moments gets one that stays."""
    with daemon(foreground=False, config="idle_exit: 50ms\n") as d:
        for i in range(12):
            r = subprocess.run([d.exe] + d.args, env=d.env, stderr=subprocess.PIPE, timeout=20)
            assert r.returncode in (0, 1), r
            time.sleep(0.045 + 0.002 * i)
        wait_for(lambda: not os.path.exists(d.path("api.sock")), 3)


def test_term_leaves_nothing(daemon):
    with daemon() as d:
        fds = len(os.listdir("/proc/%d/fd" % d.process.pid))
        guards = []
        for i in range(5):
            d.create(name="f%d" % i, gpu_permille=100)
            guards += [Remote(d, "f%d" % i) for _ in range(3)]
        for i in range(5):
            for g in guards[3 * i:3 * i + 3]:
                g.end()
        wait_for(lambda: all(not f["clients"] for f in d.get("/v1/fractions")), 2)
        time.sleep(0.1)
        # the API connections of this test may be counted
        assert len(os.listdir("/proc/%d/fd" % d.process.pid)) <= fds + 3
        d.process.send_signal(signal.SIGINT)
        assert d.process.wait(5) == 0
        # its fractions are still held by this process: kept for the next one
        assert sorted(os.listdir(d.rundir)) == ["aliquotd.pid", "sim", "state.json"]
        d.start()
        assert len(d.get("/v1/fractions")) == 5
    with daemon() as d:  # one that only lingers is not kept, and neither is the machine
        assert other_process(d, {}).communicate()[0] == b"201\n"
        d.process.terminate()
        assert d.process.wait(5) == 0
        assert sorted(os.listdir(d.rundir)) == ["aliquotd.pid"], os.listdir(d.rundir)


def test_term_takes_along_what_nobody_holds(daemon):
    """Ended right after its program, the daemon has nothing to keep for another one."""
    with daemon() as d:
        assert other_process(d, {"gpu_permille": 100}).communicate()[0] == b"201\n"
        d.process.send_signal(signal.SIGTERM)
        assert d.process.wait(5) == 0
        assert "go on without" not in d.log_text()
        d.start()
        assert d.get("/v1/fractions") == []


def test_configuration(daemon):
    bad = {
        "linger: 2 parsecs\n": ":1: linger",
        "fail_open: true\nlingr: 2s\n": ":2: unknown key 'lingr'",
        "fail_open: perhaps\n": ":1: fail_open",
        "\n\nlog_level: loud\n": ":3: log_level",
        "- a\n": ":1:",
        "a: b: c\n": ":1:",
        "linger: [1]\n": ":1: linger",
        "linger: 1s\nlinger: 2s\n": ":2: linger",
        "? [a]\n: b\n": ":1:",
        "linger: -1\n": ":1: linger",
    }
    for text, expected in bad.items():
        with daemon(foreground=False, config=text) as d:
            r = subprocess.run([d.exe, "--foreground"] + d.args, env=d.env, capture_output=True,
                               timeout=10, text=True)
            assert r.returncode == 2 and expected in r.stderr and r.stderr.count("\n") == 1, r
    with daemon(config="fail_open: yes\nlinger: 100ms # soon\nlog_level: debug\n") as d:
        c = d.get("/v1/status")["config"]
        assert c["fail_open"] is True and c["linger_ns"] == 100000000 and c["idle_exit_ns"] == 0
        d.create(name="f", gpu_permille=100)
        assert d.guard("f").fail_open == 1
        with open(d.config, "w") as f:
            f.write("linger: 300ms\n")
        d.process.send_signal(signal.SIGHUP)
        wait_for(lambda: d.get("/v1/status")["config"]["linger_ns"] == 300000000, 2)
        with open(d.config, "w") as f:
            f.write("linger: 1s\nnonsense: 1\n")
        d.process.send_signal(signal.SIGHUP)
        wait_for(lambda: [e for e in d.events("configured") if "nonsense" in e["text"]], 2)
        assert d.get("/v1/status")["config"]["linger_ns"] == 300000000
    with daemon(foreground=False) as d:
        for args in ["--nonsense"], ["extra"], ["--system", "--socket", "x"], ["--config"], \
                ["--config", "/nonexistent"]:
            r = subprocess.run([d.exe] + args, env=d.env, capture_output=True, timeout=10)
            assert r.returncode == 2 and r.stderr, (args, r)
        r = subprocess.run([d.exe, "--sim", "none", "--foreground"], env=d.env, capture_output=True,
                           timeout=10, text=True)
        assert r.returncode == 1 and "none" in r.stderr, r
        os.makedirs(d.rundir, exist_ok=True)
        os.chmod(d.rundir, 0o777)
        r = subprocess.run([d.exe, "--foreground"], env=d.env, capture_output=True, timeout=10)
        assert r.returncode == 1, r


if __name__ == "__main__":
    run([v for k, v in list(globals().items()) if k.startswith("test_")])
