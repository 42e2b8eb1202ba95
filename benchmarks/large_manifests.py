"""A million rows from shards to manifests, split and data.json, against polars and orjson on the same bytes.

Each side runs in a process of its own, which says its seconds and its peak memory.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Row, peak_megabytes, skipped_without

SCENES, ROWS_A_SCENE, CAMERAS = 100, 10_000, 8
EXPERIMENT, DATASET, PROMPT = "bench", "studio", "remove degradation"
TEST_PAIRS = tuple(f"pair{number:02d}" for number in range(0, SCENES // 2, 10))
BASELINE = (
    "1,000,000 rows: manifests, split and data.json, against polars and orjson reading and writing the same bytes"
)


def rows() -> Iterator[Row]:
    """Time against the baseline, peak memory, and the time of the checks over the same rows."""
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder))
        ours = child("platform", folder)
        absent = skipped_without("polars", "splits", BASELINE, "<= 3")
        if absent is not None:
            yield absent
        else:
            base = child("baseline", folder)
            assert base["bytes"] == ours["bytes"], "both sides write the same amount"
            yield Row(
                *("splits", BASELINE, ours["seconds"], "s", base["seconds"], ours["seconds"] / base["seconds"]), "<= 3"
            )
            yield Row("splits", "1,000,000 rows: peak memory of polars and orjson", base["peak_gb"], "GB")
    yield Row(
        "splits",
        "1,000,000 rows: peak memory of manifests, split, data.json and checks",
        ours["peak_gb"],
        "GB",
        target="<= 1.5",
    )
    yield Row("splits", "1,000,000 rows: partition, leakage, reserved and data.json checks", ours["check_seconds"], "s")


def child(side: str, folder: str) -> dict[str, float]:
    """Run one side; returns what it printed."""
    command = [sys.executable, "-m", "benchmarks.large_manifests", side, folder]
    return dict(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def write_shards(root: Path) -> None:
    """Finished shards of all scenes, two scenes a pair."""
    from thesis_assets import storage
    from thesis_assets.layout import DifixTree
    from thesis_assets.samples.shards import write_dropped
    from thesis_assets.schemas.samples import ShardStats

    tree = DifixTree(root, EXPERIMENT)
    for number in range(SCENES):
        group = f"pair{number // 2:02d}"
        scene = f"{DATASET}_{group}_{'dance' if number % 2 else 'talk'}"
        content = shard_bytes(scene, group)
        shard = tree.scene_run(scene)
        storage.write_bytes(shard.all_samples, content)
        write_dropped(shard.dropped_samples, [])
        stats = ShardStats(
            scene_name=scene,
            dataset=DATASET,
            group_id=group,
            target_cam_ids=list(range(1, CAMERAS + 1)),
            n_total_candidates=ROWS_A_SCENE,
            n_saved=ROWS_A_SCENE,
            n_dropped=0,
            rows_sha256=hashlib.sha256(content).hexdigest(),
            image_height=1280,
            image_width=940,
            renderer="bench",
            png_encoder="isal",
            seconds=1.0,
            bytes_written=0,
        )
        storage.write_json(shard.run_stats, stats)


def shard_bytes(scene: str, group: str) -> bytes:
    """The rows of one scene, sorted by sample id."""
    from thesis_assets.layout import SampleId, frame_name
    from thesis_assets.samples.sample_rows import row_of

    template = row_of(SampleId(scene, 1, 0, frame_name(0), frame_name(0)), group).model_dump_json()
    first = frame_name(0)
    frames = map(frame_name, range(ROWS_A_SCENE // CAMERAS))
    lines = [
        template.replace("tcam1__", f"tcam{cam}__")
        .replace('"target_cam_id":1', f'"target_cam_id":{cam}')
        .replace(first, fname)
        for fname in frames
        for cam in range(1, CAMERAS + 1)
    ]
    return ("\n".join(sorted(lines)) + "\n").encode()


def by_platform(root: Path) -> dict[str, float]:
    """What the assets sample_set, split_manifests and difix_data do, then their checks."""
    from thesis_assets.experiments.spec import SplitSpec
    from thesis_assets.layout import DifixTree
    from thesis_assets.samples.shards import collect_sample_set, write_sample_set
    from thesis_assets.splits.data_json import check_data_json, write_data_json
    from thesis_assets.splits.leakage import check_group_non_leakage, check_partition, check_reserved_scenes
    from thesis_assets.splits.manifests import group_finder, reserved_groups, split_rows, write_split_manifests

    tree = DifixTree(root, EXPERIMENT)
    split = SplitSpec(test_groups={DATASET: TEST_PAIRS}, reserved_scenes=(f"{DATASET}_{TEST_PAIRS[0]}_dance",))
    group_of = group_finder({})
    began = time.perf_counter()
    found = collect_sample_set(tree, [path.parent.name for path in tree.scene_runs_dir.glob("*/run_stats.json")])
    write_sample_set(tree, found)
    halves = split_rows(found.rows, split, group_of)
    write_split_manifests(tree, found.rows, halves, split, found.dropped, found.shards)
    write_data_json(tree, halves.train, halves.test, PROMPT)
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    outcomes = (
        check_partition(found.rows, halves.train, halves.test),
        check_group_non_leakage(halves.train, halves.test, group_of),
        check_reserved_scenes(halves.train, reserved_groups(split, group_of, {row.dataset for row in found.rows})),
        check_data_json(tree, halves.train, halves.test, PROMPT),
    )
    check_seconds = time.perf_counter() - began
    assert all(outcome.passed for outcome in outcomes)
    assert len(found.rows) == SCENES * ROWS_A_SCENE == len(halves.train) + len(halves.test)
    manifests = (tree.all_samples, tree.split_train, tree.split_test)
    size = sum(path.stat().st_size for path in manifests)
    return {"seconds": seconds, "check_seconds": check_seconds, "bytes": size}


def by_polars_and_orjson(root: Path) -> dict[str, float]:
    """The same shards to the same manifests by polars, and a data.json by one orjson dump."""
    import orjson
    import polars

    base = root / EXPERIMENT
    folder = root / "baseline"
    folder.mkdir()
    manifests = [folder / name for name in ("all_samples.jsonl", "split_train.jsonl", "split_test.jsonl")]
    began = time.perf_counter()
    every = polars.concat([polars.read_ndjson(path) for path in sorted(base.glob("scene_runs/*/all_samples.jsonl"))])
    every = every.sort("sample_id")
    held_out = polars.col("group_id").is_in(list(TEST_PAIRS))
    halves = {"train": every.filter(~held_out), "test": every.filter(held_out)}
    for path, frame in zip(manifests, (every, *halves.values()), strict=True):
        frame.write_ndjson(path)
    columns = ("sample_id", "image_path", "target_image_path", "ref_image_path")
    content = {
        half: {
            sample_id: {
                "image": f"{base}/{image}",
                "target_image": f"{base}/{target}",
                "ref_image": f"{base}/{reference}",
                "prompt": PROMPT,
            }
            for sample_id, image, target, reference in frame.select(columns).iter_rows()
        }
        for half, frame in halves.items()
    }
    (folder / "data.json").write_bytes(orjson.dumps(content))
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "bytes": sum(path.stat().st_size for path in manifests)}


def main(side: str, folder: str) -> None:
    """Run one side and print its seconds and peak memory as JSON."""
    measured = {"platform": by_platform, "baseline": by_polars_and_orjson}[side](Path(folder))
    print(json.dumps({**measured, "peak_gb": peak_megabytes() / 1000}))


if __name__ == "__main__":
    main(*sys.argv[1:])
