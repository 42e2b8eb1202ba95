"""What of a run this version can do; the rest is refused before anything starts."""

from thesis_assets.errors import NotBuiltYet
from thesis_assets.experiments.runs import RunSpec


def require_supported(run: RunSpec) -> None:
    """Refuse a run that this version cannot do from beginning to end.

    Raises:
        NotBuiltYet: the backend or number of processes is not there.
    """
    if run.backend != "tiny":
        raise NotBuiltYet(
            "this version trains the tiny backend only",
            key="runs.<run_name>.backend",
            found=run.backend,
            wanted="tiny",
            remedy="set backend: tiny; data.json and its manifests are those of the published trainer, which can be started "
            "on them by hand",
        )
    if run.stable_v100:
        raise NotBuiltYet(
            "the preset stable_v100 means two processes, and this version trains in one",
            key="runs.<run_name>.stable_v100",
            found=True,
            wanted=False,
            remedy="set mixed_precision: no, resolution: 320 and max_grad_norm: 0 for the same without the second process",
        )
    if run.num_processes != 1:
        raise NotBuiltYet(
            "this version trains in one process",
            key="runs.<run_name>.num_processes",
            found=run.num_processes,
            wanted=1,
            remedy="set num_processes: 1, and gradient_accumulation_steps for the same batch",
        )
