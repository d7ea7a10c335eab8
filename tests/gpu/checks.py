#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does Aliquot do on a real GPU what it promises? Each check passes, fails or is skipped with the
reason; run.sh says how to call it.

What a program sees of itself is compared with what NVML says of its process from outside: a limit
that only the program believes in is none. Every program also runs bare first where that tells
something, so that a check cannot pass because the program never worked.
"""
import argparse
import datetime
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MIB, GIB = 1 << 20, 1 << 30
OOM = 2  # CUDA_ERROR_OUT_OF_MEMORY
# Of a fraction's limit, how much its programs may fail to reach: contexts, modules, libraries, and
# what an allocation leaves unused in the last step. Guess until a GPU was measured.
SLACK = 1 * GIB
# By how much NVML's figure for a process may pass the limit: what the driver adds between two looks.
EXCESS = 16 * MIB


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


def expect(condition, *words):
    if not condition:
        raise Failed(" ".join(str(w) for w in words))


def words(text):
    """`key=value ...` of the last line that has any, numbers as int."""
    for line in reversed(text.splitlines()):
        pairs = [w.split("=", 1) for w in line.split() if "=" in w]
        if pairs:
            return {k: int(v) if v.lstrip("-").isdigit() else v for k, v in pairs}
    return {}


class Setup:
    """Where things are, how to run them, and what must be cleaned up."""

    def __init__(self, args):
        self.sim = args.sim
        self.trees = [t for t in (args.aliquot, args.sim, ROOT / "build") if t]
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="aqgpu-"))
        self.started = []
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("ALIQUOT_")}
        self.env["XDG_RUNTIME_DIR"] = str(self.work)
        self.aliquot = find_aliquot(self.trees)
        self.nvcc = shutil.which("nvcc")
        self.built = {}

    def command(self, *args, **kw):
        return subprocess.run([str(a) for a in args], env=self.env, text=True,
                              capture_output=True, timeout=kw.pop("timeout", 120), **kw)

    def run_args(self, program, options):
        sim = ["--sim", "h100"] if self.sim else []
        return [self.aliquot, "run", *sim, *options, "--", *program]

    def bare(self, program, **kw):
        """Without us."""
        env = dict(self.env, **kw.pop("env", {}))
        return subprocess.run([str(p) for p in program], env=env, text=True, capture_output=True,
                              timeout=kw.pop("timeout", 120), **kw)

    def guarded(self, program, *options, timeout=120, env=None, **kw):
        return subprocess.run([str(a) for a in self.run_args(program, options)], text=True,
                              env=dict(self.env, **(env or {})), capture_output=True,
                              timeout=timeout, **kw)

    def start(self, program, *options):
        child = subprocess.Popen([str(a) for a in self.run_args(program, options)], env=self.env,
                                 text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.started.append(child)
        return child

    def api(self, *args):
        done = self.command(self.aliquot, *args, "--json")
        expect(done.returncode == 0, "aliquot", *args, "says", done.stderr.strip()[-200:])
        return json.loads(done.stdout)

    def device(self):
        devices = [d for d in self.api("devices") if d["simulated"] == bool(self.sim)]
        expect(devices, "no such device listed")
        return devices[0]

    def ours(self):
        """An idle fraction keeps the private daemon alive while we look around."""
        return self.start(["cat"], "--gpu", "0.01")

    def stop(self, child, how=None):
        if how:
            child.send_signal(how)
        elif child.stdin and not child.stdin.closed:
            child.stdin.close()
        try:
            return child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise Failed("a program did not end") from None
        finally:
            child.stdout.close()
            self.started.remove(child)

    def close(self):
        for child in list(self.started):
            child.kill()
            child.wait()
        for _ in range(80):  # the private daemon ends by itself
            if not list(self.work.rglob("api.sock")):
                break
            time.sleep(0.1)
        for link in self.work.rglob("sim/machine"):  # keeps its memory outside its folder
            shutil.rmtree(pathlib.Path(os.readlink(link)).parent, ignore_errors=True)
        shutil.rmtree(self.work, ignore_errors=True)

    # Programs, built here.

    def nvcc_program(self, name, *flags):
        key = (name, flags)
        if key not in self.built:
            if not self.nvcc:
                raise Skipped("no nvcc")
            out = self.work / f"{name}-{len(self.built)}"
            toolkit = pathlib.Path(self.nvcc).resolve().parent.parent
            done = self.command(self.nvcc, *flags, "-Xlinker", f"-rpath={toolkit}/lib64", "-o", out, HERE / f"{name}.cu",
                                *(["-lcublas"] if name == "blas" else []), timeout=300)
            if done.returncode:
                raise Skipped(f"nvcc does not build {name}: {done.stderr.strip()[-200:]}")
            self.built[key] = out
        return self.built[key]

    def driver_program(self, name):
        """One of tests/programs: from the build tree, else made here with a plain compiler."""
        if name in self.built:
            return self.built[name]
        for tree in self.trees:
            found = pathlib.Path(tree, "tests/programs", name).resolve()
            if found.exists():
                self.built[name] = found
                return found
        cc = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if not cc:
            raise Skipped("no C compiler")
        stub, out = self.work / "stub", self.work / name
        stub.mkdir(exist_ok=True)
        flags = ["-std=gnu11", "-O1", "-D_GNU_SOURCE", f"-I{ROOT / 'src'}"]
        programs = ROOT / "tests/programs"
        steps = [[cc, *flags, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", programs / "stub.c",
                  "-o", stub / "libcuda.so"],
                 [cc, *flags, "-DAQ_TEST_OWN_ABI", programs / f"{name}.c", f"-L{stub}", "-lcuda",
                  "-lpthread", "-ldl", "-o", out]]
        for step in steps:
            done = self.command(*step)
            if done.returncode:
                raise Skipped(f"{name} does not build: {done.stderr.strip()[-200:]}")
        self.built[name] = out
        return out


def find_aliquot(trees):
    for tree in [pathlib.Path(t).resolve() for t in trees]:
        for path in (tree / "bin/aliquot", tree / "src/cli/aliquot"):
            if os.access(path, os.X_OK):
                return str(path)
    return None


def nvml_process_bytes(pid):
    """Bytes that NVML lists for a process, by nvidia-smi, or None."""
    smi = shutil.which("nvidia-smi")
    if not smi:
        return None
    done = subprocess.run([smi, "--query-compute-apps=pid,used_memory",
                           "--format=csv,noheader,nounits"], capture_output=True, text=True)
    for line in done.stdout.splitlines():
        parts = [p.strip() for p in line.split(",")]
        if len(parts) == 2 and parts[0] == str(pid) and parts[1].isdigit():
            return int(parts[1]) * MIB
    return None


# The checks. A name is what follows `check_`; the first line of the text is what passes.


def check_doctor(s):
    """aliquot doctor finds nothing wrong"""
    done = s.command(s.aliquot, "doctor")
    expect(done.returncode == 0, done.stdout[-600:], done.stderr[-200:])


def check_exit_codes(s):
    """exit codes and signals of the program are passed on"""
    for code in (0, 7, 200):
        done = s.guarded(["sh", "-c", f"exit {code}"], "--gpu", "0.1")
        expect(done.returncode == code, "asked", code, "got", done.returncode, done.stderr[-200:])
    done = s.guarded(["sh", "-c", "kill -TERM $$"], "--gpu", "0.1")
    expect(done.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM), "got", done.returncode)
    expect(s.guarded(["/nonexistent/program"], "--gpu", "0.1").returncode == 127, "not 127")


def fill_method(s, method, chunk):
    tenant = s.driver_program("tenant")
    keeper = s.ours()
    try:
        total = s.device()["memory_total_bytes"]
        child = s.start([tenant, "init", "dev 0", "info", f"fill {method} {chunk}", "-"],
                        "--gpu", "0.25")
        lines = [child.stdout.readline() for _ in range(4)]
        expect(all(lines), "the program ended early:", lines)
        limit = words(lines[2]).get("total", 0)
        filled = words(lines[3])
        outside = nvml_process_bytes(child.pid)
        s.stop(child)
    finally:
        s.stop(keeper)
    expect(0 < limit <= total // 4, "sees", limit, "of", total)
    expect(filled.get("code") == OOM, "refused with", filled)
    expect(filled["bytes"] <= limit, "got", filled["bytes"], "of", limit)
    # What is only reserved or lives elsewhere does not fill the device; the rest must.
    expect(filled["bytes"] >= limit - SLACK, "got only", filled["bytes"], "of", limit)
    if outside is not None:
        expect(outside <= limit + EXCESS, "NVML sees", outside, "for a limit of", limit)
    return f"{filled['bytes']} of {limit}; NVML {outside}"


def method_check(method, chunk="64M"):
    def check(s):
        return fill_method(s, method, chunk)
    check.__name__ = f"check_fill_{method}"
    check.__doc__ = f"{method} allocations end at the limit, for the program and for NVML"
    return check


def check_faults(s):
    """calls that memory limiters get wrong add up"""
    faults = s.driver_program("faults")
    bad = []
    for name in ("unknown-free", "pool-limit", "vmm-loop", "boundary", "every-method", "resolved",
                 "graph-replay", "long-kernel"):
        done = s.guarded([faults, name], "--gpu", "0.1", timeout=180)
        if done.returncode:
            bad.append(f"{name}: {(done.stdout + done.stderr).strip()[-160:]}")
    expect(not bad, "; ".join(bad))


def check_neighbours(s):
    """a neighbour's greed and its kill -9 change nothing"""
    tenant = s.driver_program("tenant")
    a = s.start([tenant, "init", "dev 0", "info", "-"], "--gpu", "0.5")
    b = s.start([tenant, "init", "dev 0", "info", "-"], "--gpu", "0.25")
    try:
        first, _ = [[c.stdout.readline() for _ in range(3)] for c in (a, b)]
        limit = words(first[2])["total"]

        def ask(child, line):
            child.stdin.write(line + "\n")
            child.stdin.flush()
            return words(child.stdout.readline())

        got = ask(b, "fill linear 256M")
        expect(got.get("code") == OOM, "b was refused with", got)
        expect(ask(b, "retry linear 1G 1000").get("ok") == 0, "a greedy try succeeded")
        seen = ask(a, "info")
        expect(seen["total"] == limit, "a's total moved", seen)
        used = s.device()["memory_used_bytes"]
        s.stop(b, signal.SIGKILL)
        deadline = time.monotonic() + 15
        while s.device()["memory_used_bytes"] > used - got["bytes"] // 2:
            expect(time.monotonic() < deadline, "the memory of the killed one did not come back")
            time.sleep(0.1)
        full = ask(a, "fill linear 256M")
        expect(full.get("code") == OOM and full["bytes"] <= limit, "a filled", full, "of", limit)
    finally:
        for child in (a, b):
            if child in s.started:
                s.stop(child, signal.SIGKILL)


