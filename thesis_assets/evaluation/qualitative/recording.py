"""The life of one Rerun recording: identity, temporary file, columns in, verified footer, rename.

Belongs here: everything that must be the same for each .rrd (ids, timelines, constant start time, strict mode).
Does not belong here: what is logged (`track_writers`), how it is laid out (`blueprints`).
"""

from __future__ import annotations

import contextlib
import uuid
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.layout import epoch_name

FRAME, EPOCH, STEP = "frame", "epoch", "step"
"""The timelines. `step` stands only in the recording of a tuning run."""

FLUSH_BYTES = 12 * 1024 * 1024
"""The SDK queues what it is sent without bound; waiting for it this often bounds memory."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:thesis-assets:recordings")


@dataclass(frozen=True)
class RecordingIdentity:
    """What a recording is of. One recording id an identity; one application id a kind and epoch.

    The viewer keeps one blueprint an application id, so input data and each epoch have their own and keep their layouts when
    they are opened together.
    """

    kind: str
    exp_name: str
    run_name: str
    scene_name: str
    epoch: int | None = None

    @property
    def application_id(self) -> str:
        return f"thesis_assets_{self.kind}" + (f"_{epoch_name(self.epoch)}" if self.epoch is not None else "")

    @property
    def recording_id(self) -> str:
        parts = (self.exp_name, self.run_name, self.scene_name, self.kind, str(self.epoch))
        return str(uuid.uuid5(_NAMESPACE, "\n".join(parts)))

    @property
    def title(self) -> str:
        epoch = f", epoch {self.epoch}" if self.epoch is not None else ""
        return f"{self.kind.replace('_', ' ')}: {self.scene_name}, {self.exp_name}, {self.run_name}{epoch}"


class Recording:
    """An open recording. Frames go in as columns, in batches; static parts once."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._unflushed = 0

    def send_static(self, entity: str, archetype: Any) -> None:
        """Log what holds for all frames."""
        self._stream.log(entity, archetype, static=True)

    def send_frames(
        self, entity: str, frames: Sequence[int], columns: Any, *, epoch: int | None = None, n_bytes: int = 0
    ) -> None:
        """Send rows on the timeline `frame`, and also on `epoch` where one is given.

        Args:
            columns: component columns with one row a frame.
            n_bytes: about how much that is, for the flush.
        """
        import rerun as rr

        indexes = [rr.TimeColumn(FRAME, sequence=frames)]
        if epoch is not None:
            indexes.append(rr.TimeColumn(EPOCH, sequence=[epoch] * len(frames)))
        self._send(entity, indexes, columns, n_bytes)

    def send_epoch(self, entity: str, epoch: int, columns: Any) -> None:
        """Send one row on the timeline `epoch`."""
        import rerun as rr

        self._send(entity, [rr.TimeColumn(EPOCH, sequence=[epoch])], columns, 0)

    def send_steps(self, entity: str, steps: Sequence[int], columns: Any) -> None:
        """Send rows on the timeline `step`."""
        import rerun as rr

        self._send(entity, [rr.TimeColumn(STEP, sequence=steps)], columns, 0)

    def clear_frames(self, entity: str, frames: Sequence[int]) -> None:
        """End what an entity showed: otherwise the viewer keeps the last frame's picture where one is missing."""
        import rerun as rr

        if frames:
            self.send_frames(entity, frames, rr.Clear.columns(is_recursive=[False] * len(frames)))

    def send_property(self, name: str, **values: str | int | bool) -> None:
        """Set a recording property: what a catalog can filter and group by."""
        import rerun as rr

        self._stream.send_property(name, rr.AnyValues(drop_untyped_nones=True, **values))

    def _send(self, entity: str, indexes: list[Any], columns: Any, n_bytes: int) -> None:
        self._stream.send_columns(entity, indexes, columns)
        self._unflushed += n_bytes
        if self._unflushed >= FLUSH_BYTES:
            self._stream.flush()
            self._unflushed = 0


@contextlib.contextmanager
def open_recording(path: Path, identity: RecordingIdentity, blueprint: Any) -> Iterator[Recording]:
    """Yield a recording that is written to a temporary file; on success it is complete at `path`, on failure nothing is.

    Raises:
        ThesisAssetsError: recording is switched off in this environment.
        InvalidFile: the file has no footer at the end (a full disk).
    """
    import rerun as rr

    with storage.atomic_file(path) as temporary, _strict():
        stream = rr.RecordingStream(identity.application_id, recording_id=identity.recording_id, send_properties=False)
        if not rr.is_enabled(stream):
            raise ThesisAssetsError(
                "Rerun's recording is switched off", key="RERUN", found="off", remedy="unset the variable RERUN"
            )
        # Log time would make a third timeline, and no two exports of one tree the same.
        stream.set_log_time_enabled(False)
        stream.save(temporary)
        try:
            # `save(default_blueprint=...)` would lose against the layout of another scene that was opened before.
            stream.send_blueprint(blueprint, make_active=True, make_default=True)
            stream.send_recording_name(identity.title)
            stream.send_recording_start_time_nanos(0)
            recording = Recording(stream)
            _send_identity(recording, identity)
            yield recording
        finally:
            stream.flush()
            stream.disconnect()
        _check_footer(temporary, path)


def _send_identity(recording: Recording, identity: RecordingIdentity) -> None:
    recording.send_property(
        "experiment",
        kind=identity.kind,
        exp_name=identity.exp_name,
        run_name=identity.run_name,
        scene_name=identity.scene_name,
    )
    if identity.epoch is not None:
        recording.send_property("epoch", epoch=identity.epoch)


@contextlib.contextmanager
def _strict() -> Iterator[None]:
    """Wrong columns raise instead of leaving a warning and a hole in the file."""
    import rerun as rr

    before = rr.strict_mode()
    rr.set_strict_mode(True)
    try:
        yield
    finally:
        rr.set_strict_mode(before)


def _check_footer(temporary: Path, path: Path) -> None:
    """A full disk leaves a file without the index at its end; the SDK itself only logs that."""
    problem = footer_problem(temporary)
    if problem is not None:
        raise InvalidFile(
            "the recording was not written to its end",
            file=path,
            found=problem,
            remedy="look for space on the disk, then export again",
        )


def footer_problem(path: Path) -> str | None:
    """Why the index at a recording's end cannot be used, or None where it can."""
    from rerun.chunk import RrdReader

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            RrdReader(path).store()
        except (RuntimeError, ValueError, OSError) as error:
            return str(error)[:300]
    return None
