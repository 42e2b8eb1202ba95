"""What is asked of the Hub, through its own client: a repo's state, a file of it, one commit; and its refusals in our words.

The token is the environment's or that of the Hub's own login. It goes into the client and nowhere else: no message holds it.
Does not belong here: what is published, when to try again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thesis_assets.errors import ThesisAssetsError

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

    @contextmanager
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
    import hashlib

    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
