"""Turning a finished world into what the version before records left: side files with digests of sizes and times, no records."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from thesis_assets.graph.cells import Cell
from thesis_assets_tests.splits.snapshots import as_older
from thesis_assets_tests.worlds import World

STAMP = "0" * 64
"""A digest of sizes and times; after a copy nobody can say of what."""
SAMPLE_KEYS = ("renderer", "mask_coverage", "png_encoder", "target_mode", "reference_mode")


def as_the_version_before(world: World) -> None:
    """The trees of the world's experiment `small`, as that version would have left them."""
    difix = world.platform.difix(Cell("small"))
    for recording in [*world.home.rglob("*.rrd")]:
        record = recording.with_suffix(".made_from.json")
        noted = json.loads(record.read_text())["noted"]
        side = {"input_digest": STAMP, "rerun_sdk": "0.41.0", "bytes": recording.stat().st_size}
        recording.with_suffix(".inputs.json").write_text(json.dumps({**side, "absent": noted.get("absent", [])}))
    as_older(difix)
    for path in [*world.home.rglob("*made_from.json"), *world.home.rglob("*made_from.stats.json")]:
        path.unlink()
    stamped = {"generation_digest": STAMP, "scene_digest": STAMP}
    stamped_files = (*difix.scene_runs_dir.glob("*/run_stats.json"), difix.generation_stats, difix.frozen)
    _edit((path for path in stamped_files if path.is_file()), lambda value: {**value, **stamped})
    _edit(difix.samples_dir.glob("*/meta.json"), _older_meta)
    for name in ("predictions.json", "protocol.json", "input_data.json", "artifacts.json"):
        _edit(world.settings.results_root.rglob(name), lambda value: {**value, "input_digest": STAMP})


def _older_meta(value: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value["provenance"][key] for key in SAMPLE_KEYS}
    return {**value, "provenance": {"generation_digest": STAMP, "scene_digest": STAMP, **kept}}


def _edit(paths: Iterable[Path], change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    for path in list(paths):
        value = change(json.loads(path.read_text()))
        path.unlink()  # it may have other names
        path.write_text(json.dumps(value))
