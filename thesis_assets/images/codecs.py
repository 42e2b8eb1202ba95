"""Images between files and arrays: bounded reading, masks, header sizes, encoding, and a cheap test of completeness.

An image is an (H, W, 3) uint8 RGB array, a mask an (H, W) bool array. Pixels are taken as stored: no orientation tag is applied.
Headers and ends are read by the specification of PNG (sections 5.2 and 11.2.1) and by ITU-T T.81, annex B (segments up to the
frame header). Does not belong here: which image is read or where it is written; metrics.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import struct
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, ThesisAssetsError, pip_install

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image


PngEncoder = Literal["isal", "pillow", "opencv"]
_BAND = 16
"""Rows of one checksum of `pixel_digest`."""

MAX_PIXELS = 64 * 1024 * 1024
"""Largest image that is decoded: 8192 x 8192. A file of 100 KB can claim more and fill the memory."""
MAX_FILE_BYTES = 512 * 1024 * 1024
_UNDECODABLE = "the image cannot be decoded"
_MASK_THRESHOLD = 128
_SOFT_SHARE = 5
"""Of a soft-edged mask no single value between 0 and 255 covers a fifth of what 255 does; of a person's number, one does."""
JPEG_QUALITY = 95


class SizeMismatch(ThesisAssetsError):
    """An image of another size than those it belongs to."""


def check_size(found: tuple[int, int], wanted: tuple[int, int], image: Path | str) -> None:
    """Refuse an image whose (height, width) is not the wanted one.

    Raises:
        SizeMismatch: it differs.
    """
    if found != wanted:
        raise SizeMismatch(
            "an image has another size than those it belongs to",
            file=image,
            found=f"{found[1]} x {found[0]}",
            wanted=f"{wanted[1]} x {wanted[0]}",
            remedy="render, photograph and reference of a sample need one size",
        )


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG. Returns (H, W, 3) uint8 RGB.

    Grey, palette and opaque RGBA images become RGB.

    Raises:
        InvalidFile: it is missing, empty, truncated, not JPEG or PNG, above `MAX_PIXELS`, deeper than 8 bit, or transparent.
    """
    return _decode(path, "RGB")


def read_reduced(path: Path, height: int) -> NDArray[np.uint8]:
    """As `read_rgb`, for a picture to look at: a JPEG is decoded at the smallest eighth that is still `height` pixels high, a PNG
    is brought near it by averaging blocks."""
    return _decode(path, "RGB", smallest=height)


def reduced(image: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    """An (H, W, 3) uint8 image brought near a smaller height by averaging blocks."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).reduce(max(1, image.shape[0] // height)))


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Decode a mask of 0 and 255, with soft edges or without (read with the threshold 128). Returns (H, W) bool.

    Raises:
        InvalidFile: as `read_rgb`; or it holds numbers of people or of classes in place of 255.
    """
    return mask_of(_decode(path, "L"), path)


def mask_of(grey: NDArray[np.uint8], path: Path) -> NDArray[np.bool_]:
    """(H, W) bool of a mask's (H, W) grey values. Values between 0 and 255 are the soft edges of what 255 covers, or no mask.

    Raises:
        InvalidFile: `path` holds numbers of people or of classes, of which a threshold would take some and lose others.
    """
    inside = grey >= _MASK_THRESHOLD
    # Few masks have any value between: those alone are counted.
    if (grey + np.uint8(1) > 1).any():  # 255 wraps to 0
        counts = np.bincount(grey.reshape(-1), minlength=256)
        others = counts[1:255]
        if others.max() * _SOFT_SHARE > counts[255]:
            values = np.flatnonzero(counts)
            shown = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
            raise InvalidFile(
                "a mask marks by other values than 255",
                file=path,
                found=f"grey values {shown}",
                wanted="0 for background, 255 for people; a little of other values along soft edges",
                remedy="write a file a person, with 255 where the person is, and `all` with everybody; "
                "values of a palette are the file's indices, not its colours",
            )
    return np.asarray(inside)


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of a JPEG or PNG, from its header alone.

    Raises:
        InvalidFile: it is missing, empty, or not JPEG or PNG.
    """
    with _opened(path) as handle:
        return _read_size(handle, path)


