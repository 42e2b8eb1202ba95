"""Checkpoints are not trusted: damaged, foreign and malicious files are told from good ones, and nothing in them runs."""

import json
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from thesis_assets.errors import InvalidFile
from thesis_assets.layout import TuningRunTree
from thesis_assets.storage import sha256_file
from thesis_assets.tuning.checkpoints import (
    add_metrics,
    latest_verified,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
    verify_checkpoint,
)
from thesis_assets.tuning.refine import load_refiner, refine_file, refine_folder
from thesis_assets.tuning.tiny_model import TinyArchitecture, TinyRefiner


def make_state(step: int) -> dict[str, Any]:
    torch.manual_seed(step)
    network = TinyRefiner(TinyArchitecture(8, 8, 8, 1))
    return {
        "state_dict_unet": network.state_dict(),
        "optimizer": torch.optim.AdamW(network.parameters()).state_dict(),
        "architecture": network.architecture.as_numbers(),
        "resolution": 32,
        "step": step,
        "scheduler": {"last_step": step},
        "data_order": {"seed": 42},
        "random_state": {"cpu": torch.get_rng_state()},
    }


def save(tree: TuningRunTree, step: int) -> None:
    save_checkpoint(
        tree, make_state(step), metrics={"loss": 0.5}, data_json_sha256="data", hyperparameter_digest="flags"
    )


@pytest.fixture
def tree(tmp_path: Path) -> TuningRunTree:
    """A run with the checkpoints 10 and 20."""
    tree = TuningRunTree(tmp_path / "run")
    for step in (10, 20):
        save(tree, step)
    return tree


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def replace_with(tree: TuningRunTree, step: int, write: Callable[[Path], object]) -> None:
    """Put another file in the checkpoint's place, with a side file that agrees with its bytes."""
    path = tree.checkpoint(step)
    write(path)
    side = json.loads(tree.checkpoint_info(step).read_text())
    side |= {"sha256": sha256_file(path), "bytes": path.stat().st_size}
    tree.checkpoint_info(step).write_text(json.dumps(side))


def test_what_was_saved_is_read_back(tree: TuningRunTree) -> None:
    info = verify_checkpoint(tree, 20)
    assert (info.step, info.metrics, info.data_json_sha256) == (20, {"loss": 0.5}, "data")
    assert torch.equal(load_checkpoint(tree.checkpoint(20))["state_dict_unet"]["stem.weight"], make_state(20)["state_dict_unet"]["stem.weight"])  # fmt: skip
    assert list_checkpoints(tree) == [10, 20]


def test_scores_are_added_beside_what_is_there(tree: TuningRunTree) -> None:
    add_metrics(tree, 20, {"psnr_refined": 30.0})
    add_metrics(tree, 15, {"psnr_refined": 30.0})
    assert verify_checkpoint(tree, 20).metrics == {"loss": 0.5, "psnr_refined": 30.0}
    assert not tree.checkpoint_info(15).exists()


