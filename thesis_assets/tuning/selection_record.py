"""The made-from record of a chosen checkpoint, and its files' paths after a move.

Does not belong here: the choice (`selection`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Set
from pathlib import Path
from typing import Any

from thesis_assets.errors import InvalidFile
from thesis_assets.experiments.spec import RunSpec, Selection
from thesis_assets.launch.telling import tell
from thesis_assets.layout import DifixTree, TuningRunTree
from thesis_assets.provenance import Older, Output, Place, Unit, Wanted, may_rewrite, rewrite, versions_of
from thesis_assets.schemas.tuning import SelectedCheckpoint
from thesis_assets.splits.data_json import renew_paths
from thesis_assets.storage import read_json, sha256_bytes, to_json_bytes, write_bytes
from thesis_assets.tuning.hand_off import overrides_bytes
from thesis_assets.tuning.run_record import checkpoint_place, run_options

SELECTION_VERSION = "1"


def selection_unit(tree: DifixTree, run_name: str, run: RunSpec, evaluated_groups: Set[str]) -> Unit:
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
        code_version=SELECTION_VERSION,
        options=options,
        given=given,
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
    path = str(run_tree.checkpoint(selected.step).absolute())
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
