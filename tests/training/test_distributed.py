"""Training on several replicas ends with the weights of one process on the same batches; programs of their own."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

WORKER = Path(__file__).with_name("distributed_worker.py")
# Sums of halves of a batch are rounded otherwise than sums of the whole: some units in the last place of float32 each
# step; a weight on the border of two codes may take the other one, which moves the following gradients. Trained
# variables move by 0.01 to 0.2.
TOLERANCE = 5e-4


def start(out, kind, **environment):
    command = [sys.executable, str(WORKER), str(out), kind]
    return subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True)


def finish(*processes):
    try:
        for process in processes:
            _, errors = process.communicate(timeout=900)
            assert process.returncode == 0, errors[-3000:]
    finally:
        for process in processes:
            process.kill()


def ports(count):
    """Ports that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    found = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "weights.npz"
    finish(start(out, "alone"))
    return dict(np.load(out))


def compare(alone, out):
    other = np.load(out)
    assert set(other) == set(alone)
    for name, value in alone.items():
        np.testing.assert_allclose(other[name], value, atol=TOLERANCE, err_msg=name)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_mirrored(alone, tmp_path):
    finish(start(tmp_path / "weights.npz", "mirrored"))
    compare(alone, tmp_path / "weights.npz")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_processes(alone, tmp_path):
    cluster = {"worker": [f"localhost:{port}" for port in ports(2)]}
    environments = [
        {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})} for index in (0, 1)
    ]
    outs = [tmp_path / f"weights{index}.npz" for index in (0, 1)]
    finish(*(start(out, "worker", **more) for out, more in zip(outs, environments, strict=True)))
    for out in outs:
        compare(alone, out)
