#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Three tenants on one device: a neighbour's greed and its kill -9 change nothing for the others."""
import signal

import aqtest
from aqtest import GIB, MIB, OOM, Tally, check, equal, eventually, says, size_2m


def three_tenants(machine):
    tally = Tally(machine)
    chat = machine.tenant(gpu=0.5, name="chat", env=tally.env)
    embed = machine.tenant(gpu=0.25, name="embed", env=tally.env)
    batch = machine.tenant(gpu=0.25, name="batch", env=tally.env)
    total = machine.devices()[0]["memory_total_bytes"]
    for tenant, share in ((chat, 2), (embed, 4), (batch, 4)):
        equal(tenant.do("info")["total"], size_2m(total // share), f"a {share}th")

    got = {}
    for tenant, name, method in ((chat, "chat", "linear"), (embed, "embed", "async"),
                                 (batch, "batch", "vmm")):
        filled = tenant.ask(f"fill {method} 1G")
        equal(filled["code"], OOM, f"{name}'s refusal")
        got[name] = filled["bytes"]
        tenant.do("put 0 7")
    for name, share in (("chat", 2), ("embed", 4), ("batch", 4)):
        check(got[name] > total // share - 3 * GIB, f"{name} got only {got[name]}")
        check(got[name] <= total // share, f"{name} got {got[name]}")

    # Greed: thousands of tries, and nothing moves.
    before = {n: machine.used(n) for n in ("chat", "embed")}
    free = [chat.free(), embed.free()]
    greedy = batch.ask("retry linear 1G 3000")
    equal((greedy["ok"], greedy["oom"], greedy["other"]), (0, 3000, 0), "greedy tries")
    equal([chat.free(), embed.free()], free, "what the others have free")
    equal({n: machine.used(n) for n in ("chat", "embed")}, before, "what the others use")
    chat.do("free last")
    chat.do("alloc linear 1G")
    chat.do("check 0 7", bad=0)
    embed.do("check 0 7", bad=0)

    # Death: its memory comes back, to its place alone.
    held_by_batch = machine.used("batch")
    batch.kill(signal.SIGKILL)
    batch.wait()
    machine.gone("batch")
    eventually(lambda: machine.devices()[0]["memory_used_bytes"] <=
               before["chat"] + before["embed"] + 4 * MIB, "the device has the memory back")
    check(held_by_batch > 10 * GIB, "batch held", held_by_batch)
    equal(chat.ask("alloc linear 2G")["code"], OOM, "chat does not inherit")
    chat.do("check 0 7", bad=0)
    embed.do("check 0 7", bad=0)
    equal({n: machine.used(n) for n in ("chat", "embed")}, before, "what the others use")

    heir = machine.tenant(gpu=0.25, name="heir", env=tally.env)
    filled = heir.ask("fill linear 1G")
    equal(filled["code"], OOM, "the heir's refusal")
    check(abs(filled["bytes"] - got["batch"]) <= GIB, "the heir gets as much:", filled, got)


def a_full_device_is_said(machine):
    """What cannot be granted is refused at once, with what is free."""
    first = machine.tenant(gpu=0.75, name="first")
    total = machine.devices()[0]["memory_total_bytes"]
    _, text = machine.cli("run", "--sim", "h100", "--gpu", "0.5", "--", "/bin/true", code=125)
    lines = text.strip().splitlines()
    check(1 <= len(lines) <= 2, f"lines on stderr ({text!r})")
    free = total - machine.fraction("first")["memory_request_bytes"]
    check(says(text, free), f"says what is free ({free}):", text)
    equal(len(machine.fractions()), 1, "fractions")
    first.quit()


def burst_yields_to_nobodys_request(machine):
    """Between request and limit memory may be used, but never what another has requested."""
    machine.start_daemon()
    total = machine.devices()[0]["memory_total_bytes"]
    lender = machine.tenant(gpu=0.5, name="lender")
    borrower = machine.tenant(memory="10G", memory_limit=total,
                              name="borrower")
    filled = borrower.ask("fill linear 1G")
    equal(filled["code"], OOM, "the borrower's refusal")
    check(filled["bytes"] > 20 * GIB, "burst above the request of 10 GiB:", filled)
    check(machine.used("borrower") <= total - machine.fraction("lender")["memory_request_bytes"],
          "borrowed from a request:", machine.used("borrower"))
    lent = lender.ask("fill linear 1G")
    check(lent["bytes"] > total // 2 - 3 * GIB, "the lender gets its request:", lent)
    lender.quit()
    borrower.quit()


aqtest.run(three_tenants, a_full_device_is_said, burst_yields_to_nobodys_request)
