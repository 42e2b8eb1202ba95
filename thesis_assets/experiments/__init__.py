"""What a user writes in `experiments/<exp_name>.yaml`: the models of all parts, and reading them."""

from thesis_assets.experiments.reading import ExperimentFolder, read_experiment
from thesis_assets.experiments.spec import ExperimentSpec

__all__ = ["ExperimentFolder", "ExperimentSpec", "read_experiment"]
