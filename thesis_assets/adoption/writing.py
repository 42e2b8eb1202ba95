"""What an adoption writes: `.env`, experiment files, and trees under our names, their images, checkpoints and tables by links.

Nothing is written into the tree that it comes from, and nothing that is there is written over. Does not belong here: the Dagster history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thesis_assets import storage
from thesis_assets.adoption.planned import IMAGES, FoundRows, PlannedRun
from thesis_assets.adoption.scan import Complaint, Findings, FoundRun, FoundScores, FoundSnapshot, walk
from thesis_assets.errors import InvalidExperiment, InvalidFile, ThesisAssetsError
from thesis_assets.experiments import ExperimentSpec
from thesis_assets.experiments.reading import parse_experiment, read_yaml, to_yaml
from thesis_assets.layout import DifixTree, EvaluationTree
from thesis_assets.provenance import take_over
from thesis_assets.samples.sample_rows import rows_sha256, sample_of
from thesis_assets.samples.shards import ADOPTED_FROM, SampleSet, Shard, shard_unit, write_sample_set, write_shard
from thesis_assets.samples.snapshot import write_generation_config
from thesis_assets.scenes.listing import SceneRoots
from thesis_assets.schemas.evaluation import AdoptedTree
from thesis_assets.schemas.samples import SampleMeta, SampleProvenance, SampleRow, ShardStats, SplitSummary
from thesis_assets.schemas.tuning import ADOPTED_COMMAND, CheckpointInfo, TrainConfig
from thesis_assets.splits.data_json import content_of_file, write_data_json
from thesis_assets.splits.manifests import SplitResult, group_finder, write_split_manifests
from thesis_assets.splits.snapshot_guard import freeze
from thesis_assets.tuning.checkpoints import load_checkpoint
from thesis_assets.tuning.run_config import PlainFlags, read_config
from thesis_assets.tuning.run_record import record_run
from thesis_assets.tuning.trainer_start import setting_names

NOT_RECORDED = "not recorded"
SAMPLES_A_LINE = 5000
_HEADER = "# Adopted from {origin}: written once, yours to change.\n"


def environment_text(path: Path, settings: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The text of `.env` with the missing settings added, and those that it has with another value (they stay).

    Returns:
        The whole new text (as it is, where nothing is missing), and name to the value that is there.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    present = dict(
        line.split("=", 1) for line in text.splitlines() if "=" in line and not line.lstrip().startswith("#")
    )
    present = {name.strip().removeprefix("export "): value.strip().strip("'\"") for name, value in present.items()}
    missing = {name: value for name, value in settings.items() if name not in present}
    other = {name: present[name] for name, value in settings.items() if name in present and present[name] != value}
    if not missing:
        return text, other
    lines = [f"{name}={_quoted(value)}" for name, value in missing.items()]
    start = text if not text or text.endswith("\n") else text + "\n"
    return start + "\n".join(lines) + "\n", other


def _quoted(value: str) -> str:
    plain = all(char.isalnum() or char in "/._-:{}~+@," for char in value)
    return value if plain else "'" + value.replace("'", "\\'") + "'"


def write_experiment(
    folder: Path, exp_name: str, value: Mapping[str, Any], origin: Path, complaints: Sequence[Complaint]
) -> Path:
    """Write an experiment file: where it comes from, what was found wrong, and the keys that are not defaults.

    One of that name that is there has the same keys (`free_name`) and stays.

    Raises:
        InvalidExperiment: the text is no valid experiment.
    """
    notes = "".join(f"# - {' '.join(str(complaint).split())}\n" for complaint in complaints)
    found = f"# What was found wrong:\n{notes}" if notes else ""
    whole = {"exp_name": exp_name, **value}
    body = to_yaml(whole)
    text = _HEADER.format(origin=origin) + found + body
    path = folder / f"{exp_name}.yaml"
    parse_experiment(text, path)
    if not path.is_file():
        storage.write_text(path, text)
    return path


def free_name(folder: Path, wanted: str, value: Mapping[str, Any], is_free: Callable[[str], bool]) -> str:
    """The name itself, or where another experiment has it `<name>-adopted`, `<name>-adopted2`, ...

    Args:
        is_free: whether data may be written under a name.
    """
    number = 0
    while True:
        name = wanted if number == 0 else f"{wanted}-adopted{number if number > 1 else ''}"
        path = folder / f"{name}.yaml"
        same = not path.is_file() or _value(path) == {"exp_name": name, **value}
        if same and is_free(name):
            return name
        number += 1


def _value(path: Path) -> object:
    try:
        return read_yaml(path)[0]
    except InvalidExperiment:  # a file that cannot be read is another's all the same
        return None


# --- a snapshot: images by links, records written anew in today's form, then frozen ----------------------------------


def adopt_snapshot(
    found: FoundSnapshot,
    rows: FoundRows,
    spec: ExperimentSpec,
    tree: DifixTree,
    roots: SceneRoots,
    on_progress: Callable[[str], None],
) -> None:
    """Make `tree` from a found snapshot and freeze it: what it was made from is not here to make it again.

    Args:
        spec: the experiment file that was written for it.
    """
    origin = f"{ADOPTED_FROM} {found.folder}"
    with storage.cell_lock(tree.lock("adopt"), f"the snapshot {tree.exp_name}"):
        write_generation_config(tree, spec.generation)
        _link_samples(rows, tree, origin, on_progress)
        shards = [_write_shard(tree, roots, scene, rows, spec, origin) for scene in rows.scenes]
        write_sample_set(tree, SampleSet(rows.rows, [], shards))
        result = SplitResult(rows.half("train"), rows.half("test"), rows.groups("train"), rows.groups("test"))
        write_split_manifests(tree, rows.rows, result, spec.split, [], shards)
        write_data_json(tree, result.train, result.test, spec.generation.export.prompt)
        freeze(tree, reason=origin)


def _link_samples(rows: FoundRows, tree: DifixTree, origin: str, on_progress: Callable[[str], None]) -> None:
    """`samples/` by one rename: a folder a row, its images by links and its meta.json in today's form."""
    with storage.atomic_directory(tree.samples_dir) as staging:
        for number, row in enumerate(rows.rows, start=1):
            folder = staging / row.sample_id
            folder.mkdir()
            mode = "hard_link"
            for name, source in zip(IMAGES, rows.images(row), strict=True):
                if source.is_file():
                    mode = storage.link_or_copy(source, folder / name)
            provenance = SampleProvenance(
                renderer=origin, mask_coverage=None, png_encoder=NOT_RECORDED, target_mode=mode, reference_mode=mode
            )
            meta = SampleMeta(**row.__dict__, provenance=provenance)
            (folder / "meta.json").write_bytes(storage.to_json_bytes(meta))
            if number % SAMPLES_A_LINE == 0:
                on_progress(f"{tree.exp_name}: {number}/{len(rows.rows)} samples linked")


