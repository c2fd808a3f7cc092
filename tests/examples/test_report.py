"""Figures of a run, and the files they are written to."""

import numpy as np
import pytest

from examples.common import report
from keras_dbq.compat import tf


def test_accuracies():
    outputs, labels = np.eye(2)[[0, 0, 0, 1]], np.array([0, 0, 0, 0])
    assert report.accuracy(outputs, labels) == 0.75
    labels = np.array([0, 0, 1, 1])
    assert report.balanced_accuracy(outputs, labels) == 0.75
    assert report.balanced_accuracy(outputs[:3], labels[:3]) == 0.5
    assert report.agreement(outputs, np.eye(2)[[0, 0, 1, 1]]) == 0.75


def test_predictions_and_labels_of_all_batches_in_order(capsys):
    x, y = np.arange(10, dtype=np.float32)[:, None], np.arange(10)
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    np.testing.assert_array_equal(report.predict("twice", lambda x: 2 * x, batches), 2 * x)
    np.testing.assert_array_equal(report.labels(batches), y)
    assert "twice: 10 test pictures in" in capsys.readouterr().out


def test_the_table_has_every_figure():
    results = {"metric": "accuracy", "float_accuracy": 0.5}
    assert "float" in str(report.result_table(results)) and "50.00 %" in str(report.result_table(results))
    results |= {"untrained_accuracy": 0.1, "quantized_accuracy": 0.2, "int8_accuracy": 0.3, "packed_accuracy": 0.4}
    results |= {"int8_bytes": 2000, "packed_bytes": 1000, "packed_differs_from_int8": 7}
    results |= {"agreement_quantized_packed": 0.6}
    text = str(report.result_table(results))
    for figure in ("50.00 %", "10.00 %", "20.00 %", "30.00 %", "40.00 %", "60.00 %", "2,000", "1,000", "7 outputs"):
        assert figure in text


def test_a_file_is_written_completely_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    report.write_results(path, {"a": 1})

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        report.write_results(path, {"a": 2})
    assert path.read_text() == '{\n  "a": 1\n}\n'
