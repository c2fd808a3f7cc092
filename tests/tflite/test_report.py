"""The report: where every byte is, and branches of zeros."""

import json
import warnings

import numpy as np
import pytest

from keras_dbq.export import pack_tflite
from tests.tflite.cases import CASES, edited, set_weights
from tests.tflite_ops import packed_models


@pytest.fixture(params=CASES, ids=list(CASES))
def case(request):
    return CASES[request.param]


def test_report_accounts_for_every_byte(case):
    report = pack_tflite(packed_models.int8_model(case))
    assert sum(r.bytes_after for r in report.layers) + sum(report.other_after.values()) == len(report.data)
    assert sum(r.bytes_before for r in report.layers) + sum(report.other_before.values()) == report.file_bytes_before
    assert all(size >= 0 for size in [*report.other_before.values(), *report.other_after.values()])
    table = str(report)
    assert f"{len(report.data):,}" in table.splitlines()[-1] and report.layers[0].op in table
    assert json.loads(report.to_json())["file_bytes_after"] == len(report.data)


def test_bytes_of_a_packed_layer():
    report = pack_tflite(packed_models.int8_model(CASES["conv"]))
    weights, channels = 9 * 3 * 3 * 5, 9
    packed = 2 * -(-weights // 5) + 2 * channels + 4 * (2 + channels) + 4 * channels + 4 * 16
    assert report.layers[0].bytes_after == packed
    # int8 weights, bias, and a float scale and an int64 zero point per channel of both
    assert report.layers[0].bytes_before == weights + 4 * channels + 2 * (4 + 8) * channels


def test_one_warning_above_95_percent_zeros():
    weights = np.zeros((9, 3, 3, 5))
    weights[:, 0, 0, 0] = 127
    source = edited(CASES["conv one branch"], set_weights(weights))
    with pytest.warns(UserWarning, match=r"over 95 % of the codes are zero in y branch 0 \(97.8 %\)") as caught:
        report = pack_tflite(source)
    assert len(caught) == 1 and report.layers[0].sparsity == [1 - 1 / 45]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pack_tflite(packed_models.int8_model(CASES["conv one branch"]))
