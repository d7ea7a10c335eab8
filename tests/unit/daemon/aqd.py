# SPDX-License-Identifier: Apache-2.0
"""Starts a daemon of its own on a fake NVML, speaks HTTP to it, and plays the guard."""
import array
import http.client
import json
import mmap
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
from aqproto import *  # pylint: disable=wildcard-import,unused-wildcard-import,wrong-import-position

MIB = 1 << 20
GIB = 1 << 30
CARD = 80 * GIB  # of fake_nvml.c

EPERM, ENOENT, ESRCH, ENOMEM, EACCES, ENODEV, EINVAL, EMFILE, EPROTO = 1, 2, 3, 12, 13, 19, 22, 24, 71


def wait_for(what, seconds=5.0, step=0.01):
    """Poll until what() is true; the last value, or fail."""
    end = time.monotonic() + seconds
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("did not happen within %s s: %s" % (seconds, what))
        time.sleep(step)


def other_process(daemon, terms, then="", first=""):
    """A process that makes a fraction of @terms, which it holds, and says the status in a line.

    @first and @then are what it does besides, in Python. Return: the process, its output a pipe.
    """
    code = (f"import http.client, os, signal, socket, sys, time\n{first}\n"
            "c = http.client.HTTPConnection('x')\n"
            "c.sock = socket.socket(socket.AF_UNIX)\n"
            "c.sock.connect(sys.argv[1])\n"
            "c.request('POST', '/v1/fractions', sys.argv[2])\n"
            f"print(c.getresponse().status, flush=True)\n{then}\n")
    return subprocess.Popen(["/usr/bin/python3", "-c", code, daemon.path("api.sock"),
                             json.dumps(terms)], stdout=subprocess.PIPE)


class Refused(Exception):
    """An HTTP answer that is no success."""

    def __init__(self, code, body):
        super().__init__("%d %s" % (code, body))
        self.code, self.body = code, body


class Daemon:
    def __init__(self, exe, fake_nvml, sim="fake", config=None, foreground=True, env=None,
                 limits=None):
        self.exe = exe
        self.dir = tempfile.mkdtemp(prefix="aqd-")
        self.rundir = os.path.join(self.dir, "aliquot")
        self.libdir = os.path.join(self.dir, "lib")
        self.sim_dir = os.path.join(self.rundir, "sim")
        os.makedirs(os.path.join(self.libdir, "guard"))
        os.makedirs(os.path.join(self.libdir, "sim"))
        open(os.path.join(self.libdir, "guard", "libcuda.so.1"), "w").close()
        os.symlink(os.path.abspath(fake_nvml), os.path.join(self.libdir, "sim", "libnvidia-ml.so.1"))
        self.env = dict(os.environ, XDG_RUNTIME_DIR=self.dir, ALIQUOT_LIBDIR=self.libdir, **(env or {}))
        self.env.pop("ALIQUOT_SIM", None)
        self.env.pop("ALIQUOT_SIM_DIR", None)
        self.args = [] if sim is None else ["--sim", sim]
        if config is not None:
            self.config = os.path.join(self.dir, "config.yaml")
            with open(self.config, "w") as f:
                f.write(config)
            self.args += ["--config", self.config]
        if foreground:
            self.args += ["--foreground"]
        self.limits = limits  # RLIMIT_NOFILE
        self.log = os.path.join(self.dir, "log")
        self.process = None
        self.guards = []
        if foreground:
            self.start()

    def start(self):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen([self.exe] + self.args, env=self.env, stderr=log,
                                            preexec_fn=self.limit)
        wait_for(lambda: self.process.poll() is not None or os.path.exists(self.path("api.sock"))
                 and self.answers(), 20)
        assert self.process.poll() is None, self.log_text()

    def limit(self):
        if self.limits:
            resource.setrlimit(resource.RLIMIT_NOFILE, self.limits)

    def answers(self):
        try:
            return self.get("/v1/version")["pid"] == self.process.pid
        except (OSError, http.client.HTTPException, ValueError):
            return False

    def path(self, name):
        return os.path.join(self.rundir, name)

    def log_text(self):
        with open(self.log) as f:
            return f.read()

    def kill9(self):
        self.process.kill()
        self.process.wait()

    def sanitized(self):
        with open("/proc/%d/maps" % self.process.pid) as f:
            maps = f.read()
        return "libasan" in maps or "libtsan" in maps

    def stop(self):
        for g in self.guards:
            g.close()
        if self.process and self.process.poll() is None:
            self.process.terminate()
            status = self.process.wait(20)
            assert status == 0, "daemon ended with %s: %s" % (status, self.log_text()[-4000:])
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind:
            sys.stderr.write(self.log_text()[-8000:])
        self.stop()

    # HTTP

    def call(self, method, path, body=None, timeout=30):
        c = http.client.HTTPConnection("localhost", timeout=timeout)
        c.sock = socket.socket(socket.AF_UNIX)
        c.sock.settimeout(timeout)
        c.sock.connect(self.path("api.sock"))
        text = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        c.request(method, path, text)
        r = c.getresponse()
        raw = r.read()
        c.close()
        value = json.loads(raw) if r.headers["Content-Type"] == "application/json" else raw.decode()
        if r.status >= 300:
            raise Refused(r.status, value)
        return value

    def raw(self, text):
        """What the daemon answers to any bytes at all, to the end or for a second."""
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(1)
        s.connect(self.path("api.sock"))
        s.sendall(text)
        s.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while True:
                more = s.recv(65536)
                answer += more
                if not more:
                    break
        except (socket.timeout, ConnectionResetError):
            pass
        s.close()
        return answer

    def get(self, path):
        return self.call("GET", path)

    def create(self, **ask):
        return self.call("POST", "/v1/fractions", ask)

    def fraction(self, name):
        return self.get("/v1/fractions/" + name)

    def events(self, *types):
        return [e for e in self.get("/v1/events") if not types or e["type"] in types]

    def refused(self, method, path, body=None):
        try:
            self.call(method, path, body)
        except Refused as r:
            return r
        raise AssertionError("not refused: %s %s %s" % (method, path, body))

    def check(self):
        """The daemon's own books add up, and nothing is wrong."""
        warnings = [w for w in self.get("/v1/status")["warnings"] if "bug" in w]
        assert not warnings, warnings

    # NVML

    def usage(self, uses):
        """What NVML sees: (device, pid, bytes)."""
        new = os.path.join(self.sim_dir, "usage.new")
        with open(new, "w") as f:
            for use in uses:
                f.write("%d %d %d\n" % use)
        os.rename(new, os.path.join(self.sim_dir, "usage"))

    def usage_served(self, uses):
        """The same asked anew at each reading, while the daemon waits: uses() gives the list."""
        return Served(self, uses)

    def guard(self, fraction, **how):
        g = Guard(self.path("aliquotd.sock"), fraction, **how)
        self.guards.append(g)
        return g


