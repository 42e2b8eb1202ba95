"""One publication: what changed since the last one goes up in one commit, with the card; what was sent is recorded.

The repo's own `recordings.json` says which data version each recording there has, so that several machines and
runs can share a repo. The Hub's token is the environment's or that of the Hub's own login. It goes into the client and nowhere else:
no message holds it. Does not belong here: the plan, the card's text.
"""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.layout import TEMPORARY_PREFIX, DifixTree, EvaluationTree, TuningRunTree
from thesis_assets.provenance import CODE_VERSIONS, Older, Place, Unit, Wanted, begin
from thesis_assets.publishing.card import card
from thesis_assets.publishing.plan import PlannedFile, PublicationPlan
from thesis_assets.recordings.recording import recording_facts
from thesis_assets.recordings.verification import rerun_binary, verify_recording
from thesis_assets.schemas.recordings import PublicationIndex, PublicationRecord

STEP_NAME = "published_recordings"
INDEX, README = "recordings.json", "README.md"
ATTEMPTS = 6
FIRST_WAIT, LONGEST_WAIT = 2.0, 120.0
OPTIMISE_SECONDS = 3600.0
REPO_TYPE = "dataset"
DEFAULT_BRANCH = "main"
_CONFLICTS = (409, 412)
_NETWORK = (
    "ConnectError",
    "ReadError",
    "WriteError",
    "RemoteProtocolError",
    "Timeout",
    "ConnectionError",
    "NetworkError",
)


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
    wanted = Wanted(STEP_NAME, CODE_VERSIONS[STEP_NAME], options={"repo_id": repo_id}, made=made, of_outputs=True)
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
            additions, index, sent = _changes(plan, repo, state, Path(folder), staged, say)
            revision, url = state.revision, f"{repo.endpoint}/datasets/{repo.repo_id}/commit/{state.revision}"
            if additions:
                say(f"sending {len(additions)} files, {len(sent)} of them recordings, to {repo.repo_id}")
                revision, url = repo.commit(additions, _message(plan, sent), parent=state.revision)
            else:
                say(f"{repo.repo_id} has it all: nothing to send")
            ours = {file.path_in_repo for file in plan.files}
            return PublicationRecord(
                repo_id=repo.repo_id,
                endpoint=repo.endpoint,
                private=state.private,
                revision=revision,
                url=url,
                files=[file for file in index.files if file.path in ours],
                sent=sent,
            )

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


def _changes(
    plan: PublicationPlan,
    repo: HubRepo,
    state: RepoState,
    folder: Path,
    staged: dict[Path, PlannedFile],
    say: Callable[[str], None],
) -> tuple[dict[str, Path | bytes], PublicationIndex, list[str]]:
    """What a commit would add, the index and the recordings that it sends: by data version, and by the bytes that the repo holds."""
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
    return additions, index, sent


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


def _message(plan: PublicationPlan, sent: list[str]) -> str:
    runs = ", ".join(sorted({f"{file.published.exp_name}/{file.published.run_name}" for file in plan.files}))
    return f"{len(sent)} recordings of {runs}" if sent else f"Update the card and pictures of {runs}"


# --- the Hub, through its own client; its refusals in our words ------------------------------------------------------


class HubRefused(ThesisAssetsError):
    """The Hub will not do it, however often it is asked."""


class HubUnavailable(ThesisAssetsError):
    """The Hub cannot do it now (429, 5xx, the network). `wait`: seconds after which it wants to be asked again, if it says so."""

    wait: float | None = None


class HubMoved(HubUnavailable):
    """Somebody else committed meanwhile: what is there must be read again."""


@dataclass(frozen=True)
class RepoFile:
    """A file in a repo: its size, and the digest of its bytes (sha256 where it lies in LFS, else git's)."""

    bytes: int
    sha256: str | None
    git_sha1: str


@dataclass(frozen=True)
class RepoState:
    """A repo at one revision."""

    revision: str
    private: bool
    files: Mapping[str, RepoFile]


