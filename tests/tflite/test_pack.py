"""Packing of single operators, against files that another module builds byte by byte."""

import json
import os
import re

import numpy as np
import pytest

from keras_dbq.export import pack_tflite, unpack_tflite
from keras_dbq.reference import Engine
from keras_dbq.runtime.interpreter import Interpreter
from keras_dbq.tflite import flatbuffer as fb
from tests.tflite.cases import CASES, operators, packed_constants
from tests.tflite_ops import packed_models


@pytest.fixture(params=CASES, ids=list(CASES))
def case(request):
    return CASES[request.param]


def test_pack_writes_what_the_format_says(case):
    report = pack_tflite(packed_models.int8_model(case), strict=True)
    assert operators(report.data) == [packed_models.CUSTOM_NAMES[case.kind]]
    codes, branch_scales, scales, bias, params = packed_constants(report.data)
    expected = packed_models.constant_arrays(case)
    np.testing.assert_array_equal(scales, expected["scales"])
    np.testing.assert_array_equal(bias, expected["bias"])
    np.testing.assert_array_equal(params, expected["params"])
    # Random weights use every level of most channels; where q = 0 or levels coincide the spelling may differ.
    p, q = (*branch_scales.astype(int), np.zeros(branch_scales.shape[1], int))[:2]
    assert codes.size == expected["codes"].size
    sure = np.array([len({0, p, q, p + q, p - q}) == 5 for p, q in zip(p, q, strict=True)]) | (case.branches == 1)
    np.testing.assert_array_equal(branch_scales[:, sure], expected["branch_scales"][:, sure])
    if sure.all():
        np.testing.assert_array_equal(codes, expected["codes"])


def test_packed_runs_as_the_int8_file(case):
    source = packed_models.int8_model(case)
    data = pack_tflite(source).data
    x = packed_models.random_input(case)
    expected = Interpreter(source, delegate=False).predict(x)
    np.testing.assert_array_equal(Interpreter(data).predict(x), expected)
    np.testing.assert_array_equal(Engine(data).run(x), expected)


def test_packing_twice_changes_nothing():
    once = pack_tflite(packed_models.int8_model(CASES["conv"])).data
    assert pack_tflite(once).data == once


def test_unknown_names_are_errors():
    source = packed_models.int8_model(CASES["conv"])
    with pytest.raises(ValueError, match="ternary_layers: expected names of layers in the file, got nope; .* has y"):
        pack_tflite(source, ternary_layers=["nope"])
    with pytest.raises(ValueError, match="slim_steps: expected names out of .*, got nope"):
        pack_tflite(source, slim_steps=["nope"])


@pytest.mark.parametrize("data", [b"", b"abcdefgh" * 10, b"\x1c\x00\x00\x00TFL3" + b"\xff" * 64])
def test_damaged_files(data):
    with pytest.raises(ValueError, match="source: expected a"):
        pack_tflite(data)


def test_metadata_entry():
    model = fb.load_model(pack_tflite(packed_models.int8_model(CASES["conv"])).data)
    entry = json.loads(fb.get_metadata(model, "keras_dbq"))
    assert entry == {"format_version": 1, "packing": "base3", "rounding": "xnnpack"}


def test_files_are_written_whole(tmp_path):
    source, target = tmp_path / "int8.tflite", tmp_path / "packed.tflite"
    source.write_bytes(packed_models.int8_model(CASES["conv"]))
    target.write_bytes(b"old")
    report = pack_tflite(source, target)
    assert target.read_bytes() == report.data
    assert unpack_tflite(target, source) == source.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["int8.tflite", "packed.tflite"]


def test_a_missing_folder_is_refused_before_any_work(tmp_path):
    target = tmp_path / "missing" / "packed.tflite"
    message = f"path: expected a file in an existing folder, got '{target}'; create '{target.parent}'"
    for write in (pack_tflite, unpack_tflite):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):  # the source would be an error of its own
            write(b"no file", target)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "packed.tflite"
    target.write_bytes(b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        pack_tflite(packed_models.int8_model(CASES["conv"]), target)
    assert target.read_bytes() == b"old" and os.listdir(tmp_path) == ["packed.tflite"]


def test_packer_needs_no_tensorflow():
    import subprocess
    import sys

    names = "keras_dbq.pack_tflite, keras_dbq.export.unpack_tflite"
    code = f"import sys, keras_dbq; {names}; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
