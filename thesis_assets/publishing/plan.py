"""The plan of a publication: which recordings go where in a Hugging Face dataset repo, and what was refused. Reads only.

A recording becomes a file to publish: place, kind, digests, numbers, pictures. Does not belong here: talking to the Hub, the card,
what changed since the last publication.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, InvalidKey
from thesis_assets.experiments.spec import DatasetEntry
from thesis_assets.layout import TASKS, DifixTree, EvaluationTree, SampleId, check_key, dataset_of
from thesis_assets.publishing.licences import check_may_be_shared, licence_of
from thesis_assets.recordings.recording import recording_facts
from thesis_assets.schemas.evaluation import EvaluationManifest, parse_results
from thesis_assets.schemas.recordings import PublishedFile, RecordingKind

SHOWN_METRICS = ("psnr", "ssim", "lpips", "rr_mpjpe_mm", "pa_mpjpe_mm")
"""What a card says of an epoch; the pose metrics are those of SMPL-X where both models are evaluated."""
UNKNOWN_DATASET = "unknown"
# A namespace and a name of the Hub: letters, digits, `.`, `_`, `-`; no leading or doubled separators; 96 characters a part.
_REPO_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9]|[._-](?=[A-Za-z0-9])){0,95}")


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


@dataclass(frozen=True)
class PublicationPlan:
    """What a publication would send; it needs no token and changes nothing.

    Attributes:
        licences: of every dataset that the recordings show, by its name.
    """

    repo_id: str
    files: tuple[PlannedFile, ...]
    warnings: tuple[str, ...]
    licences: Mapping[str, str]

    @property
    def total_bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def commands(self) -> tuple[str, ...]:
        """The equivalent commands of the Hub's own tool, for a shell."""
        return tuple(
            shlex.join(["hf", "upload", self.repo_id, str(file.local), file.path_in_repo, "--repo-type=dataset"])
            for file in self.files
        )

    @property
    def markdown(self) -> str:
        """A table of the files, the commands, the warnings."""
        rows = [f"| {file.path_in_repo} | {file.bytes} | {file.published.sha256[:12]} |" for file in self.files]
        table = ["| path in repo | bytes | sha256 |", "| --- | ---: | --- |", *rows]
        commands = ["```bash", *self.commands, "```"]
        warnings = [f"- {warning}" for warning in self.warnings]
        total = f"{len(self.files)} recordings, {self.total_bytes} bytes, to the dataset repo `{self.repo_id}`"
        return "\n".join([total, "", *table, "", *commands, "", *warnings]).rstrip() + "\n"


def plan_publication(
    trees: Sequence[EvaluationTree],
    repo_id: str,
    *,
    tuning_run: tuple[DifixTree, str] | None = None,
    datasets: Mapping[str, DatasetEntry] | None = None,
) -> PublicationPlan:
    """Plan the upload of every recording of evaluation trees, and of a tuning run's. Nothing is sent.

    Args:
        trees: of one or several cells; each one's `manifest.json` names its experiment, run and scene.
        tuning_run: data tree and run whose `triplets.rrd` goes along where it is there.
        datasets: what the experiment file says about the datasets.

    Raises:
        NotForSharing: a recording shows a dataset whose licence forbids passing it on. Nothing is planned then.
        InvalidKey: `repo_id` is not `<user or organisation>/<name>`.
        InvalidFile: a manifest is missing, a recording has no record or is not the one it describes, or there is none.
    """
    check_repo_id(repo_id)
    entries = datasets or {}
    files = [file for tree in trees for file in _scene_files(tree)]
    if tuning_run is not None:
        files += _triplet_files(*tuning_run)
    shown = sorted({name for file in files for name in file.published.datasets})
    warnings = check_may_be_shared(shown, entries)
    if not files:
        raise InvalidFile(
            "there is no recording to publish",
            file=trees[0].rerun_dir if trees else None,
            wanted="rerun/*.rrd",
            remedy="`thesis-assets run --exp <name> --run <run> --until evaluation_recordings` makes them",
        )
    _refuse_shared_places(files)
    return PublicationPlan(
        repo_id,
        tuple(sorted(files, key=lambda file: file.path_in_repo)),
        tuple(warnings),
        {name: licence_of(name, entries).name for name in shown},
    )


