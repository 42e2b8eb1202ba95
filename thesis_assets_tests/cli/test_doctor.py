"""The doctor's judgements that do not need the machine they are about."""

from pathlib import Path

import pytest

from thesis_assets.cli import doctor
from thesis_assets.cli.doctor import architecture, machine
from thesis_assets.settings import Settings
from thesis_assets_tests.cli.in_process import invoke, json_of
from thesis_assets_tests.defs.sensor_ticks import tiny_world


@pytest.mark.parametrize(
    ("capability", "built", "state"),
    [
        ((9, 0), ["sm_80", "sm_90"], "ok"),
        ((8, 9), ["sm_80", "sm_90"], "ok"),
        ((9, 0), ["sm_90a"], "ok"),
        ((12, 0), ["sm_80", "sm_90", "compute_90"], "missing"),
        ((12, 0), ["sm_80", "sm_90"], "bad"),
        ((7, 0), ["sm_75", "sm_80", "compute_80"], "bad"),
        ((8, 0), ["sm_86"], "bad"),
    ],
)
def test_a_gpu_is_held_against_what_the_build_of_torch_has(
    capability: tuple[int, int], built: list[str], state: str
) -> None:
    judged, found, fix = architecture(capability, built)
    assert judged == state
    assert built[0] in found
    assert bool(fix) == (state != "ok")


def test_everything_that_is_missing_has_its_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = Settings(_env_file=None, data_home=tmp_path, launcher="slurm", failure_command="no-such-program x")
    findings = {each.what: each for each in machine(settings)}
    for each in findings.values():
        assert each.state == "ok" or each.fix or each.what == "git revision", each
    assert {"GPU", "Slurm", "ffmpeg", "Vulkan driver", "SMPLX models", "SMPL models", "LPIPS weights"} <= set(findings)
    assert findings["Slurm"].state == "bad", "the settings ask for it"
    assert findings["failure command"].state == "bad"


def test_a_body_model_that_is_there_is_found(tmp_path: Path) -> None:
    (tmp_path / "smplx").mkdir()
    (tmp_path / "smplx" / "SMPLX_NEUTRAL.npz").write_bytes(b"x")
    settings = Settings(_env_file=None, data_home=tmp_path, body_models=tmp_path)
    findings = {each.what: each for each in machine(settings)}
    assert findings["SMPLX models"].found == "neutral"
    assert findings["SMPL models"].state == "missing"


@pytest.mark.parametrize("storage", ["", "storage:\n  postgres: {postgres_url: x}\n"])
def test_a_history_on_a_network_file_system_is_refused_unless_a_database_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str
) -> None:
    world = tiny_world(tmp_path)
    home = world.settings.dagster_home
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text(storage)
    monkeypatch.setattr(doctor, "file_system_of", lambda path: "nfs4")
    result = invoke(monkeypatch, world, "doctor", "--json")
    assert result.exit_code == (0 if storage else 1), result.output
    assert ("corrupts" in result.stdout) == (not storage)


def test_a_machine_without_anything_special_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json_of(invoke(monkeypatch, tiny_world(tmp_path), "doctor", "--json"))
