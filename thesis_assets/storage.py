"""Writing files so that nothing is ever seen half: atomic files, published directories, links, digests, cell locks.

One atomic writer, one JSON writer, one reader of bounded JSON for the whole package.
Does not belong here: any path of a tree (`layout`) or shape of a file (`schemas`).
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from thesis_assets.errors import CellLocked, DiskFull, InvalidFile
from thesis_assets.layout import TEMPORARY_PREFIX

LinkMode = Literal["hard_link", "reflink", "copy"]
Model = TypeVar("Model", bound=BaseModel)

MAX_JSON_BYTES = 64 * 1024 * 1024
_NO_HARD_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES, errno.ENOSYS)
_FICLONE = 0x40049409  # the Linux ioctl that shares a file's extents (btrfs, XFS, bcachefs)


def temporary_sibling(path: Path) -> Path:
    """A name beside `path`, on the same file system, that no reader mistakes for the real one.

    It ends in `.partial`, never in the final suffix: programs that parse every `.pkl` of a folder pass it over.
    """
    return path.with_name(f"{TEMPORARY_PREFIX}{path.name}.{uuid.uuid4().hex[:12]}.partial")


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; on success flush it to disk and rename it to `path`, on failure remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(path)
    try:
        yield temporary
        flush(temporary)
        temporary.replace(path)
    except OSError as error:
        name_file(error, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def flush(path: Path | str) -> None:
    """Wait until the disk holds this file, or this folder's entries."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def name_file(error: OSError, path: Path) -> None:
    """A failed write does not say of which file it was: the one that was to be published is named."""
    if error.filename is None and error.errno is not None:
        error.filename = str(path)


@contextlib.contextmanager
def full_disk_explained(directory: Path) -> Iterator[None]:
    """Turn "no space left" into an error that says where, how much is free, and what to do.

    Args:
        directory: where things are written; measured, and named where the failure does not say of which file it was.

    Raises:
        DiskFull: the file system, its inodes or the quota are used up.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        state = os.statvfs(next(folder for folder in (directory, *directory.parents) if folder.exists()))
        free, total = state.f_bavail * state.f_frsize, state.f_blocks * state.f_frsize
        quota = "; the user's quota is used up" if error.errno == errno.EDQUOT else ""
        raise DiskFull(
            "there is no space left to write in",
            file=error.filename or directory,
            found=f"{free / 1e6:.1f} MB and {state.f_favail} more files free of {total / 1e6:.1f} MB{quota}",
            wanted="space for what is still to be written",
            remedy="make space there, then start the same again: what is published is whole, stays, and is not made again",
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write a whole UTF-8 file atomically, with `\\n` line ends."""
    write_bytes(path, content.encode("utf-8"))


def to_json_bytes(value: object, *, indent: bool = True) -> bytes:
    """JSON of a pydantic model or plain value. Keys keep their order; the same value gives the same bytes."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    option = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if indent else 0)
    return orjson.dumps(plain, option=option)


def write_json(path: Path, value: object) -> None:
    """Write a pydantic model or plain value as indented JSON, atomically."""
    write_bytes(path, to_json_bytes(value))


def read_json_value(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read a JSON file of bounded size.

    Raises:
        InvalidFile: it is missing, too large, or not JSON.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise InvalidFile(
                "the file is larger than any of its kind", file=path, found=f"{size} bytes", wanted=f"<= {max_bytes}"
            )
        return orjson.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InvalidFile("the file is missing", file=path) from error
    except orjson.JSONDecodeError as error:
        raise InvalidFile("the file is not JSON", file=path, found=str(error)) from error


def read_json(path: Path, model: type[Model], *, max_bytes: int = MAX_JSON_BYTES) -> Model:
    """Read a JSON file into its schema.

    Raises:
        InvalidFile: it is missing, too large, not JSON, or breaks the schema; the message names the key.
    """
    value = read_json_value(path, max_bytes=max_bytes)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidFile(
            f"the file is not a {model.__name__}: {first['msg']}",
            file=path,
            key=".".join(str(part) for part in first["loc"]) or None,
            found=repr(first.get("input"))[:200],
        ) from error


def read_jsonl(path: Path) -> Iterator[Any]:
    """Yield the parsed lines of a JSONL file, without validating them.

    Raises:
        InvalidFile: the file is missing or a line is not JSON; the message has its number.
    """
    try:
        with path.open("rb") as handle:
            for number, line in enumerate(handle, start=1):
                try:
                    yield orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise InvalidFile(
                        "a line is not JSON", file=path, key=f"line {number}", found=ascii(line[:120])
                    ) from error
    except FileNotFoundError as error:
        raise InvalidFile("the file is missing", file=path) from error


def publish_directory(temporary: Path, final: Path) -> None:
    """Put a finished directory in place by one rename; an older one of that name is moved aside first, then removed.

    A reader sees the old directory, for a moment none, then the new one; never a mixture.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    aside: Path | None = None
    if final.exists():
        aside = temporary_sibling(final)
        final.replace(aside)
    try:
        temporary.replace(final)
    except OSError:
        if aside is not None:
            aside.replace(final)
        raise
    if aside is not None:
        shutil.rmtree(aside)


