"""Instructions and estimated cycles of the Arm kernels: a table, without an Arm machine.

    cmake -S tflite_ops -B tflite_ops/build-aarch64 -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake
    cmake --build tflite_ops/build-aarch64 --target one_product
    python tflite_ops/bench/arm_cycles.py tflite_ops/build-aarch64/one_product

qemu runs a whole product once and names every instruction executed; llvm-mca estimates the cycles of exactly these,
from the first to the last, with the processor models of LLVM. Caches that always hit and branches that are always
foreseen are part of such a model. Needs qemu-user, binutils-aarch64-linux-gnu and llvm (Debian's names).
"""

from __future__ import annotations

import argparse
import re
import subprocess

PROCESSORS = ("cortex-a53", "cortex-a55", "cortex-a72", "cortex-a76")
GEMMS = ("gemm_neon_2x8c16", "gemm_neon_table_8x8c4")
SHAPES = ((32, 32), (64, 64), (128, 128), (256, 256), (512, 512))  # K, channels
PIXELS = 8
PROGRAM_COUNTER = re.compile(rb"\[[0-9a-f]+/([0-9a-f]+)/")
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S.*)$")
# A branch's target is nothing to llvm-mca, but it has to read one.
TARGET = re.compile(r"^(b|bl|b\.\w+|cbz|cbnz|tbz|tbnz|adrp|adr)\b(.*?)[0-9a-f]+ <.*>$")


def disassemble(program: str) -> dict[int, str]:
    """Address -> instruction, in a form that llvm-mca reads."""
    text = subprocess.run(
        ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", program], capture_output=True, text=True, check=True
    ).stdout
    found = (INSTRUCTION.match(line) for line in text.splitlines())
    lines = ((int(m[1], 16), m[2].split("//")[0].strip().replace("\t", " ")) for m in found if m)
    return {address: TARGET.sub(r"\1\2#0", line) for address, line in lines}


def symbol(program: str, name: str) -> int:
    listing = subprocess.run(["aarch64-linux-gnu-nm", program], capture_output=True, text=True, check=True).stdout
    return next(int(line.split()[0], 16) for line in listing.splitlines() if line.split()[-1] == name)


def trace(program: str, arguments: list[str]) -> list[int]:
    """Addresses of the instructions between the marks BeginKernel and EndKernel."""
    begin, end = symbol(program, "BeginKernel"), symbol(program, "EndKernel")
    command = ["qemu-aarch64", "-cpu", "max", "-singlestep", "-d", "exec,nochain", program, *arguments]
    addresses: list[int] = []
    inside = False
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        for line in process.stderr:
            match = PROGRAM_COUNTER.search(line)
            address = int(match[1], 16) if match else 0
            inside = (inside or address == begin) and address != end
            if inside and match:
                addresses.append(address)
    if process.returncode != 0 or not addresses:
        raise SystemExit(f"arm_cycles: expected a trace of {' '.join(command)}, got exit status {process.returncode}")
    return addresses[2:]  # without the mark's nop and ret


def cycles(instructions: str, processor: str) -> int:
    report = subprocess.run(
        ["llvm-mca", "-mtriple=aarch64", f"-mcpu={processor}", "-mattr=+dotprod,+i8mm", "-iterations=1"]
        + ["-instruction-info=0", "-resource-pressure=0"],
        input=instructions,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return int(re.search(r"Total Cycles:\s+(\d+)", report)[1])  # type: ignore[index]


def row(program: str, lines: dict[int, str], label: str, arguments: list[str], macs: int, processors: list[str]) -> str:
    """One line of the table: instructions and multiply-accumulates per cycle."""
    executed = trace(program, arguments)
    text = "\n".join(lines[address] for address in executed)
    rates = [macs / cycles(text, processor) for processor in processors]
    cells = [label, str(len(executed)), f"{macs / len(executed):.1f}", *(f"{rate:.1f}" for rate in rates)]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Estimated cycles of the Arm kernels.")
    parser.add_argument("program", help="one_product of a build for aarch64")
    parser.add_argument("--kernels", default=",".join(GEMMS), help="products to compare, by name")
    parser.add_argument("--depthwise", default="", help="depthwise kernels, each as name:size")
    parser.add_argument("--processors", default=",".join(PROCESSORS))
    parser.add_argument("--shapes", default=",".join(f"{k}x{n}" for k, n in SHAPES), help="K x channels")
    parser.add_argument("--branches", default="1", help="ternary branches of the weights")
    flags = parser.parse_args()
    lines = disassemble(flags.program)
    processors = flags.processors.split(",")
    print("| MAC per cycle | instructions | MAC each | " + " | ".join(processors) + " |")
    print("| --- | " + " | ".join("---" for _ in range(len(processors) + 2)) + " |")
    for shape in filter(None, flags.shapes.split(",")):
        depth, channels = (int(number) for number in shape.split("x"))
        for kernel in filter(None, flags.kernels.split(",")):
            arguments = [kernel, str(PIXELS), str(depth), str(channels), flags.branches]
            label = f"K {depth}, N {channels}: `{kernel}`"
            macs = PIXELS * depth * channels
            print(row(flags.program, lines, label, arguments, macs, processors), flush=True)
    for entry in filter(None, flags.depthwise.split(",")):
        kernel, size = entry.split(":")
        macs = PIXELS * int(size) ** 2 * 128
        label = f"{size}x{size}, 128 channels: `{kernel}`"
        print(row(flags.program, lines, label, [kernel, str(PIXELS), size, "128"], macs, processors), flush=True)


if __name__ == "__main__":
    main()