def _write_shard(
    tree: DifixTree, roots: SceneRoots, scene: str, found: FoundRows, spec: ExperimentSpec, origin: str
) -> ShardStats:
    """The scene's rows as a shard. Of what it was made from, only the scene's files as they are now are known, and no renderer."""
    rows = [row for row in found.rows if row.scene_name == scene]
    height, width = _size(tree, rows)
    stats = ShardStats(
        scene_name=scene,
        dataset=rows[0].dataset,
        group_id=rows[0].group_id,
        target_cam_ids=sorted({row.target_cam_id for row in rows}),
        n_total_candidates=len(rows),
        n_saved=len(rows),
        n_dropped=0,
        rows_sha256=rows_sha256(rows),
        image_height=height,
        image_width=width,
        renderer=origin,
        png_encoder=NOT_RECORDED,
        seconds=0.0,
        bytes_written=0,
    )
    write_shard(tree.scene_run(scene), Shard(stats, rows, []))
    # By the rule, as one will ask for it; the rows keep the group that they came with.
    group = group_finder(spec.split.group_rules)(scene)[1]
    take_over(shard_unit(tree, roots, scene, spec.generation, group))
    return stats


def _size(tree: DifixTree, rows: list[SampleRow]) -> tuple[int, int]:
    from thesis_assets.images.codecs import image_size

    for row in rows:
        try:
            return image_size(tree.image(sample_of(row)))
        except InvalidFile:  # every_sample_complete names it
            continue
    return 0, 0


# --- a tuning run: checkpoints by links, with their digests, and a train_config.json that says so --------------------


def adopt_run(planned: PlannedRun, tree: DifixTree, on_progress: Callable[[str], None]) -> None:
    """Link the checkpoints that the declared run says it saves, and write what our checks read beside them."""
    run, spec = planned.found, planned.spec
    target = tree.tuning_run(run.run_name)
    config = _config(planned, tree)
    storage.write_json(target.train_config, config)
    for step, source in _sources(planned).items():
        storage.link_or_copy(source, target.checkpoint(step))
        info = _info(target.checkpoint(step), step, config)
        storage.write_json(target.checkpoint_info(step), info)
        on_progress(f"{tree.exp_name}/{run.run_name}: checkpoint {step} of {info.bytes / 1e6:.0f} MB")
    _link_evaluations(run, tree)
    record_run(tree, run.run_name, spec)


def is_taken_in(planned: PlannedRun, tree: DifixTree) -> bool:
    """Whether the run is there, with what its own configuration says now."""
    target = tree.tuning_run(planned.found.run_name)
    if not all(target.checkpoint_info(step).is_file() for step in planned.spec.saved_steps()):
        return False
    try:
        return read_config(target).flags == _config(planned, tree).flags
    except InvalidFile:  # it was lost
        return False


def _sources(planned: PlannedRun) -> dict[int, Path]:
    """By step of the declared run: the checkpoint that is there."""
    run = planned.found
    if planned.spec.backend == "pretrained":
        return {0: run.checkpoint(run.steps[-1])}
    return {step: run.checkpoint(step) for step in run.steps}


