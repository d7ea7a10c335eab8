#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""However a program comes by the driver, it comes by the guard."""
import os

import aqtest
from aqtest import GIB, LIB, OOM, Skip, check, equal, program, words


def held(machine, exe, *args):
    lines = machine.output(program(exe), *args, memory="4G")
    answer = words(lines[-1])
    way = f"{exe} {args[0]}"
    equal(answer["code"], 0, f"{way}: code ({lines})")
    equal(answer["total"], 4 * GIB, f"{way}: total memory")
    equal(answer["small"], 0, f"{way}: a small allocation")
    equal(answer["over"], OOM, f"{way}: an allocation over the limit")


def dlopen_in_every_way(machine):
    for way in ("local", "now-global", "deepbind", "default", "handle-of-handle", "namespace",
                "walk"):
        held(machine, "loaders", way)


def absolute_path_of_the_guard(machine):
    held(machine, "loaders", "path", LIB / "guard/libcuda.so.1")


def plugins_linked_with_the_driver(machine):
    held(machine, "loaders", "plugin", program("plugin.so"))
    held(machine, "loaders", "plugin-deepbind", program("plugin.so"))


@aqtest.waits("threads made by a library that a static program has opened")
def static_executable(machine):
    if not os.path.exists(program("loaders-static")):
        raise Skip("static executables cannot be built here")
    held(machine, "loaders-static", "local")
    held(machine, "loaders-static", "deepbind")
    held(machine, "loaders-static", "plugin", program("plugin.so"))


def python_ctypes(machine):
    code = ("import ctypes\n"
            "cu = ctypes.CDLL('libcuda.so.1')\n"
            "n = ctypes.c_size_t(); p = ctypes.c_uint64(); c = ctypes.c_void_p()\n"
            "r = cu.cuInit(0) or cu.cuDevicePrimaryCtxRetain(ctypes.byref(c), 0)\n"
            "r = r or cu.cuCtxSetCurrent(c) or cu.cuDeviceTotalMem_v2(ctypes.byref(n), 0)\n"
            "over = cu.cuMemAlloc_v2(ctypes.byref(p), ctypes.c_size_t(n.value + (2 << 20)))\n"
            "print(f'ctypes code={r} total={n.value} over={over}')\n")
    answer = words(machine.output("/usr/bin/python3", "-c", code, memory="4G")[-1])
    equal((answer["code"], answer["total"], answer["over"]), (0, 4 * GIB, OOM), "ctypes")


def guard_exports_only_the_driver(machine):
    import subprocess
    text = subprocess.run(["nm", "-D", "--defined-only", LIB / "guard/libcuda.so.1"], text=True,
                          capture_output=True, check=True).stdout
    names = [line.split()[-1] for line in text.splitlines()]
    check(len(names) > 250, "too few exports:", len(names))
    check(all(n.startswith("cu") for n in names), "exports beside the driver's:",
          [n for n in names if not n.startswith("cu")])


aqtest.run(dlopen_in_every_way, absolute_path_of_the_guard, plugins_linked_with_the_driver,
           static_executable, python_ctypes, guard_exports_only_the_driver)
