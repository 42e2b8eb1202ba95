"""A scene of full-size photographs on disk, with or without masks, and its export."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import seconds_of
from benchmarks.photograph import HEIGHT, WIDTH, photograph

SCENE, GROUP = "studio_pair00_dance", "pair00"
SOURCE, TARGETS, N_FRAMES = 4, (16, 28, 40, 52, 64, 76, 88), 32
TRIPLETS = len(TARGETS) * N_FRAMES
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""A folder in memory, for comparisons in which the disk has no part; None: there is none, and the disk has."""


@dataclass(frozen=True)
class FrameFiles:
    """Files of one frame: the photographs of the targets and of the reference, each with its mask or None."""

    targets: tuple[tuple[Path, Path | None], ...]
    reference: tuple[Path, Path | None]


class BenchScene:
    """One scene's export, each time into an empty snapshot."""

    def __init__(self, base: Path, *, masks: bool) -> None:
        from thesis_assets.experiments.spec import GenerationSpec
        from thesis_assets.layout import DifixTree
        from thesis_assets.samples.export import ShardWork
        from thesis_assets.scenes.listing import SceneRoots

        self._roots = SceneRoots(base / "gt", base / "pre", base / "registry", base / "renders")
        self._masks = masks
        self._tree = DifixTree(base / "difix", "bench")
        generation = GenerationSpec.model_validate({"scenes": [SCENE], "renders": {"source": "precomputed"}})
        self._work: Any = lambda threads: ShardWork(self._tree, self._roots, SCENE, generation, GROUP, threads=threads)

    def export(self, threads: int) -> float:
        """Seconds of a whole export."""
        from thesis_assets.samples.export import export_shard

        shutil.rmtree(self._tree.root, ignore_errors=True)
        record: list[Any] = []
        seconds = seconds_of(lambda: record.append(export_shard(self._work(threads))))
        assert record[0].stats.n_saved == TRIPLETS, record[0].stats
        return seconds

    def export_again(self, threads: int) -> float:
        """Seconds of the export of what the last `export` made."""
        from thesis_assets.samples.export import export_shard

        if not self._tree.root.exists():
            self.export(threads)
        record: list[Any] = []
        seconds = seconds_of(lambda: record.append(export_shard(self._work(threads))))
        assert not record[0].exported, "nothing had changed"
        return seconds

    def frames(self) -> list[FrameFiles]:
        """The files that the export reads, frame by frame."""
        from thesis_assets.layout import frame_name

        truth = self._roots.tree(SCENE).ground_truth

        def view(cam_id: int, fname: str) -> tuple[Path, Path | None]:
            return truth.image(cam_id, fname), truth.mask(cam_id, fname) if self._masks else None

        return [
            FrameFiles(tuple(view(cam_id, fname) for cam_id in TARGETS), view(SOURCE, fname))
            for fname in map(frame_name, range(N_FRAMES))
        ]

    def write(self) -> None:
        """The files of the scene."""
        from thesis_assets import storage
        from thesis_assets.images.codecs import encode_jpeg, encode_png
        from thesis_assets.layout import frame_name

        tree = self._roots.tree(SCENE)
        storage.write_json(tree.registry_entry, {"seq_name": SCENE, "cam_id": SOURCE})
        tree.renders_dir.mkdir(parents=True)
        people = np.zeros((HEIGHT, WIDTH), np.uint8)
        people[HEIGHT // 4 :, WIDTH // 4 : 3 * WIDTH // 4] = 255
        jpeg, mask = encode_jpeg(photograph()), encode_png(people)
        for cam_id in (SOURCE, *TARGETS):
            for fname in map(frame_name, range(N_FRAMES)):
                storage.write_bytes(tree.ground_truth.image(cam_id, fname), jpeg)
                write_camera(tree.ground_truth.camera(cam_id, fname))
                if self._masks:
                    storage.write_bytes(tree.ground_truth.mask(cam_id, fname), mask)


def write_camera(path: Path) -> None:
    """A camera three metres in front of the people."""
    path.parent.mkdir(parents=True, exist_ok=True)
    intrinsics = np.array([[1000.0, 0, WIDTH / 2], [0, 1000.0, HEIGHT / 2], [0, 0, 1]])[None]
    extrinsics = np.concatenate([np.eye(3), [[0.0], [0.0], [3.0]]], axis=1)[None]
    np.savez(path, intrinsics=intrinsics, extrinsics=extrinsics)


def write_bench_scene(base: Path, *, masks: bool) -> BenchScene:
    """A scene written below `base`."""
    scene = BenchScene(base, masks=masks)
    scene.write()
    return scene
