"""Sweeps: `runs.<name>.sweep` declares a run for each point, and what those runs are called.

The name of a point is the sweep's, then each swept key's short form and value, in the order of the keys' names, the seed last:
`base-lr1e-5-s1`. The short form is the initials of the key's words; keys of one sweep that share them are written out. Does not belong
here: what a run's keys mean (`spec`), numbers over seeds (`reports.sweeps`).
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import NoneType, UnionType
from typing import Annotated, Any, Generic, Literal, NoReturn, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from thesis_assets.errors import InvalidKey, near_names
from thesis_assets.layout import check_key

SWEEP = "sweep"
SEED = "seed"
MAX_POINTS = 200
"""Of an experiment."""
Scalar = str | int | float | bool
Run = TypeVar("Run", bound=BaseModel)


@dataclass(frozen=True)
class SweepPoint:
    """Where a run comes from.

    Attributes:
        sweep: the name below `runs` that declares it.
        group: its name without the seed: the runs of a group differ in nothing else.
        values: by swept key.
        seed: the seed among its values; None where the sweep has no seeds.
        seeds: all of its group, in the order of the file.
    """

    sweep: str
    group: str
    values: Mapping[str, Scalar]
    seed: int | None = None
    seeds: tuple[int, ...] = ()

    @property
    def row_name(self) -> str:
        """`base-lr1e-5-s*`: what its group is called in tables, which no run can be."""
        return f"{self.group}-s*"


@dataclass(frozen=True)
class Sweeps(Generic[Run]):
    """Every sweep of an experiment.

    Attributes:
        points: by the name of a run.
        unswept: by the name of a sweep its run without it; None where its own keys make none.
    """

    points: Mapping[str, SweepPoint] = field(default_factory=dict)
    unswept: Mapping[str, Run | None] = field(default_factory=dict)

    def runs_of(self, name: str) -> list[str]:
        """The runs of a sweep, or of a group of one (`base-lr1e-5`, or `base-lr1e-5-s*`); none where it is neither."""
        return [run for run, point in self.points.items() if name in (point.sweep, point.group, point.row_name)]

    def groups(self) -> list[str]:
        """The names of all groups of seeds."""
        return list(dict.fromkeys(point.group for point in self.points.values() if point.seeds))


def expand(runs: Mapping[str, Any], model: type[BaseModel]) -> tuple[dict[str, Any], Sweeps[Any]]:
    """The runs of a file with a run for each point in the place of each sweep, and where those come from.

    Args:
        runs: as they stand in the file.
        model: what a run is; which of its keys are scalars is read from it.

    Raises:
        ValidationError: a sweep is none; each error has its place in the file.
    """
    found: dict[str, Any] = {}
    points: dict[str, SweepPoint] = {}
    unswept: dict[str, BaseModel | None] = {}
    taken = {name: f"the {'sweep' if _is_sweep(run) else 'run'} `{name}`" for name, run in runs.items()}
    left = MAX_POINTS
    for name, run in runs.items():
        if not _is_sweep(run) or not isinstance(name, str):
            found[name] = run
            continue
        place = ("runs", name, SWEEP)
        axes = _axes(place, run[SWEEP], model)
        n_points = math.prod(map(len, axes.values()))
        if n_points > left:
            _refuse(
                place,
                f"{MAX_POINTS - left + n_points} points in the experiment so far; at most {MAX_POINTS}",
                {key: len(values) for key, values in axes.items()},
                "sweep fewer values, or write a second experiment (`thesis-assets fork`)",
            )
        left -= n_points
        own = {key: value for key, value in run.items() if key != SWEEP}
        flags = {str(word).partition("=")[0] for word in own.get("extra_args") or ()}
        if hidden := sorted(key for key in axes if flags & {f"--{key}", f"--no-{key}"}):
            _refuse(
                place,
                f"`extra_args` would give every point the same {', '.join(hidden)}",
                own["extra_args"],
                "take it out of `extra_args`, or out of the sweep",
            )
        if SEED in axes and "pretrained" in (own.get("backend"), *axes.get("backend", ())):
            _refuse(
                (*place, SEED),
                "nothing is trained in a run of the backend `pretrained`, so its seeds are one run",
                axes[SEED],
                "take the seeds out",
            )
        unswept[name] = _run_or_none(model, own)
        for run_name, point in _points(name, axes):
            values = point.values
            group = f"the group `{point.group}` of `{name}`"
            clash = run_name if run_name in taken else None
            taken.setdefault(run_name, f"a point of the sweep `{name}`")
            if point.group != run_name and taken.setdefault(point.group, group) not in (group, f"the sweep `{name}`"):
                clash = clash or point.group
            if clash is not None:
                _refuse(place, f"`{clash}` is also {taken[clash]}", values, "give one of the two another name")
            _refuse_no_key(place, run_name, values)
            found[run_name] = _run(model, {**own, **values}, place, axes, values, run_name)
            points[run_name] = point
    return found, Sweeps(points, unswept)


def _is_sweep(run: object) -> bool:
    return isinstance(run, Mapping) and SWEEP in run


def _axes(place: tuple[str, ...], sweep: object, model: type[BaseModel]) -> dict[str, list[Scalar]]:
    """By key its values, in the order of the names: keys by the alphabet, the seed last."""
    form = "{learning_rate: [1.0e-5, 2.0e-5], seed: [1, 2, 3]}"
    if not isinstance(sweep, Mapping) or not sweep:
        _refuse(place, f"not a mapping of keys to lists of values, such as {form}", sweep, f"write it as {form}")
    scalars = [key for key, each in model.model_fields.items() if _is_scalar(each.annotation)]
    for key, values in sweep.items():
        at = (*place, str(key))
        if key not in scalars:
            known = "only keys with one plain value can be swept" if key in model.model_fields else "not a key of a run"
            _refuse(at, known, key, f"correct the name ({near_names(scalars, [str(key)])}), or leave it out")
        if not isinstance(values, (list, tuple)) or not values:
            _refuse(at, "not a list with a value at least", values, f"write `{key}: [<value>, <value>]`")
        for number, value in enumerate(values):
            if not isinstance(value, (str, int, float)):
                _refuse((*at, number), "a number, a word or a switch is needed", value, "write plain values")
            if any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in values[:number]):
                _refuse((*at, number), "the value stands twice", value, "leave one of them out")
    return {key: list(sweep[key]) for key in sorted(sweep, key=lambda key: (key == SEED, key))}


def _is_scalar(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_scalar(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return all(map(_is_scalar, get_args(annotation)))
    return origin is Literal or annotation in (str, int, float, bool, NoneType)


def _points(name: str, axes: Mapping[str, list[Scalar]]) -> Iterator[tuple[str, SweepPoint]]:
    """Each point, with the name of its run."""
    initials = {key: "".join(word[0] for word in key.split("_") if word) for key in axes}
    shared = Counter(initials.values())
    short = {key: key if shared[initial] > 1 else initial for key, initial in initials.items()}
    seeds = tuple(value for value in axes.get(SEED, ()) if isinstance(value, int))
    for chosen in itertools.product(*axes.values()):
        values = dict(zip(axes, chosen, strict=True))
        words = {key: f"{short[key]}{written(value)}" for key, value in values.items()}
        group = "-".join([name, *(word for key, word in words.items() if key != SEED)])
        seed = values.get(SEED)
        point = SweepPoint(name, group, values, seed if isinstance(seed, int) else None, seeds)
        yield "-".join([name, *words.values()]), point


def written(value: Scalar) -> str:
    """A value in a name, as short as it can be read back: `1e-5`, `0.5`, `true`; of a text what a name may not hold is `_`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return re.sub(r"[^A-Za-z0-9._-]", "_", value).replace("..", "_")
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    exact = Decimal(repr(value)).normalize()
    plain = f"{exact:f}"
    digits, _, exponent = f"{exact:e}".partition("e")
    scientific = f"{digits}e{int(exponent)}"
    return min(plain, scientific, key=len)


