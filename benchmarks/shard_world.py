"""Shards with their made-from records, written straight to the disk: as many files as an experiment has, of any size."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

CAMERAS = (4, 16, 28, 40, 52, 64, 76, 88)
SOURCE = 4
CAMERA, META = b"K" * 800, b"{}" * 500
"""As large as such files are: a look reads none, and a first look only digests them."""


@dataclass(frozen=True)
class ShardWorld:
    """Scenes of eight cameras, and a sample of each frame of each camera but the source.

    Attributes:
        png, jpeg: what an image file holds; each file has its own first bytes.
        linked: whether a sample's two JPEG files are links to the scene's, as where both lie on one disk.
    """

    base: Path
    n_scenes: int
    n_frames: int
    png: bytes
    jpeg: bytes
    linked: bool = True

    @property
    def n_samples(self) -> int:
        return self.n_scenes * (len(CAMERAS) - 1) * self.n_frames

    @property
    def scenes(self) -> list[str]:
        return [f"studio_pair{number:03d}_dance" for number in range(self.n_scenes)]

    def write(self) -> None:
        """All files, and the record of each shard."""
        from thesis_assets.provenance import begin

        for scene in self.scenes:
            self._write_scene(scene)
            making = begin(self.unit(scene))
            making.finish(self._write_samples(scene), flush=False)

    def unit(self, scene: str) -> Any:
        """One shard, as the platform looks at it: its inputs are listed now."""
        from thesis_assets.experiments.spec import GenerationSpec
        from thesis_assets.samples.shards import shard_unit

        generation = GenerationSpec.model_validate({"scenes": ["studio_*"], "renders": {"source": "precomputed"}})
        return shard_unit(self._snapshot, self._roots, scene, generation, scene)

    def looked_at(self) -> int:
        """Number of shards that a look finds as wanted: one `Contents`, as `status` has."""
        from thesis_assets.provenance import Contents

        contents = Contents()
        return sum(self.unit(scene).look(contents).is_made for scene in self.scenes)

    def files(self) -> Iterator[str]:
        """Every input and output."""
        yield from (path for path in listed(str(self.base)) if not path.endswith((".stats.json", "made_from.json")))

    def records(self) -> Iterator[Path]:
        """Records, and the caches beside them."""
        yield from self._snapshot.scene_runs_dir.glob("*/made_from*.json")

    @property
    def _snapshot(self) -> Any:
        from thesis_assets.layout import DifixTree

        return DifixTree(self.base / "difix", "bench")

    @property
    def _roots(self) -> Any:
        from thesis_assets.scenes.listing import SceneRoots

        return SceneRoots(*(self.base / name for name in ("canonical_gt", "preprocessing", "registry", "renders")))

    def _write_scene(self, scene: str) -> None:
        from thesis_assets import storage
        from thesis_assets.layout import frame_name

        tree = self._roots.tree(scene)
        storage.write_json(tree.registry_entry, {"seq_name": scene, "cam_id": SOURCE})
        for cam_id in CAMERAS:
            first = frame_name(0)
            kinds = [
                (tree.ground_truth.image(cam_id, first), self.jpeg),
                (tree.ground_truth.camera(cam_id, first), CAMERA),
            ]
            kinds += [(tree.render(cam_id, first), self.png)] if cam_id != SOURCE else []
            for path, content in kinds:
                path.parent.mkdir(parents=True)
                for frame in range(self.n_frames):
                    _write(f"{path.parent}/{frame_name(frame)}{path.suffix}", content)

    def _write_samples(self, scene: str) -> list[Path]:
        from thesis_assets.layout import SampleId, frame_name

        tree, truth, written = self._snapshot, self._roots.tree(scene).ground_truth, []
        tree.scene_run(scene).base.mkdir(parents=True)
        for cam_id, frame in product(CAMERAS, map(frame_name, range(self.n_frames))):
            if cam_id == SOURCE:
                continue
            sample = SampleId(scene, cam_id, SOURCE, frame, frame)
            tree.sample_dir(sample).mkdir(parents=True)
            _write(str(tree.image(sample)), self.png)
            _write(str(tree.sample_meta(sample)), META)
            copies = {
                tree.target_image(sample): truth.image(cam_id, frame),
                tree.ref_image(sample): truth.image(SOURCE, frame),
            }
            for path, photograph in copies.items():
                if self.linked:
                    os.link(photograph, path)
                else:
                    _write(str(path), self.jpeg)
            written += [tree.image(sample), tree.sample_meta(sample), *copies]
        return written


def listed(folder: str) -> Iterator[str]:
    """Files below a folder, without asking for anything of them."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from listed(entry.path)
            else:
                yield entry.path


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:  # noqa: PTH123 - a million Paths take longer than the files
        file.write(path.encode() + content)
