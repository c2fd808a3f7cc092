"""The command as a whole: subcommands, exit codes, its two ways of being started."""

import subprocess
import sys

import pytest

import keras_dbq
from keras_dbq.command import COMMANDS, main
from tests.command.networks import command
from tests.conftest import REPOSITORY


def test_every_subcommand_has_a_help(capfd):
    for name in [entry.name for entry in COMMANDS]:
        with pytest.raises(SystemExit) as stopped:
            main([name, "--help"])
        out = capfd.readouterr().out
        assert stopped.value.code == 0 and "--json" in out and "exit codes" in out


def test_wrong_flags_end_with_2(capfd):
    for arguments in ([], ["nothing"], ["inspect"], ["inspect", "a", "--none"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
    assert "usage: keras-dbq" in capfd.readouterr().err


def test_interrupted(monkeypatch, capfd, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_dbq.command.files.contents", stop)
    entry = next(entry for entry in COMMANDS if entry.name == "inspect")
    assert entry.run is not None
    code, out, err = command(capfd, "inspect", tmp_path / "a")
    assert code == 130 and out == "" and "interrupted" in err


def test_as_a_module_without_tensorflow(tmp_path):
    code = (
        "import sys; from keras_dbq.command import main\n"
        "try: main(['--version'])\nexcept SystemExit: pass\n"
        "assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout == f"keras-dbq {keras_dbq.__version__}\n", done.stderr
    module = [sys.executable, "-m", "keras_dbq", "inspect", str(tmp_path / "none.tflite")]
    done = subprocess.run(module, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("keras-dbq inspect: ")


def test_a_reader_that_has_gone_is_no_error():
    """As `keras-dbq inspect FILE | head` leaves it."""
    file = next((REPOSITORY / "tests" / "fuzz" / "corpus").glob("*.tflite"))
    module = [sys.executable, "-m", "keras_dbq", "inspect", str(file)]
    with subprocess.Popen(module, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait() == 0
