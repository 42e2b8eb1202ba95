"""Choosing the checkpoint of a run by its rule, on people one does not report on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_assets.errors import InvalidExperiment, InvalidFile, SnapshotChanged
from thesis_assets.experiments.spec import RunSpec, Selection
from thesis_assets.layout import DifixTree
from thesis_assets.provenance import begin
from thesis_assets.samples.sample_rows import group_key, read_rows
from thesis_assets.schemas.samples import GenerationStats, SampleRow, SplitSummary
from thesis_assets.schemas.tuning import CheckpointScore, SelectedCheckpoint, TrainConfig
from thesis_assets.splits.data_json import content_of_file, renew_paths
from thesis_assets.splits.snapshot_guard import recorded_images, refuse_other_images
from thesis_assets.storage import read_json, write_bytes, write_json
from thesis_assets.tuning.checkpoints import kept_steps, verify_checkpoint
from thesis_assets.tuning.hand_off import overrides_bytes
from thesis_assets.tuning.held_out_samples import HeldOutSample, from_rows, stratified, with_records
from thesis_assets.tuning.kept_settings import kept_run
from thesis_assets.tuning.run_config import is_trained_on
from thesis_assets.tuning.selection_record import selection_files, selection_unit
from thesis_assets.tuning.validation_groups import every_group_is_evaluated

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
    on_progress: Callable[[str], None] | None = None,
) -> SelectedCheckpoint:
    """Choose, verify and hand off a checkpoint; writes `selected_checkpoint.json` and `pipeline_overrides.yaml`.

    `best_psnr` takes the highest mean PSNR over the drawn test samples, `best_lpips` the lowest mean LPIPS, of equals the
    earliest. Both scores are written for either rule, LPIPS where its weights are. `last` and `step` look at no sample.

    Args:
        evaluation_groups: `<dataset>/<group_id>` of every evaluated scene. Groups that the rule names itself are not compared
            with them here but by `validation_groups.check_selection_disjoint`.
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
    config = read_json(run_tree.train_config, TrainConfig)
    renew_paths(tree)
    _refuse_other_data(tree, config)
    making = begin(selection_unit(tree, run_name, run, evaluation_groups))
    scores: list[CheckpointScore] = []
    samples: list[HeldOutSample] = []
    if run.selection.rule in ("best_psnr", "best_lpips"):
        samples = selection_samples(tree, run.selection, evaluation_groups)
        lpips = _lpips_where_it_is(lpips_weights, device)
        scores = _score_checkpoints(tree, run_name, run, samples, device, lpips, on_progress)
        step = best_step(run.selection.rule, scores)
    else:
        step = run.selection.step if run.selection.step is not None else run.saved_steps()[-1]
    info = verify_checkpoint(run_tree, step)
    stats = read_json(tree.generation_stats, GenerationStats)
    selected = SelectedCheckpoint(
        exp_name=tree.exp_name,
        run_name=run_name,
        rule=run.selection.rule,
        step=step,
        path=str(run_tree.checkpoint(step).absolute()),
        sha256=info.sha256,
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


def require_rule_weights(selection: Selection, lpips_weights: Path | None) -> None:
    """Refuse `best_lpips` without the weights of LPIPS, before anything is trained for it.

    Raises:
        InvalidFile: a file of weights is not there.
    """
    if selection.rule != "best_lpips":
        return
    from thesis_assets.images.lpips_files import find_lpips

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


def _lpips_where_it_is(folder: Path | None, device: str) -> Lpips | None:
    from thesis_assets.images.lpips_files import find_lpips
    from thesis_assets.images.perceptual import load_lpips

    try:
        find_lpips(folder)
    except InvalidFile:
        return None
    return load_lpips(folder, device)


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
            raise every_group_is_evaluated(read_json(tree.split_summary, SplitSummary), present)
    chosen = _of_groups(rows, groups)
    refuse_other_images(tree, chosen)
    recorded = recorded_images(tree, {row.scene_name for row in chosen})
    return with_records(stratified(from_rows(tree, chosen), selection.max_samples, selection.seed), recorded)


def _score_checkpoints(
    tree: DifixTree,
    run_name: str,
    run: RunSpec,
    samples: Sequence[HeldOutSample],
    device: str,
    lpips: Lpips | None,
    on_progress: Callable[[str], None] | None,
) -> list[CheckpointScore]:
    from thesis_assets.tuning.refine import load_refiner
    from thesis_assets.tuning.scoring import Numbers, mean_score, score_samples

    run_tree = tree.tuning_run(run_name)
    sizes = {step: verify_checkpoint(run_tree, step).bytes for step in kept_steps(run_tree, run.saved_steps())}
    unrefined: dict[str, Numbers] = {}
    found: list[CheckpointScore] = []
    for steps in _loaded_together(sizes, MAX_LOADED_BYTES):
        refiners = {step: load_refiner(run_tree.checkpoint(step), device) for step in steps}

        def report(place: int, _images: object, steps: Sequence[int] = steps) -> None:
            if on_progress and (place + 1 == len(samples) or (place + 1) % 20 == 0):
                on_progress(f"scored {place + 1} of {len(samples)} samples under steps {', '.join(map(str, steps))}")

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


def _of_groups(rows: Sequence[SampleRow], groups: Set[str]) -> list[SampleRow]:
    return [row for row in rows if group_key(row) in groups]


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
