"""Paths and the ids in them: both ways, for every kind of path; and names that may not become a path."""

import inspect
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_assets import layout
from thesis_assets.errors import InvalidKey, ThesisAssetsError
from thesis_assets.layout import DifixTree, EvaluationTree, SampleId, SceneFolders, SceneTree
from thesis_assets.layout_ids import PathIds, ids_of, path_of
from thesis_assets.layout_kinds import DIFIX_KINDS, EVALUATION_KINDS, SCENE_KINDS, PathKind

KEYS = st.from_regex(layout.KEY_PATTERN, fullmatch=True).filter(lambda key: ".." not in key and len(key) <= 128)
CAMERAS = st.integers(0, layout.MAX_CAMERA_ID)
FRAMES = st.integers(0, layout.MAX_FRAME).map(layout.frame_name)
SAMPLES = st.builds(SampleId, KEYS, CAMERAS, CAMERAS, FRAMES, FRAMES)
IDS = {
    "sample": SAMPLES,
    "scene_name": KEYS,
    "run_name": KEYS,
    "cell": KEYS,
    "person": KEYS,
    "step": st.integers(0, 10**12 - 1),
    "epoch": st.integers(0, 10**9 - 1),
    "cam_id": CAMERAS,
    "fname": FRAMES,
    "person_number": st.integers(0, 99),
    "suffix": st.sampled_from([".jpg", ".jpeg", ".png"]),
}
SAFE_IDS = {
    "sample": SampleId("hi4d_pair00_dance", 16, 4, "000123", "000123"),
    "scene_name": "hi4d_pair00_dance",
    "run_name": "lr5e5",
    "cell": "scene-hi4d_pair00_dance",
    "person": "all",
    "step": 5000,
    "epoch": 30,
    "cam_id": 16,
    "fname": "000123",
    "person_number": 1,
    "suffix": ".jpg",
}
TEXT_FIELDS = {"scene_name", "run_name", "cell", "person", "fname"}
TREES = {
    "difix": (DifixTree(Path("/data/difix"), "v1"), DIFIX_KINDS),
    "evaluation": (EvaluationTree(Path("/results/run/hi4d_pair15_fight"), "v1"), EVALUATION_KINDS),
    "scene": (
        SceneTree(Path("/gt"), Path("/pre"), Path("/scenes"), Path("/renders"), "hi4d_pair15_fight"),
        SCENE_KINDS,
    ),
}
ALL_KINDS = [(tree, name, kind) for tree, kinds in TREES.values() for name, kind in kinds.items()]

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


def safe_ids(kind: PathKind) -> dict[str, object]:
    return {field: SAFE_IDS[field] for field in kind.fields}


def test_every_kind_of_path_gives_its_ids_and_the_ids_give_the_path() -> None:
    for tree, name, kind in ALL_KINDS:
        place = PathIds(name, safe_ids(kind))
        assert ids_of(tree, path_of(tree, place)) == place


@settings(max_examples=500)
@given(kind_of_tree=st.sampled_from(ALL_KINDS), data=st.data())
def test_a_path_gives_any_ids_back(
    kind_of_tree: tuple[DifixTree | EvaluationTree | SceneTree, str, PathKind], data: st.DataObject
) -> None:
    tree, name, kind = kind_of_tree
    place = PathIds(name, {field: data.draw(IDS[field], label=field) for field in kind.fields})

    assert ids_of(tree, path_of(tree, place)) == place


def test_no_id_leads_out_of_its_tree() -> None:
    for tree, name, kind in ALL_KINDS:
        for field in set(kind.fields) & TEXT_FIELDS:
            for unsafe in [*UNSAFE_KEYS, "../../etc/passwd"]:
                with pytest.raises(InvalidKey):
                    path_of(tree, PathIds(name, {**safe_ids(kind), field: unsafe}))


def test_every_path_of_the_layout_with_an_id_has_its_way_back() -> None:
    """A new path in `layout` that carries ids needs a kind, else no path of that form leads back to its cell."""
    named = {part for _, name, _ in ALL_KINDS for part in name.split("/")}
    classes = (SceneFolders, SceneTree, layout.TuningRunTree, DifixTree, layout.TaskTree, EvaluationTree)
    # Folders and sub-trees, whose own files are what has kinds; and paths without an id of a cell in them.
    not_kinds = {
        *("bodies_dir", "meshes_dir", "nv_generation_debug", "input_data", "task", "tuning_run", "scene_run"),
        *("relative", "sample_of", "recording_made_from", "made_from", "training_artifacts_made_from"),
    }
    renamed = {"body": "smplx", "viz_image": "viz", "task_recording": "recording"}
    methods = {
        name
        for cls in classes
        for name, method in vars(cls).items()
        if inspect.isfunction(method) and not name.startswith("_") and len(inspect.signature(method).parameters) > 1
    }

    assert {renamed.get(name, name) for name in methods - not_kinds} <= named


@pytest.mark.parametrize(
    "relative",
    [
        "samples/../../other/image.png",
        "samples/hi4d_a__tcam1__rcam2__tf000001__rf000001/image.png",
        "samples/hi4d_a__tcam01__rccam2__tf000001__rf000001/image.png",
        "samples/hi4d_a__tcam1__rccam2__tf1__rf000001/image.png",
        "tuning_runs/a/checkpoints/model_007.pkl",
        "tuning_runs/a/checkpoints/model_٣.pkl",
        "tuning_runs/a/checkpoints/model_7.pkl\n",
        "tuning_runs/a b/train_config.json",
        "manifests/unknown.jsonl",
        "",
    ],
)
def test_a_path_of_no_known_form_is_refused(relative: str) -> None:
    tree = DifixTree(Path("/data"), "v1")

    with pytest.raises(InvalidKey):
        ids_of(tree, tree.base / relative)


def test_a_path_outside_the_tree_is_refused() -> None:
    with pytest.raises(InvalidKey):
        ids_of(DifixTree(Path("/data"), "v1"), DifixTree(Path("/data"), "v2").tuning_run("a").job)


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
    assert layout.inside(Path("/root"), "samples/a/image.png", "image_path") == Path("/root/samples/a/image.png")


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
