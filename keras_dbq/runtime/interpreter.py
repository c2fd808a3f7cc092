"""The stock LiteRT interpreter with the packed operators: `Interpreter("m.tflite").predict(x)`.

Needs numpy and `ai_edge_litert`; TensorFlow is imported only where that is absent. The operators come from the
external delegate that `pip install .` builds (tflite_ops/), see `delegate_path`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_dbq import _checks
from keras_dbq.reference.rounding import input_codes
from keras_dbq.runtime import library
from keras_dbq.tflite import signature

_OP_PREFIX = b"Dbq"


def delegate_path() -> Path:
    """Path of the external delegate, for other programs (`load_delegate`, `benchmark_model --external_delegate_path`).

    Raises:
        FileNotFoundError: the shared object was not built.
    """
    if not library.is_built():
        raise FileNotFoundError(f"delegate: expected {library.PATH}, got no file; build it with `pip install .`")
    return Path(library.PATH)


def _runtime() -> Any:
    """The interpreter's Python module: LiteRT, else TensorFlow's (both have Interpreter and load_delegate)."""
    try:
        from ai_edge_litert import interpreter
    except ImportError:
        from tensorflow.lite.python import interpreter
    return interpreter


class Interpreter:
    """Runs a `.tflite` file, packed or not, on whole arrays.

    The result of a packed file equals, byte for byte, that of its int8 twin in the stock interpreter (docs/packing.md).

    Args:
        model_path: path of the file, or its content as bytes.
        num_threads: threads for the stock and the packed operators.
        delegate: False gives the stock interpreter, without the packed operators.
        preserve_all_tensors: keep every activation of a run, so that `tensors` can read them; costs memory.
        isa: the most that kernels may use: "auto", "scalar", "avx2", "avxvnni", "avx512vnni", "amx"; on Arm
            "neon", "dotprod", "i8mm". All give the same result.

    Raises:
        ValueError: the file is damaged, or holds packed operators and delegate=False.
        FileNotFoundError: no such file, or it holds packed operators and the delegate was not built.

    Example:
        >>> interpreter = keras_dbq.Interpreter("m.tflite")
        >>> y = interpreter.predict(images)            # float32 in, float32 out
        >>> codes = interpreter.predict(int8_images)   # int8 codes in, int8 codes out
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str] | bytes,
        num_threads: int = 1,
        *,
        delegate: bool = True,
        preserve_all_tensors: bool = False,
        isa: str = "auto",
    ) -> None:
        _checks.integer("num_threads", num_threads, 1, 1024)
        _checks.boolean("delegate", delegate)
        _checks.boolean("preserve_all_tensors", preserve_all_tensors)
        content = read(model_path)
        # One operator a partition: activations inside of a larger one are never written.
        options = {"isa": isa, "partition": "op" if preserve_all_tensors else "graph"}
        with _errors(content, delegate):
            look = library.check(content)
            self._interpreter = _open(
                content,
                num_threads,
                options if delegate and _is_useful(content) else None,
                experimental_preserve_all_tensors=preserve_all_tensors,
            )
            self._gives_dict = look.names_outputs and signature.gives_dict(content)
        self._content = content
        self._preserve_all_tensors = preserve_all_tensors
        self._read_details()
        shape = self._inputs[0]["shape"]
        self._file_batch = int(shape[0]) if len(shape) else 1
        self._batch_is_fixed, self._looked_at_range = False, False

    @property
    def input_names(self) -> list[str]:
        """Keras' names of the inputs in Keras' order: those of the file's signature."""
        return list(self._ends.inputs)

    @property
    def output_names(self) -> list[str]:
        """Keras' names of the outputs in Keras' order."""
        return list(self._ends.outputs)

    @property
    def input_details(self) -> list[dict[str, Any]]:
        """The runtime's own description of every input: name, shape, dtype, quantization."""
        return self._interpreter.get_input_details()

    @property
    def output_details(self) -> list[dict[str, Any]]:
        """The runtime's own description of every output."""
        return self._interpreter.get_output_details()

    def predict(self, x: np.ndarray | Sequence[np.ndarray] | dict[str, np.ndarray], batch_size: int = 32) -> Any:
        """Runs the model on x [N, ...], `batch_size` examples at a time.

        Float x is quantized with the file's input scale, as training does (`reference.rounding.input_codes`), and the
        result is dequantized to float32; int8 x is taken as codes and codes come back. A graph whose batch is fixed in
        its constants (a Reshape to [1, ...]) is run at its own batch size.

        Args:
            x: array; for a model of several inputs a list in the order of `input_names`, or a dict by these names.
            batch_size: examples per run.

        Returns:
            array [N, ...]; for a model of several outputs a list in the order of `output_names`, or a dict where the
            Keras model gives one.

        Raises:
            ValueError: wrong number or names of inputs, rank, size or batch.
            TypeError: x is neither float nor of the input's own dtype.
        """
        _checks.integer("batch_size", batch_size, 1, 2**31 - 1)
        details = self._inputs
        checked = [_check_input(np.asarray(a), d) for a, d in zip(self._arrays(x), details, strict=True)]
        sizes = {len(a) for a in checked}
        if len(sizes) != 1 or 0 in sizes:
            raise ValueError(f"x: expected one batch size of at least 1 in all inputs, got {sorted(sizes)}")
        raw = _given_as_codes(checked, details)
        if not raw and not self._looked_at_range:
            self._looked_at_range = True
            _warn_of_range(checked, details)
        codes = [_quantize(a, d) for a, d in zip(checked, details, strict=True)]
        parts = [self._run(chunk) for chunk in self._chunks(codes, batch_size)]
        outputs = parts[0] if len(parts) == 1 else [np.concatenate(column) for column in zip(*parts, strict=True)]
        if not raw:
            outputs = [_dequantize(y, d) for y, d in zip(outputs, self._outputs, strict=True)]
        if self._gives_dict:
            return self._ends.structured(outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def tensors(self) -> dict[str, np.ndarray]:
        """Activations of the last run by tensor name: raw codes where quantized, float32 elsewhere.

        Covers the last batch of `predict`. A name that occurs twice gets "#<tensor index>" behind it.

        Raises:
            ValueError: the interpreter was made without preserve_all_tensors=True.
        """
        if not self._preserve_all_tensors:
            raise ValueError("tensors: expected Interpreter(..., preserve_all_tensors=True), got False; make a new one")
        names = {d["index"]: d["name"] for d in self._interpreter.get_tensor_details()}
        found: dict[str, np.ndarray] = {}
        for index in self._activation_indices():
            name = names.get(index, "")
            with contextlib.suppress(ValueError):  # a delegate's internal tensor holds no data
                found[f"{name}#{index}" if name in found else name] = self._interpreter.get_tensor(index)
        return found

    def batch_at_once(self, size: int) -> int:
        """How many examples `predict` runs at once where `size` are asked for: the file's own batch where it is fixed.

        Raises:
            ValueError: a size under 1, or the runtime refuses the file.
        """
        _checks.integer("size", size, 1, 2**31 - 1)
        return self._fit_batch(size, [tuple(int(n) for n in d["shape"][1:]) for d in self._inputs])

    @functools.cached_property
    def _ends(self) -> signature.Ends:
        """Names of inputs and outputs; read when they are asked for, which one array in and out is not."""
        return signature.read_content(self._content)

    def _arrays(self, x: Any) -> list[Any]:
        if len(self._inputs) == 1 and not isinstance(x, (dict, list, tuple)):
            return [x]
        return self._ends.arrays(x)

    def _activation_indices(self) -> list[int]:
        """Graph inputs and everything that an operator writes, in the order of execution."""
        indices = [int(d["index"]) for d in self._inputs]
        for op in self._interpreter._get_ops_details():
            indices.extend(int(i) for i in op["outputs"])
        return list(dict.fromkeys(indices))

    def _chunks(self, codes: list[np.ndarray], batch_size: int) -> Iterator[list[np.ndarray]]:
        """Cuts the batch and gives the graph each chunk's size before it is yielded."""
        start, total = 0, len(codes[0])
        while start < total:
            size = self._fit_batch(min(batch_size, total - start), [c.shape[1:] for c in codes])
            if start + size > total:
                raise ValueError(f"x: expected a multiple of the file's fixed batch {size}, got {total} examples")
            yield [c[start : start + size] for c in codes]
            start += size

    def _fit_batch(self, size: int, example_shapes: list[tuple[int, ...]]) -> int:
        """Resizes the graph's batch to `size`, or to the file's own where that does not work; returns which."""
        if not self._batch_is_fixed:
            with contextlib.suppress(RuntimeError, ValueError):
                self._set_shapes([(size, *shape) for shape in example_shapes])
                if size == self._file_batch or all(d["shape"][:1] == size for d in self._outputs):
                    return size
            self._batch_is_fixed = True
        with _refusals():
            self._set_shapes([(self._file_batch, *shape) for shape in example_shapes])
        return self._file_batch

    def _set_shapes(self, shapes: list[tuple[int, ...]]) -> None:
        """Resizes only where something changes: allocation prepares every operator again."""
        if all(tuple(d["shape"]) == shape for d, shape in zip(self._inputs, shapes, strict=True)):
            return
        for detail, shape in zip(self._inputs, shapes, strict=True):
            self._interpreter.resize_tensor_input(detail["index"], shape)
        try:
            self._interpreter.allocate_tensors()
        finally:
            self._read_details()

    def _read_details(self) -> None:
        """Describes inputs and outputs as they are now: asking the runtime each time would take most of a small run."""
        self._inputs, self._outputs = self.input_details, self.output_details

    def _run(self, codes: list[np.ndarray]) -> list[np.ndarray]:
        with _refusals():
            for detail, value in zip(self._inputs, codes, strict=True):
                self._interpreter.set_tensor(detail["index"], value)
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(d["index"]) for d in self._outputs]


