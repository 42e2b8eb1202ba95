"""Sweeps over seeds: the rows of runs that differ in their seed alone, taken together as rows of the same kind.

A value becomes the mean over seeds. So does a difference, which each seed's run has to the unrefined render, or to a run of the same
seed: it is paired on scene and seed. Its interval is Student's over those, from three seeds on; where it leaves out zero, the
difference stands above the spread over seeds. Does not belong here: how a row of one run is made (`leaderboard`), any text.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from thesis_assets.evaluation.means import mean_over_scenes
from thesis_assets.evaluation.measured_tasks import RunKey, each_once
from thesis_assets.experiments.sweeps import SweepPoint
from thesis_assets.reports.difference_statistics import CONFIDENCE, MAX_FLIPPED, sign_flip_p
from thesis_assets.schemas.evaluation import DifferenceRow, LeaderboardRow

MIN_SEEDS = 3
"""From so many on there is an interval: of two it would reach over nine standard deviations to either side, and say nothing."""
Points = Mapping[RunKey, SweepPoint]
Row = TypeVar("Row", LeaderboardRow, DifferenceRow)


def spread(by_seed: Mapping[str, float] | None) -> float | None:
    """The standard deviation over seeds (of a sample: n - 1); None below two."""
    return statistics.stdev(by_seed.values()) if by_seed is not None and len(by_seed) > 1 else None


def mean_spread(rows: Sequence[LeaderboardRow | None]) -> float | None:
    """The spread over seeds of the mean over scenes of one metric, a row a scene; None also of unrefined renders that are the same for every seed."""
    by_scene = [row.by_seed if row is not None and row.by_seed is not None else {} for row in rows]
    seeds = by_scene[0].keys() if by_scene else ()
    means = {seed: mean_over_scenes(values.get(seed) for values in by_scene) for seed in seeds}
    found = spread({seed: mean for seed, mean in means.items() if mean is not None})
    return found if rows[0] is None else _unless_unrefined(rows[0], found)


def _unless_unrefined(row: LeaderboardRow, found: float | None) -> float | None:
    return None if row.step is None and not found else found


def seeds_told(row: LeaderboardRow | DifferenceRow) -> str:
    """`2 of 3 seeds`, of a row over seeds; empty of every other."""
    return "" if row.by_seed is None else f"{row.n_seeds} of {row.of_seeds} seeds"


def left_out_told(row: LeaderboardRow | DifferenceRow) -> str:
    """`2 of 3 seeds; seed 2: not evaluated`; empty where all count."""
    return f"{seeds_told(row)}; {row.seeds_left_out}" if row.seeds_left_out else ""


def seed_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's 95 % interval of the mean over seeds; None below `MIN_SEEDS`."""
    from scipy.stats import t

    if len(values) < MIN_SEEDS:
        return None
    mean = math.fsum(values) / len(values)
    half = float(t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def with_seeds(
    rows: Sequence[LeaderboardRow], differences: Sequence[DifferenceRow], points: Points
) -> tuple[list[LeaderboardRow], list[DifferenceRow]]:
    """The rows of single runs, each with its seed and the name of its group, and after them those over the seeds of each group.

    A group whose sweep has one seed stays single runs.
    """
    several = {run: point for run, point in points.items() if len(point.seeds) > 1}
    single, own = _named(rows, several), _named(differences, several)
    return [*single, *_rows(single, several)], [*own, *_differences(own, several)]


def _named(rows: Sequence[Row], points: Points) -> list[Row]:
    return [
        row.model_copy(update={"seed": point.seed, "seeds_of": point.row_name})
        if (point := points.get((row.exp_name, row.run_name))) is not None
        else row
        for row in rows
    ]


def shown(rows: Iterable[Row], *, each_seed: bool) -> list[Row]:
    """The rows of single seeds, or those over seeds in their place; every other row in either case."""
    return [row for row in rows if not row.seeds_of or (row.by_seed is None) == each_seed]


# --- values ----------------------------------------------------------------------------------------------------------


def _rows(rows: Sequence[LeaderboardRow], points: Points) -> list[LeaderboardRow]:
    found: list[LeaderboardRow] = []
    for of_group, elsewhere in _tables(
        (row for row in rows if row.seeds_of),
        lambda row: (row.exp_name, row.seeds_of, row.epoch, row.task, row.seen_people),
        lambda row: not row.damaged,
    ):
        point = points[of_group[0].exp_name, of_group[0].run_name]
        by_seed = {seed: [row for row in of_group if row.seed == seed] for seed in point.seeds}
        by_seed = {seed: own for seed, own in by_seed.items() if own}
        counted, left_out = _counted(
            {seed: frozenset((row.scene_name, row.protocol_digest) for row in own) for seed, own in by_seed.items()},
            {**elsewhere, **{seed: each_once(row.damaged for row in own) for seed, own in by_seed.items()}},
            point,
            "measured over other scenes, cameras or frames than the others",
        )
        members = [row for row in of_group if row.seed in counted] or of_group
        cells = _grouped(members, lambda row: (row.scene_name, row.metric))
        found += [_row(cell, points, len(counted), _told(left_out)) for cell in cells]
    return found


def _tables(
    rows: Iterable[Row], place: Callable[[Row], Hashable], is_sound: Callable[[Row], bool]
) -> Iterator[tuple[list[Row], dict[int, str]]]:
    """Rows of one place by the table they stand in, each with why seeds stand in another one.

    What is damaged may not say how it was measured: it stands in the table that has most, and makes none of its own.
    """
    for of_place in _grouped(rows, place):
        tables = _grouped(of_place, lambda row: row.table_digest)
        sound = [table for table in tables if any(map(is_sound, table))] or tables
        largest = max(sound, key=lambda table: len({row.seed for row in table}))
        largest += [row for table in tables if not any(table is each for each in sound) for row in table]
        for table in sound:
            own = {row.seed for row in table}
            others = {row.seed for each in sound for row in each} - own
            yield table, {seed: "measured under another protocol" for seed in others if seed is not None}


def _row(cell: Sequence[LeaderboardRow], points: Points, n_seeds: int, left_out: str) -> LeaderboardRow:
    """One scene and metric over the seeds that count; where none counts, all are damaged."""
    first = cell[0]
    point = points[first.exp_name, first.run_name]
    values = {str(row.seed): row.value for row in cell if row.value is not None}
    # A mean is over all seeds that count: one without this number leaves it empty.
    by_seed = values if len(values) == n_seeds else {}
    steps = {row.step for row in cell}
    return first.model_copy(
        update={
            "run_name": point.row_name,
            "seed": None,
            "step": first.step if len(steps) == 1 else None,
            "value": mean_over_scenes(by_seed.values()) if by_seed else None,
            "n_frames": min(row.n_frames for row in cell) if len(cell) == n_seeds else 0,
            "spread": _unless_unrefined(first, spread(by_seed)),
            "difference_to_unrefined": mean_over_scenes(row.difference_to_unrefined for row in cell),
            "unrefined_reason": each_once(row.unrefined_reason or "" for row in cell) or None,
            "baseline": _against([(row.seed, row.baseline) for row in cell if row.baseline is not None], points),
            "difference_to_baseline": mean_over_scenes(row.difference_to_baseline for row in cell),
            "baseline_reason": each_once(row.baseline_reason or "" for row in cell) or None,
            "damaged": "" if n_seeds else first.damaged,
            "moved": each_once(row.moved for row in cell),
            "leaked": each_once(row.leaked for row in cell),
            "data_version": None,
            "checkpoint_sha256": None,
            "by_seed": by_seed,
            "n_seeds": n_seeds,
            "of_seeds": len(point.seeds),
            "seeds_left_out": left_out,
        }
    )


# --- differences -----------------------------------------------------------------------------------------------------


def _differences(differences: Sequence[DifferenceRow], points: Points) -> list[DifferenceRow]:
    def place(row: DifferenceRow) -> Hashable:
        against = _group_of(row.against, points) or row.against
        of_row = (row.exp_name, row.seeds_of, row.epoch, row.task, row.metric, row.seen_people)
        return (*of_row, against, row.whose)

    every = _tables((row for row in differences if row.seeds_of), place, lambda row: row.difference is not None)
    return [_difference(of_group, elsewhere, points) for of_group, elsewhere in every]


def _difference(rows: Sequence[DifferenceRow], elsewhere: Mapping[int, str], points: Points) -> DifferenceRow:
    first = rows[0]
    point = points[first.exp_name, first.run_name]
    paired = {row.seed: row for row in rows if row.difference is not None}
    reasons = {
        **elsewhere,
        **{row.seed or 0: row.reason or "" for row in rows if row.difference is None},
        **_themselves(first, points),
    }
    counted, left_out = _counted(
        {seed: frozenset(row.by_scene) for seed, row in paired.items() if seed is not None},
        reasons,
        point,
        "compared over other scenes than the others",
    )
    members = [paired[seed] for seed in counted]
    by_scene = {
        scene: math.fsum(row.by_scene[scene] for row in members) / len(members)
        for scene in (members[0].by_scene if members else ())
    }
    by_seed = {str(row.seed): row.difference for row in members if row.difference is not None}
    interval = seed_interval(list(by_seed.values()))
    if len(members) == 1:  # what there is, as it stands for one run
        low, high, over = members[0].low, members[0].high, members[0].interval_over
    else:
        low, high = interval or (None, None)
        over = "seeds" if interval else None
    flips = list(by_scene.values())
    return first.model_copy(
        update={
            "run_name": point.row_name,
            "seed": None,
            "against": _against([(row.seed, row.against) for row in rows], points),
            "n_scenes": len(by_scene),
            "difference": math.fsum(by_seed.values()) / len(by_seed) if by_seed else None,
            "low": low,
            "high": high,
            "interval_over": over,
            "sign_flip_p": sign_flip_p(flips) if 0 < len(flips) <= MAX_FLIPPED else None,
            "scenes_above": sum(value > 0 for value in flips),
            "scenes_below": sum(value < 0 for value in flips),
            "by_scene": by_scene,
            "moved": each_once(row.moved for row in members),
            "leaked": each_once(row.leaked for row in members),
            "reason": None if members else each_once(reasons.values()),
            "by_seed": by_seed,
            "n_seeds": len(counted),
            "of_seeds": len(point.seeds),
            "seeds_left_out": _told(left_out),
            "above_seeds": None if interval is None or _is_one(by_seed) else interval[0] > 0 or interval[1] < 0,
        }
    )


def _themselves(row: DifferenceRow, points: Points) -> dict[int, str]:
    """The seed that is what the others of its own group are compared with."""
    exp_name, _, run_name = row.against.partition("/")
    other = points.get((exp_name, run_name))
    is_own = other is not None and (exp_name, other.row_name) == (row.exp_name, row.seeds_of)
    return (
        {other.seed: "the others are compared with it"}
        if is_own and other is not None and other.seed is not None
        else {}
    )


def _is_one(by_seed: Mapping[str, float]) -> bool:
    """Whether seeds give one and the same difference that is not zero: the seed did nothing, and they are one run."""
    return len({*by_seed.values()}) == 1 and 0.0 not in by_seed.values()


# --- what counts -----------------------------------------------------------------------------------------------------


def _grouped(rows: Iterable[Row], place: Callable[[Row], Hashable]) -> list[list[Row]]:
    """Rows of one place together, in the order in which the places come first."""
    found: dict[Hashable, list[Row]] = {}
    for row in rows:
        found.setdefault(place(row), []).append(row)
    return list(found.values())


def _counted(
    measured: Mapping[int, Hashable], faults: Mapping[int, str], point: SweepPoint, why_other: str
) -> tuple[list[int], dict[int, str]]:
    """The seeds that a mean is over, and why each other one is not in it.

    Args:
        measured: by seed over what; a mean is over those that agree with most.
        faults: by seed what else keeps it out; empty: nothing.
    """
    usable = [seed for seed in point.seeds if seed in measured and not faults.get(seed)]
    most = Counter(measured[seed] for seed in usable).most_common(1)
    counted = [seed for seed in usable if measured[seed] == most[0][0]]
    left_out = {
        seed: faults.get(seed) or (why_other if seed in measured else "not evaluated")
        for seed in point.seeds
        if seed not in counted
    }
    return counted, left_out


def _told(left_out: Mapping[int, str]) -> str:
    """`seeds 1, 3: not evaluated`."""
    seeds: dict[str, list[str]] = {}
    for seed, why in left_out.items():
        seeds.setdefault(why, []).append(str(seed))
    parts = [f"{'seed' if len(each) == 1 else 'seeds'} {', '.join(each)}: {why}" for why, each in seeds.items()]
    return "; ".join(parts)


def _group_of(run: str, points: Points) -> str | None:
    """`<exp>/<row name>` of the group that a run, `<exp>/<run>`, is a seed of."""
    exp_name, _, run_name = run.partition("/")
    point = points.get((exp_name, run_name))
    return None if point is None else f"{exp_name}/{point.row_name}"


def _against(others: Sequence[tuple[int | None, str]], points: Points) -> str | None:
    """What runs of several seeds are compared with: a group, where each is with the run of its own seed; else the one run."""
    if not others:
        return None
    runs = {run for _, run in others}
    seed, run = others[0]
    exp_name, _, run_name = run.partition("/")
    point = points.get((exp_name, run_name))
    same_seed = point is not None and point.seed == seed
    return _group_of(run, points) if len(runs) > 1 or (same_seed and len(others) == 1) else run
