"""Makes quantized models load: ours and tfmot's classes by name."""

from typing import Any

from keras_dbq.compat import (
    OutputOnlyConfig,
    QuantizeLayer,
    QuantizeWrapper,
    QuantizeWrapperV2,
    keras,
    registered,
    tfmot,
)

# Imported so that their classes are registered; a class that is registered later is found when it is asked for.
from keras_dbq.wrapping import layers, quantize_configs


class _OutputOnlyConfig(OutputOnlyConfig):
    """tfmot's config of a layer before an annotated one; tfmot's own does not load what it saves."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> OutputOnlyConfig:
        nested = config["quantize_config"]
        if isinstance(nested, dict):
            nested = registered()[nested["class_name"].split(">")[-1]].from_config(nested["config"])
        return OutputOnlyConfig(nested)


def custom_objects() -> dict[str, Any]:
    """{class name: class} of everything a quantized model's config can name."""
    with tfmot.quantization.keras.quantize_scope():
        objects = dict(keras.utils.get_custom_objects())
    objects.update(registered())
    objects.update({cls.__name__: cls for cls in (QuantizeLayer, QuantizeWrapper, QuantizeWrapperV2)})
    objects["OutputOnlyConfig"] = _OutputOnlyConfig
    return objects


def quantize_scope(*extra: dict[str, Any]) -> Any:
    """Scope in which quantized models deserialize: ours and tfmot's objects, and any that you give."""
    objects = custom_objects()
    for more in extra:
        objects.update(more)
    return tfmot.quantization.keras.quantize_scope(objects)


def register_globally() -> None:
    """Lets `keras.models.load_model` find the classes without a scope (done when this module is imported)."""
    keras.utils.get_custom_objects().update(
        {name: value for name, value in custom_objects().items() if not name.startswith("Custom>")}
    )


register_globally()

__all__ = ["custom_objects", "layers", "quantize_configs", "register_globally"]
