"""The example in README.md runs as it stands, with fewer epochs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"


def example() -> str:
    return re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL).group(1)


def test_the_example_has_about_twenty_lines():
    assert len([line for line in example().splitlines() if line.strip()]) <= 20


@pytest.mark.slow
def test_the_example_runs(tmp_path):
    code = re.sub(r"epochs=\d+", "epochs=4", example())
    (tmp_path / "example.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*filter(None, sys.path)])}
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert 0 <= float(done.stdout.strip().splitlines()[-1]) <= 1
