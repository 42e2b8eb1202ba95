"""`difix/data.json`, what the trainer reads: one line a sample, absolute paths, streamed.

What it says is known by its content relative to the snapshot's folder, so that a snapshot may move: the file is then written anew.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, command_for
from thesis_assets.experiments.spec import Export
from thesis_assets.launch.telling import tell
from thesis_assets.layout import DifixTree
from thesis_assets.provenance import (
    CODE_VERSIONS,
    Older,
    Output,
    Place,
    Unit,
    Wanted,
    begin,
    kept_part,
    may_rewrite,
    read_record,
    rewrite,
    versions_of,
)
from thesis_assets.samples.snapshot import frozen_snapshot, refuse_change
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets.schemas.samples import DataJsonEntry, SampleRow
from thesis_assets.splits.manifests import split_place

MAX_DATA_JSON_BYTES = 4 * 1024**3
_PATHS = (b'"image":"', b'"target_image":"', b'"ref_image":"')
"""What stands before a path. Nothing within a JSON string can look so: its quotes are escaped."""
_BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class DataContent:
    """What a data.json says, wherever its samples lie.

    Attributes:
        under: the file's blocks with its paths below a folder; None: relative to the snapshot's folder, as in the manifests.
    """

    under: Callable[[str | None], Iterable[bytes]]

    @cached_property
    def sha256(self) -> str:
        """Of the content with relative paths: the name by which configurations and checkpoints know their data."""
        return _sha256(self.under(None))

    def is_named(self, sha256: str, folders: Iterable[str]) -> bool:
        """Whether a digest is of this content, or, as the version before wrote it, of the file's bytes below one of the folders."""
        return sha256 == self.sha256 or any(sha256 == _sha256(self.under(folder)) for folder in dict.fromkeys(folders))


def content_of_rows(train: Sequence[SampleRow], test: Sequence[SampleRow], prompt: str) -> DataContent:
    """What the file of these samples says."""
    return DataContent(lambda folder: _blocks(folder, train, test, prompt))


def content_of_file(path: Path) -> DataContent:
    """What a file says; of one that is not in our form, its bytes.

    Raises:
        InvalidFile: it is missing.
    """
    if not path.is_file():
        raise InvalidFile("the file is missing", file=path, remedy=_remedy(path))
    return DataContent(lambda folder: _moved_blocks(path, folder))


def data_json_unit(tree: DifixTree, prompt: str, *, given: bool = True) -> Unit:
    """`difix/data.json` as a thing that is made.

    Args:
        given: the experiment's file sets the prompt; else it is today's default, which makes no other file of one that is there.
    """
    wanted = Wanted(
        step="difix_data",
        code_version=CODE_VERSIONS["difix_data"],
        options=_options(prompt),
        given=None if given else {},
        made=versions_of({"split_manifests": split_place(tree)}),
    )
    return Unit(f"difix_data of {tree.exp_name}", _place(tree), wanted, lambda: _older(tree))


def kept_prompt(tree: DifixTree, export: Export) -> str:
    """The prompt to write the file with: as the experiment's file says, else as the file that is there was written."""
    try:
        record = read_record(_place(tree))
    except InvalidFile:  # looked at, it is damaged, and is written anew
        return export.prompt
    return export.prompt if record is None else kept_part("generation.export", export, record.options).prompt


def _place(tree: DifixTree) -> Place:
    return Place(tree.base, tree.made_from("difix_data"))


def _options(prompt: str) -> dict[str, object]:
    return {"generation": {"export": {"prompt": prompt}}}


def _older(tree: DifixTree) -> Older | None:
    try:
        prompt = prompt_of(tree.data_json)
    except InvalidFile:
        return None
    return Older([tree.data_json], options=None if prompt is None else _options(prompt))


def write_data_json(tree: DifixTree, train: Sequence[SampleRow], test: Sequence[SampleRow], prompt: str) -> None:
    """Write the trainer's file, in manifest order.

    Raises:
        SnapshotChanged: the snapshot is frozen with another data.json. Nothing is written then.
    """
    content = content_of_rows(train, test, prompt)
    frozen = frozen_snapshot(tree)
    if frozen is not None and not content.is_named(frozen.data_json_sha256, former_folders(tree)):
        raise refuse_change(
            tree,
            "and data.json would change",
            key="data_json_sha256",
            found=content.sha256,
            wanted=frozen.data_json_sha256,
        )
    making = begin(data_json_unit(tree, prompt))
    _write(tree, content)
    making.finish([tree.data_json], noted={"folder": _folder(tree)})


