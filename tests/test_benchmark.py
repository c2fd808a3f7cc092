"""keras_dbq.benchmark: the report, multiply-adds, and errors as one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keras_dbq import benchmark
from keras_dbq.tflite import flatbuffer as fb
from tests.tflite_ops.packed_models import Case, int8_model, packed_model

CASE = Case("conv2d", (1, 12, 10, 5), 7)


def test_report_of_a_packed_file_and_its_twin() -> None:
    report = benchmark.compare(packed_model(CASE), int8_model(CASE), rounds=5)
    assert len(report.ours) == len(report.stock) == 5 and min(report.ours + report.stock) > 0
    assert report.ratio == pytest.approx(np.median(np.array(report.ours) / np.array(report.stock)))
    macs = 12 * 10 * 7 * 3 * 3 * 5
    assert [step.macs for step in report.steps if step.macs] == [macs]
    assert report.peak > 0 and report.load_ours > 0 and report.load_stock > 0
    memory = report.memory
    assert memory.arena >= 12 * 10 * (5 + 7) and memory.weights >= 7 * 45
    assert memory.file_ours < memory.file_stock
    assert memory.process_ours is not None and memory.process_ours >= 0
    text = str(report)
    assert "process grows by" in text
    assert "outputs equal" in text and "DbqConv2D 'y'" in text and "large matrix product" in text


@pytest.mark.parametrize(
    ("case", "macs"),
    [
        (CASE, 12 * 10 * 7 * 45),
        (Case("depthwise_conv2d", (1, 6, 5, 4), 8, multiplier=2), 6 * 5 * 8 * 9),
        (Case("fully_connected", (3, 7), 5), 3 * 5 * 7),
    ],
)
def test_multiply_adds_do_not_depend_on_packing(case: Case, macs: int) -> None:
    for content in (packed_model(case), int8_model(case)):
        assert benchmark.multiply_adds(content) == {"y": macs}


def test_different_networks_are_refused() -> None:
    other = fb.load_model(int8_model(CASE))
    weights = other.buffers[other.subgraphs[0].tensors[2].buffer]
    weights.data = np.bitwise_xor(np.asarray(weights.data), 1)
    with pytest.raises(
        ValueError, match=r"files: expected equal outputs of random inputs \(seed 0\), got \d+ codes off"
    ):
        benchmark.compare(packed_model(CASE), fb.save_model(other), rounds=1)
    smaller = int8_model(Case("conv2d", (1, 12, 10, 5), 6))
    with pytest.raises(ValueError, match="files: expected outputs of the same shapes"):
        benchmark.compare(packed_model(CASE), smaller, rounds=1)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(packed_model(CASE))
    assert benchmark.main([str(path), "--rounds", "3"]) == 0
    assert "ours / stock: " in capsys.readouterr().out
    assert benchmark.main([str(tmp_path / "none.tflite")]) == 1
    assert capsys.readouterr().err.startswith("benchmark: model_path: expected a .tflite file")
