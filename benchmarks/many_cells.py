"""A data home with many scenes and experiments, and a Dagster history of them: what sensors and the UI have to cope with."""

import os
from pathlib import Path

import dagster as dg

from thesis_assets import storage
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import NODES
from thesis_assets.graph.platform import Platform
from thesis_assets.layout import frame_name
from thesis_assets.operations.registration import plan_registration, register
from thesis_assets.provenance import Contents, begin
from thesis_assets.settings import Settings

CAMERAS = tuple(range(4, 100, 12))
N_FRAMES = 20
THUMBNAIL = "x" * 20_000
"""As long as the picture that a shard's materialization carries."""


def settings_of(home: Path) -> Settings:
    return Settings(
        _env_file=None,
        data_home=home,
        experiments_dir=home / "experiments",
        dagster_home=home / "dagster_home",
        device="cpu",
        quiet_seconds=0,
    )


def make_home(
    home: Path,
    n_scenes: int,
    n_experiments: int,
    *,
    scenes_each: int | None = None,
    n_runs: int = 1,
    n_frames: int = N_FRAMES,
) -> Platform:
    """Scenes of eight cameras, made of hard links, and experiments with runs of their own.

    Args:
        scenes_each: how many each experiment matches, none in two; None: all of them.
    """
    platform = Platform(settings_of(home))
    for number in range(n_scenes):
        seed = home / "seeds" / str(number)  # a file has 65,000 names at most on ext4
        storage.write_bytes(seed, b"not looked into")
        part = "hug" if scenes_each is None else f"part{number // scenes_each}"
        _make_scene(platform, f"hi4d_pair{number:04d}_{part}", seed, n_frames)
    for number in range(n_experiments):
        name, part = f"v{number}", "hug" if scenes_each is None else f"part{number}"
        text = f"exp_name: {name}\ngeneration: {{scenes: ['hi4d_*_{part}'], renders: {{source: precomputed}}}}\n"
        runs = ", ".join(f"{name}_r{run}: {{max_train_steps: 10}}" for run in range(n_runs))
        text += f"split: {{train_only: true}}\nruns: {{{runs}}}\n"
        storage.write_text(platform.settings.experiments_dir / f"{name}.yaml", text)
    return platform


def _make_scene(platform: Platform, name: str, seed: Path, n_frames: int) -> None:
    tree = platform.roots.tree(name)
    storage.write_json(tree.registry_entry, {"seq_name": name, "cam_id": CAMERAS[0]})
    storage.write_text(tree.estimated.preprocess_info, "status: success\n")
    for cam_id in CAMERAS:
        first = frame_name(0)
        places = (
            tree.ground_truth.image(cam_id, first),
            tree.ground_truth.camera(cam_id, first),
            tree.render(cam_id, first),
        )
        for place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
            for frame in range(n_frames):
                os.link(seed, place.with_name(f"{frame_name(frame)}{place.suffix}"))


def report_shards(platform: Platform, instance: dg.DagsterInstance) -> int:
    """Record and report of every declared shard that it was made from what is there now. Returns how many there are."""
    count = 0
    register(instance, plan_registration(platform, instance))
    contents = Contents()
    for spec in platform.readable_experiments():
        for scene_name in platform.scene_names(spec):
            cell = Cell(spec.exp_name, scene_name=scene_name)
            metadata = {"preview": dg.MetadataValue.md(THUMBNAIL)}
            instance.report_runless_asset_event(
                dg.AssetMaterialization("scene_samples", partition=cell.key, metadata=metadata)
            )
            stats = platform.difix(cell).scene_run(scene_name).run_stats
            stats.parent.mkdir(parents=True)
            stats.write_text("{}")
            (unit,) = NODES["scene_samples"].units(platform, cell)
            begin(unit, contents).finish([stats], flush=False)
            count += 1
    return count
