"""How an output of an evaluated scene is written, put in place and taken back; and what its record and its unit are made of.

A directory is written under a temporary name while its files are named by their final places, then published by one rename.
Order of a change: the manifest forgets the epoch, the metrics go with their record, then inputs, images and metrics come back one by
one, and the manifest is written last: so no manifest names an epoch that is not whole. Files that were lost come back one by one
where they come out as recorded; nothing else is touched then.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.cell import EvaluationCell
from thesis_assets.layout import TEMPORARY_PREFIX, EvaluationTree, TaskTree, epoch_name
from thesis_assets.provenance import (
    Contents,
    FilesToFind,
    MadeFrom,
    Making,
    Older,
    Output,
    Place,
    Unit,
    Verdict,
    kept_part,
    mend,
    options_of,
    take_over,
    versions_of,
)
from thesis_assets.schemas.evaluation import EvaluationManifest
from thesis_assets.schemas.tuning import CheckpointInfo
from thesis_assets.tuning.checkpoints import handed_off

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thesis_assets.images.codecs import PngEncoder

Options = dict[str, Any]
_RECORDS = ("made_from.json", "made_from.stats.json")
CHOICE = (
    "evaluation.cameras",
    "evaluation.frames",
    "generation.source_camera",
    "generation.target_cameras",
    "generation.frames.apply_skip_frames",
)
"""The options that choose cameras and frames."""


@dataclass(frozen=True)
class Staging:
    """A directory in the making. Paths are given as `layout` names them, below `final`. Workers may fill it side by side.

    `written`: what this process wrote here, digested while it was in memory.
    """

    final: Path
    temporary: Path
    written: dict[Path, Output] = field(default_factory=dict)

    def place(self, path: Path) -> Path:
        """Where `path` is written now; its folder is made."""
        placed = self.temporary / path.relative_to(self.final)
        placed.parent.mkdir(parents=True, exist_ok=True)
        return placed

    @classmethod
    def begin(cls, final: Path) -> Staging:
        """An empty directory in the making, whose owner publishes or discards it."""
        temporary = storage.temporary_sibling(final)
        temporary.mkdir(parents=True)
        return cls(final, temporary)

    def publish(self) -> None:
        """Put the directory in place by one rename."""
        storage.publish_directory(self.temporary, self.final)

    def discard(self) -> None:
        """Remove what was not published."""
        if self.temporary.exists():
            shutil.rmtree(self.temporary)

    def write(self, path: Path, content: bytes, pixels: str | None = None) -> None:
        """Write a file anew. One that was linked here loses its link first: else its source would be written too."""
        placed = self.place(path)
        placed.unlink(missing_ok=True)
        placed.write_bytes(content)
        self.written[path] = Output(len(content), storage.sha256_bytes(content), pixels)

    def write_png(self, path: Path, pixels: NDArray[np.uint8], encoder: PngEncoder) -> None:
        """Encode and write an image, (H, W, 3) or (H, W)."""
        from thesis_assets.images.codecs import encode_png, pixel_digest

        self.write(path, encode_png(pixels, encoder), pixel_digest(pixels))

    def link(self, source: Path, path: Path, known: Output | None = None) -> storage.LinkMode:
        """Link a file; `known`: what its own record says of it, where it has one."""
        self.written.pop(path, None)
        if known is not None:
            self.written[path] = known
        return storage.link_or_copy(source, self.place(path))

    def name_also(self, path: Path, name: Path) -> None:
        """Give a file that lies here a second name here."""
        storage.link_or_copy(self.place(path), self.place(name))
        self.written.pop(name, None)
        if path in self.written:
            self.written[name] = self.written[path]

    def link_all(self, source: Path) -> None:
        """Link every file below the directory `source` to the same relative path here; its record is of there, and stays."""
        for path in files_below(source):
            self.link(path, self.final / path.relative_to(source))


@contextlib.contextmanager
def staged(*finals: Path) -> Iterator[list[Staging]]:
    """Yield a staging of each folder; what is not published by the end is removed."""
    stages: list[Staging] = []
    try:
        for final in finals:
            stages.append(Staging.begin(final))
        yield stages
    except OSError as error:
        storage.name_file(error, finals[0])
        raise
    finally:
        for stage in stages:
            stage.discard()


def publish(
    stages: Sequence[Staging],
    unit: Unit,
    verdict: Verdict,
    making: Making,
    contents: Contents,
    *,
    written: Mapping[Path, Output] | None = None,
    noted: Mapping[str, Any] | None = None,
    on_change: Callable[[], None] = lambda: None,
) -> None:
    """Put an output in place that was made in stagings, and its record. Where it only lost files, and they come out as they were
    recorded, or all others do, just those: all else stays, and so does what is made from it.

    Args:
        stages: together all files of the output, in the order in which they are published.
        verdict: of the look before the work.
        written: what workers wrote, beside what is known of the stagings.
        on_change: called before anything but a lost file changes.
    """
    known = {path: output for stage in stages for path, output in stage.written.items()} | dict(written or {})
    lost = remade(stages, unit, verdict, known, contents)
    if lost is not None and (
        as_recorded(verdict, lost) or _others_as_recorded(stages, unit, verdict, lost, known, contents)
    ):
        put_back(stages, unit, lost)
        return
    on_change()
    for stage in stages:
        stage.publish()
    files = files_below(*(stage.final for stage in stages))
    making.finish(described(unit.place, files, known, contents), noted=noted)


def remade(
    stages: Sequence[Staging],
    unit: Unit,
    verdict: Verdict,
    written: Mapping[Path, Output],
    contents: Contents,
) -> dict[str, Output] | None:
    """The files that an output lost, by name, as the stagings have them now; None where it is to be made as a whole."""
    if not verdict.only_lost_files:
        return None
    found: dict[str, Output] = {}
    for name in (*verdict.missing, *verdict.damaged):
        path = unit.place.base / name
        stage = next((each for each in stages if path.is_relative_to(each.final)), None)
        made = None if stage is None else stage.place(path)
        if made is None or not made.is_file() or path.is_dir():
            return None
        found[name] = written.get(path) or Output(made.stat().st_size, contents.sha256(made))
    return found


def as_recorded(verdict: Verdict, outputs: Mapping[str, Output]) -> bool:
    """Whether outputs have the recorded bytes or, of images that are encoded here, the recorded pixels."""
    then = {name: verdict.record.output(name) for name in outputs} if verdict.record is not None else {}
    return len(then) == len(outputs) and all(
        was is not None
        and (was.sha256 == outputs[name].sha256 or (was.pixels is not None and was.pixels == outputs[name].pixels))
        for name, was in then.items()
    )


def _others_as_recorded(
    stages: Sequence[Staging],
    unit: Unit,
    verdict: Verdict,
    lost: Mapping[str, Output],
    written: Mapping[Path, Output],
    contents: Contents,
) -> bool:
    """Whether all but the lost files come out as recorded: then what is new in those (a protocol names places) goes with them."""
    found: dict[str, Output] = {}
    for stage in stages:
        for made in files_below(stage.temporary):
            path = stage.final / made.relative_to(stage.temporary)
            found[unit.place.name(path)] = written.get(path) or Output(made.stat().st_size, contents.sha256(made))
    assert verdict.record is not None, "only what has a record lost files"
    others = {name: output for name, output in found.items() if name not in lost}
    return found.keys() == verdict.record.outputs.keys() and as_recorded(verdict, others)


def put_back(stages: Sequence[Staging], unit: Unit, outputs: Mapping[str, Output]) -> None:
    """Move single files out of the stagings into their places, and have the record name them as they are."""
    for name in outputs:
        path = unit.place.base / name
        stage = next(each for each in stages if path.is_relative_to(each.final))
        path.parent.mkdir(parents=True, exist_ok=True)
        stage.place(path).replace(path)
    mend(unit, outputs)


def files_below(*folders: Path) -> list[Path]:
    """Every file of an output: not records and their caches, and not what is being written."""
    found: list[Path] = []
    for base in folders:
        for place, below_it, names in os.walk(base):
            below_it[:] = sorted(name for name in below_it if not name.startswith(TEMPORARY_PREFIX))
            kept_names = (name for name in sorted(names) if not name.startswith(TEMPORARY_PREFIX))
            found += [Path(place, name) for name in kept_names if name not in _RECORDS]
    return found


def withdraw(tree: EvaluationTree, epoch: int, task: TaskTree) -> None:
    """Forget that `task` is finished at `epoch`. Where it never was, nothing happens."""
    if tree.manifest.exists():
        _forget_epoch(tree, epoch_name(epoch))
    if task.metrics_dir.exists():
        aside = storage.temporary_sibling(task.metrics_dir)
        task.metrics_dir.replace(aside)
        shutil.rmtree(aside)


def _forget_epoch(tree: EvaluationTree, name: str) -> None:
    try:
        manifest = storage.read_json(tree.manifest, EvaluationManifest)
    except InvalidFile:  # a manifest that cannot be read says nothing, and is written again at the end
        tree.manifest.unlink()
        return
    if name in manifest.eval_epochs:
        tree.manifest_made_from.unlink(missing_ok=True)
        epochs = [each for each in manifest.eval_epochs if each != name]
        storage.write_json(tree.manifest, manifest.model_copy(update={"eval_epochs": epochs}))


def verified(unit: Unit, contents: Contents | None = None) -> Verdict:
    """A look at an output that is about to be made; what an older version left is given its record first."""
    take_over(unit, contents)
    return unit.look(contents)


def described(
    place: Place, files: Sequence[Path], written: Mapping[Path, Output], contents: Contents
) -> dict[str, Output]:
    """The outputs of a record, by name; a file that was digested as it was written is not read again."""
    others = [path for path in files if path not in written]
    found = dict(zip(others, contents.sha256_of(others), strict=True))
    return {
        place.name(path): written.get(path) or Output(path.stat().st_size, found[path] or storage.sha256_file(path))
        for path in files
    }


def kept(cell: EvaluationCell, record: MadeFrom | None) -> EvaluationCell:
    """The cell by the options that its output was made with, where the experiment's file does not set them; by today's where it was
    asked for anew."""
    if record is None or record.is_asked_anew:
        return cell
    spec, then = cell.experiment, record.options

    def as_then(part: Any, name: str, *keys: str) -> Any:
        return part.model_copy(update={key: kept_part(f"{name}.{key}", getattr(part, key), then) for key in keys})

    evaluation = as_then(spec.evaluation, "evaluation", "nvs", "pose", "frames")
    generation = as_then(spec.generation, "generation", "filtering", "frames")
    if (evaluation, generation) == (spec.evaluation, spec.generation):
        return cell
    return replace(cell, experiment=spec.model_copy(update={"evaluation": evaluation, "generation": generation}))


def picked(cell: EvaluationCell, as_kept: EvaluationCell, keys: Sequence[str]) -> tuple[Options, Options]:
    """Some options of an experiment: resolved, as kept; and those of them that its file sets.

    Args:
        keys: dotted, as in the file.
    """
    if cell.experiment.evaluation.cameras:  # then the samples' cameras choose nothing
        keys = [key for key in keys if key != "generation.target_cameras"]
    resolved, _ = options_of(_parts(as_kept))
    _, given = options_of(_parts(cell))
    return _only(resolved, keys), _only(given, keys)


def _parts(cell: EvaluationCell) -> dict[str, Any]:
    return {"evaluation": cell.experiment.evaluation, "generation": cell.experiment.generation}


def _only(options: Mapping[str, Any], keys: Sequence[str]) -> Options:
    found: Options = {}
    for key in keys:
        *folders, last = key.split(".")
        source: Any = options
        for word in folders:
            source = source.get(word, {})
        if last in source:
            target = found
            for word in folders:
                target = target.setdefault(word, {})
            target[last] = source[last]
    return found


def with_step(cell: EvaluationCell, epoch: int, options: Mapping[str, Any]) -> Options:
    """The options, and which checkpoint the epoch stands for, where the experiment says it."""
    if cell.experiment.evaluation.predictions.source != "refine":
        return dict(options)
    return at_step(options, epoch, cell.epoch_steps()[epoch])


def at_step(options: Mapping[str, Any], epoch: int, step: int | None) -> Options:
    """The options, with an epoch that stands for a checkpoint, or for the unrefined render."""
    epochs = {str(epoch): "unrefined" if step is None else {"step": step}}
    return {**options, "evaluation": {**options.get("evaluation", {}), "epochs": epochs}}


def without_step(options: Mapping[str, Any]) -> Options:
    """The options of all epochs."""
    return {**options, "evaluation": {key: value for key, value in options["evaluation"].items() if key != "epochs"}}


def checkpoint_version(cell: EvaluationCell, epoch: int) -> dict[str, str]:
    """The checkpoint of an epoch that is refined, by its digest; empty where there is none, or none any more."""
    step = cell.epoch_steps()[epoch]
    if step is None:
        return {}
    try:
        info = storage.read_json(handed_off(cell.tuning_run, step).checkpoint_info(step), CheckpointInfo)
    except InvalidFile:  # gone: only making the predictions anew needs it, and says so
        return {}
    return {checkpoint_name(step): info.sha256}


def checkpoint_name(step: int) -> str:
    """How records name a checkpoint among their inputs."""
    return f"tuned_checkpoint/model_{step}"


def known_versions(record: MadeFrom | None, places: Mapping[str, Place]) -> dict[str, str]:
    """Data versions of inputs that have a record, by name.

    An output that was made before an input had a record does not name it, and is not stale for the record that came since.
    """
    return versions_of({name: place for name, place in places.items() if record is None or name in record.inputs})


def shard_version(cell: EvaluationCell, record: MadeFrom | None) -> dict[str, str]:
    """The scene's samples in the snapshot: renders are taken from there where they are."""
    place = Place(cell.difix.base, cell.difix.scene_run(cell.scene.name).made_from)
    return known_versions(record, {f"scene_runs/{cell.scene.name}": place})


