"""The README card of a repo of recordings: header, a table a scene with pictures, how to open them.

Does not belong here: which files there are, sending.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import yaml

from thesis_assets.errors import InvalidFile
from thesis_assets.schemas.recordings import PublicationIndex, PublishedFile

BEGIN, END = "<!-- thesis-assets: begin -->", "<!-- thesis-assets: end -->"
"""What stands between is drawn anew with each publication; what a person writes around it stays."""
TAGS = ("rerun", "multi-view", "3d-gaussian-splatting", "human-reconstruction", "thesis-assets")
MAX_WEB_BYTES = 2_300_000_000
"""Where the web viewer's memory ends."""
_KIND_ORDER = ("input_data", "evaluation", "nvs", "pose_smplx", "pose_smpl", "triplets")


def card(index: PublicationIndex, repo_id: str, *, endpoint: str, private: bool, existing: str | None = None) -> str:
    """The README of the repo.

    Args:
        endpoint: of the Hub, for links.
        existing: the README that is there: its own text and header stay.

    Raises:
        InvalidFile: the header of `existing` is no YAML mapping.
    """
    section = "\n".join([BEGIN, *_section(index, repo_id, endpoint, private), END])
    header, body = _parted(existing or "")
    if BEGIN in body and END in body.partition(BEGIN)[2]:
        before, _, rest = body.partition(BEGIN)
        body = before + section + rest.partition(END)[2]
    else:
        body = (body.rstrip() + "\n\n" if body.strip() else "") + section + "\n"
    return f"---\n{yaml.safe_dump(_merged(header), sort_keys=False)}---\n{body if body.startswith(chr(10)) else chr(10) + body}"


def viewer_link(file: PublishedFile, repo_id: str, endpoint: str) -> str:
    """Opens a recording of a public repo in the web viewer of the SDK version that wrote it."""
    resolved = f"{endpoint}/datasets/{repo_id}/resolve/main/{quote(file.path)}"
    return f"https://app.rerun.io/version/{file.rerun_sdk}/index.html?url={quote(resolved, safe='')}"


def _parted(text: str) -> tuple[dict[str, Any], str]:
    """Header and body of a README."""
    if not text.startswith("---\n"):
        return {}, text
    head, separator, body = text[4:].partition("\n---")
    if not separator:
        return {}, text
    try:
        header = yaml.safe_load(head) or {}
    except yaml.YAMLError as error:
        raise InvalidFile("the header of the repo's README is no YAML", file="README.md", found=str(error)) from error
    if not isinstance(header, dict):
        raise InvalidFile(
            "the header of the repo's README is no mapping", file="README.md", found=type(header).__name__
        )
    return header, body.partition("\n")[2]


def _merged(header: Mapping[str, Any]) -> dict[str, Any]:
    """What the repo's owner says stays; what is not said is ours."""
    given = header.get("tags") or []
    tags = [*given, *(tag for tag in TAGS if tag not in given)]
    ours = {"license": "other", "pretty_name": "Rerun recordings", "viewer": False}
    return {**ours, **header, "tags": tags}


def _section(index: PublicationIndex, repo_id: str, endpoint: str, private: bool) -> list[str]:
    files = index.files
    versions = sorted({file.rerun_sdk for file in files})
    lines = [
        "# Rerun recordings",
        "",
        f"{len(files)} recordings, {_size(sum(file.bytes for file in files))}, written with `rerun-sdk` "
        f"{', '.join(versions)}. A viewer of the same version opens them: `pip install rerun-sdk=={versions[-1]}`."
        if files
        else "No recordings yet.",
        "",
        *_how_to_open(repo_id, private),
    ]
    for (exp_name, run_name), of_run in _grouped(files, lambda file: (file.exp_name, file.run_name)):
        lines += ["", f"## `{exp_name}`, run `{run_name}`"]
        for (scene_name,), of_scene in _grouped(of_run, lambda file: (file.scene_name or "",)):
            lines += ["", f"### {f'`{scene_name}`' if scene_name else 'Test samples over the steps of the tuning'}", ""]
            lines += _pictures(of_scene) + _table(of_scene, repo_id, endpoint, private)
    lines.append("")
    if index.licences:
        lines += ["## Licences of what the recordings show", ""]
        lines += [f"- `{dataset}`: {' '.join(name.split())}" for dataset, name in sorted(index.licences.items())]
    return lines


def _how_to_open(repo_id: str, private: bool) -> list[str]:
    words = (
        "The repo is private, so the web viewer cannot read it. To open a recording:"
        if private
        else "A link opens a recording in the browser. On your own machine:"
    )
    return [
        words,
        "",
        "```bash",
        f"hf download {repo_id} --repo-type=dataset --local-dir recordings",
        "rerun recordings/<path of a recording>",
        "```",
    ]


def _pictures(files: Sequence[PublishedFile]) -> list[str]:
    """Of the last epoch, else of whatever has a picture."""
    shown = [file for file in files if file.previews]
    if not shown:
        return []
    last = max(shown, key=lambda file: (file.kind == "evaluation", file.epoch if file.epoch is not None else -1))
    return [f"![{last.path.rpartition('/')[2]}]({quote(last.previews[0])})", ""]


def _table(files: Sequence[PublishedFile], repo_id: str, endpoint: str, private: bool) -> list[str]:
    metrics = list(dict.fromkeys(name for file in files for name in file.metrics))
    head = ["recording", "epoch", "size", *metrics, "open"]
    rows = []
    for file in files:
        numbers = [f"{file.metrics[name]:.2f}" if name in file.metrics else "" for name in metrics]
        epoch = "" if file.epoch is None else str(file.epoch)
        opened = f"`rerun recordings/{file.path}`" if private else _opened(file, repo_id, endpoint)
        rows.append(
            [f"[{file.path.rpartition('/')[2]}]({quote(file.path)})", epoch, _size(file.bytes), *numbers, opened]
        )
    rule = ["---", "---:", "---:", *("---:" for _ in metrics), "---"]
    return ["| " + " | ".join(row) + " |" for row in (head, rule, *rows)]


def _opened(file: PublishedFile, repo_id: str, endpoint: str) -> str:
    if file.bytes > MAX_WEB_BYTES:
        return "too large for the web viewer: download it"
    return f"[in the browser]({viewer_link(file, repo_id, endpoint)})"


def _grouped(files: Sequence[PublishedFile], key: Any) -> list[tuple[tuple[str, ...], list[PublishedFile]]]:
    """Files by key, sorted; those of the run as a whole last; in each group by kind and epoch."""
    groups: dict[tuple[str, ...], list[PublishedFile]] = {}
    for file in sorted(
        files, key=lambda file: (file.epoch if file.epoch is not None else -1, _KIND_ORDER.index(file.kind))
    ):
        groups.setdefault(key(file), []).append(file)
    return sorted(groups.items(), key=lambda item: (item[0] == ("",), item[0]))


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
