"""Contact sheets and thumbnails inside a page."""

import base64
import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.images.contact_sheet import MAX_MARKDOWN_BYTES, contact_sheet, markdown_thumbnail


def noise(height: int = 64, width: int = 48) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_a_sheet_shows_every_image_once_at_the_cells_height() -> None:
    red, green = np.zeros((20, 10, 3), np.uint8), np.zeros((40, 20, 3), np.uint8)
    red[..., 0] = green[..., 1] = 255
    sheet = np.asarray(opened(contact_sheet([[red, green], [green, None]], cell_height=20, encoding="png")))
    assert (sheet == (255, 0, 0)).all(2).sum() == 200
    assert (sheet == (0, 255, 0)).all(2).sum() == 400


def test_titles_take_room_beside_and_above() -> None:
    plain = opened(contact_sheet([[noise()]], encoding="png"))
    titled = opened(contact_sheet([[noise()]], row_titles=["frame 000001"], column_titles=["render"], encoding="png"))
    assert titled.width > plain.width
    assert titled.height > plain.height


def test_jpeg_is_the_form_unless_png_is_asked_for() -> None:
    assert opened(contact_sheet([[noise()]])).format == "JPEG"
    assert opened(contact_sheet([[noise()]], encoding="png")).format == "PNG"


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_a_sheet_stays_within_its_bytes(encoding: str) -> None:
    rows = [[noise(256, 256)] * 3] * 6
    content = contact_sheet(rows, cell_height=256, max_bytes=50_000, encoding=encoding)  # type: ignore[arg-type]
    assert len(content) <= 50_000
    assert opened(content).height < 6 * 256


def test_the_same_images_give_the_same_bytes() -> None:
    assert contact_sheet([[noise()]], row_titles=["a"]) == contact_sheet([[noise()]], row_titles=["a"])


def test_a_sheet_that_cannot_be_is_refused() -> None:
    with pytest.raises(ThesisAssetsError, match="without an image"):
        contact_sheet([[], []])
    with pytest.raises(ThesisAssetsError, match="titles"):
        contact_sheet([[noise()]], row_titles=["a", "b"])
    with pytest.raises(ThesisAssetsError, match="does not fit"):
        contact_sheet([[noise()]], max_bytes=10)
    with pytest.raises(ThesisAssetsError, match="not an image"):
        contact_sheet([[noise().astype(np.float32)]])  # type: ignore[list-item]


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_a_thumbnail_holds_the_picture_and_stays_below_its_limit(encoding: str) -> None:
    rows = [[noise(300, 300)] * 3] * 3
    content = contact_sheet(rows, cell_height=300, max_bytes=None, encoding=encoding)  # type: ignore[arg-type]
    assert len(content) > MAX_MARKDOWN_BYTES
    text = markdown_thumbnail(content)
    assert len(text) <= MAX_MARKDOWN_BYTES
    assert text.startswith("![](data:image/jpeg;base64,")
    assert opened(base64.b64decode(text.split("base64,")[1][:-1])).width > 100


def test_a_small_picture_is_shown_as_it_is() -> None:
    content = contact_sheet([[noise()]], encoding="png")
    text = markdown_thumbnail(content)
    assert base64.b64decode(text.split("base64,")[1][:-1]) == content


def test_only_pictures_are_shown() -> None:
    with pytest.raises(ThesisAssetsError, match="not a picture"):
        markdown_thumbnail(b"<svg/>")
