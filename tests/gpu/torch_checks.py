#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ordinary PyTorch programs, one check a run, named by the first argument. They know nothing of
Aliquot. Each prints one line of JSON and exits 0, or says what was wrong and exits 1; 77 when PyTorch
or the device lacks what the check needs.

  info          what PyTorch and NVML say of the device's memory
  limit         allocate until refused, catch it, and go on
  expandable    the same with expandable segments
  graphs        a captured CUDA graph, replayed
  compile       torch.compile of a small function
  loader        a DataLoader with forked workers beside work on the device
  spawn         two processes of one program, each with its share
  train         a few steps of a small network: the loss falls
"""
import json
import os
import sys


def say(**what):
    print(json.dumps(what), flush=True)


def fill(torch, chunk=64 << 20):
    """Tensors of `chunk` bytes until PyTorch refuses; what it got, and the refusal's first line."""
    held = []
    try:
        while True:
            held.append(torch.empty(chunk, dtype=torch.uint8, device="cuda"))
    except torch.OutOfMemoryError as error:
        got = len(held) * chunk
        held.clear()
        return got, str(error).splitlines()[0]


def nvml_memory():
    """(total, used) by NVML of the first visible device, or None without its Python binding."""
    try:
        import pynvml
    except ImportError:
        return None
    pynvml.nvmlInit()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
    if visible.startswith("GPU-"):
        handle = pynvml.nvmlDeviceGetHandleByUUID(visible)
    else:
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(visible or 0))
    info = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return info.total, info.used


def info(torch):
    free, total = torch.cuda.mem_get_info()
    nvml = nvml_memory()
    say(free=free, total=total, props=torch.cuda.get_device_properties(0).total_memory,
        nvml_total=nvml and nvml[0], nvml_used=nvml and nvml[1])


def limit(torch):
    total = torch.cuda.mem_get_info()[1]
    got, words = fill(torch)
    torch.cuda.empty_cache()
    again, _ = fill(torch)
    torch.cuda.empty_cache()
    a = torch.arange(1000, device="cuda")
    assert int((a * 2).sum()) == 999000, "wrong result after a refusal"
    assert again >= got - (256 << 20), f"second time {again}, first {got}"
    say(got=got, again=again, total=total, words=words)


def expandable(torch):
    assert "expandable_segments:True" in os.environ.get("PYTORCH_CUDA_ALLOC_CONF", ""), \
        "the environment was not set before the start"
    limit(torch)


def graphs(torch):
    x = torch.randn(512, 512, device="cuda")
    w = torch.randn(512, 512, device="cuda") / 23
    y = torch.empty_like(x)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            y.copy_(torch.relu(x @ w) @ w)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y.copy_(torch.relu(x @ w) @ w)
    before = torch.cuda.mem_get_info()[0]
    for i in range(300):
        x.fill_(i / 300)
        graph.replay()
    torch.cuda.synchronize()
    want = torch.relu(x @ w) @ w
    assert torch.allclose(y, want, rtol=1e-3, atol=1e-3), "a replay computed something else"
    say(replays=300, grew=before - torch.cuda.mem_get_info()[0])


def compile(torch):
    @torch.compile
    def f(a, b):
        return torch.nn.functional.gelu(a @ b).sum(dim=1)

    a, b = torch.randn(256, 256, device="cuda"), torch.randn(256, 256, device="cuda")
    want = torch.nn.functional.gelu(a @ b).sum(dim=1)
    assert torch.allclose(f(a, b), want, rtol=1e-2, atol=1e-1), "compiled code computes otherwise"
    say(compiled=True)


class Squares:
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        import torch
        return torch.tensor(i * i)


def loader(torch):
    from torch.utils.data import DataLoader
    keep = torch.ones(1 << 20, device="cuda")  # CUDA is in use before the workers are forked
    total = 0
    for batch in DataLoader(Squares(512), batch_size=32, num_workers=4, pin_memory=True):
        total += int(batch.cuda(non_blocking=True).sum())
    assert total == sum(i * i for i in range(512)), "the loader's data is wrong"
    assert int(keep.sum()) == 1 << 20
    say(batches=16)


def spawn_child(index, queue):
    import torch
    torch.cuda.init()
    got, _ = fill(torch, 256 << 20)
    queue.put((index, got, torch.cuda.mem_get_info()[1]))


def spawn(torch):
    import torch.multiprocessing as mp
    context = mp.get_context("spawn")
    queue = context.Queue()
    children = [context.Process(target=spawn_child, args=(i, queue)) for i in range(2)]
    for child in children:
        child.start()
    answers = [queue.get(timeout=120) for _ in children]
    for child in children:
        child.join(60)
    codes = [child.exitcode for child in children]
    assert codes == [0, 0], f"exit codes {codes}"
    say(got=[a[1] for a in answers], total=answers[0][2])


def train(torch):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 1))
    net = net.cuda()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    x = torch.randn(1024, 64, device="cuda")
    y = x.square().mean(dim=1, keepdim=True)
    losses = []
    for _ in range(60):
        loss = torch.nn.functional.mse_loss(net(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2, f"loss went from {losses[0]} to {losses[-1]}"
    say(first=losses[0], last=losses[-1])


CHECKS = {f.__name__: f for f in (info, limit, expandable, graphs, compile, loader, spawn, train)}


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in CHECKS:
        print(__doc__)
        return 2
    if sys.argv[1] == "expandable":
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    try:
        import torch
    except ImportError:
        print("no PyTorch")
        return 77
    if not torch.cuda.is_available():
        print("PyTorch sees no device")
        return 77
    try:
        CHECKS[sys.argv[1]](torch)
    except AssertionError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
