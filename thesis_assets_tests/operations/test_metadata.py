"""What the UI shows of a cell: pictures and results first, numbers as a person reads them, words that no browser eats."""

import dagster as dg
import pytest

from thesis_assets.definitions import defs
from thesis_assets.operations.metadata import COLUMNS, as_markdown, check_result, table
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets_tests.worlds import World


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("below <exp_name> and <scene>__tcam<T>", "below `<exp_name>` and `<scene>__tcam<T>`"),
        ("`<exp>/<run>` as it is", "`<exp>/<run>` as it is"),
        ("a < b and c > d", "a < b and c > d"),
    ],
)
def test_names_in_angle_brackets_survive_as_code(text: str, shown: str) -> None:
    assert as_markdown(text) == shown


def test_every_job_sensor_and_schedule_says_what_it_does() -> None:
    repository = defs.get_repository_def()
    found = [*repository.get_all_jobs(), *repository.sensor_defs, *repository.schedule_defs]
    texts = {each.name: each.description or "" for each in found if each.name != "__ASSET_JOB"}
    assert [name for name, text in texts.items() if not text.strip()] == []
    assert [name for name, text in texts.items() if as_markdown(text) != text] == []


def test_a_check_shows_its_picture_then_its_offenders_then_rounded_counts() -> None:
    picture = b"\x89PNG\r\n\x1a\n" + bytes(64)
    outcome = CheckOutcome(passed=False, message="m", counts={"share": 1 / 3, "n": 2}, offenders=["a"], picture=picture)
    result = check_result("sample_set", "every_sample_complete", outcome)
    # Dagster shows a check's entries by their names.
    assert sorted(result.metadata) == ["A look at the first offenders", "First offenders", "n", "share"]
    assert result.metadata["share"].value == 0.33333


def test_the_columns_of_a_table_say_what_they_are() -> None:
    columns = table(("scene", "gain dB"), [("a", "+1.000")]).schema.columns
    assert [column.description for column in columns] == [COLUMNS["scene"], COLUMNS["gain dB"]]


def latest(world: World, asset: str) -> dict[str, dg.MetadataValue]:
    with world.instance() as instance:
        records = instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
    materialization = records[0].asset_materialization
    assert materialization is not None
    return dict(materialization.metadata)


def test_the_numbers_of_views_have_their_gain_and_say_why_others_are_not_there(finished_world: World) -> None:
    metadata = latest(finished_world, "nvs")
    names = list(metadata)
    wanted = [
        "render | truth",
        "PSNR gain of the last epoch",
        "results",
        "not measured",
        "data version",
    ]
    assert sorted(wanted, key=names.index) == wanted
    results = metadata["results"]
    assert isinstance(results, dg.TableMetadataValue)
    assert all(column.description for column in results.schema.columns)
    unrefined, refined = (record.data for record in results.records)
    gain = float(str(refined["PSNR ↑ dB"])) - float(str(unrefined["PSNR ↑ dB"]))
    assert (unrefined["step"], unrefined["gain dB"]) == ("unrefined", "")
    assert float(str(refined["gain dB"])) == pytest.approx(gain, abs=0.0011)
    assert metadata["PSNR gain of the last epoch"].value == pytest.approx(gain, abs=0.0011)
    assert {record.data["LPIPS ↓"] for record in results.records} == {"not measured"}
    assert "weights" in str(metadata["not measured"].value)


@pytest.mark.parametrize("asset", ["tuned_checkpoint", "selected_checkpoint", "triplet_recording", "leaderboard"])
def test_paths_stand_below_the_digest(finished_world: World, asset: str) -> None:
    metadata = latest(finished_world, asset)
    paths = [name for name, value in metadata.items() if isinstance(value, dg.PathMetadataValue)]
    assert paths
    assert all(list(metadata).index(name) > list(metadata).index("data version") for name in paths)
