#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A stand-in for aliquotd's API with two simulated devices, for tests of the command alone.

Keeps fractions in memory, counts nothing, speaks to no guard. Takes the run directory from
XDG_RUNTIME_DIR as the daemon does, goes into the background, holds aliquotd.pid as a lock, and
notes every request in requests.log there. A fraction named `wait...` is granted after STUB_WAIT_S seconds.
"""
import fcntl
import http.server
import json
import os
import pathlib
import re
import socketserver
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
import aqproto  # pylint: disable=wrong-import-position

RUNDIR = pathlib.Path(os.environ["XDG_RUNTIME_DIR"]) / "aliquot"
GIB = 1 << 30
TOTAL = 79 * GIB
UUIDS = [f"GPU-00000000-0000-4000-8000-00000000000{i}" for i in range(2)]
fractions = {}
events = [
    {"seq": 1, "time": "2026-01-02T03:04:05.678Z", "type": "created", "fraction": "a", "pid": 7,
     "device": UUIDS[0], "text": "fraction 'a' was created"},
    {"seq": 2, "time": "2026-01-02T03:04:06.678Z", "type": "denied", "fraction": "a", "pid": 7,
     "device": UUIDS[0], "text": "cuMemAlloc_v2 asked for 2 GiB, 1 GiB free"},
]


def devices():
    reserved = sum(f["memory_request_bytes"] for f in fractions.values())
    return [{"index": i, "uuid": u, "name": "NVIDIA H100 80GB HBM3", "memory_total_bytes": TOTAL,
             "memory_used_bytes": 3 * GIB if i else 3 * GIB // 2 * len(fractions),
             "memory_reserved_bytes": 0 if i else reserved, "compute_reserved_permille": 250,
             "mechanism": "gate", "simulated": True} for i, u in enumerate(UUIDS)]


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def address_string(self):
        return "unix"

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, error, **more):
        self.answer(status, {"error": error, "reason": "test", **more})

    def body(self):
        size = int(self.headers.get("Content-Length") or 0)
        text = self.rfile.read(size).decode()
        with open(RUNDIR / "requests.log", "a") as log:
            log.write(f"{self.command} {self.path} {text}\n")
        return json.loads(text) if text else {}

    def do_GET(self):
        self.body()
        path, _, query = self.path.partition("?")
        found = re.fullmatch(r"/v1/fractions/([^/]+)", path)
        if path == "/v1/version":
            self.answer(200, {"version": "0.0.1", "abi": aqproto.ABI, "pid": os.getpid(), "started_ns": 1,
                              "rundir": str(RUNDIR), "system": False})
        elif path == "/v1/devices":
            self.answer(200, devices())
        elif path == "/v1/fractions":
            self.answer(200, list(fractions.values()))
        elif found and found[1] in fractions:
            self.answer(200, fractions[found[1]])
        elif path == "/v1/status":
            self.answer(200, {"warnings": []})
        elif path == "/v1/events":
            args = dict(a.split("=") for a in query.split("&") if a)
            some = [e for e in events if e["seq"] > int(args.get("since", 0))]
            if "follow" not in args:
                self.answer(200, some[-int(args.get("limit", 1000)):])
                return
            self.send_response(200)
            self.end_headers()
            for event in some:
                self.wfile.write(json.dumps(event).encode() + b"\n")
        else:
            self.refuse(404, "no such fraction")

    def do_POST(self):
        body = self.body()
        acted = re.fullmatch(r"/v1/fractions/([^/]+)/(kill|park|resume)", self.path)
        if acted and acted[1] not in fractions:
            self.refuse(404, "no such fraction")
        elif acted and acted[2] == "kill":
            self.answer(200, fractions.pop(acted[1]))
        elif acted:
            self.refuse(501, "this daemon cannot park yet")
        else:
            self.create(body)

    def create(self, body):
        name = body.get("name") or body["command"].split()[0].split("/")[-1]
        share = body.get("gpu_permille", 1000)
        request = body.get("memory_request_bytes", TOTAL * share // 1000)
        if name.startswith("wait"):
            time.sleep(float(os.environ.get("STUB_WAIT_S", "1")))
        if name == "late":
            self.refuse(408, "nothing became free in time")
        elif body.get("device") == 9:
            self.refuse(400, "there is no device 9")
        elif request > TOTAL:
            self.refuse(409, "no device can guarantee that much memory", devices=[
                {"index": 0, "uuid": UUIDS[0], "free_bytes": 12 * GIB, "free_permille": 250}])
        elif name in fractions:
            self.refuse(409, "the name is taken")
        else:
            fractions[name] = {
                "name": name, "project": body.get("project", "default"),
                "priority": body.get("priority", "normal"), "state": "running",
                "devices": [{"uuid": UUIDS[0], "index": 0, "memory_request_bytes": request,
                             "memory_limit_bytes": body.get("memory_limit_bytes", request),
                             "memory_used_bytes": 3 * GIB // 2}],
                "memory_request_bytes": request,
                "memory_limit_bytes": body.get("memory_limit_bytes", request),
                "memory_used_bytes": 3 * GIB // 2, "memory_parked_bytes": 0,
                "compute_request_permille": share, "compute_limit_permille": 1000,
                "gpu_time_ns": 65_000_000_000,
                "clients": [{"pid": os.getpid(), "memory_used_bytes": 3 * GIB // 2}]}
            self.answer(201, {**fractions[name], "socket": str(RUNDIR / "aliquotd.sock"),
                              "cuda_visible_devices": UUIDS[0],
                              "simulated": "STUB_REAL" not in os.environ})

    def do_PATCH(self):
        body = self.body()
        fraction = fractions.get(self.path.split("/")[-1])
        if not fraction:
            self.refuse(404, "no such fraction")
        elif body.get("memory_limit_bytes", 1 << 60) < fraction["memory_used_bytes"]:
            self.refuse(409, "the limit is below the 1.5 GiB in use")
        else:
            fraction.update(body)
            fraction["devices"][0].update(
                {k: v for k, v in body.items() if k.startswith("memory")})
            self.answer(200, fraction)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def main():
    read, write = os.pipe()
    if os.fork():
        os.close(write)
        return 0 if os.read(read, 1) else 1
    os.close(read)
    os.setsid()
    os.chdir("/")
    RUNDIR.mkdir(mode=0o700, exist_ok=True)
    lock = open(RUNDIR / "aliquotd.pid", "a")
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return 1
    lock.truncate(0)
    print(os.getpid(), file=lock, flush=True)
    with open(RUNDIR / "starts.log", "a") as log:
        print(*sys.argv[1:], file=log)
    path = RUNDIR / "api.sock"
    path.unlink(missing_ok=True)
    with Server(str(path), Handler) as server:
        os.write(write, b"1")
        os.close(write)
        if "STUB_LIFE_S" in os.environ:
            server.timeout = 0.2
            end = time.monotonic() + float(os.environ["STUB_LIFE_S"])
            while time.monotonic() < end:
                server.handle_request()
        else:
            server.serve_forever(poll_interval=0.05)
    return 0


sys.exit(main())
