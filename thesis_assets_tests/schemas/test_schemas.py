"""The shapes of the files: the keys both documents name, exactly, and nothing unknown."""

import importlib
import math
import pkgutil
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from thesis_assets import schemas, storage
from thesis_assets.layout import OUTPUT_LAYOUT_VERSION, TASKS, DifixTree, SampleId
from thesis_assets.schemas import evaluation, samples
from thesis_assets.schemas.base import FileModel
from thesis_assets.schemas.checks import MAX_OFFENDERS, CheckOutcome
from thesis_assets.schemas.scenes import BODY_ARRAYS, SceneRegistryEntry

REQUIRED_META_KEYS = [
    "sample_id",
    "dataset",
    "scene_name",
    "group_id",
    "target_cam_id",
    "reference_cam_id",
    "target_fname",
    "reference_fname",
    "image_path",
    "target_image_path",
    "ref_image_path",
]
DOCUMENTED_META = {
    "sample_id": "hi4d_pair00_dance__tcam16__rccam4__tf000123__rf000123",
    "dataset": "hi4d",
    "scene_name": "hi4d_pair00_dance",
    "group_id": "pair00",
    "target_cam_id": 16,
    "reference_cam_id": 4,
    "target_fname": "000123",
    "reference_fname": "000123",
    "image_path": "samples/hi4d_pair00_dance__tcam16__rccam4__tf000123__rf000123/image.png",
    "target_image_path": "samples/hi4d_pair00_dance__tcam16__rccam4__tf000123__rf000123/target_image.jpg",
    "ref_image_path": "samples/hi4d_pair00_dance__tcam16__rccam4__tf000123__rf000123/ref_image.jpg",
}
PROVENANCE = {
    "generation_digest": "a" * 64,
    "scene_digest": "b" * 64,
    "renderer": "precomputed",
    "mask_coverage": None,
    "png_encoder": "isal",
    "target_mode": "hard_link",
    "reference_mode": "encoded",
}
DOCUMENTED_MANIFEST = {
    "output_layout_version": "v1",
    "exp_name": "v1",
    "scene_name": "hi4d_pair15_fight",
    "tasks": ["nvs", "pose_smplx", "pose_smpl"],
    "eval_epochs": ["epoch_0000", "epoch_0015", "epoch_0030"],
}
RECOMMENDED_MANIFEST = {
    "nvs_cameras": [4, 16],
    "source_camera_id": 52,
    "pose_eval_world_alignment_method": "pelvis_trajectory",
    "notes": {},
}


def file_models() -> list[type[FileModel]]:
    for module in pkgutil.iter_modules(schemas.__path__):
        importlib.import_module(f"{schemas.__name__}.{module.name}")
    found, left = set(), list(FileModel.__subclasses__())
    while left:
        model = left.pop()
        left += model.__subclasses__()
        if model.__module__.startswith(schemas.__name__) and model.model_fields:
            found.add(model)
    return sorted(found, key=lambda model: model.__name__)


# --- all files -------------------------------------------------------------------------------------------------------


def test_a_key_that_no_schema_knows_is_refused() -> None:
    for model in file_models():
        with pytest.raises(ValidationError) as refused:
            model.model_validate({"no_such_key": 1})

        extra = [problem["loc"] for problem in refused.value.errors() if problem["type"] == "extra_forbidden"]
        assert extra == [("no_such_key",)], model


def test_a_value_from_a_file_cannot_be_changed() -> None:
    for model in (each for each in file_models() if each.model_fields):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(model.model_construct(), next(iter(model.model_fields)), None)


def test_every_file_model_was_found() -> None:
    names = {model.__name__ for model in file_models()}

    assert {"SampleMeta", "SplitSummary", "GenerationStats", "TrainConfig", "EvaluationManifest", "Protocol"} <= names


# --- samples ---------------------------------------------------------------------------------------------------------


def test_a_samples_meta_has_the_eleven_required_keys_and_provenance() -> None:
    assert list(samples.SampleRow.model_fields) == REQUIRED_META_KEYS
    assert list(samples.SampleMeta.model_fields) == [*REQUIRED_META_KEYS, "provenance"]
    assert all(field.is_required() for field in samples.SampleMeta.model_fields.values())


@pytest.mark.parametrize("key", REQUIRED_META_KEYS)
def test_a_meta_without_one_of_its_keys_is_refused(key: str) -> None:
    value = {**DOCUMENTED_META, "provenance": PROVENANCE}
    samples.SampleMeta.model_validate(value)
    del value[key]

    with pytest.raises(ValidationError, match=key):
        samples.SampleMeta.model_validate(value)


def test_a_manifest_row_is_the_meta_without_its_provenance() -> None:
    meta = samples.SampleMeta.model_validate({**DOCUMENTED_META, "provenance": PROVENANCE})

    assert meta.row().model_dump() == DOCUMENTED_META
    assert storage.to_json_bytes(meta.row(), indent=False).count(b"\n") == 1


def test_the_documented_row_lies_where_the_layout_puts_it() -> None:
    tree = DifixTree(Path("/data"), "v1")
    row = samples.SampleRow.model_validate(DOCUMENTED_META)
    sample = SampleId.parse(row.sample_id)

    assert row.image_path == tree.relative(tree.image(sample))
    assert row.target_image_path == tree.relative(tree.target_image(sample))
    assert row.ref_image_path == tree.relative(tree.ref_image(sample))


def test_only_the_documented_reasons_drop_a_sample() -> None:
    row = {"sample_id": "a", "scene_name": "b", "target_cam_id": 1, "target_fname": "000001"}
    for reason in get_args(samples.DropReason):
        assert samples.DroppedSample.model_validate({**row, "reason": reason}).reason == reason
    assert tuple(samples.DroppedSample.model_fields) == samples.DROPPED_COLUMNS

    with pytest.raises(ValidationError):
        samples.DroppedSample.model_validate({**row, "reason": "too_dark"})


