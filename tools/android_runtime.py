"""TensorFlow Lite for Android, made to run on Linux: its C library and its Java classes, for tests of what uses them.

    python tools/android_runtime.py FOLDER

Maven brings the published archives (org.tensorflow:tensorflow-lite). FOLDER gets their headers, classes.jar files and
the library for x86_64. That is built for Android's C library, whose functions it names with versions of its own; glibc
has the functions, but for the few in `NAMES`. So a copy of the library gets its versions taken away, and small files
with Android's names stand beside it: LD_LIBRARY_PATH=FOLDER/linux LD_PRELOAD=liblog.so runs a program with them. Not
for anything but tests. Needs mvn and gcc.
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
# What speaks of versions of symbols: tags of the dynamic section, for the loader; types of sections, for the linker.
TAGS, IGNORED_TAG = (0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF), 0x60000001
TYPES, PLAIN_TYPE = (0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF), 1
# Headers that others include and that the archive lacks: types that are only pointed to.
HEADERS = {
    "core/async/c/types.h": "typedef struct TfLiteAsyncKernel TfLiteAsyncKernel;\n",
    "core/c/registration_external.h": "typedef struct TfLiteRegistrationExternal TfLiteRegistrationExternal;\n",
}
NAMES = r"""
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
int __vfprintf_chk(FILE* f, int flag, const char* format, va_list arguments);
int* __errno(void) { return &errno; }
char __sF[3 * 152];  // stdin, stdout and stderr, which it prints to
static FILE* file(FILE* f) { return (char*)f >= __sF && (char*)f < __sF + sizeof(__sF) ? stderr : f; }
int vfprintf(FILE* f, const char* format, va_list arguments) { return __vfprintf_chk(file(f), 0, format, arguments); }
int fprintf(FILE* f, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int result = vfprintf(f, format, arguments);
  va_end(arguments);
  return result;
}
int fputc(int c, FILE* f) { return putc(c, file(f)); }
size_t __strlen_chk(const char* s, size_t n) { (void)n; return strlen(s); }
int __system_property_get(const char* name, char* value) { (void)name; value[0] = 0; return 0; }
void android_set_abort_message(const char* message) { fprintf(stderr, "%s\n", message); }
int __android_log_vprint(int level, const char* tag, const char* format, va_list arguments) {
  (void)level, fprintf(stderr, "%s: ", tag);
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
    """A 64-bit ELF file whose symbols are looked up by their names alone."""
    data = bytearray(library)
    segments, sections = struct.unpack_from("<QQ", data, 0x20)
    segment_size, segment_count, section_size, section_count = struct.unpack_from("<HHHH", data, 0x36)
    for at in range(sections, sections + section_size * section_count, section_size):
        if struct.unpack_from("<I", data, at + 4)[0] in TYPES:
            struct.pack_into("<I", data, at + 4, PLAIN_TYPE)
    headers = [struct.unpack_from("<IIQQQQ", data, segments + i * segment_size) for i in range(segment_count)]
    start, length = next((h[2], h[5]) for h in headers if h[0] == 2)  # PT_DYNAMIC
    for at in range(start, start + length, 16):
        if struct.unpack_from("<Q", data, at)[0] in TAGS:
            struct.pack_into("<Q", data, at, IGNORED_TAG)
    return bytes(data)


def main(name: str) -> None:
    folder = Path(name).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for part, artifact in ARCHIVES.items():
        unpack(fetch(artifact, folder), folder / part)
    for header, text in HEADERS.items():
        path = folder / "lite" / "headers" / "tensorflow" / "lite" / header
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
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
