"""Lazy handles and batches over a manifest: right pixels, in order, read ahead but not all at once."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from thesis_assets.errors import InvalidFile
from thesis_assets.images.codecs import encode_jpeg, encode_png, read_rgb
from thesis_assets.layout import DifixTree, SampleId
from thesis_assets.samples import triplet_set
from thesis_assets.samples.sample_rows import row_of
from thesis_assets.samples.triplet_set import TripletSet

SIZES = [(16, 24)] * 5 + [(24, 16)] * 3


@pytest.fixture
def triplets(tmp_path: Path) -> TripletSet:
    """Eight triplets, the last three of another size."""
    tree = DifixTree(tmp_path, "v1")
    rows = [row_of(SampleId("studio_pair00_dance", 4, 16, f"{n:06d}", f"{n:06d}"), "pair00") for n in range(len(SIZES))]
    random = np.random.default_rng(0)
    for row, size in zip(rows, SIZES, strict=True):
        folder = tree.samples_dir / row.sample_id
        folder.mkdir(parents=True)
        images = random.integers(0, 256, (3, *size, 3), dtype=np.uint8)
        (folder / "image.png").write_bytes(encode_png(images[0]))
        (folder / "target_image.jpg").write_bytes(encode_jpeg(images[1]))
        (folder / "ref_image.jpg").write_bytes(encode_jpeg(images[2]))
    return TripletSet(tree, rows, device="cpu")


def on_disk(triplets: TripletSet, index: int, name: str) -> torch.Tensor:
    pixels = read_rgb(triplets[index].folder / name).copy()
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def test_a_handle_reads_its_three_images_when_it_is_asked(triplets: TripletSet) -> None:
    handle = triplets[6]
    assert torch.equal(handle.render(), on_disk(triplets, 6, "image.png"))
    assert torch.equal(handle.target(), on_disk(triplets, 6, "target_image.jpg"))
    assert torch.equal(handle.reference(), on_disk(triplets, 6, "ref_image.jpg"))
    assert handle.row.target_fname == "000006"
    assert [one.row for one in triplets[2:4]] == triplets.rows[2:4]


def test_batches_are_the_set_in_order_and_never_mix_sizes(triplets: TripletSet) -> None:
    batches = list(triplets.batches(3, threads=3))
    assert [len(batch.sample_ids) for batch in batches] == [3, 2, 1, 2]
    assert [name for batch in batches for name in batch.sample_ids] == [row.sample_id for row in triplets.rows]
    renders = [render for batch in batches for render in batch.renders]
    references = [reference for batch in batches for reference in batch.references]
    for index in range(len(triplets)):
        assert torch.equal(renders[index], on_disk(triplets, index, "image.png"))
        assert torch.equal(references[index], on_disk(triplets, index, "ref_image.jpg"))


def test_only_so_many_batches_are_read_ahead(triplets: TripletSet, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    lock = threading.Lock()
    really = triplet_set._read

    def counted(path: Path) -> torch.Tensor:
        with lock:
            read.append(path)
        return really(path)

    monkeypatch.setattr(triplet_set, "_read", counted)
    batches = triplets.batches(1, threads=2, ahead=2)
    next(batches)
    batches.close()
    assert len({path.parent for path in read}) <= 3


def test_an_image_that_cannot_be_read_names_its_file(triplets: TripletSet) -> None:
    broken = triplets[1].folder / "target_image.jpg"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(InvalidFile, match=r"target_image\.jpg"):
        list(triplets.batches(4))


def test_images_of_several_sizes_in_one_triplet_are_refused(triplets: TripletSet) -> None:
    (triplets[0].folder / "ref_image.jpg").write_bytes(encode_jpeg(np.zeros((8, 8, 3), np.uint8)))
    with pytest.raises(InvalidFile, match="differ in size"):
        list(triplets.batches(4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_on_a_gpu_the_same_batches_arrive(triplets: TripletSet) -> None:
    there = TripletSet.__new__(TripletSet)
    there.__dict__.update(triplets.__dict__, device="cuda")
    for here, gone in zip(triplets.batches(3), there.batches(3), strict=True):
        assert gone.targets.is_cuda
        assert torch.allclose(here.targets, gone.targets.cpu())
