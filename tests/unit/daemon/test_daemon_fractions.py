#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Fractions over HTTP: making, changing, refusing, ending. No guard is attached."""
import contextlib
import json
import os
import socket
import subprocess
import time

from aqd import CARD, GIB, other_process, run, wait_for


def test_half_is_half(daemon):
    with daemon() as d:
        f = d.create(gpu_permille=500, command="/usr/bin/vllm serve")
        assert f["name"] == "vllm" and f["state"] == "running" and f["simulated"]
        assert f["memory_request_bytes"] == f["memory_limit_bytes"] == CARD // 2
        assert (f["compute_request_permille"], f["compute_limit_permille"]) == (500, 1000)
        assert f["priority"] == "normal" and f["project"] == "default" and f["clients"] == []
        assert f["cuda_visible_devices"] == f["devices"][0]["uuid"]
        assert f["socket"] == d.path("aliquotd.sock")
        dev, = d.get("/v1/devices")
        assert dev["memory_total_bytes"] == CARD and dev["memory_used_bytes"] == 0
        assert dev["memory_reserved_bytes"] == CARD // 2
        assert dev["compute_reserved_permille"] == 500 and dev["simulated"] is True
        assert d.create(gpu_permille=500, command="vllm")["name"] == "vllm-2"
        r = d.refused("POST", "/v1/fractions", {"gpu_permille": 10})
        assert r.code == 409 and r.body["reason"] == "device" and r.body["free_bytes"] == 0, r
        assert r.body["devices"][0]["free_bytes"] == 0
        assert d.events("refused")[0]["reason"] == "device"
        d.check()


def test_input_is_checked(daemon):
    bad = [
        b"{", b"[]", b"3", b'{"name": "a", "name": "b"}', b"\xff\xfe", b'{"gpus": 1e99}',
        {"gpu": 1}, {"gpu_permille": 9}, {"gpu_permille": 1001}, {"gpu_permille": 0.5},
        {"gpu_permille": "500"}, {"gpu_permille": True}, {"memory_limit_bytes": 0},
        {"memory_limit_bytes": -1}, {"memory_request_bytes": -1},
        b'{"memory_limit_bytes": 18446744073709551616}', {"compute_limit_permille": 0},
        {"compute_request_permille": 600, "compute_limit_permille": 500},
        {"memory_request_bytes": 2 * GIB, "memory_limit_bytes": GIB},
        {"memory_limit_bytes": 511}, {"name": ""}, {"name": "a b"}, {"name": "-a"},
        {"name": "../x"}, {"name": "x" * 64}, {"name": "a\x00b"}, {"name": 3},
        {"project": "p/q"}, {"priority": "urgent"}, {"priority": 1}, {"gpus": 0}, {"gpus": 17},
        {"gpus": -1}, {"device": "first"}, {"device": -1}, {"device": 1.5}, {"device": []},
        {"device": "GPU-123"}, {"sim": "none"}, {"sim": "a:0"}, {"sim": ""[:0] + "x" * 64},
        {"wait_ms": -2}, {"wait_ms": 1 << 40}, {"command": "x" * 400},
        {"command": "a\nb"}, {"mount_namespace": 1},
    ]
    with daemon() as d:
        for body in bad:
            r = d.refused("POST", "/v1/fractions", body)
            assert r.code == 400, (body, r)
            assert "\n" not in r.body["error"] and r.body["reason"], (body, r)
        assert d.refused("POST", "/v1/fractions", {"device": 7}).code == 404
        assert d.refused("POST", "/v1/fractions", {"gpus": 2}).code == 409
        r = d.refused("POST", "/v1/fractions", {"memory_limit_bytes": (1 << 63) - 1})
        assert r.code == 409 and r.body["reason"] == "too_large" and r.body["free_bytes"] == CARD
        assert b" 413 " in d.raw(b"POST /v1/fractions HTTP/1.1\r\nHost: x\r\n"
                                 b"Content-Length: 70000\r\n\r\n")
        for rubbish in (b"\0" * 100, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", os.urandom(500),
                        b"GET /" + b"x" * 40000 + b" HTTP/1.1\r\n\r\n",
                        b"POST /v1/fractions HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
                        b"BREW /v1/version HTTP/1.1\r\nHost: x\r\n\r\n"):
            answer = d.raw(rubbish)
            assert not answer or b" 200 " not in answer.split(b"\r\n")[0], (rubbish, answer)
        assert d.get("/v1/fractions") == []
        assert d.refused("GET", "/v1/nothing").code == 404
        assert d.refused("GET", "/v1/fractions/none").code == 404
        assert d.refused("GET", "/v1/fractions/..%2f").code == 404
        assert d.refused("PATCH", "/v1/fractions").code == 405
        # silence is not a wish for a whole device
        for nothing in b"", None:
            assert d.refused("POST", "/v1/fractions", nothing).body["reason"] == "no_body"
        assert d.get("/v1/fractions") == []
        assert d.refused("POST", "/v1/fractions/none/kill").code == 404
        assert d.refused("GET", "/v1/events?since=x").code == 400
        assert d.refused("GET", "/v1/events?frm=1").code == 400
        f = d.create(name="f", memory_limit_bytes=GIB)
        assert d.refused("POST", "/v1/fractions", {"name": "f"}).body["reason"] == "name_taken"
        assert d.refused("POST", "/v1/fractions/nobody/park").code == 404
        for body in (b"", {}, {"gpus": 1}, {"memory_limit_bytes": 0}, {"priority": "x"}):
            assert d.refused("PATCH", "/v1/fractions/f", body).code == 400, body
        assert d.fraction("f")["memory_limit_bytes"] == f["memory_limit_bytes"]
        d.check()


