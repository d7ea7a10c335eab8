# SPDX-License-Identifier: Apache-2.0
"""What the scripts beside this share: programs that answer line by line, the daemon's API, and what
is written of the host. Measures nothing."""
import datetime
import http.client
import json
import os
import pathlib
import platform
import re
import socket
import subprocess


class Program:
    """One that answers with a line of JSON to each line, and with one when it is ready."""

    def __init__(self, command, env):
        self.process = subprocess.Popen(command, env=env, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the program ended with {self.process.wait()}")
        return json.loads(line)

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def request(directory, method, path, body=None):
    """(status, text) of the daemon whose XDG_RUNTIME_DIR is @directory."""
    conn = http.client.HTTPConnection("localhost", timeout=120)
    conn.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    conn.sock.connect(f"{directory}/aliquot/api.sock")
    conn.request(method, path, None if body is None else json.dumps(body),
                 {"Content-Type": "application/json"})
    answer = conn.getresponse()
    text = answer.read().decode()
    conn.close()
    return answer.status, text


def cpu_name():
    match = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return match[1] if match else platform.processor()


def moment():
    """When and where, for a result."""
    return {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "host": platform.machine(), "cpus": os.cpu_count(), "load": os.getloadavg()[0]}
