# SPDX-License-Identifier: Apache-2.0
"""What the integration tests share: a machine of their own, tenants in it, and checks.

A scenario is a file that defines functions taking a Machine and ends with aqtest.run(...). Each
function gets a fresh run directory, so files run in parallel; nothing outside it is touched, only
processes started by the test are ever signalled, and after each function the machine is checked
for what it left behind: processes, sockets, shared memory files.

Environment: AQ_BUILD (build directory; default: build/ of the source tree), AQ_CLI and AQ_DAEMON
(other binaries of those two), AQ_SHORT=1 (smaller rounds, for slow builds), AQ_KEEP=1 (keep the
run directory), AQ_ALL=1 (what is known to fail, too), AQ_STACKS=1 (where every process stands when a
test fails, by gdb), AQ_ROUNDS, AQ_STORM_S, AQ_SEED (for the storms).
Exit status: 0 passed, 77 skipped with the reason on stdout, 1 failed.
"""
import contextlib
import http.client
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("AQ_BUILD", ROOT / "build")).resolve()
LIB = pathlib.Path(os.environ.get("ALIQUOT_LIBDIR", BUILD / "lib"))
PROGRAMS = BUILD / "tests/programs"
DATA = ROOT / "tests/data"
CLI = os.environ.get("AQ_CLI", str(BUILD / "src/cli/aliquot"))
DAEMON = os.environ.get("AQ_DAEMON", str(BUILD / "src/daemon/aliquotd"))
SHORT = os.environ.get("AQ_SHORT") == "1"
REAL = os.environ.get("AQ_REAL") == "1"

GRAIN = 512
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
OOM = 2  # CUDA_ERROR_OUT_OF_MEMORY
PATIENCE = 60 if SHORT else 30  # seconds; how long anything may take on a busy machine


class Failure(Exception):
    """An expectation that was not met."""


class Skip(Exception):
    """Cannot be tested here, and why."""


def check(condition, *what):
    if not condition:
        raise Failure(" ".join(str(w) for w in what) or "check failed")


def equal(got, want, what):
    if got != want:
        raise Failure(f"{what}: {got!r}, expected {want!r}")


def between(got, low, high, what):
    if not low <= got <= high:
        raise Failure(f"{what}: {got!r}, expected {low!r} to {high!r}")


def eventually(probe, what, patience=None):
    """Wait until probe() is true and return what it gave."""
    deadline = time.monotonic() + (patience or PATIENCE)
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(f"still not so after {patience or PATIENCE} s: {what}")
        time.sleep(0.02)


def need_root():
    if os.geteuid() != 0:
        raise Skip("needs root")


def need_mount_namespace(machine):
    """Skip where `aliquot run` cannot make one: without root, or in a chroot."""
    found = {f["check"]: f for f in json.loads(machine.cli("doctor", "--json", code=None)[0])}
    if found["mount namespace"]["status"] != "OK":
        raise Skip("mount namespace: " + found["mount namespace"]["detail"])


def public_copy(machine):
    """The libraries and the tenant where any user may read them: a checkout of root may be private.
    Returns (directory of libraries, tenant)."""
    public = pathlib.Path(machine.directory, "public")
    shutil.copytree(LIB, public / "lib")
    tenant = shutil.copy(program("tenant"), public)
    os.chmod(machine.directory, 0o755)
    for path in (public, *public.rglob("*")):
        os.chmod(path, 0o755)
    return public / "lib", tenant


def program(name):
    return str(PROGRAMS / name)


def size_2m(count):
    return count // (2 * MIB) * (2 * MIB)


def says(text, count):
    """Is this number of bytes in a line for people, in full or as GiB with a decimal, cut off?"""
    tenths = count * 10 // GIB
    shown = f"{tenths // 10}.{tenths % 10}" if tenths % 10 else str(tenths // 10)
    return f"{shown} GiB" in text or str(count) in text


def alive(pid):
    """True while the process runs; a zombie does not."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def fds(pid):
    """What a process has open, as /proc names it. Not the memory of simulated devices: the first
    time that a killed process's is swept, the simulator opens it once for each device, and keeps
    it."""
    found = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            name = os.readlink(f"/proc/{pid}/fd/{number}")
            if not re.search(r"/aliquot-sim-\w+/memory-\d+$", name):
                found.append(name)
    return sorted(found)


def fd_count(pid):
    return len(fds(pid))


def fd_count_at_rest(pid):
    """The same, once what the test itself had just connected is gone there, too."""
    last, same = fd_count(pid), 0
    while same < 4:
        time.sleep(0.05)
        now = fd_count(pid)
        same = same + 1 if now == last else 0
        last = now
    return last


def words(line):
    """`verb key=value ...` as a dict; numbers as int; the first word as `verb`."""
    parts = line.split()
    answer = {"verb": parts[0]} if parts else {}
    for part in parts[1:]:
        key, equals, value = part.partition("=")
        if equals:
            answer[key] = int(value) if re.fullmatch(r"-?\d+", value) else value
    return answer


def aside(function):
    """Run function() in a forked child, so that what it attaches is not this process."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            signal.alarm(0)
            function()
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.stdout)
        finally:
            sys.stdout.flush()
            os._exit(status)
    equal(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0, "what ran aside")