class Served:
    """A fake NVML's `usage` that is a pipe; a new one for each reader, so that no two meet."""

    def __init__(self, daemon, uses):
        self.daemon, self.uses, self.over = daemon, uses, False
        self.path = os.path.join(daemon.sim_dir, "usage")
        self.next()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def next(self):
        os.mkfifo(self.path + ".pipe")
        os.rename(self.path + ".pipe", self.path)

    def serve(self):
        while not self.over:
            fd = os.open(self.path, os.O_WRONLY)
            if not self.over:
                self.next()
            os.write(fd, b"".join(b"%d %d %d\n" % use for use in self.uses()))
            os.close(fd)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.over = True
        fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        self.thread.join(10)
        self.daemon.usage(self.uses())
        os.close(os.open("/proc/self/fd/%d" % fd, os.O_WRONLY | os.O_NONBLOCK))  # whoever came late
        os.close(fd)


class Guard(Client):
    """One connection, and the page if it is a client's."""

    def __init__(self, path, fraction, kind=CLIENT, page_fd=None, attach=True):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(20)
        self.sock.connect(path)
        self.seq = 0
        self.page_fd = None
        if not attach:
            return
        fds = [] if page_fd is None else [page_fd]
        r, got = self.ask(HELLO_REPLY, hello(fraction, kind, len(fds), seq=self.next()), fds)
        self.result, self.abi, self.device_count = r["result"], r["their_abi"], r["devices"]
        self.fail_open, self.fraction, self.text = r["fail_open"], r["fraction"], r["text"]
        if page_fd is not None:
            got = [os.dup(page_fd)]
        if self.result == 0 and kind == CLIENT:
            self.page_fd = got[0]
            self.page = mmap.mmap(self.page_fd, PAGE_BYTES)

    def close(self):
        self.sock.close()
        if self.page_fd is not None:
            os.close(self.page_fd)
            self.page_fd = None

    def next(self):
        self.seq += 1
        return self.seq

    def send(self, kind, body, fds=(), **wrong):
        self.raw(head(kind, body, seq=self.next(), **wrong), fds)

    def raw(self, packet, fds=()):
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([packet], control)

    def receive(self, kind):
        packet, control, _, _ = self.sock.recvmsg(8192, socket.CMSG_SPACE(16))
        if not packet:
            raise ConnectionResetError("closed by the daemon")
        magic, got, size, abi, seq = HEAD.unpack_from(packet)
        assert (magic, got, size, abi, seq) == (MAGIC, kind, len(packet), ABI, self.seq), \
            (magic, got, size, abi, seq, kind)
        fds = []
        for level, what, data in control:
            if level == socket.SOL_SOCKET and what == socket.SCM_RIGHTS:
                fds += array.array("i", data)
        return decode(packet), fds

    def ask(self, kind, packet, fds=()):
        """The reply of that kind to a packet that carries self.next()."""
        self.raw(packet, fds)
        return self.receive(kind)

    # The page

    def tell_unmeasured(self, device=0):
        self.add("unmeasured", device)

    def add(self, field, device):
        self.put(field, self.get(field, device) + 1, device)

    def granted(self, device=0):
        return self.word(device)[0] * GRAIN

    def used(self, device=0):
        return self.word(device)[1] * GRAIN

    def limit(self, device=0):
        return self.get("limit_bytes", device)

    # Requests

    def grow(self, need, device=0, api="cuMemAlloc_v2"):
        """(result, granted, limit, used, free)"""
        r, _ = self.ask(GROW_REPLY, grow(need, device, api=api.encode(), seq=self.next()))
        return r["result"], r["granted"], r["limit"], r["used"], r["free"]

    def alloc(self, size, device=0):
        """As the guard does it: inside the grant, or grow. True when granted."""
        grains = -(-size // GRAIN)
        while True:
            granted, used = self.word(device)
            if used + grains <= granted:
                self.set_word(granted, used + grains, device)
                self.add("changes", device)
                return True
            if self.grow((used + grains - granted) * GRAIN, device)[0] < 0:
                return False

    def free(self, size, device=0):
        granted, used = self.word(device)
        self.set_word(granted, used - -(-size // GRAIN), device)
        self.add("changes", device)

    def cost(self, phase, estimate, device=0, api="cuCtxCreate_v4"):
        """(result, overhead, free)"""
        r, _ = self.ask(COST_REPLY, cost(phase, estimate, device, api.encode(), seq=self.next()))
        return r["result"], r["overhead"], r["free"]

    def query(self, device=0, uuid=b""):
        """dict of QUERY_REPLY"""
        return self.ask(QUERY_REPLY, query(device, uuid=uuid, seq=self.next()))[0]

    def fork_child(self):
        """A child that keeps all that is open; its pid."""
        pid = os.fork()
        if not pid:
            time.sleep(60)
            os._exit(0)
        return pid

    def procs(self, device=0):
        """{pid: used}"""
        r, _ = self.ask(PROCS_REPLY, query(device, PROCS, seq=self.next()))
        assert r["result"] == 0, r
        return r["procs"]

    def closed(self):
        """Has the daemon hung up?"""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True


class Remote:
    """A guard in a process of its own, driven over a pipe: what it is called with, it does."""

    guard = Guard

    def __init__(self, daemon, fraction, **how):
        self.requests, there_in = socket.socketpair()
        self.pid = os.fork()
        if not self.pid:
            self.requests.close()
            self._serve(self.guard, there_in, daemon.path("aliquotd.sock"), fraction, how)
        there_in.close()
        self.file = self.requests.makefile("rw")
        self.hello = self._answer()

    @staticmethod
    def _serve(guard, sock, path, fraction, how):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        f = sock.makefile("rw")
        status = 0
        try:
            g = guard(path, fraction, **how)
            f.write(json.dumps({"result": g.result, "fraction": g.fraction, "text": g.text}) + "\n")
            f.flush()
            for line in f:
                name, args = json.loads(line)
                if name == "reconnect":
                    g2 = guard(path, fraction, page_fd=g.page_fd)
                    value = g2.result
                    if g2.result == 0:
                        g = g2
                else:
                    try:
                        value = getattr(g, name)(*args)
                    except (ConnectionResetError, BrokenPipeError):
                        value = "closed"
                f.write(json.dumps(value) + "\n")
                f.flush()
        except BaseException as e:  # pylint: disable=broad-except
            sys.stderr.write("remote guard: %r\n" % e)
            status = 1
        os._exit(status)

    def _answer(self):
        line = self.file.readline()
        if not line:
            raise AssertionError("remote guard %d died" % self.pid)
        return json.loads(line)

    def begin(self, name, *args):
        """Have it do something; the result comes from result()."""
        self.file.write(json.dumps([name, args]) + "\n")
        self.file.flush()

    def result(self):
        return self._answer()

    def waits(self, seconds):
        """Is there no result after so long?"""
        return not select.select([self.requests], [], [], seconds)[0]

    def __getattr__(self, name):
        def ask(*args):
            self.begin(name, *args)
            return self._answer()
        return ask

    def end(self, sig=signal.SIGKILL):
        os.kill(self.pid, sig)
        os.waitpid(self.pid, 0)
        self.requests.close()


def run(tests):
    """Each of these functions with a daemon of its own: argv is EXE FAKE_NVML [NAME...]"""
    exe, fake = sys.argv[1:3]
    only = sys.argv[3:]
    failed = 0
    for test in tests:
        if only and test.__name__ not in only:
            continue
        start = time.monotonic()
        try:
            test(lambda **how: Daemon(exe, fake, **how))
            word = "ok"
        except Exception:  # pylint: disable=broad-except
            import traceback
            traceback.print_exc()
            failed += 1
            word = "FAILED"
        print("%s %s (%.1f s)" % (word, test.__name__, time.monotonic() - start), flush=True)
    sys.exit(1 if failed else 0)
