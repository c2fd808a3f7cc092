"""The programs that build wheels and bring the Android runtime: what can be said of them without building anything."""

import importlib.util
import re
import struct
from types import ModuleType

import pytest

from tests.conftest import REPOSITORY


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"keras_dbq_tool_{name}", REPOSITORY / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "flag, expected",
    [
        ("-march=armv8.2-a+dotprod", "-mcpu=generic+v8_2a+dotprod"),
        ("-march=armv8.2-a+dotprod+i8mm", "-mcpu=generic+v8_2a+dotprod+i8mm"),
        ("-march=armv8-a", "-mcpu=generic"),
        ("-mavx2", "-mavx2"),
    ],
)
def test_flags_of_processors_as_zig_writes_them(flag: str, expected: str) -> None:
    assert tool("zig_cxx").zig_flag(flag) == expected


def test_every_arm_flag_of_the_build_is_known_to_zig() -> None:
    flags = re.findall(r'"(-march=[^"]+)"', (REPOSITORY / "setup.py").read_text())
    assert flags and all(tool("zig_cxx").zig_flag(flag).startswith("-mcpu=generic") for flag in flags)


def test_a_targets_name_has_no_version(capsys: pytest.CaptureFixture[str]) -> None:
    tool("zig_cxx").main("aarch64-linux-gnu.2.17", "-dumpmachine")
    assert capsys.readouterr().out == "aarch64-linux-gnu\n"


def test_both_builds_have_the_same_sources_and_flags() -> None:
    """setup.py takes every .cc of its folders; CMakeLists.txt lists them, and the flags of those that have some."""
    cmake, setup = (REPOSITORY / "tflite_ops/CMakeLists.txt").read_text(), (REPOSITORY / "setup.py").read_text()
    folders = ("core", "graph", "isa", "ops", "delegate")
    files = {f"{f}/{path.name}" for f in folders for path in (REPOSITORY / "tflite_ops" / f).glob("*.cc")}
    assert files <= set(re.findall(r"[a-z]+/\w+\.cc", cmake))
    with_flags = set(re.findall(r'^    "(\w+\.cc)":', setup, re.MULTILINE))
    assert with_flags == {n.split("/")[1] for n in re.findall(r"isa/\w+\.cc(?=[^()]*PROPERTIES)", cmake)}


def test_versions_are_taken_from_a_library() -> None:
    """A header, one segment with the dynamic section, one section of versions; everything else stays."""
    android = tool("android_runtime")
    data = bytearray(0x200)
    struct.pack_into("<QQ", data, 0x20, 0x40, 0x80)
    struct.pack_into("<HHHH", data, 0x36, 56, 1, 64, 1)
    struct.pack_into("<IIQQQQ", data, 0x40, 2, 0, 0x100, 0, 0, 48)
    struct.pack_into("<II", data, 0x80, 0, 0x6FFFFFFE)
    struct.pack_into("<QQQQQQ", data, 0x100, 1, 5, 0x6FFFFFFE, 7, 0, 0)
    changed = android.without_versions(bytes(data))
    assert struct.unpack_from("<QQQQQQ", changed, 0x100) == (1, 5, android.IGNORED_TAG, 7, 0, 0)
    assert struct.unpack_from("<II", changed, 0x80) == (0, android.PLAIN_TYPE)
    assert sum(a != b for a, b in zip(data, changed, strict=True)) <= 12