def test_defaults(daemon):
    with daemon(sim="fake:3") as d:
        def terms(**ask):
            f = d.create(**ask)
            return [f[k] for k in ("memory_request_bytes", "memory_limit_bytes",
                                   "compute_request_permille", "compute_limit_permille")]
        assert terms() == [CARD, CARD, 1000, 1000]
        assert terms(memory_request_bytes=20 * GIB) == [20 * GIB, 20 * GIB, 250, 1000]
        assert terms(memory_limit_bytes=8 * GIB) == [8 * GIB, 8 * GIB, 100, 1000]
        assert terms(memory_request_bytes=0, memory_limit_bytes=CARD,
                     compute_request_permille=0) == [0, CARD, 0, 1000]
        assert terms(gpu_permille=100, memory_limit_bytes=16 * GIB) == [8 * GIB, 16 * GIB, 100, 1000]
        assert terms(gpu_permille=100, memory_request_bytes=GIB) == [GIB, GIB, 100, 1000]
        assert terms(compute_request_permille=100, compute_limit_permille=100) == \
            [8 * GIB, 8 * GIB, 100, 100]
        d.check()


def test_best_fit_and_several(daemon):
    with daemon(sim="fake:3") as d:
        d.create(gpu_permille=700, device=1)
        assert d.create(gpu_permille=200)["devices"][0]["index"] == 1
        f = d.create(gpus=2, memory_request_bytes=10 * GIB, compute_request_permille=100)
        assert sorted(x["index"] for x in f["devices"]) == [0, 2], f
        assert f["memory_limit_bytes"] == 20 * GIB
        assert f["cuda_visible_devices"].count(",") == 1
        uuid = d.get("/v1/devices")[2]["uuid"]
        assert d.create(gpu_permille=100, device=uuid.lower())["devices"][0]["index"] == 2
        assert d.create(gpu_permille=100, device="2")["devices"][0]["index"] == 2
        assert d.refused("POST", "/v1/fractions", {"gpus": 3}).code == 409
        d.check()


def test_resize(daemon):
    with daemon() as d:
        d.create(name="a", gpu_permille=250)
        d.create(name="b", gpu_permille=500)
        f = d.call("PATCH", "/v1/fractions/a", {"memory_limit_bytes": 30 * GIB})
        assert (f["memory_request_bytes"], f["memory_limit_bytes"]) == (20 * GIB, 30 * GIB)
        f = d.call("PATCH", "/v1/fractions/a", {"gpu_permille": 500, "priority": "high"})
        assert f["memory_request_bytes"] == f["memory_limit_bytes"] == 40 * GIB
        assert f["compute_request_permille"] == 500 and f["priority"] == "high"
        r = d.refused("PATCH", "/v1/fractions/a", {"memory_request_bytes": 41 * GIB})
        assert r.code == 409 and r.body["free_bytes"] == 40 * GIB, r
        r = d.refused("PATCH", "/v1/fractions/a", {"memory_limit_bytes": 81 * GIB})
        assert r.code == 409 and r.body["reason"] == "too_large", r
        r = d.refused("PATCH", "/v1/fractions/a", {"compute_request_permille": 501})
        assert r.code == 409 and r.body["reason"] == "compute", r
        f = d.call("PATCH", "/v1/fractions/a", {"memory_limit_bytes": 10 * GIB})
        assert (f["memory_request_bytes"], f["memory_limit_bytes"]) == (10 * GIB, 10 * GIB)
        d.check()


