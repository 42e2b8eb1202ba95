"""Choosing the checkpoint of a run by its rule, on people one does not report on; its record, and handing it on.

The 3DGS pipeline takes it by `pipeline_overrides.yaml`.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thesis_assets.errors import InvalidExperiment, InvalidFile, Leak, SnapshotChanged
from thesis_assets.experiments.reading import to_yaml
from thesis_assets.experiments.spec import RunSpec, Selection
from thesis_assets.images.lpips_files import find_lpips, lpips_tool
from thesis_assets.launch.telling import tell
from thesis_assets.layout import DifixTree, TuningRunTree
from thesis_assets.provenance import (
    CODE_VERSIONS,
    Older,
    Output,
    Place,
    Unit,
    Wanted,
    begin,
    may_rewrite,
    rewrite,
    versions_of,
)
from thesis_assets.samples.sample_rows import group_key, read_rows
from thesis_assets.schemas.checks import CheckOutcome
from thesis_assets.schemas.samples import GenerationStats, SplitSummary
from thesis_assets.schemas.tuning import CheckpointInfo, CheckpointScore, SelectedCheckpoint, TrainConfig
from thesis_assets.splits.data_json import content_of_file, renew_paths
from thesis_assets.splits.snapshot_guard import recorded_images, refuse_other_images
from thesis_assets.storage import read_json, sha256_bytes, to_json_bytes, write_bytes, write_json
from thesis_assets.tuning.checkpoints import PUBLISHED_KEYS, handed_off, kept_steps, verify_checkpoint
from thesis_assets.tuning.refine import load_refiner
from thesis_assets.tuning.run_config import is_trained_on, kept_run, read_config
from thesis_assets.tuning.run_record import checkpoint_place, run_options
from thesis_assets.tuning.scoring import (
    HeldOutSample,
    Numbers,
    from_rows,
    lpips_where_it_is,
    mean_score,
    score_samples,
    stratified,
    with_records,
)

if TYPE_CHECKING:
    from thesis_assets.images.perceptual import Lpips


MAX_LOADED_BYTES = 4 * 1024**3
"""Checkpoints on disk that are loaded at once. Each sample is decoded once for all of them."""


def select_checkpoint(
    tree: DifixTree,
    run_name: str,
    run: RunSpec,
    *,
    evaluation_groups: Set[str],
    device: str,
    lpips_weights: Path | None = None,
) -> SelectedCheckpoint:
    """Choose, verify and hand off a checkpoint; writes `selected_checkpoint.json` and `pipeline_overrides.yaml`.

    `best_psnr` takes the highest mean PSNR over the drawn test samples, `best_lpips` the lowest mean LPIPS, of equals the
    earliest. Both scores are written for either rule, LPIPS where its weights are. `last` and `step` look at no sample.
    Progress is told (`launch.telling`) to who called.

    Args:
        evaluation_groups: `<dataset>/<group_id>` of every evaluated scene. Groups that the rule names itself are not compared
            with them here but by `check_selection_disjoint`.
        lpips_weights: the folder of the two files of LPIPS; None looks into torch's hub cache.

    Raises:
        Leak: the rule names no groups, and every test group is evaluated; the message proposes a validation group.
        InvalidExperiment: a named group has no test sample.
        SnapshotChanged: data.json is not the one that the run was trained on, or an image of a sample is another one.
        InvalidFile: a checkpoint is missing or damaged, or `best_lpips` lacks its weights.
    """
    require_rule_weights(run.selection, lpips_weights)
    run_tree = tree.tuning_run(run_name)
    run = kept_run(run_tree, run)
    config = read_config(run_tree)
    renew_paths(tree)
    _refuse_other_data(tree, config)
    making = begin(selection_unit(tree, run_name, run, evaluation_groups, lpips_weights))
    scores: list[CheckpointScore] = []
    samples: list[HeldOutSample] = []
    kept = kept_steps(run_tree, run.saved_steps())
    if run.selection.rule in ("best_psnr", "best_lpips"):
        samples = selection_samples(tree, run.selection, evaluation_groups)
        lpips = lpips_where_it_is(lpips_weights, device)
        scores = _score_checkpoints(run_tree, run, samples, device, lpips)
        step = best_step(run.selection.rule, scores)
    else:
        step = run.selection.step if run.selection.step is not None else kept[-1]
    handed = handed_off(run_tree, step)
    info = verify_checkpoint(handed, step)
    stats = read_json(tree.generation_stats, GenerationStats)
    selected = SelectedCheckpoint(
        exp_name=tree.exp_name,
        run_name=run_name,
        rule=run.selection.rule,
        step=step,
        path=str(handed.checkpoint(step).absolute()),
        sha256=info.sha256,
        weights="averaged" if handed != run_tree else "trained",
        scores=scores,
        selection_groups=sorted({sample.group for sample in samples}),
        selection_sample_ids=[sample.sample_id for sample in samples],
        data_json_sha256=config.data_json_sha256,
        manifest_sha256=config.manifest_sha256,
        scene_names=stats.scene_runs,
        backend=config.backend,
        hyperparameter_digest=config.hyperparameter_digest,
        shard_digests=stats.shard_digests,
    )
    write_bytes(run_tree.pipeline_overrides, overrides_bytes(run_tree, selected))
    write_json(run_tree.selected_checkpoint, selected)
    making.finish(selection_files(run_tree))
    return selected


@dataclass(frozen=True)
class SelectionWork:
    """The arguments of `select_checkpoint`, picklable."""

    tree: DifixTree
    run_name: str
    run: RunSpec
    evaluation_groups: frozenset[str]
    device: str
    lpips_weights: Path | None


def choose_checkpoint(work: SelectionWork) -> SelectedCheckpoint:
    """`select_checkpoint` as a call that may run elsewhere."""
    return select_checkpoint(**vars(work))


def require_rule_weights(selection: Selection, lpips_weights: Path | None) -> None:
    """Refuse `best_lpips` without the weights of LPIPS, before anything is trained for it.

    Raises:
        InvalidFile: a file of weights is not there.
    """
    if selection.rule != "best_lpips":
        return

    try:
        find_lpips(lpips_weights)
    except InvalidFile as error:
        raise InvalidFile(
            "the rule best_lpips needs a file of weights that is not there",
            file=error.file,
            key="runs.<run_name>.selection.rule",
            found="best_lpips",
            wanted=error.wanted,
            remedy=f"{error.remedy}; or set rule: best_psnr",
        ) from error


def best_step(rule: str, scores: Sequence[CheckpointScore]) -> int:
    """The step that a scoring rule chooses, of equals the earliest.

    Raises:
        InvalidExperiment: the rule is `best_lpips`, and no sample is large enough for it.
    """
    if rule == "best_psnr":
        return max(scores, key=lambda score: (score.psnr, -score.step)).step
    measured = [(score.lpips, score.step) for score in scores if score.lpips is not None]
    if not measured:
        raise InvalidExperiment(
            "no drawn sample has an LPIPS: it needs images of 16 pixels a side",
            key="runs.<run_name>.selection.rule",
            found=rule,
            wanted="best_psnr, last or step",
        )
    return min(measured)[1]


def selection_samples(tree: DifixTree, selection: Selection, evaluation_groups: Set[str]) -> list[HeldOutSample]:
    """The test samples that a rule scores: of its groups, at most `max_samples`, seeded, even over groups and cameras.

    Raises:
        Leak: no groups are named, and every test group is evaluated.
        InvalidExperiment: a named group has no test sample, or there is none at all.
    """
    rows = read_rows(tree.split_test)
    present = sorted({group_key(row) for row in rows})
    if not present:
        raise InvalidExperiment(
            "there is no test sample to score checkpoints on",
            file=tree.split_test,
            key="runs.<run_name>.selection.rule",
            found=selection.rule,
            wanted="last or step, where everything is in training (split.train_only)",
            remedy="set rule: last, or hold out a group by split.test_groups",
        )
    if selection.groups:
        groups = _named_groups(selection.groups, present)
    else:
        groups = {group for group in present if group not in evaluation_groups}
        if not groups:
            proposal = propose_group(read_json(tree.split_summary, SplitSummary), set(present), "<run_name>")
            raise Leak(
                "every test group is evaluated, so scoring checkpoints on any of them would choose on the people one reports on",
                key="runs.<run_name>.selection.groups",
                found=", ".join(present),
                wanted="a validation group: held out, and not evaluated",
                remedy=f"{proposal}; or evaluate fewer scenes (evaluation.scenes); or set rule: last",
            )
    chosen = [row for row in rows if group_key(row) in groups]
    refuse_other_images(tree, chosen)
    recorded = recorded_images(tree, {row.scene_name for row in chosen})
    return with_records(stratified(from_rows(tree, chosen), selection.max_samples, selection.seed), recorded)


def _score_checkpoints(
    run_tree: TuningRunTree, run: RunSpec, samples: Sequence[HeldOutSample], device: str, lpips: Lpips | None
) -> list[CheckpointScore]:
    kept = kept_steps(run_tree, run.saved_steps())
    sizes = {step: verify_checkpoint(handed_off(run_tree, step), step).bytes for step in kept}
    unrefined: dict[str, Numbers] = {}
    found: list[CheckpointScore] = []
    for steps in _loaded_together(sizes, MAX_LOADED_BYTES):
        refiners = {step: load_refiner(handed_off(run_tree, step).checkpoint(step), device) for step in steps}

        def report(place: int, _images: object, steps: Sequence[int] = steps) -> None:
            if place + 1 == len(samples) or (place + 1) % 20 == 0:
                tell(f"scored {place + 1} of {len(samples)} samples under steps {', '.join(map(str, steps))}")

        scores = score_samples(refiners, samples, lpips=lpips, unrefined=unrefined, on_sample=report)
        found += [mean_score(step, of_step) for step, of_step in scores.items()]
        del refiners, scores
    return found


def _loaded_together(sizes: Mapping[int, int], limit: int) -> Iterator[list[int]]:
    """Steps in their order, as many at a time as `limit` bytes hold, one at least."""
    together: list[int] = []
    for step, size in sizes.items():
        if together and size + sum(sizes[other] for other in together) > limit:
            yield together
            together = []
        together.append(step)
    if together:
        yield together


def _named_groups(names: Sequence[str], present: Sequence[str]) -> set[str]:
    """Full names of the rule's groups: `pair02` means the group of that id, `hi4d/pair02` that of one dataset."""
    groups: set[str] = set()
    for name in names:
        meant = [group for group in present if name in (group, group.partition("/")[2])]
        if len(meant) != 1:
            raise InvalidExperiment(
                "a selection group has no test sample" if not meant else "a selection group stands in several datasets",
                key="runs.<run_name>.selection.groups",
                found=name if not meant else f"{name}: {', '.join(meant)}",
                wanted=", ".join(present),
                remedy="name one of the test groups, as <dataset>/<group> where the bare name is not enough",
            )
        groups.add(meant[0])
    return groups


