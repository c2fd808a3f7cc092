"""quantize and verify: from a model file and pictures to a file that is proved."""

import json

import numpy as np
import pytest

import keras_dbq
from keras_dbq.command.quantize import _advice
from keras_dbq.runtime.verification_report import VerificationReport
from tests.command import networks
from tests.command.networks import command


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("quantize")
    networks.trained("-1..1").save(path / "model.keras")
    np.savez(path / "photos.npz", x_train=networks.photos(count=90))
    return path


def run(capfd, folder, tmp_path, *more, output="m.tflite"):
    given = ("quantize", folder / "model.keras", "--data", folder / "photos.npz", "-o", tmp_path / output)
    return command(capfd, *given, *more)


def test_a_file_that_is_proved_and_a_model_to_prove_it_again(folder, tmp_path, capfd):
    kept, page = tmp_path / "q.keras", tmp_path / "q.html"
    code, out, err = run(capfd, folder, tmp_path, "--pictures", 64, "--keep", kept, "--page", page, "--json")
    facts = json.loads(out)
    assert code == 0 and facts["passed"] and facts["range"] == "-1..1" and facts["held_out"]
    assert facts["file_bytes"] == (tmp_path / "m.tflite").stat().st_size
    assert facts["verify"]["examples"] == 26  # behind the 64
    assert "range -1..1 (found from the network)" in err
    code, out, _ = command(capfd, "verify", kept, tmp_path / "m.tflite", "--data", folder / "photos.npz")
    assert code == 0 and "passed" in out and "50 examples" in out
    code, _, err = run(capfd, folder, tmp_path)
    assert code == 1 and "--force" in err
    assert {p.name for p in tmp_path.iterdir()} == {"m.tflite", "q.keras", "q.html"}
    assert "Error by layer" in page.read_text() and "keras-dbq" in page.read_text()
    given = ("report", kept, tmp_path / "m.tflite", "--data", folder / "photos.npz", "-o", page)
    assert command(capfd, *given)[0] == 1  # the page is there
    code, out, _ = command(capfd, *given, "--force", "--float-model", folder / "model.keras")
    assert code == 0 and out == f"{page}: verify passed\n" and "Error by layer" in page.read_text()


def test_schemes_and_layers(folder, tmp_path, capfd):
    encodings = {}
    for name, more in {
        "dbq": ("--branches", 1, "--basis", 2),
        "near": ("--init", "least_error"),
        "tsq": ("--scheme", "tsq", "--reconstruct", 1, "--answers", "softmax"),
        "fat": ("--scheme", "fat"),
        "set": ("--set", "body=8"),
        "distilled": ("--distill", 1, "--encoding", "int8", "--answers", "softmax"),
    }.items():
        code, out, err = run(capfd, folder, tmp_path, *more, "--range", "-1..1", "--json", output=f"{name}.tflite")
        assert code == 0, err
        assert ("divergence of answers  " in err) == (name == "tsq")
        assert ("divergence of answers by the rounding of outputs" in out + err) == (name in ("tsq", "distilled"))
        encodings[name] = {row["name"]: row["encoding"] for row in json.loads(out)["export"]["layers"]}
    assert encodings["dbq"]["body"] == encodings["tsq"]["body"] == "packed-1"
    assert encodings["near"]["body"] == "packed-2" and encodings["fat"]["body"] == encodings["set"]["body"] == "int8"
    assert encodings["distilled"]["body"] == "int8" and "distilled, loss" in err


