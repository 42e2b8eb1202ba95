"""One publication: what changed since the last one goes up in one commit, with the card; what was sent is recorded.

The repo's own `recordings.json` says which data version each recording there has, so that several machines and
runs can share a repo. Does not belong here: the plan, the client of the Hub, the card's text.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.qualitative.made_from import recording_facts
from thesis_assets.evaluation.qualitative.verification import rerun_binary, verify_recording
from thesis_assets.layout import TEMPORARY_PREFIX, DifixTree, EvaluationTree, TuningRunTree
from thesis_assets.provenance import Older, Place, Unit, Wanted, begin
from thesis_assets.publishing.card import card
from thesis_assets.publishing.hub import HubRepo, HubUnavailable, RepoState, git_sha1
from thesis_assets.publishing.plan import PlannedFile, PublicationPlan
from thesis_assets.schemas.recordings import PublicationIndex, PublicationRecord

STEP_NAME, PUBLISH_VERSION = "published_recordings", "1"
INDEX, README = "recordings.json", "README.md"
ATTEMPTS = 6
FIRST_WAIT, LONGEST_WAIT = 2.0, 120.0
OPTIMISE_SECONDS = 3600.0


@dataclass(frozen=True)
class _Changes:
    """What a commit would add, and what the repo holds afterwards."""

    additions: dict[str, Path | bytes]
    index: PublicationIndex
    recordings: list[str]


def publication_units(
    trees: Mapping[str, EvaluationTree], difix: DifixTree, run_name: str, repo_id: str | None
) -> list[Unit]:
    """The publication of a run's recordings; none where no repo is named. The arguments are those of `publication_unit`."""
    return [] if repo_id is None else [publication_unit(trees, difix, run_name, repo_id)]


def publication_unit(trees: Mapping[str, EvaluationTree], difix: DifixTree, run_name: str, repo_id: str) -> Unit:
    """`published.json` of a run, made from the recordings that are there.

    Args:
        trees: evaluated scene to its tree.
    """
    run = difix.tuning_run(run_name)
    recordings = {
        f"{scene}/{path.name}": path for scene, tree in trees.items() for path in tree.rerun_dir.glob("*.rrd")
    }
    recordings[run.triplet_recording.name] = run.triplet_recording
    made = {}
    for name, path in sorted(recordings.items()):
        with contextlib.suppress(InvalidFile):  # not made yet, or somebody's own
            made[name] = recording_facts(path).data_version
    wanted = Wanted(STEP_NAME, PUBLISH_VERSION, options={"repo_id": repo_id}, made=made, of_outputs=True)
    place = Place(run.base, run.made_from(STEP_NAME))
    return Unit(f"publication of {difix.exp_name}/{run_name}", place, wanted, lambda: _older(run.publication, repo_id))


def _older(publication: Path, repo_id: str) -> Older | None:
    try:
        was_sent = storage.read_json(publication, PublicationRecord).repo_id == repo_id
    except InvalidFile:
        return None
    return Older([publication]) if was_sent else None


def publish(
    plan: PublicationPlan,
    unit: Unit,
    *,
    private: bool = True,
    endpoint: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
    on_progress: Callable[[str], None] | None = None,
) -> PublicationRecord:
    """Send a plan's changed recordings to the Hub and write the run's `published.json`; without changes there is no commit.

    Each attempt reads the repo anew, so that one whose answer was lost is not repeated, and nobody's commit is undone.

    Args:
        unit: of the publication, see `publication_unit`.
        private: whether a repo that is not there yet is made private; one that is there stays as it is.
        endpoint: of the Hub; None = `HF_ENDPOINT`, else the public one.

    Raises:
        HubRefused: no token, a wrong one, or one that may not write.
        HubUnavailable: the Hub did not take it in `ATTEMPTS` attempts. Nothing is recorded.
    """
    making = begin(unit)
    repo = HubRepo(plan.repo_id, endpoint=endpoint)
    say = on_progress or (lambda line: None)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=plan.files[0].local.parent) as folder:
        staged: dict[Path, PlannedFile] = {}

        def attempt() -> PublicationRecord:
            state = repo.state(private_if_new=private)
            changes = _changes(plan, repo, state, Path(folder), staged, say)
            return _sent(plan, repo, state, changes, say)

        published = _with_retries(attempt, sleep, say)
    record = TuningRunTree(unit.place.base).publication
    storage.write_json(record, published)
    making.finish([record])
    return published


def _with_retries(
    attempt: Callable[[], PublicationRecord], sleep: Callable[[float], None], say: Callable[[str], None]
) -> PublicationRecord:
    for number in range(1, ATTEMPTS + 1):
        try:
            return attempt()
        except HubUnavailable as error:
            if number == ATTEMPTS:
                error.problem += f" (asked {ATTEMPTS} times)"
                raise
            wait = min(LONGEST_WAIT, error.wait if error.wait is not None else FIRST_WAIT * 2 ** (number - 1))
            say(f"{error.problem}; again in {wait:.0f} s ({number} of {ATTEMPTS})")
            sleep(wait)
    raise AssertionError


