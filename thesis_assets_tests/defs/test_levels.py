"""Planning the runs of a level: neighbouring cells share a run, others do not."""

import dagster as dg
import pytest

from thesis_assets.defs.levels import contiguous, levels_until
from thesis_assets.defs.partitions import Cell


def test_neighbouring_scenes_share_a_run_and_a_gap_makes_two() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("exp_name", ["v1", "v2"])
        instance.add_dynamic_partitions("scene_name", ["d_a", "d_b", "d_c", "d_d"])
        wanted = [Cell("v1", scene_name=name) for name in ("d_d", "d_a", "d_b")]
        groups = [[cell.scene_name for cell in group] for group in contiguous(instance, wanted)]
    assert groups == [["d_a", "d_b"], ["d_d"]]


def test_until_stops_at_the_level_of_its_asset() -> None:
    assert [level.job for level in levels_until("sample_set")][-1] == "prepare_data"
    with pytest.raises(KeyError):
        levels_until("nothing")
