"""`thesis-assets adopt` on all that scripts left: three forms of evaluated trees in one command, and what is spoilt among them."""

import csv
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thesis_assets.graph.platform import Platform
from thesis_assets.reports.leaderboard import build_leaderboard
from thesis_assets.schemas.evaluation import LeaderboardRow
from thesis_assets.settings import Settings
from thesis_assets_tests.adoption.older_trees import EVALUATED, SOURCE, TEST, TRAIN, state_of
from thesis_assets_tests.adoption.script_trees import (
    CORRUPTIONS,
    EPOCHS,
    EXPERIMENTS,
    NVS,
    POSE,
    nvs_folder,
    write_all,
)
from thesis_assets_tests.worlds import SMALL, World, thesis_assets

pytestmark = pytest.mark.long
ROOTS = ("THESIS_CANONICAL_GT_ROOT_DIR", "THESIS_PREPROCESSING_ROOT_DIR", "THESIS_SCENE_REGISTRY_DIR")


class RootlessWorld(World):
    """One that finds out where the scenes are from what it adopts."""

    @property
    def environment(self) -> dict[str, str]:
        return {name: value for name, value in super().environment.items() if name not in ROOTS}


@dataclass
class Adopted:
    """A world, the folder that it took in, and what the command said, first without writing anything."""

    world: World
    old: Path

    @cached_property
    def before(self) -> dict[str, str]:
        return state_of(self.old)

    def said(self, *options: str) -> str:
        done = thesis_assets(self.world, "adopt", str(self.old), *options)
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    @cached_property
    def planned(self) -> Any:
        _ = self.before
        return json.loads(self.said("--dry-run", "--json"))

    @cached_property
    def planned_text(self) -> str:
        return self.said("--dry-run")

    @cached_property
    def report(self) -> Any:
        _ = self.planned, self.planned_text
        return json.loads(self.said("--json"))

    @cached_property
    def rows(self) -> list[LeaderboardRow]:
        assert self.report["errors"] == []
        platform = Platform(Settings(_env_file=self.world.home / ".env", **self._settings()), lambda _: None)
        return build_leaderboard(platform.evaluated_trees()).rows

    def _settings(self) -> dict[str, Any]:
        home = self.world.home
        return {"data_home": home, "experiments_dir": home / "experiments", "dagster_home": home / "dagster_home"}

    def value(self, exp_name: str, scene: str, epoch: int, task: str, metric: str) -> LeaderboardRow:
        key = (exp_name, scene, epoch, task, metric)
        (row,) = [row for row in self.rows if (row.exp_name, row.scene_name, row.epoch, row.task, row.metric) == key]
        return row


def in_a_world(folder: Path, scene_home: Path) -> Adopted:
    world = RootlessWorld(folder / "home", scene_home)
    world.write(SMALL)
    return Adopted(world, write_all(folder / "old", scene_home))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, scene_home: Path) -> Adopted:
    return in_a_world(tmp_path_factory.mktemp("whole"), scene_home)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory, scene_home: Path) -> Adopted:
    """All that is whole, and every corruption in a tree of its own."""
    adopted = in_a_world(tmp_path_factory.mktemp("spoilt"), scene_home)
    for corruption in CORRUPTIONS.values():
        corruption.spoil(adopted.old)
    return adopted


def test_the_dry_run_plans_what_the_real_run_then_does(whole: Adopted) -> None:
    assert not (whole.world.home / ".env").exists()
    planned = whole.planned
    assert whole.planned_text
    assert not (whole.world.home / ".env").exists()
    assert set(planned["settings"]) >= set(ROOTS)
    assert set(planned["experiments"]) == {"v0", *EXPERIMENTS.values()}
    parts = ("folder", "found", "scene_files", "settings", "experiments", "complaints")
    assert {part: whole.report[part] for part in parts} == {part: planned[part] for part in parts}
    assert {Path(path).is_file() for path in whole.report["experiments"].values()} == {True}
    again = whole.said()
    shared = whole.planned_text.replace("nothing was written; without --dry-run it is\n", "").strip()
    assert again.startswith(shared)
    assert state_of(whole.old) == whole.before


def test_nothing_of_whole_trees_is_said_to_be_damaged(whole: Adopted) -> None:
    assert [complaint for complaint in whole.report["complaints"] if complaint["damaged"]] == []
    assert (whole.report["failed_checks"], whole.report["errors"]) == ([], [])


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def means_of(text: Path) -> dict[str, str]:
    return dict(line.split(": ") for line in text.read_text().splitlines())