def check_complete(path: Path | str) -> tuple[int, int]:
    """Refuse an image whose header or end is missing; its pixels are not decoded. Returns (height, width).

    An image with bytes after its end marker (phones append a movie) is decoded once to be sure.

    Raises:
        InvalidFile: it is missing, empty, not JPEG or PNG, deeper than 8 bit, or cut short.
    """
    try:
        # Without a file object around it: for three files a sample, a million samples, it would cost as much again.
        descriptor = os.open(path, os.O_RDONLY)
        try:
            first = os.pread(descriptor, _FIRST_READ, 0)
            size, end = _size(descriptor, first, path), _find_end(descriptor, first)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InvalidFile("the image cannot be opened", file=path, found=error.strerror) from error
    if end == "missing":
        raise InvalidFile("the image is cut short", file=path, found="no end marker", remedy="write it again")
    if end == "followed":
        try:
            read_rgb(Path(path))
        except InvalidFile as error:
            if error.problem != _UNDECODABLE:
                raise
            found = error.found
            raise InvalidFile("the image is cut short", file=path, found=found, remedy="write it again") from error
    return size


def jpeg_components(path: Path) -> int | None:
    """Channels of a JPEG: 3 of a colour photograph, 1 of a grey one, 4 of print colours. None: it is no JPEG.

    Raises:
        InvalidFile: it is missing or empty, or has no usable header.
    """
    with _opened(path) as handle:
        first = os.pread(handle.fileno(), _FIRST_READ, 0)
        _size(handle.fileno(), first, path)
        frame = _jpeg_frame(handle.fileno(), first) if image_kind(first) == "jpeg" else None
        return None if frame is None else frame[9]


def pixel_digest(image: NDArray[np.uint8]) -> str:
    """Hex digest of an image's pixels, however they are encoded: sha256 of its shape and of the CRC-32 of each band of rows.

    Tells an image that came out otherwise from one that did not, not a forged one: files have their own sha256. A fortieth of what
    sha256 of the pixels costs, which would be a fifth of encoding them.
    """
    from isal import isal_zlib

    rows = np.ascontiguousarray(image)
    bands = [isal_zlib.crc32(rows[start : start + _BAND].data) for start in range(0, len(rows), _BAND)]
    return storage.sha256_value([list(image.shape), bands])


def encode_png(image: NDArray[np.uint8], encoder: PngEncoder = "isal") -> bytes:
    """Lossless PNG of an (H, W, 3) or (H, W) uint8 array. Every encoder gives the same decoded pixels."""
    check_array(image)
    if encoder == "isal":
        return encode_isal(image)
    if encoder == "pillow":
        return _encode_pillow(image, "PNG")
    return _encode_opencv(image)


def encoder_version(encoder: PngEncoder) -> str:
    """Name and version of what makes the bytes, for the record of a sample."""
    if encoder == "isal":
        import isal

        return f"isal {isal.__version__} level {PNG_LEVEL}"
    if encoder == "pillow":
        import PIL

        return f"pillow {PIL.__version__}"
    return f"opencv {_cv2().__version__}"


