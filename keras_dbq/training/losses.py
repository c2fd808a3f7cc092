"""Distances between a quantized network and its float self, as scalars of the whole batch.

Under `tf.distribute` each replica holds a part of the batch, and a root or a ratio of sums is no mean of the parts'. So
sums and counts are added up over the replicas first (with their gradient), and every replica gets the value of the
whole batch.
"""

from __future__ import annotations

from typing import Any

from keras_dbq import _checks
from keras_dbq.compat import tf
from keras_dbq.ops import replicas

LOSSES = ("rmse", "smooth_l1", "kl")


def logits_loss(kind: str, student: Any, teacher: Any, temperature: float = 1.0, answer: str = "softmax") -> Any:
    """Distance of two batches of logits [N, C], scalar; float32 where they are of half precision.

    "rmse": sqrt(mean d^2) (source: FAT's text). "smooth_l1": mean over the batch of sum sqrt(d^2 + 1e-5) (source: the
    authors' code). "kl": T^2 * mean of KL(p(teacher / T) || p(student / T)), p the softmax (source: Hinton et al.,
    arXiv 1503.02531, whose cross-entropy has the same gradient), or for answer="sigmoid" the sum over the C outputs of
    the divergence of two Bernoulli distributions with p the sigmoid.

    Args:
      temperature: T of "kl".
      answer: what the network ends in, "softmax" (or "logits", the same) or "sigmoid"; it counts for "kl".

    Raises:
      ValueError: an unknown kind; a temperature other than 1 for another kind than "kl".
    """
    _checks.one_of("loss", kind, LOSSES)
    check_temperature(kind, temperature)
    if kind == "kl":
        divergence = _bernoulli_divergence if answer == "sigmoid" else _softmax_divergence
        # choice: in float64, which costs nothing for so few numbers. p and softmax(student) are nearly equal, and their
        # difference would be lost where a rewrite of float32 graphs computes in bfloat16.
        student, teacher = (tf.cast(logits, tf.float64) / temperature for logits in (student, teacher))
        return tf.cast(temperature**2 * batch_mean(divergence(student, tf.stop_gradient(teacher))), tf.float32)
    student, teacher = _wide(student), tf.stop_gradient(_wide(teacher))
    difference = student - teacher
    if kind == "rmse":
        return tf.sqrt(batch_mean(tf.reduce_mean(_by_picture(tf.square(difference)), -1)) + 1e-12)
    return batch_mean(tf.reduce_sum(_by_picture(tf.sqrt(tf.square(difference) + 1e-5)), -1))


def check_temperature(kind: str, temperature: float) -> float:
    """Returns the temperature, or raises ValueError where it is not above 0 or the loss has none."""
    _checks.number("temperature", temperature, 1e-3, 1e6)
    if temperature != 1 and kind != "kl":
        raise ValueError(f"temperature: expected 1 with loss {kind!r}, got {temperature!r}; it belongs to loss='kl'")
    return float(temperature)


def _softmax_divergence(student: Any, teacher: Any) -> Any:
    """KL as a difference of two cross-entropies, whose gradient is softmax(student) - p."""
    p = tf.nn.softmax(teacher)
    cross = tf.nn.softmax_cross_entropy_with_logits(labels=p, logits=student)
    return tf.reduce_sum(_by_picture(cross - tf.nn.softmax_cross_entropy_with_logits(labels=p, logits=teacher)), -1)


def _bernoulli_divergence(student: Any, teacher: Any) -> Any:
    """Sum over outputs of p log(p / q) + (1 - p) log((1 - p) / (1 - q)), as a difference of two cross-entropies."""
    p = tf.sigmoid(teacher)
    cross = tf.nn.sigmoid_cross_entropy_with_logits(labels=p, logits=student)
    return tf.reduce_sum(_by_picture(cross - tf.nn.sigmoid_cross_entropy_with_logits(labels=p, logits=teacher)), -1)


def hidden_loss(student: list[Any], teacher: list[Any]) -> Any:
    """Mean over the layers of the relative squared error ||s - t||^2 / ||t||^2; scalar."""
    sums = []
    for s, t in zip(student, teacher, strict=True):
        s, t = _wide(s), tf.stop_gradient(_wide(t))
        sums += [tf.reduce_sum(tf.math.squared_difference(s, t)), tf.reduce_sum(tf.square(t))]
    totals = tf.reshape(replicas.total(tf.stack(sums)), [-1, 2])
    return tf.reduce_mean(totals[:, 0] / (totals[:, 1] + 1e-12))


def label_loss(labels: Any, logits: Any, answer: str = "softmax") -> Any:
    """Mean cross-entropy of logits [N, C] with labels; scalar.

    Args:
      labels: integers [N] or [N, 1], 0 to C - 1; for answer="sigmoid" numbers in 0..1, one per output.
      answer: what the network ends in, "softmax" (or "logits") or "sigmoid".
    """
    logits = _wide(logits)
    if answer == "sigmoid":
        targets = tf.reshape(tf.cast(labels, logits.dtype), tf.shape(logits))
        return batch_mean(
            tf.reduce_sum(_by_picture(tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)), -1)
        )
    labels = tf.cast(tf.reshape(labels, tf.shape(logits)[:-1]), tf.int32)
    return batch_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))


def batch_mean(values: Any) -> Any:
    """Mean of values [N] over the batch, with the parts that other replicas hold; scalar."""
    if replicas.count() == 1:
        return tf.reduce_mean(values)
    total, count = tf.unstack(replicas.total(tf.stack([tf.reduce_sum(values), tf.cast(tf.size(values), values.dtype)])))
    return total / count


def _by_picture(values: Any) -> Any:
    """[N, ...] -> [N, K]."""
    return tf.reshape(values, [tf.shape(values)[0], -1]) if values.shape.rank != 2 else values


def _wide(values: Any) -> Any:
    """Half precision as float32."""
    values = tf.convert_to_tensor(values)
    return tf.cast(values, tf.float32) if values.dtype in (tf.float16, tf.bfloat16) else values