def check_resize(s):
    """a live resize takes effect at once, both ways"""
    tenant = s.driver_program("tenant")
    a = s.start([tenant, "init", "dev 0", "fill linear 64M", "-"], "--memory", "2G", "--name", "grow")
    try:
        lines = [a.stdout.readline() for _ in range(3)]
        expect(words(lines[2]).get("bytes", 0) <= 2 * GIB, "filled", lines[2])
        done = s.command(s.aliquot, "resize", "grow", "--memory", "4G")
        expect(done.returncode == 0, done.stderr[-200:])
        a.stdin.write("info\nfill linear 64M\n")
        a.stdin.flush()
        seen, more = words(a.stdout.readline()), words(a.stdout.readline())
        expect(seen["total"] == 4 * GIB, "sees", seen)
        expect(more["bytes"] >= GIB, "got only", more)
        done = s.command(s.aliquot, "resize", "grow", "--memory", "1G")
        expect(done.returncode != 0, "a limit below what is in use was accepted")
    finally:
        s.stop(a)


def seconds_between(events, first, last):
    """From one type of event to the next, by the daemon's clock; None when either is missing."""
    times = {e["type"]: datetime.datetime.fromisoformat(e["time"].replace("Z", "+00:00"))
             for e in events}
    if first not in times or last not in times:
        return None
    return (times[last] - times[first]).total_seconds()


