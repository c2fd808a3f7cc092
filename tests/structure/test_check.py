"""Whole files pass, files with one thing wrong are refused in one line; the time and what the check must not need."""

import subprocess
import sys
import time

import numpy as np
import pytest

from keras_dbq.structure import check_file
from keras_dbq.tflite import flatbuffer as fb
from tests.conftest import REPOSITORY
from tests.structure.files import CORPUS, corpus, edited, refused
from tests.tflite_ops import packed_models
from tests.tflite_ops.packed_models import Case

WHOLE = sorted([*CORPUS.glob("*.tflite"), *(REPOSITORY / "tests" / "golden").rglob("*.tflite")])
CASES = [
    Case("conv2d", (2, 6, 6, 2), 4, stride=(2, 2), padding="valid", activation="relu6"),
    Case("depthwise_conv2d", (1, 5, 5, 4), 8, multiplier=2, dilation=(2, 1), branches=2),
    Case("fully_connected", (2, 3, 7), 5, keep_num_dims=True, branches=2),
    Case("fully_connected", (3, 7), 5),
]


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: path.stem)
def test_whole_files_pass(path):
    check_file(path.read_bytes())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_packed_and_int8_layers_pass(case):
    check_file(packed_models.packed_model(case))
    check_file(packed_models.int8_model(case))


@pytest.mark.parametrize("path", WHOLE[:3], ids=lambda path: path.stem)
def test_every_shorter_file_is_refused(path):
    data = path.read_bytes()
    for length in [*range(0, 64), *range(64, len(data) - 64, 97)]:
        with pytest.raises(ValueError):
            check_file(data[:length])


def set_version(model, graph):
    model.version = 4


def no_inputs(model, graph):
    graph.inputs = np.zeros(0, np.int32)


def full_first_buffer(model, graph):
    model.buffers[0].data = np.zeros(3, np.uint8)


def metadata_elsewhere(model, graph):
    fb.set_metadata(model, "mine", b"{}")
    model.metadata[-1].buffer = 1000


def signature_elsewhere(model, graph):
    model.signatureDefs[0].outputs[0].tensorIndex = 1000


def signature_of_another_graph(model, graph):
    model.signatureDefs[0].subgraphIndex = 1


def no_operator_codes(model, graph):
    model.operatorCodes = []


@pytest.mark.parametrize(
    "edit, message",
    [
        (set_version, "the file: expected schema version 3, got 4"),
        (no_inputs, "the file: expected a graph with inputs and outputs, got none"),
        (full_first_buffer, "buffer 0: expected an empty one"),
        (metadata_elsewhere, "metadata: expected a buffer below [0-9]+, got 1000"),
        (signature_elsewhere, "signature '.*': expected a tensor below [0-9]+, got 1000"),
        (signature_of_another_graph, "a signature: expected a subgraph below 1, got 1"),
        (no_operator_codes, "operator 0: expected an operator code below 0, got 0"),
    ],
)
def test_what_belongs_to_no_operator(edit, message):
    refused(edited(corpus("joins_packed_1"), edit), message)


def test_a_mobilenet_takes_milliseconds():
    """29 layers of up to 512 channels; a second would be felt, and shows a step that grows with the weights."""
    b = [packed_models.int8_model(Case("conv2d", (1, 8, 8, 512), 512, kernel=(1, 1)))]
    started = time.perf_counter()
    for data in b * 29:
        check_file(data)
    assert time.perf_counter() - started < 1


def test_needs_numpy_alone():
    code = (
        "import sys; from keras_dbq.structure import check_file; check_file(sys.stdin.buffer.read());"
        "bad = {'tensorflow', 'tf_keras', 'ai_edge_litert.interpreter'} & set(sys.modules); assert not bad, bad"
    )
    done = subprocess.run([sys.executable, "-c", code], input=corpus("joins_packed_2"), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-1000:]
