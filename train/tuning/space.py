"""The space of a sweep: which fields of the config vary, over which values, and what trial number n draws of it.

    learning_rate=log:1e-4:1e-2    between the two, evenly on a logarithmic scale
    shift_px=0:4                   between the two; of a whole number both ends are drawn too
    dropout=0.2x0.3,0.3x0.5        one of the two; x joins the numbers of one value
    policy=digits,none             one of the augmentation's policies, whole

A draw is a function of (seed, trial, field): more trials, or another field, leave what was drawn before as it was.
"""

import dataclasses
import difflib
import itertools
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from ..config import POLICIES, Augmentation, TrainConfig
from ..data.example_order import SWEEP, uniform_numbers

POLICY = "policy"
DIGITS = 4  # significant ones of a drawn number, so that a person can type it
MOST_TRIALS = 10_000
# What no sweep may vary, and what to do instead.
FIXED = {
    "seed": "--seeds 3 trains each setting with three seeds",
    "recipe": "--recipe says what the others start from",
    "validation_size": "trials are compared by the images that it holds out",
    "min_accuracy": "it changes nothing of what is trained",
    "checkpoint_every_steps": "it changes nothing of what is trained",
    "keep_checkpoints": "it changes nothing of what is trained",
    "log_every_steps": "it changes nothing of what is trained",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values."""

    values: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """The value at `share`, from 0 to less than 1, of the way through."""
        return self.values[int(share * len(self.values))]


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """A number between two."""

    low: float
    high: float
    is_log: bool
    is_whole: bool

    def at(self, share: float) -> float:
        """The number at `share`, from 0 to less than 1, of the way through."""
        # Half a number more at either end, so that a whole number's ends are drawn as often as the others.
        half = 0.5 if self.is_whole else 0.0
        low, high = self.low - half, self.high + half
        if self.is_log:
            low = max(low, self.low / 2)
            drawn = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            drawn = low + share * (high - low)
        if self.is_whole:
            return min(max(round(drawn), int(self.low)), int(self.high))
        return min(max(float(f"{drawn:.{DIGITS}g}"), self.low), self.high)


Space = Mapping[str, Choice | Range]


def parse(lines: Sequence[str], base: TrainConfig) -> Space:
    """Read what `--over` was given.

    Args:
        base: what the trials share; each end and each value must be one that it can have.

    Raises: ValueError with the line, and what was expected.
    """
    if not lines:
        raise ValueError("a sweep needs --over FIELD=VALUES, such as --over learning_rate=log:1e-4:1e-2")
    space: dict[str, Choice | Range] = {}
    lines_of: dict[str, str] = {}
    for line in lines:
        name, equals, text = line.partition("=")
        if not equals:
            raise ValueError(f"--over {line}: expected FIELD=VALUES, such as learning_rate=log:1e-4:1e-2")
        name = _field(name.strip().removeprefix("--").replace("-", "_"), line)
        if name in space:
            raise ValueError(f"--over {line}: {name} is swept over already; give each field once")
        space[name] = _values(text.strip(), _hints()[name], line)
        lines_of[name] = line
    for name, values in space.items():
        for value in _ends(values):
            _check(base, space, name, value, lines_of[name])
    return space


def _hints() -> dict[str, Any]:
    """The types of all fields that a sweep can name, the augmentation's among them."""
    hints = get_type_hints(TrainConfig) | get_type_hints(Augmentation)
    return {name: hint for name, hint in hints.items() if name != "augmentation"}


def _field(name: str, line: str) -> str:
    name = POLICY if name == "augmentation" else name
    if name in FIXED:
        raise ValueError(f"--over {line}: {name} cannot be swept over: {FIXED[name]}")
    can = sorted(_hints().keys() - FIXED.keys())
    if name not in can:
        close = difflib.get_close_matches(name, can, n=1)
        meant = f"did you mean {close[0]}? " if close else ""
        raise ValueError(f"--over {line}: the config has no field {name!r}; {meant}there are: {', '.join(can)}")
    return name


def _values(text: str, hint: Any, line: str) -> Choice | Range:
    if ":" in text:
        return _range(text, hint, line)
    values = tuple(_value(part.strip(), hint, line) for part in text.split(","))
    if len(set(values)) != len(values):
        raise ValueError(f"--over {line}: the same value comes twice")
    if len(values) < 2:
        raise ValueError(f"--over {line}: one value is no choice; give it as a flag of its own, or several here")
    return Choice(values)


def _range(text: str, hint: Any, line: str) -> Range:
    is_log = text.startswith("log:")
    ends = text.removeprefix("log:").split(":")
    if hint not in (int, float) or len(ends) != 2:
        what = "LOW:HIGH or log:LOW:HIGH" if hint in (int, float) else "a list of values, as it is no single number"
        raise ValueError(f"--over {line}: expected {what}")
    low, high = (_value(end, hint, line) for end in ends)
    if not low < high:
        raise ValueError(f"--over {line}: {ends[0]} is not below {ends[1]}")
    if is_log and low <= 0:
        raise ValueError(f"--over {line}: a logarithmic range begins above 0, and {ends[0]} does not")
    return Range(low=low, high=high, is_log=is_log, is_whole=hint is int)


def _value(text: str, hint: Any, line: str) -> Any:
    origin = get_origin(hint)
    if origin is tuple:
        parts, kinds = text.split("x"), get_args(hint)
        if len(parts) != len(kinds):
            raise ValueError(f"--over {line}: {text!r} is no value of it; expected {len(kinds)} numbers joined by x")
        return tuple(_value(part, kind, line) for part, kind in zip(parts, kinds, strict=True))
    named = _named_values(hint)
    if named:
        if text not in named:
            raise ValueError(f"--over {line}: {text!r} is none of {', '.join(named)}")
        return named[text]
    try:
        number = hint(text)
    except ValueError:
        raise ValueError(f"--over {line}: {text!r} is no {'whole ' if hint is int else ''}number") from None
    if not math.isfinite(number):
        raise ValueError(f"--over {line}: {text!r} is not finite")
    return number


def _named_values(hint: Any) -> dict[str, Any]:
    """The values that have names: of a Literal, a bool, or a bool that may be None; none of a number."""
    if get_origin(hint) is Literal:
        return {str(value): value for value in get_args(hint)}
    kinds = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    names: dict[str, Any] = {"true": True, "false": False} if bool in kinds else {}
    return names | ({"none": None} if NoneType in kinds else {})


def _ends(values: Choice | Range) -> tuple[Any, ...]:
    return values.values if isinstance(values, Choice) else (values.low, values.high)


def _check(base: TrainConfig, space: Space, name: str, value: Any, line: str) -> None:
    """Refuse a value that the config can have neither beside the base's others, nor beside either end of all others."""
    ends = [{other: _ends(values)[place] for other, values in space.items()} for place in (0, -1)]
    refused = [_refusal(base, others | {name: value}) for others in ({}, *ends)]
    if all(refused):
        raise ValueError(f"--over {line}: {refused[0]}")


def _refusal(base: TrainConfig, values: Mapping[str, Any]) -> str:
    try:
        with_values(base, values)
    except ValueError as error:
        return str(error)
    return ""


def with_values(base: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """`base` with other values of some fields; raises ValueError if the config cannot have them together."""
    of_augmentation = {field.name for field in dataclasses.fields(Augmentation)}
    augmentation = POLICIES[values[POLICY]] if POLICY in values else base.augmentation
    strengths = {name: value for name, value in values.items() if name in of_augmentation and name != POLICY}
    others = {name: value for name, value in values.items() if name not in of_augmentation}
    return dataclasses.replace(base, **others, augmentation=dataclasses.replace(augmentation, **strengths))


def settings(space: Space, *, trials: int | None, seed: int) -> list[dict[str, Any]]:
    """What each trial sets.

    Args:
        trials: how many to draw; None takes every combination, of lists only.
        seed: that the draws are a function of.

    Raises: ValueError.
    """
    if trials is not None:
        return [_draw(space, trial, seed) for trial in range(trials)]
    ranges = [name for name, values in space.items() if isinstance(values, Range)]
    if ranges:
        raise ValueError(f"--over {ranges[0]}: a range has no end of values; --trials 20 draws twenty settings")
    number = math.prod(len(_ends(values)) for values in space.values())
    if number > MOST_TRIALS:
        raise ValueError(f"{number:,} combinations are more than {MOST_TRIALS:,}; --trials 20 draws twenty of them")
    return list(_combinations(space))


def _combinations(space: Space) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*(_ends(values) for values in space.values())):
        yield dict(zip(space, values, strict=True))


def _draw(space: Space, trial: int, seed: int) -> dict[str, Any]:
    drawn = {}
    for name, values in space.items():
        field = np.array([zlib.crc32(name.encode())])
        share = uniform_numbers(SWEEP, seed, np.array([trial]), field, 1)[0, 0]
        drawn[name] = values.at(float(share))
    return drawn