def test_a_malicious_pickle_is_refused_and_does_not_run(tree: TuningRunTree, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    pickle.loads(pickle.dumps(Payload(mark)))
    assert mark.exists(), "the payload works where pickles are trusted"
    mark.unlink()
    for write in (
        lambda path: path.write_bytes(pickle.dumps(Payload(mark), protocol=2)),
        lambda path: torch.save({**make_state(10), "optimizer": Payload(mark)}, path),
    ):
        replace_with(tree, 10, write)
        for read in (lambda: verify_checkpoint(tree, 10), lambda: load_refiner(tree.checkpoint(10))):
            with pytest.raises(InvalidFile, match="more than tensors and numbers"):
                read()
    assert not mark.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_bytes_are_refused_whatever_they_spell(tmp_path: Path) -> None:
    path, chance, refused = tmp_path / "model_10.pkl", random.Random(0), 0
    torch.save(
        make_state(10), path, _use_new_zipfile_serialization=False
    )  # the older format: nothing in it finds damage
    whole = path.read_bytes()
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[chance.randrange(400)] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            load_checkpoint(path)
        except InvalidFile:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("damage", ["byte", "tail", "empty", "missing"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_the_newest_good_one(
    tree: TuningRunTree, damage: str
) -> None:
    path = tree.checkpoint(20)
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes({"byte": bytes(content), "tail": bytes(content[:-100]), "empty": b""}[damage])
    with pytest.raises(InvalidFile, match=r"model_20\.pkl"):
        verify_checkpoint(tree, 20)
    newest, refused = latest_verified(tree)
    assert newest is not None
    assert newest.step == 10
    assert len(refused) == (0 if damage == "missing" else 1)


def test_a_checkpoint_without_its_side_file_was_never_finished(tree: TuningRunTree) -> None:
    tree.checkpoint_info(20).unlink()
    (tree.checkpoints_dir / ".tmp-model_30.pkl.abc.partial").touch()
    assert list_checkpoints(tree) == [10]


def test_swapped_checkpoints_are_told_apart(tree: TuningRunTree) -> None:
    replace_with(tree, 20, lambda path: path.write_bytes(tree.checkpoint(10).read_bytes()))
    with pytest.raises(InvalidFile, match="do not belong together"):
        verify_checkpoint(tree, 20)


def test_weights_that_are_not_finite_are_neither_written_nor_read(tree: TuningRunTree) -> None:
    state = make_state(30)
    state["state_dict_unet"]["stem.bias"][0] = float("nan")
    with pytest.raises(InvalidFile, match="not finite"):
        save_checkpoint(tree, state, metrics={}, data_json_sha256="data", hyperparameter_digest="flags")
    assert list_checkpoints(tree) == [10, 20]
    replace_with(tree, 20, lambda path: torch.save({**state, "step": 20}, path))
    with pytest.raises(InvalidFile, match=r"stem\.bias"):
        verify_checkpoint(tree, 20)


def test_files_of_other_trainers_are_named_for_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "model_1.pkl"
    published = ("vae_lora_target_modules", "rank_vae", "state_dict_unet", "state_dict_vae", "optimizer")
    torch.save({key: {} for key in published}, path)
    with pytest.raises(InvalidFile, match=r"(?s)published keys.*rank_vae"):
        load_refiner(path)
    torch.save([1, 2], path)
    with pytest.raises(InvalidFile, match="neither one of the tiny backend"):
        load_refiner(path)


def test_weights_of_another_network_are_refused_whatever_width_the_file_names(tmp_path: Path) -> None:
    path = tmp_path / "model_10.pkl"
    for architecture in ({"channels_half": 8_000_000}, {"no_such": 1}, {"heads": 0}, {"channels_half": 9}):
        state = make_state(10)
        torch.save({**state, "architecture": {**state["architecture"], **architecture}}, path)
        with pytest.raises(InvalidFile):
            load_refiner(path)


def test_a_render_on_disk_is_refined_at_its_own_size(tree: TuningRunTree, tmp_path: Path) -> None:
    from PIL import Image

    for name, size in (("render.png", (50, 41)), ("reference.png", (64, 64))):
        Image.new("RGB", size, (10, 200, 30)).save(tmp_path / name)
    out = tmp_path / "out" / "refined.png"
    refine_file(tree.checkpoint(20), tmp_path / "render.png", tmp_path / "reference.png", out)
    with Image.open(out) as image:
        assert image.size == (50, 41)
        assert image.getpixel((7, 7)) == (10, 200, 30)


def test_a_folder_of_renders_is_refined_each_with_the_reference_of_its_name(
    tree: TuningRunTree, tmp_path: Path
) -> None:
    from PIL import Image

    renders, references, out = (tmp_path / name for name in ("renders", "references", "out"))
    for folder in (renders, references):
        folder.mkdir()
    colours = {"000001": (10, 200, 30), "000002": (90, 20, 60)}
    for name, colour in colours.items():
        Image.new("RGB", (50, 41), colour).save(renders / f"{name}.png")
    Image.new("RGB", (64, 64)).save(references / "000001.jpg")
    with pytest.raises(InvalidFile, match=r"(?s)no reference.*000002"):
        refine_folder(tree.checkpoint(20), renders, references, out)
    assert not out.exists()
    Image.new("RGB", (64, 64)).save(references / "000002.png")
    for given in (references, references / "000001.jpg"):
        written = refine_folder(tree.checkpoint(20), renders, given, out)
        assert written == [out / "000001.png", out / "000002.png"]
        for path in written:
            with Image.open(path) as image:
                assert (image.size, image.getpixel((7, 7))) == ((50, 41), colours[path.stem])
    (references / "000002.png").write_bytes(b"no image")
    with pytest.raises(InvalidFile, match=r"references/000002\.png"):
        refine_folder(tree.checkpoint(20), renders, references, out)
    Image.new("RGB", (50, 41)).save(renders / "000001.jpg")
    with pytest.raises(InvalidFile, match="one name"):
        refine_folder(tree.checkpoint(20), renders, references, out)
    with pytest.raises(InvalidFile, match="no image"):
        refine_folder(tree.checkpoint(20), tree.checkpoints_dir, references, out)
