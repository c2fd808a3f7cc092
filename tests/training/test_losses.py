"""Losses equal their formulas in float64, also of half precision."""

import numpy as np
import pytest

from keras_dbq.compat import tf
from keras_dbq.training import losses

RNG = np.random.default_rng(0)
STUDENT, TEACHER = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 4))


def log_softmax(z):
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def divergence(s, t):
    return (np.exp(log_softmax(t)) * (log_softmax(t) - log_softmax(s))).sum(-1).mean()


@pytest.mark.parametrize(
    "kind, expected",
    [
        ("rmse", np.sqrt(np.mean((STUDENT - TEACHER) ** 2))),
        ("smooth_l1", np.sqrt((STUDENT - TEACHER) ** 2 + 1e-5).sum(-1).mean()),
        ("kl", divergence(STUDENT, TEACHER)),
    ],
)
def test_logits_loss(kind, expected):
    assert float(losses.logits_loss(kind, tf.constant(STUDENT), tf.constant(TEACHER))) == pytest.approx(expected, 1e-6)


def test_kl_at_a_temperature():
    value = losses.logits_loss("kl", tf.constant(STUDENT), tf.constant(TEACHER), 4.0)
    assert float(value) == pytest.approx(16 * divergence(STUDENT / 4, TEACHER / 4), 1e-6)


def test_kl_has_the_gradient_of_the_cross_entropy_with_soft_targets():
    """source: Hinton et al.: t^2 * CE(softmax(teacher / t), softmax(student / t))."""
    student, soft = tf.Variable(STUDENT), tf.nn.softmax(TEACHER / 3)
    with tf.GradientTape(persistent=True) as tape:
        mine = losses.logits_loss("kl", student, tf.constant(TEACHER), 3.0)
        theirs = 9 * tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=soft, logits=student / 3))
    np.testing.assert_allclose(tape.gradient(mine, student), tape.gradient(theirs, student), rtol=1e-9)


def test_kl_of_a_sigmoid_is_that_of_bernoulli_distributions():
    p, q = sigmoid(TEACHER / 2), sigmoid(STUDENT / 2)
    expected = 4 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(-1).mean()
    value = losses.logits_loss("kl", tf.constant(STUDENT), tf.constant(TEACHER), 2.0, "sigmoid")
    assert float(value) == pytest.approx(expected, 1e-6)


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_labels_of_a_softmax(shape):
    labels = RNG.integers(0, 4, 6)
    expected = -log_softmax(STUDENT)[np.arange(6), labels].mean()
    assert float(losses.label_loss(labels.reshape(shape), tf.constant(STUDENT))) == pytest.approx(expected, 1e-6)


def test_labels_of_a_sigmoid():
    labels = RNG.integers(0, 2, 6)
    p = sigmoid(STUDENT[:, :1])[:, 0]
    expected = -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean()
    assert float(losses.label_loss(labels, tf.constant(STUDENT[:, :1]), "sigmoid")) == pytest.approx(expected, 1e-6)


def test_hidden_loss_weighs_layers_alike_whatever_their_scale():
    s, t = [STUDENT, 100 * STUDENT[:, :3]], [TEACHER, 100 * TEACHER[:, :3]]
    expected = np.mean([((a - b) ** 2).sum() / (b**2).sum() for a, b in zip(s, t, strict=True)])
    value = losses.hidden_loss([tf.constant(a) for a in s], [tf.constant(b) for b in t])
    assert float(value) == pytest.approx(expected, 1e-6)


def test_sums_of_half_precision_do_not_overflow():
    """Each sum is beyond 65504, the largest float16."""
    s, t = tf.fill([64, 64], tf.constant(20.0, tf.float16)), tf.fill([64, 64], tf.constant(16.0, tf.float16))
    assert float(losses.hidden_loss([s], [t])) == pytest.approx((4 / 16) ** 2)
    assert float(losses.logits_loss("smooth_l1", 64 * s, 32 * t)) == pytest.approx(64 * (64 * 20 - 32 * 16), 1e-5)


def test_errors():
    s = tf.constant(STUDENT)
    with pytest.raises(ValueError, match="loss: expected one of 'rmse', 'smooth_l1', 'kl'"):
        losses.logits_loss("l2", s, s)
    with pytest.raises(ValueError, match="temperature: expected 1 with loss 'rmse', got 2.0; it belongs to loss='kl'"):
        losses.logits_loss("rmse", s, s, 2.0)
    with pytest.raises(ValueError, match="temperature: expected a number from 0.001"):
        losses.logits_loss("kl", s, s, 0.0)


def test_the_gradient_of_kl_survives_steps_in_bfloat16():
    """As the examples take steps (bfloat16=True); from log_softmax the gradient is off by more than a hundredth."""
    rng = np.random.default_rng(0)
    x, w = tf.constant(rng.normal(size=(64, 32)), tf.float32), tf.constant(rng.normal(size=(32, 10)) * 0.3, tf.float32)
    noise = tf.constant(rng.normal(size=(64, 10)) * 0.05, tf.float32)

    @tf.function
    def step():
        teacher = tf.matmul(x, w) + noise
        with tf.GradientTape() as tape:
            student = tf.matmul(tf.nn.relu(x), w) + tf.matmul(-tf.nn.relu(-x), w)
            tape.watch(student)
            value = losses.logits_loss("kl", student, teacher, 4.0)
        return tape.gradient(value, student), student, teacher

    option = "auto_mixed_precision_onednn_bfloat16"
    tf.config.optimizer.set_experimental_options({option: True})
    try:
        gradient, student, teacher = step()
    finally:
        tf.config.optimizer.set_experimental_options({option: False})
    wanted = 4.0 / 64 * (tf.nn.softmax(student / 4) - tf.nn.softmax(teacher / 4))
    assert float(tf.norm(gradient - wanted) / tf.norm(wanted)) < 1e-3
