"""The plan of a publication: which recordings go where in a Hugging Face dataset repo, and what was refused. Reads only.

Does not belong here: talking to the Hub, the card.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from thesis_assets.errors import InvalidFile, InvalidKey
from thesis_assets.experiments.spec import DatasetEntry
from thesis_assets.layout import DifixTree, EvaluationTree
from thesis_assets.publishing.licences import check_may_be_shared, licence_of
from thesis_assets.publishing.planned_files import PlannedFile, planned_scene, planned_triplets

# A namespace and a name of the Hub: letters, digits, `.`, `_`, `-`; no leading or doubled separators; 96 characters a part.
_REPO_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9]|[._-](?=[A-Za-z0-9])){0,95}")


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
    files = [file for tree in trees for file in planned_scene(tree)]
    if tuning_run is not None:
        files += planned_triplets(*tuning_run)
    shown = sorted({name for file in files for name in file.published.datasets})
    warnings = check_may_be_shared(shown, entries)
    if not files:
        raise InvalidFile(
            "there is no recording to publish",
            file=trees[0].rerun_dir if trees else None,
            wanted="rerun/*.rrd",
            remedy="materialize `input_data_recording` and `evaluation_recordings` first",
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
