"""The recording of a tuning run along its step timeline."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.images.codecs import encode_jpeg, encode_png, read_rgb
from thesis_assets.images.metrics import psnr
from thesis_assets.layout import DifixTree, SampleId
from thesis_assets.recordings.contract import check_triplet_recording
from thesis_assets.recordings.triplets import chosen_samples, export_triplets, sample_entity
from thesis_assets.recordings.verification import read_recording
from thesis_assets.schemas.samples import DataJson, DataJsonEntry
from thesis_assets.schemas.tuning import CheckpointInfo
from thesis_assets.tuning.trained_model import Refiner
from thesis_assets_tests.recordings.read_back import blob, column, views_of
from thesis_assets_tests.recordings.small_tree import picture

STEPS = (100, 200)


def make_run(root: Path, *, n_samples: int = 9) -> DifixTree:
    tree = DifixTree(root, "demo")
    entries = {}
    for number in range(n_samples):
        cam_id = (4, 28, 40)[number % 3]
        sample = SampleId("studio_pair02_hug", cam_id, 16, f"{number:06d}", f"{number:06d}")
        storage.write_bytes(tree.image(sample), encode_png(picture(number)))
        storage.write_bytes(tree.target_image(sample), encode_jpeg(picture(number + 100)))
        storage.write_bytes(tree.ref_image(sample), encode_jpeg(picture(number + 200)))
        places = (tree.image(sample), tree.target_image(sample), tree.ref_image(sample))
        image, target, reference = map(str, places)
        entries[str(sample)] = DataJsonEntry(image=image, target_image=target, ref_image=reference, prompt="")
    storage.write_json(tree.data_json, DataJson(train={}, test=entries))
    for step in STEPS:
        add_checkpoint(tree, step)
    return tree


def add_checkpoint(tree: DifixTree, step: int) -> None:
    run = tree.tuning_run("tiny_a")
    content = f"weights of step {step}".encode()
    storage.write_bytes(run.checkpoint(step), content)
    info = CheckpointInfo(
        step=step,
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        keys=[],
        metrics={},
        data_json_sha256="",
        hyperparameter_digest="",
    )
    storage.write_json(run.checkpoint_info(step), info)


def brighten(checkpoint: Path, device: str) -> Refiner:
    """A refiner that brightens by a tenth a hundred steps, so that each step's picture is known."""
    import torch

    step = int(checkpoint.stem.removeprefix("model_"))
    return Refiner(lambda renders, _: torch.full_like(renders, step / 1000), resolution=32, device=device, step=step)


def export(tree: DifixTree) -> list[str]:
    return export_triplets(tree, "tiny_a", load_refiner=brighten).absent


def test_every_step_refines_the_same_samples_and_the_rest_stands_still(tmp_path: Path) -> None:
    tree = make_run(tmp_path)
    assert export(tree) == []
    path = tree.tuning_run("tiny_a").triplet_recording
    content = read_recording(path)
    samples = chosen_samples(tree)
    assert len(samples) == 6
    assert content.application_id == "thesis_assets_triplets"
    assert {name for entity in content.entities.values() for name in entity.timelines} == {"step"}
    for sample in samples:
        entity = sample_entity(sample.sample_id)
        assert list(blob(path, f"{entity}/refined")) == list(STEPS)
        assert "EncodedImage:blob" in content.entities[f"{entity}/target"].static
    # 4 pictures a sample; PSNR, and what it gained.
    assert views_of(content) == {"2D": 24, "TimeSeries": 2}
    assert check_triplet_recording(tree, "tiny_a").passed


def test_psnr_is_that_of_the_refined_picture_against_the_target(tmp_path: Path) -> None:
    tree = make_run(tmp_path)
    export(tree)
    path = tree.tuning_run("tiny_a").triplet_recording
    sample = chosen_samples(tree)[0]
    entity = sample_entity(sample.sample_id)
    render, target = read_rgb(sample.render), read_rgb(sample.target)
    refined = np.clip(np.floor(render.astype(np.float32) + 0.1 * 255 + 0.5), 0, 255).astype(np.uint8)
    assert column(path, f"{entity}/psnr/refined", "Scalars:scalars")[100][0] == pytest.approx(
        psnr(refined, target), abs=0.02
    )
    before, after, gain = (
        column(path, f"{entity}/psnr/{part}", "Scalars:scalars")[200][0] for part in ("render", "refined", "gain")
    )
    assert before == pytest.approx(psnr(render, target))
    assert gain == pytest.approx(after - before)