def _refuse_other_data(tree: DifixTree, config: TrainConfig) -> None:
    if not is_trained_on(tree, config):
        raise SnapshotChanged(
            "the run was trained on another data.json than the one that is there",
            file=tree.data_json,
            key="data_json_sha256",
            found=content_of_file(tree.data_json).sha256 if tree.data_json.is_file() else "no such file",
            wanted=config.data_json_sha256,
            remedy="restore the snapshot's files, or train on the new data under another exp_name",
        )


def check_selection_disjoint(
    selected: SelectedCheckpoint, evaluation_groups: Set[str], summary: SplitSummary
) -> CheckOutcome:
    """The check `selection_disjoint_from_evaluation`: no one whose images chose the checkpoint is reported on.

    Args:
        evaluation_groups: `<dataset>/<group_id>` of every evaluated scene.
        summary: of the snapshot, for the group that is proposed in their place.
    """
    evaluated = {group.casefold() for group in evaluation_groups}
    both = sorted(group for group in selected.selection_groups if group.casefold() in evaluated)
    chosen = f"rule {selected.rule} looked at {len(selected.selection_sample_ids)} samples"
    message = (
        f"{chosen}; the checkpoint was chosen on people that are evaluated: {', '.join(both)}. "
        f"For a validation group, {propose_group(summary, evaluation_groups, selected.run_name)}"
        if both
        else f"{chosen} of {', '.join(selected.selection_groups) or 'no group'}; none of them is evaluated"
    )
    counts = {"selection_groups": len(selected.selection_groups), "evaluation_groups": len(evaluation_groups)}
    return CheckOutcome.of(both, message=message, counts=dict(counts))


