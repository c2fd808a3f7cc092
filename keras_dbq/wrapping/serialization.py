"""Makes quantized models load: ours and tfmot's classes by name."""

from typing import Any

from keras_dbq import quantizers
from keras_dbq.compat import OutputOnlyConfig, QuantizeLayer, QuantizeWrapper, QuantizeWrapperV2, keras, tfmot
from keras_dbq.wrapping import layers, quantize_configs


class _OutputOnlyConfig(OutputOnlyConfig):
    """tfmot's config of a layer before an annotated one; tfmot's own does not load what it saves."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> OutputOnlyConfig:
        nested = config["quantize_config"]
        if isinstance(nested, dict):
            name = nested["class_name"].split(">")[-1]
            nested = getattr(quantize_configs, name).from_config(nested["config"])
        return OutputOnlyConfig(nested)


def custom_objects() -> dict[str, Any]:
    """{class name: class} of everything a quantized model's config can name."""
    own = [
        *(getattr(quantize_configs, name) for name in quantize_configs.__all__ if name[0].isupper()),
        quantizers.TernaryBranchQuantizer,
        quantizers.LinearWeightQuantizer,
        quantizers.ActivationQuantizer,
        quantizers.BranchScaleConstraint,
        quantizers.AscendingConstraint,
        quantizers.IntervalConstraint,
        layers.QuantizeTensor,
    ]
    with tfmot.quantization.keras.quantize_scope():
        objects = dict(keras.utils.get_custom_objects())
    objects.update({cls.__name__: cls for cls in (*own, QuantizeLayer, QuantizeWrapper, QuantizeWrapperV2)})
    objects["OutputOnlyConfig"] = _OutputOnlyConfig
    return objects


def register_globally() -> None:
    """Lets `keras.models.load_model` find the classes without a scope (done when this module is imported)."""
    keras.utils.get_custom_objects().update(
        {name: value for name, value in custom_objects().items() if not name.startswith("Custom>")}
    )


register_globally()