def fraction_env(pid):
    """What a process of a fraction has in its environment that makes another one join it."""
    raw = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    pairs = dict(p.decode(errors="replace").split("=", 1) for p in raw if b"=" in p)
    return {k: v for k, v in pairs.items()
            if k.startswith(("ALIQUOT_", "CUDA_")) or k == "LD_LIBRARY_PATH"}


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def stacks(pid):
    """Where a process is, for the report of a failure; what can be had."""
    text = ""
    with contextlib.suppress(OSError):
        text = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        text += f": {pathlib.Path(f'/proc/{pid}/wchan').read_text()}\n"
    if shutil.which("gdb"):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            text += subprocess.run(["gdb", "-batch", "-nx", "-p", str(pid), "-ex",
                                    "thread apply all bt 16", "-ex", "frame 1", "-ex",
                                    "print/x mutex->__data"], capture_output=True, text=True,
                                   timeout=30).stdout[-3000:]
    return text


class Child:
    """A process started by a test, with its output in pipes or files."""

    def __init__(self, args, env, cwd=None, stdin=subprocess.PIPE, stderr=None, preexec=None):
        self.args = [str(a) for a in args]
        self.errors = tempfile.TemporaryFile() if stderr is None else stderr
        self.process = subprocess.Popen(self.args, env=env, cwd=cwd, stdin=stdin,
                                        stdout=subprocess.PIPE, stderr=self.errors,
                                        preexec_fn=preexec)
        self.pid = self.process.pid
        self.buffer = b""

    def line(self, timeout=None):
        """The next line of output, without its newline; None at the end."""
        deadline = time.monotonic() + (timeout or PATIENCE)
        fd = self.process.stdout.fileno()
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                raise Failure(f"no line within {timeout or PATIENCE} s from {self.args}")
            chunk = os.read(fd, 65536)
            if not chunk:
                return None
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode(errors="replace")

    def lines(self, timeout=None):
        """All lines until the end of output."""
        found = []
        while (line := self.line(timeout)) is not None:
            found.append(line)
        return found

    def stderr(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def wait(self, timeout=None):
        try:
            return self.process.wait(timeout or PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure(f"still running: {self.args}") from None

    def kill(self, number=signal.SIGKILL):
        if self.process.poll() is None:
            self.process.send_signal(number)

    def close(self):
        self.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()


class Tenant(Child):
    """tests/programs/tenant, told what to do line by line."""

    def send(self, command):
        try:
            self.process.stdin.write(command.encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise Failure(f"tenant is gone ({error}): {self.stderr()[-500:]}") from None

    def answer(self, timeout=None):
        line = self.line(timeout)
        if line is None:
            raise Failure(f"tenant ended with {self.wait()}: {self.stderr()[-500:]}")
        return words(line)

    def ask(self, command, timeout=None):
        self.send(command)
        return self.answer(timeout)

    def do(self, command, timeout=None, **want):
        """Ask, and expect code=0 and whatever else is given."""
        answer = self.ask(command, timeout)
        for key, value in {"code": 0, **want}.items():
            equal(answer.get(key), value, f"{key} of `{command}` ({answer})")
        return answer

    def start(self, device=0):
        self.do("init")
        self.do(f"dev {device}")
        return self

    def free(self):
        return self.do("info")["free"]

    def quit(self, code=0):
        self.process.stdin.close()
        equal(self.wait(), code, "exit code of the tenant")


class Machine:
    """A run directory of its own, and what was started in it."""

    def __init__(self, sim="h100", directory=None):
        self.sim = sim
        self.directory = directory or tempfile.mkdtemp(prefix="aqtest-")
        self.rundir = pathlib.Path(self.directory, "aliquot")
        self.bare_dir = pathlib.Path(self.directory, "bare-sim")
        self.children = []
        self.daemons = set()
        self.daemon_statuses = (0, -signal.SIGKILL)  # what a daemon may end with
        self.backing = set()
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith(("ALIQUOT_", "CUDA_VISIBLE")) and
                    (REAL or k != "LD_LIBRARY_PATH")}
        self.env["XDG_RUNTIME_DIR"] = self.directory
        for name in ("ALIQUOT_LIBDIR", "ALIQUOT_MOVE"):
            if name in os.environ:
                self.env[name] = os.environ[name]

    # Starting things

    def run_args(self, command, **options):
        """`aliquot run` with --options; gpu=0.5 gives --gpu 0.5, True gives the bare flag."""
        args = [CLI, "run"]
        if self.sim and "sim" not in options:
            args += ["--sim", self.sim]
        for key, value in options.items():
            flag = "--" + key.replace("_", "-")
            if value is True:
                args.append(flag)
            elif value is not None:
                args += [f"{flag}={value}"] if key == "wait" else [flag, str(value)]
        return args + ["--"] + [str(c) for c in command]

    def spawn(self, args, env=None, kind=Child, **kw):
        child = kind(args, {**self.env, **(env or {})}, **kw)
        self.children.append(child)
        return child

    def run(self, *command, env=None, **options):
        """Start a program under `aliquot run`; does not wait."""
        child = self.spawn(self.run_args(command, **options), env)
        return child

    def output(self, *command, code=0, env=None, timeout=None, **options):
        """Run a program under `aliquot run` to its end; its lines."""
        child = self.run(*command, env=env, **options)
        lines = child.lines(timeout)
        got = child.wait(timeout)
        if code is not None and got != code:
            raise Failure(f"exit {got}, expected {code}: {child.args}\n" + "\n".join(lines) +
                          "\n" + child.stderr()[-2000:])
        child.code = got
        return lines

    def tenant(self, env=None, start=True, **options):
        args = self.run_args([program("tenant"), "-"], **options)
        tenant = self.spawn(args, env, Tenant)
        return tenant.start() if start else tenant

    def sibling(self, member, start=True, env=None):
        """One more tenant in the fraction of a running process, not started by `aliquot run`."""
        tenant = self.spawn([program("tenant"), "-"], {**fraction_env(member.pid), **(env or {})},
                            Tenant)
        return tenant.start() if start else tenant

    def bare(self, *command, spec=None, env=None):
        """Start a program on the driver itself, without any of Aliquot."""
        if not self.sim:
            return self.spawn(list(command), env)
        extra = {"LD_LIBRARY_PATH": str(LIB / "sim"), "ALIQUOT_SIM": spec or self.sim,
                 "ALIQUOT_SIM_DIR": str(self.bare_dir)}
        return self.spawn(list(command), {**extra, **(env or {})})

    def start_daemon(self, *args, config=None):
        """aliquotd as a child of the test; returns once it answers. @config: the text of its file."""
        if config is not None:
            path = pathlib.Path(self.directory, "config")
            path.write_text(config)
            args = (*args, "--config", path)
        log = open(pathlib.Path(self.directory, "daemon.out"), "ab")
        daemon = self.spawn([DAEMON, "--foreground", *(["--sim", self.sim] if self.sim else []),
                             *args], stderr=log, stdin=subprocess.DEVNULL)
        self.daemons.add(daemon.pid)

        def answers():
            if daemon.process.poll() is not None:
                self.daemons.discard(daemon.pid)
                raise Failure(f"aliquotd ended with {daemon.process.returncode}:\n" + self.log())
            try:
                return self.api("/v1/version")["pid"] == daemon.pid
            except (OSError, Failure, ValueError, http.client.HTTPException):
                return False

        eventually(answers, "the daemon answers")
        return daemon

    def daemon_pid(self):
        pid = int((self.rundir / "aliquotd.pid").read_text().split()[0])
        self.daemons.add(pid)
        return pid

    def kill_daemon(self, daemon=None):
        """The one that the test has started, or one that a run has. Return: the pid of the dead."""
        pid = daemon.pid if daemon else self.daemon_pid()
        os.kill(pid, signal.SIGKILL)
        if daemon:
            daemon.wait()
            self.daemons.discard(pid)
        else:
            eventually(lambda: not alive(pid), "the daemon is dead")
        return pid

    # Asking

    def cli(self, *args, code=0, timeout=None):
        """Run the command; returns (stdout, stderr)."""
        done = subprocess.run([CLI, *[str(a) for a in args]], env=self.env, text=True,
                              capture_output=True, timeout=timeout or PATIENCE)
        if code is not None and done.returncode != code:
            raise Failure(f"exit {done.returncode}, expected {code}: aliquot "
                          f"{' '.join(map(str, args))}\n{done.stdout}{done.stderr}")
        return done.stdout, done.stderr

    def json(self, *args):
        return json.loads(self.cli(*args, "--json")[0])

    def http(self, method, path, body=None, timeout=None):
        """One request to the API: (status, decoded body)."""
        link = UnixHTTP(str(self.rundir / "api.sock"), timeout or PATIENCE)
        try:
            link.request(method, path, json.dumps(body) if body is not None else None,
                         {"Content-Type": "application/json"} if body is not None else {})
            reply = link.getresponse()
            data = reply.read()
        finally:
            link.close()
        try:
            return reply.status, json.loads(data)
        except ValueError:
            return reply.status, data.decode(errors="replace")

    def api(self, path):
        status, body = self.http("GET", path)
        equal(status, 200, f"status of GET {path} ({body})")
        return body

    def fractions(self):
        return {f["name"]: f for f in self.api("/v1/fractions")}

    def fraction(self, name):
        found = self.fractions()
        check(name in found, f"no fraction {name} in {sorted(found)}")
        return found[name]

    def used(self, name):
        return self.fraction(name)["memory_used_bytes"]

    def devices(self):
        return self.api("/v1/devices")

    def events(self, kind=None, fraction=None):
        return [e for e in self.api("/v1/events?since=0&limit=100000")
                if kind in (None, e["type"]) and fraction in (None, e["fraction"])]

    def truth(self, bare=False):
        """What the simulator itself knows of its devices' time; see sim/times.c. @bare: of the
        machine that bare() made."""
        where = self.bare_dir if bare else self.rundir / "sim"
        done = subprocess.run([str(BUILD / "sim/aliquot-sim-times"), str(where)], text=True,
                              capture_output=True, timeout=PATIENCE)
        equal(done.returncode, 0, f"status of aliquot-sim-times ({done.stderr})")
        return json.loads(done.stdout)

    def gone(self, name):
        """Wait until a fraction has ended."""
        eventually(lambda: name not in self.fractions(), f"fraction {name} ends")

    def log(self):
        text = ""
        for path in (self.rundir / "aliquotd.log", pathlib.Path(self.directory, "daemon.out")):
            with contextlib.suppress(OSError):
                text += path.read_text(errors="replace")
        return text

    # Ending

    def ours(self):
        """Processes that carry this run directory in their environment, the test aside."""
        mark = f"XDG_RUNTIME_DIR={self.directory}".encode()
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                if mark in pathlib.Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                    if alive(int(entry)):
                        found.append(int(entry))
        return found

    def note_backing(self):
        """Remember where simulated machines keep their memory: `machine` links to it."""
        for link in pathlib.Path(self.directory).rglob("machine"):
            with contextlib.suppress(OSError):
                if link.is_symlink():
                    self.backing.add(os.path.dirname(os.readlink(link)))

    def bare_backing(self):
        """Machines that bare() made belong to the test: no daemon cleans up after them."""
        with contextlib.suppress(OSError):
            return {os.path.dirname(os.readlink(self.bare_dir / "machine"))}
        return set()

    def shm_files(self):
        """Memory of this run directory's simulated machines that is still there."""
        self.note_backing()
        return sorted(path for path in self.backing if os.path.exists(path))

    def stop(self):
        """End everything that was started here, politely first."""
        self.note_backing()
        with contextlib.suppress(OSError, ValueError, IndexError):
            self.daemon_pid()
        # A fraction that is killed ends with its last process; others linger for a while.
        with contextlib.suppress(OSError, Failure, ValueError, http.client.HTTPException):
            own = {e["fraction"] for e in self.events("created") if e["pid"] == os.getpid()}
            own |= {name for name, f in self.fractions().items()
                    if os.getpid() in [c["pid"] for c in f["clients"]]}
            for name in set(self.fractions()) - own:  # what holds those is this very process
                self.http("POST", f"/v1/fractions/{name}/kill", {"signal": 9}, timeout=5)
        for child in self.children:
            if child.pid not in self.daemons:
                child.close()
        with contextlib.suppress(OSError, Failure, ValueError, http.client.HTTPException):
            deadline = time.monotonic() + 5
            while set(self.fractions()) - own and time.monotonic() < deadline:
                time.sleep(0.02)
        for pid in self.daemons:
            with contextlib.suppress(OSError):
                if alive(pid) and pid in self.ours():
                    os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and (self.ours() or self.ending_daemons()):
            for child in self.children:
                child.process.poll()
            time.sleep(0.02)

    def ending_daemons(self):
        """One that has given its memory back has no environment any more, but no status yet."""
        return [c for c in self.children if c.pid in self.daemons and c.process.poll() is None]

    def leftovers(self):
        """What is there that should not be, after stop()."""
        left = [f"process {pid}: " +
                pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                for pid in self.ours()]
        left += [f"exit status {child.process.poll()} of a daemon" for child in self.children
                 if child.pid in self.daemons
                 and child.process.poll() not in self.daemon_statuses]
        left += [f"in the daemon's log: {line}" for line in self.log().splitlines()
                 if "Sanitizer" in line or "runtime error:" in line]
        if self.rundir.exists():
            left += [f"socket {p.name}" for p in self.rundir.iterdir() if p.is_socket()]
        left += [path for path in self.shm_files() if path not in self.bare_backing()]
        return left

    def destroy(self):
        for pid in self.ours():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for path in self.shm_files():
            shutil.rmtree(path, ignore_errors=True)
        for child in self.children:
            child.close()
        if os.environ.get("AQ_KEEP") != "1":
            shutil.rmtree(self.directory, ignore_errors=True)
        else:
            print(f"kept {self.directory}")


class Tally:
    """What all tenants that share it say they hold: an account of our own. See tenant.c."""

    def __init__(self, machine):
        self.path = os.path.join(machine.directory, "tally")
        pathlib.Path(self.path).write_bytes(b"\0" * 16)
        self.env = {"TALLY": self.path}

    def read(self):
        return struct.unpack("qq", pathlib.Path(self.path).read_bytes())

    def reset(self):
        with open(self.path, "r+b") as file:
            file.write(b"\0" * 16)


def one(test, **options):
    machine = Machine(**options)
    name = test.__name__
    started = time.monotonic()
    try:
        if hasattr(test, "waits") and os.environ.get("AQ_ALL") != "1":
            raise Skip(f"waits for: {test.waits}")
        test(machine)
        machine.stop()
        left = machine.leftovers()
        check(not left, "left behind:", "; ".join(left))
    except Skip:
        machine.stop()
        raise
    except BaseException:
        print(f"-- {name} failed; events:")
        with contextlib.suppress(Exception):
            for event in machine.events()[-40:]:
                print("  ", json.dumps(event))
        print("-- the daemon's log:")
        print(machine.log()[-4000:])
        if os.environ.get("AQ_STACKS") == "1":
            for pid in machine.ours():
                print(f"-- process {pid}: {stacks(pid)}")
        for child in machine.children:
            with contextlib.suppress(Exception):
                if child.pid not in machine.daemons and child.stderr().strip():
                    print(f"-- stderr of {child.args[-3:]}:\n{child.stderr()[-1000:]}")
        with contextlib.suppress(Exception):
            machine.stop()
        raise
    finally:
        machine.destroy()
    print(f"ok {name} ({time.monotonic() - started:.1f} s)", flush=True)


def run(*tests, sim="h100", limit_s=150):
    """Run the tests one after the other, each on a machine of its own, and exit."""
    wanted = sys.argv[1:]

    def too_long(number, frame):
        raise Failure(f"not done after {limit_s} s")

    signal.signal(signal.SIGALRM, too_long)
    failed, skipped = [], []
    for test in tests:
        if wanted and test.__name__ not in wanted:
            continue
        signal.alarm(limit_s * (4 if SHORT else 1))
        try:
            wants = getattr(test, "sim", sim)
            if REAL and wants and re.search(r"[:,]", wants):
                raise Skip(f"needs {wants}")
            one(test, sim=None if REAL else wants)
        except Skip as reason:
            print(f"skipped {test.__name__}: {reason}")
            skipped.append(f"{test.__name__}: {reason}")
        except Exception:
            traceback.print_exc(file=sys.stdout)
            print(f"FAILED {test.__name__}", flush=True)
            failed.append(test.__name__)
        finally:
            signal.alarm(0)
    if failed:
        print("failed:", ", ".join(failed))
        sys.exit(1)
    if skipped and len(skipped) == len(tests):
        print("; ".join(skipped))
        sys.exit(77)
    sys.exit(0)


def waits(reason):
    """Decorator: known not to hold yet, and why; skipped unless AQ_ALL=1."""
    def mark(test):
        test.waits = reason
        return test
    return mark


def on(sim):
    """Decorator: the devices that this test wants."""
    def mark(test):
        test.sim = sim
        return test
    return mark