def propose_group(summary: SplitSummary, evaluation_groups: Set[str], run_name: str) -> str:
    """What to do for a validation group: a held-out one that is not evaluated, else one of the training, else more scenes."""
    free = sorted(set(summary.test_group_ids) - evaluation_groups)
    if free:
        return f"name {free[0]} in runs.{run_name}.selection.groups"
    training = [group for group in summary.train_group_ids if group not in evaluation_groups]
    if len(training) > 1:
        return (
            f"hold out {training[-1]} too (in split.test_groups of a fork: this snapshot is frozen) and name it in "
            f"runs.{run_name}.selection.groups"
        )
    return f"add scenes of one more group, hold it out, and name it in runs.{run_name}.selection.groups"


def selection_unit(
    tree: DifixTree, run_name: str, run: RunSpec, evaluated_groups: Set[str], lpips_weights: Path | None = None
) -> Unit:
    """The chosen checkpoint and its hand-off as a thing that is made.

    Args:
        evaluated_groups: `<dataset>/<group_id>` of every evaluated scene: where the rule names no groups, it scores the others.
    """
    rule = run.selection
    options, given = (_options(run_name, rule, each) for each in (set(Selection.model_fields), rule.model_fields_set))
    upstream = {"tuned_checkpoint": checkpoint_place(tree, run_name)}
    if _scores(rule):
        upstream["difix_data"] = Place(tree.base, tree.made_from("difix_data"))
        if not rule.groups:
            reported = {"evaluation": {"groups": sorted(evaluated_groups)}}
            options, given = {**options, **reported}, {**given, **reported}
    wanted = Wanted(
        step="selected_checkpoint",
        code_version=CODE_VERSIONS["selected_checkpoint"],
        options=options,
        given=given,
        tools=lpips_tool(lpips_weights) if _scores(rule) else {},
        made=versions_of(upstream),
    )
    place = selection_place(tree, run_name)
    name = f"selected_checkpoint of {tree.exp_name}, {run_name}"
    return Unit(name, place, wanted, lambda: _older(tree.tuning_run(run_name), run_name, wanted.options))