def check_park(s):
    """a parked fraction's memory leaves the device, and comes back as it was"""
    size = 1 if s.sim else 16
    tenant = s.driver_program("tenant")
    a = s.start([tenant, "init", "dev 0", f"alloc linear {size}G", "put 0 7", "-"],
                "--memory", f"{size + 4}G", "--name", "rests")
    try:
        lines = [a.stdout.readline() for _ in range(4)]
        expect(words(lines[2]).get("code") == 0, lines)
        before = s.device()["memory_used_bytes"]
        done = s.command(s.aliquot, "park", "rests", "--hold")
        if done.returncode and "can move" in done.stderr:
            raise Skipped(done.stderr.strip()[-200:])
        expect(done.returncode == 0, done.stderr[-200:])
        away = before - s.device()["memory_used_bytes"]
        expect(away >= 0.9 * size * GIB, "only", away, "left the device")
        done = s.command(s.aliquot, "resume", "rests")
        expect(done.returncode == 0, done.stderr[-200:])
        a.stdin.write("check 0 7\n")
        a.stdin.flush()
        expect(words(a.stdout.readline()).get("bad") == 0, "memory changed")
        events = [e for e in s.api("events") if e.get("fraction") == "rests"]
    finally:
        s.stop(a)
    took = {"park": seconds_between(events, "parking", "parked"),
            "resume": seconds_between(events, "resuming", "resumed")}
    return {f"{what}_gb_s": away / seconds / 1e9 for what, seconds in took.items() if seconds}