def test_ends_with_its_holder(daemon):
    with daemon() as d:
        me = os.getpid()
        assert d.create(name="mine", gpu_permille=100)["holder_pid"] == me
        p = other_process(d, {"name": "its", "gpu_permille": 100}, "time.sleep(0.3)")
        assert p.stdout.readline() == b"201\n"
        assert d.fraction("its")["holder_pid"] == p.pid
        p.wait()
        end = time.monotonic()
        wait_for(lambda: len(d.get("/v1/fractions")) == 1, 4)
        assert 1.5 < time.monotonic() - end < 3
        assert d.events("ended")[0]["fraction"] == "its"
        assert d.get("/v1/devices")[0]["memory_reserved_bytes"] == CARD // 10
        d.check()


def test_one_follows_another_at_once(daemon):
    """In a script, the next program must not wait until the last one's fraction has lingered."""
    with daemon() as d:
        for name in ("all", "all", "all", "other"):
            p = other_process(d, {"name": name, "gpu_permille": 1000})
            assert p.communicate()[0] == b"201\n", name
        d.create(name="held", gpu_permille=1000)
        r = d.refused("POST", "/v1/fractions", {"name": "held", "gpu_permille": 10})
        assert r.code == 409 and r.body["reason"] == "name_taken", r
        d.check()


def test_waiting_ends_with_what_it_waits_for(daemon):
    """Who waits for room has it when a program ends, not when its fraction has lingered."""
    with daemon(config="linger: 20s\n") as d:
        begin = time.monotonic()
        many = [other_process(d, {"gpu_permille": 1000, "wait_ms": -1}) for _ in range(6)]
        assert [p.communicate()[0] for p in many] == [b"201\n"] * 6
        assert time.monotonic() - begin < 20
        d.check()


def test_what_lingers_is_in_no_resizes_way(daemon):
    for kept, change in (({"memory_request_bytes": 40 * GIB}, {"memory_request_bytes": 60 * GIB}),
                         ({"memory_request_bytes": GIB, "compute_request_permille": 600},
                          {"compute_request_permille": 700})):
        with daemon(config="linger: 20s\n") as d:
            d.create(name="stays", memory_request_bytes=GIB, compute_request_permille=100)
            assert other_process(d, {"name": "its", **kept}).communicate()[0] == b"201\n"
            time.sleep(0.2)
            assert len(d.get("/v1/fractions")) == 2
            d.call("PATCH", "/v1/fractions/stays", change)
            assert [f["name"] for f in d.get("/v1/fractions")] == ["stays"]
            assert other_process(d, {"name": "its", **kept}).communicate()[0] == b"409\n"
            d.check()


def test_killed_what_lingers_is_gone(daemon):
    with daemon(config="linger: 20s\n") as d:
        assert other_process(d, {"name": "its"}).communicate()[0] == b"201\n"
        time.sleep(0.2)
        assert d.fraction("its")["state"] == "running"
        d.call("POST", "/v1/fractions/its/kill", {})
        wait_for(lambda: d.get("/v1/fractions") == [], 5)
        d.check()


def test_kill_is_term_then_kill(daemon):
    with daemon() as d:
        # os.write: the signal may come while print() is at work
        p = other_process(d, {"name": "k"}, "while True: time.sleep(1)",
                          "signal.signal(signal.SIGTERM, lambda *a: os.write(1, b'term\\n'))")
        assert p.stdout.readline() == b"201\n"
        start = time.monotonic()
        assert d.call("POST", "/v1/fractions/k/kill", {})["signalled"] == 1
        assert p.stdout.readline() == b"term\n"
        assert p.wait(10) == -9
        assert 4.5 < time.monotonic() - start < 7
        wait_for(lambda: d.get("/v1/fractions") == [], 1)
        assert d.refused("POST", "/v1/fractions/k/kill", {"signal": 0}).code in (400, 404)


def test_sim_on_demand(daemon):
    with daemon(sim=None) as d:
        if not [x for x in d.get("/v1/devices")]:
            r = d.refused("POST", "/v1/fractions", {})
            assert r.code == 409 and r.body["reason"] == "no_device", r
        f = d.create(sim="one", gpu_permille=500)
        assert f["simulated"]
        g = d.create(sim="two:2", gpus=2, gpu_permille=100)
        assert len({x["uuid"] for x in g["devices"] + f["devices"]}) == 3
        h = d.create(sim="one", gpu_permille=500)
        assert h["devices"][0]["uuid"] == f["devices"][0]["uuid"]
        assert d.refused("POST", "/v1/fractions", {"sim": "one"}).code == 409