def _scores(rule: Selection) -> bool:
    return rule.rule.startswith("best_")


def _options(run_name: str, rule: Selection, names: Set[str]) -> dict[str, Any]:
    """Those of the named ones that the rule looks at."""
    looked_at = {"rule", *(("max_samples", "groups", "seed") if _scores(rule) else ("step",))}
    return run_options(run_name, {"selection": rule.model_dump(mode="json", include=looked_at & names)})


def selection_place(tree: DifixTree, run_name: str) -> Place:
    """Where a run's choice and its record lie."""
    run_tree = tree.tuning_run(run_name)
    return Place(run_tree.base, run_tree.made_from("selected_checkpoint"))


def selection_files(run_tree: TuningRunTree) -> list[Path]:
    """What choosing writes."""
    return [run_tree.selected_checkpoint, run_tree.pipeline_overrides]


def _older(run_tree: TuningRunTree, run_name: str, options: Any) -> Older | None:
    files = selection_files(run_tree)
    try:
        rule = read_json(run_tree.selected_checkpoint, SelectedCheckpoint).rule
    except InvalidFile:
        return None
    wanted = next(iter(options["runs"].values()))["selection"]
    then = {**options, **run_options(run_name, {"selection": {**wanted, "rule": rule}})}
    return Older(files, options=then) if all(path.is_file() for path in files) else None


