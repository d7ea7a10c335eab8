# SPDX-License-Identifier: Apache-2.0
"""Speaks the protocol of <aliquot/proto.h> by hand, honestly or not. See 17-hostile.py.

As a program: `rawclient.py SOCKET FRACTION MISDEED` commits one and prints `MISDEED key=value ...`.
"""
import array
import ctypes
import errno
import mmap
import os
import random
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from aqproto import *  # pylint: disable=wildcard-import,unused-wildcard-import,wrong-import-position

F_ADD_SEALS, SEAL_SEAL, SEAL_SHRINK, SEAL_GROW = 1033, 1, 2, 4
SYS_FUTEX, FUTEX_WAIT = {"x86_64": 202, "aarch64": 98}.get(os.uname().machine), 0
LIBC = ctypes.CDLL(None, use_errno=True)


class Link(Client):
    def __init__(self, path, timeout=10):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.fd = -1

    def send(self, data, fds=()):
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([data], control)

    def receive(self):
        """The next reply; None when the daemon has closed the connection."""
        try:
            data, control, _, _ = self.sock.recvmsg(8192, socket.CMSG_SPACE(64))
        except (ConnectionResetError, BrokenPipeError):
            return None
        for level, kind, raw in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self.fd = array.array("i", raw[:4])[0]
        return decode(data) if data else None

    def ask(self, data, fds=()):
        try:
            self.send(data, fds)
        except (ConnectionResetError, BrokenPipeError):
            return None
        return self.receive()

    def attach(self, fraction):
        reply = self.ask(hello(fraction))
        if not reply or reply["result"] != 0:
            raise RuntimeError(f"not attached: {reply}")
        self.page = mmap.mmap(self.fd, PAGE_BYTES)
        return reply

    def closed(self, timeout=10):
        """True once the daemon has hung up; replies on the way are dropped."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                if self.receive() is None:
                    return True
            except socket.timeout:
                return False
            except OSError as error:
                return error.errno in (errno.ECONNRESET, errno.EPIPE)
        return False

    def close(self):
        self.sock.close()
        if self.fd >= 0:
            os.close(self.fd)


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class Timespec(ctypes.Structure):
    _fields_ = [("sec", ctypes.c_long), ("nsec", ctypes.c_long)]


class Lessee(Link):
    """A guard as far as leases go, on one device: kernels are stretches of time."""

    def attach(self, fraction, running=True, device=0):
        reply = super().attach(fraction)
        self.device = device
        self.fraction = fraction
        self.turns = 0  # leases used
        if running:
            self.put("contexts", 1 << device)
            self.ring()
        return reply

    def get(self, field, device=None):
        return super().get(field, self.device if device is None else device)

    def put(self, field, value, device=None):
        super().put(field, value, self.device if device is None else device)

    def ring(self, mask=None):
        self.send(bell(1 << self.device if mask is None else mask))

    def come_back(self, path):
        """With the page, to a new daemon. Return: result of HELLO, or None when nobody answers."""
        self.sock.close()
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(10)
        try:
            self.sock.connect(path)
            reply = self.ask(hello(self.fraction, has_page=1), [self.fd])
        except OSError:
            return None
        return reply and reply["result"]

    def sleep_on(self, field, value, seconds):
        """futex(2) on a word of the page, while it is `value`."""
        _, at = field_at(field, self.device)
        word = (ctypes.c_char * PAGE_BYTES).from_buffer(self.page)
        timeout = Timespec(int(seconds), int(seconds % 1 * 1e9))
        LIBC.syscall(SYS_FUTEX, ctypes.c_void_p(ctypes.addressof(word) + at), FUTEX_WAIT,
                     ctypes.c_uint32(value), ctypes.byref(timeout), None, 0)

    def enter(self):
        """Take the lease if there is one. Return: its turn, or None."""
        turn = self.get("lease_turn")
        if turn == self.get("done_turn"):
            return None
        self.put("active_turn", turn)
        if self.get("lease_turn") == turn and self.get("lease_until_ns") > now_ns():
            return turn
        self.put("done_turn", turn)
        return None

    def acquire(self, timeout=5, look_s=0.01):
        """Wait for a lease as a guard does. Return: its turn, or None after `timeout` seconds."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            before = self.get("lease_turn")
            turn = self.enter()
            if turn is not None:
                self.turns += 1
                return turn
            self.put("want", 1)
            self.ring()
            self.sleep_on("lease_turn", before, look_s)
        return None

    def flood(self, seconds):
        """Ring without a pause. Return: how often."""
        end = time.monotonic() + seconds
        count = 0
        while time.monotonic() < end:
            self.ring()
            count += 1
        return count

    def over(self, turn):
        """Must the lease be given back?"""
        return self.get("lease_turn") != turn or self.get("lease_until_ns") <= now_ns()

    def give_back(self, turn, used_ns, want):
        self.put("gpu_ns", self.get("gpu_ns") + used_ns & MAX)
        self.put("want", want)
        self.put("done_turn", turn)
        self.ring()

    def work(self, seconds, kernel_s=0.0002, idle_s=0, look_s=0.01):
        """Kernels of that length for a while, as many in a lease as it lets one. Return: device
        seconds."""
        end = time.monotonic() + seconds
        total = 0
        while time.monotonic() < end:
            turn = self.acquire(look_s=look_s)
            if turn is None:
                break
            begin = now_ns()
            while not self.over(turn) and time.monotonic() < end:
                time.sleep(kernel_s)
                if idle_s:
                    break
            used = now_ns() - begin
            total += used
            self.give_back(turn, used, 0 if idle_s else 1)
            if idle_s:
                time.sleep(idle_s)
        self.put("want", 0)
        self.ring()
        return total / 1e9


