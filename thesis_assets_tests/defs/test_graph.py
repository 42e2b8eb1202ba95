"""The graph as Dagster sees it: loadable, light, described, with one status a partition."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml

from thesis_assets.definitions import ASSETS, defs
from thesis_assets.errors import InvalidKey
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.checks import CHECKS
from thesis_assets.graph.nodes import LEVELS, NODES, SCENE_FILES, of_all, upstream_cells
from thesis_assets.graph.platform import Platform
from thesis_assets.provenance import Place, Unit, Verdict, Wanted
from thesis_assets.schemas.samples import SampleRow
from thesis_assets.settings import Settings


def test_every_asset_of_the_table_is_defined_with_its_partitions_and_a_description() -> None:
    graph = defs.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == {*NODES, SCENE_FILES}
    for asset in ASSETS:
        assert isinstance(asset, dg.AssetsDefinition)
        for spec in asset.specs:
            assert spec.description
            name = spec.key.to_user_string()
            assert name == SCENE_FILES or spec.group_name == NODES[name].group


@pytest.mark.parametrize("asset", ["sample_set", "split_manifests", "difix_data", "leaderboard"])
def test_the_tables_show_their_columns_with_what_they_mean(asset: str) -> None:
    schema = defs.resolve_asset_graph().get(dg.AssetKey(asset)).metadata["dagster/column_schema"]
    columns = {column.name: column for column in schema.columns}
    assert all(column.description for column in columns.values())
    if asset == "difix_data":
        assert list(columns) == ["image", "target_image", "ref_image", "prompt"]
        assert columns["ref_image"].constraints.nullable
    elif asset != "leaderboard":
        assert columns["target_cam_id"].type == "int"
        assert columns["sample_id"].type == "string"
        assert list(columns) == list(SampleRow.model_fields)


def test_every_check_stands_at_its_asset_with_the_assets_partitions() -> None:
    graph = defs.resolve_asset_graph()
    assert {(key.asset_key.to_user_string(), key.name) for key in graph.asset_check_keys} == {
        (asset, name) for asset, names in CHECKS.items() for name in names
    }
    for key in graph.asset_check_keys:
        check, asset = graph.get(key), graph.get(key.asset_key)
        assert check.partitions_def == asset.partitions_def


@pytest.mark.parametrize(
    ("predictions", "counted"),
    [
        ("refine", {"tuned_checkpoint", "input_data"}),
        ({"source": "command", "command": "run.sh {checkpoint}"}, {"selected_checkpoint", "input_data"}),
        ({"source": "existing", "tree": "/archive/{scene_name}"}, {"input_data"}),
    ],
)
def test_predictions_are_stale_only_with_what_their_source_reads(
    predictions: object, counted: set[str], tmp_path: Path
) -> None:
    experiment = {
        "exp_name": "e",
        "generation": {"scenes": ["studio_*"]},
        "split": {"test_groups": {"studio": ["pair03"]}},
        "runs": {"r": {"max_train_steps": 10, "checkpointing_steps": 10}},
        "evaluation": {"scenes": ["studio_pair03_dance"], "epochs": [0, 30], "predictions": predictions},
    }
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(experiment))
    platform = Platform(Settings(_env_file=None, data_home=tmp_path / "data", experiments_dir=tmp_path))  # type: ignore[call-arg]
    pairs = upstream_cells(platform, NODES["predictions"], Cell("e", run_name="r"))
    assert {asset for asset, _ in pairs} == counted


def test_the_levels_hold_every_asset_once_after_what_it_is_made_from() -> None:
    order = [asset for level in LEVELS for asset in level.assets]
    assert sorted(order) == sorted(NODES)
    for place, asset in enumerate(order):
        assert all(order.index(upstream) < place for upstream in NODES[asset].upstream)


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        ("none", Cell()),
        ("exp", Cell("v1")),
        ("exp_by_scene", Cell("v1", scene_name="hi4d_pair00_dance")),
        ("exp_by_run", Cell("v1", run_name="lr5e-5")),
    ],
)
def test_a_cell_survives_its_partition_key(kind: str, cell: Cell) -> None:
    assert Cell.parse(kind, cell.key) == cell  # type: ignore[arg-type]


def test_a_key_with_another_number_of_parts_is_refused() -> None:
    with pytest.raises(InvalidKey, match="not a partition key"):
        Cell.parse("exp_by_run", "v1")


@pytest.mark.parametrize("command", [["dg", "check", "defs"], ["dagster", "definitions", "validate"]])
def test_dagsters_own_validation_passes(command: list[str]) -> None:
    program = [sys.executable, "-m", "dagster", *command[1:]] if command[0] == "dagster" else command
    if command[0] == "dg":
        from pathlib import Path

        program = [str(Path(sys.executable).with_name("dg")), *command[1:]]
    result = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_what_is_said_of_many_units_is_said_once(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path / "made_from.json")
    verdict = Verdict("stale", ("`stride` was 1, is 2",), notes=("by an older version",))
    found = [(Unit(f"nvs of a, epoch_{epoch:04d}", place, Wanted("nvs", "1")), verdict) for epoch in range(4)]
    whole = of_all(found)
    assert whole.reasons == ("nvs of a, epoch_0000, nvs of a, epoch_0001 and 2 more: `stride` was 1, is 2",)
    assert len(whole.notes) == 1
