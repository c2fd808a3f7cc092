"""TensorFlow Lite for Android, made to run on Linux: its C library and its Java classes, for tests of what uses them.

    python tools/android_runtime.py FOLDER

Maven brings the published archives (org.tensorflow:tensorflow-lite). FOLDER gets their headers, classes.jar files and the
library for x86_64. That is built for Android's C library, whose functions it names with versions of its own; glibc has
the functions, but for the few in `NAMES`. So a copy of the library gets its versions taken away, and small libraries with
Android's names stand beside it. Not for anything but tests. Needs mvn and a C compiler.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import zipfile
from pathlib import Path

VERSION = "2.16.1"
ARCHIVES = {"lite": "tensorflow-lite", "api": "tensorflow-lite-api"}
LIBRARY = "libtensorflowlite_jni.so"
ANDROID = ("libc.so", "libm.so", "libdl.so", "liblog.so")
# Tags of the dynamic section that speak of versions of symbols.
VERSIONS = (0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF)
IGNORED = 0x60000001  # a tag that no loader knows
NAMES = r"""
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
int* __errno(void) { return &errno; }
char __sF[3 * 152];
size_t __strlen_chk(const char* s, size_t n) { (void)n; return strlen(s); }
int __system_property_get(const char* name, char* value) { (void)name; value[0] = 0; return 0; }
void android_set_abort_message(const char* message) { fprintf(stderr, "%s\n", message); }
int __android_log_vprint(int level, const char* tag, const char* format, va_list arguments) {
  (void)level;
  fprintf(stderr, "%s: ", tag);
  vfprintf(stderr, format, arguments);
  return fputc('\n', stderr);
}
int __android_log_print(int level, const char* tag, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int result = __android_log_vprint(level, tag, format, arguments);
  va_end(arguments);
  return result;
}
int _ZN6tflite16UseGemmlowpOnX86Ev(void) { return 0; }
"""


def fetch(artifact: str, folder: Path) -> Path:
    """The archive, through Maven's client."""
    path = folder / f"{artifact}-{VERSION}.aar"
    command = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact=org.tensorflow:{artifact}:{VERSION}:aar"]
    if not path.is_file():
        subprocess.run([*command, f"-DoutputDirectory={folder}", "-Dmdep.useBaseVersion=true"], check=True)
    return path


def unpack(archive: Path, folder: Path) -> None:
    """Headers, classes and the libraries."""
    with zipfile.ZipFile(archive) as opened:
        wanted = [n for n in opened.namelist() if n.startswith(("headers/", "jni/")) or n == "classes.jar"]
        opened.extractall(folder, wanted)


def without_versions(library: bytes) -> bytes:
    """A 64-bit ELF file whose loader looks symbols up by their names alone."""
    data = bytearray(library)
    (table,) = struct.unpack_from("<Q", data, 0x20)
    size, count = struct.unpack_from("<HH", data, 0x36)
    headers = [struct.unpack_from("<IIQQQQ", data, table + i * size) for i in range(count)]
    start, length = next((h[2], h[5]) for h in headers if h[0] == 2)  # PT_DYNAMIC
    for offset in range(start, start + length, 16):
        if struct.unpack_from("<Q", data, offset)[0] in VERSIONS:
            struct.pack_into("<Q", data, offset, IGNORED)
    return bytes(data)


def main(name: str) -> None:
    folder = Path(name).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for part, artifact in ARCHIVES.items():
        unpack(fetch(artifact, folder), folder / part)
    libraries = folder / "linux"
    libraries.mkdir(exist_ok=True)
    library = folder / "lite" / "jni" / "x86_64" / LIBRARY
    (libraries / LIBRARY).write_bytes(without_versions(library.read_bytes()))
    source = libraries / "names.c"
    source.write_text(NAMES)
    for android in ANDROID:
        command = ["gcc", "-shared", "-fPIC", "-O1", "-fno-builtin", str(source), "-o", str(libraries / android)]
        subprocess.run([*command, f"-Wl,-soname,{android}", "-Wl,--no-as-needed", "-lm", "-ldl"], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
