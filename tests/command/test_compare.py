"""benchmark, and the flags that say which pictures are read."""

import argparse
import json

import pytest

from keras_dbq.command import picture_flags
from keras_dbq.command.ranges import RANGES
from tests.command.networks import command
from tests.tflite_ops.packed_models import Case, packed_model


def test_benchmark_of_a_packed_file(tmp_path, capfd):
    path = tmp_path / "m.tflite"
    path.write_bytes(packed_model(Case("conv2d", (1, 12, 10, 5), 7)))
    code, out, _ = command(capfd, "benchmark", path, "--rounds", 3)
    assert code == 0 and "outputs equal" in out and "ours / stock: " in out
    code, out, _ = command(capfd, "benchmark", path, path, "--rounds", 3, "--json")
    assert code == 0 and [entry["ratio"] > 0 for entry in json.loads(out)["files"]] == [True, True]
    assert command(capfd, "benchmark", tmp_path / "none.tflite")[0] == 1


def test_every_range_can_be_asked_for():
    parser = argparse.ArgumentParser()
    picture_flags.add(parser, count=7)
    assert parser.parse_args(["--data", "x"]).pictures == 7
    for name in RANGES:
        assert parser.parse_args(["--data", "x", f"--range={name}"]).range == name
    with pytest.raises(SystemExit):
        parser.parse_args(["--data", "x", "--range", "0..2"])
