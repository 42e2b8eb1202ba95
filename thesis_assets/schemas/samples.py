"""Files of a data snapshot: sample meta, manifests, shards, statistics, the trainer's data.json."""

from typing import ClassVar, Literal

from pydantic import Field

from thesis_assets.schemas.base import FileModel, OlderKeys, WithoutEmptyKeys

DropReason = Literal[
    "missing_reference_frame",
    "missing_target_image",
    "missing_render",
    "low_mask_coverage",
    "unreadable_input",
    "size_mismatch",
]
DROPPED_COLUMNS = ("sample_id", "scene_name", "target_cam_id", "target_fname", "reason", "detail")
SAMPLE_FILES = ("image.png", "target_image.jpg", "ref_image.jpg", "meta.json")


class SampleRow(FileModel):
    """One line of `all_samples.jsonl`, `split_train.jsonl` and `split_test.jsonl`: the eleven required keys."""

    sample_id: str = Field(description="<scene>__tcam<T>__rccam<S>__tf<frame>__rf<frame>")
    dataset: str = Field(description="the first part of the scene's name")
    scene_name: str = Field(description="the captured sequence")
    group_id: str = Field(description="who is seen: with the dataset the unit that is never on both sides of a split")
    target_cam_id: int = Field(description="the camera that is rendered")
    reference_cam_id: int = Field(description="the camera of the reference photograph")
    target_fname: str = Field(description="the target's frame")
    reference_fname: str = Field(description="the reference's frame")
    image_path: str = Field(description="the imperfect render, relative to the snapshot")
    target_image_path: str = Field(description="the photograph the render should look like")
    ref_image_path: str = Field(description="the photograph the network may look at")


class _WithoutDigests(OlderKeys):
    """What was told by digests of the generation section and of the scene, before there were made-from records."""

    older_keys: ClassVar[frozenset[str]] = frozenset({"generation_digest", "scene_digest"})


class SampleProvenance(_WithoutDigests, WithoutEmptyKeys):
    """Where a sample's pixels come from."""

    left_out_empty: ClassVar[frozenset[str]] = frozenset({"recipe", "schedule"})

    identity: str = ""
    """Of the shard's made-from record; empty in a sample of a version that wrote none."""
    images: dict[str, str] = {}
    """sha256 of the three images, by file name."""
    pixels: str = ""
    """Digest of the decoded pixels of `image.png` (`images.codecs.pixel_digest`)."""
    photographs: dict[str, str] = {}
    """sha256 of the photographs that the target and the reference come from."""
    renderer: str
    mask_coverage: float | None
    """The smaller of the target's and reference's mask means; None where the scene has no masks."""
    png_encoder: str
    target_mode: str
    """`hard_link`, `reflink`, `copy` or `encoded`."""
    reference_mode: str
    recipe: str | None = None
    """Of the experiment's recipes the one that the render is of; None without recipes."""
    schedule: float | None = None
    """The share of the full schedule that it was made after; None where the recipe has none."""


class SampleMeta(SampleRow):
    """`samples/<sample_id>/meta.json`: a row and its provenance."""

    provenance: SampleProvenance

    def row(self) -> SampleRow:
        return SampleRow.model_validate(self.model_dump(exclude={"provenance"}))


class DroppedSample(FileModel):
    """One row of `dropped_samples.csv`."""

    sample_id: str
    scene_name: str
    target_cam_id: int
    target_fname: str
    reason: DropReason
    detail: str = ""


class ShardStats(_WithoutDigests, WithoutEmptyKeys):
    """`scene_runs/<scene_name>/run_stats.json`."""

    left_out_empty: ClassVar[frozenset[str]] = frozenset({"recipes"})

    scene_name: str
    dataset: str
    group_id: str
    target_cam_ids: list[int]
    n_total_candidates: int
    n_saved: int
    n_dropped: int
    rows_sha256: str
    """Of the shard's `all_samples.jsonl`."""
    image_height: int
    image_width: int
    renderer: str
    png_encoder: str
    seconds: float
    bytes_written: int
    recipes: dict[str, int] = {}
    """Samples by recipe, every recipe of the experiment; empty without recipes."""


class Exclusion(FileModel):
    """A line of `experiments/<exp_name>.exclude.csv`: a sample that a person leaves out of training and testing."""

    sample_id: str
    reason: str = ""
    who: str = ""
    when: str = ""


class RecipeCounts(FileModel):
    """How many samples have their render from a recipe."""

    n_all: int
    n_train: int
    n_test: int


class SplitSummary(WithoutEmptyKeys):
    """`manifests/split_summary.json`. Groups are written `<dataset>/<group_id>`: the unit of leakage is the pair."""

    n_all: int
    n_train: int
    n_test: int
    datasets: list[str]
    group_ids: list[str]
    scene_runs: list[str]
    train_group_ids: list[str]
    test_group_ids: list[str]
    reserved_scenes: list[str]
    split_spec: dict[str, object]
    manifest_sha256: dict[str, str]
    """By manifest file name."""
    recipes: dict[str, RecipeCounts] = {}
    """By recipe, those that were left out too; empty without recipes."""

    n_excluded: int | None = None
    """Samples in neither half, as a person left them out; None where nobody did."""

    left_out_empty: ClassVar[frozenset[str]] = frozenset({"recipes", "n_excluded"})


class GenerationStats(_WithoutDigests):
    """`meta/generation_stats.json`."""

    exp_name: str
    output_exp_dir: str
    n_scene_runs: int
    scene_runs: list[str]
    n_all_samples: int
    n_train_samples: int
    n_test_samples: int
    n_dropped_samples: int
    scene_sample_counts: dict[str, int]
    dataset_sample_counts: dict[str, int]
    group_sample_counts: dict[str, int]
    dropped_by_reason: dict[str, int]
    shard_digests: dict[str, str]
    """`rows_sha256` by scene."""


class DataJsonEntry(FileModel):
    """One sample of `difix/data.json`; paths are absolute."""

    image: str = Field(description="the imperfect render")
    target_image: str = Field(description="the photograph it should look like")
    ref_image: str | None = Field(default=None, description="the photograph the network may look at")
    prompt: str = Field(description="the text that goes with every sample")


class DataJson(FileModel):
    """`difix/data.json`, what the trainer reads."""

    train: dict[str, DataJsonEntry]
    test: dict[str, DataJsonEntry]


class FrozenSnapshot(_WithoutDigests):
    """`meta/frozen.json`: from now on nothing may change the snapshot."""

    exp_name: str
    frozen_at: str
    reason: str
    data_json_sha256: str
    """Of what data.json says, with paths relative to the snapshot. A version before: of its bytes, which hold the paths of then."""
    manifest_sha256: dict[str, str]
    n_train: int = Field(ge=0)
    n_test: int = Field(ge=0)