@pytest.mark.parametrize(("more", "evened"), [((), True), (("--init", "least_error"), False)])
def test_fat_evens_ranges_where_pictures_suffice(more, evened, folder, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("keras_dbq.quantize.SOLVED_FROM", 40)
    code, _, err = run(capfd, folder, tmp_path, "--scheme", "fat", "--pictures", 40, *more, "--json")
    assert code == 0, err
    assert ("narrowest" in err) == evened


def test_answers_that_do_not_fit_the_model_are_refused_before_pictures_are_read(folder, tmp_path, capfd):
    keras = keras_dbq.compat.keras
    model = keras.models.load_model(folder / "model.keras", compile=False)
    keras.Sequential([model, keras.layers.Softmax()]).save(tmp_path / "softmax.keras")
    given = ("quantize", tmp_path / "softmax.keras", "--data", "/nowhere/a.npz", "-o", tmp_path / "m.tflite")
    code, _, err = command(capfd, *given, "--reconstruct", 1, "--answers", "sigmoid")
    assert code == 1
    assert "answers='sigmoid': expected a model that ends in sigmoid or in logits, got softmax" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("flag", "inputs", "outputs", "message"),
    [
        ("--reconstruct", 2, 1, "--reconstruct: expected a model with one input, got 2; leave it out"),
        ("--distill", 2, 1, "--distill: expected a model with one input, got 2; leave it out"),
        ("--distill", 1, 2, "--distill: expected a model with one output, got 2; leave it out"),
    ],
)
def test_training_that_the_model_does_not_fit_is_refused_before_pictures_are_read(
    flag, inputs, outputs, message, tmp_path, capfd
):
    keras = keras_dbq.compat.keras
    read = [keras.Input((8, 8, 3)) for _ in range(inputs)]
    x = keras.layers.Conv2D(4, 3)(read[0] if inputs == 1 else keras.layers.Add()(read))
    keras.Model(read, [keras.layers.Conv2D(2, 1)(x) for _ in range(outputs)]).save(tmp_path / "m.keras")
    given = ("quantize", tmp_path / "m.keras", "--data", "/nowhere/a.npz", "-o", tmp_path / "m.tflite", flag, 1)
    code, _, err = command(capfd, *given)
    assert code == 1 and err.splitlines()[-1].endswith(message)


def test_the_command_knows_what_reconstruct_takes():
    from keras_dbq.command import quantize
    from keras_dbq.training import outputs

    assert quantize.ANSWERS == outputs.ANSWERS


@pytest.mark.parametrize(("share", "scheme"), [(0.0, "dbq"), (0.5, "fat"), (0.95, "dbq"), (None, "dbq")])
def test_a_bad_file_is_said_to_be_bad(share, scheme):
    report = VerificationReport([], 20, True, 0.995, float_top1=share)
    advice = _advice(report, scheme)
    if share in (0.95, None):
        assert advice == []
    else:
        assert len(advice) == 1 and f"in {100 * share:.0f} % of the examples only" in advice[0]
        assert "--distill" in advice[0] and ("--scheme fat" in advice[0]) == (scheme == "dbq")
        assert ("--basis 60" in advice[0]) == (scheme == "dbq")


def test_a_changed_model_fails_the_proof(folder, tmp_path, capfd):
    kept = tmp_path / "q.keras"
    assert run(capfd, folder, tmp_path, "--pictures", 40, "--keep", kept)[0] == 0
    model = keras_dbq.compat.keras.models.load_model(kept, compile=False)
    kernel = model.get_layer("quant_body").trainable_weights[0]
    kernel.assign(-kernel)
    model.save(kept)
    code, out, _ = command(capfd, "verify", kept, tmp_path / "m.tflite", "--data", folder / "photos.npz")
    assert code == 1 and "FAILED" in out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--set", "body"), "--set: expected LAYER=BITS or LAYER=float"),
        (("--set", "none=8"), "none"),
        (
            ("--scheme", "fat", "--reconstruct", "1"),
            "--reconstruct: expected with --scheme dbq or tsq, got --scheme fat",
        ),
        (("--scheme", "fat", "--basis", "2"), "--basis: expected with --scheme dbq or tsq, got --scheme fat"),
        (("--basis", "-1"), "rounds: expected"),
        (("--scheme", "fat", "--branches", "1"), "--branches: expected with --scheme dbq or tsq, got --scheme fat"),
        (("--data", "/nowhere/a.npz"), "expected a file at /nowhere/a.npz"),
        (("--keep", "/nowhere/q.keras"), "existing folder"),
    ],
)
def test_what_is_refused_leaves_nothing(more, message, folder, tmp_path, capfd):
    code, out, err = run(capfd, folder, tmp_path, *more)
    assert code == 1 and out == "" and message in err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_models_that_are_refused(folder, tmp_path, capfd):
    nothing = ("quantize", tmp_path / "none.keras", "--data", folder / "photos.npz", "-o", tmp_path / "m.tflite")
    code, _, err = command(capfd, *nothing)
    assert code == 1 and "expected a Keras model file, got nothing" in err
    plain = ("verify", folder / "model.keras", folder / "photos.npz", "--data", folder / "photos.npz")
    code, _, err = command(capfd, *plain)
    assert code == 1 and err.count("\n") == 1 and "quantize" in err
