"""The page as a whole: what stands on it, what is refused, and what a real browser makes of it."""

import re
import shutil
import subprocess

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras
from tests import nets

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(page's path, float network, quantized network, file)."""
    keras.utils.set_random_seed(0)
    model = nets.resnet()
    q_model = keras_dbq.quantize_model(model, keras_dbq.DBQScheme(), nets.pictures())
    data = keras_dbq.export_tflite(q_model, None, strict=True).data
    path = tmp_path_factory.mktemp("report") / "page.html"
    x = nets.pictures(20, seed=2)
    verified = keras_dbq.report(
        q_model,
        data,
        path,
        x,
        float_model=model,
        labels=np.argmax(model(x), -1),
        title="my <net>",
        facts=[("who", "me")],
    )
    assert verified.passed and verified.examples == 20
    return path, model, q_model, data


def test_everything_is_on_it(made):
    html = made[0].read_text()
    for text in ("my &lt;net&gt;", "accuracy, float network", "100.00 % of 20", "verify passed", "Where the bytes are",
                 "Error by layer", "Which layers cost accuracy", "Weights and their levels", "ours / stock",
                 "full adders", f"{len(made[3]):,} bytes", "who", "TensorFlow 2."):  # fmt: skip
        assert text in html, text
    layers = [p for p in keras_dbq.profile(made[2]) if p.kernel is not None]
    expected = [p.name for p in layers if p.ternary] + [p.name for p in layers if not p.ternary]
    assert re.findall(r'<option value="([^"]+)"', html) == expected
    assert {p.ternary for p in layers} == {True, False}
    assert not re.search(r'(src|href)="(?!#)', html)  # nothing is loaded


def test_without_a_float_network_and_without_time(made, tmp_path):
    keras_dbq.report(made[2], made[3], tmp_path / "a.html", nets.pictures(4), time=False)
    html = (tmp_path / "a.html").read_text()
    assert "Weights and their levels" in html and "Error by layer" not in html and "ours / stock" not in html


def test_what_is_refused(made, tmp_path):
    path, model, q_model, data = made
    x = nets.pictures(4)
    with pytest.raises(ValueError, match=r"^labels: expected one per example, 4, got 3$"):
        keras_dbq.report(q_model, data, tmp_path / "a.html", x, labels=[0, 1, 2])
    with pytest.raises(ValueError, match="expected a file in an existing folder"):
        keras_dbq.report(q_model, data, tmp_path / "none" / "a.html", x)
    with pytest.raises(ValueError, match="no quantized layer"):
        keras_dbq.report(model, data, tmp_path / "a.html", x)
    with pytest.raises(ValueError, match="TFLite"):
        keras_dbq.report(q_model, b"nothing", tmp_path / "a.html", x)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(BROWSER is None, reason="needs the browser chromium; apt-get install chromium")
def test_in_a_browser(made, tmp_path):
    html = made[0].read_text()
    names = re.findall(r'<option value="([^"]+)"', html)
    choose = (
        f"<script>const s = document.querySelector('select'); s.value = '{names[-1]}';"
        "s.dispatchEvent(new Event('change'));"
        "document.title = [...document.querySelectorAll('figure[data-layer]')]"
        ".filter(f => f.getBoundingClientRect().height > 50).map(f => f.dataset.layer).join();</script></body>"
    )
    page = tmp_path / "page.html"
    page.write_text(html.replace("</body>", choose))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    assert f"<title>{names[-1]}</title>" in done.stdout  # the chosen layer alone is seen
    assert "CONSOLE" not in done.stderr
    shot = tmp_path / "shot.png"
    wide = ["--hide-scrollbars", "--window-size=400,3000", f"--screenshot={shot}"]
    subprocess.run([*command[:-1], *wide, page.as_uri()], capture_output=True, timeout=120, check=True)
    image = pytest.importorskip("PIL.Image").open(shot).convert("L")
    pixels = np.asarray(image)
    assert pixels.shape == (3000, 400) and (pixels[200:2800] < 200).mean() > 0.01  # something is drawn