@contextlib.contextmanager
def atomic_directory(final: Path) -> Iterator[Path]:
    """Yield a fresh temporary directory beside `final`; publish it on success, remove it on failure."""
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(final)
    temporary.mkdir()
    try:
        yield temporary
        publish_directory(temporary, final)
    except OSError as error:
        name_file(error, final)
        raise
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)


def link_or_copy(source: Path, target: Path, *, link_mode: Literal["auto", "copy"] = "auto") -> LinkMode:
    """Make `target` the same bytes as `source`, put in place by one rename. Returns how.

    Symlinks at `source` are followed, so that the tree holds files and no link that may dangle.

    Args:
        link_mode: `auto` is a hard link, else shared extents, else a copy; `copy` is always bytes of its own.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    real = source.resolve(strict=True)
    temporary = temporary_sibling(target)
    try:
        mode = _bring(real, temporary, link_mode)
        temporary.replace(target)
    finally:
        # Renaming one name of a file onto another name of it does nothing, and leaves both.
        temporary.unlink(missing_ok=True)
    return mode


def _bring(real: Path, temporary: Path, link_mode: Literal["auto", "copy"]) -> LinkMode:
    if link_mode == "auto":
        try:
            os.link(real, temporary)
        except OSError as error:
            if error.errno not in _NO_HARD_LINK:
                raise
        else:
            return "hard_link"
    with real.open("rb") as reading, temporary.open("wb") as writing:
        if link_mode == "auto" and _share_extents(reading.fileno(), writing.fileno()):
            return "reflink"
        shutil.copyfileobj(reading, writing, 1024 * 1024)
    return "copy"


def _share_extents(reading: int, writing: int) -> bool:
    try:
        fcntl.ioctl(writing, _FICLONE, reading)
    except OSError:
        return False  # Most file systems cannot; the bytes are copied then.
    return True


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_bytes(content: bytes) -> str:
    """Hex digest of bytes."""
    return hashlib.sha256(content).hexdigest()


def sha256_value(value: object) -> str:
    """Hex digest of a pydantic model or plain value, by its canonical JSON (sorted keys)."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    option = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    return hashlib.sha256(orjson.dumps(plain, option=option)).hexdigest()


def file_stamp(path: Path) -> str:
    """Size and modification time of a file, as one word: the cheap identity of a large input."""
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


@contextlib.contextmanager
def cell_lock(path: Path, cell: str) -> Iterator[None]:
    """Hold the one writer's lock of a cell. A dead holder's lock is free (the kernel drops it with the process).

    Raises:
        CellLocked: another process holds it; the message says who, on which host, since when.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        handle = stack.enter_context(path.open("a+"))
        _take(handle, path, cell)
        while not _is_at(handle, path):  # removed between opening and taking it: the next one comes with a new file
            handle = stack.enter_context(path.open("a+"))
            _take(handle, path, cell)
        handle.seek(0)
        handle.truncate()
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        handle.write(json.dumps(holder))
        handle.flush()
        try:
            yield
        finally:
            # The next holder's name is not there at once: the last one's must not be taken for it.
            handle.truncate(0)


def _take(handle: IO[str], path: Path, cell: str) -> None:
    try:
        fcntl.flock(handle.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        handle.seek(0)
        raise CellLocked(
            f"another process works on {cell}",
            file=path,
            found=handle.read().strip() or "a holder that has not written its name yet",
            remedy="wait for it, or end it, then start this one again",
        ) from error


def _is_at(handle: IO[str], path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    opened = os.fstat(handle.fileno())
    return (opened.st_dev, opened.st_ino) == (there.st_dev, there.st_ino)


def remove_free_lock(path: Path) -> bool:
    """Remove a lock file that nobody holds; false where somebody does."""
    with path.open("a+") as handle:
        try:
            fcntl.flock(handle.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if _is_at(handle, path):
            path.unlink()
    return True
