"""Paths and the ids in them, and names that may not become a path."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_assets import layout
from thesis_assets.errors import InvalidKey, ThesisAssetsError
from thesis_assets.layout import DifixTree, EvaluationTree, SampleId, SceneTree

KEYS = st.from_regex(layout.KEY_PATTERN, fullmatch=True).filter(lambda key: ".." not in key and len(key) <= 128)
CAMERAS = st.integers(0, layout.MAX_CAMERA_ID)
FRAMES = st.integers(0, layout.MAX_FRAME).map(layout.frame_name)
SAMPLES = st.builds(SampleId, KEYS, CAMERAS, CAMERAS, FRAMES, FRAMES)
EPOCHS = st.integers(0, 10**9 - 1)
IDS: dict[str, st.SearchStrategy[Any]] = {
    "sample": SAMPLES,
    **dict.fromkeys(("scene_name", "run_name", "cell"), KEYS),
    "person": st.integers(0, 99),
    "step": st.integers(0, 10**12 - 1),
    "epoch": EPOCHS,
    "cam_id": CAMERAS,
    "fname": FRAMES,
    "suffix": st.sampled_from([".jpg", ".jpeg", ".png"]),
    "split": st.sampled_from(["train", "test"]),
    "task": st.sampled_from(layout.TASKS),
    "kind": st.sampled_from(["images", "masks", "depths"]),
    "model": st.sampled_from(["smplx", "smpl"]),
    "side": st.sampled_from(["pred", "gt_inputs"]),
    "alignment": st.sampled_from(["world_aligned", "root_aligned"]),
    "asset": st.sampled_from(["tuned_checkpoint", "selected_checkpoint"]),
}
"""By the name of a parameter: what it may be."""
SAFE_IDS = {
    "sample": SampleId("hi4d_pair00_dance", 16, 4, "000123", "000123"),
    "scene_name": "hi4d_pair00_dance",
    "run_name": "lr5e5",
    "cell": "scene-hi4d_pair00_dance",
    "person": 1,
    "step": 5000,
    "epoch": 30,
    "cam_id": 16,
    "fname": "000123",
    **{"suffix": ".jpg", "split": "train", "task": "nvs", "kind": "images", "model": "smplx", "side": "pred"},
    **{"alignment": "world_aligned", "asset": "tuned_checkpoint"},
}
TEXT_IDS = {"scene_name", "run_name", "cell", "person", "fname"}
EVALUATION = EvaluationTree(Path("/results/run/hi4d_pair15_fight"), "v1")
SCENE = SceneTree(Path("/gt"), Path("/pre"), Path("/scenes"), Path("/renders"), "hi4d_pair15_fight")
TREES = (
    DifixTree(Path("/data/difix"), "v1"),
    layout.TuningRunTree(Path("/data/difix/v1/tuning_runs/a")),
    EVALUATION,
    EVALUATION.task(30, "pose_smplx"),
    SCENE,
    SCENE.ground_truth,
)
PATHS = [
    (getattr(tree, name), tuple(fields))
    for tree in TREES
    for name, method in vars(type(tree)).items()
    if inspect.isfunction(method) and not name.startswith("_")
    if (fields := list(inspect.signature(method).parameters)[1:]) and set(fields) <= set(IDS)
]
"""Every method of the layout that makes a path, or a tree below, of ids: and their names."""

UNSAFE_KEYS = [
    "",
    ".",
    "..",
    ".hidden",
    "-option",
    "_private",
    "a/b",
    "/absolute",
    "../up",
    "a..b",
    "a/../b",
    "a\\b",
    "a b",
    "a\n",
    "\na",
    "a\r",
    "a\0b",
    "a\x1b[31m",
    "a|b",
    "a:b",
    "a*",
    "~",
    "$HOME",
    "paär",
    "pair１",
    "pair٣",
    "a‮b",
    "a​",
    "x" * 129,
    "x" * 100_000,
]


def test_every_id_that_becomes_a_path_is_among_these() -> None:
    assert {field for _, fields in PATHS for field in fields} == set(IDS)


@settings(max_examples=500)
@given(path=st.sampled_from(PATHS), data=st.data())
def test_other_ids_have_another_path(path: tuple[Callable[..., object], tuple[str, ...]], data: st.DataObject) -> None:
    build, fields = path
    one, other = ({field: data.draw(IDS[field], label=field) for field in fields} for _ in range(2))

    assert (build(**one) == build(**other)) == (one == other)


def test_no_id_leads_out_of_its_tree() -> None:
    for build, fields in PATHS:
        for field in set(fields) & TEXT_IDS:
            for unsafe in [*UNSAFE_KEYS, "../../etc/passwd"]:
                with pytest.raises(InvalidKey):
                    build(**{**{name: SAFE_IDS[name] for name in fields}, field: unsafe})


@given(EPOCHS, st.sampled_from(layout.TASKS))
def test_a_recordings_path_says_what_it_shows(epoch: int, task: str) -> None:
    assert EVALUATION.recording_of(EVALUATION.input_data_recording) == ("input_data", None)
    assert EVALUATION.recording_of(EVALUATION.evaluation_recording(epoch)) == ("evaluation", epoch)
    assert EVALUATION.recording_of(EVALUATION.task_recording(epoch, task)) == (task, epoch)


@pytest.mark.parametrize(
    "relative",
    [
        "rerun/evaluation_epoch_30.rrd",
        "rerun/evaluation_epoch_00030.rrd",
        "rerun/evaluation_epoch_٠٠٣٠.rrd",
        "rerun/evaluation_epoch_0030.rrd\n",
        "rerun/evaluation_epoch_0030.rrd/x",
        "rerun/depth_epoch_0030.rrd",
        "rerun/_epoch_0030.rrd",
        "rerun/evaluation.rrd",
        "rerun/../evaluation_epoch_0030.rrd",
        "evaluation_epoch_0030.rrd",
        "../v2/rerun/evaluation_epoch_0030.rrd",
        "",
    ],
)
def test_a_path_that_is_no_recording_of_the_tree_is_refused(relative: str) -> None:
    with pytest.raises(InvalidKey):
        EVALUATION.recording_of(EVALUATION.base / relative)


@given(SAMPLES)
def test_a_sample_id_reads_back_and_fits_a_file_name(sample: SampleId) -> None:
    assert SampleId.parse(str(sample)) == sample
    assert len(str(sample)) <= 255


def test_a_sample_id_is_the_data_documents() -> None:
    sample = SampleId("hi4d_pair00_dance", 16, 4, "000123", "000123")

    assert str(sample) == "hi4d_pair00_dance__tcam16__rccam4__tf000123__rf000123"


def test_a_scene_whose_name_looks_like_a_sample_id_is_still_read_whole() -> None:
    scene = "hi4d_a__tcam1__rccam2__tf000001__rf000001"
    sample = SampleId(scene, 16, 4, "000123", "000124")

    assert SampleId.parse(str(sample)) == sample


def test_the_older_sample_id_is_read_only_when_asked() -> None:
    older = "hi4d_pair00_dance__tcam16__rcam4__tf000123__rf000123"

    with pytest.raises(InvalidKey):
        SampleId.parse(older)
    assert str(SampleId.parse(older, accept_older=True)) == older.replace("__rcam", "__rccam")


@given(st.text(max_size=300))
def test_no_text_but_a_sample_id_is_read_as_one(text: str) -> None:
    try:
        sample = SampleId.parse(text)
    except InvalidKey:
        return
    assert str(sample) == text


@pytest.mark.parametrize("digits", ["9" * 11, "9" * 5000])
def test_an_id_of_very_many_digits_is_refused_as_any_other(digits: str) -> None:
    """Python refuses to read integers beyond 4,300 digits with a ValueError of its own."""
    with pytest.raises(InvalidKey):
        SampleId.parse(f"hi4d_a__tcam{digits}__rccam4__tf000123__rf000123")
    with pytest.raises(InvalidKey):
        layout.parse_epoch(f"epoch_{digits}")
    with pytest.raises(InvalidKey):
        layout.check_camera(int(digits[:4000]))


@pytest.mark.parametrize("key", UNSAFE_KEYS, ids=lambda key: ascii(key)[:20])
def test_a_key_that_is_no_safe_file_name_is_refused_everywhere(key: str) -> None:
    tree = DifixTree(Path("/data"), "v1")
    refusals = [
        lambda: layout.check_key(key, "exp_name"),
        lambda: DifixTree(Path("/data"), key),
        lambda: EvaluationTree(Path("/data"), key),
        lambda: SceneTree(Path("/a"), Path("/b"), Path("/c"), Path("/d"), key),
        lambda: SampleId(key, 1, 2, "000001", "000001"),
        lambda: tree.tuning_run(key),
        lambda: tree.scene_run(key),
        lambda: tree.lock(key),
        lambda: layout.output_dir(
            "{results_root}/{run_name}", results_root=Path("/r"), exp_name="a", run_name=key, scene_name="b"
        ),
    ]
    for refusal in refusals:
        with pytest.raises(InvalidKey) as refused:
            refusal()
        assert len(str(refused.value)) < 1500
        assert str(refused.value).isascii()


@given(st.text(max_size=140))
def test_a_key_is_accepted_only_where_it_is_one_plain_folder_name(key: str) -> None:
    try:
        layout.check_key(key, "exp_name")
    except InvalidKey:
        return
    assert key.isascii()
    assert Path("/root", key).name == key
    assert Path("/root", key).parent == Path("/root")
    assert key.isprintable()
    assert not key.startswith((".", "-"))


@pytest.mark.parametrize(
    "fname", ["", "1", "00001", "0000001", "00000a", "000001\n", "٠٠٠٠٠١", "-00001", "../001", "1" * 13]
)
def test_only_padded_digits_are_a_frame_name(fname: str) -> None:
    with pytest.raises(InvalidKey):
        layout.check_frame(fname)


@pytest.mark.parametrize("cam_id", [-1, True, 2**31, 1.0, "4", None])
def test_only_an_integer_from_zero_on_is_a_camera_id(cam_id: object) -> None:
    with pytest.raises(InvalidKey):
        layout.check_camera(cam_id)  # type: ignore[arg-type]


@pytest.mark.parametrize("scene_name", ["hi4d", "_pair15", "hi4d_"])
def test_a_scene_name_has_its_dataset_in_front(scene_name: str) -> None:
    with pytest.raises(InvalidKey):
        layout.dataset_of(scene_name)
    assert layout.dataset_of("hi4d_pair15_fight") == "hi4d"


@pytest.mark.parametrize("name", ["epoch_30", "epoch_00030", "epoch_٣٠٣٠", "epoch_0030\n", "epoch_-001", "Epoch_0030"])
def test_an_epochs_folder_has_one_form_only(name: str) -> None:
    with pytest.raises(InvalidKey):
        layout.parse_epoch(name)
    assert layout.parse_epoch("epoch_0030") == 30


@pytest.mark.parametrize(
    "name", ["model_7.pkl.tmp", "model_007.pkl", "model_-1.pkl", "xmodel_7.pkl", "model_٣.pkl", "model_.pkl"]
)
def test_a_file_that_is_no_checkpoint_has_no_step(name: str) -> None:
    assert layout.parse_checkpoint_step(name) is None
    assert layout.parse_checkpoint_step("model_700.pkl") == 700


@pytest.mark.parametrize("relative", ["", ".", "/etc/passwd", "../up", "a/../../b", "a\0b"])
def test_a_relative_path_stays_in_its_root(relative: str) -> None:
    with pytest.raises(InvalidKey):
        layout.inside(Path("/root"), relative, "image_path")
    assert layout.inside(Path("/data"), "samples/a/image.png", "image_path") == Path("/data/samples/a/image.png")


@pytest.mark.parametrize(
    "template",
    [
        "{results_root}/{unknown}",
        "{results_root.parent}/{run_name}",
        "{0}",
        "{}",
        "{run_name!r}",
        "{run_name:>9}",
        "{run_name",
    ],
)
def test_an_output_template_has_the_four_names_only(template: str) -> None:
    with pytest.raises(InvalidKey):
        layout.output_dir(template, results_root=Path("/r"), exp_name="v1", run_name="lr", scene_name="hi4d_a")


def test_output_templates_place_the_tree_as_the_output_document_says() -> None:
    keys = {"results_root": Path("/r"), "exp_name": "v1", "run_name": "lr", "scene_name": "hi4d_a"}

    assert layout.evaluation_tree("{results_root}/{run_name}/{scene_name}", **keys).base == Path("/r/lr/hi4d_a/v1")
    assert layout.evaluation_tree("thesis", **keys).base == Path("/r/hi4d_a/v1__lr")


def test_the_data_tree_is_the_data_documents() -> None:
    tree = DifixTree(Path("/data"), "v1")
    sample = SampleId("hi4d_pair00_dance", 16, 4, "000123", "000123")
    run = tree.tuning_run("lr5e5")
    written = {
        "samples/hi4d_pair00_dance__tcam16__rccam4__tf000123__rf000123/image.png": tree.image(sample),
        "samples/hi4d_pair00_dance__tcam16__rccam4__tf000123__rf000123/target_image.jpg": tree.target_image(sample),
        "samples/hi4d_pair00_dance__tcam16__rccam4__tf000123__rf000123/ref_image.jpg": tree.ref_image(sample),
        "samples/hi4d_pair00_dance__tcam16__rccam4__tf000123__rf000123/meta.json": tree.sample_meta(sample),
        "manifests/all_samples.jsonl": tree.all_samples,
        "manifests/split_train.jsonl": tree.split_train,
        "manifests/split_test.jsonl": tree.split_test,
        "manifests/split_summary.json": tree.split_summary,
        "difix/data.json": tree.data_json,
        "tuning_runs/lr5e5/checkpoints/model_5000.pkl": run.checkpoint(5000),
        "tuning_runs/lr5e5/eval": run.eval_dir,
        "tuning_runs/lr5e5/train_config.json": run.train_config,
        "meta/generation_config.yaml": tree.generation_config,
        "meta/generation_stats.json": tree.generation_stats,
        "meta/dropped_samples.csv": tree.dropped_samples,
    }
    for relative, path in written.items():
        assert path == Path("/data/v1", relative)


def test_the_output_tree_is_the_output_documents() -> None:
    tree = EvaluationTree(Path("/out"), "v1")
    nvs, smplx, smpl = (tree.task(30, task) for task in layout.TASKS)
    written = {
        "manifest.json": tree.manifest,
        "training_artifacts/epoch_0002/rgb": tree.training_artifacts(2, "rgb"),
        "training_artifacts/epoch_0002/depth": tree.training_artifacts(2, "depth"),
        "training_artifacts/epoch_0002/gt_input": tree.training_artifacts(2, "gt_input"),
        "input_data/train/images": tree.input_data("train").images_dir,
        "input_data/train/seg": tree.input_data("train").seg_dir,
        "input_data/train/all_cameras": tree.input_data("train").cameras_dir,
        "input_data/train/smplx": tree.input_data("train").bodies_dir("smplx"),
        "input_data/train/depths": tree.input_data("train").depths_dir,
        "input_data/train/misc/nv_generation/est_images_debug": tree.input_data("train").nv_generation_debug("images"),
        "input_data/train/misc/nv_generation/est_masks_debug": tree.input_data("train").nv_generation_debug("masks"),
        "input_data/train/misc/nv_generation/est_depths_debug": tree.input_data("train").nv_generation_debug("depths"),
        "input_data/test/smpl": tree.input_data("test").bodies_dir("smpl"),
        "evaluation/epoch_0030/nvs/inputs": nvs.inputs_dir,
        "evaluation/epoch_0030/nvs/pred": nvs.pred_dir,
        "evaluation/epoch_0030/nvs/gt_inputs": nvs.gt_inputs_dir,
        "evaluation/epoch_0030/nvs/viz": nvs.viz_dir,
        "rerun/input_data.rrd": tree.input_data_recording,
        "rerun/evaluation_epoch_0030.rrd": tree.evaluation_recording(30),
        "rerun/nvs_epoch_0030.rrd": tree.task_recording(30, "nvs"),
    }
    for relative, path in written.items():
        assert path == Path("/out/v1", relative)
    assert [
        path.relative_to("/out/v1/evaluation/epoch_0030").as_posix()
        for task in (nvs, smplx, smpl)
        for path in task.required_files
    ] == [
        "nvs/metrics/novel_view_results.txt",
        "nvs/metrics/metrics_avg_per_camera.csv",
        "nvs/metrics/metrics_all_cams_per_frame.csv",
        "pose_smplx/metrics/smplx_pose_estimation_overall_results.txt",
        "pose_smplx/metrics/smplx_pose_estimation_metrics_per_frame.csv",
        "pose_smpl/metrics/smpl_pose_estimation_overall_results.txt",
        "pose_smpl/metrics/smpl_pose_estimation_metrics_per_frame.csv",
    ]


def test_a_task_of_no_known_name_is_refused() -> None:
    tree = EvaluationTree(Path("/out"), "v1")

    with pytest.raises(InvalidKey):
        tree.task(0, "../nvs")
    with pytest.raises(InvalidKey):
        tree.task_recording(0, "depth")
    with pytest.raises(ThesisAssetsError, match="no body model"):
        _ = tree.task(0, "nvs").body_model