def check_env_i(s):
    """a child with an empty environment is held to the fraction, too"""
    tenant = s.driver_program("tenant")
    done = s.guarded(["env", "-i", tenant, "init", "dev 0", "info"], "--memory", "2G")
    seen = words(done.stdout).get("total")
    if seen != 2 * GIB and os.geteuid() != 0:
        raise Skipped("needs root: a mount namespace")
    expect(seen == 2 * GIB, "sees", seen, done.stderr[-200:])


def check_daemon_dies(s):
    """a program goes on when the daemon is killed, and is adopted by the next"""
    tenant = s.driver_program("tenant")
    a = s.start([tenant, "init", "dev 0", "alloc linear 512M", "put 0 7", "-"], "--memory", "2G",
                "--name", "orphan")
    try:
        lines = [a.stdout.readline() for _ in range(4)]
        expect(words(lines[2]).get("code") == 0, lines)
        pidfile = next(s.work.rglob("aliquotd.pid"), None)
        expect(pidfile, "no pid file of the private daemon")
        os.kill(int(pidfile.read_text().split()[0]), signal.SIGKILL)
        a.stdin.write("check 0 7\n")
        a.stdin.flush()
        expect(words(a.stdout.readline()).get("bad") == 0, "memory changed")
        keeper = s.ours()  # starts the next daemon
        deadline = time.monotonic() + 15
        while not any(f["name"] == "orphan" and f["clients"] for f in s.api("ps")):
            expect(time.monotonic() < deadline, "was not adopted")
            time.sleep(0.1)
        s.stop(keeper)
    finally:
        s.stop(a)


def runtime(s, what, *options, kind="shared", bare=True, timeout=120):
    if s.sim:
        raise Skipped("NVIDIA's runtime needs a real GPU")
    program = s.nvcc_program("runtime", "-cudart", kind)
    if bare:
        done = s.bare([program, *what.split()], timeout=timeout)
        if done.returncode:
            raise Skipped(f"does not work without us: {done.stdout.strip()[-200:]}")
    done = s.guarded([program, *what.split()], *options, timeout=timeout)
    expect(done.returncode == 0, done.stdout.strip()[-300:], done.stderr.strip()[-200:])
    return words(done.stdout)


def runtime_info(s, kind):
    seen = runtime(s, "info", "--memory", "3G", kind=kind)
    expect(seen["total"] == 3 * GIB, "total", seen)
    expect(seen["props"] == 3 * GIB, "properties", seen)
    expect(seen["free"] <= 3 * GIB, "free", seen)
    return seen


def check_runtime_shared_info(s):
    """the shared runtime sees the fraction as the device's memory"""
    return runtime_info(s, "shared")


def check_runtime_static_info(s):
    """so does the static one"""
    return runtime_info(s, "static")


def runtime_fill(s, what, kind="shared"):
    seen = runtime(s, what, "--memory", "4G", kind=kind, bare=False)
    expect(seen["got"] <= 4 * GIB, seen)
    expect(seen["got"] >= 4 * GIB - SLACK, "got only", seen)
    expect(seen["refused"] == 2, "refused with", seen)
    return seen


def check_runtime_fill(s):
    """cudaMalloc is refused at the limit, and everything works afterwards"""
    return runtime_fill(s, "fill")


def check_runtime_fill_static(s):
    """the same with the static runtime"""
    return runtime_fill(s, "fill", "static")


