"""The report of `verify`: what passes, what fails, and the words for it."""

import dataclasses
import json

import pytest

from keras_dbq.runtime.verification_report import TensorRow, VerificationReport

ROWS = [
    TensorRow("image", codes=100, keras_codes=100),
    TensorRow("conv", codes=1000, keras_codes=1000, keras=3, keras_largest=1),
]
GOOD = VerificationReport(ROWS, 40, True, 0.995, top1_equal=40, top1_equal_by_layer=40, output_keras=0.0005)


def test_a_report_that_passes():
    assert GOOD.passed and GOOD.problems() == [] and GOOD.notes == [] and GOOD.first_difference is None
    lines = str(GOOD).splitlines()
    assert lines[2:] == [
        "image     100                  0            0  0.000 %        0",
        "conv    1,000                  0            0  0.300 %        1",
        "40 examples; differing output codes: numpy/interpreter 0, packed/int8 0, Keras 0.050 %",
        "top-1 agreement of Keras and the file: 100.00 %; layer by layer: 100.00 %",
        "passed",
    ]
    assert json.loads(GOOD.to_json())["rows"][1]["keras"] == 3


def with_row(**counts):
    return dataclasses.replace(GOOD, rows=[ROWS[0], dataclasses.replace(ROWS[1], **counts)])


@pytest.mark.parametrize("counts", [{"interpreter": 1}, {"int8": 2}])
def test_integer_paths_have_to_be_equal(counts):
    report = dataclasses.replace(with_row(**counts), output_interpreter=5, output_int8=6)
    assert report.first_difference == "conv"
    assert report.problems() == [
        "the integer paths differ, first at 'conv' (5 output codes numpy against interpreter, 6 packed against int8)"
    ]
    assert str(report).endswith("FAILED: " + report.problems()[0])
    outputs_only = dataclasses.replace(GOOD, output_interpreter=1)
    assert outputs_only.problems()[0].startswith("the integer paths differ, first at 'the output' (1 ")


def test_a_layer_may_be_off_by_more_than_one_in_one_percent_of_its_codes():
    assert with_row(keras_wide=10, keras_largest=9).passed
    wrong = with_row(keras_wide=11, keras_largest=9)
    assert wrong.problems() == [
        "Keras' layer 'conv' computes something else than the file: from the same input 11 of 1000 codes differ by "
        "more than 1, by up to 9; was the model changed after the export?"
    ]
    assert dataclasses.replace(wrong, top1_threshold=0).passed  # nothing is asked of Keras


def test_agreement_counts_alone_or_layer_by_layer():
    grown = dataclasses.replace(GOOD, top1_equal=30)
    assert grown.passed and "75.00 % of the examples only" in grown.notes[0] and grown.notes[0] in str(grown)
    apart = dataclasses.replace(GOOD, top1_equal=30, top1_equal_by_layer=39)
    assert apart.problems() == ["top-1 agreement of Keras and the file is 75.00 %, expected at least 99.50 %"]
    # A tensor that could not be compared leaves open what separates the two.
    assert not dataclasses.replace(grown, unmatched=["conv"]).passed


def test_problems_are_nan_safe():
    nan = float("nan")
    assert dataclasses.replace(GOOD, top1_equal=nan, top1_equal_by_layer=nan).problems()


def test_without_packed_operators_nothing_stands_in_their_column():
    assert "packed/int8 -, Keras" in str(dataclasses.replace(GOOD, packed=False))
