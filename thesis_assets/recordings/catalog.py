"""A local catalog over all recordings of a results root, by Rerun's own server; and one call that asks it for a metric.

The server answers on loopback only and reads files where they lie. Does not belong here: exporting, opening a viewer.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thesis_assets.errors import InvalidFile, InvalidKey, ThesisAssetsError, pip_install
from thesis_assets.layout import POSE_TASKS, TASKS, TEMPORARY_PREFIX, EvaluationTree, epoch_name

INPUT_DATA, EVALUATION, TRIPLETS = "input_data", "evaluation", "triplets"
"""The catalog's datasets."""
_HOST = "127.0.0.1"


@dataclass(frozen=True, order=True)
class MetricValue:
    """A metric of one frame. `camera`: None where the metric is not by camera."""

    exp_name: str
    run_name: str
    scene_name: str
    epoch: int
    camera: int | None
    frame: int
    value: float


def find_recordings(
    results_root: Path, triplets: Sequence[Path] = (), *, on_note: Callable[[str], None] | None = None
) -> dict[str, list[Path]]:
    """The recordings below a results root, whatever its folders above the trees are, by dataset; each recording once.

    Files of single tasks stay out: what they hold is also in the epoch's own file.

    Args:
        triplets: of tuning runs, which lie in another root.
        on_note: told of files that are left out.
    """
    found: dict[str, list[Path]] = {INPUT_DATA: [], EVALUATION: [], TRIPLETS: []}
    seen: dict[str, Path] = {}
    for path in [*_rrd_files(results_root), *(path for path in triplets if path.is_file())]:
        dataset = TRIPLETS if path in triplets else _dataset(path)
        if dataset is None:
            continue
        try:
            recording_id = _recording_id(path)
        except InvalidFile as error:
            problem = error.problem
        else:
            if recording_id not in seen:
                seen[recording_id] = path
                found[dataset].append(path)
                continue
            problem = f"the same recording as {seen[recording_id]}"
        if on_note is not None:
            on_note(f"left out: {path}: {problem}")
    return {dataset: paths for dataset, paths in found.items() if paths}


@contextlib.contextmanager
def serve_catalog(recordings: Mapping[str, Sequence[Path]], *, port: int = 0) -> Iterator[str]:
    """Serve recordings on loopback while the block runs; yields the address for viewers and for `read_metric`.

    Args:
        port: 0 = a free one.

    Raises:
        ThesisAssetsError: the extra `catalog` is not installed, there is nothing to serve, or the port is taken.
    """
    if importlib.util.find_spec("datafusion") is None:
        raise ThesisAssetsError(
            "the catalog needs more of Rerun",
            wanted="the extra `catalog`",
            remedy=pip_install("'thesis-assets[catalog]'"),
        )
    if not recordings:
        raise InvalidFile("there is no recording to serve", wanted="rerun/*.rrd", remedy="export some first")
    import rerun as rr

    datasets: dict[str, Any] = {name: list(paths) for name, paths in recordings.items()}
    try:
        server = rr.server.Server(host=_HOST, port=port, datasets=datasets)
    except (RuntimeError, ValueError, OSError) as error:
        raise ThesisAssetsError(
            "the catalog does not start", key="--port", found=f"{port}: {error}", remedy="name another port, or 0"
        ) from error
    with server:
        yield str(server.url())


def read_metric(url: str, metric: str, *, camera: int | None = None, task: str = "nvs") -> list[MetricValue]:
    """A metric over frames, epochs, scenes and runs, asked of a catalog; sorted. `camera`: None = all, or a pose metric.

    `read_metric(url, "psnr", camera=16)` is the PSNR of camera 16 over all epochs and runs.

    Raises:
        InvalidKey: there is no such task, or a pose metric was asked for by camera.
        ThesisAssetsError: there is no catalog, or it has no evaluation.
    """
    if task not in TASKS or (task in POSE_TASKS and camera is not None):
        raise InvalidKey("not by camera" if task in TASKS else "not a task", key="task", found=task, wanted=TASKS)
    dataset = _evaluation_dataset(url)
    runs = {row["rerun_segment_id"]: row for row in dataset.segment_table().to_pylist()}
    values: list[MetricValue] = []
    for epoch in sorted({_first(row["property:epoch:epoch"]) for row in runs.values()}):
        entity = f"/evaluation/{epoch_name(epoch)}/{task}/metrics/{metric}"
        if task == "nvs":
            entity += "/**" if camera is None else f"/cam_{camera}"
        table = dataset.filter_contents([entity]).reader(index="frame")
        columns = [name for name in table.schema().names if name.endswith(":Scalars:scalars")]
        for row in table.to_pylist() if columns else []:
            for column in columns:
                if row[column]:
                    values.append(_value(runs[row["rerun_segment_id"]], epoch, column, row, task))
    return sorted(values)


def _value(run: Mapping[str, Any], epoch: int, column: str, row: Mapping[str, Any], task: str) -> MetricValue:
    name = column.partition(":")[0].rpartition("/")[2]
    return MetricValue(
        exp_name=_first(run["property:experiment:exp_name"]),
        run_name=_first(run["property:experiment:run_name"]),
        scene_name=_first(run["property:experiment:scene_name"]),
        epoch=epoch,
        camera=int(name.removeprefix("cam_")) if task == "nvs" else None,
        frame=int(row["frame"]),
        value=float(_first(row[column])),
    )


def _evaluation_dataset(url: str) -> Any:
    import rerun as rr

    try:
        return rr.catalog.CatalogClient(url).get_dataset(EVALUATION)
    except (RuntimeError, ValueError, ConnectionError, LookupError) as error:
        raise ThesisAssetsError(
            "the catalog cannot be asked",
            file=url,
            found=str(error)[:300],
            remedy="start it with `thesis-assets rerun catalog`, and use the address it prints",
        ) from error


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


def _rrd_files(root: Path) -> Iterator[Path]:
    for directory, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(TEMPORARY_PREFIX))
        yield from (Path(directory) / name for name in sorted(names) if name.endswith(".rrd"))


def _dataset(path: Path) -> str | None:
    """The dataset of a recording at its place in an evaluation tree; None for any other file."""
    base = path.parent.parent
    try:
        shown, _ = EvaluationTree(base.parent, base.name).recording_of(path)
    except InvalidKey:
        return None
    return {"input_data": INPUT_DATA, "evaluation": EVALUATION}.get(shown)


def _recording_id(path: Path) -> str:
    from rerun.chunk import RrdReader

    try:
        recordings = RrdReader(path).recordings()
    except (RuntimeError, ValueError, OSError) as error:
        raise InvalidFile("the recording cannot be read", file=path, found=str(error)[:200]) from error
    if len(recordings) != 1:
        raise InvalidFile("not one recording in the file", file=path, found=len(recordings), wanted=1)
    return str(recordings[0].recording_id)