def check_runtime_async(s):
    """cudaMallocAsync is refused at the limit"""
    return runtime_fill(s, "async")


def check_runtime_managed(s):
    """cudaMallocManaged is refused at the limit"""
    return runtime_fill(s, "managed")


def check_runtime_graph(s):
    """a graph with memory nodes runs a thousand times and does not grow"""
    seen = runtime(s, "graph", "--memory", "3G")
    expect(seen["grew"] <= 0, seen)


def check_runtime_streams(s):
    """own, per-thread and legacy streams keep their order"""
    runtime(s, "streams", "--memory", "3G")


def check_runtime_child(s):
    """two processes of one fraction share its limit"""
    seen = runtime(s, "child", "--memory", "4G", bare=False)
    expect(seen["own"] + seen["child"] <= 4 * GIB, seen)
    expect(seen["own"] + seen["child"] >= 4 * GIB - 2 * SLACK, seen)


def check_cublas(s):
    """cuBLAS computes right inside a fraction"""
    if s.sim:
        raise Skipped("NVIDIA's libraries need a real GPU")
    program = s.nvcc_program("blas")
    done = s.bare([program])
    if done.returncode:
        raise Skipped(f"does not work without us: {done.stdout.strip()[-200:]}")
    done = s.guarded([program], "--memory", "4G")
    expect(done.returncode == 0, done.stdout.strip()[-300:])


def check_nvidia_smi(s):
    """nvidia-smi inside a fraction shows the fraction"""
    if s.sim:
        raise Skipped("nvidia-smi needs NVIDIA's own library behind it")
    if not shutil.which("nvidia-smi"):
        raise Skipped("no nvidia-smi")
    done = s.guarded(["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"],
                     "--memory", "3G")
    expect(done.returncode == 0, done.stderr[-200:])
    expect(done.stdout.split() == ["3072"], "shows", done.stdout.strip())


def torch_check(name, limit, judge, timeout=180, env=None):
    def check(s):
        if s.sim:
            raise Skipped("PyTorch needs a real GPU")
        program = [sys.executable, HERE / "torch_checks.py", name]
        done = s.guarded(program, "--memory", limit, timeout=timeout, env=env)
        if done.returncode == 77:
            raise Skipped(done.stdout.strip()[-200:])
        expect(done.returncode == 0, done.stdout.strip()[-300:], done.stderr.strip()[-300:])
        seen = json.loads(done.stdout.strip().splitlines()[-1])
        judge(seen)
        return seen
    check.__name__ = f"check_torch_{name}"
    check.__doc__ = f"PyTorch: {name}"
    return check


# Scenarios of the simulator that make sense on any device; the others count on its exact numbers.
SCENARIOS = ("01-first-light", "03-isolation", "05-lookalike", "06-loaders", "07-fork",
             "10-exit-codes", "13-daemon-restart", "18-nvml-view", "19-events", "09-resize",
             "17-hostile", "22-bad-manners")


def scenario_check(name):
    def check(s):
        tree = pathlib.Path(s.aliquot).resolve().parents[1 if "bin" in s.aliquot else 2]
        if not (tree / "tests/programs/tenant").exists():
            raise Skipped(f"no test programs in {tree}")
        env = dict(s.env, AQ_BUILD=str(tree), AQ_CLI=s.aliquot)
        daemon = pathlib.Path(s.aliquot).with_name("aliquotd")
        if daemon.exists():
            env["AQ_DAEMON"] = str(daemon)
        if not s.sim:
            env["AQ_REAL"] = "1"
        done = subprocess.run([sys.executable, ROOT / f"tests/integration/{name}.py"], env=env,
                              capture_output=True, text=True, timeout=150)
        lines = [line for line in done.stdout.splitlines() if line.startswith(("ok ", "skipped",
                                                                              "FAILED"))]
        if done.returncode == 77:
            raise Skipped("; ".join(lines)[:200])
        expect(done.returncode == 0, "; ".join(lines), done.stdout[-300:])
        return lines
    check.__name__ = f"check_scenario_{name}"
    check.__doc__ = f"the simulator's scenario {name}, with the same binaries"
    return check


def judge_info(seen):
    expect(seen["total"] == 6 * GIB and seen["props"] == 6 * GIB, seen)
    expect(seen["nvml_total"] in (None, 6 * GIB), "NVML and CUDA disagree", seen)


