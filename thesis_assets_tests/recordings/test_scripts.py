"""The three scripts: same flags, exit codes, what they write."""

import subprocess
import sys
from pathlib import Path

import pytest

import thesis_assets.evaluation.qualitative as qualitative
from thesis_assets.layout import EvaluationTree
from thesis_assets.recordings.contract import check_recording_contract
from thesis_assets.recordings.exports import PARTS, chosen_epochs, main


def forget(tree: EvaluationTree) -> None:
    for path in tree.rerun_dir.iterdir():
        path.unlink()


def test_the_script_runs_by_its_path_from_anywhere(tree: EvaluationTree, tmp_path: Path) -> None:
    forget(tree)
    script = Path(str(qualitative.__file__)).with_name("rerun_export_all.py")
    command = [sys.executable, str(script), "--exp-dir", str(tree.base), "--epochs", "latest"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr
    assert {path.name for path in tree.rerun_dir.glob("*.rrd")} == {"input_data.rrd", "evaluation_epoch_0030.rrd"}
    assert "evaluation_epoch_0030.rrd" in finished.stdout
    assert "pose_smpl: the task was not evaluated" in finished.stdout
    assert check_recording_contract(tree, epochs=[30]).passed


@pytest.mark.parametrize(
    ("parts", "written"),
    [
        (("input_data",), {"input_data.rrd"}),
        (("evaluation",), {"evaluation_epoch_0000.rrd", "evaluation_epoch_0030.rrd"}),
        (PARTS, {"input_data.rrd", "evaluation_epoch_0000.rrd", "evaluation_epoch_0030.rrd"}),
    ],
)
def test_each_script_writes_its_parts(tree: EvaluationTree, parts: tuple[str, ...], written: set[str]) -> None:
    forget(tree)
    assert main(parts, ["--exp-dir", str(tree.base), "--max-frames-per-camera", "1", "--tasks", "nvs"]) == 0
    assert {path.name for path in tree.rerun_dir.glob("*.rrd")} == written


def test_epochs_are_all_the_latest_or_named_ones(exported: EvaluationTree) -> None:
    assert chosen_epochs(exported, "all") == [0, 30]
    assert chosen_epochs(exported, "latest") == [30]
    assert chosen_epochs(exported, "30") == [30]
    assert chosen_epochs(exported, "30,0") == [30, 0]


def test_an_epoch_that_is_not_there_fails_and_names_those_that_are(
    exported: EvaluationTree, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(("evaluation",), ["--exp-dir", str(exported.base), "--epochs", "7"]) == 1
    assert "wanted: 0, 30" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags", [["--tasks", "nvs,sing"], ["--epochs", "first"], ["--max-frames-per-camera", "-1"], ["--epochs", "²"]]
)
def test_wrong_use_is_said_before_anything_runs(exported: EvaluationTree, flags: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(PARTS, ["--exp-dir", str(exported.base), *flags])
    assert caught.value.code == 2


def test_a_folder_that_is_no_tree_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("input_data",), ["--exp-dir", str(tmp_path / "demo")]) == 1
    assert "no input data" in capsys.readouterr().err