class HubRepo:
    """One dataset repo of the Hub.

    Args:
        endpoint: None = `HF_ENDPOINT`, else the public Hub. It receives the token.

    Raises:
        HubRefused: there is no token.
    """

    def __init__(self, repo_id: str, *, endpoint: str | None = None) -> None:
        import huggingface_hub

        token = huggingface_hub.get_token()
        if token is None:
            raise HubRefused(
                "there is no token for the Hub",
                key="HF_TOKEN",
                remedy="`hf auth login` (it keeps the token), or set HF_TOKEN; `--dry-run` needs none",
            )
        self.repo_id = repo_id
        self._token = token
        self._api = huggingface_hub.HfApi(endpoint=endpoint, token=token)

    @property
    def endpoint(self) -> str:
        return str(self._api.endpoint)

    def state(self, *, private_if_new: bool) -> RepoState:
        """The repo at the head of its main branch; it is made where it is not there.

        Raises:
            HubRefused, HubUnavailable.
        """
        from huggingface_hub import hf_api

        with self._explained("read the repo"):
            info = self._info()
            if info is None:
                self._api.create_repo(self.repo_id, repo_type=REPO_TYPE, private=private_if_new, exist_ok=True)
                info = self._api.repo_info(self.repo_id, repo_type=REPO_TYPE)
            entries = self._api.list_repo_tree(
                self.repo_id, recursive=True, revision=str(info.sha), repo_type=REPO_TYPE
            )
            files = {
                entry.path: RepoFile(entry.size, entry.lfs.sha256 if entry.lfs else None, entry.blob_id)
                for entry in entries
                if isinstance(entry, hf_api.RepoFile)
            }
            return RepoState(str(info.sha), bool(info.private), files)

    def read(self, path: str, revision: str) -> bytes:
        """A file of the repo at a revision.

        Raises:
            HubRefused, HubUnavailable.
        """
        with self._explained(f"read {path}"), tempfile.TemporaryDirectory() as folder:
            local = self._api.hf_hub_download(
                self.repo_id, path, repo_type=REPO_TYPE, revision=revision, local_dir=folder
            )
            return Path(local).read_bytes()

    def commit(self, additions: Mapping[str, Path | bytes], message: str, *, parent: str) -> tuple[str, str]:
        """Add or replace files by one commit on top of `parent`; nothing is deleted. Returns the revision and its page.

        Raises:
            HubMoved: the branch is no longer at `parent`.
            HubRefused, HubUnavailable.
        """
        from huggingface_hub import CommitOperationAdd

        operations = [
            CommitOperationAdd(path_in_repo=path, path_or_fileobj=content) for path, content in additions.items()
        ]
        with self._explained("commit"):
            done = self._api.create_commit(
                self.repo_id,
                operations,
                commit_message=message,
                repo_type=REPO_TYPE,
                parent_commit=parent,
                revision=DEFAULT_BRANCH,
            )
        return str(done.oid), str(done.commit_url)

    def _info(self) -> Any | None:
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            return self._api.repo_info(self.repo_id, repo_type=REPO_TYPE)
        except RepositoryNotFoundError as error:
            if error.response is not None and error.response.status_code == 401:
                raise
            return None

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Turn the client's errors into ours. `from None`: a chained one could carry the request with its headers."""
        from huggingface_hub.errors import HfHubHTTPError

        try:
            yield
        except HfHubHTTPError as error:
            raise self._error(what, error) from None
        except Exception as error:  # noqa: BLE001 - its network and transfer libraries' own, and an answer that is no Hub's
            said = self._without_token(f"{type(error).__name__}: {error}")
            if any(name in type(error).__name__ for name in _NETWORK):
                raise HubUnavailable(
                    f"could not {what}: the Hub was not reached", file=self.endpoint, found=said
                ) from None
            raise HubRefused(f"could not {what}", file=self.endpoint, found=said) from None

    def _error(self, what: str, error: Any) -> ThesisAssetsError:
        status = error.response.status_code if error.response is not None else 0
        said = self._without_token(" ".join(str(error).split()))[:500]
        place = {"file": f"{self.endpoint}/datasets/{self.repo_id}", "found": said}
        if status == 401:
            return HubRefused(
                f"could not {what}: the Hub does not accept the token",
                key="HF_TOKEN",
                remedy="`hf auth login` with a valid token, or correct HF_TOKEN",
                **place,
            )
        if status == 403:
            return HubRefused(
                f"could not {what}: the token may not write there",
                wanted="a token with write access",
                remedy="make one in the Hub's settings, or name another repo",
                **place,
            )
        if status in _CONFLICTS:
            return HubMoved(f"could not {what}: somebody else committed meanwhile", **place)
        if status == 429 or status >= 500:
            unavailable = HubUnavailable(
                f"could not {what}: the Hub answers {status}", remedy="try again later: nothing was recorded", **place
            )
            after = error.response.headers.get("Retry-After")
            unavailable.wait = float(after) if after is not None and after.strip().isdecimal() else None
            return unavailable
        return HubRefused(f"could not {what}: the Hub answers {status or 'nothing'}", **place)

    def _without_token(self, text: str) -> str:
        return text.replace(self._token, "***")


def git_sha1(content: bytes) -> str:
    """The digest that a repo's listing has for a file outside LFS."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