def renew_paths(tree: DifixTree) -> bool:
    """Write the file anew where the snapshot has moved since; nothing else changes. Returns whether it was.

    A damaged one is not: it is made again by whoever makes difix_data.

    The frozen snapshot of a version before names the bytes below the folder of then, which only this file tells: it is
    named by its content from then on.
    """
    folder = folder_of(tree.data_json)
    if folder is None or folder == _folder(tree):
        return False
    content = content_of_file(tree.data_json)
    place, size = _place(tree), sum(len(block) for block in content.under(_folder(tree)))
    there = {place.name(tree.data_json): Output(size, _sha256(content.under(_folder(tree))))}
    if not may_rewrite(place, there):
        return False
    frozen = frozen_snapshot(tree)
    if (
        frozen is not None
        and frozen.data_json_sha256 != content.sha256
        and content.is_named(frozen.data_json_sha256, [folder])
    ):
        storage.write_json(tree.frozen, frozen.model_copy(update={"data_json_sha256": content.sha256}))
    rewrite(place, there, noted={"folder": _folder(tree), "moved_from": folder})
    _write(tree, content)
    tell(f"{tree.data_json}: written anew, since {tree.exp_name} was moved here from {folder}")
    return True


def moved_from(tree: DifixTree) -> tuple[str, bool] | None:
    """The folder that the snapshot was moved from, and whether its data.json was written anew since; None where it was not moved."""
    folder = folder_of(tree.data_json)
    if folder is not None and folder != _folder(tree):
        return folder, False
    record = read_record(_place(tree))
    before = None if record is None else record.noted.get("moved_from")
    return None if before is None else (str(before), True)


def former_folders(tree: DifixTree) -> Iterator[str]:
    """The snapshot's folders of now and then that its files tell of: where data.json was written, and where runs were trained."""
    yield _folder(tree)
    written = folder_of(tree.data_json)
    if written is not None:
        yield written
    for path in sorted(tree.tuning_runs_dir.glob("*/train_config.json")):
        try:
            yield folder_of_configuration(str(storage.read_json_value(path)["data_json"]))
        except (InvalidFile, KeyError, TypeError):  # the run's own checks say so
            continue


def folder_of_configuration(data_json: str) -> str:
    """The snapshot's folder of then, of the path that a `train_config.json` keeps."""
    return str(Path(data_json).parent.parent)


def folder_of(path: Path) -> str | None:
    """The snapshot's folder that a data.json was written for; None where it is missing, empty, or not in our form."""
    try:
        first = _first_entry(path)
    except InvalidFile:
        return None
    if first is None:
        return None
    sample_id, entry = first
    folder, separator, rest = entry.image.rpartition("/samples/")
    return folder if separator and rest == f"{sample_id}/image.png" else None


def _folder(tree: DifixTree) -> str:
    return str(tree.base.absolute())


def _write(tree: DifixTree, content: DataContent) -> None:
    with storage.atomic_file(tree.data_json) as temporary, temporary.open("wb") as handle:
        handle.writelines(content.under(_folder(tree)))


