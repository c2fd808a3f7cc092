"""Picture sets of tensorflow-datasets, by name."""

from __future__ import annotations

from typing import Any

from keras_dbq.compat import tf
from keras_dbq.datasets.resizing import fitted
from keras_dbq.datasets.stream import Stream

SHUFFLED = 10_000  # pictures among which the next one is drawn; tfds stores them in random order already


def from_tfds(name: str, split: str, size: int | None, channels: int | None) -> Stream:
    """One part of a set of tensorflow-datasets, which downloads and prepares it where it has not yet.

    Args:
      name: as tfds takes it: "mnist", "imagenet2012:5.1.0", "visual_wake_words/manual".
      split: "train" or "test" (validation, where the set has no test part or one without labels).
      size, channels: see `datasets.stream`.

    Raises:
      ImportError: tensorflow-datasets is missing.
      ValueError: an unknown name, or a set that is not pictures with one class number each.
    """
    builder = _builder(name)
    classes = _features(name, builder.info)[1].num_classes
    stored = _stored_split(name, builder, split)

    def ordered(seed: Any = None) -> Any:
        data = builder.as_dataset(split=stored, as_supervised=True, shuffle_files=False)
        if seed is not None:
            data = _shuffled(data, seed)
        return data.map(lambda x, y: (fitted(x, size, channels), tf.cast(y, tf.int64)), tf.data.AUTOTUNE)

    return Stream(ordered, builder.info.splits[stored].num_examples, classes)


def _stored_split(name: str, builder: Any, split: str) -> str:
    """The set's own name of the part; a test part whose labels are not published gives way to validation."""
    for candidate in ["train"] if split == "train" else ["test", "validation"]:
        if candidate in builder.info.splits and _first_label(builder, candidate) >= 0:
            return candidate
    raise ValueError(
        f"data {name!r}: expected the splits train and test or validation with labels, got "
        f"{', '.join(builder.info.splits)}; choose another set"
    )


def _first_label(builder: Any, split: str) -> int:
    return int(next(iter(builder.as_dataset(split=split, as_supervised=True)))[1])


def _shuffled(data: Any, seed: Any) -> Any:
    """The data in an order that follows from a seed int64 [2] alone.

    `Dataset.shuffle` mixes its seed with that of the graph it stands in, which is the global one. So it gets a graph of
    its own, without a seed.
    """

    def in_own_graph(seed: Any) -> Any:
        tf.compat.v1.get_default_graph().seed = None
        number = tf.random.stateless_uniform([], seed, None, None, tf.int64)
        return data.shuffle(SHUFFLED, seed=number, reshuffle_each_iteration=False)

    return tf.data.Dataset.from_tensors(seed).flat_map(in_own_graph)


def _builder(name: str) -> Any:
    try:
        import tensorflow_datasets as tfds

        from keras_dbq.datasets import visual_wake_words  # noqa: F401  importing it makes it known to tfds
    except ImportError as error:
        raise ImportError(
            f"data {name!r}: neither 'digits', nor a folder, nor a path ending with .npz; as a tfds name it needs the "
            "package tensorflow-datasets; run: pip install tensorflow-datasets"
        ) from error
    try:
        builder = tfds.builder(name)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        raise ValueError(
            f"data: expected 'digits', a folder, a path ending with .npz or a tfds name, got {name!r}; tfds does not "
            "know it"
        ) from error
    try:
        builder.download_and_prepare()
    except AssertionError as error:  # a folder for manual downloads that is not there
        raise ValueError(f"data {name!r}: {' '.join(str(error).split())}") from None
    return builder


def _features(name: str, info: Any) -> tuple[Any, Any]:
    """The features of the picture and of its class."""
    keys = info.supervised_keys
    features = [info.features[key] for key in keys] if keys and len(keys) == 2 else []
    if len(features) != 2 or len(features[0].shape) != 3 or not hasattr(features[1], "num_classes"):
        raise ValueError(
            f"data {name!r}: expected pictures with a class number each, got {info.features}; choose another"
        )
    return features[0], features[1]
