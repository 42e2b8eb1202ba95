"""Reading, refusing, sizing and encoding images."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.images import codecs

ENCODERS: tuple[codecs.PngEncoder, ...] = ("isal", "pillow", "opencv")
SIDES = st.integers(1, 40)
SHAPES = st.one_of(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES, st.just(3)))


def photograph(height: int = 60, width: int = 80) -> NDArray[np.uint8]:
    """Smooth in colour with a little noise, as photographs are."""
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([x * 2.0, y * 3.0, x + y], 2)
    return np.asarray(np.clip(smooth + np.random.default_rng(0).normal(0, 4, smooth.shape), 0, 255), np.uint8)


def saved(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_claiming(height: int, width: int, *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return codecs.PNG_SIGNATURE + header + b"".join(extra) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@settings(max_examples=150, deadline=None)
@given(SHAPES.flatmap(lambda shape: arrays(np.uint8, shape)))
def test_the_fast_png_holds_every_pixel_for_pillow_and_for_opencv(image: NDArray[np.uint8]) -> None:
    content = codecs.encode_png(image)
    with Image.open(io.BytesIO(content)) as opened:
        opened.verify()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), image)
    channels = 1 if image.ndim == 2 else 3
    own = codecs.decode_isal(content, *image.shape[:2], channels)
    assert own is not None
    assert np.array_equal(own, image)
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(decoded if image.ndim == 2 else decoded[..., ::-1], image)


@pytest.mark.parametrize("other", ["by Pillow", "of another size", "with a text", "cut", "followed"])
def test_the_fast_way_back_is_for_the_fast_encoders_pictures_alone(other: str) -> None:
    image = photograph(20, 30)
    content = codecs.encode_png(image, "pillow" if other == "by Pillow" else "isal")
    if other == "with a text":
        content = content[:33] + chunk(b"tEXt", b"a\x00b") + content[33:]
    content = {"cut": content[:-20], "followed": content + b"x"}.get(other, content)
    assert codecs.decode_isal(content, 20, 31 if other == "of another size" else 30, 3) is None


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_picture_is_never_read_otherwise_than_pillow_reads_it(data: st.DataObject) -> None:
    damaged = bytearray(codecs.encode_png(photograph(12, 9)))
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=3)):
        damaged[place] = data.draw(st.integers(0, 255))
    own = codecs.decode_isal(bytes(damaged), 12, 9, 3)
    assert own is None or np.array_equal(own, np.asarray(Image.open(io.BytesIO(damaged))))


@pytest.mark.parametrize("kind", ["rows alike", "columns alike"])
def test_the_row_filter_is_chosen_by_the_image(kind: str) -> None:
    line = np.random.default_rng(0).integers(0, 256, (1, 200, 3), dtype=np.uint8)
    image = np.repeat(line, 200, 0)
    image = image if kind == "rows alike" else np.ascontiguousarray(image.transpose(1, 0, 2))
    assert len(codecs.encode_png(image)) < image.size / 20
    assert len(codecs.encode_png(image)) < 2 * len(codecs.encode_png(image, "pillow")) + 1000


def test_the_fast_png_is_one_valid_zlib_stream() -> None:
    image = photograph()
    content = codecs.encode_png(image)
    start = content.index(b"IDAT")
    length = struct.unpack(">I", content[start - 4 : start])[0]
    stream = content[start + 4 : start + 4 + length]
    assert len(zlib.decompress(stream)) == image.shape[0] * (1 + 3 * image.shape[1])
    assert struct.unpack(">I", content[start + 4 + length :][:4])[0] == zlib.crc32(content[start : start + 4 + length])


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_gives_the_same_pixels_and_a_named_version(encoder: codecs.PngEncoder, tmp_path: Path) -> None:
    image = photograph()
    path = saved(tmp_path / "image.png", codecs.encode_png(image[:, ::-1], encoder))
    assert np.array_equal(codecs.read_rgb(path), image[:, ::-1])
    assert codecs.encoder_version(encoder).startswith(f"{encoder} ")


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 4, 4), (4,)])
def test_only_images_are_encoded(shape: tuple[int, ...]) -> None:
    with pytest.raises(ThesisAssetsError, match="not an image"):
        codecs.encode_png(np.zeros(shape, np.uint8))
    with pytest.raises(ThesisAssetsError, match="not an image"):
        codecs.encode_jpeg(np.zeros((4, 4, 3), np.float32))  # type: ignore[arg-type]


def test_a_jpeg_of_quality_95_is_close_to_its_image(tmp_path: Path) -> None:
    image = photograph()
    decoded = codecs.read_rgb(saved(tmp_path / "a.jpg", codecs.encode_jpeg(image)))
    assert np.abs(decoded.astype(int) - image).mean() < 4


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_other_kinds_of_eight_bit_images_become_rgb(mode: str, tmp_path: Path) -> None:
    grey = np.repeat(np.repeat(np.array([[0, 255], [255, 0]], np.uint8), 4, 0), 4, 1)
    Image.fromarray(grey).convert(mode).save(tmp_path / "a.png")
    assert np.array_equal(codecs.read_rgb(tmp_path / "a.png"), np.repeat(grey[..., None], 3, 2))


def test_a_mask_is_true_where_it_is_white(tmp_path: Path) -> None:
    mask = np.zeros((10, 12), bool)
    mask[2:5, 3:9] = True
    path = saved(tmp_path / "mask.png", codecs.encode_png(mask.astype(np.uint8) * 255))
    assert np.array_equal(codecs.read_mask(path), mask)
    assert codecs.read_mask(path).dtype == np.bool_


def test_a_mask_too_large_for_one_block_of_pillows_memory_is_read_too(tmp_path: Path) -> None:
    mask = np.zeros((4200, 4100), bool)
    mask[1000:2000, 3000:] = True
    path = saved(tmp_path / "mask.png", codecs.encode_png(mask.astype(np.uint8) * 255))
    assert np.array_equal(codecs.read_mask(path), mask)


def test_a_size_is_read_from_the_header_alone(tmp_path: Path) -> None:
    png, jpeg = codecs.encode_png(photograph(30, 50)), codecs.encode_jpeg(photograph(30, 50))
    assert codecs.image_size(saved(tmp_path / "a.png", png[:40])) == (30, 50)
    assert codecs.image_size(saved(tmp_path / "a.jpg", jpeg[:700])) == (30, 50)


def test_a_size_is_found_behind_a_large_profile(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photograph(30, 50)).save(buffer, "JPEG", icc_profile=bytes(200_000), exif=bytes(5000))
    assert codecs.image_size(saved(tmp_path / "a.jpg", buffer.getvalue())) == (30, 50)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("kept", [0, 5, 30, 0.5, -30, -1])
def test_a_truncated_image_is_refused_by_reading_and_by_the_cheap_test(
    suffix: str, kept: float, tmp_path: Path
) -> None:
    content = codecs.encode_png(photograph()) if suffix == ".png" else codecs.encode_jpeg(photograph())
    end = int(len(content) * kept) if 0 < kept < 1 else int(kept)
    path = saved(tmp_path / f"a{suffix}", content)
    assert codecs.check_complete(path) == (60, 80)
    path.write_bytes(content[:end])
    with pytest.raises(InvalidFile, match=r"image|PNG"):
        codecs.check_complete(path)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"absent\.png"):
        codecs.read_rgb(tmp_path / "absent.png")


def test_bytes_after_a_jpegs_end_do_no_harm(tmp_path: Path) -> None:
    content = codecs.encode_jpeg(photograph())
    assert codecs.check_complete(saved(tmp_path / "padded.jpg", content + bytes(40))) == (60, 80)
    assert codecs.check_complete(saved(tmp_path / "tail.jpg", content + b"maker's note" * 20)) == (60, 80)


def test_a_folder_or_nothing_in_an_images_place_is_an_invalid_file(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for name in ("folder.png", "nothing.png", "folder.png/inside.png"):
        with pytest.raises(InvalidFile):
            codecs.check_complete(tmp_path / name)


def test_decompression_bombs_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidFile, match="larger than any"):
        codecs.read_rgb(saved(tmp_path / "bomb.png", png_claiming(60_000, 60_000)))
    jpeg = bytearray(codecs.encode_jpeg(photograph(30, 50)))
    place = jpeg.index(b"\xff\xc0")
    jpeg[place + 5 : place + 9] = struct.pack(">HH", 65_000, 65_000)
    with pytest.raises(InvalidFile, match="larger than any"):
        codecs.read_rgb(saved(tmp_path / "bomb.jpg", bytes(jpeg)))
    path = saved(tmp_path / "a.png", codecs.encode_png(photograph(30, 50)))
    monkeypatch.setattr(codecs, "MAX_PIXELS", 1500)
    assert codecs.read_rgb(path).shape == (30, 50, 3)
    monkeypatch.setattr(codecs, "MAX_PIXELS", 1499)
    with pytest.raises(InvalidFile, match="50 x 30"):
        codecs.read_rgb(path)


def test_a_text_that_inflates_without_end_is_refused(tmp_path: Path) -> None:
    text = chunk(b"zTXt", b"note\x00\x00" + zlib.compress(bytes(20_000_000), 9))
    with pytest.raises(InvalidFile, match="cannot be decoded"):
        codecs.read_rgb(saved(tmp_path / "a.png", png_claiming(8, 8, text)))


def test_what_would_change_silently_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InvalidFile, match="deeper than 8 bit"):
        codecs.read_rgb(tmp_path / "deep.png")
    Image.fromarray(np.full((8, 8, 4), 100, np.uint8)).save(tmp_path / "glass.png")
    with pytest.raises(InvalidFile, match="transparent"):
        codecs.read_rgb(tmp_path / "glass.png")
    with pytest.raises(InvalidFile, match="neither PNG nor JPEG"):
        codecs.read_rgb(saved(tmp_path / "a.png", b"GIF89a" + bytes(50)))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_but_never_breaks_the_reader(data: st.DataObject, tmp_path: Path) -> None:
    whole = data.draw(st.sampled_from([codecs.encode_png(photograph(12, 9)), codecs.encode_jpeg(photograph(12, 9))]))
    damaged = bytearray(whole)
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    path = saved(tmp_path / "damaged", bytes(damaged))
    for read in (codecs.read_rgb, codecs.read_mask, codecs.image_size, codecs.check_complete):
        try:
            read(path)
        except InvalidFile as error:  # some damage is harmless
            assert error.file == str(path)  # noqa: PT017


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_blackened_is_the_jpeg_of_the_image_times_its_mask(share: float) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (40, 33, 3), dtype=np.uint8)
    mask = rng.random((40, 33)) < share
    before = picture.copy()
    assert codecs.encode_blackened(picture, mask) == codecs.encode_jpeg(picture * mask[..., None])
    assert np.array_equal(picture, before)


@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("size", [(1, 1), (33, 47), (64, 64)])
def test_a_background_is_where_the_mask_is_not(value: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    picture, mask = rng.integers(0, 256, (*size, 3), dtype=np.uint8), rng.random(size) < 0.5
    wanted = np.where(mask[..., None], picture, np.uint8(value))
    np.testing.assert_array_equal(codecs.on_background(picture, codecs.a_channel(mask), value), wanted)
    wide = np.zeros((size[0], 2 * size[1], 3), np.uint8)
    codecs.on_background(picture, codecs.a_channel(mask), value, out=wide[:, size[1] :])
    np.testing.assert_array_equal(wide[:, size[1] :], wanted)
    assert (wide[:, : size[1]] == 0).all()


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_a_reduced_picture_is_a_small_one_of_the_same_thing(tmp_path: Path, kind: str) -> None:
    ramp = np.repeat(np.linspace(0, 255, 320).astype(np.uint8)[None, :, None], 240, axis=0).repeat(3, axis=2)
    path = tmp_path / f"picture.{kind}"
    path.write_bytes(codecs.encode_jpeg(ramp) if kind == "jpeg" else codecs.encode_png(ramp))
    small = codecs.read_reduced(path, 60)
    assert 60 <= small.shape[0] < 120
    middle = small[small.shape[0] // 2, :, 0].astype(int)
    assert abs(middle[0]) < 12
    assert abs(middle[-1] - 255) < 12
    assert (np.diff(middle) >= -3).all()


@given(st.data())
def test_the_digest_of_pixels_tells_images_apart_by_one_value_of_one_pixel(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    other = image.copy()
    place = tuple(data.draw(st.integers(0, n - 1)) for n in image.shape)
    other[place] ^= np.uint8(data.draw(st.integers(1, 255)))
    assert codecs.pixel_digest(image) == codecs.pixel_digest(image.copy()) != codecs.pixel_digest(other)
    assert codecs.pixel_digest(image) != codecs.pixel_digest(image.reshape(1, -1, 3)) or height == 1
    assert codecs.pixel_digest(image[:, ::-1]) == codecs.pixel_digest(np.ascontiguousarray(image[:, ::-1]))


# --- masks: 0 and 255, with soft edges; numbers of people or classes are none ----------------------------------------


def mask_file(path: Path, values: NDArray[np.uint8], palette: list[int] | None = None) -> Path:
    image = Image.fromarray(values, "L")
    if palette is not None:
        image = Image.fromarray(values, "P")
        image.putpalette(palette)
    image.save(path)
    return path


def two_people(first: int, second: int) -> NDArray[np.uint8]:
    values = np.zeros((40, 40), np.uint8)
    values[5:35, 4:16], values[5:35, 24:36] = first, second
    return values


@pytest.mark.parametrize(
    ("first", "second", "named"), [(80, 160, "0, 80, 160"), (1, 2, "0, 1, 2"), (100, 255, "100, 255"), (0, 127, "127")]
)
def test_a_mask_of_numbers_of_people_is_refused_with_its_values(
    tmp_path: Path, first: int, second: int, named: str
) -> None:
    with pytest.raises(InvalidFile, match="other values than 255") as caught:
        codecs.read_mask(mask_file(tmp_path / "mask.png", two_people(first, second)))
    assert named in str(caught.value.found)
    assert caught.value.remedy


def test_a_mask_of_palette_indices_is_refused(tmp_path: Path) -> None:
    colours = [0, 0, 0, 128, 0, 0, 0, 128, 0]  # as segmentation datasets draw their classes
    with pytest.raises(InvalidFile, match="other values than 255"):
        codecs.read_mask(mask_file(tmp_path / "mask.png", two_people(1, 2), colours))


def test_a_soft_edged_mask_is_read_at_the_threshold(tmp_path: Path) -> None:
    soft = np.asarray(Image.fromarray(two_people(255, 255)).resize((160, 160), Image.Resampling.BICUBIC))
    assert len(np.unique(soft)) > 10
    assert np.array_equal(codecs.read_mask(mask_file(tmp_path / "mask.png", soft)), soft >= 128)
    assert not codecs.read_mask(mask_file(tmp_path / "nobody.png", two_people(0, 0))).any()


# --- what is no 8-bit colour image -----------------------------------------------------------------------------------


@pytest.mark.parametrize("colour_type", [0, 2, 4, 6])  # grey, RGB, and the two with transparency
def test_a_png_of_16_bit_is_refused_by_its_header(tmp_path: Path, colour_type: int) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 2, 16, colour_type, 0, 0, 0))
    rows = b"".join(b"\0" + bytes(4 * 2 * {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]) for _ in range(2))
    content = codecs.PNG_SIGNATURE + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path = saved(tmp_path / "deep.png", content)
    for read in (codecs.read_rgb, codecs.check_complete, codecs.image_size):
        with pytest.raises(InvalidFile, match="deeper than 8 bit") as caught:
            read(path)
        assert "16 bit" in str(caught.value.found)


def test_a_jpeg_with_a_movie_behind_it_is_whole_and_a_cut_one_is_not(tmp_path: Path) -> None:
    content = codecs.encode_jpeg(photograph(200, 300))
    movie = np.random.default_rng(0).integers(0, 255, 3_000_000, np.uint8).tobytes().replace(b"\xff\xd9", b"\xff\xd8")
    assert codecs.check_complete(saved(tmp_path / "phone.jpg", content + movie)) == (200, 300)
    with pytest.raises(InvalidFile, match="cut short"):
        codecs.check_complete(saved(tmp_path / "cut.jpg", content[: len(content) // 2]))


@pytest.mark.parametrize("behind", ["movie", "second picture", "zeros"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": b"Exif\0\0" + b"\xff\xd9" * 20}])
def test_what_a_phone_writes_behind_a_picture_changes_nothing_of_it(
    tmp_path: Path, behind: str, options: dict[str, object]
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photograph(240, 320)).save(buffer, "JPEG", **options)
    movie = np.random.default_rng(3).integers(0, 256, 3_000_000, np.uint8).tobytes()
    assert b"\xff\xd9" in movie
    tail = {"movie": b"\0\0\0\x18ftypmp42" + movie, "second picture": buffer.getvalue(), "zeros": bytes(5000)}[behind]
    path = saved(tmp_path / "phone.jpg", buffer.getvalue() + tail)
    assert codecs.check_complete(path) == (240, 320)
    with Image.open(io.BytesIO(buffer.getvalue())) as alone:
        assert np.array_equal(codecs.read_rgb(path), np.asarray(alone))


@pytest.mark.parametrize(("mode", "n"), [("L", 1), ("RGB", 3), ("CMYK", 4)])
def test_the_channels_of_a_jpeg_are_read_from_its_header(tmp_path: Path, mode: str, n: int) -> None:
    Image.fromarray(photograph()).convert(mode).save(tmp_path / "a.jpg", comment=b"c" * 3000)
    assert codecs.jpeg_components(tmp_path / "a.jpg") == n
    assert codecs.jpeg_components(saved(tmp_path / "a.png", codecs.encode_png(photograph()))) is None