def check_repo_id(repo_id: str) -> str:
    """Return `repo_id` if it names a repo of the Hub, with its owner.

    Raises:
        InvalidKey: it does not.
    """
    parts = repo_id.split("/")
    if len(parts) != 2 or not all(_REPO_PART.fullmatch(part) for part in parts) or repo_id.endswith(".git"):
        raise InvalidKey(
            "not a dataset repo of the Hub",
            key="repo_id",
            found=ascii(repo_id[:200]),
            wanted="<user or organisation>/<name>",
            remedy="set HF_RERUN_REPO_ID, or leave it unset to publish nothing",
        )
    return repo_id


def _refuse_shared_places(files: Sequence[PlannedFile]) -> None:
    """Two trees that name the same run and scene would overwrite each other in the repo."""
    seen: dict[str, Path] = {}
    for file in files:
        if file.path_in_repo in seen:
            raise InvalidFile(
                "two recordings would have one place in the repo",
                file=file.local,
                key=file.path_in_repo,
                found=str(seen[file.path_in_repo]),
            )
        seen[file.path_in_repo] = file.local


# --- the recordings of an evaluation tree and of a tuning run --------------------------------------------------------


def _scene_files(tree: EvaluationTree) -> list[PlannedFile]:
    """The recordings of one evaluated scene. An epoch that was split by task goes up as its tasks' files, not also whole."""
    manifest = storage.read_json(tree.manifest, EvaluationManifest)
    if not isinstance(manifest.notes.get("run_name"), str):
        raise InvalidFile(
            "the manifest does not name its run",
            file=tree.manifest,
            key="notes.run_name",
            found=manifest.notes.get("run_name"),
            remedy="`thesis-assets run --exp <name> --run <run> --force evaluation_manifest` writes it anew",
        )
    run_name = check_key(str(manifest.notes["run_name"]), "run_name")
    exp_name, scene_name = check_key(manifest.exp_name, "exp_name"), check_key(manifest.scene_name, "scene_name")
    folder = f"{exp_name}/{run_name}/{scene_name}/{tree.rerun_dir.name}"
    recordings = {path: _kind(tree, path) for path in sorted(tree.rerun_dir.glob("*.rrd"))}
    split = {epoch for kind, epoch in recordings.values() if kind in TASKS}
    return [
        _planned(
            local,
            folder,
            kind=kind,
            exp_name=exp_name,
            run_name=run_name,
            scene_name=scene_name,
            epoch=epoch,
            metrics=_metrics(tree, kind, epoch),
            datasets=[dataset_of(scene_name)],
        )
        for local, (kind, epoch) in recordings.items()
        if not (kind == "evaluation" and epoch in split)
    ]


def _triplet_files(tree: DifixTree, run_name: str) -> list[PlannedFile]:
    """The recording of a tuning run, where there is one."""
    from thesis_assets.recordings.triplets import chosen_samples

    local = tree.tuning_run(run_name).triplet_recording
    if not local.is_file():
        return []
    datasets = sorted({_dataset_of_sample(sample.sample_id) for sample in chosen_samples(tree)})
    folder = f"{tree.exp_name}/{run_name}/{local.parent.name}"
    of_run = {"exp_name": tree.exp_name, "run_name": run_name, "scene_name": None, "epoch": None}
    return [_planned(local, folder, kind="triplets", metrics={}, datasets=datasets, **of_run)]


def _planned(local: Path, folder: str, **what: Any) -> PlannedFile:
    """A recording as a file to publish. `folder`: in the repo; `what`: it shows, as fields of `PublishedFile`."""
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
    published = PublishedFile(
        path=f"{folder}/{local.name}",
        bytes=facts.bytes,
        sha256=sha256,
        data_version=facts.data_version,
        rerun_sdk=facts.rerun_sdk,
        previews=[f"{folder}/{picture.parent.name}/{picture.name}" for picture in previews],
        **what,
    )
    return PlannedFile(local, published, tuple(previews))


def _kind(tree: EvaluationTree, path: Path) -> tuple[RecordingKind, int | None]:
    return tree.recording_of(path)  # type: ignore[return-value]


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
    from thesis_assets.recordings.previews import current_previews, main_pictures

    record = current_previews(local)
    folder = EvaluationTree.recording_previews(local)
    return [folder / picture.file for picture in main_pictures(record)] if record else []


def _dataset_of_sample(sample_id: str) -> str:
    try:
        return dataset_of(SampleId.parse(sample_id, accept_older=True).scene_name)
    except InvalidKey:  # an id of another pipeline: its licence cannot be known
        return UNKNOWN_DATASET
