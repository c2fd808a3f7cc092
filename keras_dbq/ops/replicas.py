"""What the replicas of a `tf.distribute` strategy have together, each with its part of the batch.

Without a strategy, or outside of its replicas, values pass through.
"""

from typing import Any

from keras_dbq.compat import tf


def count() -> int:
    """Parts that the batch is in where this is traced."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else int(context.num_replicas_in_sync)


def total(values: Any) -> Any:
    """Sum of a tensor over the replicas (derived: its gradient is the sum of their gradients)."""
    if count() == 1:
        return values
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def maximum(values: Any) -> Any:
    """Largest of values [K] over the replicas, element by element; it has no gradient.

    choice: strategies add up or average only, so each replica adds a row of a table that is zero elsewhere.
    """
    replicas = count()
    if replicas == 1:
        return values
    mine = tf.one_hot(tf.distribute.get_replica_context().replica_id_in_sync_group, replicas, dtype=values.dtype)
    return tf.reduce_max(total(mine[:, None] * tf.stop_gradient(values)), 0)
