"""Builds keras_dbq with its delegate: `pip install .` needs g++ and nothing else.

The shared object is plain C ABI (no Python in it), so one wheel serves every Python 3 of a platform. Sources and flags
follow tflite_ops/CMakeLists.txt, which builds the tests as well. $CXX is another compiler, with its first flags if need
be; its target decides the flags and the wheel's tag, so CXX=aarch64-linux-gnu-g++ makes a wheel for aarch64.
"""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools before 70.1
    from wheel.bdist_wheel import bdist_wheel

ROOT = Path(__file__).resolve().parent
NATIVE = Path("tflite_ops")
LIBRARY = "keras_dbq.libdbq_delegate"

COMPILE_FLAGS = [
    "-std=gnu++17",
    "-O3",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off",  # contraction would make x86 and Arm differ
    "-fno-math-errno",
]
LINK_FLAGS = [
    "-shared",
    "-pthread",
    "-Wl,--no-undefined",
    # No C++ runtime is needed where the wheel is installed, and none of ours gets in the way of another's.
    "-static-libstdc++",
    "-static-libgcc",
    "-Wl,--strip-debug",
    f"-Wl,--version-script={NATIVE / 'delegate' / 'exports.map'}",
]
# Files that need more than the processor's baseline; chosen at run time.
AVX512_FLAGS = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mprefer-vector-width=512"]
X86_FLAGS = {
    "avx2.cc": ["-mavx2"],
    "avx2_depthwise.cc": ["-mavx2"],
    "avx2_gemm.cc": ["-mavx2"],
    "avx2_table_gemm.cc": ["-mavx2"],
    "avxvnni_gemm.cc": ["-mavx2", "-mavxvnni"],
    "avx512.cc": AVX512_FLAGS,
    "avx512vbmi.cc": [*AVX512_FLAGS, "-mavx512vbmi"],
    "avx512vnni_dense.cc": AVX512_FLAGS,
    "avx512vnni_depthwise.cc": AVX512_FLAGS,
    "avx512vnni_gemm.cc": AVX512_FLAGS,
    "amx_gemm.cc": [*AVX512_FLAGS, "-mamx-tile", "-mamx-int8"],
}
ARM_FLAGS = {
    "neon_dot_depthwise.cc": ["-march=armv8.2-a+dotprod"],
    "neon_dot_gemm.cc": ["-march=armv8.2-a+dotprod"],
    "neon_i8mm_gemm.cc": ["-march=armv8.2-a+dotprod+i8mm"],
}
# By the compiler's target. A file of another processor compiles to nothing.
FLAGS_OF_MACHINE = {"x86_64": X86_FLAGS, "AMD64": X86_FLAGS, "aarch64": ARM_FLAGS, "arm64": ARM_FLAGS}

EXAMPLES = ["pillow", "scikit-learn", "tensorboard"]
# dill is what tfds.testing needs.
# ruff formats the signatures of the API pages.
DOCS = [
    "mkdocs==1.6.1",
    "mkdocs-material==9.8.2",
    "mkdocstrings[python]==1.0.8",
    "mkdocstrings-python==2.0.11",
    "ruff==0.17.5",
]
TEST = [*EXAMPLES, "dill", "hypothesis", "pytest-xdist", "pytest", "pytest-timeout"]


def sources() -> list[str]:
    """C++ files of the delegate, relative to the repository root."""
    folders = ["core", "graph", "isa", "ops", "structure", "delegate"]
    files = [f for folder in folders for f in sorted((ROOT / NATIVE / folder).glob("*.cc"))]
    return [str(f.relative_to(ROOT)) for f in files if f.name != "abi_check.cc"]


def compiler() -> list[str]:
    """The C++ compiler's command: $CXX, or g++."""
    return shlex.split(os.environ.get("CXX", "g++"))


@functools.cache
def target() -> list[str]:
    """What the compiler makes code for: processor, ..., system, C library."""
    return _run([*compiler(), "-dumpmachine"], stdout=subprocess.PIPE).strip().split("-")


def isa_flags(source: str) -> list[str]:
    """Extra machine flags of one file."""
    return FLAGS_OF_MACHINE.get(target()[0], {}).get(Path(source).name, [])


class BuildDelegate(build_ext):
    """Compiles every file with its own flags and links one shared object without a Python suffix."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split("."))) + ".so"

    def build_extension(self, ext: Extension) -> None:
        folder = Path(self.build_temp)
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(lambda source: self.compile_file(source, folder), ext.sources))
        output = Path(self.get_ext_fullpath(ext.name))
        output.parent.mkdir(parents=True, exist_ok=True)
        # Linked beside and moved: a running interpreter may have the old file mapped.
        partial = output.with_suffix(".part")
        _run([*compiler(), *objects, *LINK_FLAGS, "-o", str(partial)])
        partial.replace(output)

    @staticmethod
    def compile_file(source: str, folder: Path) -> str:
        """Path of the object file."""
        output = str(folder / (source.replace(os.sep, "_") + ".o"))
        _run([*compiler(), *COMPILE_FLAGS, *isa_flags(source), f"-I{NATIVE}", "-c", source, "-o", output])
        return output


def _run(command: list[str], stdout: int | None = None) -> str:
    """What the command prints, where `stdout` asks for it."""
    print(" ".join(command), flush=True)
    try:
        return subprocess.run(command, check=True, cwd=ROOT, stdout=stdout, text=True).stdout
    except FileNotFoundError:
        raise SystemExit(
            f"setup.py: expected the C++ compiler {command[0]!r}, got none; install g++ or set CXX"
        ) from None


class PlatformWheel(bdist_wheel):
    """Tags the wheel py3-none-<platform>: it holds machine code, but none for one version of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        own = super().get_tag()[2]
        is_cross = "linux" in target() and not own.endswith(target()[0]) and not self.plat_name_supplied
        return "py3", "none", f"linux_{target()[0]}" if is_cross else own


setup(
    name="keras_dbq",
    version="0.1.0",
    description="Low-bit (ternary branch) quantization for Keras, and the operators that run it in TFLite",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["keras_dbq", "keras_dbq.*"]),
    entry_points={"console_scripts": ["keras-dbq = keras_dbq.command:main"]},
    ext_modules=[Extension(LIBRARY, sources())],
    cmdclass={"build_ext": BuildDelegate, "bdist_wheel": PlatformWheel},
    install_requires=[
        "absl-py",
        "ai-edge-litert>=2.0",
        "flatbuffers",
        "importlib_resources",  # tensorflow-datasets needs it for builders outside of its own package
        "matplotlib",  # the page of `report`
        "numpy",
        "tensorflow~=2.21.0",
        "tensorflow-datasets",
        "tensorflow-model-optimization==0.8.1",
        "tf-keras~=2.21.0",
    ],
    extras_require={
        "examples": EXAMPLES,
        "test": TEST,
        "docs": DOCS,
        "dev": [*TEST, *DOCS, "mypy==2.4.1"],
    },
    zip_safe=False,
)
