"""`difix/data.json`, what the trainer reads: one line a sample, absolute paths, streamed."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.layout import DifixTree
from thesis_assets.samples.snapshot import frozen_snapshot, refuse_change
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets.schemas.samples import DataJsonEntry, SampleRow

MAX_DATA_JSON_BYTES = 4 * 1024**3


@dataclass(frozen=True)
class DataJsonStats:
    """What was written."""

    sha256: str
    n_train: int
    n_test: int
    bytes: int


def write_data_json(
    tree: DifixTree, train: Sequence[SampleRow], test: Sequence[SampleRow], prompt: str
) -> DataJsonStats:
    """Write the trainer's file, in manifest order.

    Raises:
        SnapshotChanged: the snapshot is frozen with another data.json. Nothing is written then.
    """
    frozen = frozen_snapshot(tree)
    if frozen is not None:
        wanted = data_json_sha256(tree, train, test, prompt)
        if wanted != frozen.data_json_sha256:
            raise refuse_change(
                tree,
                "and data.json would change",
                key="data_json_sha256",
                found=wanted,
                wanted=frozen.data_json_sha256,
            )
    digest, size = hashlib.sha256(), 0
    with storage.atomic_file(tree.data_json) as temporary, temporary.open("wb") as handle:
        for block in _blocks(tree, train, test, prompt):
            digest.update(block)
            size += handle.write(block)
    return DataJsonStats(digest.hexdigest(), len(train), len(test), size)


def data_json_sha256(tree: DifixTree, train: Sequence[SampleRow], test: Sequence[SampleRow], prompt: str) -> str:
    """The sha256 of the file that `write_data_json` would write."""
    digest = hashlib.sha256()
    for block in _blocks(tree, train, test, prompt):
        digest.update(block)
    return digest.hexdigest()


def _blocks(
    tree: DifixTree, train: Iterable[SampleRow], test: Iterable[SampleRow], prompt: str, lines: int = 1024
) -> Iterator[bytes]:
    base, prompt_json = _inside_quotes(str(tree.base.absolute())), orjson.dumps(prompt).decode()
    yield b'{\n"train": {'
    yield from _half(base, train, prompt_json, lines)
    yield b'\n},\n"test": {'
    yield from _half(base, test, prompt_json, lines)
    yield b"\n}\n}\n"


def _half(base: str, rows: Iterable[SampleRow], prompt_json: str, lines: int) -> Iterator[bytes]:
    """Ids and paths of rows hold no character that JSON would escape (`layout` sees to it), so they are put in as they are."""
    separator = "\n"
    block: list[str] = []
    for row in rows:
        block.append(
            f'{separator}"{row.sample_id}": {{"image":"{base}/{row.image_path}",'
            f'"target_image":"{base}/{row.target_image_path}","ref_image":"{base}/{row.ref_image_path}",'
            f'"prompt":{prompt_json}}}'
        )
        separator = ",\n"
        if len(block) == lines:
            yield "".join(block).encode()
            block.clear()
    if block:
        yield "".join(block).encode()


def _inside_quotes(text: str) -> str:
    return orjson.dumps(text).decode()[1:-1]


def prompt_of(path: Path) -> str | None:
    """The prompt of the first entry of a data.json that we wrote; None where it has no entry.

    Raises:
        InvalidFile: the file is missing, or is not in our form.
    """
    try:
        with path.open("rb") as handle:
            for line in handle:
                _, separator, entry = line.partition(b'": {"')
                if separator and b'"prompt"' in entry:
                    value = orjson.loads(b'{"' + entry.strip().removesuffix(b","))
                    return DataJsonEntry.model_validate(value).prompt
    except FileNotFoundError as error:
        raise InvalidFile("the file is missing", file=path, remedy="materialize difix_data") from error
    except (orjson.JSONDecodeError, ValidationError) as error:
        raise InvalidFile(
            "the file is not a data.json of ours", file=path, found=str(error)[:200], remedy="materialize difix_data"
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
        if storage.sha256_file(tree.data_json) == data_json_sha256(tree, train, test, prompt):
            return CheckOutcome.of([], message="data.json matches the manifests", counts=counts)
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
    wanted = orjson.loads(b"".join(_blocks(tree, train, test, prompt)))
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
