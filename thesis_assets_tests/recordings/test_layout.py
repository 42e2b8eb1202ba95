"""The layout against the recording, in both directions."""

import dataclasses

import pytest

from thesis_assets.layout import EvaluationTree
from thesis_assets.recordings.verification import (
    EntityContent,
    RecordedView,
    layout_offenders,
    read_recording,
    shows,
)


def test_a_layout_shows_everything_that_was_recorded(exported: EvaluationTree) -> None:
    for path in (exported.input_data_recording, exported.evaluation_recording(30)):
        assert layout_offenders(read_recording(path)) == []


def test_what_no_view_shows_is_found(exported: EvaluationTree) -> None:
    content = read_recording(exported.evaluation_recording(30))
    new = {"/evaluation/epoch_0030/nvs/metrics/lpips/cam_4": EntityContent(rows={"Scalars:scalars": {("frame", 0)}})}
    offenders = layout_offenders(dataclasses.replace(content, entities={**content.entities, **new}))
    assert offenders == ["/evaluation/epoch_0030/nvs/metrics/lpips/cam_4 Scalars:scalars: in no view of the layout"]


def test_every_view_that_is_left_out_is_found(exported: EvaluationTree) -> None:
    content = read_recording(exported.input_data_recording)
    for left_out in content.views:
        rest = tuple(view for view in content.views if view is not left_out)
        assert layout_offenders(dataclasses.replace(content, views=rest)) != []


def test_a_view_of_nothing_is_found(exported: EvaluationTree) -> None:
    content = read_recording(exported.input_data_recording)
    empty = RecordedView("2D", "/input_data/test/cameras/cam_99", ("/input_data/test/cameras/cam_99/image",))
    offenders = layout_offenders(dataclasses.replace(content, views=(*content.views, empty)))
    assert offenders == ["a view of class 2D at /input_data/test/cameras/cam_99 shows nothing"]


@pytest.mark.parametrize(
    ("rules", "entity", "wanted"),
    [
        (("$origin/**",), "/a/b", True),
        (("$origin/**",), "/a", True),
        (("$origin/**",), "/ab", False),
        (("/a/b",), "/a/b/c", False),
        (("/a/**", "- /a/b"), "/a/b", False),
        (("/a/**", "- /a/b"), "/a/c", True),
        (("- /a/**", "+ /a/b/**"), "/a/b/c", True),
    ],
)
def test_the_most_precise_rule_decides(rules: tuple[str, ...], entity: str, wanted: bool) -> None:
    assert shows(RecordedView("2D", "/a", rules), entity) is wanted
