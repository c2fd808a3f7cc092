"""A float Keras model, looked at (`check`) and made one that trains quantized (`quantize_model`, `initialize`)."""

import warnings
from typing import Any

from keras_dbq import _progress
from keras_dbq.calibration import Batches, RangeEstimator, estimator, match_outputs, observe_ranges
from keras_dbq.calibration import recalibrate_batch_norm as measure_batch_norm
from keras_dbq.calibration.plausibility import warn_of_other_scale
from keras_dbq.compat import QuantizeScheme, QuantizeWrapperV2, check_keras_model, keras
from keras_dbq.keras3 import NotConverted, as_tf_keras
from keras_dbq.network import graph, obstacles
from keras_dbq.network.obstacles import Obstacles
from keras_dbq.schemes import DBQScheme
from keras_dbq.schemes.application import everything, wrapped
from keras_dbq.schemes.base import LayerwiseScheme, LayoutTransform
from keras_dbq.schemes.same_function import check_same_function
from keras_dbq.solving.two_step import is_solvable, solve_in_place
from keras_dbq.wrapping import naming, wrappers
from keras_dbq.wrapping.serialization import quantize_scope

# choice: so many pictures determine the scales of a layer, and are worth the minutes (DBQScheme's init).
SOLVED_FROM = 256


def check(model: Any, scheme: QuantizeScheme | None = None) -> Obstacles:
    """All that stands in the way of an integer file of a float network, at once.

    `quantize_model` raises with exactly this list. A network without obstacles exports strictly: no operator in float
    between input and output.

    Args:
      model: as for `quantize_model`, trained or not.
      scheme: that of `quantize_model`; None is DBQScheme().

    Returns:
      A tuple of `Obstacle(layer, type, reason, advice, fatal)`, which prints as a table; empty, and so false, where
      nothing stands in the way. `on_unsupported="skip"` keeps such layers in float, but for `fatal` ones. Of a Keras 3
      model it is first what `from_keras3` cannot convert, if there is any: only then can the rest be looked at.

    Raises:
      TypeError: not a model, or a scheme of another package.  ValueError: a subclassed or unbuilt model of tf_keras, a
        file that cannot be read, overrides that match no layer.

    Example:
      print(keras_dbq.check(model))
    """
    scheme = DBQScheme() if scheme is None else scheme
    try:
        model = as_tf_keras(model)
    except NotConverted as error:
        return error.obstacles
    _check_arguments(model, scheme, "check")
    if not isinstance(scheme, LayerwiseScheme):
        raise TypeError(f"check: expected a scheme of keras_dbq such as DBQScheme(), got {scheme!r}")
    uncopied = Obstacles(obstacles.of_copies(model))
    if uncopied:
        return uncopied
    copy = graph.flat_copy(model)
    return LayoutTransform(scheme).lay_out(copy, everything(copy)).obstacles


def quantize_model(
    model: Any,
    scheme: QuantizeScheme,
    calibration_data: Any = None,
    *,
    calibration: str | RangeEstimator = "max",
    recalibrate_batch_norm: bool | None = None,
    verbose: bool = False,
) -> keras.Model:
    """A quantized copy of a float model, initialised from its weights and calibrated; ready for compile and fit.

    Nested models are spliced in (layer names stay, see `graph.flat_copy`); the float model is left untouched.

    Args:
      model: functional or Sequential model with its trained weights, of tf_keras or of Keras 3 (converted, see
        `from_keras3`), or the path of its file.
      scheme: DBQScheme(...) or another QuantizeScheme.
      calibration_data: pictures as an array [N, ...], a tf.data.Dataset or an iterable of batches (labels, if any, are
        ignored); None leaves the ranges at their start values (the first training steps move them).
      calibration: how activation ranges follow from the data: "max", "moving_average", "percentile", "mse", or one of
        `keras_dbq.calibration` with its arguments, such as Percentile(99.9).
      recalibrate_batch_norm: see `initialize`; not looked at where weights are solved for (the scheme's init).
      verbose: print the reconstruction error of each layer, with init="two_step" also that of its output before and
        after, and a progress bar (as on any terminal).

    Returns:
      The quantized model. `keras_dbq.summary` and `explain` say what was done to which layer.

    Raises:
      TypeError: not a model.  ValueError: a subclassed or unbuilt model, a file that cannot be read, layers without
        an integer form (what `check` lists, in one line; unless the scheme skips those), overrides that match no layer,
        bad calibration data.
    """
    try:
        model = as_tf_keras(model)
    except NotConverted as error:
        raise ValueError(error.obstacles.sentence()) from None
    _check_arguments(model, scheme, "quantize_model")
    if getattr(scheme, "init", "") == "two_step" and calibration_data is None:
        raise ValueError("quantize_model: init='two_step' expects calibration_data, about 1,000 pictures, got none")
    uncopied = Obstacles(obstacles.of_copies(model))
    if uncopied:
        raise ValueError(uncopied.sentence())
    copy = graph.flat_copy(model)
    quantized = wrapped(copy, scheme)
    check_same_function(model, quantized)
    if calibration_data is not None:
        calibration_data = Batches(calibration_data, copy, progress=verbose or None)
        warn_of_other_scale(copy, calibration_data.first())
    quantized = naming.name_outputs(quantized, graph.output_names(model))
    two_step = _is_solved(quantized, scheme, calibration_data)
    batch_norm = False if two_step else recalibrate_batch_norm
    _initialize(quantized, calibration_data, calibration, batch_norm, verbose, copy)
    if two_step:
        solved = solve_in_place(quantized, calibration_data, calibration=calibration, progress=verbose or None)
        if verbose:
            print(solved)
    return quantized