def test_head_is_get_without_the_body(daemon):
    with daemon() as d:
        d.create(name="f", gpu_permille=100)
        for path in ("/v1/version", "/v1/fractions", "/v1/fractions/f", "/v1/devices", "/v1/status",
                     "/metrics", "/v1/nothing", "/v1/fractions/none"):
            answers = [d.raw(method + b" " + path.encode() + b" HTTP/1.1\r\nHost: x\r\n"
                             b"Connection: close\r\n\r\n") for method in (b"GET", b"HEAD")]
            (head, body), (only, rest) = [a.split(b"\r\n\r\n", 1) for a in answers]
            assert body and not rest, (path, answers)
            assert head.split(b"\r\n")[0] == only.split(b"\r\n")[0], (path, answers)
            lengths = [int(line.split(b":")[1]) for h in (head, only) for line in h.split(b"\r\n")
                       if line.lower().startswith(b"content-length:")]
            assert lengths[0] == len(body) and len(lengths) == 2, (path, answers)
            assert path == "/metrics" or lengths[0] == lengths[1], (path, lengths)  # counts grow
        # a stream has no end to tell of
        assert d.raw(b"HEAD /v1/events?follow=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                     ).endswith(b"\r\n\r\n")


def test_default_names_are_the_lowest_free(daemon):
    with daemon() as d:
        names = [d.create(command="/usr/bin/my prog", memory_limit_bytes=GIB, gpus=1,
                          compute_request_permille=10)["name"] for _ in range(3)]
        assert names == ["my", "my-2", "my-3"], names
        for taken in "my-5", "my-06", "my-", "mystery", "my-7x":
            d.create(name=taken, memory_limit_bytes=GIB, compute_request_permille=10)
        more = [d.create(command="my", memory_limit_bytes=GIB, compute_request_permille=10)["name"]
                for _ in range(4)]
        assert more == ["my-4", "my-6", "my-7", "my-8"], more
        # a name that one waits under is taken, too
        body = json.dumps({"command": "my", "memory_limit_bytes": 79 * GIB, "wait_ms": -1}).encode()
        s = socket.socket(socket.AF_UNIX)
        s.connect(d.path("api.sock"))
        s.sendall(b"POST /v1/fractions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
                  % (len(body), body))
        wait_for(lambda: [f for f in d.get("/v1/fractions") if f["name"] == "my-9"], 2)
        assert d.create(command="my", priority="high", memory_limit_bytes=GIB,
                        compute_request_permille=10)["name"] == "my-10"
        s.close()
        assert d.create(command="...", priority="high", memory_limit_bytes=GIB,
                        compute_request_permille=10)["name"] == "fraction"
        d.check()


def test_a_user_has_only_so_many_connections(daemon):
    """One user's storm leaves the API to the others, and is told why."""
    with daemon(limits=(512, 512)) as d:
        hoard = []

        def connect():
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(5)
            s.connect(d.path("api.sock"))
            return s
        mine = 512 // 8
        hoard = [connect() for _ in range(mine)]
        late = connect()
        with contextlib.suppress(BrokenPipeError):
            late.sendall(b"POST /v1/fractions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
        assert late.recv(4096).startswith(b"HTTP/1.1 429 "), "the surplus is refused"
        late.close()
        # what is there still works, and so do others
        hoard[0].sendall(b"GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n")
        assert hoard[0].recv(4096).startswith(b"HTTP/1.1 200 ")
        if os.getuid() == 0:
            os.chmod(d.dir, 0o755), os.chmod(d.rundir, 0o755), os.chmod(d.path("api.sock"), 0o666)
            code = ("import http.client,socket,sys\n"
                    "c=http.client.HTTPConnection('x');c.sock=socket.socket(socket.AF_UNIX)\n"
                    "c.sock.connect(sys.argv[1]);c.request('GET','/v1/fractions')\n"
                    "r=c.getresponse();sys.exit(r.status != 200 or r.read() != b'[]\\n')")
            assert subprocess.run(["/usr/bin/python3", "-c", code, d.path("api.sock")],
                                  user=65534, extra_groups=[], timeout=10).returncode == 0
        # room again as soon as there is
        for s in hoard:
            s.close()
        assert wait_for(lambda: d.get("/v1/fractions") == [], 3)
        assert [e["reason"] for e in d.events("rejected")] == ["user_connections"]
        d.check()


if __name__ == "__main__":
    run([v for k, v in list(globals().items()) if k.startswith("test_")])
