"""The rows of a snapshot that others wrote: today's eleven keys, or the older twelve with `split` and `rcam` in the ids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.adoption.findings import Findings
from thesis_assets.errors import InvalidFile, InvalidKey
from thesis_assets.layout import DifixTree, SampleId, check_key, dataset_of
from thesis_assets.samples.sample_rows import group_key, row_of
from thesis_assets.schemas.samples import SampleRow

MAX_NAMED = 5
MAX_META_BYTES = 1024 * 1024


@dataclass
class FoundRows:
    """Rows in today's form, sorted by id; `folders`: the sample's folder on disk by its id; `split`: `train` or `test` by id."""

    rows: list[SampleRow] = field(default_factory=list)
    folders: dict[str, Path] = field(default_factory=dict)
    split: dict[str, str] = field(default_factory=dict)
    prompt: str | None = None

    @property
    def scenes(self) -> list[str]:
        return sorted({row.scene_name for row in self.rows})

    def half(self, side: str) -> list[SampleRow]:
        return [row for row in self.rows if self.split[row.sample_id] == side]

    def groups(self, side: str) -> list[str]:
        return sorted({group_key(row) for row in self.half(side)})


def read_found_rows(tree: DifixTree, findings: Findings) -> FoundRows:
    """Every usable row of a snapshot, and on which side of its split it stands; what is not usable is named.

    Rows come from `all_samples.jsonl`, else from the split's manifests, else from each sample's `meta.json`. The side comes from the
    split's manifests, else from the row itself, else from `data.json`; a row without one is held out, where it can do no harm.
    """
    found = FoundRows()
    problems: dict[str, list[str]] = {}
    for raw, side, source in _raw_rows(tree, findings):
        row = _row(raw, problems)
        if row is None:
            continue
        if row.sample_id in found.folders:
            if side:
                found.split.setdefault(row.sample_id, side)
            continue
        found.rows.append(row)
        found.folders[row.sample_id] = tree.samples_dir / str(raw["sample_id"])
        if side or raw.get("split") in ("train", "test"):
            found.split[row.sample_id] = side or raw["split"]
        del source
    found.rows.sort(key=lambda row: row.sample_id)
    _sides_of_data_json(tree, found, findings)
    for problem, names in problems.items():
        findings.complain(
            tree.base, f"{problem}: {len(names)} rows, such as {', '.join(names[:MAX_NAMED])}", _REMEDIES[problem]
        )
    without = [row.sample_id for row in found.rows if row.sample_id not in found.split]
    if without:
        findings.complain(
            tree.base, f"{len(without)} samples are on no side of the split, such as {without[0]}", "they are held out"
        )
        found.split |= dict.fromkeys(without, "test")
    return found


_NO_ID = "no sample id"
_OTHER_IDS = "the ids of the row are not those in its sample_id"
_OLDER_ID = "the id has the older form (rcam)"
_NO_GROUP = "no group_id"
_REMEDIES = {
    _NO_ID: "left out",
    _OTHER_IDS: "the ones in sample_id are taken",
    _OLDER_ID: "written as rccam",
    _NO_GROUP: "the scene's name is its group; check that no people stand on both sides",
}


def _row(raw: Any, problems: dict[str, list[str]]) -> SampleRow | None:
    def note(problem: str) -> None:
        problems.setdefault(problem, []).append(ascii(str(name))[:120])

    name = raw.get("sample_id") if isinstance(raw, dict) else None
    try:
        sample = SampleId.parse(str(name), accept_older=True)
        dataset_of(sample.scene_name)
    except InvalidKey:
        note(_NO_ID)
        return None
    if str(sample) != name:
        note(_OLDER_ID)
    group = raw.get("group_id")
    try:
        group = check_key(group, "group_id") if isinstance(group, str) else ""
    except InvalidKey:
        group = ""
    if not group:
        note(_NO_GROUP)
    row = row_of(sample, group or sample.scene_name)
    ids = ("scene_name", "target_cam_id", "reference_cam_id", "target_fname", "reference_fname")
    if any(key in raw and raw[key] != getattr(row, key) for key in ids):
        note(_OTHER_IDS)
    return row


def _raw_rows(tree: DifixTree, findings: Findings) -> Iterator[tuple[Any, str | None, Path]]:
    """Rows as they are written, with the side that the file they stand in says."""
    manifests = [(tree.split_train, "train"), (tree.split_test, "test"), (tree.all_samples, None)]
    read = False
    for path, side in manifests:
        if path.is_file():
            try:
                for raw in storage.read_jsonl(path):
                    read = True
                    yield raw, side, path
            except InvalidFile as error:
                findings.complain(path, f"{error.problem} ({error.key})", "what stands before it is taken")
    if read:
        return
    findings.complain(tree.manifests_dir, "there are no manifests", "rows are taken from the samples' own meta.json")
    for folder in sorted(tree.samples_dir.iterdir()):
        path = folder / "meta.json"
        try:
            yield storage.read_json_value(path, max_bytes=MAX_META_BYTES), None, path
        except InvalidFile as error:
            findings.complain(path, error.problem, "the sample is left out")


def _sides_of_data_json(tree: DifixTree, found: FoundRows, findings: Findings) -> None:
    """The prompt, and the side of rows that no manifest has."""
    if not tree.data_json.is_file():
        return
    try:
        value = storage.read_json_value(tree.data_json, max_bytes=2**31)
    except InvalidFile as error:
        findings.complain(tree.data_json, error.problem, "it is written anew")
        return
    by_older = {folder.name: sample_id for sample_id, folder in found.folders.items()}
    for side in ("train", "test"):
        entries = value.get(side) if isinstance(value, dict) else None
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            sample_id = by_older.get(name, name)
            if sample_id in found.folders:
                found.split.setdefault(sample_id, side)
            if found.prompt is None and isinstance(entry, dict) and isinstance(entry.get("prompt"), str):
                found.prompt = entry["prompt"]