def _refuse_no_key(place: tuple[str, ...], run_name: str, values: Mapping[str, Scalar]) -> None:
    try:
        check_key(run_name, "run_name")
    except InvalidKey as error:
        _refuse(
            place, f"`{run_name}` cannot be a run: {error.problem}; {error.wanted}", dict(values), "shorten the name"
        )


def _run_or_none(model: type[BaseModel], own: Mapping[str, object]) -> BaseModel | None:
    try:
        return model.model_validate(own)
    except ValidationError:
        return None


def _run(
    model: type[BaseModel],
    keys: Mapping[str, object],
    place: tuple[str, ...],
    axes: Mapping[str, list[Scalar]],
    values: Mapping[str, Scalar],
    run_name: str,
) -> BaseModel:
    """The run of a point. What is wrong with it is told where it stands: in the sweep's list, or among the other keys."""
    try:
        return model.model_validate(keys)
    except ValidationError as error:
        details = []
        for problem in error.errors():
            key, *rest = problem["loc"] or (None,)
            at: tuple[str | int, ...] = place if key is None else (*place[:2], key, *rest)
            if isinstance(key, str) and key in axes:
                at = (*place, key, axes[key].index(values[key]))
            if problem["type"] == "extra_forbidden":  # told with the names that are near, as of any run
                details.append(InitErrorDetails(type="extra_forbidden", loc=at, input=problem["input"]))
                continue
            text = problem["msg"].removeprefix("Value error, ")
            said = PydanticCustomError("sweep", "{text} (of the point {point})", {"text": text, "point": run_name})
            details.append(InitErrorDetails(type=said, loc=at, input=problem["input"]))
        raise ValidationError.from_exception_data("runs", details) from None


def _refuse(place: tuple[str | int, ...], text: str, found: object, remedy: str) -> NoReturn:
    said = PydanticCustomError("sweep", "{text}", {"text": text, "remedy": remedy})
    raise ValidationError.from_exception_data("runs", [InitErrorDetails(type=said, loc=place, input=found)])
