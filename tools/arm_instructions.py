"""Instructions of a run of a file on Arm, under qemu: the stock interpreter, and ours with and without builtins.

    python tools/arm_instructions.py ARM-ROOT FOLDER NAME...     # NAME_packed.tflite and NAME_int8.tflite in FOLDER

ARM-ROOT: of tools/arm_root.sh, with an unpacked wheel for aarch64 in PYTHONPATH. A plugin of qemu counts; what loading
takes is left out by counting one run and many. Instructions are not time: caches and pipelines have no part in this.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
RUNS = 300
WAYS = ("stock", "none", "faster")
PROCESSORS = ("cortex-a53", "cortex-a76")
# The part of qemu's plugin interface, version 1, that counts; Debian has no header of it.
PLUGIN = r"""
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
struct qemu_plugin_tb;
__attribute__((visibility("default"))) int qemu_plugin_version = 1;
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t, void (*)(uint64_t, struct qemu_plugin_tb*));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb*);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb*, int operation, void* counter, uint64_t number);
void qemu_plugin_register_atexit_cb(uint64_t, void (*)(uint64_t, void*), void*);
static uint64_t counted;
static void translated(uint64_t id, struct qemu_plugin_tb* block) {
  (void)id, qemu_plugin_register_vcpu_tb_exec_inline(block, 0, &counted, qemu_plugin_tb_n_insns(block));
}
static void ended(uint64_t id, void* data) {
  (void)id, (void)data, fprintf(stderr, "instructions: %llu\n", (unsigned long long)counted);
}
__attribute__((visibility("default"))) int qemu_plugin_install(uint64_t id, const void* info, int n, char** values) {
  (void)info, (void)n, (void)values;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, ended, NULL);
  return 0;
}
"""


def run_file(path: str, way: str, runs: str) -> None:
    """On Arm: what is counted."""
    from ai_edge_litert import interpreter

    from keras_dbq.runtime.interpreter import delegate_path

    ours = [] if way == "stock" else [interpreter.load_delegate(str(delegate_path()), {"builtins": way})]
    model = interpreter.Interpreter(model_path=path, experimental_delegates=ours)
    model.allocate_tensors()
    for _ in range(int(runs)):
        model.invoke()


def count(root: str, plugin: Path, processor: str, arguments: list[str]) -> int:
    command = [str(TOOLS / "arm_python.sh"), root, processor, __file__, "--run", *arguments]
    environment = {**os.environ, "QEMU_PLUGIN": str(plugin), "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    found = re.search(r"instructions: (\d+)", done.stderr)
    if done.returncode or found is None:
        raise SystemExit(f"arm_instructions: {done.stderr[-500:]}")
    return int(found[1])


def per_run(root: str, plugin: Path, processor: str, folder: Path, name: str, way: str) -> float:
    """Thousands of instructions."""
    path = str(folder / f"{name}_{'int8' if way == 'stock' else 'packed'}.tflite")
    one, many = (count(root, plugin, processor, [path, way, str(runs)]) for runs in (1, 1 + RUNS))
    return (many - one) / RUNS / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="+")
    flags = parser.parse_args()
    print(f"| thousands of instructions | {' | '.join(f'{p}: {w}' for p in PROCESSORS for w in WAYS)} |")
    print("| --- " * (1 + len(PROCESSORS) * len(WAYS)) + "|")
    with tempfile.TemporaryDirectory() as temporary:
        source, plugin = Path(temporary) / "count.c", Path(temporary) / "count.so"
        source.write_text(PLUGIN)
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", str(source), "-o", str(plugin)], check=True)
        for name in flags.names:
            cells = [per_run(flags.root, plugin, p, flags.folder, name, w) for p in PROCESSORS for w in WAYS]
            print(f"| {name} | {' | '.join(f'{cell:,.0f}' for cell in cells)} |", flush=True)


if __name__ == "__main__":
    run_file(*sys.argv[2:]) if sys.argv[1:2] == ["--run"] else main()
