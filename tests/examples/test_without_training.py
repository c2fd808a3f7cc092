"""`--epochs 0`: the quantized model is what the solver, the blocks and `distill` make of the float one; no labels."""

import json

import numpy as np
import pytest

from examples.cifar10 import train
from examples.common import pipeline
from keras_dbq.compat import keras


@pytest.mark.slow
def test_solved_reconstructed_and_distilled_only(tmp_path):
    keras.utils.set_random_seed(0)
    model = train.build(10, {"depth": 8})
    model.save(tmp_path / "float.keras")
    flags = {
        "data": "digits",
        "workdir": tmp_path / "out",
        "float_model": str(tmp_path / "float.keras"),
        "epochs": 0,
        "branches": 1,
        "scheme": "init=two_step,forward=straight_through,thresholds=midpoint",
        "hparams": "calibration=64,basis_rounds=1,even_ranges=True,reconstruct_epochs=1,distill_epochs=2,"
        "distill_codes=annealed",
    }
    results = pipeline.run(train.TASK, **flags)
    assert results["history"] == [] and results["packed_differs_from_int8"] == 0
    assert results["untrained_accuracy"] == results["quantized_accuracy"]
    assert len(list((tmp_path / "out" / "blocks").glob("part_*.npz"))) == 6  # five blocks, the answers
    settings = json.loads((tmp_path / "out" / "distilled" / "run.json").read_text())
    assert settings["augment"] == ["shift", "mix"] and settings["codes"] == "annealed"  # a mirrored digit is none
    assert [p.name for p in (tmp_path / "out" / "distilled").glob("part_*.npz")] == ["part_0000.npz"]
    again = pipeline.run(train.TASK, **flags)
    assert {k: v for k, v in again.items() if "seconds" not in k} == {
        k: v for k, v in results.items() if "seconds" not in k
    }
    with pytest.raises(ValueError, match="--epochs: expected 1 to"):
        pipeline.run(train.TASK, **{**flags, "float_model": "", "workdir": tmp_path / "other"})
    assert np.isfinite(results["packed_accuracy"])
