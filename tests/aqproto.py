# SPDX-License-Identifier: Apache-2.0
"""The messages of <aliquot/proto.h> and the page of <aliquot/abi.h>, in a second hand.

For the tests that play a guard, honestly (unit/daemon/aqd.py) or not (integration/rawclient.py).
Nothing here comes from the headers, so a change of those that breaks who is already there shows.
"""
import os
import struct

ABI = 5
MAGIC = 0x4D51
HELLO, HELLO_REPLY, GROW, GROW_REPLY, COST, COST_REPLY, QUERY, QUERY_REPLY, PROCS, PROCS_REPLY, \
    BELL, SHRINK, SHRINK_REPLY, EXPORT, WITHDRAW, IMPORT, IMPORT_REPLY, CLOSE, ASK, ASK_REPLY, LEND, \
    SHARE_REPLY = range(1, 23)
CLIENT, OBSERVER, BACK = 1, 2, 3
BEGIN, END, UNDO = 1, 2, 3
NOTHING, WANTED, CLOSED = 0, 1, 2

HEAD = struct.Struct("<HHIII")
HELLO_BODY = struct.Struct("<IIiI64s")
HELLO_REPLY_BODY = struct.Struct("<iIII64s160s")
GROW_BODY = struct.Struct("<IIQQ48s")
GROW_REPLY_BODY = struct.Struct("<iIQQQQ")
COST_BODY = struct.Struct("<IIQ48s")
COST_REPLY_BODY = struct.Struct("<iIQQ")
QUERY_BODY = struct.Struct("<II16s")
QUERY_REPLY_BODY = struct.Struct("<iIQQQQII16s")
PROCS_REPLY_BODY = struct.Struct("<iI")  # and then:
PROC = struct.Struct("<iIQ")
BELL_BODY = struct.Struct("<II")
SHRINK_BODY = struct.Struct("<IIII")
SHRINK_REPLY_BODY = struct.Struct("<iIIIQQ16s")
EXPORT_BODY = struct.Struct("<16s")
IMPORT_BODY = struct.Struct("<16sQQ")
PIECE_BODY = struct.Struct("<iIQQQQQQ")
ASK_REPLY_BODY = struct.Struct("<IIQQ16s")
SHARE_REPLY_BODY = struct.Struct("<iI")

PAGE_MAGIC = 0x31514C41
PAGE_BYTES = 4096
PAGE_HEAD, PAGE_DEVICE = 128, 192  # bytes
MAX_DEVICES = 16
GRAIN = 512
MAX = (1 << 64) - 1
LEASED, PARKED, NOTICE = 1, 2, 4

# Fields of a page and, from the device's beginning, of one device: (format, offset).
PAGE_FIELDS = {"gates": ("<I", 16), "contexts": ("<I", 20), "news": ("<I", 96),
               "shares": ("<I", 100)}
DEVICE_FIELDS = {
    "grant": ("<Q", 0), "limit_bytes": ("<Q", 8), "request_bytes": ("<Q", 16),
    "context_bytes": ("<Q", 24), "unmeasured": ("<Q", 48), "changes": ("<Q", 56),
    "gate": ("<I", 64), "lease_turn": ("<I", 68), "lease_until_ns": ("<Q", 72),
    "waiting": ("<I", 80), "want": ("<I", 84), "active_turn": ("<I", 88), "done_turn": ("<I", 92),
    "gpu_ns": ("<Q", 96), "total_ns": ("<Q", 112)}


# Packets. Whatever is wrong with one is asked for by name: abi, magic, size, seq.

def head(kind, body, abi=ABI, magic=MAGIC, size=None, seq=1):
    return HEAD.pack(magic, kind, HEAD.size + len(body) if size is None else size, abi, seq) + body


def hello(fraction="", kind=CLIENT, has_page=0, **kw):
    return head(HELLO, HELLO_BODY.pack(kind, has_page, os.getpid(), 0, fraction.encode()), **kw)


def grow(need, device=0, call=None, api=b"cuMemAlloc_v2", **kw):
    return head(GROW, GROW_BODY.pack(device, 0, need & MAX, (need if call is None else call) & MAX,
                                     api), **kw)