def encode_jpeg(image: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> bytes:
    """JPEG (4:2:0) of an (H, W, 3) or (H, W) uint8 array."""
    check_array(image)
    return _encode_pillow(image, "JPEG", quality=quality)


def a_channel(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """An (H, W) mask once a channel, (H, W, 3): numpy repeats it inside a product at many times the cost."""
    repeated = np.empty((*mask.shape, 3), np.bool_)
    for channel in range(3):  # `np.repeat` takes longer, and holds the interpreter lock
        repeated[..., channel] = mask
    return repeated


def on_background(
    image: NDArray[np.uint8], inside: NDArray[np.bool_], value: int = 0, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """An (H, W, 3) uint8 image where the mask is true, a grey of `value` elsewhere.

    Args:
        inside: (H, W, 3), of `a_channel`.
        out: filled and returned, in place of a new array.
    """
    covered = np.multiply(image, inside, out=out)
    if value:
        around = inside.view(np.uint8) - np.uint8(1)  # 0 inside; wraps to 255 outside
        around &= np.uint8(value)
        covered |= around
    return covered


def encode_blackened(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> bytes:
    """JPEG of an (H, W, 3) uint8 array, black where the (H, W) mask is false."""
    return encode_jpeg(on_background(image, a_channel(mask), out=scratch("blackened", image.shape)))


def _opened(path: Path) -> io.BufferedReader:
    try:
        return path.open("rb")
    except OSError as error:
        raise InvalidFile("the image cannot be opened", file=path, found=error.strerror) from error


def _decode(path: Path, mode: Literal["RGB", "L"], *, smallest: int | None = None) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    with _opened(path) as handle:
        height, width = _read_size(handle, path)
        file_bytes = os.fstat(handle.fileno()).st_size
        if height * width > MAX_PIXELS or file_bytes > MAX_FILE_BYTES:
            raise InvalidFile(
                "the image is larger than any of its kind",
                file=path,
                found=f"{width} x {height} pixels in {file_bytes} bytes",
                wanted=f"at most {MAX_PIXELS} pixels and {MAX_FILE_BYTES} bytes",
            )
        handle.seek(0)
        if smallest is None and handle.read(len(PNG_SIGNATURE)) == PNG_SIGNATURE:
            handle.seek(0)
            own = decode_isal(handle.read(), height, width, channels=3 if mode == "RGB" else 1)
            if own is not None:
                return own
        handle.seek(0)
        try:
            with Image.open(handle, formats=("JPEG", "PNG")) as image:
                if smallest is not None:
                    return np.asarray(_reduced(image, mode, path, smallest))
                return _pixels(_converted(image, mode, path))
        # Pillow raises SyntaxError and struct.error's base for broken PNG chunks, ValueError for its own text limits.
        except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise InvalidFile(_UNDECODABLE, file=path, found=str(error)[:200], remedy="write it again") from error


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """An image as an array; a grey one where it lies in memory, as fresh memory for a copy costs as much as decoding."""
    if image.mode == "L" and hasattr(image, "__arrow_c_array__"):
        import pyarrow

        # A ValueError says that Pillow has laid it in several blocks: it is very large.
        with contextlib.suppress(ValueError):
            values = pyarrow.array(image).to_numpy(zero_copy_only=True)
            return np.asarray(values).reshape(image.height, image.width)
    return np.asarray(image)


def _reduced(image: Image.Image, mode: Literal["RGB", "L"], path: Path, smallest: int) -> Image.Image:
    image.draft(mode, (image.width * smallest // image.height, smallest))
    return _converted(image, mode, path).reduce(max(1, image.height // smallest))


def _converted(image: Image.Image, mode: Literal["RGB", "L"], path: Path) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        raise InvalidFile("the image is deeper than 8 bit", file=path, found=image.mode, wanted="8 bit a channel")
    may_be_transparent = "A" in image.mode or "transparency" in image.info
    if may_be_transparent and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise InvalidFile(
            "the image is transparent",
            file=path,
            found=image.mode,
            wanted="RGB",
            remedy="write it composited on its background",
        )
    # Converting to the same mode would be a copy.
    return image if image.mode == mode else image.convert(mode)


def check_array(image: NDArray[np.uint8], purpose: str = "encode") -> None:
    """Refuse what is no (H, W, 3) or (H, W) uint8 image, or holds no pixel."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or 0 in image.shape:
        raise ThesisAssetsError(
            f"not an image to {purpose}", found=f"{image.shape} {image.dtype}", wanted="(H, W, 3) or (H, W) uint8"
        )


def _encode_pillow(image: NDArray[np.uint8], kind: str, **options: int) -> bytes:
    from PIL import Image

    with _memory_file() as file:
        Image.fromarray(image).save(file, kind, **options)
        file.seek(0)
        return file.read()


def _memory_file() -> IO[bytes]:
    """A file in memory, with a descriptor where the system has such: Pillow encodes a JPEG into that without the interpreter lock."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("image"), "w+b")
    return io.BytesIO()


def _encode_opencv(image: NDArray[np.uint8]) -> bytes:
    cv2 = _cv2()
    ordered = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    written, buffer = cv2.imencode(".png", ordered)
    if not written:
        raise ThesisAssetsError("OpenCV did not encode the image", found=f"{image.shape} {image.dtype}")
    return bytes(buffer.tobytes())


def _cv2() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise ThesisAssetsError(
            "the PNG encoder `opencv` is not installed",
            key="generation.export.png_encoder",
            found="opencv",
            wanted="isal or pillow, or the package opencv-python-headless",
            remedy=f"{pip_install('opencv-python-headless')}, or choose another encoder",
        ) from error
    return cv2


_PNG_DEPTH = 24
"""Where the bits a channel stand in the header."""
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_JPEG_START = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_FIRST_READ = 1024
_SHORT_TAIL = 64
_MAX_SEGMENTS = 4096


def image_kind(first_bytes: bytes) -> Literal["png", "jpeg"] | None:
    """The format that the first bytes of a file announce."""
    if first_bytes.startswith(PNG_SIGNATURE):
        return "png"
    return "jpeg" if first_bytes.startswith(_JPEG_START) else None


def _read_size(handle: io.BufferedReader, path: Path) -> tuple[int, int]:
    return _size(handle.fileno(), os.pread(handle.fileno(), _FIRST_READ, 0), path)


def _size(descriptor: int, first: bytes, path: Path | str) -> tuple[int, int]:
    """(height, width) of the image in an open file that begins with `first`."""
    if not first:
        raise InvalidFile("the image is empty", file=path, found="0 bytes", remedy="write it again")
    kind = image_kind(first)
    if kind is None:
        raise InvalidFile("the file is neither PNG nor JPEG", file=path, found=ascii(first[:12]))
    size = _png_size(first) if kind == "png" else _jpeg_size(descriptor, first)
    if size is None or 0 in size:
        raise InvalidFile("the image has no usable size in its header", file=path, found=size, remedy="write it again")
    if kind == "png" and len(first) > _PNG_DEPTH and first[_PNG_DEPTH] > 8:
        # A decoder to 8 bit would keep the upper byte of each channel: of dark or of 12-bit pictures next to nothing.
        raise InvalidFile(
            "the image is deeper than 8 bit",
            file=path,
            found=f"{first[_PNG_DEPTH]} bit a channel",
            wanted="8 bit a channel",
            remedy="develop it to 8 bit first: its range is known to whoever made it",
        )
    return size


def _find_end(descriptor: int, first: bytes) -> Literal["last", "followed", "missing"]:
    """Where the end marker stands: last (zero bytes of padding aside), followed by other bytes (or of a preview), or nowhere."""
    length = os.lseek(descriptor, 0, os.SEEK_END)
    marker = _PNG_END if image_kind(first) == "png" else _JPEG_END
    tail = os.pread(descriptor, _SHORT_TAIL, max(0, length - _SHORT_TAIL))
    if tail.rstrip(b"\x00").endswith(marker):
        return "last"
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as content:
        return "followed" if content.find(marker) >= 0 else "missing"


def _png_size(first: bytes) -> tuple[int, int] | None:
    if len(first) < 24 or first[12:16] != b"IHDR":
        return None
    return int.from_bytes(first[20:24], "big"), int.from_bytes(first[16:20], "big")


def _jpeg_size(descriptor: int, first: bytes) -> tuple[int, int] | None:
    frame = _jpeg_frame(descriptor, first)
    return None if frame is None else (int.from_bytes(frame[5:7], "big"), int.from_bytes(frame[7:9], "big"))


def _jpeg_frame(descriptor: int, first: bytes) -> bytes | None:
    """The first 10 bytes of the frame header. The segments before it (profiles, previews) are jumped over, not read."""
    offset = 2
    for _ in range(_MAX_SEGMENTS):
        segment = first[offset : offset + 10] if offset + 10 <= len(first) else os.pread(descriptor, 10, offset)
        if len(segment) < 4 or segment[0] != 0xFF:
            return None
        marker = segment[1]
        if marker == 0xFF:
            offset += 1
        elif marker in _WITHOUT_LENGTH:
            offset += 2
        elif marker in _FRAME_MARKERS:
            return segment if len(segment) == 10 else None
        else:
            offset += 2 + int.from_bytes(segment[2:4], "big")
    return None


# --- PNG by ISA-L ------------------------------------------------------------------------------------------------------
#
# A fast encoder, and the decoder of what it wrote: one row filter for the whole image, then ISA-L deflate. Lossless and readable
# everywhere: the `Up` or `Sub` filter of the PNG specification (section 9), one zlib stream in one IDAT. Why not libpng: its deflate
# takes 20 to 30 times as long for files about as large, its way back nearly twice as long. ISA-L releases the interpreter lock.

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_LEVEL = 1

_SUB, _UP = 1, 2
_ROWS_AT_ONCE = 128
"""Of a full-size image 360 KB: the passes over them stay in the cache, and are few, as each gives the interpreter lock away."""
_COLOUR_TYPES = {1: 0, 3: 2}
"""By the number of channels: grey, RGB."""


def encode_isal(image: NDArray[np.uint8]) -> bytes:
    """PNG bytes of `image`: (H, W, 3) or (H, W) uint8."""
    from isal import isal_zlib

    height, width = image.shape[:2]
    channels = 3 if image.ndim == 3 else 1
    header = _header(height, width, channels)
    rows = _filtered(np.ascontiguousarray(image).reshape(height, width * channels), channels)
    # wbits 15 with a zlib wrapper is what an IDAT holds.
    deflated = isal_zlib.compress(rows, PNG_LEVEL)
    return b"".join((PNG_SIGNATURE, *_chunk(b"IHDR", header), *_chunk(b"IDAT", deflated), *_chunk(b"IEND", b"")))


def decode_isal(content: bytes, height: int, width: int, channels: int) -> NDArray[np.uint8] | None:
    """The (H, W, 3) or, of one channel, (H, W) image of bytes that `encode_isal` wrote.

    None where they are anything else or damaged: a decoder of all kinds knows what to do or to say.
    """
    from isal import isal_zlib

    before = b"".join((PNG_SIGNATURE, *_chunk(b"IHDR", _header(height, width, channels))))
    after = b"".join(_chunk(b"IEND", b""))
    start, end = len(before) + 8, len(content) - len(after) - 4
    if not content.startswith(before) or not content.endswith(after) or end < start:
        return None
    deflated = memoryview(content)[start:end]
    length, kind, _, check = _chunk(b"IDAT", deflated)
    if content[len(before) : start] != length + kind or content[end : end + 4] != check:
        return None
    n_bytes = height * (1 + width * channels)
    inflater = isal_zlib.decompressobj()
    try:
        rows = np.frombuffer(inflater.decompress(deflated, n_bytes + 1), np.uint8)
    except isal_zlib.error:  # type: ignore[misc] # its stubs call the class an instance
        return None
    if len(rows) != n_bytes or not inflater.eof:
        return None
    image = _unfiltered(rows.reshape(height, -1), channels)
    return image if image is None or channels == 1 else image.reshape(height, width, channels)


def _header(height: int, width: int, channels: int) -> bytes:
    """Of 8 bits a channel, not interlaced."""
    return struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)


def _filtered(rows: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Filter byte and differences of each row: to the row above, or the pixel at the left, whichever is smaller in total."""
    height, length = rows.shape
    out = scratch("filtered_rows", (height, length + 1))
    kind = _cheaper_filter(rows, step)
    out[:, 0] = kind
    if kind == _UP:
        out[0, 1:] = rows[0]
        np.subtract(rows[1:], rows[:-1], out=out[1:, 1:])
    else:
        out[:, 1 : 1 + step] = rows[:, :step]
        np.subtract(rows[:, step:], rows[:, :-step], out=out[:, 1 + step :])
    return out


def _unfiltered(rows: NDArray[np.uint8], step: int) -> NDArray[np.uint8] | None:
    """(H, W * step) values of filtered rows, or None where their filters are not one of ours."""
    height, length = rows.shape[0], rows.shape[1] - 1
    kind = rows[0, 0]
    if kind not in (_UP, _SUB) or (rows[:, 0] != kind).any():
        return None
    out = np.empty((height, length), np.uint8)
    for top in range(0, height, _ROWS_AT_ONCE):
        values = scratch("unfiltered_rows", out[top : top + _ROWS_AT_ONCE].shape)
        np.copyto(values, rows[top : top + _ROWS_AT_ONCE, 1:])
        if kind == _SUB:
            _running_sums(values, step, out[top : top + _ROWS_AT_ONCE])
            continue
        if top > 0:
            values[0] += out[top - 1]
        # As one long row, the value above is a value at the left.
        _running_sums(values.reshape(1, -1), length, out[top : top + _ROWS_AT_ONCE].reshape(1, -1))
    return out


def _running_sums(values: NDArray[np.uint8], step: int, out: NDArray[np.uint8]) -> None:
    """Sums of every `step`-th value from each row's start, modulo 256. (N, L) arrays; `values` is used up.

    Each pass adds over twice the distance of the one before: a few whole-array additions, many times as fast as one by one.
    """
    n_passes = (values.shape[1] // step - 1).bit_length()
    source, target = (out, values) if n_passes % 2 == 0 else (values, out)
    if source is out:
        np.copyto(out, values)
    for number in range(n_passes):
        distance = step << number
        target[:, :distance] = source[:, :distance]
        np.add(source[:, distance:], source[:, :-distance], out=target[:, distance:])
        source, target = target, source


def _cheaper_filter(rows: NDArray[np.uint8], step: int) -> int:
    """The filter with the smaller sum of absolute differences, over every eighth row: 1/8 of the cost, the same choice."""
    picked = rows[1::8]
    if len(picked) == 0 or rows.shape[1] <= step:
        return _UP
    up = (picked - rows[:-1:8][: len(picked)]).view(np.int8)
    sub = (picked[:, step:] - picked[:, :-step]).view(np.int8)
    return _UP if _mean_magnitude(up) <= _mean_magnitude(sub) else _SUB


def _mean_magnitude(differences: NDArray[np.int8]) -> float:
    # -128 has no positive int8; as unsigned the wrapped result is the right 128.
    return float(np.abs(differences).view(np.uint8).mean())


def _chunk(kind: bytes, content: bytes | memoryview) -> tuple[bytes, bytes, bytes | memoryview, bytes]:
    from isal import isal_zlib

    check = isal_zlib.crc32(content, isal_zlib.crc32(kind))
    return struct.pack(">I", len(content)), kind, content, struct.pack(">I", check)


_of_thread = threading.local()


def scratch(purpose: str, shape: tuple[int, ...], dtype: type[np.generic] = np.uint8) -> NDArray[Any]:
    """An array of this thread for `purpose`, with whatever is left in it. Good until the thread asks for the same purpose again."""
    array: NDArray[Any] | None = getattr(_of_thread, purpose, None)
    if array is None or array.shape != shape or array.dtype != dtype:
        array = np.empty(shape, dtype)
        setattr(_of_thread, purpose, array)
    return array
