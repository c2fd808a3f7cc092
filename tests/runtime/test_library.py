"""keras_dbq.runtime.library: what the shared object vouches for is what `structure.check_file` takes."""

import ctypes.util
from types import SimpleNamespace

import numpy as np
import pytest
from ai_edge_litert import interpreter as litert

from keras_dbq.runtime import library
from keras_dbq.structure import check_file
from tests.conftest import REPOSITORY
from tests.structure.files import CORPUS
from tests.tflite_ops import builtin_models, packed_models
from tests.tflite_ops.packed_models import Case
from tools import fuzz_files

FILES = sorted([*CORPUS.glob("*.tflite"), *(REPOSITORY / "tests" / "golden").rglob("*.tflite")])
# Of operators without a rule in the shared object.
LEFT_TO_PYTHON = {"activations_stock", "moves_stock"}
CASES = [
    Case("conv2d", (2, 6, 6, 2), 4, stride=(2, 2), padding="valid", activation="relu6"),
    Case("depthwise_conv2d", (1, 5, 5, 4), 8, multiplier=2, dilation=(2, 1), branches=2),
    Case("fully_connected", (2, 3, 7), 5, keep_num_dims=True, branches=2),
    Case("fully_connected", (3, 7), 5),
]
WORDS = (0, 1, 2, 7, 255, 1 << 16, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)


def check_that_python_takes(data: bytes) -> bool:
    """Whether the shared object vouches for a file; then check_file must take it."""
    sure = library.look(data).whole
    if sure:
        check_file(data)
    return sure


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_whole_files_are_known_to_be_whole(path):
    assert check_that_python_takes(path.read_bytes()) == (path.stem not in LEFT_TO_PYTHON)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_packed_and_int8_layers_are_known_to_be_whole(case):
    assert check_that_python_takes(packed_models.packed_model(case))
    assert check_that_python_takes(packed_models.int8_model(case))


def test_no_mutant_is_vouched_for_that_python_refuses():
    originals = [path.read_bytes() for path in FILES if path.stem not in LEFT_TO_PYTHON]
    sure = [check_that_python_takes(fuzz_files.mutant(originals, 21, i)) for i in range(4000)]
    assert sum(sure) > 400, "few mutants were judged by both"


@pytest.mark.parametrize("operator", builtin_models.EXAMPLES)
def test_every_operator_of_ours(operator):
    """Its files are vouched for; with a random word damaged only where Python takes them."""
    contents = [builtin_models.EXAMPLES[operator](seed).content for seed in range(8)]
    assert all(map(check_that_python_takes, contents))
    rng = np.random.default_rng(0)
    for content in contents:
        data = np.frombuffer(content, np.uint8)
        for at in rng.integers(0, len(data) // 4, 40):
            damaged = data.copy()
            damaged[: len(data) // 4 * 4].view(np.uint32)[at] = rng.choice(WORDS)
            check_that_python_takes(damaged.tobytes())


@pytest.mark.parametrize("make", [packed_models.packed_model, packed_models.int8_model])
@pytest.mark.parametrize("case", CASES[:3], ids=str)
def test_every_word_of_a_small_file_in_turn(case, make):
    """Offsets, counts, sizes, options and indices, wherever they stand."""
    data, sure = np.frombuffer(make(case), np.uint8), 0
    words = len(data) // 4
    for at in range(words):
        for value in WORDS:
            damaged = data.copy()
            damaged[: 4 * words].view(np.uint32)[at] = value
            sure += check_that_python_takes(damaged.tobytes())
    assert 0 < sure < words * len(WORDS)


def test_every_half_word_of_a_small_file_in_turn():
    """Fields of vtables."""
    data = np.frombuffer(packed_models.int8_model(CASES[0]), np.uint8)
    for at in range(len(data) // 2):
        for value in (0, 2, 4, 6, 8, 12, 16, 40, 65535):
            damaged = data.copy()
            damaged[: len(data) // 2 * 2].view(np.uint16)[at] = value
            check_that_python_takes(damaged.tobytes())


def test_shorter_files_are_in_doubt():
    data = packed_models.packed_model(CASES[0])
    assert not any(library.look(data[:length]).whole for length in range(0, len(data) - 4))


def test_a_name_that_is_not_ascii_is_left_to_python():
    data = packed_models.packed_model(CASES[0])
    assert data.count(b"codes\0") == 1
    renamed = data.replace(b"codes\0", "c\u00f6de\0".encode())
    assert len(renamed) == len(data)
    check_file(renamed)
    assert not library.look(renamed).whole
    library.check(renamed)


def test_what_is_wrong_is_said_by_python():
    damaged = packed_models.packed_model(CASES[0])[:-40]
    with pytest.raises(ValueError) as one:
        check_file(damaged)
    with pytest.raises(ValueError) as other:
        library.check(damaged)
    assert str(one.value) == str(other.value)


def test_python_decides_where_there_is_no_shared_object(monkeypatch):
    whole = packed_models.packed_model(CASES[0])
    monkeypatch.setattr(library, "PATH", library.PATH + ".missing")
    assert not library.look(whole).whole
    library.check(whole)
    with pytest.raises(ValueError, match="the file is damaged"):
        library.check(whole[:-40])


def test_an_older_shared_object_has_no_say(monkeypatch):
    """Any library without the function."""
    monkeypatch.setattr(library, "PATH", ctypes.util.find_library("c"))
    assert not library.look(packed_models.packed_model(CASES[0])).whole


def test_the_delegate_is_that_of_load_delegate():
    content = packed_models.packed_model(CASES[0])
    x = packed_models.random_input(CASES[0])
    results = []
    for delegate in (library.Delegate({"isa": "scalar"}), litert.load_delegate(library.PATH, {"isa": "scalar"})):
        interpreter = litert.Interpreter(model_content=content, experimental_delegates=[delegate])
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        results.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    np.testing.assert_array_equal(*results)


def test_what_the_delegate_refuses_is_said():
    with pytest.raises(ValueError, match="^unknown option 'colour', expected isa, partition, builtins or profile$"):
        library.Delegate({"colour": "red"})


def test_a_delegate_is_given_back_once(monkeypatch):
    created, destroyed = iter([7, None, None]), []
    fake = SimpleNamespace(
        tflite_plugin_create_delegate=lambda *_: next(created), tflite_plugin_destroy_delegate=destroyed.append
    )
    monkeypatch.setitem(library._loaded, library.PATH, fake)
    delegate = library.Delegate({})
    assert delegate._get_native_delegate_pointer() == 7 and not destroyed
    del delegate
    assert destroyed == [7]
    with pytest.raises(ValueError):
        library.Delegate({})
    assert destroyed == [7]
