"""docs/architecture.md: its table names the rooms that there are, and each of its examples works as it stands there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```diff\n(.*?\n)```$", PAGE, re.MULTILINE | re.DOTALL)
MOST_FILES = 3

METRIC = """
import sys
from pathlib import Path
from benchmarks import evaluation_tree as tree
from thesis_assets.evaluation.checks import check_metrics_recompute
from thesis_assets.evaluation.input_data import link_input_data
from thesis_assets.evaluation.metric_names import shown_metrics
from thesis_assets.evaluation.nvs import measure_views
from thesis_assets.evaluation.scene_steps import predict_views
from thesis_assets.evaluation.shared_work import SceneEpochs, joined
from thesis_assets.launch.mapping import map_items

folder, scene = Path(sys.argv[1]), tree.SCENES[0]
tree.write_scene(folder, scene, 1, 0)
tree.write_checkpoint(folder, tree.STEPS[-1])
cell = tree.open_cell(folder, scene, epochs=[0])
link_input_data(cell)
for step in (predict_views, measure_views):
    joined(map_items(step, [SceneEpochs(cell, (0,))], workers=1)).raise_failures()
task = cell.tree.task(0, "nvs")
assert "mae" in task.nvs_per_camera.read_text().splitlines()[0].split(","), task.nvs_per_camera.read_text()
assert "mae: " in task.nvs_results.read_text()
checked = check_metrics_recompute(cell)
assert checked.passed and checked.counts["rows"] > 0, checked
assert [metric.heading for metric in shown_metrics("nvs") if metric.name == "mae"] == ["MAE ↓ levels"]
"""
ASSET = """
from thesis_assets.definitions import defs
from thesis_assets.graph.nodes import LEVELS, NODES

asset = next(each for each in defs.assets if each.key.to_user_string() == "held_out_people")
assert asset.partitions_def.name == "exp_name"
job = defs.get_job_def("prepare_data")
assert "held_out_people" in {node.name for node in job.nodes}
"""
FORMAT = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
from thesis_assets.scenes.importers.camera_table import read_camera_table

folder = Path(sys.argv[1])
Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(folder / "a.png")
(folder / "cameras.csv").write_text(
    "image,fx,fy,cx,cy," + ",".join(f"m{i}{j}" for i in range(3) for j in range(4)) + "\\n"
    "a.png,60,60,32,24,1,0,0,0,0,1,0,0,0,0,1,4\\n"
)
(photograph,) = read_camera_table(folder / "cameras.csv").photographs
assert photograph.extrinsics[2, 3] == 4
from thesis_assets.cli.main import main

sys.argv = ["thesis-assets", "scene", "init", "--name", "garden_table", "--camera-table", str(folder / "cameras.csv")]
try:
    main()
except SystemExit as end:
    assert end.code in (0, None), end.code
import os
assert list(Path(os.environ["THESIS_DATA_HOME"]).rglob("garden_table/images/0/000000.jpg"))
"""


def apply(diff: str, folder: Path) -> None:
    """As `git apply` does, which not every machine has: what each hunk takes away stands in its file once."""
    for of_file in diff.split("diff --git ")[1:]:
        head, *hunks = re.split(r"^@@.*\n", of_file, flags=re.MULTILINE)
        path = folder / head.splitlines()[0].split(" b/")[1]
        text = "" if "--- /dev/null" in head else path.read_text(encoding="utf-8")
        for hunk in hunks:
            lines = [line or " " for line in hunk.splitlines()]
            old, new = ("".join(f"{line[1:]}\n" for line in lines if line[0] in kept) for kept in (" -", " +"))
            assert not old or text.count(old) == 1, f"{path}: not once there:\n{old}"
            text = text.replace(old, new) if old else new
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(("example", "program"), zip(EXAMPLES, (METRIC, ASSET, FORMAT), strict=True))
def test_an_example_touches_three_files_at_most_and_works(tmp_path: Path, example: str, program: str) -> None:
    shutil.copytree(ROOT / "thesis_assets", tmp_path / "thesis_assets", ignore=shutil.ignore_patterns("__pycache__"))
    assert 0 < example.count("diff --git ") <= MOST_FILES
    apply(example, tmp_path)
    (tmp_path / "work").mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
        "THESIS_DATA_HOME": str(tmp_path / "data"),
    }
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "work")],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_page_names_every_room() -> None:
    rooms = {path.name.removesuffix(".py") for path in (ROOT / "thesis_assets").iterdir()} - {
        "__init__",
        "__pycache__",
        "py.typed",
    }
    table = PAGE.split("| --- | --- |")[1].split("\n\n")[0]
    named = {
        name.removesuffix(".py")
        for row in table.strip().splitlines()
        for name in re.findall(r"`([^`]+)`", row.split("|")[1])
    }
    assert named == rooms
