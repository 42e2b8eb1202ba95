"""What a probe job measured, kept until there is past work to go by."""

from thesis_assets.schemas.base import FileModel


class StepCost(FileModel):
    """Seconds of a job of one asset: `start` once, `unit` for each triplet, training step or evaluated view."""

    start: float
    unit: float


class Probe(FileModel):
    """`probes/<what the data is made by>-<what the run is made by>.json` of the data home.

    Attributes:
        of_data: digest of the settings that the export's speed depends on; `of_run`: those of training and evaluation.
        costs: by asset. `tuned_checkpoint` is absent where no run was asked for; `predictions` and `nvs` where it is not evaluated by
            refined renders, or the scene has no view to compare.
        seconds_a_save: of one checkpoint of the run.
    """

    of_data: str
    of_run: str
    measured_at: str
    scene_name: str
    run_name: str
    costs: dict[str, StepCost]
    seconds_a_save: float = 0.0
