#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Bad input, one row each: one clear line that names it, exit 2, and nothing changed."""
import json
import os
import pathlib
import subprocess

import aqtest
from aqtest import CLI, DAEMON, GIB, check, equal

LONG = "x" * 64
HUGE = "9" * 40

SHARES = ["", "0", "0.0", "-0.5", "1.5", "2", "nan", "inf", "0,5", "1/2", "50%", "0.5x", " 0.5",
          "0.5 ", "0.0001", "0.009", "1.0001", "0x1", "1e-1", HUGE, ".", "-", "+0.5"]
SIZES = ["", "0", "-1", "-1G", "G", "1X", "1GG", "1 G", "G1", "1.5.5G", "nan", "inf", "0x10G",
         "1e9", "20G ", HUGE, HUGE + "G", "9223372036854775808", "16777216T", "1,5G", "1/2G", "+1G"]
COUNTS = ["", "0", "-1", "1.5", "x", "17", "99999999999999999999", "1 ", "0x1"]
NAMES = ["", LONG, "-a", ".a", "_a", "a b", "a/b", "../a", "a\nb", "ä", "a;b", "a$b", "\x1b[31m",
         "a'b", 'a"b', "%s%n", "a\\b"]
PRIORITIES = ["", "higher", "HIGH", "1", "low,high", "norm al"]
WAITS = ["-1", "1x", "x", "1.s", "999999d", "5 s", HUGE]
SIMS = ["", "h1000", "h100:0", "h100:-1", "h100:x", "h100:17", "h100:", ":2", "h100,", "h100 :1",
        "../h100", "h100:1:1", "h100:1,l40s"]

RUN = [("--gpu", SHARES), ("--compute", SHARES), ("--compute-limit", SHARES), ("--memory", SIZES),
       ("--memory-limit", SIZES), ("--gpus", COUNTS), ("--name", NAMES), ("--project", NAMES),
       ("--priority", PRIORITIES), ("--sim", SIMS)]


def complaint(machine, args, value=None):
    """Run, and expect exit 2 and one line; returns it."""
    done = subprocess.run([CLI, *args], env=machine.env, capture_output=True, timeout=60,
                          stdin=subprocess.DEVNULL)
    text = done.stderr.decode(errors="backslashreplace")
    shown = " ".join(ascii(a) for a in args)
    equal(done.returncode, 2, f"exit of `aliquot {shown}` ({text!r})")
    equal(done.stdout, b"", f"stdout of `aliquot {shown}`")
    lines = text.splitlines()
    check(text.endswith("\n") and len(lines) == 1, f"`aliquot {shown}`: not one line: {text!r}")
    line = lines[0]
    check(line.startswith("aliquot: "), f"`aliquot {shown}`: says not who speaks: {line!r}")
    check(20 < len(line) < 400, f"`aliquot {shown}`: length of {line!r}")
    check(all(c.isprintable() for c in line), f"`aliquot {shown}`: control characters: {line!r}")
    return line


def said_of_what_was_asked(machine):
    """What only the daemon can refuse is named, too."""
    machine.start_daemon()
    line = complaint(machine, ["run", "--device", "7", "--", "/bin/true"])
    check("'7'" in line, "names the device:", line)
    line = machine.cli("run", "--sim=h100", "--gpus=3", "--", "/bin/true", code=125)[1]
    check("only 1 to choose from" in line, "says how many there are:", line)
    machine.run("sleep", 60, compute="0.75", memory="1G")
    aqtest.eventually(machine.fractions, "a fraction")
    line = machine.cli("run", "--compute=0.5", "--memory=1G", "--", "/bin/true", code=125)[1]
    check("0.500" in line and "0.250" in line, "names what was asked and what is free:", line)


def without_proc(machine):
    aqtest.need_root()
    done = subprocess.run(["unshare", "--mount", "sh", "-c", 'umount -l /proc && exec "$@"', "sh",
                           CLI, "run", "--sim", "h100", "--", "/bin/true"], env=machine.env,
                          capture_output=True, text=True, timeout=60, check=False)
    if "umount" in done.stderr or "unshare" in done.stderr:
        raise aqtest.Skip("may not take /proc away")
    equal(done.returncode, 125, f"status ({done.stderr})")
    check("/proc is not mounted" in done.stderr, "says why:", done.stderr)