def read(model: str | os.PathLike[str] | bytes) -> bytes:
    """A file's bytes.

    Raises:
        FileNotFoundError: no such file.
    """
    if isinstance(model, bytes):
        return model
    path = Path(model)
    if not path.is_file():
        raise FileNotFoundError(f"model_path: expected a .tflite file, got {str(path)!r}, which is no file")
    return path.read_bytes()


def _is_useful(content: bytes) -> bool:
    """Whether the delegate is loaded: where there is one, and where the file cannot do without it."""
    return library.is_built() or _OP_PREFIX in content


def open_runtime(content: bytes, num_threads: int, delegate: dict[str, str] | None, **arguments: Any) -> Any:
    """The runtime's own interpreter, ready to be run.

    Args:
        content: the file's bytes, which are checked first: the runtime follows offsets and indices without looking.
        num_threads: threads of both.
        delegate: options of ours (tflite_ops/delegate/delegate.h); None leaves it out.
        arguments: more arguments of the runtime's Interpreter.

    Raises:
        ValueError, RuntimeError: the file is damaged, or the delegate refuses an option.
    """
    library.check(content)
    return _open(content, num_threads, delegate, **arguments)


def _open(content: bytes, num_threads: int, delegate: dict[str, str] | None, **arguments: Any) -> Any:
    runtime = _runtime()
    delegates = [] if delegate is None else [_load_delegate(delegate)]
    with _without_warnings(runtime, arguments):
        interpreter = runtime.Interpreter(
            model_content=content, num_threads=num_threads, experimental_delegates=delegates, **arguments
        )
        interpreter.allocate_tensors()
    return interpreter


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _without_warnings(runtime: Any, arguments: dict[str, Any]) -> contextlib.AbstractContextManager[None]:
    """Hides what the caller knows: TF's interpreter is deprecated, preserving tensors costs memory."""
    warns = runtime.__name__.startswith("tensorflow") or arguments.get("experimental_preserve_all_tensors")
    return _quietly() if warns else contextlib.nullcontext()