def _is_solved(q_model: keras.Model, scheme: QuantizeScheme, batches: Batches | None) -> bool:
    """Whether weights are solved for from the pictures."""
    init = getattr(scheme, "init", "")
    if batches is None or not is_solvable(q_model):
        return False
    return init == "two_step" or (init is None and batches.pictures >= SOLVED_FROM)


def _check_arguments(model: Any, scheme: Any, function: str) -> None:
    check_keras_model(model, function)
    if not isinstance(scheme, QuantizeScheme):
        raise TypeError(f"{function}: expected a QuantizeScheme such as keras_dbq.DBQScheme(), got {scheme!r}")
    if any(isinstance(layer, QuantizeWrapperV2) for layer in wrappers.all_layers(model)):
        raise ValueError(f"{function}: model {model.name!r} is already quantized; give the float model")


def initialize(
    q_model: keras.Model,
    data: Any = None,
    *,
    calibration: str | RangeEstimator = "max",
    recalibrate_batch_norm: bool | None = None,
    float_model: Any = None,
    verbose: bool = False,
) -> dict[str, float]:
    """Fits quantizers to the float weights and calibrates activation ranges; repeatable (nothing is drawn).

    Steps: (1) every weight quantizer is fitted to its kernel; (2) batch norm statistics are measured again with the
    quantized weights, because ternary weights change the scale of what batch norm sees; the kernel layers of a network
    without batch norm get the float output's mean, and with ternary weights its deviation
    (`calibration.match_outputs`); (3) activation ranges follow from the data.

    Args:
      q_model: result of `quantize_model` or of tfmot's quantize_apply with our scheme.
      data: pictures, as for `quantize_model`, read one batch at a time; None fits the weights only.
      calibration: as for `quantize_model`.
      recalibrate_batch_norm: False never does step 2, True always. None: with at least 64 pictures; where no layer is
        ternary, only kernel layers without batch norm are corrected.
      float_model: the network that `q_model` was made of, as `quantize_model` takes it: batch norm's output keeps the
        mean and deviation that it has there. None: the statistics become those of the data, as training leaves them.
      verbose: print the reconstruction error of each layer, and a progress bar.

    Returns:
      {layer name: relative squared error ||w - w_q||^2 / ||w||^2 of its kernel}.
    """
    if float_model is not None:
        float_model = graph.flat_copy(as_tf_keras(float_model))
    return _initialize(q_model, data, calibration, recalibrate_batch_norm, verbose, float_model)


def _initialize(
    q_model: keras.Model,
    data: Any,
    calibration: str | RangeEstimator,
    recalibrate_batch_norm: bool | None,
    verbose: bool,
    float_model: keras.Model | None,
) -> dict[str, float]:
    """`initialize`, which may know the network that `q_model` was just made of."""
    wrappers.check_quantized(q_model, "initialize")
    method = estimator(calibration)
    batches = data if data is None or isinstance(data, Batches) else Batches(data, q_model, progress=verbose or None)
    errors = _fit_weights(q_model, method, verbose or None)
    if verbose:
        for name, error in errors.items():
            print(f"{name:40s} reconstruction error {error:8.5f}")
    if batches is not None:
        _calibrate(q_model, batches, method, recalibrate_batch_norm, float_model)
    elif any(wrappers.quantized_output(layer) for layer in wrappers.all_layers(q_model)):
        warnings.warn(
            "keras_dbq: no calibration data: activation ranges start at [-6, 6] and move only in training; pass "
            "calibration_data (about 100 pictures)",
            stacklevel=4,
        )
    return errors


def _fit_weights(q_model: keras.Model, method: RangeEstimator, progress: bool | None) -> dict[str, float]:
    """Fits every weight quantizer to its kernel; {layer name: relative squared error}."""
    errors = {}
    layers = [layer for layer in wrappers.all_layers(q_model) if wrappers.quantized_weights(layer)]
    for layer in _progress.over(layers, f"weights of {len(layers)} layers", "layer", progress):
        for weight in wrappers.quantized_weights(layer):
            quantizer = weight.quantizer
            if hasattr(quantizer, "initialize"):  # another package's has nothing to fit
                way = "least_error" if method.fits_weights and "least_error" in quantizer.fits else None
                error = quantizer.initialize(weight.variable.numpy(), weight.variables, way)
                errors[wrappers.inner(layer).name] = error
    return errors


def _calibrate(
    q_model: keras.Model,
    batches: Batches,
    method: RangeEstimator,
    batch_norm: bool | None,
    float_model: keras.Model | None,
) -> None:
    """Batch norm statistics or output moments where asked for, then activation ranges."""
    quantizers = [w.quantizer for layer in wrappers.all_layers(q_model) for w in wrappers.quantized_weights(layer)]
    ternary = any(getattr(quantizer, "branches", 0) for quantizer in quantizers)
    measure = batches.pictures >= 64 if batch_norm is None else batch_norm
    # 8-bit weights hardly change a deviation, so that batch norm's statistics may stay; means do change.
    measured = measure and (ternary or bool(batch_norm)) and measure_batch_norm(q_model, batches, float_model)
    if measure and not measured:
        match_outputs(q_model, batches)
    observe_ranges(q_model, batches, method, float_weights=ternary and not measure)


__all__ = ["check", "initialize", "quantize_model", "quantize_scope"]
