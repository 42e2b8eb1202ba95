"""Writes what is compared: predictions, truths, and pictures of where they differ, each image decoded once for both uses.

Differences have one scale for all epochs and runs. Does not belong here: any metric; a difference is for the eye.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.evaluation.qualitative.image_tracks import (
    BATCH_FRAMES,
    JPEG_QUALITY,
    THREADS,
    attempt,
    encoded_image,
    send_media_type,
)
from thesis_assets.evaluation.qualitative.recording import Recording
from thesis_assets.evaluation.qualitative.tracks import Absences, ComparedTrack, ExportOptions
from thesis_assets.images.codecs import check_complete, encode_jpeg, read_rgb

if TYPE_CHECKING:
    from numpy.typing import NDArray

FULL_SCALE = 64
"""The mean over the channels of |prediction - truth|, of 255, from which on a pixel is white. Fixed, so that epochs compare."""

_ANCHORS = ((0, 0, 0), (46, 16, 92), (140, 34, 100), (225, 80, 50), (250, 175, 40), (255, 255, 255))
"""Black over violet, red and yellow to white: brightness grows evenly, so that it reads in grey too."""

_Blob = bytes | InvalidFile | None


def write_compared(
    recording: Recording, track: ComparedTrack, options: ExportOptions, absences: Absences, expected: Sequence[int]
) -> None:
    """Send one camera's predictions, truths and differences; where a frame of `expected` has none, what was shown is cleared.

    Broken files are noted; images that cannot be compared are noted at the prediction.
    """
    import rerun as rr

    sides = {track.prediction.entity: track.prediction.files, track.truth.entity: track.truth.files}
    files = {entity: options.first(of_side) for entity, of_side in sides.items()}
    compared = set(options.first(track.files))
    for entity, of_side in files.items():
        send_media_type(recording, entity, of_side, options)
    recording.send_static(track.entity, rr.EncodedImage.from_fields(media_type="image/jpeg"))
    sent: dict[str, list[int]] = {entity: [] for entity in (*files, track.entity)}
    predictions, truths = files.values()
    frames = sorted({*predictions, *truths})
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        for start in range(0, len(frames), BATCH_FRAMES):
            batch = frames[start : start + BATCH_FRAMES]
            encoded = pool.map(
                lambda frame: _encoded(predictions.get(frame), truths.get(frame), frame in compared, options), batch
            )
            blobs: dict[str, dict[int, bytes]] = {entity: {} for entity in sent}
            for frame, results in zip(batch, encoded, strict=True):
                paths = (predictions.get(frame), truths.get(frame), predictions.get(frame))
                for entity, path, result in zip(blobs, paths, results, strict=True):
                    if isinstance(result, bytes):
                        blobs[entity][frame] = result
                    elif result is not None and path is not None:
                        absences.left_out(path, result.problem)
            for entity, of_entity in blobs.items():
                if of_entity:
                    columns = rr.EncodedImage.columns(blob=list(of_entity.values()))
                    n_bytes = sum(map(len, of_entity.values()))
                    recording.send_frames(entity, list(of_entity), columns, n_bytes=n_bytes)
                sent[entity] += of_entity
    for entity, there in sent.items():
        recording.clear_frames(entity, sorted(set(expected) - set(there)))


def _encoded(
    prediction: Path | None, truth: Path | None, compared: bool, options: ExportOptions
) -> tuple[_Blob, _Blob, _Blob]:
    """The bytes of one frame's prediction, truth and difference: None where there is none, an error where it is broken."""
    results: list[_Blob] = []
    pixels: list[NDArray[np.uint8]] = []
    for path in (prediction, truth):
        if path is None:
            results.append(None)
            continue
        found = attempt(lambda path: _image(path, options, decode=compared), path)
        if isinstance(found, InvalidFile):
            results.append(found)
            continue
        blob, image = found
        results.append(blob)
        if image is not None:
            pixels.append(image)
    if compared and len(pixels) == 2 and prediction is not None:
        results.append(attempt(lambda path: _difference(path, *pixels), prediction))
    else:
        results.append(None)
    return results[0], results[1], results[2]


def _image(path: Path, options: ExportOptions, *, decode: bool) -> tuple[bytes, NDArray[np.uint8] | None]:
    """An image's bytes for the recording, and its pixels where they are wanted."""
    if options.lossless or path.suffix.lower() != ".png":
        return encoded_image(path, lossless=options.lossless), read_rgb(path) if decode else None
    check_complete(path)
    image = read_rgb(path)
    return encode_jpeg(image, quality=JPEG_QUALITY), image


def _difference(prediction: Path, one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bytes:
    if one.shape != other.shape:
        raise InvalidFile(
            f"no difference: the image is {one.shape[:2]}, the truth {other.shape[:2]}",
            file=prediction,
            found=one.shape[:2],
            wanted=other.shape[:2],
        )
    return encode_jpeg(coloured(np.maximum(one, other) - np.minimum(one, other)), quality=JPEG_QUALITY)


def coloured(distances: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) distances of channels, of 255 -> (H, W, 3) colours of their mean."""
    summed = distances[..., 0].astype(np.uint16) + distances[..., 1] + distances[..., 2]
    return np.take(_PALETTE, summed, axis=0)


def _palette() -> NDArray[np.uint8]:
    """A colour for each sum of three channels' distances, 0 to 765."""
    brightness = np.clip(np.arange(3 * 255 + 1) / (3 * FULL_SCALE), 0, 1)
    places = np.linspace(0, 1, len(_ANCHORS))
    channels = [np.interp(brightness, places, [anchor[channel] for anchor in _ANCHORS]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)


_PALETTE = _palette()