def _sha256(blocks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def _moved_blocks(path: Path, folder: str | None) -> Iterator[bytes]:
    """The file's blocks with its paths below another folder."""
    written = folder_of(path)
    old, new = (b"" if written is None else _start(written), _start(folder))
    with path.open("rb") as handle:
        while lines := handle.readlines(_BLOCK_BYTES):
            block = b"".join(lines)
            for key in _PATHS if written is not None else ():
                block = block.replace(key + old, key + new)
            yield block


def _start(folder: str | None) -> bytes:
    """What stands before a relative path in the file."""
    return b"" if folder is None else orjson.dumps(folder + "/")[1:-1]


def _blocks(
    folder: str | None, train: Iterable[SampleRow], test: Iterable[SampleRow], prompt: str, lines: int = 1024
) -> Iterator[bytes]:
    start, prompt_json = _start(folder).decode(), orjson.dumps(prompt).decode()
    yield b'{\n"train": {'
    yield from _half(start, train, prompt_json, lines)
    yield b'\n},\n"test": {'
    yield from _half(start, test, prompt_json, lines)
    yield b"\n}\n}\n"


def _half(start: str, rows: Iterable[SampleRow], prompt_json: str, lines: int) -> Iterator[bytes]:
    """Ids and paths of rows hold no character that JSON would escape (`layout` sees to it), so they are put in as they are."""
    separator = "\n"
    block: list[str] = []
    for row in rows:
        block.append(
            f'{separator}"{row.sample_id}": {{"image":"{start}{row.image_path}",'
            f'"target_image":"{start}{row.target_image_path}","ref_image":"{start}{row.ref_image_path}",'
            f'"prompt":{prompt_json}}}'
        )
        separator = ",\n"
        if len(block) == lines:
            yield "".join(block).encode()
            block.clear()
    if block:
        yield "".join(block).encode()


def prompt_of(path: Path) -> str | None:
    """The prompt of the first entry of a data.json that we wrote; None where it has no entry.

    Raises:
        InvalidFile: the file is missing, or is not in our form.
    """
    first = _first_entry(path)
    return None if first is None else first[1].prompt


def _remedy(path: Path) -> str:
    return f"`{command_for('difix_data', path.absolute().parents[1].name)}` writes it"


def _first_entry(path: Path) -> tuple[str, DataJsonEntry] | None:
    try:
        with path.open("rb") as handle:
            for line in handle:
                name, separator, entry = line.partition(b'": {"')
                if separator and b'"prompt"' in entry:
                    value = orjson.loads(b'{"' + entry.strip().removesuffix(b","))
                    return name.strip().removeprefix(b'"').decode(), DataJsonEntry.model_validate(value)
    except FileNotFoundError as error:
        raise InvalidFile("the file is missing", file=path, remedy=_remedy(path)) from error
    except (ValueError, ValidationError) as error:
        raise InvalidFile(
            "the file is not a data.json of ours", file=path, found=str(error)[:200], remedy=_remedy(path)
        ) from error
    return None


def check_data_json(
    tree: DifixTree, train: Sequence[SampleRow], test: Sequence[SampleRow], prompt: str
) -> CheckOutcome:
    """data.json holds exactly the samples of the manifests, in their halves and order, with absolute paths and the prompt.

    Equal bytes are the quick answer; only where they differ is the file parsed, to name what differs.
    """
    counts: dict[str, int | float] = {"train": len(train), "test": len(test)}
    try:
        if storage.sha256_file(tree.data_json) == _sha256(_blocks(_folder(tree), train, test, prompt)):
            return CheckOutcome.of([], message="data.json matches the manifests", counts=counts)
        if content_of_file(tree.data_json).sha256 == content_of_rows(train, test, prompt).sha256:
            offender = f"its paths are those of {folder_of(tree.data_json)}, from where it was moved"
            return CheckOutcome.of(
                [offender], message="data.json is of another place: the next run renews it", counts=counts
            )
        value = storage.read_json_value(tree.data_json, max_bytes=MAX_DATA_JSON_BYTES)
        offenders = _differences(tree, value, train, test, prompt)
    except FileNotFoundError:
        offenders = [f"{tree.data_json} is missing"]
    except InvalidFile as error:
        offenders = [f"data.json: {error.problem}: {error.found}"]
    return CheckOutcome.of(offenders, message="data.json does not match the manifests", counts=counts)


def _differences(
    tree: DifixTree, value: Any, train: Sequence[SampleRow], test: Sequence[SampleRow], prompt: str
) -> list[str]:
    if not isinstance(value, dict) or set(value) != {"train", "test"}:
        return ["data.json does not hold `train` and `test`, and nothing else"]
    offenders = []
    wanted = orjson.loads(b"".join(_blocks(_folder(tree), train, test, prompt)))
    for half in ("train", "test"):
        found = value[half] if isinstance(value[half], dict) else {}
        offenders += [f"{key} of split_{half}.jsonl is not in data.json" for key in wanted[half] if key not in found]
        offenders += [f"{key} of data.json is not in split_{half}.jsonl" for key in found if key not in wanted[half]]
        offenders += [
            f"{half} {key}: {found[key]!r}, wanted {entry!r}"
            for key, entry in wanted[half].items()
            if key in found and found[key] != entry
        ]
    return offenders or ["data.json has the right samples in another order or form"]