def libraries_that_no_path_can_name(machine):
    """A directory that LD_LIBRARY_PATH cannot carry: refused, never run without a guard."""
    for character in ":;$":
        link = os.path.join(machine.directory, f"lib{character}s")
        os.symlink(aqtest.LIB, link)
        done = subprocess.run([CLI, "run", "--sim", "h100", "--", "/bin/true"], check=False,
                              env={**machine.env, "ALIQUOT_LIBDIR": link}, capture_output=True,
                              text=True, timeout=60)
        equal(done.returncode, 125, f"status with {link} ({done.stderr})")
        check(f"'{character}'" in done.stderr and link in done.stderr, "says why:", done.stderr)
    for variable in ("ALIQUOT_LIBDIR", "ALIQUOT_DAEMON"):
        done = subprocess.run([CLI, "run", "--sim", "h100", "--", "/bin/true"], check=False,
                              env={**machine.env, variable: "/dev/null/x"}, capture_output=True,
                              text=True, timeout=60)
        equal(done.returncode, 125, f"status with a wrong {variable} ({done.stderr})")
        check(f"{variable} '/dev/null/x'" in done.stderr, "says why:", done.stderr)


def run_options(machine):
    """No daemon is started for what cannot be right, and the program never runs."""
    mark = pathlib.Path(machine.directory, "ran")
    for option, values in RUN:
        for value in values:
            base = [] if option == "--sim" else ["--sim", "h100"]
            line = complaint(machine, ["run", *base, option, value, "--", "/usr/bin/touch",
                                       str(mark)])
            check(option in line or (value and value.isprintable() and value in line),
                  f"neither {option} nor {value!r} is named: {line!r}")
    for value in WAITS:
        complaint(machine, ["run", "--sim", "h100", f"--wait={value}", "--", "/usr/bin/touch",
                            str(mark)])
    check(not mark.exists(), "the program ran")
    check(not (machine.rundir / "aliquotd.pid").exists(), "a daemon was started")


def run_without_sense(machine):
    for args in (["run"], ["run", "--"], ["run", "--gpu", "0.5"], ["run", "--gpu"],
                 ["run", "--gpu", "0.5", "--nonsense", "--", "/bin/true"],
                 ["run", "--gpuu=0.5", "--", "/bin/true"], ["run", "-x", "--", "/bin/true"],
                 ["run", "--memory", "4G", "--memory-limit", "2G", "--", "/bin/true"],
                 ["run", "--park-idle", "1s", "--no-movable", "--", "/bin/true"],
                 ["run", "--compute", "0.5", "--compute-limit", "0.2", "--", "/bin/true"]):
        complaint(machine, args)
    check(not (machine.rundir / "aliquotd.pid").exists(), "a daemon was started")


def verbs_and_their_operands(machine):
    for args in (["frobnicate"], ["pss"], ["ps", "extra"], ["devices", "extra"],
                 ["ps", "--jsno"], ["resize"], ["resize", "name"], ["kill"], ["kill", "a", "b"],
                 ["events", "--since", "x"], ["doctor", "extra"]):
        complaint(machine, args)


def resize_and_kill_values(machine):
    """A fraction stands there; whatever nonsense is asked of it, it stays as it was."""
    machine.start_daemon()
    tenant = machine.tenant(memory="4G", name="still")
    before = json.dumps(machine.fraction("still"), sort_keys=True)
    for option, values in (("--gpu", SHARES), ("--memory", SIZES), ("--memory-limit", SIZES),
                           ("--compute", SHARES), ("--compute-limit", SHARES),
                           ("--priority", PRIORITIES)):
        for value in values:
            complaint(machine, ["resize", "still", option, value])
    for verb, rest in (("resize", ["still", "--gpu", "2"]), ("run", ["--gpu", "2", "--", "true"])):
        line = complaint(machine, [verb, *rest])
        equal("--gpus" in line, verb == "run", f"an option that {verb} has: {line!r}")
    for name in NAMES:
        complaint(machine, ["resize", name, "--memory", "5G"])
        complaint(machine, ["kill", name])
    equal(json.dumps(machine.fraction("still"), sort_keys=True), before, "the fraction")
    equal(tenant.do("info")["total"], 4 * GIB, "what it sees")


def a_name_that_is_taken(machine):
    machine.start_daemon()
    first = machine.tenant(memory="4G", name="mine")
    _, text = machine.cli("run", "--sim", "h100", "--memory", "4G", "--name", "mine", "--",
                          "/bin/true", code=125)
    check(1 <= len(text.strip().splitlines()) <= 2, f"short ({text!r})")
    check("mine" in text, "names it:", text)
    equal(list(machine.fractions()), ["mine"], "fractions")
    first.quit()