def judge_limit(seen):
    expect(6 * GIB - 2 * SLACK <= seen["got"] <= 6 * GIB, seen)


def judge_spawn(seen):
    expect(6 * GIB - 3 * SLACK <= sum(seen["got"]) <= 6 * GIB, seen)


def anything(seen):
    pass


CHECKS = [
    check_doctor, check_exit_codes, check_runtime_shared_info, check_runtime_static_info,
    check_runtime_fill, check_runtime_async, method_check("linear"), method_check("vmm"),
    torch_check("info", "6G", judge_info), torch_check("limit", "6G", judge_limit),
    check_neighbours, check_resize, check_park, check_env_i, check_runtime_graph, check_runtime_streams,
    check_runtime_child, check_cublas, check_nvidia_smi, check_faults,
    torch_check("expandable", "6G", judge_limit,
                env={"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}),
    torch_check("graphs", "6G", anything), torch_check("loader", "6G", anything),
    torch_check("spawn", "6G", judge_spawn), torch_check("train", "6G", anything),
    check_daemon_dies, check_runtime_managed, check_runtime_fill_static,
    *[scenario_check(name) for name in SCENARIOS],
    *[method_check(m) for m in ("pitch", "array", "async", "pool", "vmmcreate", "managed")],
    torch_check("compile", "6G", anything, timeout=150),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="?", help="folder for tests.jsonl")
    parser.add_argument("--aliquot", help="installed or built tree")
    parser.add_argument("--sim", help="build tree whose simulator stands in for the GPU")
    parser.add_argument("--only", default="", help="names, comma separated")
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--records", action="store_true",
                        help="print records for bench/gpu/report instead of a table")
    args = parser.parse_args()
    deadline = time.monotonic() + args.minutes * 60
    s = Setup(args)
    if not s.aliquot:
        print("skip everything: no aliquot command (build it, or --aliquot DIR)")
        return 77
    results = []
    only = [n for n in args.only.split(",") if n]
    try:
        for check in CHECKS:
            name = check.__name__.removeprefix("check_")
            if only and name not in only:
                continue
            results.append(run_one(s, check, name, deadline))
            (print_record if args.records else print_line)(results[-1])
            if args.out:
                pathlib.Path(args.out).mkdir(parents=True, exist_ok=True)
                with open(pathlib.Path(args.out, "tests.jsonl"), "a") as f:
                    f.write(json.dumps(results[-1]) + "\n")
    finally:
        s.close()
    count = {k: sum(r["result"] == k for r in results) for k in ("pass", "fail", "skip")}
    print(", ".join(f"{n} {k}" for k, n in count.items()),
          file=sys.stderr if args.records else sys.stdout)
    return 1 if count["fail"] else 0


def print_line(r):
    print(f"{r['result']:5} {r['test']:24} {r['text']}", flush=True)


def print_record(r):
    record = {"probe": f"test.{r['test']}", "mode": "script", "simulated": r["simulated"],
              "result": {"pass": "fact", "fail": "failed", "skip": "skipped"}[r["result"]]}
    record["value" if r["result"] == "pass" else "note"] = \
        ("pass: " if r["result"] == "pass" else "") + r["text"][:400]
    if isinstance(r["seen"], dict):
        record["seen"] = r["seen"]
    print(json.dumps(record), flush=True)


def run_one(s, check, name, deadline):
    started = time.monotonic()
    result, text = "pass", check.__doc__.splitlines()[0]
    more = None
    try:
        if deadline - started < 20:
            raise Skipped("no time left")
        more = check(s)
    except Skipped as reason:
        result, text = "skip", str(reason)
    except Failed as reason:
        result, text = "fail", str(reason)
    except subprocess.TimeoutExpired as late:
        result, text = "fail", f"no end after {late.timeout:.0f} s"
    except (OSError, KeyError, ValueError, IndexError) as error:
        result, text = "fail", f"{type(error).__name__}: {error}"
    for child in list(s.started):  # of a check that failed
        child.kill()
        child.wait()
        s.started.remove(child)
    return {"test": name, "result": result, "text": text, "simulated": bool(s.sim),
            "seen": more, "seconds": round(time.monotonic() - started, 2)}


if __name__ == "__main__":
    sys.exit(main())
