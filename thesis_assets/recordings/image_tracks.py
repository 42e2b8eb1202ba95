"""Writes images, their differences, masks and depth into a recording: JPEG files as they are, PNG as JPEG unless lossless, in batches.

Differences have one scale for all epochs and runs. Does not belong here: which files there are, where they stand in the tree, any
metric; a difference is for the eye.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from thesis_assets.errors import InvalidFile
from thesis_assets.images.codecs import (
    check_complete,
    encode_jpeg,
    encode_png,
    image_kind,
    image_size,
    read_mask,
    read_rgb,
)
from thesis_assets.recordings.recording import Recording
from thesis_assets.recordings.tracks import (
    PERSON_COLOURS,
    Absences,
    ComparedTrack,
    DepthTrack,
    ExportOptions,
    FrameFiles,
    ImageTrack,
    MaskTrack,
)
from thesis_assets.scenes.bounded_files import read_depth

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray

Result = TypeVar("Result")

BATCH_FRAMES = 8
"""Whole sequences in one call took four times the memory and were slower."""
_MASK_BATCH_FRAMES = 4
"""Masks go in as plain bytes, a full-size one of 1.2 MB."""
JPEG_QUALITY = 90
THREADS = min(8, os.cpu_count() or 1)
_DEPTH_UNITS_PER_METRE = 1000.0
"""16-bit PNG in millimetres: float32 depth of one camera over 150 frames would be 700 MB that hardly compress."""
_UNION_CLASS = 255
"""Class of pixels that belong to people, where the scene does not say to whom."""
_MASK_OPACITY = 0.3
"""So that the person under a mask is still seen."""
FULL_SCALE = 64
"""The mean over the channels of |prediction - truth|, of 255, from which on a pixel is white. Fixed, so that epochs compare."""
_ANCHORS = ((0, 0, 0), (46, 16, 92), (140, 34, 100), (225, 80, 50), (250, 175, 40), (255, 255, 255))
"""Black over violet, red and yellow to white: brightness grows evenly, so that it reads in grey too."""
_Blob = bytes | InvalidFile | None
_MEDIA_TYPES = {"jpeg": "image/jpeg", "png": "image/png"}


def write_images(
    recording: Recording, track: ImageTrack, options: ExportOptions, absences: Absences, expected: Sequence[int]
) -> None:
    """Send the frames of one image entity; broken files are noted, and frames of `expected` without a picture are cleared."""
    import rerun as rr

    files = options.first(track.files)
    _send_media_type(recording, track.entity, files, options)
    encoded = batches(files, lambda path: _encoded_image(path, lossless=options.lossless), absences)
    _send_blobs(recording, track.entity, encoded, rr.EncodedImage, expected)


def _send_blobs(
    recording: Recording,
    entity: str,
    encoded: Iterator[tuple[list[int], list[bytes]]],
    archetype: Any,
    expected: Sequence[int],
) -> None:
    sent: list[int] = []
    for frames, blobs in encoded:
        recording.send_frames(entity, frames, archetype.columns(blob=blobs), n_bytes=sum(map(len, blobs)))
        sent += frames
    recording.clear_frames(entity, sorted(set(expected) - set(sent)))


def _send_media_type(recording: Recording, entity: str, files: FrameFiles, options: ExportOptions) -> None:
    """Log the one media type of a track's pictures; where they have several the viewer looks at each."""
    import rerun as rr

    kinds = {"png" if options.lossless and path.suffix.lower() == ".png" else "jpeg" for path in files.values()}
    if len(kinds) == 1 or not options.lossless:
        media_type = _MEDIA_TYPES[kinds.pop() if kinds else "jpeg"]
        recording.send_static(entity, rr.EncodedImage.from_fields(media_type=media_type))


def _encoded_image(path: Path, *, lossless: bool) -> bytes:
    """The bytes of an image as they go into a recording.

    Raises:
        InvalidFile: the image is broken, or not what its suffix says.
    """
    check_complete(path)
    content = path.read_bytes()
    kind = image_kind(content[:16])
    if kind == "jpeg":
        return content
    if not lossless:
        return encode_jpeg(read_rgb(path), quality=JPEG_QUALITY)
    if path.suffix.lower() != ".png":
        raise InvalidFile("the file is a PNG under another suffix", file=path, found=path.suffix, wanted=".png")
    return content


