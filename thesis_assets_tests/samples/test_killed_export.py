"""Exports killed without warning, at seeded random moments: what is visible is whole, and little is made twice."""

import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from thesis_assets.images.codecs import read_rgb
from thesis_assets.layout import TEMPORARY_PREFIX, DifixTree
from thesis_assets.provenance import Place, read_record
from thesis_assets.samples.export import export_shard
from thesis_assets.samples.integrity import sample_faults
from thesis_assets.samples.shards import collect_sample_set, write_sample_set
from thesis_assets_tests.samples.interrupted_export import NAME, THREADS
from thesis_assets_tests.samples.tiny_scenes import look, roots, work, write_scene

pytestmark = pytest.mark.long

CAMERAS = (4, 16, 28)
N_VIEWS = len(CAMERAS) - 1
WINDOW = N_VIEWS + 2 * THREADS
"""Views that may be lost: those of the frame that is being rendered, and the jobs that wait for the writer's threads."""


def start(base: Path, root: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "thesis_assets_tests.samples.interrupted_export", str(base), root, "0.01"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def finished_samples(tree: DifixTree) -> set[str]:
    """The samples that a reader sees. Each must be whole."""
    if not tree.samples_dir.is_dir():
        return set()
    folders = [path for path in tree.samples_dir.iterdir() if not path.name.startswith(TEMPORARY_PREFIX)]
    faults = [fault for path in folders for fault in sample_faults(path, path.name, decode=True)]
    assert faults == []
    return {path.name for path in folders}


@dataclass
class Killer:
    """Runs the export again and again, and kills it after a random frame, or where the record is written, and a moment more."""

    base: Path
    n_frames: int
    seed: int
    kills: int = 0
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    @property
    def tree(self) -> DifixTree:
        return work(self.base, root="killed").tree

    def run_until_killed(self) -> None:
        """One run. Where it came to its end first, the tree is compared and taken away, so that the next starts anew."""
        before = finished_samples(self.tree)
        frames_left = self.n_frames - len(before) // N_VIEWS
        at_the_record = self.chance.random() < 0.3
        last_frame = frames_left + 1 if at_the_record else self.chance.randint(0, frames_left // 2 + 1)
        delay = self.chance.uniform(0, 0.03)
        process = start(self.base, "killed")
        lines = self._read_frames(process, last_frame)
        deadline = time.monotonic() + delay
        while time.monotonic() < deadline:
            finished_samples(self.tree)
        process.send_signal(signal.SIGKILL)
        assert process.stdout is not None
        lines += process.stdout.read().splitlines()
        process.wait(timeout=30)
        process.stdout.close()
        if "done" in lines:
            assert_equals_undisturbed(self.base)
            shutil.rmtree(self.tree.root)
            return
        self.kills += 1
        rendered = sum(int(line.split()[2]) for line in lines if line.startswith("frame"))
        assert rendered - len(finished_samples(self.tree) - before) <= WINDOW
        assert rendered <= self.n_frames * N_VIEWS - len(before), "what was finished is not made again"

    def _read_frames(self, process: subprocess.Popen[str], n: int) -> list[str]:
        assert process.stdout is not None
        lines: list[str] = []
        while len(lines) < n and (line := process.stdout.readline()):
            lines.append(line.strip())
        return lines


def assert_equals_undisturbed(base: Path) -> None:
    """The same decoded pixels, and all else byte for byte, but for the statistics' times."""
    trees = [work(base, root=root).tree for root in ("killed", "undisturbed")]
    for tree in trees:
        write_sample_set(tree, collect_sample_set(tree, [NAME]))
    killed, undisturbed = (
        {path.relative_to(tree.base): path for path in tree.base.rglob("*") if path.is_file()} for tree in trees
    )
    killed = {name: path for name, path in killed.items() if not path.name.startswith(TEMPORARY_PREFIX)}
    assert killed.keys() == undisturbed.keys()
    assert not list(trees[0].samples_dir.glob(f"{TEMPORARY_PREFIX}*"))
    for name, path in killed.items():
        if name.suffix in (".png", ".jpg"):
            assert np.array_equal(read_rgb(path), read_rgb(undisturbed[name])), name
        elif name.name != "run_stats.json" and name.suffix != ".lock" and "made_from" not in name.name:
            assert path.read_bytes() == undisturbed[name].read_bytes(), name
    assert made_from(trees[0]) == made_from(trees[1])
    assert look(work(base, root="killed")).in_words == "made"


def made_from(tree: DifixTree) -> tuple[object, ...]:
    """What a shard's record says, but for the statistics, which hold times."""
    record = read_record(Place(tree.base, tree.scene_run(NAME).made_from))
    assert record is not None
    outputs = {name: each for name, each in record.outputs.items() if not name.endswith("run_stats.json")}
    return record.identity, record.inputs, record.options, record.tools, outputs, record.noted


def kill_and_compare(base: Path, n_frames: int, n_kills: int, seed: int) -> Killer:
    write_scene(roots(base), NAME, cameras=CAMERAS, frames=range(n_frames), masks=True)
    export_shard(work(base, NAME, root="undisturbed", threads=THREADS))
    killer = Killer(base, n_frames, seed)
    while killer.kills < n_kills:
        killer.run_until_killed()
    with start(base, "killed") as process:
        assert process.stdout is not None
        assert process.stdout.read().splitlines()[-1] == "done"
    assert_equals_undisturbed(base)
    return killer


def test_a_killed_export_goes_on_and_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    kill_and_compare(tmp_path, n_frames=24, n_kills=3, seed=7)


@pytest.mark.soak
def test_an_export_that_is_killed_twenty_times_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    killer = kill_and_compare(tmp_path, n_frames=48, n_kills=20, seed=20)
    assert killer.kills == 20