def forged_page(fraction, granted, used, seal=SEAL_SEAL | SEAL_SHRINK | SEAL_GROW, size=PAGE_BYTES,
                magic=PAGE_MAGIC, abi=ABI, devices=1, uuid=b"\0" * 16):
    """A memfd such as an honest client of an earlier daemon would bring."""
    fd = os.memfd_create("page", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    data = bytearray(PAGE_BYTES)
    struct.pack_into("<IIII", data, 0, magic, abi, PAGE_BYTES, devices)
    struct.pack_into("<II", data, 16, 0, 1)
    data[32:32 + len(fraction)] = fraction.encode()
    for device in range(min(devices, MAX_DEVICES)):
        struct.pack_into("<QQQQ16s", data, PAGE_HEAD + PAGE_DEVICE * device, (granted << 32 | used) & MAX, 0, 0,
                         0, uuid)
    os.pwrite(fd, bytes(data[:size]), 0)
    if seal:
        ctypes.CDLL(None).fcntl(fd, F_ADD_SEALS, seal)
    return fd


# Misdeeds of an attached client. Each ends with the process alive until its stdin ends.

def scribble(link, seed):
    """Random bytes over the whole page, for a while."""
    rng = random.Random(seed)
    for _ in range(200):
        at = rng.randrange(0, PAGE_BYTES - 8)
        link.page[at:at + 8] = rng.randbytes(8)
        time.sleep(0.002)
    link.set_word(rng.randrange(1 << 31, 1 << 32), rng.randrange(1 << 31))
    reply = None
    try:
        reply = link.ask(grow(1 << 20))
    except OSError:
        pass
    return {"answered": int(bool(reply and reply["result"] == 0))}


def grant_itself(link, _):
    """Claims a grant of two TiB, and uses it."""
    link.set_word(0xFFFFFFFF, 0x7FFFFFFF)
    time.sleep(1.5)
    reply = link.ask(grow(1 << 20))
    return {"answered": int(bool(reply and reply["result"] == 0))}


def use_more_than_granted(link, _):
    granted, _ = link.word()
    link.set_word(granted, min(granted + 1000, 0xFFFFFFFF))
    time.sleep(1.5)
    reply = link.ask(grow(1 << 20))
    return {"answered": int(bool(reply and reply["result"] == 0))}


def resize_page(link, _):
    """The page is sealed: whoever holds it cannot make the daemon fault on it."""
    failed = 0
    for size in (0, 1, 8192):
        try:
            os.ftruncate(link.fd, size)
        except OSError:
            failed += 1
    return {"refused": failed}


def hoard(link, _):
    """Asks for all there is, in large pieces, and uses none of it."""
    granted = 0
    while True:
        reply = link.ask(grow(64 << 20))
        if not reply or reply["result"] != 0:
            break
        granted += reply["granted"]
    return {"granted": granted, "result": reply["result"] if reply else 0}


def flood(link, _):
    """Never reads a reply; sends until the daemon takes no more or hangs up."""
    link.sock.settimeout(3)
    sent = 0
    try:
        for sent in range(200000):
            link.send(query(seq=sent))
    except OSError as error:
        return {"sent": sent, "end": type(error).__name__}
    return {"sent": sent, "end": "none"}


def cost_without_end(link, _):
    """Reserves for a context that never comes."""
    reply = link.ask(cost(BEGIN, 1 << 30))
    return {"result": reply["result"] if reply else -1}


MISDEEDS = {f.__name__: f for f in (scribble, grant_itself, use_more_than_granted, resize_page,
                                    hoard, flood, cost_without_end)}


def main():
    path, fraction, misdeed = sys.argv[1:4]
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    link = Link(path)
    link.attach(fraction)
    answer = MISDEEDS[misdeed](link, seed)
    print(misdeed, *[f"{k}={v}" for k, v in answer.items()], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
