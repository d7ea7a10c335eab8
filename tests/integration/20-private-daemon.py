#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The daemon that `aliquot run` starts for a user: there when needed, gone afterwards, no trace."""
import os
import pathlib
import resource
import signal
import stat
import subprocess
import time

import aqtest
from aqtest import check, equal, eventually, program, words


def comes_and_goes(machine):
    tenant = machine.tenant(memory="2G")
    pid = machine.daemon_pid()
    check(aqtest.alive(pid), "a daemon runs")
    mode = machine.rundir.stat().st_mode
    equal(stat.S_IMODE(mode), 0o700, "mode of the run directory")
    machine.note_backing()
    check(machine.backing, "a simulated machine has memory somewhere")
    time.sleep(6.5)
    check(aqtest.alive(pid), "it stays while a fraction lives")
    tenant.do("alloc linear 1G")
    tenant.quit()
    started = time.monotonic()
    eventually(lambda: not aqtest.alive(pid), "it ends after its last fraction")
    took = time.monotonic() - started
    check(took > 2, f"it waits a little ({took:.1f} s), for the next command")
    left = [p.name for p in machine.rundir.iterdir() if p.is_socket()]
    equal(left, [], "sockets")
    equal([p for p in machine.backing if os.path.exists(p)], [], "memory of simulated devices")


def is_not_tied_to_the_terminal(machine):
    """In a session of its own, without the caller's descriptors or directory."""
    machine.tenant(memory="2G")
    pid = machine.daemon_pid()
    stat_line = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    equal(int(stat_line[3]), pid, "session")
    equal(os.readlink(f"/proc/{pid}/cwd"), "/", "working directory")
    for fd in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{fd}")
        check(not target.startswith("pipe:") or int(fd) > 2, f"descriptor {fd} is {target}")


def a_second_run_uses_the_first_ones(machine):
    machine.tenant(memory="2G")
    pid = machine.daemon_pid()
    machine.tenant(memory="2G")
    equal(machine.daemon_pid(), pid, "daemon")
    equal(len(machine.fractions()), 2, "fractions")


def stale_files_are_no_obstacle(machine):
    """What a killed daemon left behind: sockets nobody listens on, a pid file of nobody."""
    tenant = machine.tenant(memory="2G")
    tenant.kill()
    tenant.wait()
    pid = machine.kill_daemon()
    check((machine.rundir / "aliquotd.sock").exists(), "its socket is left")
    lines = machine.output(program("tenant"), "init", "dev 0", "info", memory="3G")
    equal(words(lines[-1])["total"], 3 << 30, "total")
    check(machine.daemon_pid() != pid, "a new daemon")


def a_second_daemon_gives_way(machine):
    first = machine.start_daemon()
    second = machine.spawn([aqtest.DAEMON, "--foreground"])
    check(second.wait() != 0, "a second daemon ends")
    text = second.stderr().strip()
    equal(len(text.splitlines()), 1, f"one line ({text!r})")
    equal(machine.api("/v1/version")["pid"], first.pid, "the first serves on")


def a_directory_of_somebody_else(machine):
    """The run directory must be ours and closed to others, or nothing is started in it."""
    machine.rundir.mkdir(mode=0o700)
    machine.rundir.chmod(0o777)
    _, text = machine.cli("run", "--sim", "h100", "--memory", "1G", "--", "/bin/true", code=125)
    check(text.strip(), "says why")
    check(not list(machine.rundir.iterdir()), "something was made there")
    machine.rundir.chmod(0o700)
    target = pathlib.Path(machine.directory, "elsewhere")
    target.mkdir(mode=0o700)
    machine.rundir.rmdir()
    machine.rundir.symlink_to(target)
    machine.cli("run", "--sim", "h100", "--memory", "1G", "--", "/bin/true", code=125)
    check(not list(target.iterdir()), "followed a link")
    machine.rundir.unlink()


def paths_that_are_too_long(machine):
    deep = pathlib.Path(machine.directory, "d" * 100)
    deep.mkdir()
    machine.env["XDG_RUNTIME_DIR"] = str(deep)
    _, text = machine.cli("run", "--sim", "h100", "--memory", "1G", "--", "/bin/true", code=125)
    check(0 < len(text.strip().splitlines()) <= 2, "says why, shortly:", text)
    machine.env["XDG_RUNTIME_DIR"] = machine.directory


