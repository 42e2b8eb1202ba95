"""Checks of the data snapshot: complete samples, no leak, manifests and data.json that agree."""

from thesis_assets.defs.checks.outcomes import Outcomes, checks_of
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform
from thesis_assets.schemas.checks import CheckOutcome


def _sample_set(platform: Platform, cell: Cell) -> Outcomes:
    from thesis_assets.samples import integrity
    from thesis_assets.samples.sample_rows import read_rows
    from thesis_assets.samples.shards import read_dropped
    from thesis_assets.samples.snapshot import check_generation_config

    tree = platform.difix(cell)
    spec = platform.spec(cell)
    rows = read_rows(tree.all_samples)
    dropped = read_dropped(tree.dropped_samples)

    def generation_config_unchanged() -> CheckOutcome:
        return check_generation_config(tree, spec.generation, platform.scene_names(spec))

    return {
        "every_sample_complete": lambda: integrity.check_samples_complete(tree, rows),
        "manifest_matches_disk": lambda: integrity.check_manifest_matches_disk(tree, rows),
        "generation_config_unchanged": generation_config_unchanged,
        "dropped_share_below": lambda: integrity.check_dropped_share(len(rows), dropped),
    }


def _split_manifests(platform: Platform, cell: Cell) -> Outcomes:
    from thesis_assets.samples.sample_rows import read_rows
    from thesis_assets.scenes.catalog import known_scenes
    from thesis_assets.splits import leakage
    from thesis_assets.splits.manifests import group_finder, reserved_groups
    from thesis_assets.splits.near_duplicates import check_near_duplicates
    from thesis_assets.splits.photographs import check_photographs

    tree = platform.difix(cell)
    split = platform.spec(cell).split
    group_of = group_finder(split.group_rules)

    def reserved_scenes_not_in_train() -> CheckOutcome:
        return leakage.check_reserved_scenes(train, reserved_groups(split, group_of, {row.dataset for row in rows}))

    rows, train, test = (read_rows(path) for path in (tree.all_samples, tree.split_train, tree.split_test))
    return {
        "group_non_leakage": lambda: leakage.check_group_non_leakage(train, test, group_of),
        "reserved_scenes_not_in_train": reserved_scenes_not_in_train,
        "reserved_scenes_exist": lambda: leakage.check_reserved_exist(split, known_scenes(platform.roots)),
        "group_rule_splits_people": lambda: leakage.check_group_rules(rows, split),
        "splits_partition_all_samples": lambda: leakage.check_partition(rows, train, test),
        "splits_not_empty": lambda: leakage.check_not_empty(train, test, train_only=split.train_only),
        "photographs_across_splits": lambda: check_photographs(tree, train, test, platform.roots),
        "near_duplicates_across_splits": lambda: check_near_duplicates(train, test, platform.roots),
    }


def _difix_data(platform: Platform, cell: Cell) -> Outcomes:
    from thesis_assets.samples.sample_rows import read_rows
    from thesis_assets.splits.data_json import check_data_json, kept_prompt

    tree = platform.difix(cell)
    prompt = kept_prompt(tree, platform.spec(cell).generation.export)
    train, test = read_rows(tree.split_train), read_rows(tree.split_test)
    return {"data_json_matches_manifests": lambda: check_data_json(tree, train, test, prompt)}


DIFIX_DATA_CHECKS = [
    checks_of("sample_set", _sample_set),
    checks_of("split_manifests", _split_manifests),
    checks_of("difix_data", _difix_data),
]
