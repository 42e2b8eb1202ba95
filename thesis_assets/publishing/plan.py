"""The plan of a publication: which recordings go where in a Hugging Face dataset repo, and what was refused. Reads only.

Does not belong here: talking to the Hub.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, InvalidKey, NotBuiltYet
from thesis_assets.layout import EvaluationTree, check_key, dataset_of
from thesis_assets.publishing.licences import check_may_be_shared
from thesis_assets.schemas.evaluation import EvaluationManifest, RecordingDigest

# A namespace and a name of the Hub: letters, digits, `.`, `_`, `-`; no leading or doubled separators; 96 characters a part.
_REPO_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9]|[._-](?=[A-Za-z0-9])){0,95}")


@dataclass(frozen=True)
class PlannedFile:
    """One recording to publish.

    Attributes:
        path_in_repo: `<exp>/<run>/<scene>/rerun/<name>.rrd`.
        sha256: of the file's bytes.
        input_digest: of what the recording was made from; it decides whether the file goes up again.
    """

    local: Path
    path_in_repo: str
    bytes: int
    sha256: str
    input_digest: str


@dataclass(frozen=True)
class PublicationPlan:
    """What a publication would send; it needs no token and changes nothing."""

    repo_id: str
    files: tuple[PlannedFile, ...]
    warnings: tuple[str, ...]

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
        rows = [f"| {file.path_in_repo} | {file.bytes} | {file.sha256[:12]} |" for file in self.files]
        table = ["| path in repo | bytes | sha256 |", "| --- | ---: | --- |", *rows]
        commands = ["```bash", *self.commands, "```"]
        warnings = [f"- {warning}" for warning in self.warnings]
        total = f"{len(self.files)} recordings, {self.total_bytes} bytes, to the dataset repo `{self.repo_id}`"
        return "\n".join([total, "", *table, "", *commands, "", *warnings]).rstrip() + "\n"


def plan_publication(
    trees: Sequence[EvaluationTree], repo_id: str, *, redistribution: Mapping[str, bool] | None = None
) -> PublicationPlan:
    """Plan the upload of every recording of evaluation trees. Nothing is sent.

    Args:
        trees: of one or several cells; each one's `manifest.json` names its experiment, run and scene.
        redistribution: dataset to whether it may be passed on, where an entry of the user says so.

    Raises:
        NotForSharing: a tree shows a dataset whose licence forbids passing it on. Nothing is planned then.
        InvalidKey: `repo_id` is not `<user or organisation>/<name>`.
        InvalidFile: a manifest is missing, a recording has no side file or is not the one it describes, or there is none.
    """
    check_repo_id(repo_id)
    manifests = [_manifest(tree) for tree in trees]
    warnings = check_may_be_shared([dataset_of(manifest.scene_name) for manifest in manifests], redistribution or {})
    files = [
        file
        for tree, manifest in zip(trees, manifests, strict=True)
        for file in _files_of(tree, _place_of(tree, manifest))
    ]
    if not files:
        raise InvalidFile(
            "there is no recording to publish",
            file=trees[0].rerun_dir if trees else None,
            wanted="rerun/*.rrd",
            remedy="materialize `input_data_recording` and `evaluation_recordings` first",
        )
    _refuse_shared_places(files)
    return PublicationPlan(repo_id, tuple(sorted(files, key=lambda file: file.path_in_repo)), tuple(warnings))


def publish(plan: PublicationPlan, *, dry_run: bool) -> PublicationPlan:
    """Send a plan to the Hub. A dry run only gives the plan back.

    Raises:
        NotBuiltYet: `dry_run` is off.
    """
    if not dry_run:
        raise NotBuiltYet(
            "uploading recordings is not built yet; this version plans only",
            key="dry_run",
            found=False,
            wanted=True,
            remedy="run the planned commands yourself:\n" + "\n".join(plan.commands),
        )
    return plan


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


def _place_of(tree: EvaluationTree, manifest: EvaluationManifest) -> str:
    """`<exp>/<run>/<scene>/rerun`; the names come from a file, so each is checked before it becomes a path."""
    run_name = check_key(str(manifest.notes["run_name"]), "run_name")
    exp_name, scene_name = check_key(manifest.exp_name, "exp_name"), check_key(manifest.scene_name, "scene_name")
    return f"{exp_name}/{run_name}/{scene_name}/{tree.rerun_dir.name}"


def _files_of(tree: EvaluationTree, place: str) -> list[PlannedFile]:
    files = []
    for local in sorted(tree.rerun_dir.glob("*.rrd")):
        digest = storage.read_json(tree.recording_digest(local), RecordingDigest)
        size = local.stat().st_size
        if digest.bytes != size:
            raise InvalidFile(
                "the recording is not the one that its side file describes",
                file=local,
                found=f"{size} bytes",
                wanted=f"{digest.bytes} bytes",
                remedy="export it again",
            )
        files.append(PlannedFile(local, f"{place}/{local.name}", size, storage.sha256_file(local), digest.input_digest))
    return files


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