@pytest.mark.parametrize("form", EXPERIMENTS)
@pytest.mark.parametrize("scene", [EVALUATED, TEST])
def test_the_scripts_own_means_and_the_leaderboard_agree_to_the_last_digit(
    whole: Adopted, form: str, scene: str
) -> None:
    """The scripts' text is over every row, the leaderboard leaves the source camera out: each is what numpy makes of the script's table."""
    exp_name = EXPERIMENTS[form]
    for epoch in EPOCHS:
        folder = nvs_folder(whole.old / "results", form, scene, exp_name, epoch)
        rows = table(folder / "metrics_all_cams_per_frame.csv")
        others = [row for row in rows if int(row["camera_id"]) != SOURCE]
        said = means_of(folder / "novel_view_results.txt")
        assert (len(rows) > len(others)) == (form != "head")
        ours = whole.world.home / "results" / "adopted" / scene / exp_name / "evaluation" / f"epoch_{epoch:04d}"
        kept = table(ours / "nvs" / "metrics" / "metrics_all_cams_per_frame.csv")
        for name in NVS:
            theirs = np.mean([float(row[name]) for row in rows])
            without_source = np.mean([float(row[name]) for row in others])
            metric = "psnr_channel_sum" if name == "psnr" else name
            found = whole.value(exp_name, scene, epoch, "nvs", metric).value
            assert found == pytest.approx(without_source, abs=1e-12)
            assert f"{found:.4f}" == f"{without_source:.4f}"
            assert said[name] == f"{theirs:.4f}"
            assert [float(row[metric]) for row in kept] == [float(row[name]) for row in rows]
            assert (said[name] == f"{found:.4f}") == (form == "head")
        assert whole.value(exp_name, scene, epoch, "nvs", "psnr").value is None


@pytest.mark.parametrize("form", ["february", "head"])
@pytest.mark.parametrize("task", ["pose_smplx", "pose_smpl"])
def test_poses_with_and_without_contact_are_told_by_their_files_names(whole: Adopted, form: str, task: str) -> None:
    exp_name, model = EXPERIMENTS[form], task.removeprefix("pose_")
    folder = whole.old / "results" / EVALUATED / exp_name / "evaluation" / "epoch_0030"
    folder = folder / task / "metrics" if form == "head" else folder
    rows = table(folder / f"{model}_pose_estimation_metrics_per_frame.csv")
    said = means_of(folder / f"{model}_pose_estimation_overall_results.txt")
    for name in POSE:
        found = whole.value(exp_name, EVALUATED, 30, task, "pcdr_legacy" if name == "pcdr" else name).value
        if name == "cd_mm" and form == "february":
            assert (found, said[name], name in rows[0]) == (None, "nan", False)
        else:
            assert f"{found:.4f}" == said[name] == f"{np.mean([float(row[name]) for row in rows]):.4f}"


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_what_is_spoilt_is_named(spoilt: Adopted, name: str) -> None:
    corruption = CORRUPTIONS[name]
    report = spoilt.report
    lines = [f"{each['place']}: {each['problem']}" for each in report["complaints"]]
    lines += [*report["failed_checks"], *report["errors"]]
    assert [line for line in lines if corruption.place in line and corruption.problem in line], "\n".join(lines)


def test_what_is_spoilt_stops_nothing_that_is_whole(spoilt: Adopted) -> None:
    for exp_name in EXPERIMENTS.values():
        for scene in (EVALUATED, TEST):
            assert spoilt.value(exp_name, scene, 30, "nvs", "psnr_channel_sum").value is not None
    assert {"v0", "groups", "image", "checkpoint", "epochs", "manifest"} <= set(spoilt.report["experiments"])
    assert {"half", "twice", "dead", "camera"}.isdisjoint(spoilt.report["experiments"])
    assert spoilt.value("text", EVALUATED, 30, "pose_smpl", "rr_mpjpe_mm").value is not None
    empty = [row for row in spoilt.rows if row.exp_name == "text" and row.task == "nvs"]
    assert {row.value for row in empty} == {None}
    assert all("damaged: " in row.damaged and "novel_view_results.txt" in row.damaged for row in empty), empty
    done = thesis_assets(spoilt.world, "adopt", str(spoilt.old))
    assert done.returncode == 3, done.stdout + done.stderr
    assert state_of(spoilt.old) == spoilt.before
    listed = thesis_assets(spoilt.world, "scenes")
    assert EVALUATED in listed.stdout, listed.stdout + listed.stderr
    assert TRAIN in listed.stdout
