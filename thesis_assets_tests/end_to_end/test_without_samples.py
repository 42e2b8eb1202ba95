"""One command that says what leaving samples out does on held-out people."""

from collections.abc import Callable

import pytest

from thesis_assets.graph.cells import Cell
from thesis_assets.samples.sample_rows import read_rows
from thesis_assets.splits.exclusions import read_exclusions
from thesis_assets_tests.cli.in_process import invoke, json_of
from thesis_assets_tests.end_to_end.equal_worlds import stamps
from thesis_assets_tests.end_to_end.test_sweeps import SHORT, swept
from thesis_assets_tests.worlds import World

pytestmark = pytest.mark.long


def test_three_seeds_without_some_samples_are_paired_with_three_seeds_with_them(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = new_world(swept(base={**SHORT, "learning_rate": 2.0e-3, "sweep": {"seed": [1, 2, 3]}}))
    table = world.home / "dark.csv"

    assert world.run(until="difix_data").exit_code == 0
    tree = world.platform.difix(Cell("small"))
    train = read_rows(tree.split_train)
    bad = [row.sample_id for row in train][::3]
    assert 0 < len(bad) < len(train)
    table.write_text("sample_id,reason\n" + "".join(f"{sample_id},too dark\n" for sample_id in bad))

    asked = ("run", "--exp", "small", "--run", "base", "--without", str(table))
    told = invoke(monkeypatch, world, *asked)
    assert told.exit_code == 0, (told.output, told.exception)
    frozen = stamps(tree.base)
    words = " ".join(told.output.split())
    assert f"base-s*: without {len(bad)} of {len(train)} training samples: " in words
    assert "95 % interval" in words
    assert "over seeds, 1, 2, 3" in words

    answer = json_of(invoke(monkeypatch, world, *asked, "--json"))
    assert (answer["fork"], answer["exp_name"]) == ("small-without-dark", "small")
    (psnr,) = (row for row in answer["differences"] if row["metric"] == "psnr")
    assert (psnr["against"], psnr["n_seeds"], psnr["interval_over"]) == ("small/base-s*", 3, "seeds")
    assert psnr["low"] < psnr["difference"] < psnr["high"]
    assert len({*psnr["by_seed"].values()}) == 3
    assert stamps(tree.base) == frozen, "asked again, nothing is made, and nothing of the experiment is touched"

    fork = world.platform.difix(Cell("small-without-dark"))
    assert {row.sample_id for row in read_rows(fork.split_train)} == {row.sample_id for row in train} - {*bad}
    assert read_rows(fork.split_test) == read_rows(tree.split_test)
    assert [each.sample_id for each in read_exclusions(fork.exclusions)] == sorted(bad)
    image = train[0].image_path
    assert (fork.base / image).stat().st_ino == (tree.base / image).stat().st_ino, "a fork's samples are links"

    # Another table of that name would be another question.
    table.write_text("sample_id\n" + "".join(f"{sample_id}\n" for sample_id in bad[:-1]))
    refused = invoke(monkeypatch, world, *asked)
    assert "was made without other samples" in str(refused.exception)
