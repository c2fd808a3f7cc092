"""inspect, pack, unpack: the command and its files."""

import json

import numpy as np
import pytest

from tests.command.networks import command
from tests.tflite_ops.packed_models import Case, int8_model, packed_model

CASE = Case("conv2d", (1, 12, 10, 5), 7)


@pytest.fixture
def packed(tmp_path):
    path = tmp_path / "packed.tflite"
    path.write_bytes(packed_model(CASE))
    return path


def test_inspect_as_text_and_as_json(packed, capfd):
    code, out, _ = command(capfd, "inspect", packed)
    assert code == 0 and "DbqConv2D" in out and "needs the delegate of keras_dbq" in out
    code, out, _ = command(capfd, "inspect", packed, "--json")
    facts = json.loads(out)
    assert code == 0 and facts["file_bytes"] == packed.stat().st_size and facts["needs_delegate"]
    assert [row["op"] for row in facts["operators"]] == ["DbqConv2D"]


def test_there_and_back(packed, tmp_path, capfd):
    plain, again = tmp_path / "plain.tflite", tmp_path / "again.tflite"
    assert command(capfd, "unpack", packed, "-o", plain)[0] == 0
    code, out, _ = command(capfd, "pack", plain, "-o", again, "--json")
    assert code == 0 and json.loads(out)["packed_layers"] == 1
    assert json.loads(command(capfd, "inspect", plain, "--json")[1])["operators"][0]["op"] == "CONV_2D"
    assert json.loads(command(capfd, "inspect", again, "--json")[1])["operators"][0]["op"] == "DbqConv2D"


def test_nothing_is_replaced_without_force(packed, tmp_path, capfd):
    target = tmp_path / "plain.tflite"
    target.write_bytes(b"mine")
    code, out, err = command(capfd, "unpack", packed, "-o", target)
    assert code == 1 and out == "" and target.read_bytes() == b"mine"
    assert err.startswith(f"keras-dbq unpack: {target}: expected no such file, got one") and err.count("\n") == 1
    assert command(capfd, "unpack", packed, "-o", target, "--force")[0] == 0
    assert target.read_bytes() != b"mine"


def test_errors_are_one_line(tmp_path, capfd):
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(int8_model(CASE)[:300])
    for arguments, message in (
        (("inspect", tmp_path / "none.tflite"), "none.tflite"),
        (("inspect", damaged), "source: expected a sound .tflite file"),
        (("pack", damaged, "-o", tmp_path / "x.tflite"), "source: expected a sound .tflite file"),
        (("pack", damaged, "-o", tmp_path / "none" / "x.tflite"), "expected a file in an existing folder"),
    ):
        code, out, err = command(capfd, *arguments)
        assert code == 1 and out == "" and err.count("\n") == 1 and message in err, err
    assert not (tmp_path / "x.tflite").exists()
    assert np.count_nonzero([p.name.startswith(".") for p in tmp_path.iterdir()]) == 0
