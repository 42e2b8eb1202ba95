"""A plan on a machine whose `nvidia-smi` shows a Volta card; that of a cluster is in `end_to_end/test_plans_on_slurm.py`."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from thesis_assets.errors import ThesisAssetsError
from thesis_assets_tests.cli.in_process import invoke
from thesis_assets_tests.defs.sensor_ticks import add_scene, experiment, tiny_world
from thesis_assets_tests.worlds import World

Machine = Callable[[str], dict[str, str]]


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = tiny_world(tmp_path)
    add_scene(world, "hi4d_pair01_hug")
    world.write(experiment("v1", runs={"r1": {}, "whole": {"mixed_precision": "no"}}))
    return world


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """The environment of a machine with a card, as far as `nvidia-smi` tells."""

    def make(line: str) -> dict[str, str]:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\necho '{line}'\n")
        program.chmod(0o755)
        return {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}", "THESIS_DEVICE": "auto"}

    return make


@pytest.mark.parametrize("command", [("run",), ("backfill", "--missing")])
def test_bf16_is_refused_before_any_scene_is_exported(
    world: World, machine: Machine, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    volta = machine("Tesla V100-SXM2-32GB, 7.0")
    shown = invoke(monkeypatch, world, *command, "--exp", "v1", "--dry-run", **volta)
    assert shown.exit_code == 0
    assert "stable_v100: true" in " ".join(shown.output.split())
    assert shown.output.count("stable_v100") <= 2, "what waits for it says it once more"

    refused = invoke(monkeypatch, world, *command, "--exp", "v1", **volta)
    assert isinstance(refused.exception, ThesisAssetsError)
    assert "Tesla V100-SXM2-32GB (compute capability 7.0)" in str(refused.exception)
    assert '`mixed_precision: "no"`' in str(refused.exception)
    assert not world.platform.difix(world.cell(exp_name="v1")).base.exists()


def test_another_run_another_card_and_the_cpu_are_not_refused(
    world: World, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    volta = machine("Tesla V100-SXM2-32GB, 7.0")
    for more in ({"run": "whole"}, {"run": "r1", "THESIS_DEVICE": "cpu"}):
        values = {**volta, **more}
        shown = invoke(monkeypatch, world, "run", "--exp", "v1", "--run", values.pop("run"), "--dry-run", **values)
        assert "stable_v100" not in shown.output
    Path(volta["PATH"].split(os.pathsep)[0], "nvidia-smi").write_text("#!/bin/sh\necho 'NVIDIA H200, 9.0'\n")
    shown = invoke(monkeypatch, world, "run", "--exp", "v1", "--dry-run", **volta)
    assert "stable_v100" not in shown.output