def named_files(cell: EvaluationCell, paths: Iterable[Path | None]) -> Mapping[str, Path | str]:
    """Files of the scene by names that do not move with its roots (`canonical_gt/<scene>/images/4/000012.jpg`), found when asked for."""

    def find() -> dict[str, Path | str]:
        roots = cell.scene.roots
        words = [
            (f"{getattr(roots, word)}{os.sep}", word)
            for word in ("canonical_gt", "preprocessing", "registry", "renders")
        ]
        named: dict[str, Path | str] = {}
        for path in paths:
            if path is not None:
                text = str(path)
                label = next((f"{word}/{text[len(root) :]}" for root, word in words if text.startswith(root)), text)
                named[label] = path
        return named

    return FilesToFind(find)


def choosing_files(cell: EvaluationCell) -> list[Path]:
    """The files that say which camera is the source and which frames are skipped."""
    tree, generation = cell.scene.tree, cell.experiment.generation
    paths = [tree.registry_entry] if generation.source_camera == "registry" else []
    return [*paths, *(each.skip_frames for each in (tree.ground_truth, tree.estimated) if cell.applies_skip_frames)]


def below(word: str, base: Path, paths: Iterable[Path]) -> dict[str, Path]:
    """Files by `<word>/<path below base>`."""
    return {f"{word}/{path.relative_to(base).as_posix()}": path for path in paths}


def holds(path: Path, key: str) -> bool:
    """Whether a side file is of a version that wrote no records: it has the digest that it went by.

    What a killed process of ours left is no such file: it is made again.
    """
    try:
        value = storage.read_json_value(path)
    except InvalidFile:
        return False
    return isinstance(value, dict) and key in value


def older_of(side_file: Path) -> Older | None:
    """A folder of a version that wrote no records, by the side file in it."""
    return Older(files_below(side_file.parent)) if holds(side_file, "input_digest") else None