def _load_delegate(options: dict[str, str]) -> library.Delegate:
    try:
        return library.Delegate(options)
    except (ValueError, OSError, AttributeError) as error:
        path = delegate_path()  # another error where there is none
        raise ValueError(f"delegate: expected {path} to load, got: {_one_line(error)}") from None


@contextlib.contextmanager
def _errors(content: bytes, delegate: bool) -> Iterator[None]:
    """Turns the runtime's load errors into one-line ValueErrors; names the package that holds packed operators."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if str(error).startswith("delegate: "):
            raise
        if not delegate and _OP_PREFIX in content and "custom op" in str(error):
            raise ValueError(
                "model_path: expected stock operators (delegate=False), got packed Dbq* operators; they are in the"
                " package keras_dbq: use keras_dbq.Interpreter(path), or load keras_dbq.interpreter.delegate_path()"
            ) from None
        raise ValueError(f"model_path: expected a sound .tflite file, got: {_one_line(error)}") from None


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What the runtime refuses when it is run, as a one-line ValueError."""
    try:
        yield
    except RuntimeError as error:
        raise ValueError(f"model_path: expected a file that runs, got: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())


def _is_quantized(detail: dict[str, Any]) -> bool:
    return np.dtype(detail["dtype"]).kind in "iu" and len(detail["quantization_parameters"]["scales"]) == 1


def _scale_and_zero_point(detail: dict[str, Any]) -> tuple[np.float32, int]:
    parameters = detail["quantization_parameters"]
    return np.float32(parameters["scales"][0]), int(parameters["zero_points"][0])


def _check_input(x: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    """x as float32 or in the input's own dtype, of the input's shape but for the batch and unknown axes."""
    _checks.batch_shape(detail["name"], x, detail["shape_signature"])
    if x.dtype == detail["dtype"]:
        return x
    float_is_fine = _is_quantized(detail) or detail["dtype"] == np.float32
    if float_is_fine and np.issubdtype(x.dtype, np.floating):
        return x.astype(np.float32)
    own = np.dtype(detail["dtype"]).name
    raise TypeError(
        f"x for input {detail['name']!r}: expected float or {own}, got {x.dtype}; give float32, scaled as in training"
    )


def _given_as_codes(arrays: list[np.ndarray], details: list[dict[str, Any]]) -> bool:
    """True when the quantized inputs came as codes, False when they came as float."""
    kinds = {a.dtype == d["dtype"] for a, d in zip(arrays, details, strict=True) if _is_quantized(d)}
    if len(kinds) > 1:
        raise TypeError("x: expected all quantized inputs as float or all as codes, got both")
    return kinds == {True}


def _warn_of_range(arrays: list[np.ndarray], details: list[dict[str, Any]]) -> None:
    """Pictures scaled otherwise than in training get answers all the same: one warning, from the first examples."""
    for x, detail in zip(arrays, details, strict=True):
        if _is_quantized(detail):
            (scale, zero_point), codes = _scale_and_zero_point(detail), np.iinfo(detail["dtype"])
            low, high = ((float(code) - zero_point) * float(scale) for code in (codes.min, codes.max))
            share = _checks.share_outside(x[:16], low, high)
            if share > _checks.SATURATION:
                warnings.warn(f"predict: {_checks.saturation_text(detail['name'], share)}", stacklevel=3)


def _quantize(x: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    if x.dtype == detail["dtype"]:
        return x
    if np.isnan(x).any():
        raise ValueError(f"x for input {detail['name']!r}: expected numbers, got NaN")
    scale, zero_point = _scale_and_zero_point(detail)
    limits = np.iinfo(detail["dtype"])
    return input_codes(x, np.float32(scale), int(zero_point), int(limits.min), int(limits.max)).astype(detail["dtype"])


def _dequantize(y: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    if not _is_quantized(detail):
        return y
    scale, zero_point = _scale_and_zero_point(detail)
    return (y.astype(np.float32) - np.float32(zero_point)) * scale
