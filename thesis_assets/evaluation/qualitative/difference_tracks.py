"""Writes pictures of where a prediction differs from the truth: dark where they agree, one scale for all epochs and runs.

Does not belong here: any metric; a difference is for the eye.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.qualitative.image_tracks import JPEG_QUALITY, batches
from thesis_assets.evaluation.qualitative.recording import Recording
from thesis_assets.evaluation.qualitative.tracks import Absences, DifferenceTrack, ExportOptions
from thesis_assets.images.codecs import encode_jpeg, read_rgb

if TYPE_CHECKING:
    from numpy.typing import NDArray

FULL_SCALE = 64
"""The mean over the channels of |prediction - truth|, of 255, from which on a pixel is white. Fixed, so that epochs compare."""

_ANCHORS = ((0, 0, 0), (46, 16, 92), (140, 34, 100), (225, 80, 50), (250, 175, 40), (255, 255, 255))
"""Black over violet, red and yellow to white: brightness grows evenly, so that it reads in grey too."""


def write_differences(
    recording: Recording, track: DifferenceTrack, options: ExportOptions, absences: Absences, expected: Sequence[int]
) -> None:
    """Send one camera's difference pictures, at the frames that both sides have; other frames of `expected` are cleared.

    A frame whose images cannot be compared is noted at its prediction.
    """
    import rerun as rr

    truth = track.truth

    def encoded(prediction: Path) -> bytes:
        return encode_jpeg(difference(prediction, truth[frames_of[prediction]]), quality=JPEG_QUALITY)

    frames_of = {path: frame for frame, path in track.files.items()}
    recording.send_static(track.entity, rr.EncodedImage.from_fields(media_type="image/jpeg"))
    sent: list[int] = []
    for frames, blobs in batches(options.first(track.files), encoded, absences):
        n_bytes = sum(map(len, blobs))
        recording.send_frames(track.entity, frames, rr.EncodedImage.columns(blob=blobs), n_bytes=n_bytes)
        sent += frames
    recording.clear_frames(track.entity, sorted(set(expected) - set(sent)))


def difference(prediction: Path, truth: Path) -> NDArray[np.uint8]:
    """(H, W, 3) colours of the mean over the channels of |prediction - truth|.

    Raises:
        InvalidFile: an image is broken, or they are not of one size.
    """
    one, other = read_rgb(prediction), read_rgb(truth)
    if one.shape != other.shape:
        raise InvalidFile(
            f"no difference to {truth.name}: they are not of one size",
            file=prediction,
            found=one.shape[:2],
            wanted=other.shape[:2],
        )
    return coloured(np.maximum(one, other) - np.minimum(one, other))


def coloured(distances: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) distances of channels, of 255 -> (H, W, 3) colours."""
    summed = distances[..., 0].astype(np.uint16) + distances[..., 1] + distances[..., 2]
    return np.take(_palette(), summed, axis=0)


def _palette() -> NDArray[np.uint8]:
    """A colour for each sum of three channels' distances, 0 to 765."""
    brightness = np.clip(np.arange(3 * 255 + 1) / (3 * FULL_SCALE), 0, 1)
    places = np.linspace(0, 1, len(_ANCHORS))
    channels = [np.interp(brightness, places, [anchor[channel] for anchor in _ANCHORS]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)
