"""Which image becomes which camera and frame."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_assets.errors import InvalidScene
from thesis_assets.scenes.importers.capture import (
    Capture,
    Photograph,
    compile_pattern,
    frames_from,
    natural_order,
    one_frame,
)


def capture(*names: str, sizes: dict[str, int] | None = None) -> Capture:
    photographs = tuple(
        Photograph(name, Path(name), (sizes or {}).get(name, 8), 6, np.eye(3), np.eye(3, 4)) for name in names
    )
    return Capture("colmap", Path("model"), (), photographs)


def places(found: object) -> dict[str, tuple[int, str]]:
    return {each.photograph.name: (each.cam_id, each.fname) for each in found.placed}  # type: ignore[attr-defined]


def test_without_a_pattern_every_image_is_a_camera_in_the_natural_order_of_names() -> None:
    found = one_frame(capture("v10.jpg", "v2.jpg", "a.jpg", "v2 (1).jpg"))
    assert dict(found.camera_names) == {0: "a.jpg", 1: "v2 (1).jpg", 2: "v2.jpg", 3: "v10.jpg"}
    assert found.frames == ["000000"]
    assert found.camera_called("v2.jpg") == found.camera_called("2") == 2


def test_numbers_in_the_pattern_are_the_cameras_ids_and_frames() -> None:
    found = frames_from(
        capture("cam16/7.png", "cam04/12.png", "cam04/7.png"), compile_pattern(r"cam(?P<cam>\d+)/(?P<frame>\d+)")
    )
    assert places(found) == {
        "cam04/7.png": (4, "000007"),
        "cam04/12.png": (4, "000012"),
        "cam16/7.png": (16, "000007"),
    }
    assert [each.photograph.name for each in found.placed] == ["cam04/7.png", "cam04/12.png", "cam16/7.png"]
    assert dict(found.camera_names) == {4: "04", 16: "16"}
    assert found.camera_called("16") == 16


@pytest.mark.parametrize("names", [("left/1.png", "right/1.png"), ("1/1.png", "01/1.png"), ("7/1.png", "top/1.png")])
def test_names_that_are_no_distinct_numbers_get_ids_from_zero(names: tuple[str, ...]) -> None:
    found = frames_from(capture(*names), compile_pattern(r"^(?P<cam>[^/]+)/(?P<frame>\d+)"))
    assert set(found.camera_names) == {0, 1}


def test_a_pattern_may_leave_the_camera_or_the_frame_out() -> None:
    video = frames_from(capture("f1.png", "f2.png"), compile_pattern(r"f(?P<frame>\d+)"))
    assert set(places(video).values()) == {(0, "000001"), (0, "000002")}
    still = frames_from(capture("left.png", "right.png"), compile_pattern(r"(?P<cam>\w+)\."))
    assert set(places(still).values()) == {(0, "000000"), (1, "000000")}


@pytest.mark.parametrize("pattern", ["(", r"\d+", r"(?P<camera>\d+)"])
def test_a_pattern_without_its_groups_is_wrong_use(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"regular expression|named group"):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("names", "pattern", "word"),
    [
        (("a1.png", "b.png"), r"a(?P<frame>\d)", "b.png"),
        (("a1.png", "b1.png"), r"(?P<frame>\d)", "a1.png"),
        (("ax.png",), r"a(?P<frame>\w)", "'x'"),
        (("1234567890123.png",), r"(?P<frame>\d+)", "1234567890123"),
        (("a1.png",), r"(?P<cam>z?)a(?P<frame>\d)", "cam ''"),
        (("a1.png",), r"a(?P<frame>9)?", "frame None"),
    ],
)
def test_an_image_without_a_place_of_its_own_is_refused_by_name(
    names: tuple[str, ...], pattern: str, word: str
) -> None:
    with pytest.raises(InvalidScene) as caught:
        frames_from(capture(*names), compile_pattern(pattern))
    assert word in str(caught.value.found)


def test_one_camera_has_one_image_size() -> None:
    photos = capture("1.png", "2.png", sizes={"2.png": 9})
    with pytest.raises(InvalidScene, match="size"):
        frames_from(photos, compile_pattern(r"(?P<frame>\d)"))
    assert len(one_frame(photos).placed) == 2


def test_an_unknown_source_camera_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidScene) as caught:
        one_frame(capture("a.png")).camera_called("b.png")
    assert "a.png" in str(caught.value.wanted)


@given(st.lists(st.text(alphabet="ab01. ", min_size=1), unique=True), st.randoms())
def test_ids_depend_on_the_names_alone(names: list[str], chance: object) -> None:
    shuffled = list(names)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert places(one_frame(capture(*names))) == places(one_frame(capture(*shuffled)))


def test_numbers_sort_as_numbers_and_a_prefix_goes_first() -> None:
    assert sorted(["a10", "a9", "a", "a09b", "b", "a9b"], key=natural_order) == ["a", "a9", "a09b", "a9b", "a10", "b"]
