"""The IO manager: what was written is loaded as lazy handles."""

import dagster as dg
import pytest
import torch

from thesis_assets.defs.io_manager import SplitTriplets, TreeIOManager
from thesis_assets.graph.cells import PARTITIONS
from thesis_assets.samples.triplet_set import TripletSet
from thesis_assets_tests.worlds import World


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
