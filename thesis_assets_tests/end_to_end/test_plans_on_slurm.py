"""What a plan says before anything is submitted to a real Slurm cluster: that bf16 cannot be had, and what the work will take."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.states import Pair, Plan
from thesis_assets.operations.cost_estimates import Cost, PastWork
from thesis_assets.operations.probing import probe_first, wanted_probes
from thesis_assets.settings import Settings
from thesis_assets_tests.cli.in_process import invoke
from thesis_assets_tests.defs.sensor_ticks import add_scene, experiment
from thesis_assets_tests.kept_worlds import KeptFolder
from thesis_assets_tests.launch.test_slurm import until
from thesis_assets_tests.services.slurm import SMALL_PRESETS, SlurmCluster, slurm_cluster
from thesis_assets_tests.worlds import SCENES, SMALL, TINY_RUN, World

pytestmark = pytest.mark.long

__all__ = ["slurm_cluster"]

ENVIRONMENT = {
    "THESIS_LAUNCHER": "slurm",
    "THESIS_SLURM_PRESETS": json.dumps(SMALL_PRESETS),
    "THESIS_SLURM_POLL_SECONDS": "0.5",
}


def left_of_probes(world: World) -> list[Path]:
    """What they kept and what they left lying; their locks aside."""
    return [path for path in world.settings.probes.base.iterdir() if path.name != ".locks"]


class SlurmWorld(World):
    """A world whose work runs on the cluster, an element of an array at a time."""

    @property
    def settings(self) -> Settings:
        slurm = {"launcher": "slurm", "slurm_presets": SMALL_PRESETS, "slurm_poll_seconds": 0.5}
        return super().settings.model_copy(update={**slurm, "slurm_array_at_once": 1})

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, **ENVIRONMENT}

    def pairs(self, exp_name: str = "small") -> list[Pair]:
        with self.instance() as instance:
            return [(each.asset, each.cell) for each in Plan(self.platform, instance).of_experiment(exp_name)]

    def probe(self, exp_name: str = "small") -> None:
        """Make the probes that are wanted, however little there is to do."""
        with self.instance() as instance:
            probe_first(self.platform, instance, exp_name, self.pairs(exp_name), self.lines.append, asked=True)

    def costs(self, exp_name: str = "small") -> dict[str, float | None]:
        """Seconds of all cells of each asset, as they are known now."""
        with self.instance() as instance:
            past, found = PastWork(self.platform, instance), dict[str, float | None]()
            for asset, cell in self.pairs(exp_name):
                cost: Cost | None = past.cost(asset, cell)
                found[asset] = None if cost is None else (found.get(asset) or 0.0) + cost.seconds
            return found


@pytest.fixture
def cluster(slurm_cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> SlurmCluster:
    for name, value in slurm_cluster.environment.items():
        monkeypatch.setenv(name, value)
    return slurm_cluster


@pytest.fixture
def world(tmp_path: Path) -> SlurmWorld:
    """Two scenes of a few small images, and a run in the default precision."""
    world = SlurmWorld(tmp_path / "home", tmp_path / "scenes")
    for name in ("hi4d_pair00_hug", "hi4d_pair01_hug"):
        add_scene(world, name)
    world.write(experiment("v1", runs={"r1": {"max_train_steps": 10}, "whole": {"mixed_precision": "no"}}))
    return world


# --- bf16 where there is none ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("run",), ("backfill", "--missing")])
def test_bf16_on_volta_is_refused_before_anything_is_submitted(
    world: SlurmWorld, cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    on_volta = {"THESIS_SLURM_PARTITION": "volta", "THESIS_DEVICE": "auto"}

    shown = invoke(monkeypatch, world, *command, "--exp", "v1", "--run", "r1", "--dry-run", **on_volta)
    assert shown.exit_code == 0, (shown.output, shown.exception)
    said = " ".join(shown.output.split())
    assert "stable_v100: true" in said
    assert 'mixed_precision: "no"' in said

    refused = invoke(monkeypatch, world, *command, "--exp", "v1", "--run", "r1", **on_volta)
    assert refused.exit_code != 0
    assert isinstance(refused.exception, ThesisAssetsError)
    assert "stable_v100: true" in str(refused.exception)
    assert not world.platform.difix(world.cell(exp_name="v1")).base.exists(), "no scene was exported for it"
    assert cluster.queue() == []


def test_a_run_in_full_precision_is_planned_on_volta_too(
    world: SlurmWorld, cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_volta = {"THESIS_SLURM_PARTITION": "volta", "THESIS_DEVICE": "auto"}
    shown = invoke(monkeypatch, world, "run", "--exp", "v1", "--run", "whole", "--dry-run", **on_volta)
    assert "refused" not in shown.output
    assert "stable_v100" not in shown.output


def test_doctor_prints_the_line_for_a_cluster_that_takes_no_job_without_a_gpu(
    world: SlurmWorld, cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = invoke(monkeypatch, world, "doctor", "--json", THESIS_SLURM_ACCOUNT="gpus_only")
    (found,) = [each for each in json.loads(shown.stdout) if each["what"] == "Slurm jobs"]
    assert found["state"] == "bad"
    assert "jobs with a GPU" in found["found"]
    line = found["fix"].partition("THESIS_SLURM_PRESETS='")[2].removesuffix("'")
    assert json.loads(line)["cpu"] == {**SMALL_PRESETS["cpu"], "min_gpus": 1}

    shown = invoke(monkeypatch, world, "doctor", "--json", THESIS_SLURM_ACCOUNT="gpus_only", THESIS_SLURM_PRESETS=line)
    states = {each["state"] for each in json.loads(shown.stdout) if each["what"] == "Slurm jobs"}
    assert "bad" not in states, "the line that was printed is enough"


# --- the probe -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def larger_scenes(kept: KeptFolder) -> Path:
    """The small studio, with more and larger frames: its work takes longer than its start."""
    from thesis_assets.demo.studio import make_studio
    from thesis_assets.demo.studio_people import SCENES as CAST
    from thesis_assets.graph.platform import Platform

    def make(home: Path) -> None:
        platform = Platform(Settings(_env_file=None, data_home=home, device="cpu"))
        chosen = [scene for scene in CAST if scene.name in SCENES]
        make_studio(platform.roots, lambda line: None, scenes=chosen, size=128, n_frames=24)

    return kept.make_once("larger_scenes", make)


LONG_RUN = {**TINY_RUN, "max_train_steps": 600, "checkpointing_steps": 300, "eval_freq": 600}


def test_a_probe_tells_within_a_factor_of_two_what_the_work_then_takes(
    tmp_path: Path, larger_scenes: Path, cluster: SlurmCluster
) -> None:
    world = SlurmWorld(tmp_path / "home", larger_scenes)
    world.write({**SMALL, "runs": {"r1": LONG_RUN}})
    world.probe()
    estimated = world.costs()

    report = world.run()

    assert report.exit_code == 0, [outcome.errors + outcome.failed_checks for outcome in report.outcomes]
    assert any(line.startswith("estimate: in all about ") and "by a probe job" in line for line in world.lines)
    taken = world.costs()
    for part in (("scene_samples",), ("tuned_checkpoint",), ("predictions", "nvs")):
        before, after = (sum(costs[asset] or 0.0 for asset in part) for costs in (estimated, taken))
        assert before != after, "what was really made counts from now on"
        assert 0.5 < before / after < 2, (part, before, after)


def tell(world: SlurmWorld, what: Callable[[str], None] | None = None) -> Callable[[str], None]:
    def say(line: str) -> None:
        world.lines.append(line)
        if what is not None:
            what(line)

    return say


def files_of(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


def test_a_probe_leaves_one_file_and_is_not_made_twice(world: SlurmWorld, cluster: SlurmCluster) -> None:
    world.write(experiment("v1", runs={"r1": {**TINY_RUN, "max_train_steps": 5000, "checkpointing_steps": 1000}}))
    pairs = world.pairs("v1")
    before = files_of(world.home, world.scene_home)
    with world.instance() as instance:
        assert probe_first(world.platform, instance, "v1", pairs, tell(world), asked=None), "5000 steps are asked for"
        new = [path for path in files_of(world.home, world.scene_home) if path not in before]
        assert [path for path in new if not {"dagster_home", ".locks"} & set(path.parts)] == left_of_probes(world)
        assert len(left_of_probes(world)) == 1
        assert not probe_first(world.platform, instance, "v1", pairs, tell(world), asked=True)

        world.write(experiment("v1", runs={"r1": {**TINY_RUN, "max_train_steps": 9000, "seed": 7}}))
        assert wanted_probes(world.platform, instance, pairs) == [], "its steps take as long"
        world.write(experiment("v1", runs={"r1": {**TINY_RUN, "max_train_steps": 9000, "train_batch_size": 4}}))
        assert wanted_probes(world.platform, instance, pairs) == [world.cell(exp_name="v1")]


def test_a_probe_that_fails_refuses_the_work_before_any_of_it_is_submitted(
    world: SlurmWorld, cluster: SlurmCluster
) -> None:
    world.write(experiment("v1", runs={"r1": {**TINY_RUN, "extra_args": ["--no_such_flag", "1"]}}))

    with pytest.raises(ThesisAssetsError, match="no_such_flag") as caught:
        world.run("v1", probe=True)

    assert "--no-probe" in str(caught.value.remedy)
    until(lambda: cluster.queue() == [])  # the probe has said its last word, and leaves by itself
    assert not world.platform.difix(world.cell(exp_name="v1")).samples_dir.exists()
    assert left_of_probes(world) == []
    assert world.run("v1", probe=False, until="difix_data").exit_code == 0


def test_an_interrupt_cancels_the_probe_and_leaves_nothing(world: SlurmWorld, cluster: SlurmCluster) -> None:
    def interrupt(line: str) -> None:
        if "RUNNING" in line:
            raise KeyboardInterrupt

    with world.instance() as instance, pytest.raises(KeyboardInterrupt):
        probe_first(world.platform, instance, "v1", world.pairs("v1"), tell(world, interrupt), asked=True)
    assert cluster.queue() == []
    assert left_of_probes(world) == []