def _config(planned: PlannedRun, tree: DifixTree) -> TrainConfig:
    """What the run's own configuration says, under its names; what nobody wrote down is null."""
    run, spec, noted = planned.found, planned.spec, planned.noted
    summary = storage.read_json(tree.split_summary, SplitSummary)
    settings = {**dict.fromkeys(setting_names(spec.backend)), **planned.stated}
    if spec.backend == "pretrained":
        settings |= {"model": spec.model, "model_sha256": storage.sha256_file(_sources(planned)[0])}
    seed = settings.get("seed")
    return TrainConfig(
        exp_name=tree.exp_name,
        run_name=run.run_name,
        backend=spec.backend,
        flags=settings,
        hyperparameter_digest=PlainFlags(settings, 0).hyperparameter_digest(),
        launch_command=ADOPTED_COMMAND,
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
        device=noted.device if noted is not None else None,
        versions=noted.versions if noted is not None else {},
        git_revision=noted.git_revision if noted is not None else None,
        data_json=str(tree.data_json.absolute()),
        data_json_sha256=content_of_file(tree.data_json).sha256,
        manifest_sha256=summary.manifest_sha256,
        n_train_samples=summary.n_train,
        n_test_samples=summary.n_test,
        notes=[
            f"adopted from {run.folder}: the settings are those of "
            f"{run.config if run.config is not None else 'no file: it has none'}; null is what it does not say",
            *(noted.notes if noted is not None else ()),
        ],
    )


def _info(path: Path, step: int, config: TrainConfig) -> CheckpointInfo:
    try:
        keys = sorted(map(str, load_checkpoint(path)))
    except ThesisAssetsError:  # checkpoint_loads says so
        keys = []
    return CheckpointInfo(
        step=step,
        sha256=storage.sha256_file(path),
        bytes=path.stat().st_size,
        keys=keys,
        metrics={},
        data_json_sha256=config.data_json_sha256,
        hyperparameter_digest=config.hyperparameter_digest,
    )


def _link_evaluations(run: FoundRun, tree: DifixTree) -> None:
    """What lies in the run's `eval/`, by links: pictures and tables of other forms than ours are kept as they are."""
    folder = run.folder / "eval"
    if not folder.is_dir():
        return
    for path in sorted(each for each in folder.rglob("*") if each.is_file() and not each.is_symlink()):
        storage.link_or_copy(path, tree.tuning_run(run.run_name).eval_dir / path.relative_to(folder))


# --- an evaluated tree -----------------------------------------------------------------------------------------------


def mirror(found: FoundScores, target: EvaluationTree, findings: Findings) -> int:
    """Make an evaluated tree by hard links (copies on another file system). Returns the number of files that were new.

    Of a document's tree every file but those of tasks that are left out; of an older form what the document names: metric files, and
    the pictures of what was measured under `viz/`.
    """
    wanted = dict(_older_links(found, target) if found.older else _document_links(found, findings))
    links = {place: source for place, source in wanted.items() if not _is_linked(source, target.base / place)}
    if target.base.exists():  # what came or was mended since an earlier adoption
        for place, source in links.items():
            storage.link_or_copy(source, target.base / place)
    else:
        with storage.atomic_directory(target.base) as staging:
            for place, source in links.items():
                storage.link_or_copy(source, staging / place)
    if found.damaged:
        storage.write_json(target.adopted, AdoptedTree(origin=str(found.folder), damaged=found.damaged))
    else:
        target.adopted.unlink(missing_ok=True)
    return len(links)


def _is_linked(source: Path, target: Path) -> bool:
    """Whether a file is there; a copy of numbers is held against their bytes, one of a picture against its size."""
    if not target.exists():
        return False
    if source.samefile(target):
        return True
    if source.stat().st_size != target.stat().st_size:
        return False
    return source.suffix not in (".csv", ".txt", ".json") or source.read_bytes() == target.read_bytes()


def _document_links(found: FoundScores, findings: Findings) -> Iterator[tuple[Path, Path]]:
    """Every file by its place in the tree."""
    for folder, folders, names in walk(found.folder, Findings(findings.root)):
        if folder.parent.parent == found.folder:
            folders[:] = [name for name in folders if name not in found.left_out]
        for source in (folder / name for name in names):
            if source.exists():
                yield source.relative_to(found.folder), source


def _older_links(found: FoundScores, target: EvaluationTree) -> Iterator[tuple[Path, Path]]:
    for epoch, task in sorted(found.measured):
        for path in target.task(epoch, task).required_files:
            if found.files[epoch, task][path.name].exists():
                yield path.relative_to(target.base), found.files[epoch, task][path.name]
    for (epoch, cam_id, fname), path in found.pictures.items():
        if (epoch, "nvs") in found.measured:
            yield target.task(epoch, "nvs").older_metric_picture(cam_id, fname).relative_to(target.base), path
