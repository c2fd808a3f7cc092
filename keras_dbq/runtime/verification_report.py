"""What `verify` found: one row a tensor, what fails, what should be known; as data and as text."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from keras_dbq._checks import SATURATION, saturation_text
from keras_dbq._table import Table

# A layer of Keras, given the file's codes, computes what the file computes: rounding may move a code by one, rarely.
LAYER_TOLERANCE = 0.01  # share of a tensor's codes that may be off by more than one (operators of approximations)
NUDGED = 0.01  # share of the input's codes that are moved by one, to see what the network makes of it
FAR_FROM_FLOAT = 0.9  # choice: the share of the float network's classes from which on nothing is said
_SHOWN = 3  # names in a list


class VerificationError(AssertionError):
    """The file does not compute what it should. `report` holds the whole comparison."""

    def __init__(self, message: str, report: VerificationReport):
        super().__init__(message)
        self.report = report


@dataclass
class TensorRow:
    """One activation tensor of the file, over all examples; counts are int8 codes."""

    name: str
    codes: int = 0  # compared
    interpreter: int = 0  # differing: numpy engine, interpreter. Must be 0
    int8: int = 0  # differing: packed file in the interpreter, int8 twin in the stock one. Must be 0
    # Keras' layer on the file's codes of its inputs, against the file's codes of its output
    keras_codes: int = 0  # compared; 0 where Keras does not quantize this tensor
    keras: int = 0  # differing
    rounding: int = 1  # codes by which rounding alone can move Keras' layer
    keras_wide: int = 0  # differing by more than that
    keras_largest: int = 0  # largest difference, in codes

    @property
    def keras_agrees(self) -> bool:
        """The layer differs by rounding at most."""
        return self.keras_wide <= LAYER_TOLERANCE * self.keras_codes


@dataclass
class VerificationReport:
    """Result of `verify`; str() prints a table, `passed` says whether everything holds."""

    rows: list[TensorRow]
    examples: int
    packed: bool  # the file holds packed operators, so its int8 twin was run as well
    top1_threshold: float
    top1_equal: int = 0  # examples on which Keras, run on its own, and the file agree
    top1_equal_by_layer: int = 0  # the same with Keras given the file's codes at every layer
    output_interpreter: int = 0  # differing output codes: numpy engine, interpreter
    output_int8: int = 0  # differing output codes: packed, int8 twin
    output_keras: float = 0.0  # share of output codes that differ from Keras
    unmatched: list[str] = field(default_factory=list)  # quantized in Keras, and no tensor of that name in the file
    changed: list[str] = field(default_factory=list)  # quantized in Keras on a grid that the file does not have
    shapes: list[str] = field(default_factory=list)  # tensors of another shape in Keras and in the file, a phrase each
    saturated: dict[str, float] = field(default_factory=dict)  # input -> share of its numbers outside of its range
    # Share of the examples whose class in the file stays when NUDGED of the input's codes move by one; None: not asked.
    nudged_equal: float | None = None
    # The float model's answer and the file's, where a float model was given.
    float_top1: float | None = None  # share of the examples of one class
    float_error: float | None = None  # ||file - float|| / ||float - its mean||

    @property
    def top1_agreement(self) -> float:
        """Share of the examples whose best class in Keras, run on its own, is (one of) the best in the file."""
        return self.top1_equal / self.examples

    @property
    def is_far_from_float(self) -> bool:
        """Whether the file seldom gives the float model's class; False where no float model was given."""
        return self.float_top1 is not None and self.float_top1 < FAR_FROM_FLOAT

    @property
    def top1_agreement_by_layer(self) -> float:
        """The same where each layer of Keras gets the file's codes: rounding differences do not pile up."""
        return self.top1_equal_by_layer / self.examples

    @property
    def first_difference(self) -> str | None:
        """Name of the first tensor on which integer paths disagree, or None."""
        return next((row.name for row in self.rows if row.interpreter or row.int8), None)

    @property
    def passed(self) -> bool:
        """Integer paths are equal everywhere, and Keras agrees (see `verify`)."""
        return not self.problems()

    def problems(self) -> list[str]:
        """What fails, one phrase each."""
        keras = (self._changed() or self._wrong_layer()) if self.top1_threshold > 0 else ""
        return [text for text in (self._integer_paths(), self._shapes(), keras or self._disagreement()) if text]

    def _shapes(self) -> str:
        return f"shapes differ: {_listed(self.shapes)}" if self.shapes else ""

    def _changed(self) -> str:
        if not self.changed:
            return ""
        return (
            f"Keras quantizes {_listed([repr(name) for name in self.changed])} on grids that the file does not have: "
            "was the model changed (trained, calibrated) after the export? Export it again"
        )

    def _integer_paths(self) -> str:
        if not (self.first_difference or self.output_interpreter or self.output_int8):
            return ""
        return (
            f"the integer paths differ, first at {self.first_difference or 'the output'!r} ({self.output_interpreter} "
            f"output codes numpy against interpreter, {self.output_int8} packed against int8)"
        )

    def _wrong_layer(self) -> str:
        row = next((row for row in self.rows if not row.keras_agrees), None)
        if row is None:
            return ""
        return (
            f"Keras' layer {row.name!r} computes something else than the file: from the same input {row.keras_wide} of "
            f"{row.keras_codes} codes differ by more than {row.rounding}, by up to {row.keras_largest}; was the model "
            "changed after the export?"
        )

    def _disagreement(self) -> str:
        if self._agreement_or_growth():
            return ""
        return (
            f"top-1 agreement of Keras and the file is {_percent(self.top1_agreement)}, expected at least "
            f"{_percent(self.top1_threshold)}"
        )

    def _agreement_or_growth(self) -> bool:
        """Keras agrees, or every layer of it does and only rounding that grows on the way separates the two."""
        if self.top1_agreement >= self.top1_threshold:
            return True
        compared = bool(self.rows) and not self.unmatched and any(row.keras_codes for row in self.rows)
        return compared and self.top1_agreement_by_layer >= self.top1_threshold

    @property
    def notes(self) -> list[str]:
        """What passes, but should be known."""
        found = [
            f"Keras quantizes {name!r}, which is no tensor of its own in the file, so that it was not compared"
            for name in self.unmatched
            if name not in self.changed
        ]
        found += self.saturation_notes()
        if self.top1_agreement < self.top1_threshold and self._agreement_or_growth():
            found.append(
                f"Keras run on its own gives the file's class in {_percent(self.top1_agreement)} of the examples only, "
                f"under {_percent(self.top1_threshold)}, although each of its layers agrees: this network makes single "
                f"differing codes grow from layer to layer (docs/rounding.md){self._growth()}"
            )
        return found

    def saturation_notes(self) -> list[str]:
        """Inputs that are mostly clipped, a phrase each."""
        return [saturation_text(name, share) for name, share in self.saturated.items() if share > SATURATION]

    def _growth(self) -> str:
        if self.nudged_equal is None:
            return ""
        return (
            f"; the file itself keeps its class in {_percent(self.nudged_equal)} of the examples when "
            f"{100 * NUDGED:.0f} % of its input's codes move by one"
        )

    def to_json(self) -> str:
        """All fields as JSON text."""
        return json.dumps(asdict(self), indent=1)

    def __str__(self) -> str:
        int8 = self.output_int8 if self.packed else "-"
        return "\n".join([
            str(self._table()),
            f"{self.examples} examples; differing output codes: numpy/interpreter {self.output_interpreter}, "
            f"packed/int8 {int8}, Keras {100 * self.output_keras:.3f} %",
            f"top-1 agreement of Keras and the file: {_percent(self.top1_agreement)}; layer by layer: "
            f"{_percent(self.top1_agreement_by_layer)}",
            *self._float_line(),
            *(f"! {note}" for note in self.notes),
            "passed" if self.passed else "FAILED: " + "; ".join(self.problems()),
        ])  # fmt: skip

    def _float_line(self) -> list[str]:
        if self.float_top1 is None:
            return []
        return [
            f"float model and file: same class {_percent(self.float_top1)}, distance {self.float_error:.3f} of the "
            "float answer's own spread"
        ]

    def _table(self) -> Table:
        table = Table(["tensor", "codes", "numpy/interpreter", "packed/int8", "Keras differs", "by at most"])
        for row in self.rows:
            keras = f"{100 * row.keras / row.keras_codes:.3f} %" if row.keras_codes else "-"
            largest = str(row.keras_largest) if row.keras_codes else "-"
            table.add(row.name, row.codes, row.interpreter, row.int8 if self.packed else "-", keras, largest)
        return table


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
