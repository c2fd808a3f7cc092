"""Random networks as programs: what hypothesis draws is Keras code, so that a failure prints as something to run.

A program is a list of lines in single assignment (`x3 = L.ReLU()(x2)`), each executed as soon as it is drawn, because
the next choice depends on the shape that it gives.
"""

import dataclasses
import random
from typing import Any

import numpy as np
from hypothesis import strategies as st

import keras_dbq
from keras_dbq.compat import keras, tf

L = keras.layers
SCHEMES = (
    "keras_dbq.DBQScheme(branches=1)",
    "keras_dbq.DBQScheme(branches=2)",
    "keras_dbq.DBQScheme(branches=2, ternary_first=True, ternary_last=True, ternary_depthwise=True)",
    "keras_dbq.FATScheme()",
    'keras_dbq.FATScheme("scalar", symmetric=True)',
)


@dataclasses.dataclass
class Program:
    """Lines that end in `model = keras.Model(...)`, the scheme's line, and what they made."""

    lines: list[str]
    scheme: str
    model: Any = dataclasses.field(repr=False)

    def __repr__(self) -> str:
        return "\n".join(["", *self.lines, f"scheme = {self.scheme}"])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What hypothesis prints of a failure."""
        printer.text(repr(self))


def run(lines: list[str]) -> dict[str, Any]:
    """Variables after the lines have been executed."""
    variables: dict[str, Any] = {"keras": keras, "L": L, "tf": tf}
    for line in lines:
        exec(line, variables)
    return variables


def enliven(model: Any, seed: int = 0) -> Any:
    """Every weight drawn with the seed; batch norms that scale, shift and sometimes flip. Returns the model."""
    rng = np.random.default_rng(seed)
    done: set[int] = set()

    def visit(layer: Any) -> None:
        for part in getattr(layer, "layers", []):
            visit(part)
        if layer.weights and id(layer) not in done and not hasattr(layer, "layers"):
            done.add(id(layer))
            layer.set_weights([_values(rng, w) for w in layer.weights])

    visit(model)
    return model


def _values(rng: np.random.Generator, weight: Any) -> np.ndarray:
    name, shape = weight.name.split("/")[-1].split(":")[0], tuple(weight.shape)
    if name == "gamma":
        return rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape, p=[0.2, 0.8])
    if name in ("moving_variance", "variance"):
        return rng.uniform(0.3, 2, shape)
    if name == "count":
        return np.zeros(shape)
    if len(shape) < 2:  # beta, mean, bias
        return rng.normal(0, 0.3, shape)
    fan_in = np.prod(shape[:2]) if "depthwise" in name else np.prod(shape[:-1])
    return rng.normal(0, 1.2 / np.sqrt(fan_in), shape)


class _Author:
    """Writes one program: draws a step, executes its line, keeps the tensor."""

    def __init__(self, draw: Any, everything: bool):
        self.draw, self.everything = draw, everything
        self.lines: list[str] = []
        self.variables: dict[str, Any] = {"keras": keras, "L": L, "tf": tf}
        self.tensors: list[str] = []

    def write(self, target: str, expression: str) -> str:
        line = f"{target} = {expression}"
        exec(line, self.variables)
        self.lines.append(line)
        return target

    def add(self, expression: str) -> str:
        name = self.write(f"x{len(self.lines)}", expression)
        self.tensors.append(name)
        return name

    def one_of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.variables[name].shape[1:])

    # Layers, each as text.

    def ending(self) -> str:
        """An activation inside of a kernel layer."""
        choices = ["", "", ', activation="relu"', ', activation="relu6"', ', activation="tanh"']
        choices += [', activation="swish"', ', activation="gelu"', ', activation="hard_sigmoid"']
        return self.one_of(*choices)

    def window(self, height: int, width: int) -> str:
        """Kernel size, strides or dilation, padding."""
        size = self.one_of(*[s for s in (1, 3, 2, (1, 3), (3, 2), 5) if _fits(s, height, width)])
        padding = self.one_of("valid", "same")
        more = self.one_of("", "", ", strides=2", ", strides=(2, 1)", ", dilation_rate=2")
        if "dilation" in more and not _fits(_dilated(size), height, width):
            more = ""
        return f'{size}{more}, padding="{padding}"'

    def conv(self, height: int, width: int, channels: int) -> str:
        groups = ", groups=2" if channels % 2 == 0 and self.one_of(False, False, False, True) else ""
        filters = self.one_of(4, 2, 6, 8) if groups else self.one_of(4, 1, 3, 7)
        bias = self.one_of("", ", use_bias=False")
        return f"L.Conv2D({filters}, {self.window(height, width)}{groups}{bias}{self.ending()})"

    def depthwise(self, height: int, width: int, channels: int) -> str:
        window = self.window(height, width).replace("(2, 1)", "2")  # TensorFlow's depthwise has equal strides only
        multiplier = self.one_of("", "", ", depth_multiplier=2")
        return f"L.DepthwiseConv2D({window}{multiplier}{self.one_of('', ', use_bias=False')}{self.ending()})"

    def separable(self, height: int, width: int, channels: int) -> str:
        window = self.window(height, width).replace("(2, 1)", "2")
        return f"L.SeparableConv2D({self.one_of(4, 3)}, {window}{self.ending()})"

    def batch_norm(self, rank: int) -> str:
        axes = ("", "", "axis=1") if rank > 1 and self.everything else ("",)
        options = [self.one_of(*axes), self.one_of("", "scale=False", "center=False", "epsilon=0.1")]
        return f"L.BatchNormalization({', '.join(filter(None, options))})"

    def pooling(self, height: int, width: int) -> str:
        kind = self.one_of("Max", "Average")
        size = self.one_of(*[s for s in (2, 3, (1, 2), (height, width)) if _fits(s, height, width)] or [1])
        strides = self.one_of("", ", strides=1", ", strides=2")
        return f'L.{kind}Pooling2D({size}{strides}, padding="{self.one_of("valid", "same")}")'

    def activation(self) -> str:
        choices = ["L.ReLU()", "L.ReLU(6.0)", "L.LeakyReLU(0.25)", 'L.Activation("sigmoid")', 'L.Activation("tanh")']
        choices += ["L.Softmax()", "tf.nn.relu", "L.ReLU(4.0)", "L.ReLU(threshold=0.5)", "tf.nn.sigmoid", "L.PReLU()"]
        choices += ["L.ReLU(negative_slope=0.25)", "L.Lambda(lambda t: tf.tanh(t))", "tf.abs", "tf.nn.softplus"]
        choices += ['L.Activation("selu")', "L.ELU(0.5)", "L.Lambda(lambda t: tf.exp(-tf.abs(t)))"]
        if self.everything:
            choices += ["L.LayerNormalization()", "L.Lambda(lambda t: tf.cumsum(t))"]
        return self.one_of(*choices)

    def step(self) -> None:
        """One more layer on one of the last tensors."""
        x = self.one_of(*self.tensors[-3:][::-1])
        shape = self.shape(x)
        kinds = {3: _ON_MAPS, 1: _ON_VECTORS}.get(len(shape), _ON_OTHERS)
        self.one_of(*kinds)(self, x, shape)


def _dilated(size: Any) -> tuple[int, int]:
    height, width = size if isinstance(size, tuple) else (size, size)
    return 2 * height - 1, 2 * width - 1


def _fits(size: Any, height: int, width: int) -> bool:
    rows, columns = size if isinstance(size, tuple) else (size, size)
    return rows <= height and columns <= width


def _kernel(a: _Author, x: str, shape: tuple[int, ...]) -> None:
    kind = a.one_of(a.conv, a.conv, a.depthwise, a.separable)
    y = a.add(f"{kind(*shape)}({x})")
    if a.one_of(True, True, False):
        y = a.add(f"{a.batch_norm(3)}({y})")
    if a.one_of(True, False):
        a.add(f"{a.one_of('L.ReLU()', 'L.ReLU(6.0)', 'L.LeakyReLU(0.1)')}({y})")


def _norm(a: _Author, x: str, shape: tuple[int, ...]) -> None:
    a.add(f"{a.batch_norm(len(shape))}({x})")


def _activate(a: _Author, x: str, shape: tuple[int, ...]) -> None:
    a.add(f"{a.activation()}({x})")


def _pool(a: _Author, x: str, shape: tuple[int, ...]) -> None:
    a.add(f"{a.pooling(*shape[:2])}({x})")


def _affine(a: _Author, x: str, shape: tuple[int, ...]) -> None:
    """Layers and operators without weights that map values."""
    a.add(a.one_of(
        f"L.Rescaling(0.5, offset=0.25)({x})", f"{x} * 0.5", f"{x} + 0.75", f"1.0 - {x}", f"L.Dropout(0.3)({x})",
        f"L.Lambda(lambda t: 2.0 * t)({x})", f"L.Lambda(lambda t: t / 127.5 - 1)({x})", f"L.RandomFlip()({x})",
    ))  # fmt: skip


def _move(a: _Author, x: str, shape: tuple[int, ...]) -> None:
    """Layers that move values: padding, cropping, permutation, reshape, upsampling, slices."""
    height, width, channels = shape
    choices = ["L.ZeroPadding2D(1)({x})", "L.ZeroPadding2D(((0, 1), (2, 0)))({x})", "L.Permute((2, 1, 3))({x})"]
    choices += [f"L.Reshape(({width}, {height}, {channels}))({{x}})"] * 2 + ["L.Permute((3, 1, 2))({x})"]
    if height * width <= 40:
        choices += ["L.UpSampling2D(2)({x})", 'L.UpSampling2D(2, interpolation="bilinear")({x})']
    choices += ["L.Cropping2D(((1, 0), (0, 1)))({x})", "{x}[:, 1:, :-1, :]"] if min(height, width) > 1 else []
    choices += ["{x}[..., :1]", "tf.split({x}, [1, -1], axis=-1)[1]"] if channels > 1 else []
    a.add(a.one_of(*choices).format(x=x))


def _branch(a: _Author, x: str, shape: tuple[int, ...]) -> None:
    """A second way from the same tensor, joined again."""
    height, width, channels = shape
    convs = (f'L.Conv2D({channels}, 3, padding="same")', f'L.DepthwiseConv2D(3, padding="same"{a.ending()})')
    y = a.add(f"{a.one_of(*convs)}({x})")
    if a.one_of(True, False):
        y = a.add(f"{a.one_of(a.batch_norm(3), 'L.ReLU()', 'L.Activation(' + repr('sigmoid') + ')')}({y})")
    kinds = ("Add", "Multiply", "Concatenate", "Subtract", "Maximum", "Average")
    joined = [f"L.{a.one_of(*kinds)}()([{x}, {y}])", f"{x} + {y}", f"L.Concatenate()([{y}, {x}, {y}])"]
    z = a.add(a.one_of(*joined))
    if a.one_of(True, False):
        a.add(f"{a.one_of('L.ReLU()', a.batch_norm(3))}({z})")


def _gate(a: _Author, x: str, shape: tuple[int, ...]) -> None:
    """Squeeze and excitation."""
    y = a.add(f"L.GlobalAveragePooling2D(keepdims=True)({x})")
    y = a.add(f'L.Conv2D({shape[-1]}, 1, activation="{a.one_of("sigmoid", "relu")}")({y})')
    a.add(f"L.Multiply()([{x}, {y}])")


def _shared(a: _Author, x: str, shape: tuple[int, ...]) -> None:
    """One layer, or one nested model, called twice."""
    channels = shape[-1]
    name = f"f{len(a.lines)}"
    if a.one_of(True, False):
        layer = a.one_of(
            f'L.Conv2D({channels}, 3, padding="same"{a.ending()})', f'L.DepthwiseConv2D(3, padding="same"{a.ending()})',
            a.batch_norm(3), "L.ReLU()",
        )  # fmt: skip
        a.write(name, layer)
    else:
        inner = a.write(f"i{len(a.lines)}", f"keras.Input({shape})")
        body = f'L.Conv2D({channels}, 3, padding="same")({inner})'
        body = f"{a.one_of(a.batch_norm(3), 'L.ReLU(6.0)', 'L.Dropout(0.1)')}({body})"
        a.write(name, f"keras.Model({inner}, {body})")
    y = a.add(f"{name}({x})")
    if a.one_of(True, False):
        z = a.add(f"{name}({y})")
        if a.one_of(True, False):
            a.add(f"L.Add()([{y}, {z}])")


def _to_vector(a: _Author, x: str, shape: tuple[int, ...]) -> None:
    a.add(f"L.{a.one_of('GlobalAveragePooling2D', 'Flatten', 'GlobalMaxPooling2D')}()({x})")


def _dense(a: _Author, x: str, shape: tuple[int, ...]) -> None:
    y = a.add(f"L.Dense({a.one_of(5, 1, 8)}{a.one_of('', ', use_bias=False')}{a.ending()})({x})")
    if a.one_of(True, False):
        a.add(f"{a.one_of('L.ReLU()', 'L.Dropout(0.5)', 'L.Softmax()')}({y})")


def _vector_moves(a: _Author, x: str, shape: tuple[int, ...]) -> None:
    a.add(
        a.one_of(f"L.Reshape((1, 1, {shape[0]}))({x})", f"L.Concatenate()([{x}, {x}])", f"L.Reshape((-1, 1, 1))({x})")
    )


def _flatten(a: _Author, x: str, shape: tuple[int, ...]) -> None:
    a.add(f"L.Flatten()({x})")


_ON_MAPS = (_kernel, _kernel, _kernel, _norm, _activate, _pool, _affine, _move, _move, _branch, _branch, _gate, _shared,
            _to_vector)  # fmt: skip
_ON_VECTORS = (_dense, _dense, _norm, _activate, _affine, _vector_moves)
_ON_OTHERS = (_flatten,)


@st.composite
def programs(draw: Any, most: int = 5, everything: bool = True, several_outputs: bool = True) -> Program:
    """Networks of one or two inputs, one to `most` steps (a step is one to five layers), one or two outputs.

    Args:
      most: the most steps.
      several_outputs: whether there may be two.
      everything: also layers and activations that have no integer form, which quantize_model has to refuse.
    """
    keras.backend.clear_session()
    state = random.getstate()  # Keras draws seeds for weights that `enliven` replaces; hypothesis would object
    a = _Author(draw, everything)
    shape = a.one_of((6, 6, 4), (7, 5, 3), (8, 8, 1), (9, 4, 2), (5, 11, 5))
    inputs = [a.write("x0", f"keras.Input({shape})")]
    a.tensors.append("x0")
    if a.one_of(False, False, False, True):
        inputs.append(a.add(f"keras.Input({shape})"))
        a.add(f"L.{a.one_of('Add', 'Concatenate', 'Multiply')}()([x0, {inputs[1]}])")
        a.tensors = a.tensors[-1:]
    for _ in range(draw(st.integers(1, most))):
        a.step()
    if not _has_kernel(a.lines):
        last = a.tensors[-1]
        a.add(f"L.Dense(3)({last})" if len(a.shape(last)) == 1 else f"L.Dense(3)(L.Flatten()({last}))")
    outputs = [a.tensors[-1]]
    if several_outputs and a.one_of(False, False, True) and len(a.tensors) > 2:
        outputs.append(a.one_of(*a.tensors[1:-1]))
    a.write("model", f"keras.Model([{', '.join(inputs)}], [{', '.join(outputs)}])")
    random.setstate(state)
    return Program(a.lines, a.one_of(*SCHEMES), enliven(a.variables["model"]))


def _has_kernel(lines: list[str]) -> bool:
    return any("Conv2D" in line or "Dense" in line for line in lines)


def scheme_of(program: Program) -> Any:
    """The scheme that the program names."""
    return eval(program.scheme, {"keras_dbq": keras_dbq})
