"""Samples of several recipes: who gets which, where its render is read from, what the command is told, and where it all stands."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from thesis_assets import storage
from thesis_assets.errors import InvalidScene, SnapshotChanged
from thesis_assets.experiments.spec import GenerationSpec
from thesis_assets.images.codecs import encode_png, read_rgb
from thesis_assets.layout import SampleId, frame_name
from thesis_assets.provenance import CODE_VERSIONS, read_record
from thesis_assets.provenance.record import identity_of
from thesis_assets.rendering import command_renders
from thesis_assets.rendering.command_renders import RenderCommandFailed
from thesis_assets.samples.export import ShardWork, export_shard
from thesis_assets.samples.plan import plan_scene
from thesis_assets.samples.recipes import off_share, share_out
from thesis_assets.samples.shards import read_dropped, read_shard
from thesis_assets.samples.snapshot import shard_place
from thesis_assets.samples.triplet_export import scene_renderer
from thesis_assets.scenes.catalog import check_scene, describe_scene
from thesis_assets.scenes.scene import open_scene
from thesis_assets.schemas.samples import SampleMeta, SplitSummary
from thesis_assets_tests.samples.tiny_scenes import generation, image, look, roots, work, write_scene
from thesis_assets_tests.splits.rows import group_of
from thesis_assets_tests.splits.snapshots import SPLIT

NAME = "hi4d_pair00_dance"
CROSS = {"name": "cross", "share": 0.5}
UNDERFIT = {"name": "underfit", "share": 0.3, "schedule": [0.25, 0.75], "iterations": 1000}
SPARSE = {"name": "sparse", "share": 0.2, "every": 3}
RECIPES = [CROSS, UNDERFIT, SPARSE]
FOLDERS = ("cross", "underfit-0.25", "underfit-0.75", "sparse")


def section(*recipes: dict[str, Any], **parts: Any) -> GenerationSpec:
    return generation(recipes=list(recipes), **parts)


def samples(scene: str, n_frames: int, cameras: tuple[int, ...] = (16,)) -> list[SampleId]:
    names = [frame_name(number) for number in range(n_frames)]
    return [SampleId(scene, cam_id, 4, name, name) for name in names for cam_id in cameras]


def frames(n: int) -> list[str]:
    return [frame_name(number) for number in range(n)]


# --- who gets which --------------------------------------------------------------------------------------------------


@given(
    weights=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    n_frames=st.integers(0, 60),
    cameras=st.integers(1, 4),
    seed=st.integers(0, 9),
    order=st.randoms(use_true_random=False),
)
def test_every_sample_has_one_recipe_and_shares_come_out_to_a_sample(
    weights: list[int], n_frames: int, cameras: int, seed: int, order: random.Random
) -> None:
    shares = [weight / sum(weights) for weight in weights]
    recipes = [{"name": f"r{place}", "share": share} for place, share in enumerate(shares)]
    own = section(*recipes, recipe_seed=seed)
    every = samples(NAME, n_frames, tuple(range(16, 16 + cameras)))
    found = share_out(every, frames(n_frames), own)
    assert found.keys() == set(every)
    counts = Counter(renders.recipe.name for renders in found.values())
    for place, share in enumerate(shares):
        assert abs(counts[f"r{place}"] - share * len(every)) <= 1 + 1e-6
    shuffled = list(every)
    order.shuffle(shuffled)
    assert share_out(shuffled, frames(n_frames), own) == found


@given(n_frames=st.integers(2, 50), every=st.integers(2, 7), cameras=st.integers(1, 3))
def test_samples_of_a_sparse_recipe_are_at_frames_that_it_does_not_train_on(
    n_frames: int, every: int, cameras: int
) -> None:
    own = section({**CROSS, "share": 0.6}, {**SPARSE, "share": 0.4, "every": every})
    wanted = samples(NAME, n_frames, tuple(range(16, 16 + cameras)))
    found = share_out(wanted, frames(n_frames), own)
    assert found.keys() == set(wanted)
    sparse = [sample for sample, renders in found.items() if renders.recipe.name == "sparse"]
    assert all(int(sample.target_fname) % every for sample in sparse)
    free = sum(int(sample.target_fname) % every != 0 for sample in wanted)
    assert len(sparse) >= min(free, int(0.4 * len(wanted)))


def test_many_small_scenes_come_out_at_the_shares_together() -> None:
    own = section(*RECIPES)
    counts: Counter[str] = Counter()
    for number in range(2000):
        scene = f"hi4d_pair{number:04d}_dance"
        found = share_out(samples(scene, 3), frames(3), own)
        counts.update(renders.recipe.name for renders in found.values())
    assert sum(counts.values()) == 6000
    assert off_share(own.recipes, counts) == []


def test_a_scene_does_not_change_the_recipes_of_another() -> None:
    own = section(*RECIPES)
    alone = share_out(samples(NAME, 30), frames(30), own)
    assert share_out(samples("hi4d_pair01_dance", 7), frames(7), own) != {}
    assert share_out(samples(NAME, 30), frames(30), own) == alone


def test_another_seed_draws_others() -> None:
    every = samples(NAME, 60)
    one, other = (share_out(every, frames(60), section(*RECIPES, recipe_seed=seed)) for seed in (0, 1))
    assert one != other


def test_a_schedule_shares_its_samples_out_evenly() -> None:
    found = share_out(samples(NAME, 100), frames(100), section(*RECIPES))
    folders = Counter(renders.folder for renders in found.values())
    assert set(folders) == set(FOLDERS)
    assert abs(folders["underfit-0.25"] - folders["underfit-0.75"]) <= 1


def test_where_every_recipe_trains_on_a_frame_it_has_no_sample() -> None:
    own = section({**SPARSE, "share": 0.5}, {"name": "rare", "share": 0.5, "every": 2})
    found = share_out(samples(NAME, 12), frames(12), own)
    assert {int(sample.target_fname) for sample in found} == set(range(12)) - {0, 6}


def test_a_share_that_cannot_be_met_goes_to_the_others_and_is_told() -> None:
    own = section({**CROSS, "share": 0.1}, {**SPARSE, "share": 0.9, "every": 2})
    found = share_out(samples(NAME, 10), frames(10), own)
    counts = Counter(renders.recipe.name for renders in found.values())
    assert counts == {"sparse": 5, "cross": 5}
    assert off_share(own.recipes, counts) == [
        "recipe cross: 50.0% of 10 samples, 10.0% asked for",
        "recipe sparse: 50.0% of 10 samples, 90.0% asked for",
    ]


def test_a_recipe_that_lacks_samples_altogether_is_told_and_one_percent_is_not() -> None:
    recipes = section({**CROSS, "share": 0.9}, {**SPARSE, "share": 0.1}).recipes
    assert off_share(recipes, {"cross": 909, "sparse": 91}) == []
    assert len(off_share(recipes, {"cross": 100})) == 2
    assert off_share(recipes, {}) == []


# --- folders of renders ----------------------------------------------------------------------------------------------

N_FRAMES = 12


def shade(folder: str) -> np.ndarray:
    return image(FOLDERS.index(folder) + 1) // 2


def write_renders(base: Path, *folders: str, name: str = NAME) -> None:
    for folder in folders:
        for fname in frames(N_FRAMES):
            storage.write_bytes(roots(base).tree(name, folder).render(16, fname), encode_png(shade(folder)))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """One scene, with renders of four folders and none beside them."""
    write_scene(roots(tmp_path), frames=range(N_FRAMES))
    shutil.rmtree(roots(tmp_path).renders)
    write_renders(tmp_path, *FOLDERS)
    return tmp_path


def metas(shard: ShardWork) -> dict[SampleId, SampleMeta]:
    folders = sorted(shard.tree.samples_dir.iterdir())
    return {SampleId.parse(path.name): storage.read_json(path / "meta.json", SampleMeta) for path in folders}


def test_each_sample_is_made_of_its_recipes_render_and_says_so(base: Path) -> None:
    shard = work(base, recipes=RECIPES)
    stats = export_shard(shard).stats
    found = metas(shard)
    plan = plan_scene(open_scene(shard.roots, NAME), shard.generation, "pair00")
    planned = {each.sample: each.renders for each in plan.candidates}
    assert found.keys() == planned.keys()
    for sample, meta in found.items():
        renders = planned[sample]
        assert renders is not None
        assert (meta.provenance.recipe, meta.provenance.schedule) == (renders.recipe.name, renders.value)
        assert np.array_equal(read_rgb(shard.tree.image(sample)), shade(renders.folder))
    counts = Counter(meta.provenance.recipe for meta in found.values())
    assert stats.recipes == {"cross": counts["cross"], "underfit": counts["underfit"], "sparse": counts["sparse"]}
    assert sum(stats.recipes.values()) == N_FRAMES
    assert read_shard(shard.tree, NAME).stats.recipes == stats.recipes
    assert look(shard).is_made


def test_the_number_of_threads_changes_no_sample(base: Path) -> None:
    one, three = (work(base, root=f"root{threads}", threads=threads, recipes=RECIPES) for threads in (1, 3))
    for shard in (one, three):
        export_shard(shard)
    for sample in metas(one):
        for path in (one.tree.image(sample), one.tree.sample_meta(sample)):
            other = three.tree.base / path.relative_to(one.tree.base)
            assert path.read_bytes() == other.read_bytes()


def test_a_changed_render_of_a_recipe_makes_the_shard_stale(base: Path) -> None:
    shard = work(base, recipes=RECIPES)
    export_shard(shard)
    roots(base).tree(NAME, "underfit-0.25").render(16, frame_name(1)).write_bytes(encode_png(image(9)))
    assert look(shard).is_stale
    write_renders(base, "sparse")  # the same bytes
    storage.write_bytes(roots(base).tree(NAME).render(16, frame_name(1)), encode_png(image(9)))
    export_shard(shard)
    assert look(shard).is_made


def test_a_lost_sample_is_made_again_of_the_same_recipe(base: Path) -> None:
    shard = work(base, recipes=RECIPES)
    export_shard(shard)
    before = metas(shard)
    sample = next(each for each, meta in before.items() if meta.provenance.recipe == "underfit")
    shutil.rmtree(shard.tree.sample_dir(sample))
    export_shard(shard)
    assert metas(shard) == before


def test_a_lost_sample_is_not_made_of_another_recipe_where_photographs_are_gone(base: Path) -> None:
    shard = work(base, recipes=RECIPES)
    export_shard(shard)
    before = metas(shard)
    lost = sorted(before)[0]
    shutil.rmtree(shard.tree.sample_dir(lost))
    for sample in sorted(before)[6:]:
        roots(base).tree(NAME).ground_truth.image(16, sample.target_fname).unlink()
    with pytest.raises(InvalidScene, match="of the recipes that they were of") as caught:
        export_shard(shard)
    assert "--force scene_samples" in str(caught.value)
    assert metas(shard) == {sample: meta for sample, meta in before.items() if sample != lost}


def test_a_render_that_a_recipe_lacks_drops_its_sample(base: Path) -> None:
    shard = work(base, recipes=RECIPES)
    plan = plan_scene(open_scene(shard.roots, NAME), shard.generation, "pair00")
    lost = next(each for each in plan.candidates if each.renders is not None and each.renders.folder == "sparse")
    roots(base).tree(NAME, "sparse").render(16, lost.sample.target_fname).unlink()
    stats = export_shard(shard).stats
    (dropped,) = read_dropped(shard.tree.scene_run(NAME).dropped_samples)
    assert (dropped.sample_id, dropped.reason) == (str(lost.sample), "missing_render")
    assert sum(stats.recipes.values()) == N_FRAMES - 1


def test_a_scene_without_a_recipes_folder_is_not_ready_and_refused(base: Path) -> None:
    shutil.rmtree(roots(base).tree(NAME, "sparse").renders_dir)
    summary = describe_scene(roots(base), NAME, render_source="precomputed", recipes=FOLDERS, quiet_s=0.0)
    (lacking,) = summary.missing["export"]
    assert lacking == f"renders ({roots(base).tree(NAME, 'sparse').renders_dir})"
    assert describe_scene(roots(base), NAME, quiet_s=0.0).missing["export"] == ()
    with pytest.raises(InvalidScene, match="no renders of the recipe sparse"):
        export_shard(work(base, recipes=RECIPES))


def test_a_scene_check_opens_the_renders_of_every_recipe(base: Path) -> None:
    assert check_scene(roots(base), NAME, quiet_s=0.0).findings == ()
    roots(base).tree(NAME, "sparse").render(16, frame_name(0)).write_bytes(encode_png(image(1, 8)))
    places = [finding.place for finding in check_scene(roots(base), NAME, quiet_s=0.0).findings]
    assert places == ["renders/sparse/16"]


# --- an experiment without recipes -----------------------------------------------------------------------------------

OPTIONS_BEFORE = {
    "generation": {
        "source_camera": "registry",
        "target_cameras": {"mode": "all_except_source", "ids": []},
        "frames": {"stride": 1, "max_samples_per_camera": 0, "apply_skip_frames": True},
        "reference": {"strategy": "same_time_source", "offset": 0, "weights": {}, "seed": 0},
        "renders": {
            **{"python": "python", "setup": [], "cwd": None, "env": {}},
            **{"source": "precomputed", "command": None},
        },
        "filtering": {"min_mask_coverage": 0.0, "apply_mask": True},
        "export": {"png_encoder": "isal"},
    },
    "split": {"group_id": "pair00"},
}
META_BEFORE = (
    *("identity", "images", "pixels", "photographs", "renderer", "mask_coverage", "png_encoder"),
    *("target_mode", "reference_mode"),
)
STATS_BEFORE = (
    *("scene_name", "dataset", "group_id", "target_cam_ids", "n_total_candidates", "n_saved", "n_dropped"),
    *("rows_sha256", "image_height", "image_width", "renderer", "png_encoder", "seconds", "bytes_written"),
)


def test_an_experiment_without_recipes_is_made_of_the_same_things_as_before_there_were_any(tmp_path: Path) -> None:
    write_scene(roots(tmp_path))
    write_renders(tmp_path, *FOLDERS)  # of other experiments
    shard = work(tmp_path)
    export_shard(shard)
    record = read_record(shard_place(shard.tree, NAME))
    assert record is not None
    assert record.options == OPTIONS_BEFORE
    version = CODE_VERSIONS["scene_samples"]
    assert version == "1"
    assert record.identity == identity_of("scene_samples", version, OPTIONS_BEFORE, {}, record.inputs)
    assert not [name for name in record.inputs if any(f"/{folder}/" in name for folder in FOLDERS)]
    for sample in metas(shard):
        meta = json.loads(shard.tree.sample_meta(sample).read_bytes())
        assert tuple(meta["provenance"]) == META_BEFORE
    assert tuple(json.loads(shard.tree.scene_run(NAME).run_stats.read_bytes())) == STATS_BEFORE
    written = yaml.safe_load(shard.tree.generation_config.read_text())
    assert "recipes" not in {*written["generation"], *written["resolved"]}
    assert "recipe_seed" not in written["resolved"]


def test_recipes_do_not_come_to_samples_of_none_nor_go_from_those_of_some(base: Path) -> None:
    write_scene(roots(base), frames=range(N_FRAMES))
    export_shard(work(base))
    with pytest.raises(SnapshotChanged, match=r"`generation\.recipes` was not set"):
        export_shard(work(base, recipes=RECIPES))
    export_shard(work(base, exp="v2", recipes=RECIPES))
    with pytest.raises(SnapshotChanged, match="is not set"):
        export_shard(work(base, exp="v2"))
    more = [{**CROSS, "share": 0.6}, UNDERFIT, {**SPARSE, "share": 0.1}]
    with pytest.raises(SnapshotChanged, match=r"`generation\.recipes` was"):
        export_shard(work(base, exp="v2", recipes=more))


# --- the split -------------------------------------------------------------------------------------------------------


def test_the_split_counts_each_recipe_on_both_sides(base: Path) -> None:
    from thesis_assets.samples.shards import collect_sample_set, write_sample_set
    from thesis_assets.splits.manifests import split_rows, write_split_manifests

    other = "hi4d_pair01_dance"
    write_scene(roots(base), other, frames=range(N_FRAMES))
    write_renders(base, *FOLDERS, name=other)
    shards = [work(base, name, group=name[5:11], recipes=RECIPES) for name in (NAME, other)]
    stats = {shard.scene_name: export_shard(shard).stats for shard in shards}
    tree = shards[0].tree
    collected = collect_sample_set(tree, [NAME, other])
    write_sample_set(tree, collected)
    result = split_rows(collected.rows, SPLIT, group_of)
    write_split_manifests(tree, collected.rows, result, SPLIT, collected.dropped, collected.shards)
    summary = storage.read_json(tree.split_summary, SplitSummary)
    assert list(summary.recipes) == ["cross", "underfit", "sparse"]
    for name, counts in summary.recipes.items():
        assert counts.n_train == stats[NAME].recipes[name]
        assert counts.n_test == stats[other].recipes[name]
        assert counts.n_all == counts.n_train + counts.n_test
    assert sum(counts.n_all for counts in summary.recipes.values()) == summary.n_all


# --- renders by a command --------------------------------------------------------------------------------------------

# Fails at, or waits in, a value that a file beside it names.
SCRIPT = """
import json, pathlib, sys, time
base, out, cameras, recipe, iterations, train_cameras, train_frames, frames = sys.argv[1:]
base, out = pathlib.Path(base), pathlib.Path(out)
with (base / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps(dict(zip(("out", "recipe", "iterations", "train_cameras", "train_frames"),
        (out.name, recipe, iterations, train_cameras, train_frames)))) + chr(10))
