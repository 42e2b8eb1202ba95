"""Which scenes are there, what they lack, whether they are complete, which of them an experiment takes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_assets.errors import InvalidExperiment, near_names
from thesis_assets.experiments.spec import GenerationSpec
from thesis_assets.scenes.catalog import describe_scene, list_scenes, missing_text
from thesis_assets.scenes.listing import SceneRoots, upstream_completeness
from thesis_assets.scenes.matching import idle_globs, match_scenes, nothing_matches
from thesis_assets_tests.scenes.tiny_scene import put, roots_in, write_body, write_image, write_scene

NAME = "hi4d_pair01_hug"
LATER = 4e9  # seconds: every folder has rested for long


@pytest.fixture
def roots(tmp_path: Path) -> SceneRoots:
    return roots_in(tmp_path)


def test_the_catalog_lists_scene_folders_by_name_and_keeps_the_others_apart(roots: SceneRoots) -> None:
    for name in ("studio_b", "hi4d_a", "hi4d_a.old", ".tmp-hi4d_c.partial", "lost+found", "nodataset"):
        (roots.canonical_gt / name).mkdir(parents=True)
    put(roots.canonical_gt / "hi4d_file", b"x")
    assert list_scenes(roots) == ["hi4d_a", "hi4d_a.old", "studio_b"]


def test_a_root_that_is_not_there_has_no_scenes(roots: SceneRoots) -> None:
    assert list_scenes(roots) == []


def test_a_scene_with_two_cameras_a_registry_entry_and_gaussians_is_enough_to_export(roots: SceneRoots) -> None:
    write_scene(roots, NAME)
    put(roots.tree(NAME).ground_truth.skip_frames, b"1")
    summary = describe_scene(roots, NAME, now=LATER)
    assert summary.enough_for("export")
    assert summary.enough_for("nvs")
    assert not summary.enough_for("pose_smplx")
    assert summary.complete
    assert (summary.cameras, summary.source_camera, summary.n_frames, summary.n_skipped) == ((4, 16), 4, 2, 1)
    assert summary.frames_per_camera == {4: 2, 16: 2}
    assert summary.modalities == ("ground_truth/images", "ground_truth/all_cameras", "estimated/gaussians")


def test_bodies_in_both_roots_are_enough_for_their_pose_task(roots: SceneRoots) -> None:
    write_scene(roots, NAME)
    tree = roots.tree(NAME)
    write_body(tree.ground_truth.body("smplx", "000000"), "smplx")
    assert "estimates" in describe_scene(roots, NAME).missing["pose_smplx"][0]
    write_body(tree.estimated.body("smplx", "000000"), "smplx")
    assert describe_scene(roots, NAME).enough_for("pose_smplx")
    assert not describe_scene(roots, NAME).enough_for("pose_smpl")


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ({"cameras": (4,)}, "two cameras"),
        ({"source": None}, "registry"),
        ({"gaussians": False}, "Gaussians"),
        ({"source": 52}, "52"),
    ],
)
def test_what_is_missing_for_the_export_is_named(roots: SceneRoots, how: dict, word: str) -> None:
    write_scene(roots, NAME, **how)
    summary = describe_scene(roots, NAME, now=LATER)
    assert [lack for lack in summary.missing["export"] if word in lack]
    assert not summary.complete


def test_a_camera_named_by_the_experiment_stands_in_for_the_registry(roots: SceneRoots) -> None:
    write_scene(roots, NAME, source=None)
    assert describe_scene(roots, NAME, source_camera=16).enough_for("export")
    assert not describe_scene(roots, NAME, source_camera=17).enough_for("export")


def test_renders_of_another_pipeline_stand_in_for_gaussians(roots: SceneRoots) -> None:
    write_scene(roots, NAME, gaussians=False)
    write_image(roots.tree(NAME).render(16, "000000"))
    assert describe_scene(roots, NAME, render_source="precomputed").enough_for("export")
    assert not describe_scene(roots, NAME, render_source="gaussians").enough_for("export")
    assert describe_scene(roots, NAME).enough_for("export")


def test_a_command_makes_the_renders_later(roots: SceneRoots) -> None:
    write_scene(roots, NAME, gaussians=False)
    assert describe_scene(roots, NAME, render_source="command").enough_for("export")


def test_a_frame_without_a_file_that_others_have_is_a_gap_and_an_empty_file_is_none(roots: SceneRoots) -> None:
    write_scene(roots, NAME)
    truth = roots.tree(NAME).ground_truth
    put(truth.image(16, "000001"))
    assert describe_scene(roots, NAME, now=LATER).complete
    truth.camera(16, "000002").unlink()
    summary = describe_scene(roots, NAME, now=LATER)
    assert not summary.complete
    assert summary.gaps == ("all_cameras/16: 1 of 3 frames, first 000002",)


def test_a_scene_that_says_success_is_complete_whatever_its_gaps(roots: SceneRoots) -> None:
    write_scene(roots, NAME)
    truth = roots.tree(NAME).ground_truth
    truth.camera(16, "000002").unlink()
    put(roots.tree(NAME).estimated.preprocess_info, b"tool: x\nstatus: success\n")
    summary = describe_scene(roots, NAME)
    assert summary.complete
    assert summary.gaps


@pytest.mark.parametrize("status", ["failed", "running", "FAILED"])
def test_a_scene_that_says_anything_else_is_not_complete_however_long_it_has_rested(
    roots: SceneRoots, status: str
) -> None:
    write_scene(roots, NAME)
    put(roots.tree(NAME).estimated.preprocess_info, f"status: {status}".encode())
    summary = describe_scene(roots, NAME, now=LATER)
    assert not summary.complete
    assert status.lower() in summary.completeness.reason


def test_folders_must_have_rested_for_the_set_time(roots: SceneRoots) -> None:
    write_scene(roots, NAME)
    tree = roots.tree(NAME)
    newest = max(path.stat().st_mtime for path in roots.canonical_gt.parent.rglob("*") if path.is_dir())
    assert not upstream_completeness(tree, roots, quiet_s=60, now=newest + 59).complete
    assert upstream_completeness(tree, roots, quiet_s=60, now=newest + 61).complete
    put(tree.ground_truth.mask(4, "000000", 1), b"png")
    assert not upstream_completeness(tree, roots, quiet_s=60).complete


def test_a_low_confidence_of_the_person_assignment_is_a_warning(roots: SceneRoots) -> None:
    write_scene(roots, NAME)
    for confidence, n_warnings in ((0.4, 1), (0.5, 0), (0.9, 0)):
        put(roots.tree(NAME).estimated.person_id_map, f'{{"confidence_min": {confidence}}}'.encode())
        summary = describe_scene(roots, NAME)
        assert summary.confidence_min == confidence
        assert len(summary.warnings) == n_warnings


def test_names_that_do_not_fit_are_warnings(roots: SceneRoots) -> None:
    write_scene(roots, NAME)
    put(roots.tree(NAME).ground_truth.images_dir / "4" / "7.jpg", b"x")
    put(roots.tree(NAME).registry_entry, b'{"seq_name": "hi4d_pair01_kiss", "cam_id": 4}')
    warnings = "\n".join(describe_scene(roots, NAME).warnings)
    assert "hi4d_pair01_kiss" in warnings
    assert "7.jpg" in warnings


def test_a_broken_scene_gets_a_row_with_its_problem(roots: SceneRoots) -> None:
    write_scene(roots, NAME)
    put(roots.tree(NAME).ground_truth.skip_frames, b"one, two")
    summary = describe_scene(roots, NAME, now=LATER)
    assert summary.problem is not None
    assert "skip_frames.csv" in summary.problem
    assert not summary.complete
    assert not summary.enough_for("export")


# ---- which scenes an experiment takes

NAMES = ["hi4d_pair01_hug", "hi4d_pair02_fight", "studio_pair00_dance"]


def generation(**parts: object) -> GenerationSpec:
    return GenerationSpec.model_validate(parts)


def test_names_and_globs_take_scenes_and_exclude_wins() -> None:
    spec = generation(scenes=["studio_*", "hi4d_pair01_hug", "hi4d_*"], exclude=["*_fight"])
    assert match_scenes(reversed(NAMES), spec, Path()) == ["hi4d_pair01_hug", "studio_pair00_dance"]


def test_a_glob_that_fits_nothing_takes_nothing() -> None:
    assert match_scenes(NAMES, generation(scenes=["mmm_*"]), Path()) == []


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("studoi_*", "near: studio_pair00_dance"),
        ("HI4D_*", "near: hi4d_pair01_hug, hi4d_pair02_fight"),
        ("*_figth", "near: hi4d_pair02_fight"),
        ("hi4d_pair2_fight", "near: hi4d_pair02_fight"),
        ("mmm_*", "3 are there, such as hi4d_pair01_hug"),
        ("*", "3 are there"),
    ],
)
def test_what_nothing_matches_is_told_with_the_names_that_are_near(pattern: str, said: str) -> None:
    error = nothing_matches(NAMES, [pattern], key="generation.scenes", root=Path("/scenes"))
    assert said in str(error.wanted)
    assert "/scenes" in str(error.wanted)
    assert "there is none" in near_names([], [pattern])


def test_only_globs_that_match_nothing_are_idle() -> None:
    assert idle_globs(NAMES, ["studio_*", "mmm_*", "hi4d_pair09_x"]) == ["mmm_*"]


def test_a_named_scene_that_is_not_there_is_an_error_with_the_names_close_to_it() -> None:
    with pytest.raises(InvalidExperiment) as caught:
        match_scenes(NAMES, generation(scenes=["hi4d_pair01_hugs"]), Path())
    assert caught.value.key == "generation.scenes"
    assert "hi4d_pair01_hug" in str(caught.value.wanted)


def test_scenes_from_takes_the_scenes_that_a_directory_names(tmp_path: Path) -> None:
    put(tmp_path / "lists" / "hi4d_pair02_fight.json", b"{}")
    put(tmp_path / "lists" / "notes.txt", b"")
    assert match_scenes(NAMES, generation(scenes_from="lists"), tmp_path) == ["hi4d_pair02_fight"]
    put(tmp_path / "lists" / "hi4d_pair09_x.json", b"{}")
    with pytest.raises(InvalidExperiment, match="hi4d_pair09_x"):
        match_scenes(NAMES, generation(scenes_from="lists"), tmp_path)


def test_scenes_from_must_be_a_directory_of_scene_files(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    put(tmp_path / "odd" / "nodataset.json", b"{}")
    for directory in ("nowhere", "empty", "odd"):
        with pytest.raises(InvalidExperiment) as caught:
            match_scenes(NAMES, generation(scenes_from=directory), tmp_path)
        assert caught.value.key == "generation.scenes_from"


@given(
    there=st.lists(st.sampled_from([f"d{i}_s{j}" for i in range(3) for j in range(4)]), max_size=20),
    patterns=st.lists(st.sampled_from(["*", "d0_*", "d?_s1", "d[12]_*"]), min_size=1),
    exclude=st.lists(st.sampled_from(["d0_*", "*_s2", "d1_s1"])),
)
def test_the_scenes_are_sorted_each_once_and_do_not_depend_on_the_order_on_disk(
    there: list[str], patterns: list[str], exclude: list[str]
) -> None:
    spec = generation(scenes=patterns, exclude=exclude)
    taken = match_scenes(there, spec, Path())
    assert taken == sorted(set(taken))
    assert set(taken) <= set(there)
    assert taken == match_scenes(reversed(there), spec, Path())
    assert not [name for name in taken if name.endswith("_s2") and "*_s2" in exclude]


def test_canonical_gaussians_are_named_as_there_and_not_read_with_the_way_to_render_them(roots: SceneRoots) -> None:
    write_scene(roots, "hi4d_pair15_fight", gaussians=False)
    put(roots.tree("hi4d_pair15_fight").ground_truth.canonical_gaussians_dir / "union" / "gs.pt", b"x")
    put(roots.tree("hi4d_pair15_fight").estimated.canonical_gaussians_dir / "0" / "gs.pt", b"x")
    found = describe_scene(roots, "hi4d_pair15_fight")
    assert not any("canon_3dgs_lhm" in each for each in found.modalities)
    (warning,) = found.warnings
    for words in ("canon_3dgs_lhm/0/gs.pt", "canon_3dgs_lhm/union/gs.pt", "not read", "renders.source: command"):
        assert words in warning
        assert words in missing_text(found)
    assert not found.enough_for("export")
    assert describe_scene(roots, "hi4d_pair15_fight", render_source="command").enough_for("export")