def encoded_pixels(image: NDArray[np.uint8], *, lossless: bool) -> tuple[bytes, str]:
    """The bytes and the media type of an (H, W, 3) picture that is on no disk."""
    if lossless:
        return encode_png(image), _MEDIA_TYPES["png"]
    return encode_jpeg(image, quality=JPEG_QUALITY), _MEDIA_TYPES["jpeg"]


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
        _send_media_type(recording, entity, of_side, options)
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
        return _encoded_image(path, lossless=options.lossless), read_rgb(path) if decode else None
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


def write_masks(
    recording: Recording, track: MaskTrack, options: ExportOptions, absences: Absences, expected: Sequence[int]
) -> None:
    """Send the masks of one camera as one segmentation: class k + 1 is person k, 0 is nobody."""
    import rerun as rr
    from rerun.components import ImageFormat

    frames = track.frames[: options.max_frames_per_camera or None]
    sent: list[int] = []
    for batch, classes in _segmentations(track.layers, frames, absences):
        _, height, width = classes.shape
        if not sent:
            image_format = ImageFormat(width=width, height=height, channel_datatype="U8")
            recording.send_static(
                track.entity, rr.SegmentationImage.from_fields(format=image_format, opacity=_MASK_OPACITY)
            )
        columns = rr.SegmentationImage.columns(buffer=_blobs(classes))
        recording.send_frames(track.entity, batch, columns, n_bytes=classes.size)
        sent += batch
    recording.clear_frames(track.entity, sorted(set(expected) - set(sent)))


def write_mask_legend(recording: Recording, entity: str) -> None:
    """Names and colours of the classes below `entity`. Class 0 is transparent: it would tint the whole picture."""
    import rerun as rr

    people = [
        rr.AnnotationInfo(id=number + 1, label=f"person {number}", color=(*colour, 255))
        for number, colour in enumerate(PERSON_COLOURS)
    ]
    nobody = rr.AnnotationInfo(id=0, label="nobody", color=(0, 0, 0, 0))
    union = rr.AnnotationInfo(id=_UNION_CLASS, label="people", color=(*PERSON_COLOURS[0], 255))
    recording.send_static(entity, rr.AnnotationContext([nobody, *people, union]))


def write_depth(
    recording: Recording, track: DepthTrack, options: ExportOptions, absences: Absences, expected: Sequence[int]
) -> None:
    """Send the depth maps of one camera; those of another size than its photographs are left out: their points would be elsewhere."""
    import rerun as rr

    recording.send_static(
        track.entity, rr.EncodedDepthImage.from_fields(media_type="image/png", meter=_DEPTH_UNITS_PER_METRE)
    )
    size = attempt(image_size, track.picture) if track.picture is not None else None
    encode = functools.partial(_encoded_depth, size=None if isinstance(size, InvalidFile) else size)
    encoded = batches(options.first(track.files), encode, absences)
    _send_blobs(recording, track.entity, encoded, rr.EncodedDepthImage, expected)