def _sent(
    plan: PublicationPlan, repo: HubRepo, state: RepoState, changes: _Changes, say: Callable[[str], None]
) -> PublicationRecord:
    revision, url = state.revision, f"{repo.endpoint}/datasets/{repo.repo_id}/commit/{state.revision}"
    if changes.additions:
        say(f"sending {len(changes.additions)} files, {len(changes.recordings)} of them recordings, to {repo.repo_id}")
        revision, url = repo.commit(changes.additions, _message(plan, changes), parent=state.revision)
    else:
        say(f"{repo.repo_id} has it all: nothing to send")
    ours = {file.path_in_repo for file in plan.files}
    return PublicationRecord(
        repo_id=repo.repo_id,
        endpoint=repo.endpoint,
        private=state.private,
        revision=revision,
        url=url,
        files=[file for file in changes.index.files if file.path in ours],
        sent=changes.recordings,
    )


def _changes(
    plan: PublicationPlan,
    repo: HubRepo,
    state: RepoState,
    folder: Path,
    staged: dict[Path, PlannedFile],
    say: Callable[[str], None],
) -> _Changes:
    """Compare a plan with what is in the repo: by data version, and by the bytes that the repo says it holds."""
    there_now = _index(repo, state, say)
    known = {file.path: file for file in there_now.files if file.path in state.files}
    additions: dict[str, Path | bytes] = {}
    sent = []
    for file in plan.files:
        there = known.get(file.path_in_repo)
        in_repo = state.files.get(file.path_in_repo)
        untouched = there and in_repo and in_repo.sha256 in (None, there.sha256) and in_repo.bytes == there.bytes
        if there is None or not untouched or there.data_version != file.published.data_version:
            ready = staged.get(file.local) or _optimised(file, folder, say)
            staged[file.local] = ready
            additions[file.path_in_repo] = ready.local
            known[file.path_in_repo] = ready.published
            sent.append(file.path_in_repo)
        elif there != (described := file.published.model_copy(update={"bytes": there.bytes, "sha256": there.sha256})):
            known[file.path_in_repo] = described  # new pictures or numbers of a recording that is the same
        for path, picture in zip(file.published.previews, file.previews, strict=True):
            if not _holds(state, path, picture):
                additions[path] = picture
    licences = {**there_now.licences, **plan.licences}
    index = PublicationIndex(files=sorted(known.values(), key=lambda file: file.path), licences=licences)
    existing = repo.read(README, state.revision).decode("utf-8") if README in state.files else None
    text = card(index, repo.repo_id, endpoint=repo.endpoint, private=state.private, existing=existing)
    for path, content in ((INDEX, storage.to_json_bytes(index)), (README, text.encode("utf-8"))):
        if path not in state.files or state.files[path].git_sha1 != git_sha1(content):
            additions[path] = content
    return _Changes(additions, index, sent)


def _holds(state: RepoState, path: str, local: Path) -> bool:
    there = state.files.get(path)
    if there is None or there.bytes != local.stat().st_size:
        return False
    return (
        there.sha256 == storage.sha256_file(local) if there.sha256 else there.git_sha1 == git_sha1(local.read_bytes())
    )


def _index(repo: HubRepo, state: RepoState, say: Callable[[str], None]) -> PublicationIndex:
    """The repo's index; one that cannot be read counts as none: everything is then sent again."""
    if INDEX not in state.files:
        return PublicationIndex()
    try:
        return PublicationIndex.model_validate_json(repo.read(INDEX, state.revision))
    except ValidationError as error:
        say(f"{INDEX} of {repo.repo_id} is not one of ours ({error.error_count()} faults): all recordings are sent")
        return PublicationIndex()


def _optimised(file: PlannedFile, folder: Path, say: Callable[[str], None]) -> PlannedFile:
    """The recording with its chunks merged, for reading over a network; verified before it is sent.

    Raises:
        InvalidFile: the SDK's program cannot, or what it wrote does not load.
    """
    target = folder / f"{len(list(folder.iterdir())):04d}.rrd"
    say(f"preparing {file.path_in_repo}")
    finished = subprocess.run(
        [str(rerun_binary()), "rrd", "optimize", "-o", str(target), str(file.local)],
        capture_output=True,
        text=True,
        timeout=OPTIMISE_SECONDS,
        check=False,
        env={"CI": "1", "NO_COLOR": "1"},
    )
    problem = finished.stderr[-300:] if finished.returncode else "; ".join(verify_recording(target).offenders)
    if problem:
        raise InvalidFile(
            "the recording cannot be prepared for sharing", file=file.local, found=problem, remedy="export it again"
        )
    update = {"bytes": target.stat().st_size, "sha256": storage.sha256_file(target)}
    return PlannedFile(target, file.published.model_copy(update=update), file.previews)


def _message(plan: PublicationPlan, changes: _Changes) -> str:
    runs = sorted({f"{file.published.exp_name}/{file.published.run_name}" for file in plan.files})
    if not changes.recordings:
        return f"Update the card and pictures of {', '.join(runs)}"
    return f"{len(changes.recordings)} recordings of {', '.join(runs)}"