def renew_hand_off(tree: DifixTree, run_name: str) -> bool:
    """Write the two files anew where the run has moved since: they hold the checkpoint's path. Returns whether they were.

    Raises:
        InvalidFile: `selected_checkpoint.json` cannot be read.
    """
    run_tree = tree.tuning_run(run_name)
    if not run_tree.selected_checkpoint.is_file():
        return False
    selected = read_json(run_tree.selected_checkpoint, SelectedCheckpoint)
    path = str(handed_off(run_tree, selected.step).checkpoint(selected.step).absolute())
    if selected.path == path:
        return False
    there = selected.model_copy(update={"path": path})
    contents = {
        run_tree.pipeline_overrides: overrides_bytes(run_tree, there),
        run_tree.selected_checkpoint: to_json_bytes(there),
    }
    place = selection_place(tree, run_name)
    outputs = {place.name(each): Output(len(new), sha256_bytes(new)) for each, new in contents.items()}
    if not may_rewrite(place, outputs):
        return False
    rewrite(place, outputs)
    # The one that says where they were written for is the last.
    for each, new in contents.items():
        write_bytes(each, new)
    tell(f"{run_tree.pipeline_overrides}: written anew, since the run was moved here from {selected.path}")
    return True


def renew_places(tree: DifixTree) -> bool:
    """Everything of a snapshot that holds absolute paths, after a move. Returns whether anything was written.

    A choice that cannot be read, or whose checkpoint's side file cannot, is damaged, which a look says: it is made again, not renewed.
    """
    renewed = renew_paths(tree)
    for path in sorted(tree.tuning_runs_dir.glob("*/selected_checkpoint.json")):
        with contextlib.suppress(InvalidFile):
            renewed = renew_hand_off(tree, path.parent.name) or renewed
    return renewed


CHECKPOINT_KEY = "train.difix.model_checkpoint_path"
DIRECTORY_KEY = "train.difix.model_id"


def overrides_bytes(tree: TuningRunTree, selected: SelectedCheckpoint) -> bytes:
    """The content of `pipeline_overrides.yaml`. `InvalidFile`: the checkpoint's side file cannot be read."""
    published = set(read_json(tree.checkpoint_info(selected.step), CheckpointInfo).keys) >= set(PUBLISHED_KEYS)
    return pipeline_overrides(selected, as_directory=published).encode("utf-8")


def pipeline_overrides(selected: SelectedCheckpoint, *, as_directory: bool = False) -> str:
    """The overrides as YAML, with Hydra's form for the command line above them.

    Args:
        as_directory: say also how the checkpoint becomes a directory, the form that pipelines of today read.
    """
    value: object = selected.path
    for key in reversed(CHECKPOINT_KEY.split(".")):
        value = {key: value}
    lines = [
        f"# Checkpoint of {selected.exp_name}/{selected.run_name}, step {selected.step}, rule {selected.rule}; "
        f"{'averaged weights (EMA)' if selected.weights == 'averaged' else 'weights as trained'}.",
        f"# sha256 {selected.sha256}",
        "# On Hydra's command line; the plus adds a key that the pipeline's configuration does not have yet:",
        f"#   {hydra_override(selected)}",
    ]
    if as_directory:
        directory = str(Path(selected.path).with_suffix(""))
        lines += [
            "# Where it reads diffusers directories only, convert the checkpoint first:",
            f"#   thesis-assets checkpoint convert --checkpoint {shlex.quote(selected.path)} --out {shlex.quote(directory)}",
            f"#   {directory_override(directory)}",
        ]
    return "\n".join([*lines, to_yaml(value)])


def hydra_override(selected: SelectedCheckpoint) -> str:
    """`'+train.difix.model_checkpoint_path="<path>"'`, quoted for the shell and for Hydra's own grammar."""
    return _override(f"+{CHECKPOINT_KEY}", selected.path)


def directory_override(directory: str) -> str:
    """`'train.difix.model_id="<directory>"'`, for a converted directory: the pipeline has this key."""
    return _override(DIRECTORY_KEY, directory)


def _override(key: str, path: str) -> str:
    quoted = path.replace("\\", "\\\\").replace('"', '\\"').replace("'", "'\\''")
    return f"""'{key}="{quoted}"'"""
