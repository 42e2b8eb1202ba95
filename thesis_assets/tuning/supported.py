"""What of a run this version can do; the rest is refused before anything starts."""

from thesis_assets.errors import NotBuiltYet
from thesis_assets.experiments.runs import RunSpec


def require_supported(run: RunSpec) -> None:
    """Refuse a run that this version cannot do from beginning to end.

    Raises:
        NotBuiltYet: the backend is not there.
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