def test_the_summary_files_have_the_keys_of_the_data_document() -> None:
    assert set(samples.SplitSummary.model_fields) >= {
        *("n_all", "n_train", "n_test", "datasets", "group_ids", "scene_runs", "train_group_ids", "test_group_ids"),
        *("reserved_scenes", "split_spec", "manifest_sha256"),
    }
    assert set(samples.GenerationStats.model_fields) >= {
        *("exp_name", "output_exp_dir", "n_scene_runs", "scene_runs", "n_all_samples", "n_train_samples"),
        *("n_test_samples", "n_dropped_samples", "scene_sample_counts", "dataset_sample_counts", "group_sample_counts"),
    }
    assert set(samples.ShardStats.model_fields) >= {
        *("scene_name", "dataset", "group_id", "target_cam_ids", "n_total_candidates", "n_saved", "n_dropped"),
    }


def test_the_trainers_file_has_two_maps_of_four_keys() -> None:
    assert list(samples.DataJson.model_fields) == ["train", "test"]
    assert list(samples.DataJsonEntry.model_fields) == ["image", "target_image", "ref_image", "prompt"]


# --- evaluation ------------------------------------------------------------------------------------------------------


def test_a_manifest_has_the_required_and_the_recommended_keys() -> None:
    assert list(evaluation.EvaluationManifest.model_fields) == [*DOCUMENTED_MANIFEST, *RECOMMENDED_MANIFEST]
    assert DOCUMENTED_MANIFEST["output_layout_version"] == OUTPUT_LAYOUT_VERSION
    assert DOCUMENTED_MANIFEST["tasks"] == list(TASKS)


@pytest.mark.parametrize("key", DOCUMENTED_MANIFEST)
def test_a_manifest_without_a_required_key_is_refused(key: str) -> None:
    value = {**DOCUMENTED_MANIFEST, **RECOMMENDED_MANIFEST}
    evaluation.EvaluationManifest.model_validate(value)
    del value[key]

    with pytest.raises(ValidationError, match=key):
        evaluation.EvaluationManifest.model_validate(value)


def test_a_manifest_of_another_layout_version_is_refused() -> None:
    with pytest.raises(ValidationError, match="output_layout_version"):
        evaluation.EvaluationManifest.model_validate(
            {**DOCUMENTED_MANIFEST, **RECOMMENDED_MANIFEST, "output_layout_version": "v2"}
        )


def test_the_documented_columns_stand_first() -> None:
    assert evaluation.NVS_FRAME_COLUMNS[:5] == ("camera_id", "frame_id", "psnr", "ssim", "lpips")
    assert evaluation.NVS_CAMERA_COLUMNS[:4] == ("camera_id", "psnr", "ssim", "lpips")
    assert evaluation.POSE_FRAME_COLUMNS[:5] == ("frame_id", "rr_mpjpe_mm", "rr_mve_mm", "cd_mm", "pcdr")


def test_an_overall_results_line_is_key_and_four_decimals() -> None:
    assert evaluation.format_results({"psnr": 20.10916, "lpips": None}) == "psnr: 20.1092\nlpips: nan\n"


@given(
    st.dictionaries(
        st.sampled_from(evaluation.NVS_RESULT_KEYS + evaluation.POSE_METRICS),
        st.none() | st.floats(-1e6, 1e6, allow_nan=False),
    )
)
def test_overall_results_read_back(values: dict[str, float | None]) -> None:
    read = evaluation.parse_results(evaluation.format_results(values))

    assert list(read) == list(values)
    for key, value in values.items():
        assert math.isnan(read[key]) if value is None else abs(read[key] - value) <= 0.5e-4 + 1e-9 * abs(value)


@pytest.mark.parametrize("text", ["psnr 20.1", "psnr: good"])
def test_a_results_file_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"psnr|good"):
        evaluation.parse_results(text)


# --- scenes and checks -----------------------------------------------------------------------------------------------


def test_a_registry_entry_keeps_to_its_keys_and_lets_other_tools_have_theirs() -> None:
    entry = SceneRegistryEntry.model_validate(
        {
            **{"seq_name": "hi4d_pair15_fight", "cam_id": 52, "raw_gt_dir_path": "/gt", "video_path": "/v.mp4"},
            **{"ref_frame_idx": 0, "theirs": 1, "identity_alignment": {"manual_preproc_to_gt": {"0": 1, "1": 0}}},
        }
    )

    assert entry.cam_id == 52
    assert entry.identity_alignment is not None
    assert entry.identity_alignment.manual_preproc_to_gt == {0: 1, 1: 0}
    with pytest.raises(ValidationError, match="cam_id"):
        SceneRegistryEntry.model_validate({"seq_name": "hi4d_pair15_fight"})


def test_body_arrays_are_the_scene_contracts() -> None:
    assert BODY_ARRAYS["smplx"]["body_pose"] == (21, 3)
    assert BODY_ARRAYS["smplx"]["expression"] == (100,)
    assert BODY_ARRAYS["smpl"] == {"betas": (10,), "global_orient": (3,), "body_pose": (23, 3), "transl": (3,)}


@given(st.lists(st.text(max_size=5), max_size=60))
def test_a_check_keeps_all_its_counts_and_the_first_offenders(offenders: list[str]) -> None:
    outcome = CheckOutcome.of(offenders, message="looked", counts={"samples": 7})

    assert outcome.passed == (not offenders)
    assert outcome.offenders == offenders[:MAX_OFFENDERS]
    assert outcome.counts == {"samples": 7, "offenders": len(offenders)}