def the_api_refuses_nonsense_itself(machine):
    """The command checks for people; the daemon trusts no command."""
    machine.start_daemon()
    good = {"memory_limit_bytes": GIB, "memory_request_bytes": GIB, "name": "api"}
    bad = [{"name": n} for n in NAMES] + [
        {"memory_limit_bytes": v} for v in (-1, 0, 1.5, "4G", None, 2**63, 2**64, True, [], {})] + [
        {"memory_request_bytes": v} for v in (-1, 1.5, "4G", 2**64, True, [])] + [
        {"memory_request_bytes": 2 * GIB},
        {"gpu_permille": 0}, {"gpu_permille": 1001}, {"gpu_permille": -5}, {"gpu_permille": "500"},
        {"gpus": 0}, {"gpus": 17}, {"gpus": -1}, {"gpus": 1.5}, {"gpus": "2"},
        {"compute_request_permille": 1001}, {"compute_limit_permille": -1},
        {"compute_request_permille": 500, "compute_limit_permille": 200},
        {"priority": "urgent"}, {"priority": 3}, {"project": "a/b"}, {"project": 7},
        {"device": []}, {"device": "x" * 5000}, {"sim": "nothing-like-it"}, {"sim": 5},
        {"wait_ms": "soon"}, {"wait_ms": -2}]
    for change in bad:
        status, body = machine.http("POST", "/v1/fractions", {**good, **change})
        check(status in (400, 404), f"{change}: status {status} {body}")
        check(isinstance(body, dict) and body.get("error"), f"{change}: no error: {body}")
        check("\n" not in body["error"], f"{change}: more than one line")
    equal(machine.fractions(), {}, "fractions")
    for method, path, want in (("GET", "/", 404), ("GET", "/v1/nothing", 404),
                               ("GET", "/v1/fractions/none", 404), ("DELETE", "/v1/devices", 405),
                               ("PATCH", "/v1/fractions/none", 404),
                               ("POST", "/v1/fractions/none/kill", 404),
                               ("GET", "/v1/fractions/..%2f..", 404)):
        status, body = machine.http(method, path, {} if method != "GET" else None)
        check(status == want or status in (404, 405), f"{method} {path}: {status} {body}")


def raw_http_nonsense(machine):
    """Bodies that are no JSON, too deep, too large; requests that are no HTTP."""
    import socket
    daemon = machine.start_daemon()
    deep = "[" * 100000
    for body in ("{", "nope", "[]", "null", '"x"', "{}{}", '{"name":', deep, "\0" * 10,
                 '{"name": "a", "name": "b\x00c"}', "{" + " " * (3 << 20) + "}"):
        request = (f"POST /v1/fractions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
                   f"Connection: close\r\n\r\n{body}")
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.settimeout(20)
        link.connect(str(machine.rundir / "api.sock"))
        try:
            link.sendall(request.encode())
            reply = link.recv(65536)
            if reply:
                status = int(reply.split()[1])
                check(400 <= status < 500, f"{body[:20]!r}: status {status}")
        except (BrokenPipeError, ConnectionResetError):
            pass  # cut off in the middle of what is too large
        finally:
            link.close()
    for raw in (b"\0\0\0\0", b"GET\r\n\r\n", b"\xff" * 1000, b"GET /v1/version HTTP/9.9\r\n\r\n",
                b"A" * 100000):
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.settimeout(20)
        link.connect(str(machine.rundir / "api.sock"))
        try:
            link.sendall(raw)
            link.shutdown(socket.SHUT_WR)
            link.recv(4096)
        except OSError:
            pass
        finally:
            link.close()
    equal(machine.api("/v1/version")["pid"], daemon.pid, "the daemon lives")


def daemon_options(machine):
    """aliquotd: the same manners."""
    for args in (["--nonsense"], ["extra"], ["--config", "/nonexistent/file"],
                 ["--sim", "h1000"], ["--sim", "h100:0"], ["--socket"], ["--socket", machine.directory + "/" + "x" * 200]):
        done = subprocess.run([DAEMON, "--foreground", *args], env=machine.env, text=True,
                              capture_output=True, timeout=60)
        shown = " ".join(args)[:60]
        check(done.returncode in (1, 2), f"exit {done.returncode} of aliquotd {shown}", done.stderr)
        lines = done.stderr.strip().splitlines()
        check(1 <= len(lines) <= 2, f"lines of aliquotd {shown}: {done.stderr!r}")
        check(args[0] != "--sim" or "PROFILE[:COUNT]" in done.stderr, "says why:", done.stderr)
        check(args[-1][-8:] in done.stderr, f"aliquotd {shown} names it not: {done.stderr!r}")
    check(not any(p.is_socket() for p in machine.rundir.iterdir()) if machine.rundir.exists()
          else True, "sockets were left")


os.environ.setdefault("LC_ALL", "C.UTF-8")
aqtest.run(run_options, run_without_sense, verbs_and_their_operands, resize_and_kill_values,
           a_name_that_is_taken, the_api_refuses_nonsense_itself, raw_http_nonsense,
           daemon_options, said_of_what_was_asked, libraries_that_no_path_can_name,
           without_proc)
