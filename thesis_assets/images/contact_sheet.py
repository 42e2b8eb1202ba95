"""Contact sheets: images in titled rows and columns, small enough to stand inside a page.

Does not belong here: which images are shown, or where the sheet is kept.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal

import numpy as np

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.images.codecs import check_array, image_kind

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font = FreeTypeFont | ImageFont

Encoding = Literal["jpeg", "png"]

MAX_MARKDOWN_BYTES = 100_000
"""A longer data address makes the event log, and each page that shows it, slow."""
_GAP = 4
_PAPER = (250, 250, 250)
_INK = (32, 32, 32)
_EMPTY = (225, 225, 225)
_SMALLEST_CELL = 16
_JPEG_QUALITIES = (90, 80, 65)


def contact_sheet(
    rows: Sequence[Sequence[NDArray[np.uint8] | None]],
    *,
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    cell_height: int = 128,
    max_bytes: int | None = MAX_MARKDOWN_BYTES,
    encoding: Encoding = "jpeg",
) -> bytes:
    """Draw a sheet and encode it: JPEG unless `encoding` says PNG.

    Args:
        rows: images (H, W, 3) or masks and grey images (H, W), uint8; None leaves a cell empty. Rows may differ in length.
        row_titles: one a row, or none.
        column_titles: one a column, or none.
        cell_height: height of every image on the sheet, pixels; the width follows the image's form.
        max_bytes: quality, then cell height are lowered until the sheet is within; None = no limit.

    Returns:
        The file's bytes.

    Raises:
        ThesisAssetsError: there is nothing to show, titles and images do not match, or the sheet cannot be made this small.
    """
    columns = max((len(row) for row in rows), default=0)
    if columns == 0 or cell_height < 1:
        raise ThesisAssetsError("a contact sheet without an image", found=f"{len(rows)} rows, height {cell_height}")
    for titles, wanted, what in ((row_titles, len(rows), "row_titles"), (column_titles, columns, "column_titles")):
        if titles and len(titles) != wanted:
            raise ThesisAssetsError("titles do not match the sheet", key=what, found=len(titles), wanted=wanted)
    height = cell_height
    while True:
        sheet = _draw(rows, columns, row_titles, column_titles, height)
        for content in _encodings(sheet, encoding):
            if max_bytes is None or len(content) <= max_bytes:
                return content
        if height <= _SMALLEST_CELL:
            raise ThesisAssetsError(
                "the contact sheet does not fit", found=f"{len(content)} bytes", wanted=max_bytes, remedy="show fewer"
            )
        height = max(_SMALLEST_CELL, height * 3 // 4)


def markdown_thumbnail(content: bytes) -> str:
    """A markdown image with the picture inside it as a data address, below 100 KB: a larger picture is made smaller.

    Args:
        content: a JPEG or PNG.

    Raises:
        ThesisAssetsError: the bytes are neither.
    """
    kind = image_kind(content)
    if kind is None:
        raise ThesisAssetsError("not a picture to show", found=ascii(content[:8]), wanted="JPEG or PNG bytes")
    room = (MAX_MARKDOWN_BYTES - 500) * 3 // 4  # base64 writes three bytes as four characters
    if len(content) > room:
        content, kind = _shrunk(content, room), "jpeg"
    return f"![](data:image/{kind};base64,{base64.b64encode(content).decode('ascii')})"


def _draw(
    rows: Sequence[Sequence[NDArray[np.uint8] | None]],
    columns: int,
    row_titles: Sequence[str],
    column_titles: Sequence[str],
    cell_height: int,
) -> Image.Image:
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(max(9, min(16, cell_height // 8)))
    cells = [[None if image is None else _cell(image, cell_height) for image in row] for row in rows]
    columns_of_cells = zip_longest(*cells)
    widths = [max(0 if cell is None else cell.width for cell in column) or cell_height for column in columns_of_cells]
    titles = [_fitted(title, widths[i], font) for i, title in enumerate(column_titles)]
    left = _GAP + max((int(font.getlength(title)) + _GAP for title in row_titles), default=0)
    line = int(font.getbbox("Ag|")[3]) + 3 if column_titles else 0
    size = (left + sum(widths) + _GAP * columns, line + _GAP + (cell_height + _GAP) * len(rows))
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    lefts = [left + sum(widths[:i]) + _GAP * i for i in range(columns)]
    for x, title in zip(lefts, titles, strict=False):
        draw.text((x, 1), title, fill=_INK, font=font)
    for number, row in enumerate(cells):
        top = line + _GAP + (cell_height + _GAP) * number
        if row_titles:
            draw.text((_GAP, top), row_titles[number], fill=_INK, font=font)
        for i, x in enumerate(lefts):
            image = row[i] if i < len(row) else None
            if image is None:
                draw.rectangle((x, top, x + widths[i] - 1, top + cell_height - 1), fill=_EMPTY)
            else:
                sheet.paste(image, (x, top))
    return sheet


def _cell(image: NDArray[np.uint8], cell_height: int) -> Image.Image:
    from PIL import Image

    check_array(image, "show")
    width = max(1, round(image.shape[1] * cell_height / image.shape[0]))
    picture = Image.fromarray(image).convert("RGB")
    # Enlarged pixels stay visible as pixels; a smooth enlargement would hide what a small render really shows.
    method = Image.Resampling.NEAREST if cell_height > image.shape[0] else Image.Resampling.LANCZOS
    return picture if picture.size == (width, cell_height) else picture.resize((width, cell_height), method)


def _fitted(title: str, width: int, font: Font) -> str:
    """The title, cut at its end where it is wider than its column."""
    while title and font.getlength(title) > width:
        title = title[:-1]
    return title


def _encodings(sheet: Image.Image, encoding: Encoding) -> list[bytes]:
    """From the best to the smallest; a PNG has one form."""
    if encoding == "png":
        buffer = io.BytesIO()
        sheet.save(buffer, "PNG", optimize=True)
        return [buffer.getvalue()]
    encoded = []
    for quality in _JPEG_QUALITIES:
        buffer = io.BytesIO()
        sheet.save(buffer, "JPEG", quality=quality, optimize=True)
        encoded.append(buffer.getvalue())
    return encoded


def _shrunk(content: bytes, room: int) -> bytes:
    """The picture as a JPEG of at most `room` bytes, halving its sides as often as needed."""
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as opened:
        picture = opened.convert("RGB")
    while True:
        for smaller in _encodings(picture, "jpeg"):
            if len(smaller) <= room:
                return smaller
        picture = picture.resize((max(1, picture.width // 2), max(1, picture.height // 2)))
