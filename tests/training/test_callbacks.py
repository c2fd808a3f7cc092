"""Callbacks find their step, act on models of any kind, and stop where the loss is no number."""

import numpy as np
import pytest

import keras_dbq
from keras_dbq.compat import keras, tf
from keras_dbq.training import callbacks
from tests.training import small


def plain(optimizer=None, **compiled):
    """A float model of one weight; only the step matters."""
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])
    model.compile(optimizer or keras.optimizers.Adam(1.0, jit_compile=False), "mse", **compiled)
    return model


DATA = np.ones((8, 2), np.float32), np.ones((8, 1), np.float32)


class Steps(callbacks._StepCallback):
    """Notes the steps that it finds."""

    def __init__(self, **options):
        super().__init__(**options)
        self.found = []

    def on_train_batch_begin(self, batch, logs=None):
        self.found.append(self._advance(batch))


def steps(model, epochs, steps, data=DATA, **options):
    model.fit(*data, epochs=epochs, batch_size=2, verbose=0, callbacks=[steps], **options)
    return steps.found


def test_the_step_is_counted_from_the_beginning_of_fit():
    model = plain()
    assert steps(model, 2, Steps()) == list(range(8))
    assert steps(model, 1, Steps()) == list(range(4))  # a training of its own, though the optimizer is at 8
    assert steps(model, 4, Steps(), initial_epoch=2) == list(range(8, 16))
    assert steps(model, 1, Steps(first_step=100)) == list(range(100, 104))


def test_the_step_after_a_backup(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if int(self.model.optimizer.iterations) == 6:
                raise KeyboardInterrupt

    def fit(*more):
        found = Steps()
        backup = keras.callbacks.BackupAndRestore(str(tmp_path), save_freq=3, delete_checkpoint=False)
        try:
            plain().fit(*DATA, epochs=3, batch_size=2, verbose=0, callbacks=[found, backup, *more])
        except KeyboardInterrupt:
            pass
        return found.found

    assert fit(Stop()) == list(range(7))
    assert fit() == list(range(6, 12))  # from the middle of the second epoch


def test_several_steps_per_execution_are_counted():
    assert steps(plain(steps_per_execution=2), 2, Steps()) == [0, 2, 4, 6]


def test_steps_of_a_data_set_of_unknown_length_follow_the_optimizer():
    data = tf.data.Dataset.from_tensor_slices(DATA).batch(2).filter(lambda x, y: True)
    found = Steps()
    plain().fit(data, epochs=2, verbose=0, callbacks=[found])
    # Keras begins a fifth batch before it sees that the first epoch has ended, and that may count as an update.
    assert found.found[:5] == [0, 1, 2, 3, 4] and found.found[5] in (4, 5)
    assert np.diff(found.found[5:]).tolist() == [1, 1, 1]


def test_a_temperature_over_all_of_fit_needs_its_length():
    q_model, model = small.pair(keras_dbq.DBQScheme())
    distiller = keras_dbq.Distiller(q_model, model, "all")
    distiller.compile("sgd")
    x = small.data(8)[0]
    data = tf.data.Dataset.from_tensor_slices(x).batch(4).filter(lambda batch: True)
    with pytest.raises(ValueError, match="TemperatureSchedule: expected the number of steps of the whole training"):
        distiller.fit(data, verbose=0, callbacks=[callbacks.TemperatureSchedule()])
    history = distiller.fit(
        data, verbose=0, callbacks=[callbacks.TemperatureSchedule(start=4, end=16, steps=4)]
    ).history
    assert history["temperature"] == [pytest.approx(8.0)]


def test_a_temperature_without_ternary_layers_warns():
    q_model, model = small.pair()
    distiller = keras_dbq.Distiller(q_model, model)
    distiller.compile("sgd")
    with pytest.warns(UserWarning, match="the model has no ternary layer; leave the callback out"):
        distiller.fit(small.data(4)[0], verbose=0, callbacks=[callbacks.TemperatureSchedule()])


def test_annealing_goes_on_at_a_later_step_and_refuses_bad_arguments():
    model = plain()
    model.fit(*DATA, batch_size=8, verbose=0, callbacks=[callbacks.CosineAnnealing(0.1, steps=4, first_step=5)])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.05 * (1 + np.cos(np.pi / 4)))
    with pytest.raises(ValueError, match="rate: expected a number from 0"):
        callbacks.CosineAnnealing(-1.0, 3)
    with pytest.raises(ValueError, match="steps: expected an integer from 1"):
        callbacks.CosineAnnealing(1.0, 0)
    with pytest.raises(ValueError, match="first_step: expected an integer from 0"):
        callbacks.CosineAnnealing(1.0, 1, first_step=-1)
    rates = keras.optimizers.schedules.CosineDecay(0.1, 10)
    with pytest.raises(TypeError, match="learning rate is not settable"):
        plain(keras.optimizers.SGD(rates)).fit(*DATA, verbose=0, callbacks=[callbacks.CosineAnnealing(0.1, 4)])


def test_annealing_rates_are_those_of_keras_restarts():
    keras_rates = keras.optimizers.schedules.CosineDecayRestarts(0.1, 3, t_mul=1.0, m_mul=1.0)
    mine, rates = callbacks.CosineAnnealing(0.1, 3), []
    note = keras.callbacks.LambdaCallback(
        on_batch_end=lambda batch, logs: rates.append(float(model.optimizer.learning_rate))
    )
    model = plain()
    model.fit(*DATA, epochs=2, batch_size=2, verbose=0, callbacks=[mine, note])
    np.testing.assert_allclose(rates, [keras_rates(step) for step in range(8)], rtol=1e-5)


@pytest.mark.parametrize("per_execution", [1, 2])
def test_a_new_cycle_empties_the_memory_but_not_the_loss_scale(per_execution):
    """With two steps per execution the cycle of 3 begins in the middle of one."""
    inner = keras.optimizers.SGD(0.1, momentum=0.9, jit_compile=False)
    optimizer = keras.mixed_precision.LossScaleOptimizer(inner, initial_scale=64.0)
    model, memory = plain(optimizer, steps_per_execution=per_execution), {}

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            slots = [v for v in inner.variables if "m/" in v.name]
            memory[int(optimizer.iterations)] = sum(float(tf.reduce_sum(tf.abs(v))) for v in slots)

    model.fit(*DATA, batch_size=1, verbose=0, callbacks=[callbacks.CosineAnnealing(0.1, 3), Watch()])
    emptied = [step for step, size in memory.items() if size == 0]
    assert emptied == ([0, 3, 6] if per_execution == 1 else [0, 4, 6])
    assert float(optimizer.loss_scale) == 64.0


def test_the_last_good_epoch_of_a_plain_model_comes_back():
    model, good = plain(keras.optimizers.SGD(0.1)), {}

    class Spoil(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            good[epoch] = self.model.get_weights()
            if epoch == 1:
                self.model.set_weights([w * np.nan for w in self.model.get_weights()])

    last = callbacks.LastGoodEpoch()
    with pytest.warns(
        UserWarning, match="epoch 3: the loss is not finite; the weights of the last good epoch were put"
    ):
        history = model.fit(*DATA, epochs=9, verbose=0, callbacks=[last, Spoil()]).history
    assert last.failed_epoch == 2 and len(history["loss"]) == 3
    for a, b in zip(good[1], model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    losses = model.fit(*DATA, epochs=3, verbose=0, callbacks=[last]).history["loss"]
    assert last.failed_epoch is None and losses[2] < losses[0] < history["loss"][1]