def test_checkpoints_of_the_tiny_backend_refine_by_themselves(tmp_path: Path) -> None:
    import torch

    from thesis_assets.tuning.checkpoints import RESUME_KEYS, save_checkpoint
    from thesis_assets.tuning.tiny_model import TinyArchitecture, TinyRefiner

    tree = make_run(tmp_path)
    architecture = TinyArchitecture(8, 8, 8, 1)
    for step in STEPS:
        network = TinyRefiner(architecture)
        if step == STEPS[-1]:
            torch.manual_seed(step)
            torch.nn.init.normal_(network.head.weight, std=0.05)
        state = {
            **{key: {} for key in RESUME_KEYS},
            "state_dict_unet": network.state_dict(),
            "architecture": architecture.as_numbers(),
            "resolution": 32,
            "step": step,
        }
        run = tree.tuning_run("tiny_a")
        save_checkpoint(run, state, metrics={}, data_json_sha256="", hyperparameter_digest="")
    assert export_triplets(tree, "tiny_a").absent == []
    path, sample = tree.tuning_run("tiny_a").triplet_recording, chosen_samples(tree)[0]
    entity = sample_entity(sample.sample_id)
    refined = column(path, f"{entity}/psnr/refined", "Scalars:scalars")
    render = column(path, f"{entity}/psnr/render", "Scalars:scalars")
    assert refined[100] == render[100]  # a fresh network refines nothing
    assert refined[200] != render[200]


def test_the_choice_is_even_over_cameras_and_does_not_depend_on_order(tmp_path: Path) -> None:
    tree = make_run(tmp_path)
    chosen = chosen_samples(tree, 6, seed=3)
    assert sorted(sample.camera or 0 for sample in chosen) == [4, 4, 28, 28, 40, 40]
    entries = storage.read_json(tree.data_json, DataJson).test
    storage.write_json(tree.data_json, DataJson(train={}, test=dict(reversed(entries.items()))))
    assert chosen_samples(tree, 6, seed=3) == chosen


def test_an_unchanged_run_is_left_alone_and_a_new_checkpoint_is_recorded(tmp_path: Path) -> None:
    tree = make_run(tmp_path)
    export(tree)
    path = tree.tuning_run("tiny_a").triplet_recording
    before = path.stat().st_mtime_ns
    export(tree)
    assert path.stat().st_mtime_ns == before
    add_checkpoint(tree, 300)
    outcome = check_triplet_recording(tree, "tiny_a")
    assert any("no row at step 300" in line for line in outcome.offenders)
    export(tree)
    assert check_triplet_recording(tree, "tiny_a").passed


def test_a_broken_sample_and_a_broken_checkpoint_are_left_out_and_named(tmp_path: Path) -> None:
    tree = make_run(tmp_path)
    sample = chosen_samples(tree)[1]
    sample.target.write_bytes(b"\xff\xd8\xff cut")

    def refuse_200(checkpoint: Path, device: str) -> Refiner:
        if checkpoint.name == "model_200.pkl":
            raise InvalidFile("not a checkpoint of the tiny backend", file=checkpoint)
        return brighten(checkpoint, device)

    absent = export_triplets(tree, "tiny_a", load_refiner=refuse_200).absent
    assert [line.split(": ")[1] for line in absent] == [
        f"samples/{sample.sample_id}",
        "tuning_runs/tiny_a/checkpoints/model_200.pkl",
    ]
    outcome = check_triplet_recording(tree, "tiny_a")
    assert outcome.passed, outcome.offenders
    assert outcome.counts["samples"] == 5


def test_where_nothing_is_held_out_it_shows_training_samples_and_says_so(tmp_path: Path) -> None:
    tree = make_run(tmp_path)
    test = storage.read_json(tree.data_json, DataJson).test
    storage.write_json(tree.data_json, DataJson(train=test, test={}))
    assert export(tree) == [
        "not there: manifests/split_test.jsonl: nothing is held out, so these are samples of the training split"
    ]
    outcome = check_triplet_recording(tree, "tiny_a")
    assert outcome.passed, outcome.offenders
    assert outcome.counts["samples"] == 6


def test_a_run_without_checkpoints_and_a_snapshot_without_samples_are_errors(tmp_path: Path) -> None:
    tree = make_run(tmp_path)
    with pytest.raises(InvalidFile, match="no finished checkpoint"):
        export_triplets(tree, "tiny_b", load_refiner=brighten)
    storage.write_json(tree.data_json, DataJson(train={}, test={}))
    with pytest.raises(InvalidFile, match="there is no sample"):
        export(tree)
