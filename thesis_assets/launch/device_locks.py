"""One lock file a GPU of this host, so that two jobs never share one by accident: a Dagster pool only counts.

The lock lives as long as any process of the job does: its descriptor is inherited. Nothing has to be cleaned up after a kill.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.layout import device_lock

POLL_SECONDS = 0.5
SAY_SECONDS = 30.0


@contextlib.contextmanager
def devices(
    names: Sequence[str], count: int, *, holder: str, on_wait: Callable[[str], None] | None = None
) -> Iterator[tuple[list[str], list[int]]]:
    """Take `count` of the devices, waiting until so many are free.

    Args:
        names: of this host's GPUs, as CUDA_VISIBLE_DEVICES has them.
        holder: written into the lock files, for who has to wait.
        on_wait: told now and then who holds the devices.

    Returns:
        The names taken, and open descriptors which a process started meanwhile must inherit; this process's own copies are closed at
        the end of the block.

    Raises:
        ThesisAssetsError: there are fewer than `count`.
    """
    require_devices(names, count)
    taken: dict[str, int] = {}
    said = -SAY_SECONDS
    try:
        while len(taken) < count:
            for name in names:
                if len(taken) < count and name not in taken and (descriptor := _try(name, holder)) is not None:
                    taken[name] = descriptor
            if len(taken) < count:
                # All or none, or two jobs that each hold one and want two would wait for ever.
                _release(taken)
                if on_wait is not None and time.monotonic() - said >= SAY_SECONDS:
                    said = time.monotonic()
                    on_wait(f"waiting for {count} of the GPUs {', '.join(names)}; held by {'; '.join(_holders(names))}")
                time.sleep(POLL_SECONDS)
        for descriptor in taken.values():
            os.set_inheritable(descriptor, True)
        yield list(taken), list(taken.values())
    finally:
        _release(taken)


def require_devices(names: Sequence[str], count: int) -> None:
    """Refuse more devices than there are.

    Raises:
        ThesisAssetsError: there are fewer than `count`.
    """
    if count > len(names):
        raise ThesisAssetsError(
            "the run wants more GPUs than this machine has",
            key="num_processes",
            found=count,
            wanted=f"at most {len(names)} ({', '.join(names) or 'none is visible'})",
            remedy="lower num_processes, or run on a machine with more GPUs",
        )


def visible_gpus(device: str) -> list[str]:
    """This host's GPUs that a job on `device` may take, as CUDA_VISIBLE_DEVICES has them.

    Args:
        device: `cuda` for any that is visible, `cuda:<number>` for that one of them.
    """
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        import torch

        names = [str(number) for number in range(torch.cuda.device_count())]
    else:
        names = [name.strip() for name in listed.split(",") if name.strip()]
    number = device.partition(":")[2]
    return names[int(number) : int(number) + 1] if number else names


def _try(name: str, holder: str) -> int | None:
    descriptor = _open(device_lock(name))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    # Another user's file can be locked, not written: only the name of the holder is lost.
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_RDWR:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)
    return descriptor


def _open(path: Path) -> int:
    """Open a lock file, which may be another user's, in a folder where everybody may put a link in its place."""
    try:
        # World-readable: reading is all that a lock needs.
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    except FileExistsError:
        mode = os.O_RDWR if os.access(path, os.W_OK) else os.O_RDONLY
    try:
        return os.open(path, mode | os.O_NOFOLLOW)
    except OSError as error:
        raise ThesisAssetsError(
            "the lock file of a GPU cannot be opened",
            file=path,
            found=error.strerror,
            wanted="an ordinary file that everybody may read",
            remedy="remove it while no job uses the GPU",
        ) from error


def _release(taken: dict[str, int]) -> None:
    """Close this process's descriptors: what inherited them keeps the lock."""
    while taken:
        os.close(taken.popitem()[1])


def _holders(names: Sequence[str]) -> list[str]:
    holders = []
    for name in names:
        path = device_lock(name)
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        holders.append(f"{name}: {text or 'free'}")
    return holders
