"""The triplet writer: links, encodes, drops one bad sample, stays bounded, leaves nothing half."""

import errno
import hashlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import BaseModel

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.images.codecs import SizeMismatch, encode_jpeg, encode_png, image_size, pixel_digest, read_rgb
from thesis_assets.images.triplet_writer import ImageSource, PlacedImage, TripletJob, TripletResult, TripletWriter
from thesis_assets.provenance import Contents, Output
from thesis_assets.schemas.samples import SAMPLE_FILES


class Meta(BaseModel):
    """Stands for a sample's meta."""

    target_mode: str
    reference_mode: str


def image(seed: int = 0, height: int = 24, width: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def meta(placed: Mapping[str, PlacedImage]) -> Meta:
    return Meta(target_mode=placed["target_image.jpg"].mode, reference_mode=placed["ref_image.jpg"].mode)


def mode_of(result: TripletResult) -> str:
    """How the target got there."""
    assert isinstance(result.meta, Meta)
    return result.meta.target_mode


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    path = tmp_path / "photograph.jpg"
    path.write_bytes(encode_jpeg(image(1)))
    return path


def job(folder: Path, target: ImageSource, reference: ImageSource | None = None, **changes: object) -> TripletJob:
    values: dict[str, object] = {"render": image(), "meta": meta, **changes}
    return TripletJob(folder, target=target, reference=target if reference is None else reference, **values)  # type: ignore[arg-type]


def test_a_sample_holds_its_four_files_and_the_renders_pixels(tmp_path: Path, photograph: Path) -> None:
    with TripletWriter() as writer:
        writer.submit(job(tmp_path / "samples" / "a", photograph))
    folder = tmp_path / "samples" / "a"
    assert sorted(path.name for path in folder.iterdir()) == sorted(SAMPLE_FILES)
    assert np.array_equal(read_rgb(folder / "image.png"), image())
    assert [path.name for path in folder.parent.iterdir()] == ["a"]


def test_an_unchanged_photograph_is_linked_and_costs_no_bytes(tmp_path: Path, photograph: Path) -> None:
    with TripletWriter() as writer:
        writer.submit(job(tmp_path / "a", photograph))
    [result] = writer.results
    assert photograph.samefile(tmp_path / "a" / "target_image.jpg")
    own = (tmp_path / "a" / "image.png").stat().st_size + (tmp_path / "a" / "meta.json").stat().st_size
    assert result.bytes_written == own
    assert result.meta == Meta(target_mode="hard_link", reference_mode="hard_link")


def test_the_copy_mode_never_links(tmp_path: Path, photograph: Path) -> None:
    with TripletWriter(link_mode="copy") as writer:
        writer.submit(job(tmp_path / "a", photograph))
    assert mode_of(writer.results[0]) == "copy"
    assert not photograph.samefile(tmp_path / "a" / "target_image.jpg")
    assert (tmp_path / "a" / "target_image.jpg").read_bytes() == photograph.read_bytes()


def test_a_png_photograph_is_encoded_never_linked_under_a_jpegs_name(tmp_path: Path) -> None:
    source = tmp_path / "photograph.png"
    source.write_bytes(encode_png(image(1)))
    with TripletWriter() as writer:
        writer.submit(job(tmp_path / "a", source))
    assert mode_of(writer.results[0]) == "encoded"
    assert (tmp_path / "a" / "target_image.jpg").read_bytes() == encode_jpeg(image(1))


def test_arrays_bytes_and_functions_are_encoded(tmp_path: Path) -> None:
    sources: list[ImageSource] = [image(1), encode_jpeg(image(1)), lambda: image(1), lambda: encode_jpeg(image(1))]
    with TripletWriter() as writer:
        for number, source in enumerate(sources):
            writer.submit(job(tmp_path / str(number), source))
    for number, result in enumerate(writer.results):
        assert (result.final_dir.name, mode_of(result)) == (str(number), "encoded")
        assert (result.final_dir / "target_image.jpg").read_bytes() == encode_jpeg(image(1))


def test_a_render_may_be_a_tensor(tmp_path: Path, photograph: Path) -> None:
    with TripletWriter() as writer:
        writer.submit(job(tmp_path / "a", photograph, render=torch.from_numpy(image(5))))
    assert np.array_equal(read_rgb(tmp_path / "a" / "image.png"), image(5))


def test_a_float_render_is_rounded_on_its_way(tmp_path: Path, photograph: Path) -> None:
    rendered = torch.from_numpy(image(5)).permute(2, 0, 1).float() / 255
    with TripletWriter() as writer:
        writer.submit(job(tmp_path / "a", photograph, render=rendered))
    assert np.array_equal(read_rgb(tmp_path / "a" / "image.png"), image(5))


def test_float_renders_share_the_rings_buffers_and_stay_apart(tmp_path: Path, photograph: Path) -> None:
    with TripletWriter(threads=2, max_pending=2) as writer:
        for number in range(9):
            rendered = torch.from_numpy(image(number)).permute(2, 0, 1).float() / 255
            writer.submit(job(tmp_path / str(number), photograph, render=rendered))
    for number in range(9):
        assert np.array_equal(read_rgb(tmp_path / str(number) / "image.png"), image(number))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_renders_on_a_gpu_arrive_whole_though_their_memory_is_used_again(tmp_path: Path) -> None:
    big = image(0, 480, 640)
    photograph = tmp_path / "photograph.jpg"
    photograph.write_bytes(encode_jpeg(big))
    rendered = torch.empty((3, 480, 640), device="cuda")
    with TripletWriter(threads=2, max_pending=3) as writer:
        for number in range(24):
            rendered = torch.full((3, 480, 640), number / 255, device="cuda")
            writer.submit(job(tmp_path / str(number), photograph, render=rendered))
            del rendered
    for number in range(24):
        assert np.unique(read_rgb(tmp_path / str(number) / "image.png")).tolist() == [number]


def test_thumbnails_are_kept_of_the_triplet_that_asks_for_them(tmp_path: Path) -> None:
    photograph = tmp_path / "photograph.jpg"
    photograph.write_bytes(encode_jpeg(np.full((96, 128, 3), 30, np.uint8)))
    render = np.full((96, 128, 3), 77, np.uint8)
    with TripletWriter() as writer:
        writer.submit(job(tmp_path / "a", photograph, render=render, thumbnail_height=24))
        writer.submit(job(tmp_path / "b", photograph, render=render))
    asked, other = writer.results
    assert [thumbnail.shape for thumbnail in asked.thumbnails] == [(24, 32, 3)] * 3
    assert [thumbnail.mean().round() for thumbnail in asked.thumbnails] == [77, 30, 30]
    assert other.thumbnails == ()


def test_what_several_samples_share_is_made_before_them(tmp_path: Path, photograph: Path) -> None:
    order: list[str] = []

    def shared() -> None:
        order.append("shared")

    def target() -> NDArray[np.uint8]:
        order.append("sample")
        return image(1)

    with TripletWriter(threads=1) as writer:
        writer.make_ahead(shared)
        writer.submit(job(tmp_path / "a", target, photograph))
        writer.submit(job(tmp_path / "b", target, photograph))
    assert order == ["shared", "sample", "sample"]


def test_an_input_that_cannot_be_made_ahead_is_the_samples_own_affair(tmp_path: Path, photograph: Path) -> None:
    def broken() -> None:
        raise InvalidFile("the mask is empty")

    with TripletWriter() as writer:
        writer.make_ahead(broken)
        writer.submit(job(tmp_path / "a", photograph))
    assert writer.results[0].error is None


def test_a_fault_of_the_machine_while_making_ahead_ends_the_writer(tmp_path: Path, photograph: Path) -> None:
    def full_disk() -> None:
        raise OSError(28, "No space left on device")

    def write_all() -> None:
        with TripletWriter(threads=1) as writer:
            writer.make_ahead(full_disk)
            writer.submit(job(tmp_path / "a", photograph))

    with pytest.raises(OSError, match="No space"):
        write_all()
    assert not (tmp_path / "a").exists()


def test_one_unusable_input_costs_one_sample_and_leaves_nothing(tmp_path: Path, photograph: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photograph.read_bytes()[:300])
    other_size = tmp_path / "other.jpg"
    other_size.write_bytes(encode_jpeg(image(0, 24, 33)))
    samples = tmp_path / "samples"
    with TripletWriter() as writer:
        writer.submit(job(samples / "good", photograph))
        writer.submit(job(samples / "broken", broken))
        writer.submit(job(samples / "absent", tmp_path / "absent.jpg"))
        writer.submit(job(samples / "size", photograph, other_size))
        writer.submit(job(samples / "array", image(0, 25, 32)))
        writer.submit(job(samples / "also_good", photograph))
    errors = [type(result.error) for result in writer.results]
    assert errors == [type(None), InvalidFile, InvalidFile, SizeMismatch, SizeMismatch, type(None)]
    assert sorted(path.name for path in samples.iterdir()) == ["also_good", "good"]


def test_a_sample_written_again_replaces_the_older_one(tmp_path: Path, photograph: Path) -> None:
    for seed in (0, 9):
        with TripletWriter() as writer:
            writer.submit(job(tmp_path / "s" / "a", photograph, render=image(seed)))
    assert np.array_equal(read_rgb(tmp_path / "s" / "a" / "image.png"), image(9))
    assert len(list((tmp_path / "s").iterdir())) == 1


def test_a_fault_of_the_machine_ends_the_writer(tmp_path: Path, photograph: Path) -> None:
    def full_disk(placed: Mapping[str, PlacedImage]) -> Meta:
        raise OSError(28, "No space left on device")

    def write_all() -> None:
        with TripletWriter(threads=1) as writer:
            writer.submit(job(tmp_path / "s" / "a", photograph, meta=full_disk))
            for number in range(20):
                writer.submit(job(tmp_path / "s" / str(number), photograph))

    with pytest.raises(OSError, match="No space"):
        write_all()
    assert list((tmp_path / "s").iterdir()) == []


def test_an_error_of_the_caller_ends_the_writer_without_waiting_for_the_queue(tmp_path: Path, photograph: Path) -> None:
    writer = TripletWriter(threads=1, max_pending=50)

    def slow() -> NDArray[np.uint8]:
        time.sleep(0.05)
        return image(1)

    def stop_half_way() -> None:
        with writer:
            for number in range(50):
                writer.submit(job(tmp_path / "s" / str(number), slow))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_half_way()
    assert len(writer.results) < 10


def test_no_more_jobs_are_in_memory_than_allowed(tmp_path: Path, photograph: Path) -> None:
    gate = threading.Event()
    submitted: list[int] = []

    def wait() -> NDArray[np.uint8]:
        gate.wait()
        return image(1)

    def submit_all(writer: TripletWriter) -> None:
        for number in range(6):
            writer.submit(job(tmp_path / "s" / str(number), wait, photograph))
            submitted.append(number)

    with TripletWriter(threads=2, max_pending=3) as writer:
        producer = threading.Thread(target=submit_all, args=(writer,))
        producer.start()
        time.sleep(0.3)
        in_memory = list(submitted)
        gate.set()
        producer.join()
    assert in_memory == [0, 1, 2]
    assert len(writer.results) == 6


def test_the_number_of_threads_changes_no_byte(tmp_path: Path, photograph: Path) -> None:
    for threads in (1, 3):
        with TripletWriter(threads=threads) as writer:
            for number in range(6):
                writer.submit(job(tmp_path / str(threads) / str(number), photograph, render=image(number)))
    for number in range(6):
        for name in SAMPLE_FILES:
            one, three = (tmp_path / threads / str(number) / name for threads in ("1", "3"))
            assert one.read_bytes() == three.read_bytes()


def test_the_digests_of_what_was_written_are_known_without_reading_it_again(tmp_path: Path, photograph: Path) -> None:
    with TripletWriter() as writer:
        writer.submit(job(tmp_path / "a", photograph, lambda: image(2)))
    (result,) = writer.results
    assert set(result.outputs) == set(SAMPLE_FILES)
    for name, output in result.outputs.items():
        content = (tmp_path / "a" / name).read_bytes()
        assert (output.bytes, output.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert result.outputs["image.png"].pixels == pixel_digest(read_rgb(tmp_path / "a" / "image.png"))


def test_a_photograph_that_is_linked_often_is_read_once(tmp_path: Path, photograph: Path) -> None:
    contents = Contents()
    contents.saw(photograph, "told")
    with TripletWriter(contents=contents) as writer:
        for number in range(3):
            writer.submit(job(tmp_path / str(number), photograph))
    assert {result.outputs["target_image.jpg"].sha256 for result in writer.results} == {"told"}


def test_a_sample_that_is_not_accepted_never_appears(tmp_path: Path, photograph: Path) -> None:
    def refuse(outputs: Mapping[str, Output]) -> None:
        raise ThesisAssetsError(f"not {outputs['image.png'].sha256}")

    with TripletWriter() as writer:
        writer.submit(job(tmp_path / "s" / "a", photograph, accept=refuse))
    assert isinstance(writer.results[0].error, ThesisAssetsError)
    assert list((tmp_path / "s").iterdir()) == []


def test_a_writer_needs_a_thread() -> None:
    with pytest.raises(ThesisAssetsError, match="without a thread"):
        TripletWriter(threads=0)


def test_a_killed_writer_leaves_no_sample_half(tmp_path: Path, photograph: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from thesis_assets_tests.images.test_triplet_writer import *\n"
        "with TripletWriter(threads=2) as writer:\n"
        "    for number in range(100000):\n"
        "        writer.submit(job(Path(sys.argv[1]) / str(number), Path(sys.argv[2])))\n"
    )
    samples = tmp_path / "samples"
    child = subprocess.Popen([sys.executable, "-c", program, str(samples), str(photograph)])
    try:
        while len(list(samples.glob("[0-9]*"))) < 20:
            assert child.poll() is None
            time.sleep(0.02)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    for folder in samples.glob("[0-9]*"):
        assert sorted(path.name for path in folder.iterdir()) == sorted(SAMPLE_FILES)
        assert image_size(folder / "image.png") == (24, 32)
        assert (folder / "meta.json").read_bytes().endswith(b"}\n")


def test_a_disk_that_could_not_keep_a_render_ends_the_writer(
    tmp_path: Path, photograph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed write is told once, to the first who flushes: nobody would hear of it again."""

    def fails(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(storage, "flush", fails)
    with pytest.raises(OSError, match="Input/output error"), TripletWriter() as writer:
        writer.submit(job(tmp_path / "samples" / "a", photograph))
