"""A small Hub on loopback: the endpoints that the Hub's own client asks for a dataset repo, with faults on demand.

It holds what it is given in memory, by content; one token may write. Started by `serve_hub`.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_fakeTokenOfTheTests0123456789"
_LFS_SUFFIXES = (".rrd", ".png", ".jpg")


@dataclass(frozen=True)
class Stored:
    """A file in a repo."""

    content: bytes
    lfs: bool

    @property
    def git_sha1(self) -> str:
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n"
        body = pointer.encode() if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass
class Repo:
    """A repo: its commits, each all files by path."""

    private: bool
    commits: list[tuple[str, dict[str, Stored]]] = field(default_factory=list)
    deletions: list[str] = field(default_factory=list)
    added: list[list[str]] = field(default_factory=list)
    """The paths that each commit added or replaced."""

    def __post_init__(self) -> None:
        self.commit({})

    @property
    def head(self) -> str:
        return self.commits[-1][0]

    @property
    def files(self) -> dict[str, Stored]:
        return self.commits[-1][1]

    def at(self, revision: str) -> dict[str, Stored] | None:
        if revision == "main":
            return self.files
        return next((files for oid, files in self.commits if oid == revision), None)

    def commit(self, changes: dict[str, Stored]) -> str:
        oid = hashlib.sha1(f"{len(self.commits)}{sorted(changes)}".encode()).hexdigest()
        self.commits.append((oid, {**(self.commits[-1][1] if self.commits else {}), **changes}))
        self.added.append(sorted(changes))
        return oid


@dataclass
class Fault:
    """Answer requests that match with a status, some times or for ever."""

    pattern: str
    status: int
    times: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[], None] | None = None
    """Called when the fault strikes. With status 0 the request is then answered as usual."""
    lost: bool = False
    """The request is done, and its answer lost: this status stands in its place."""


@dataclass
class Hub:
    """The state of a running hub."""

    url: str = ""
    token: str = TOKEN
    repos: dict[str, Repo] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, int]] = field(default_factory=list)
    """`<method> <path>` and the status it was answered with."""

    def asked(self, pattern: str) -> int:
        return sum(bool(re.search(pattern, line)) for line, _ in self.requests)


@contextlib.contextmanager
def serve_hub() -> Iterator[Hub]:
    """Run a hub on a free port of this machine alone."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Answer(Exception):
    def __init__(self, status: int, body: Any = None, **headers: str) -> None:
        self.status, self.body, self.headers = status, body, headers


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        del format, args

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        line = f"{self.command} {path}"
        try:
            self._strike(line, content)
            self._route(line, path, content)
            raise _Answer(404, {"error": f"no such endpoint: {line}"})
        except _Answer as answer:
            found = answer
        except Exception as error:  # noqa: BLE001 - a mistake of this server must fail the test, not be waited out by the client
            found = _Answer(418, {"error": f"{type(error).__name__}: {error}"})
        self._write(line, found)

    def _write(self, line: str, answer: _Answer) -> None:
        self.hub.requests.append((line, answer.status))
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _strike(self, line: str, content: bytes) -> None:
        for fault in self.hub.faults:
            if re.search(fault.pattern, line) and fault.times != 0:
                if fault.times is not None:
                    fault.times -= 1
                if fault.before is not None:
                    fault.before()
                if fault.lost:
                    with contextlib.suppress(_Answer):
                        self._route(line, unquote(urlsplit(self.path).path), content)
                if fault.status:
                    headers = {name.replace("-", "_"): value for name, value in fault.headers.items()}
                    raise _Answer(fault.status, {"error": f"planned fault {fault.status}"}, **headers)

    def _route(self, line: str, path: str, content: bytes) -> None:
        if match := re.fullmatch(r"PUT /lfs-store/([0-9a-f]{64})", line):
            assert hashlib.sha256(content).hexdigest() == match[1]
            self.hub.uploads[match[1]] = content
            raise _Answer(200, {})
        if line == "POST /api/validate-yaml":
            self._validate_yaml(json.loads(content))
        self._check_token()
        if line == "POST /api/repos/create":
            self._create(json.loads(content))
        for pattern, answer in (
            (r"GET /api/datasets/([^/]+/[^/]+)(?:/revision/([^/]+))?", self._info),
            (r"GET /api/datasets/([^/]+/[^/]+)/tree/([^/]+)", self._tree),
            (r"(?:GET|HEAD) /datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._resolve),
            (r"POST /api/datasets/([^/]+/[^/]+)/preupload/([^/]+)", self._preupload),
            (r"POST /api/datasets/([^/]+/[^/]+)/commit/([^/]+)", self._commit),
            (r"POST /datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self._lfs_batch),
        ):
            if match := re.fullmatch(pattern, line):
                repo = self.hub.repos.get(match[1])
                if repo is None:
                    raise _Answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
                answer(repo, content, *match.groups())

    def _check_token(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            said = "Invalid credentials in Authorization header"
            raise _Answer(401, {"error": said}, X_Error_Message=said)

    def _validate_yaml(self, asked: dict[str, Any]) -> None:
        header = asked["content"].partition("---\n")[2].partition("\n---")[0]
        try:
            assert isinstance(yaml.safe_load(header), dict)
        except (yaml.YAMLError, AssertionError) as error:
            raise _Answer(400, {"errors": [{"message": str(error)}], "warnings": []}) from error
        raise _Answer(200, {"errors": [], "warnings": []})

    def _create(self, asked: dict[str, Any]) -> None:
        assert asked["type"] == "dataset"
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repos:
            raise _Answer(409, {"error": "You already created this dataset repo"})
        private = asked.get("visibility") == "private" or asked.get("private") is True
        self.hub.repos[name] = Repo(private)
        raise _Answer(200, {"url": f"{self.hub.url}/datasets/{name}"})

    def _info(self, repo: Repo, content: bytes, name: str, revision: str | None) -> None:
        del content
        if revision not in (None, "main", repo.head):
            raise _Answer(404, {"error": "no such revision"}, X_Error_Code="RevisionNotFound")
        siblings = [{"rfilename": path} for path in repo.files]
        raise _Answer(200, {"id": name, "sha": repo.head, "private": repo.private, "siblings": siblings, "tags": []})

    def _tree(self, repo: Repo, content: bytes, name: str, revision: str) -> None:
        del content, name
        assert parse_qs(urlsplit(self.path).query)["recursive"][0].lower() == "true"
        files = repo.at(revision)
        if files is None:
            raise _Answer(404, {"error": "no such revision"}, X_Error_Code="RevisionNotFound")
        folders = {path.rpartition("/")[0] for path in files} - {""}
        entries: list[dict[str, Any]] = [{"type": "directory", "path": path, "oid": "0" * 40} for path in folders]
        for path, stored in files.items():
            entry = {"type": "file", "path": path, "size": len(stored.content), "oid": stored.git_sha1}
            lfs = {"oid": stored.sha256, "size": len(stored.content), "pointerSize": 130}
            entries.append(entry | ({"lfs": lfs} if stored.lfs else {}))
        raise _Answer(200, entries)

    def _resolve(self, repo: Repo, content: bytes, name: str, revision: str, path: str) -> None:
        del content, name
        stored = (repo.at(revision) or {}).get(path)
        if stored is None:
            raise _Answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
        raise _Answer(200, stored.content, X_Repo_Commit=repo.head, ETag=f'"{stored.git_sha1}"')

    def _preupload(self, repo: Repo, content: bytes, name: str, revision: str) -> None:
        del name, revision
        answers = []
        for asked in json.loads(content)["files"]:
            stored = repo.files.get(asked["path"])
            mode = "lfs" if asked["path"].endswith(_LFS_SUFFIXES) else "regular"
            oid = None if stored is None else stored.sha256 if stored.lfs else stored.git_sha1
            answers.append({"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        raise _Answer(200, {"files": answers})

    def _lfs_batch(self, repo: Repo, content: bytes, name: str) -> None:
        del repo, name
        objects = []
        for asked in json.loads(content)["objects"]:
            answer = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.hub.uploads:
                answer["actions"] = {"upload": {"href": f"{self.hub.url}/lfs-store/{asked['oid']}", "header": {}}}
            objects.append(answer)
        raise _Answer(200, {"transfer": "basic", "objects": objects})

    def _commit(self, repo: Repo, content: bytes, name: str, revision: str) -> None:
        assert revision == "main"
        changes: dict[str, Stored] = {}
        for line in content.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                if value.get("parentCommit") not in (None, repo.head):
                    raise _Answer(412, {"error": "A commit has happened since. Please refresh and try again."})
            elif item["key"] == "file":
                changes[value["path"]] = Stored(base64.b64decode(value["content"]), lfs=False)
            elif item["key"] == "lfsFile":
                changes[value["path"]] = Stored(self.hub.uploads[value["oid"]], lfs=True)
            else:
                repo.deletions.append(value["path"])
        oid = repo.commit(changes)
        raise _Answer(200, {"commitUrl": f"{self.hub.url}/datasets/{name}/commit/{oid}", "commitOid": oid})