for frame in frames.split(","):
    for camera in cameras.split(","):
        path = out / camera / f"{frame}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((base / f"{out.name}.png").read_bytes())
    if (base / f"fail-{out.name}").exists():
        sys.exit("no luck")
    while (base / f"wait-{out.name}").exists():
        time.sleep(0.05)
"""
TOLD = [
    {**CROSS, "iterations": 1000},
    UNDERFIT,
    {**SPARSE, "iterations": 1000, "train_cameras": "all"},
]


@pytest.fixture
def commanded(base: Path) -> ShardWork:
    """A scene whose renders a command makes."""
    shutil.rmtree(roots(base).renders)
    (base / "render.py").write_text(SCRIPT)
    for folder in FOLDERS:
        (base / f"{folder}.png").write_bytes(encode_png(shade(folder)))
    return by_command(base)


def by_command(base: Path, **parts: Any) -> ShardWork:
    command = (
        "python -S -E render.py . {render_dir} {target_cameras} {recipe} {iterations} {train_cameras} {train_frames} "
        + ",".join(frames(N_FRAMES))
    )
    renders = {"source": "command", "command": command, "python": sys.executable, "cwd": str(base)}
    return work(base, **{"renders": renders, "recipes": TOLD, **parts})


def calls(base: Path) -> list[dict[str, str]]:
    path = base / "calls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_command_is_run_once_a_value_and_told_what_to_train_on(base: Path, commanded: ShardWork) -> None:
    stats = export_shard(commanded).stats
    every, third = ",".join(frames(N_FRAMES)), ",".join(frames(N_FRAMES)[::3])
    assert calls(base) == [
        {"out": "cross", "recipe": "cross", "iterations": "1000", "train_cameras": "4", "train_frames": every},
        {
            "out": "underfit-0.25",
            "recipe": "underfit",
            "iterations": "250",
            "train_cameras": "4",
            "train_frames": every,
        },
        {
            "out": "underfit-0.75",
            "recipe": "underfit",
            "iterations": "750",
            "train_cameras": "4",
            "train_frames": every,
        },
        {"out": "sparse", "recipe": "sparse", "iterations": "1000", "train_cameras": "4,16", "train_frames": third},
    ]
    assert stats.n_saved == N_FRAMES
    for sample, meta in metas(commanded).items():
        value = f"-{meta.provenance.schedule:g}" if meta.provenance.schedule else ""
        assert np.array_equal(read_rgb(commanded.tree.image(sample)), shade(f"{meta.provenance.recipe}{value}"))
    for folder in FOLDERS:
        assert commanded.tree.render_command(NAME, folder).stderr.is_file()


def test_an_evaluation_has_only_the_first_recipe_rendered(base: Path, commanded: ShardWork) -> None:
    own = commanded.generation
    scene = open_scene(commanded.roots, NAME, recipe=own.evaluated_renders)
    renderer = scene_renderer(commanded.tree, scene, own, device="cpu")
    (view,) = renderer.render("000001", [scene.camera(16, "000001")])
    assert np.array_equal((view * 255).round().byte().permute(1, 2, 0).numpy(), shade("cross"))
    assert [call["out"] for call in calls(base)] == ["cross"]
    export_shard(commanded)
    assert [call["out"] for call in calls(base)] == list(FOLDERS)


def test_another_share_renders_nothing_again(base: Path, commanded: ShardWork) -> None:
    export_shard(commanded)
    shares = [{**recipe, "share": share} for recipe, share in zip(TOLD, (0.4, 0.4, 0.2), strict=True)]
    export_shard(by_command(base, exp="v2", recipes=shares))
    assert len(calls(base)) == 4
    later = [{**recipe, "iterations": 2000} for recipe in TOLD]
    export_shard(by_command(base, exp="v3", recipes=later))
    assert len(calls(base)) == 8


def test_what_failed_in_one_value_is_tried_again_in_that_one_alone(base: Path, commanded: ShardWork) -> None:
    (base / "fail-underfit-0.75").touch()
    with pytest.raises(RenderCommandFailed, match=f"{NAME}, recipe underfit-0.75 ended with status 1"):
        export_shard(commanded)
    assert [call["out"] for call in calls(base)] == list(FOLDERS[:3])
    (base / "fail-underfit-0.75").unlink()
    export_shard(commanded)
    assert [call["out"] for call in calls(base)[3:]] == list(FOLDERS[2:])


def test_more_frames_than_a_word_of_a_command_holds_are_refused_in_words(
    base: Path, commanded: ShardWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_renders, "LONGEST_WORD", 50)
    with pytest.raises(RenderCommandFailed, match="longer than the system hands over") as caught:
        export_shard(commanded)
    assert caught.value.wanted == "at most 50"
    assert calls(base) == []


EXPORT = """
import sys
from pathlib import Path
from thesis_assets.samples.export import export_shard
from thesis_assets_tests.samples.test_recipes import by_command
export_shard(by_command(Path(sys.argv[1])))
"""


@pytest.mark.long
def test_an_export_that_is_killed_in_a_value_goes_on_with_that_value(base: Path, commanded: ShardWork) -> None:
    (base / "wait-underfit-0.75").touch()
    process = subprocess.Popen([sys.executable, "-c", EXPORT, str(base)], env={**os.environ}, start_new_session=True)
    try:
        until = time.monotonic() + 120
        while len(calls(base)) < 3:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    finally:
        process.kill()
    (base / "wait-underfit-0.75").unlink()
    assert export_shard(commanded).stats.n_saved == N_FRAMES
    assert [call["out"] for call in calls(base)] == [*FOLDERS[:3], *FOLDERS[2:]]