def cost(phase, estimate, device=0, api=b"cuCtxCreate_v4", **kw):
    return head(COST, COST_BODY.pack(device, phase, estimate & MAX, api), **kw)


def query(device=0, kind=QUERY, uuid=b"", **kw):
    return head(kind, QUERY_BODY.pack(device, 0, uuid), **kw)


def bell(devices=1, **kw):
    return head(BELL, BELL_BODY.pack(devices, 0), **kw)


def shrink(seen=0, answered=0, wait_ms=0, **kw):
    return head(SHRINK, SHRINK_BODY.pack(seen, answered, wait_ms, 0), **kw)


def export(token, kind=EXPORT, **kw):
    return head(kind, EXPORT_BODY.pack(token), **kw)


def borrow(token, at=0, number=1, kind=IMPORT, **kw):
    return head(kind, IMPORT_BODY.pack(token, at & MAX, number & MAX), **kw)


def ask(**kw):
    return head(ASK, b"", **kw)


def lend(loan, at=0, result=0, piece=2 << 20, span=2 << 20, offset=0, size=1 << 20, **kw):
    return head(LEND, PIECE_BODY.pack(result, 0, *(n & MAX for n in (loan, at, piece, span, offset,
                                                                     size))), **kw)


def text(padded):
    return padded.split(b"\0")[0].decode(errors="replace")


# What each reply carries; None: of no interest.
REPLIES = {
    HELLO_REPLY: (HELLO_REPLY_BODY,
                  ("result", "their_abi", "devices", "fail_open", "fraction", "text")),
    GROW_REPLY: (GROW_REPLY_BODY, ("result", "device", "granted", "limit", "used", "free")),
    COST_REPLY: (COST_REPLY_BODY, ("result", "device", "overhead", "free")),
    QUERY_REPLY: (QUERY_REPLY_BODY, ("result", "device", "limit", "request", "used", "free",
                                     "clients", None, None)),
    PROCS_REPLY: (PROCS_REPLY_BODY, ("result", "count")),
    SHRINK_REPLY: (SHRINK_REPLY_BODY, ("result", "turn", "device", None, "keep", "used", None)),
    IMPORT_REPLY: (PIECE_BODY, ("result", "away", "loan", "at", "piece", "span", "offset", "size")),
    ASK_REPLY: (ASK_REPLY_BODY, ("what", None, "loan", "at", "token")),
    SHARE_REPLY: (SHARE_REPLY_BODY, ("result", None)),
}


def decode(packet):
    """A reply as a dict, with its head's kind, size, abi and seq."""
    _, kind, size, abi, seq = HEAD.unpack_from(packet)
    reply = {"kind": kind, "size": size, "abi": abi, "seq": seq}
    if kind in REPLIES:
        body, names = REPLIES[kind]
        values = body.unpack_from(packet, HEAD.size)
        reply.update({n: v.hex() if n == "token" else text(v) if isinstance(v, bytes) else v
                      for n, v in zip(names, values) if n})
    if kind == PROCS_REPLY:
        at = HEAD.size + PROCS_REPLY_BODY.size
        procs = PROC.iter_unpack(packet[at:at + PROC.size * reply["count"]])
        reply["procs"] = {pid: used for pid, _, used in procs}
    return reply


def field_at(field, device=0):
    """(format, offset in the page)"""
    if field in PAGE_FIELDS:
        return PAGE_FIELDS[field]
    kind, at = DEVICE_FIELDS[field]
    return kind, PAGE_HEAD + PAGE_DEVICE * device + at


class Client:
    """Who holds a page: `page` is its mapping."""

    page = None

    def get(self, field, device=0):
        kind, at = field_at(field, device)
        return struct.unpack_from(kind, self.page, at)[0]

    def put(self, field, value, device=0):
        kind, at = field_at(field, device)
        struct.pack_into(kind, self.page, at, value)

    def word(self, device=0):
        """Grains (granted, used)"""
        value = self.get("grant", device)
        return value >> 32, value & 0xFFFFFFFF

    def set_word(self, granted, used, device=0):
        self.put("grant", granted << 32 | used, device)
