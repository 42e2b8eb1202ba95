"""When a probe job is made before much work that nobody did before, and making it; only for a person's command on a cluster.

Does not belong here: what a probe measures (`evaluation.probe`), or what follows from it (`cost_estimates`).
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace

import dagster as dg

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform
from thesis_assets.graph.states import Pair
from thesis_assets.operations.cost_estimates import PRESET, PastWork, ProbeCosts
from thesis_assets.schemas.probes import Probe
from thesis_assets.storage import cell_lock, write_json

FEW_SCENES = 20
FEW_STEPS = 1000
"""Up to these the work itself is soon done."""
PROBE_MINUTES = 15
"""Of the job, at most: the sooner a cluster finds room for it."""
SKIP = "--no-probe goes on without one"


def probe_first(
    platform: Platform,
    instance: dg.DagsterInstance,
    exp_name: str,
    pairs: Sequence[Pair],
    say: Callable[[str], None],
    *,
    asked: bool | None,
    dry_run: bool = False,
) -> bool:
    """Make the probes that are wanted before the cells of an experiment are made. Returns whether any was.

    Args:
        asked: True: also of little work, and in a dry run; False: none.

    Raises:
        ThesisAssetsError: a probe failed.
    """
    if asked is False:
        return False
    few = {"few_scenes": 0, "few_steps": 0} if asked else {}
    wanted = wanted_probes(platform, instance, pairs, **few)
    if dry_run and not asked and wanted:
        say(
            "there is no past work to go by: the command itself first makes a probe job of about two minutes; --probe makes it now"
        )
        return False
    scenes = [cell.scene_name for asset, cell in pairs if asset == "scene_samples"]
    for cell in wanted:
        names = scenes or platform.scene_names(platform.spec(Cell(exp_name)))
        make_probe(platform, cell, names[0], say)
    return bool(wanted)


def wanted_probes(
    platform: Platform,
    instance: dg.DagsterInstance,
    pairs: Sequence[Pair],
    *,
    few_scenes: int = FEW_SCENES,
    few_steps: int = FEW_STEPS,
) -> list[Cell]:
    """The runs, or the experiment alone, that are to be probed before these cells are made: on a cluster, where there is much to do and
    neither past work nor a kept probe to go by. Runs whose steps take equally long are one."""
    if platform.settings.launcher != "slurm":
        return []
    past, costs = PastWork(platform, instance), ProbeCosts(platform)

    def is_known(asset: str, cell: Cell) -> bool:
        cost = past.cost(asset, cell)
        return cost is not None and cost.of_its_kind

    exports = [cell for asset, cell in pairs if asset == "scene_samples"]
    trained = [cell for asset, cell in pairs if asset == "tuned_checkpoint"]
    new_data = len(exports) > few_scenes and not is_known("scene_samples", exports[0])
    long = [
        cell
        for cell in trained
        if platform.run_spec(cell).backend != "pretrained" and not is_known("tuned_checkpoint", cell)
    ]
    if not (new_data or any(platform.run_spec(cell).max_train_steps > few_steps for cell in long)):
        return []
    exp_name = (exports or trained)[0].exp_name
    if platform.spec(Cell(exp_name)).generation.renders.source == "command":
        return []  # a pipeline of the user's cannot be cut down
    by_kind = {costs.of_run(cell): cell for cell in reversed(long)}
    return list(reversed(by_kind.values())) or [Cell(exp_name)]


def make_probe(platform: Platform, cell: Cell, scene_name: str, say: Callable[[str], None]) -> None:
    """Submit a probe of a run, or of the export alone, wait for it, and keep what it measured. An interrupt cancels the job.

    Raises:
        CellLocked: another command makes the same one.
        ThesisAssetsError: it failed: all of the work would fail of that.
    """
    from thesis_assets.evaluation.probe import ProbeWork, probe
    from thesis_assets.launch.jobs import Call, Calling, Following, Resources
    from thesis_assets.tuning.tuning_run import training_resources

    costs, tree, spec = ProbeCosts(platform), platform.settings.probes, platform.spec(cell)
    key = (costs.of_data(spec), costs.of_run(cell))
    work = ProbeWork(
        experiment=spec,
        scene_name=scene_name,
        run_name=cell.run_name,
        roots=platform.roots,
        folder=(tree.work_dir(*key) / "work").absolute(),
        device=platform.device,
        threads=costs.presets[PRESET].cores,
        of_data=key[0],
        of_run=key[1],
        lpips_weights=platform.settings.lpips_weights,
        body_models=platform.settings.body_models,
    )
    resources = (
        training_resources(platform.run_spec(cell), platform.device) if cell.run_name else Resources(preset=PRESET)
    )
    say(
        f"probe: a job of about two minutes on {scene_name} tells what the work will take, as there is none to go by ({SKIP})"
    )
    call = Call(f"probe {cell}", work, "-".join(key), tree.job(*key))
    calling = Calling[ProbeWork, Probe](
        resources=replace(resources, minutes=PROBE_MINUTES),
        on_line=say,
        following=Following(on_wait=say),
    )
    with cell_lock(tree.lock(*key), f"the probe of {cell}"):
        try:
            (outcome,) = platform.launcher.map(probe, [call], calling)
        finally:
            shutil.rmtree(tree.work_dir(*key), ignore_errors=True)
    if isinstance(outcome, Exception):
        raise ThesisAssetsError(
            f"the probe of {cell} failed, on the first frames of {scene_name}; so would what it stands for",
            found=str(outcome),
            remedy=f"mend what it names, and give the same command again; or {SKIP}",
        ) from outcome
    write_json(tree.kept(*key), outcome)