def _encoded_depth(path: Path, size: tuple[int, int] | None = None) -> bytes:
    """A `.npy` of (H, W) metres as 16-bit PNG in millimetres; unknown, negative and beyond 65.535 m become 0 = unknown.

    Raises:
        InvalidFile: see `read_depth`.
    """
    import io

    from PIL import Image

    units = np.nan_to_num(read_depth(path, size), nan=0.0, posinf=0.0, neginf=0.0) * _DEPTH_UNITS_PER_METRE
    units[(units < 0) | (units > np.iinfo(np.uint16).max)] = 0
    buffer = io.BytesIO()
    Image.fromarray(np.rint(units).astype(np.uint16)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _segmentations(
    layers: Mapping[str, FrameFiles], frames: Sequence[int], absences: Absences
) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
    """Frames with their (n, H, W) classes, in batches made on all cores. Frames without a usable mask are left away."""
    size = _mask_size(layers, frames, absences)
    if size is None:
        return
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        for start in range(0, len(frames), _MASK_BATCH_FRAMES):
            batch = list(frames[start : start + _MASK_BATCH_FRAMES])
            # Not one array for all batches: the SDK may still be at work on the last one.
            classes = np.empty((len(batch), *size), np.uint8)
            faults = list(pool.map(lambda frame, out: _draw_classes(layers, frame, out), batch, classes))
            for path, reason in (fault for of_frame in faults for fault in of_frame):
                absences.left_out(path, reason)
            usable = [
                row
                for row, (frame, of_frame) in enumerate(zip(batch, faults, strict=True))
                if len(of_frame) < len(_layers_of_frame(layers, frame))
            ]
            if usable:
                yield [batch[row] for row in usable], classes if len(usable) == len(batch) else classes[usable]


def _mask_size(layers: Mapping[str, FrameFiles], frames: Sequence[int], absences: Absences) -> tuple[int, int] | None:
    """(H, W) of a camera's masks, by the first usable one; broken ones before it are noted. None where none is usable."""
    for frame in frames:
        for _, path in sorted(_layers_of_frame(layers, frame).items()):
            mask = attempt(read_mask, path)
            if not isinstance(mask, InvalidFile):
                return mask.shape[0], mask.shape[1]
            absences.left_out(path, mask.problem)
    return None


def _draw_classes(layers: Mapping[str, FrameFiles], frame: int, out: NDArray[np.uint8]) -> list[tuple[Path, str]]:
    """Fill `out` with the (H, W) classes of one frame. Returns the masks that cannot be used, each with the reason."""
    faults = []
    is_empty = True
    for number, path in sorted(_layers_of_frame(layers, frame).items()):
        mask = attempt(read_mask, path)
        if isinstance(mask, InvalidFile):
            faults.append((path, mask.problem))
        elif mask.shape != out.shape:
            faults.append((path, f"the mask is {mask.shape}, the others of this camera {out.shape}"))
        elif is_empty:
            np.multiply(mask.view(np.uint8), np.uint8(number), out=out)
            is_empty = False
        else:
            np.copyto(out, np.uint8(number), where=mask)
    return faults


def _blobs(arrays: NDArray[np.uint8]) -> pyarrow.Array:
    """(n, ...) bytes as n blobs, without a copy: what the SDK does with arrays and `bytes` are two."""
    import pyarrow

    rows = arrays.reshape(len(arrays), -1)
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * np.int32(rows.shape[1])
    blob = pyarrow.list_(pyarrow.field("item", pyarrow.uint8(), nullable=False))
    return pyarrow.ListArray.from_arrays(offsets, pyarrow.array(rows.reshape(-1)), type=blob)


def _layers_of_frame(layers: Mapping[str, FrameFiles], frame: int) -> dict[int, Path]:
    """Class to file: the people's where the frame has them, else the union's."""
    people = {int(person) + 1: files[frame] for person, files in layers.items() if person != "all" and frame in files}
    union = layers.get("all", {}).get(frame)
    return people or ({_UNION_CLASS: union} if union else {})


def batches(
    files: FrameFiles, read: Callable[[Path], Result], absences: Absences
) -> Iterator[tuple[list[int], list[Result]]]:
    """What `read` makes of files, in batches of `BATCH_FRAMES`, in order, on a few threads; broken ones are noted and left out."""
    items = list(files.items())
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        for start in range(0, len(items), BATCH_FRAMES):
            batch = items[start : start + BATCH_FRAMES]
            results = list(pool.map(lambda item: attempt(read, item[1]), batch))
            frames, read_results = [], []
            for (frame, path), result in zip(batch, results, strict=True):
                if isinstance(result, InvalidFile):
                    absences.left_out(path, result.problem)
                else:
                    frames.append(frame)
                    read_results.append(result)
            if frames:
                yield frames, read_results


def attempt(encode: Callable[[Path], Result], path: Path) -> Result | InvalidFile:
    """What `encode` makes of a file, or why it cannot."""
    try:
        return encode(path)
    except InvalidFile as error:
        return error
    except OSError as error:
        return InvalidFile(f"the file cannot be read: {error.strerror}", file=path)
