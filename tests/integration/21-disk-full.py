#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A run directory that is full or cannot be written: refused in a line, or served all the same."""
import os
import pathlib
import subprocess

import aqtest
from aqtest import GIB, OOM, Skip, check, equal, need_root, program, words


class SmallDisk:
    """A file system of 256 KiB over the run directory."""

    def __init__(self, machine):
        need_root()
        self.path = machine.directory
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "aqtest",
                               self.path], capture_output=True, text=True)
        if done.returncode:
            raise Skip(f"cannot mount: {done.stderr.strip()}")

    def fill(self, leave=0):
        with open(os.path.join(self.path, "ballast"), "ab", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 4096)
            except OSError:
                pass
            if leave:
                file.truncate(max(0, file.tell() - leave))

    def empty(self):
        pathlib.Path(self.path, "ballast").unlink(missing_ok=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.path], check=False)


def full_before_the_start(machine):
    with SmallDisk(machine) as disk:
        disk.fill()
        child = machine.run("/bin/true", memory="1G")
        code = child.wait()
        text = child.stderr().strip()
        check(code in (0, 125), f"exit {code}: {text}")
        if code:
            check(1 <= len(text.splitlines()) <= 2, "says why, shortly:", text)
        disk.empty()
        machine.output("/bin/true", memory="1G")
        machine.stop()


def full_while_running(machine):
    """The log and the state file cannot be written; tenants are served all the same."""
    with SmallDisk(machine) as disk:
        daemon = machine.start_daemon()
        tenant = machine.tenant(memory="4G", name="before")
        tenant.do("alloc linear 1G")
        disk.fill()
        tenant.do("alloc linear 1G")
        equal(tenant.ask("alloc linear 3G")["code"], OOM, "over the limit")
        equal(machine.used("before") > 2 * GIB, True, "used")
        late = machine.run(program("tenant"), "init", "dev 0", "info", memory="2G", name="late")
        lines = late.lines()
        code = late.wait()
        if code == 0:
            equal(words(lines[-1])["total"], 2 * GIB, "total of the late one")
        else:
            equal(code, 125, f"exit of the late one ({late.stderr()!r})")
            equal(len(late.stderr().strip().splitlines()), 1, "one line")
        status, _ = machine.http("PATCH", "/v1/fractions/before", {"memory_limit_bytes": 5 * GIB,
                                                                    "memory_request_bytes": 5 * GIB})
        check(status in (200, 500, 507), "status of a resize", status)
        limit = machine.fraction("before")["memory_limit_bytes"]
        equal(limit, (5 if status == 200 else 4) * GIB, "limit after it")
        equal(daemon.process.poll(), None, "the daemon")
        disk.empty()
        tenant.do("free last")
        machine.output("/bin/true", memory="1G")
        tenant.quit()
        machine.stop()


def what_could_not_be_saved_is_saved_later(machine):
    """Without another change: for who asks there is a warning until then."""
    with SmallDisk(machine) as disk:
        daemon = machine.start_daemon()
        tenant = machine.tenant(memory="4G", compute="0.2", name="kept", start=False)
        aqtest.eventually(lambda: "kept" in machine.fractions(), "the fraction is there")
        disk.fill()
        machine.cli("resize", "kept", "--compute", "0.3")
        aqtest.eventually(lambda: machine.api("/v1/status")["warnings"], "a warning", 5)
        disk.empty()
        aqtest.eventually(lambda: not machine.api("/v1/status")["warnings"], "no warning", 5)
        machine.kill_daemon(daemon)
        machine.start_daemon()
        equal(machine.fraction("kept")["compute_request_permille"], 300, "after a restart")
        tenant.close()
        machine.stop()


def unwritable(machine):
    """Read-only: not even a socket can be made. One line, 125."""
    need_root()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=64k", "aqtest",
                           machine.directory], capture_output=True, text=True)
    if done.returncode:
        raise Skip(f"cannot mount: {done.stderr.strip()}")
    try:
        _, text = machine.cli("run", "--sim", "h100", "--memory", "1G", "--", "/bin/true", code=125)
        check(1 <= len(text.strip().splitlines()) <= 2, "says why, shortly:", text)
        check("ead-only" in text or machine.directory in text, "names the reason:", text)
    finally:
        subprocess.run(["umount", "-l", machine.directory], check=False)


aqtest.run(full_before_the_start, full_while_running, what_could_not_be_saved_is_saved_later,
           unwritable)