def no_directory(machine):
    machine.env["XDG_RUNTIME_DIR"] = os.path.join(machine.directory, "nowhere")
    _, text = machine.cli("run", "--sim", "h100", "--memory", "1G", "--", "/bin/true", code=125)
    check("XDG_RUNTIME_DIR" in text, "names what is wrong:", text)
    machine.env["XDG_RUNTIME_DIR"] = machine.directory


def a_limit_of_the_shell(machine):
    """A daemon that may not write files says so, or the command does."""
    done = subprocess.run([aqtest.CLI, "run", "--sim", "h100", "--memory", "1G", "--", "/bin/true"],
                          env=machine.env, capture_output=True, text=True, check=False,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)))
    equal(done.returncode, 125, "status")
    check("limit" in done.stderr, "says why:", done.stderr)


def killed_and_asked_for(machine):
    """A daemon was killed: its programs go on, so somebody has to tell of them."""
    machine.tenant(memory="2G", name="still")
    pid = machine.kill_daemon()
    equal([f["name"] for f in machine.json("ps")], ["still"], "aliquot ps --json")
    check(machine.daemon_pid() != pid, "a new daemon")


def stopped_and_asked(machine):
    machine.tenant(memory="2G", name="one")
    pid = machine.daemon_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        child = machine.spawn([aqtest.CLI, "ps"])
        eventually(lambda: f"kill -CONT {pid}" in child.stderr(), "it says what to do")
    finally:
        os.kill(pid, signal.SIGCONT)
    equal(child.wait(), 0, "status of ps, after that")
    check("one" in child.lines()[1], "the table")


def one_that_nobody_can_reach(machine):
    """Something has removed the sockets of a daemon that lives: the way out is named."""
    daemon = machine.start_daemon()
    for name in ("api.sock", "aliquotd.sock"):
        (machine.rundir / name).unlink()
    _, text = machine.cli("run", "--sim", "h100", "--memory", "1G", "--", "/bin/true", code=125)
    check(f"'kill {daemon.pid}'" in text, "says what to do:", text)
    os.kill(daemon.pid, signal.SIGTERM)
    equal(daemon.wait(), 0, "its status")
    machine.cli("run", "--sim", "h100", "--memory", "1G", "--", "/bin/true")


def asked_as_it_ends(machine):
    """Whoever still came when a daemon was about to end for want of use is served, and whoever
    comes right after."""
    config = pathlib.Path(machine.directory, "config")
    config.write_text("idle_exit: 500ms\n")
    started = subprocess.run([aqtest.DAEMON, "--config", config], env=machine.env, check=False,
                             timeout=aqtest.PATIENCE)
    equal(started.returncode, 0, "status of aliquotd")
    pid = machine.daemon_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        link = aqtest.UnixHTTP(str(machine.rundir / "api.sock"), aqtest.PATIENCE)
        link.request("GET", "/v1/version")
        time.sleep(0.8)
    finally:
        os.kill(pid, signal.SIGCONT)
    equal(link.getresponse().status, 200, "status of who came before")
    equal(machine.api("/v1/version")["pid"], pid, "who answers then")
    link.close()


def what_is_left_of_an_ended_program(machine):
    """A fraction outlives its program for a moment, and is not called running then."""
    config = pathlib.Path(machine.directory, "config")
    config.write_text("linger: 30s\n")
    machine.start_daemon("--config", config)
    machine.output("/bin/true", name="gone", memory="1G")
    line = eventually(lambda: [t for t in machine.cli("ps")[0].splitlines() if "ended" in t],
                      "it is shown as ended")[0]
    check(line.startswith("gone "), "which:", line)


def nothing_runs_yet(machine):
    """Asking for fractions does not start a daemon, and says so in one line."""
    for verb in ("ps", "events"):
        out, text = machine.cli(verb, code=None)
        equal(len((out + text).strip().splitlines()), 1, f"lines of {verb} ({out}{text})")
    equal(machine.json("ps"), [], "aliquot ps --json")
    check(not (machine.rundir / "aliquotd.pid").exists(), "a daemon was started")


aqtest.run(comes_and_goes, is_not_tied_to_the_terminal, a_second_run_uses_the_first_ones,
           stale_files_are_no_obstacle, a_second_daemon_gives_way, a_directory_of_somebody_else,
           paths_that_are_too_long, no_directory, a_limit_of_the_shell, killed_and_asked_for,
           stopped_and_asked, one_that_nobody_can_reach, asked_as_it_ends,
           what_is_left_of_an_ended_program, nothing_runs_yet)
