"""The IO manager: drains a stream into sample directories, loads lazy handles, refuses what is not there."""

import dataclasses
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
import torch

from thesis_assets.defs.io_manager import SplitTriplets, TreeIOManager, TripletStream
from thesis_assets.defs.partitions import PARTITIONS
from thesis_assets.images.codecs import encode_jpeg, read_rgb
from thesis_assets.images.triplet_writer import TripletJob
from thesis_assets.samples.triplet_set import TripletSet
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets.schemas.samples import SAMPLE_FILES
from thesis_assets_tests.worlds import World


def job(folder: Path, photograph: Path, value: int) -> TripletJob:
    render = torch.full((3, 24, 32), value / 255)
    return TripletJob(folder, render, photograph, photograph, lambda *_: CheckOutcome(passed=True, message=""))


def materialize_stream(new_world: Callable[..., World], jobs: list[TripletJob]) -> dg.ExecuteInProcessResult:
    """One asset that returns a stream, through Dagster and the IO manager of the trees."""

    @dg.asset(io_manager_key="trees")
    def streamed() -> TripletStream:
        def made() -> Iterator[TripletJob]:
            yield from jobs

        return TripletStream(made(), digest="d1")

    manager = TreeIOManager(new_world().platform)
    return dg.materialize([streamed], resources={"trees": manager}, raise_on_error=False)


def test_a_stream_of_images_becomes_sample_directories(new_world: Callable[..., World], tmp_path: Path) -> None:
    photograph = tmp_path / "photograph.jpg"
    photograph.write_bytes(encode_jpeg(np.zeros((24, 32, 3), np.uint8)))
    jobs = [job(tmp_path / "samples" / str(value), photograph, value) for value in range(9)]
    jobs.append(job(tmp_path / "samples" / "broken", tmp_path / "absent.jpg", 0))
    result = materialize_stream(new_world, jobs)
    assert result.success
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [str(value) for value in range(9)]
    for value in range(9):
        folder = tmp_path / "samples" / str(value)
        assert sorted(path.name for path in folder.iterdir()) == sorted(SAMPLE_FILES)
        assert np.unique(read_rgb(folder / "image.png")).tolist() == [value]
    [event] = result.get_asset_materialization_events()
    metadata = event.materialization.metadata
    assert metadata["dagster/row_count"].value == 9
    assert [record.data["count"] for record in metadata["refused"].records] == [1]  # type: ignore[union-attr]


def test_a_stream_of_which_nothing_can_be_written_fails(new_world: Callable[..., World], tmp_path: Path) -> None:
    result = materialize_stream(new_world, [job(tmp_path / "samples" / "a", tmp_path / "absent.jpg", 0)])
    assert not result.success
    assert not list((tmp_path / "samples").iterdir())


def test_a_full_disk_is_explained_whatever_is_written(new_world: Callable[..., World], tmp_path: Path) -> None:
    photograph = tmp_path / "photograph.jpg"
    photograph.write_bytes(encode_jpeg(np.zeros((24, 32, 3), np.uint8)))

    def no_space(*_: str) -> CheckOutcome:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    full = dataclasses.replace(job(tmp_path / "samples" / "a", photograph, 0), meta=no_space)
    result = materialize_stream(new_world, [full])
    assert not result.success
    [failure] = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    description = str(failure.step_failure_data.user_failure_data.description)  # type: ignore[union-attr]
    assert "no space left" in description
    assert "MB" in description


@pytest.mark.parametrize("asset", ["scene_samples", "sample_set", "split_manifests", "difix_data"])
def test_what_was_written_is_loaded_as_lazy_handles(finished_world: World, asset: str) -> None:
    """Loaded by an asset downstream, as a user's own would be."""
    platform = finished_world.platform
    by_scene = asset == "scene_samples"
    seen: list[object] = []

    @dg.asset(
        ins={"loaded": dg.AssetIn(asset, input_manager_key="trees")},
        partitions_def=PARTITIONS["exp_by_scene" if by_scene else "exp"],
    )
    def downstream(loaded) -> None:  # type: ignore[no-untyped-def]
        seen.append(loaded)

    upstream = dg.AssetSpec(asset, partitions_def=downstream.partitions_def)
    with finished_world.instance() as instance:
        key = next(
            key
            for key in downstream.partitions_def.get_partition_keys(dynamic_partitions_store=instance)  # type: ignore[union-attr]
            if "small" in str(key) and ("pair00" in str(key) or not by_scene)
        )
        result = dg.materialize(
            [upstream, downstream],
            partition_key=key,
            instance=instance,
            resources={"trees": TreeIOManager(platform)},
            selection=[downstream],
        )
    assert result.success
    [loaded] = seen
    sets = [loaded.train, loaded.test] if isinstance(loaded, SplitTriplets) else [loaded]
    for triplets in sets:
        assert isinstance(triplets, TripletSet)
        assert len(triplets) > 0
        [batch] = list(triplets.batches(len(triplets)))
        assert batch.renders.shape == (len(triplets), 3, 48, 48)
        assert torch.equal(batch.targets[0], triplets[0].target())
