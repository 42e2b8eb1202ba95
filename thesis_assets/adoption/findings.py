"""What a folder was found to hold: snapshots, runs, evaluated scenes, configuration; and what is wrong with them."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Complaint:
    """Something that is not as it should be, where, and what was done about it or is left to do."""

    place: Path
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}; {self.remedy}"


@dataclass(frozen=True)
class FoundRun:
    """A folder of `tuning_runs/`. `config`: its `meta/run_config.yaml` or `train_config.json`, where there is one."""

    folder: Path
    run_name: str
    steps: tuple[int, ...]
    config: Path | None


@dataclass(frozen=True)
class FoundSnapshot:
    """A tree of the data document, of today's form or the older one (`rcam` ids, rows with `split`)."""

    folder: Path
    exp_name: str
    runs: tuple[FoundRun, ...]


@dataclass(frozen=True)
class FoundScores:
    """One evaluated scene.

    Attributes:
        folder: the tree itself (`<output_dir>/<exp_name>`, or `<scene>/evaluation/<exp>` of the older form).
        files: by (epoch, task): the metric files by name, for the older form; empty for the document's.
        pictures: older pictures of what was measured, by (epoch, camera, frame).
    """

    folder: Path
    exp_name: str
    run_name: str
    scene_name: str
    epochs: tuple[int, ...]
    tasks: tuple[str, ...]
    older: bool
    files: dict[tuple[int, str], dict[str, Path]] = field(default_factory=dict, hash=False, compare=False)
    pictures: dict[tuple[int, int, str], Path] = field(default_factory=dict, hash=False, compare=False)


@dataclass(frozen=True)
class FoundConfiguration:
    """`configs/paths.yaml`, its references resolved: values by the names of our settings."""

    file: Path
    settings: dict[str, str]


@dataclass(frozen=True)
class FoundSceneFiles:
    """A folder of scene JSON files: the registry, or a subset of it."""

    folder: Path
    scenes: tuple[str, ...]


@dataclass
class Findings:
    """Everything found below one folder."""

    root: Path
    snapshots: list[FoundSnapshot] = field(default_factory=list)
    scores: list[FoundScores] = field(default_factory=list)
    configurations: list[FoundConfiguration] = field(default_factory=list)
    scene_files: list[FoundSceneFiles] = field(default_factory=list)
    complaints: list[Complaint] = field(default_factory=list)

    def complain(self, place: Path, problem: str, remedy: str) -> None:
        self.complaints.append(Complaint(place, problem, remedy))

    @property
    def is_empty(self) -> bool:
        return not (self.snapshots or self.scores or self.configurations or self.scene_files)
