"""The two-step example, small: every stage leaves its files, the table its rows, and the same command goes on."""

import json

import pytest

from examples.two_step import pipeline, steps
from keras_dbq.compat import keras

FLAGS = {
    "epochs": 1,
    "tune_epochs": 1,
    "twn": True,
    "ablation": True,
    "hparams": "alpha=0.0625,calibration=64,batch_size=64,weight_decay=0.0",
}


@pytest.mark.slow
def test_every_stage_and_again(tmp_path, capsys):
    results = pipeline.run("digits", tmp_path, **FLAGS)
    files = {path.name for path in tmp_path.iterdir()}
    assert {"step_1.keras", "tuned.keras", "twn.keras", "packed.tflite", "int8.tflite", "code_errors.png"} <= files
    assert len(list((tmp_path / "step_2").glob("part_*.npz"))) == 7  # five ternary layers, the first and the last one
    assert results["packed_differs_from_int8"] == 0 and results["packed_accuracy"] == results["int8_accuracy"]
    assert all(after < before for before, after in results["code_errors"].values())
    names = ["float", *(f"sparsity_{s}" for s in (50, 56.25, 68.75, 75)), "step_1", "fitted", "step_2", "tuned", "twn"]
    assert [name for name in results if name.endswith("_accuracy")][: len(names)] == [f"{n}_accuracy" for n in names]
    assert json.loads((tmp_path / "results.json").read_text())["step_1_accuracy"] == results["step_1_accuracy"]
    printed = capsys.readouterr().out
    for name, row in pipeline._ROWS.items():
        assert (row in printed) == (name != "sparsity_62.5")
    again = pipeline.run("digits", tmp_path, **FLAGS)
    assert {k: v for k, v in again.items() if k != "code_errors"} == {
        k: v for k, v in results.items() if k != "code_errors"
    }


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"epochs": 0}, "--epochs: expected 1 to"),
        ({"branches": 3}, "--branches: expected 0 to 2, got 3"),
        ({"scheme": "activation_bits=9"}, "--scheme: activation bits: expected an integer from 1 to 4, got 9"),
        ({"hparams": "alfa=1"}, "--hparams: expected one of .*alpha.*, got 'alfa'"),
    ],
)
def test_a_run_that_cannot_end_does_not_begin(tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        pipeline.run("digits", tmp_path, **flags)


@pytest.mark.slow
def test_step_1_with_float_weights(tmp_path):
    """The ablation's step 1 has float weights, in training and when it is measured."""
    flags = {**FLAGS, "twn": False, "tune_epochs": 0, "branches": 0}
    for ablation in (False, True):
        pipeline.run("digits", tmp_path / str(ablation), **{**flags, "ablation": ablation})
    for eight_bit, exact in zip(*(_kernels(tmp_path / str(ablation)) for ablation in (False, True)), strict=True):
        assert (eight_bit != exact).any()


def _kernels(workdir):
    """The trained kernels of the convolutions."""
    weights = keras.models.load_model(workdir / "step_1.keras", compile=False).get_weights()
    kernels = [w for w in weights if w.ndim == 4]
    assert len(kernels) == 6
    return kernels


def test_plot(tmp_path):
    steps.plot({"a": (0.5, 0.25), "b": (0.3, 0.1)}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[1:4] == b"PNG"
