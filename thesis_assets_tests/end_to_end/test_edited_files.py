"""Single edits in a finished tree: each is named by the looks that the table of coverage promises, and none enters a mean."""

import contextlib
import csv
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from thesis_assets.cli.results import _lineage
from thesis_assets.definitions import build_defs
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import look_at
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.states import Plan
from thesis_assets.operations.integrity_audit import KINDS, LOOK_OF, Fault, FullLook, KindOfFile, coverage_table
from thesis_assets.operations.report_pages import leaderboard_of
from thesis_assets.reports.leaderboard import Leaderboard
from thesis_assets.reports.leaderboard_pages import latex_text, markdown_text
from thesis_assets_tests.cli.in_process import invoke
from thesis_assets_tests.worlds import SCENES, World

pytestmark = pytest.mark.long

SCENE = "studio_pair03_dance"
SHARD = SCENES[0]
DATA, RUN = Cell("small"), Cell("small", run_name="r1")
KIND = {kind.name: kind for kind in KINDS}

Edit = Callable[[Path, Path], None]


def emptied(path: Path, other: Path) -> None:
    _write(path, b"")


def one_byte(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x01
    _write(path, bytes(content))


def one_number(path: Path, other: Path) -> None:
    """Of a text: the last digit of the first number with decimals, else of the first of several digits; as many bytes as before."""
    content = path.read_bytes()
    found = re.search(rb"\d+\.\d+", content) or re.search(rb"\d\d+", content)
    assert found is not None, path
    place = found.start()
    digit = bytes([48 + (content[place] - 48 + 3) % 9 + 1 if content[place] != 57 else 49])
    changed = content[:place] + digit + content[place + 1 :]
    assert changed != content
    _write(path, changed)


def cut_in_half(path: Path, other: Path) -> None:
    """At the end of a line, so that what is left reads well."""
    lines = path.read_bytes().splitlines(keepends=True)
    _write(path, b"".join(lines[: 1 + len(lines) // 2]))


def swapped(path: Path, other: Path) -> None:
    content = other.read_bytes()
    assert content != path.read_bytes()
    _write(path, content)


def deleted(path: Path, other: Path) -> None:
    path.unlink()


def link(path: Path, other: Path) -> None:
    path.unlink()
    path.symlink_to(other)


def _write(path: Path, content: bytes) -> None:
    path.unlink()  # a hard link's other names keep their bytes
    path.write_bytes(content)


@contextlib.contextmanager
def edited(path: Path, other: Path, edit: Edit, *, keep_time: bool) -> Iterator[None]:
    """The file edited for a while. `keep_time`: with the time that it had, as whoever wants to hide an edit does."""
    kept, stat = path.with_name(f".kept.{path.name}"), path.stat()
    os.link(path, kept)
    try:
        edit(path, other)
        if keep_time:
            assert path.stat().st_size == stat.st_size, "this edit does not keep the size"
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        yield
    finally:
        path.unlink(missing_ok=True)
        kept.rename(path)


@dataclass(frozen=True)
class Case:
    """One edit: of which kind, in which cell, of which file (and whose content may stand in for it)."""

    kind: str
    cell: Cell
    files: Callable[[Platform], tuple[Path, Path]]
    edit: Edit
    keep_time: bool = False

    @property
    def name(self) -> str:
        kept = "-size_and_time_kept" if self.keep_time else ""
        return re.sub(r"[^a-z0-9]+", "_", self.kind.lower()).strip("_") + f"-{self.edit.__name__}{kept}"


def of_data(name: str, other: str = "") -> Callable[[Platform], tuple[Path, Path]]:
    """A file of the snapshot, and another one."""

    def files(platform: Platform) -> tuple[Path, Path]:
        base = platform.difix(DATA).base
        return _first(base, name), _first(base, other or name)

    return files


def of_scene(name: str, other: str = "") -> Callable[[Platform], tuple[Path, Path]]:
    """A file of the evaluated scene's tree, and another one."""

    def files(platform: Platform) -> tuple[Path, Path]:
        base = platform.tree(RUN, SCENE).base
        return _first(base, name), _first(base, other or name)

    return files


def of_reports(name: str, other: str = "") -> Callable[[Platform], tuple[Path, Path]]:
    def files(platform: Platform) -> tuple[Path, Path]:
        base = platform.settings.reports.base
        return _first(base, name), _first(base, other or name)

    return files


def _first(base: Path, pattern: str) -> Path:
    return next(path for path in sorted(base.glob(pattern)) if not path.name.startswith("."))


NVS, POSE = "evaluation/epoch_0001/nvs", "evaluation/epoch_0001/pose_smplx"
OTHER_EPOCH = "evaluation/epoch_0000/nvs"
SAMPLE = f"samples/{SHARD}__*/"
PER_FRAME, PER_CAMERA = "metrics/metrics_all_cams_per_frame.csv", "metrics/metrics_avg_per_camera.csv"
TEXT = "metrics/novel_view_results.txt"
K = {
    "sample": "images and `meta.json` of a sample",
    "shard": "rows and statistics of a shard",
    "numbers": "tables, text file and `protocol.json` of novel views",
    "images": "`pred/`, `gt_inputs/`, `viz/` of novel views",
    "bodies": "`inputs/`, `pred/`, `gt_inputs/`, `viz/` of bodies",
    "pose": "table, text file and `protocol.json` of bodies",
    "inputs": "predictions and masks, `nvs/inputs/`",
    "manifest": "`manifest.json` of a scene",
}
IN_SHARD = Cell("small", scene_name=SHARD)
CASES = [
    Case(K["sample"], IN_SHARD, of_data(f"{SAMPLE}image.png"), emptied),
    Case(K["sample"], IN_SHARD, of_data(f"{SAMPLE}image.png"), one_byte, keep_time=True),
    Case(K["sample"], IN_SHARD, of_data(f"{SAMPLE}target_image.jpg", "samples/*pair03*/target_image.jpg"), swapped),
    Case(K["sample"], IN_SHARD, of_data(f"{SAMPLE}ref_image.jpg", "samples/*pair03*/ref_image.jpg"), link),
    Case(K["sample"], IN_SHARD, of_data(f"{SAMPLE}meta.json"), one_number, keep_time=True),
    Case(K["sample"], IN_SHARD, of_data(f"{SAMPLE}meta.json"), deleted),
    Case(K["shard"], IN_SHARD, of_data(f"scene_runs/{SHARD}/**/all_samples.jsonl"), one_number),
    Case(K["shard"], IN_SHARD, of_data(f"scene_runs/{SHARD}/**/run_stats.json"), one_number, keep_time=True),
    Case("`all_samples.jsonl`", DATA, of_data("manifests/all_samples.jsonl"), cut_in_half),
    Case("`all_samples.jsonl`", DATA, of_data("manifests/all_samples.jsonl"), one_number, keep_time=True),
    Case("`dropped_samples.csv`", DATA, of_data("**/dropped_samples.csv"), emptied),
    Case("`split_train.jsonl`, `split_test.jsonl`", DATA, of_data("**/split_train.jsonl", "**/split_test.jsonl"), swapped),
    Case("`split_train.jsonl`, `split_test.jsonl`", DATA, of_data("**/split_test.jsonl"), one_byte, keep_time=True),
    Case("`split_summary.json`, `generation_stats.json`", DATA, of_data("**/generation_stats.json"), one_number),
    Case("`data.json`", DATA, of_data("difix/data.json"), one_number, keep_time=True),
    Case("checkpoints", RUN, of_data("tuning_runs/r1/checkpoints/model_4.pkl"), one_byte, keep_time=True),
    Case("checkpoints", RUN, of_data("tuning_runs/r1/checkpoints/model_4.pkl", "**/model_2.pkl"), swapped),
    Case("`train_config.json`", RUN, of_data("tuning_runs/r1/**/train_config.json"), one_number, keep_time=True),
    Case("evaluation files of a training", RUN, of_data("tuning_runs/r1/eval/metrics_4.csv"), one_number),
    Case("`selected_checkpoint.json`", RUN, of_data("tuning_runs/r1/**/selected_checkpoint.json"), one_number),
    Case("`input_data/`", RUN, of_scene("input_data/test/images/4/*.jpg", "input_data/test/images/28/*.jpg"), link),
    Case("`input_data/`", RUN, of_scene("input_data/test/smplx/*.npz"), one_byte, keep_time=True),
    Case(K["inputs"], RUN, of_scene(f"{NVS}/inputs/cam_4/render/*.png"), one_byte, keep_time=True),
    Case(K["inputs"], RUN, of_scene(f"{NVS}/inputs/cam_4/mask/*.png"), deleted),
    Case(K["inputs"], RUN, of_scene(f"{NVS}/inputs/predictions.json"), one_number),
    Case("`training_artifacts/`", RUN, of_scene("training_artifacts/epoch_0001/rgb/*.png"), emptied),
    Case(K["images"], RUN, of_scene(f"{NVS}/pred/cam_4/*.png"), emptied),
    Case(K["images"], RUN, of_scene(f"{NVS}/pred/cam_4/*.png", f"{NVS}/pred/cam_28/*.png"), swapped),
    Case(K["images"], RUN, of_scene(f"{NVS}/pred/cam_4/*.png"), one_byte, keep_time=True),
    Case(K["images"], RUN, of_scene(f"{NVS}/gt_inputs/cam_4/*.png", f"{NVS}/gt_inputs/cam_28/*.png"), link),
    Case(K["images"], RUN, of_scene(f"{NVS}/viz/cam_4/render_vs_gt/*.png"), deleted),
    Case(K["numbers"], RUN, of_scene(f"{NVS}/{PER_FRAME}"), emptied),
    Case(K["numbers"], RUN, of_scene(f"{NVS}/{PER_FRAME}"), one_number),
    Case(K["numbers"], RUN, of_scene(f"{NVS}/{PER_FRAME}"), one_number, keep_time=True),
    Case(K["numbers"], RUN, of_scene(f"{NVS}/{PER_FRAME}"), cut_in_half),
    Case(K["numbers"], RUN, of_scene(f"{NVS}/{PER_FRAME}", f"{OTHER_EPOCH}/{PER_FRAME}"), swapped),
    Case(K["numbers"], RUN, of_scene(f"{NVS}/{PER_FRAME}", f"{OTHER_EPOCH}/{PER_FRAME}"), link),
    Case(K["numbers"], RUN, of_scene(f"{NVS}/{PER_FRAME}"), deleted),
    Case(K["numbers"], RUN, of_scene(f"{NVS}/{PER_CAMERA}"), one_number, keep_time=True),
    Case(K["numbers"], RUN, of_scene(f"{NVS}/{PER_CAMERA}"), deleted),
    Case(K["numbers"], RUN, of_scene(f"{NVS}/{TEXT}"), one_number, keep_time=True),
    Case(K["numbers"], RUN, of_scene(f"{NVS}/{TEXT}", f"{OTHER_EPOCH}/{TEXT}"), swapped),
    Case(K["numbers"], RUN, of_scene(f"{NVS}/{TEXT}"), emptied),
    Case(K["numbers"], RUN, of_scene(f"{NVS}/metrics/protocol.json"), one_number, keep_time=True),
    Case(K["numbers"], RUN, of_scene(f"{NVS}/metrics/protocol.json", f"{OTHER_EPOCH}/metrics/protocol.json"), swapped),
    Case(K["numbers"], RUN, of_scene(f"{NVS}/metrics/protocol.json"), emptied),
    Case(K["bodies"], RUN, of_scene(f"{POSE}/inputs/smplx/*.npz"), one_byte, keep_time=True),
    Case(K["bodies"], RUN, of_scene(f"{POSE}/pred/world_aligned/*/*.obj"), one_number, keep_time=True),
    Case(K["bodies"], RUN, of_scene(f"{POSE}/gt_inputs/smplx/*.npz"), deleted),
    Case(K["pose"], RUN, of_scene(f"{POSE}/metrics/*.csv"), one_number, keep_time=True),
    Case(K["pose"], RUN, of_scene(f"{POSE}/metrics/*.txt"), one_number),
    Case(K["manifest"], RUN, of_scene("manifest.json"), emptied),
    Case(K["manifest"], RUN, of_scene("manifest.json"), one_number, keep_time=True),
    Case(K["manifest"], RUN, of_scene("manifest.json"), deleted),
    Case("recordings of a scene and their pictures", RUN, of_scene("rerun/evaluation_epoch_0001.rrd"), emptied),
    Case("recordings of a scene and their pictures", RUN, of_scene("rerun/input_data.rrd"), one_byte, keep_time=True),
    Case("recording of a training", RUN, of_data("tuning_runs/r1/rerun/triplets.rrd"), one_byte, keep_time=True),
    Case("leaderboard and compare pages", Cell(), of_reports("leaderboard.csv"), one_number, keep_time=True),
    Case("leaderboard and compare pages", Cell(), of_reports("compare/*.html"), emptied),
]  # fmt: skip


def asset_of(case: Case, path: Path) -> str:
    """The asset whose record names the file: recordings of input data have one of their own."""
    return "input_data_recording" if path.name == "input_data.rrd" else KIND[case.kind].asset


def numbers(board: Leaderboard) -> dict[tuple[object, ...], float | None]:
    return {(row.scene_name, row.epoch, row.task, row.metric): row.value for row in board.rows}


Faults = Callable[[str, Cell], list[Fault]]


@pytest.fixture(scope="module")
def faults(finished_world: World) -> Iterator[Faults]:
    """What a full look finds of one asset."""
    with finished_world.instance() as instance:
        yield lambda asset, cell: list(FullLook(finished_world.platform, instance, lambda _: None).of_cell(asset, cell))


@pytest.fixture(scope="module")
def before(finished_world: World) -> dict[tuple[object, ...], float | None]:
    found = numbers(leaderboard_of(finished_world.platform))
    assert sum(value is not None for value in found.values()) > 20
    return found


def _params() -> Iterator[Any]:
    """Of each kind of file two edits, and all of those that give numbers; the others are for `make soak`."""
    for place, case in enumerate(CASES):
        n_before = sum(each.kind == case.kind for each in CASES[:place])
        fast = n_before < 2 or KIND[case.kind].gives_numbers
        yield pytest.param(case, id=case.name, marks=() if fast else pytest.mark.soak)


@pytest.mark.parametrize("case", _params())
def test_an_edit_is_named_and_enters_no_mean(
    finished_world: World, before: dict[tuple[object, ...], float | None], faults: Faults, case: Case
) -> None:
    world, kind = finished_world, KIND[case.kind]
    path, other = case.files(world.platform)
    asset = asset_of(case, path)
    with edited(path, other, case.edit, keep_time=case.keep_time):
        board = leaderboard_of(world.platform)
        look = look_at(world.platform, asset, case.cell)
        if not case.keep_time:
            assert look.state in ("damaged", "missing"), look.in_words
            assert path.name in look.in_words
        _assert_no_mean_holds_it(board, before, kind, path)
        if path.exists() and kind.has_lineage:
            named = list(_lineage(world.platform, str(path)).breaks())
            assert any(path.name in f"{each.path} {each.note}" for each in named), (named, "lineage of the file")
        if kind.in_chain and case == next(each for each in CASES if each.kind == case.kind):  # it reads everything
            broken = list(_lineage(world.platform, f"small/r1/{SCENE}/1").breaks())
            assert broken, "lineage of a number"
        found = faults(asset, case.cell)
        assert path in [fault.file for fault in found], [fault.row for fault in found]
        again = look_at(world.platform, asset, case.cell)
        assert again.state in ("damaged", "missing"), "what a full look found a quick one knows from then on"
    assert faults(asset, case.cell) == []
    assert look_at(world.platform, asset, case.cell).is_made


def _assert_no_mean_holds_it(
    board: Leaderboard, before: dict[tuple[object, ...], float | None], kind: KindOfFile, path: Path
) -> None:
    for place, value in numbers(board).items():
        assert value in (None, before[place]), place
    if not kind.gives_numbers:
        return
    empty = [row for row in board.rows if row.damaged]
    assert empty, "the numbers of an edited file count"
    assert {row.value for row in empty} == {None}
    assert all(path.name in row.damaged for row in empty)
    places = {(row.task, row.epoch) for row in empty}
    assert not [row for row in board.differences if (row.task, row.epoch) in places and row.difference is not None]
    for text in (markdown_text(board, plot_name="p.png"), latex_text(board)):
        assert path.name in text.replace("\\_", "_"), "the reason stands below the table"


def test_there_are_edits_of_every_kind_that_the_table_of_coverage_has() -> None:
    assert len(CASES) >= 40
    nowhere_here = {"what was published"}  # sharing is off in this world: `publishing` has its own tests
    assert {case.kind for case in CASES} == KIND.keys() - nowhere_here
    assert {LOOK_OF[KIND[case.kind].asset] for case in CASES} == {"samples", "numbers"}


@pytest.mark.parametrize("look", ["checks numbers", "status", "audit"])
def test_the_written_leaderboard_shows_no_number_that_a_look_has_found_damaged(
    finished_world_to_change: World, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    world = finished_world_to_change
    reports, table = world.settings.reports, world.platform.tree(RUN, SCENE).task(1, "nvs").nvs_per_frame
    whole = reports.leaderboard_csv.read_bytes()

    def written() -> dict[tuple[str, str], tuple[str, str]]:
        with reports.leaderboard_csv.open(newline="") as lines:
            rows = [row for row in csv.DictReader(lines) if (row["task"], row["metric"]) == ("nvs", "psnr")]
        return {(row["scene_name"], row["epoch"]): (row["value"], row["damaged"]) for row in rows}

    before = written()
    assert all(value and not damaged for value, damaged in before.values())
    with edited(table, table, one_number, keep_time=look != "status"):
        if look == "audit":
            with world.instance() as instance:
                job = build_defs(settings=world.settings).resolve_job_def("integrity_audit")
                assert not job.execute_in_process(instance=instance, raise_on_error=False).success
        else:
            words = look.split() + (["--exp", "small"] if look != "status" else [])
            assert invoke(monkeypatch, world, *words).exit_code == (0 if look == "status" else 3)
        now = written()
        value, damaged = now.pop((SCENE, "1"))
        assert value == ""
        assert table.name in damaged
        assert now == {place: each for place, each in before.items() if place != (SCENE, "1")}
        for path in (reports.leaderboard_markdown, reports.leaderboard_latex):
            assert table.name in path.read_text().replace("\\_", "_"), "with the reason"
        with world.instance() as instance:
            assert Plan(world.platform, instance).state("leaderboard", Cell()).state == "made", (
                "nobody makes it for ever"
            )
    with world.instance() as instance:
        assert Plan(world.platform, instance).state("leaderboard", Cell()).state == "stale", "the number is whole again"
    assert world.run().exit_code == 0
    assert reports.leaderboard_csv.read_bytes() == whole


def test_a_number_that_its_images_do_not_give_is_found_also_where_every_record_was_made_to_fit(
    finished_world: World, faults: Faults, tmp_path: Path
) -> None:
    """The three tables agree, and their record names them as they are: only computing again shows it."""
    from thesis_assets.evaluation.metric_tables import read_task, write_tables
    from thesis_assets.evaluation.outputs import staged
    from thesis_assets_tests.reports.compared_trees import record_again

    task = finished_world.platform.tree(RUN, SCENE).task(1, "nvs")
    kept = tmp_path / "metrics"
    shutil.copytree(task.metrics_dir, kept)
    files = read_task(task)
    assert files.protocol is not None
    rows = [dict(row) for row in files.tables[task.nvs_per_frame]]
    rows[0]["psnr"] = 99.0
    try:
        with staged(task.metrics_dir) as (stage,):
            write_tables(stage, task, rows, files.protocol)
            stage.publish()
        record_again(task)
        found = {fault.file: fault.problem for fault in faults("nvs", RUN)}
        assert "psnr is written as 99.0, and the saved files give" in found[task.nvs_per_frame]
    finally:
        shutil.rmtree(task.metrics_dir)
        shutil.copytree(kept, task.metrics_dir)
    assert faults("nvs", RUN) == []


def test_the_page_has_the_table_of_coverage_as_it_is() -> None:
    page = Path(__file__).parents[2] / "docs" / "read_the_results.md"
    assert f"\n\n{coverage_table()}\n\n" in page.read_text(encoding="utf-8"), "write it anew: scripts/print_coverage.py"


def test_checks_numbers_and_checks_samples_name_each_file_and_what_mends_it(
    finished_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = invoke(monkeypatch, finished_world, "checks", "numbers", "--exp", "small", "--json")
    assert whole.exit_code == 0, (whole.output, whole.exception)
    counted = json.loads(whole.stdout)
    assert (counted["faults"], counted["found"], counted["rows"]) == (0, [], 30)
    table = finished_world.platform.tree(RUN, SCENE).task(1, "nvs").nvs_per_frame
    sample = of_data(f"{SAMPLE}image.png")(finished_world.platform)[0]
    for look, path, command in (
        ("numbers", table, "thesis-assets run --exp small --run r1 --until nvs"),
        ("samples", sample, "thesis-assets run --exp small --until scene_samples"),
    ):
        with edited(path, path, one_byte, keep_time=True):
            found = invoke(monkeypatch, finished_world, "checks", look, "--exp", "small")
            assert found.exit_code == 3
            lines = found.stdout.splitlines()
            assert f"{path}: other bytes than were recorded" in lines
            assert f"next: `{command}`" in lines
        assert invoke(monkeypatch, finished_world, "checks", look, "--exp", "small").exit_code == 0
