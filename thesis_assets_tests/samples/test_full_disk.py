"""A file system that fills up while samples are exported."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from thesis_assets import storage
from thesis_assets.errors import DiskFull
from thesis_assets.layout import TEMPORARY_PREFIX
from thesis_assets.samples import triplet_export
from thesis_assets.samples.export import export_shard
from thesis_assets.samples.integrity import sample_faults
from thesis_assets_tests.samples.tiny_scenes import roots, work, write_scene
from thesis_assets_tests.services.small_disk import mounted, resize
from thesis_assets_tests.splits.snapshots import contents_of

N_FRAMES = 40


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 KB: a third of what the samples take."""
    with mounted(tmp_path / "small_disk", "400k") as folder:
        yield folder


def test_a_full_disk_is_explained_and_the_export_goes_on_after_space_is_made(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scene(roots(tmp_path), frames=range(N_FRAMES), masks=True)
    shard = work(tmp_path, root="small_disk", threads=2)
    with pytest.raises(DiskFull) as caught:
        export_shard(shard)
    message = str(caught.value)
    assert str(small_disk) in message.split("file: ")[1].splitlines()[0]
    assert "MB" in message.split("found: ")[1]
    assert "make space" in message.split("remedy: ")[1]

    published = sorted(shard.tree.samples_dir.iterdir())
    assert 3 < len(published) < N_FRAMES
    assert not [path for path in published if path.name.startswith(TEMPORARY_PREFIX)]
    assert [fault for path in published for fault in sample_faults(path, path.name, decode=True)] == []
    assert not shard.tree.scene_run(shard.scene_name).run_stats.exists()
    stamps = {path: contents_of(path) for path in published}
    with pytest.raises(DiskFull):  # Nothing is lost by another try.
        export_shard(shard)

    resize(small_disk, "16m")
    rendered = []
    render = triplet_export.render_frame
    monkeypatch.setattr(
        triplet_export, "render_frame", lambda *of_frame: rendered.append(of_frame[2]) or render(*of_frame)
    )
    record = export_shard(shard)
    assert record.stats.n_saved == N_FRAMES
    assert len(rendered) <= N_FRAMES - len(published)
    assert {path: contents_of(path) for path in published} == stamps


def test_a_write_without_a_files_name_is_told_by_what_was_to_be_published(tmp_path: Path) -> None:
    def no_space() -> None:
        with open("/dev/full", "wb", buffering=0) as handle:  # noqa: PTH123
            handle.write(b"x")

    for writer in (storage.atomic_file, storage.atomic_directory):
        with (
            pytest.raises(DiskFull) as caught,
            storage.full_disk_explained(tmp_path / "not" / "there"),
            writer(tmp_path / "wanted"),
        ):
            no_space()
        assert caught.value.file == str(tmp_path / "wanted")
    assert list(tmp_path.iterdir()) == []


def test_other_failures_pass_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), storage.full_disk_explained(tmp_path):
        (tmp_path / "nothing").read_bytes()
