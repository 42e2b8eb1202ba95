"""The recordings of an evaluation tree and of a tuning run as files to publish: place, kind, digests, numbers, pictures.

Does not belong here: whether they may be passed on, what of them changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, InvalidKey
from thesis_assets.evaluation.qualitative.made_from import recording_facts
from thesis_assets.layout import TASKS, DifixTree, EvaluationTree, SampleId, check_key, dataset_of
from thesis_assets.layout_ids import ids_of
from thesis_assets.schemas.evaluation import EvaluationManifest, parse_results
from thesis_assets.schemas.publishing import PublishedFile, RecordingKind

SHOWN_METRICS = ("psnr", "ssim", "lpips", "rr_mpjpe_mm", "pa_mpjpe_mm")
"""What a card says of an epoch; the pose metrics are those of SMPL-X where both models are evaluated."""
UNKNOWN_DATASET = "unknown"


@dataclass(frozen=True)
class PlannedFile:
    """One recording to publish.

    Attributes:
        published: as the repo's index will say; its `sha256` and `bytes` are those of `local` until it is sent.
        previews: pictures, in the order of `published.previews`.
    """

    local: Path
    published: PublishedFile
    previews: tuple[Path, ...] = ()

    @property
    def path_in_repo(self) -> str:
        return self.published.path

    @property
    def bytes(self) -> int:
        return self.published.bytes


def planned_scene(tree: EvaluationTree) -> list[PlannedFile]:
    """The recordings of one evaluated scene. An epoch that was split by task goes up as its tasks' files, not also whole.

    Raises:
        InvalidFile: the manifest is missing, or a recording is not the one that its record describes.
        InvalidKey: a name in the manifest is no key, or a recording is none of the tree's own.
    """
    manifest = _manifest(tree)
    run_name = check_key(str(manifest.notes["run_name"]), "run_name")
    exp_name, scene_name = check_key(manifest.exp_name, "exp_name"), check_key(manifest.scene_name, "scene_name")
    place = f"{exp_name}/{run_name}/{scene_name}/{tree.rerun_dir.name}"
    recordings = {path: _kind(tree, path) for path in sorted(tree.rerun_dir.glob("*.rrd"))}
    split = {epoch for kind, epoch in recordings.values() if kind in TASKS}
    return [
        _planned(
            local,
            f"{place}/{local.name}",
            kind=kind,
            names=(exp_name, run_name, scene_name),
            epoch=epoch,
            metrics=_metrics(tree, kind, epoch),
            datasets=[dataset_of(scene_name)],
        )
        for local, (kind, epoch) in recordings.items()
        if not (kind == "evaluation" and epoch in split)
    ]


def planned_triplets(tree: DifixTree, run_name: str) -> list[PlannedFile]:
    """The recording of a tuning run, where there is one.

    Raises:
        InvalidFile: it is not the one that its record describes, or its samples cannot be named.
    """
    from thesis_assets.evaluation.qualitative.triplets import chosen_samples

    local = tree.tuning_run(run_name).triplet_recording
    if not local.is_file():
        return []
    datasets = sorted({_dataset_of_sample(sample.sample_id) for sample in chosen_samples(tree)})
    return [
        _planned(
            local,
            f"{tree.exp_name}/{run_name}/{local.parent.name}/{local.name}",
            kind="triplets",
            names=(tree.exp_name, run_name, None),
            epoch=None,
            metrics={},
            datasets=datasets,
        )
    ]


def _planned(
    local: Path,
    path: str,
    *,
    kind: RecordingKind,
    names: tuple[str, str, str | None],
    epoch: int | None,
    metrics: dict[str, float],
    datasets: Sequence[str],
) -> PlannedFile:
    facts, size, sha256 = recording_facts(local), local.stat().st_size, storage.sha256_file(local)
    if facts.bytes != size or facts.sha256 not in (None, sha256):
        raise InvalidFile(
            "the recording is not the one that its record describes",
            file=local,
            found=f"{size} bytes, {sha256[:12]}",
            wanted=f"{facts.bytes} bytes, {(facts.sha256 or sha256)[:12]}",
            remedy="export it again",
        )
    previews = _previews(local)
    folder = path.rpartition("/")[0]
    published = PublishedFile(
        path=path,
        kind=kind,
        exp_name=names[0],
        run_name=names[1],
        scene_name=names[2],
        epoch=epoch,
        bytes=facts.bytes,
        sha256=sha256,
        data_version=facts.data_version,
        rerun_sdk=facts.rerun_sdk,
        metrics=metrics,
        datasets=list(datasets),
        previews=[f"{folder}/{picture.parent.name}/{picture.name}" for picture in previews],
    )
    return PlannedFile(local, published, tuple(previews))


def _manifest(tree: EvaluationTree) -> EvaluationManifest:
    manifest = storage.read_json(tree.manifest, EvaluationManifest)
    if not isinstance(manifest.notes.get("run_name"), str):
        raise InvalidFile(
            "the manifest does not name its run",
            file=tree.manifest,
            key="notes.run_name",
            found=manifest.notes.get("run_name"),
            remedy="materialize `evaluation_manifest` again",
        )
    return manifest


def _kind(tree: EvaluationTree, path: Path) -> tuple[RecordingKind, int | None]:
    if path == tree.input_data_recording:
        return "input_data", None
    place = ids_of(tree, path)
    if place.kind == "evaluation_recording":
        return "evaluation", int(str(place.ids["epoch"]))
    task = next(name for name in TASKS if place.kind == f"{name}/recording")
    return task, int(str(place.ids["epoch"]))  # type: ignore[return-value]


def _metrics(tree: EvaluationTree, kind: RecordingKind, epoch: int | None) -> dict[str, float]:
    """The overall numbers of an epoch that a card shows; what cannot be read is left out."""
    if epoch is None:
        return {}
    found: dict[str, float] = {}
    for name in TASKS if kind == "evaluation" else (kind,):
        task = tree.task(epoch, name)
        try:
            values = parse_results((task.nvs_results if name == "nvs" else task.pose_results).read_text("utf-8"))
        except (OSError, ValueError):  # the task was not evaluated; its own check says so
            continue
        for metric in SHOWN_METRICS:
            if math.isfinite(values.get(metric, math.nan)):
                found.setdefault(metric, values[metric])
    return found


def _previews(local: Path) -> list[Path]:
    """One picture a page of the recording, the first page first; none where there are no current ones."""
    from thesis_assets.evaluation.qualitative.previews import current_previews, main_pictures

    record = current_previews(local)
    folder = EvaluationTree.recording_previews(local)
    return [folder / picture.file for picture in main_pictures(record)] if record else []


def _dataset_of_sample(sample_id: str) -> str:
    try:
        return dataset_of(SampleId.parse(sample_id, accept_older=True).scene_name)
    except InvalidKey:  # an id of another pipeline: its licence cannot be known
        return UNKNOWN_DATASET
