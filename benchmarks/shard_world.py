"""Shards with their made-from records, written straight to the disk: as many files as an experiment has, of any size."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CAMERAS = (4, 16, 28, 40, 52, 64, 76, 88)
SOURCE = 4
SAMPLE_FILES = ("image.png", "target_image.jpg", "ref_image.jpg", "meta.json")


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

    def unit(self, scene: str):
        """One shard: its inputs as they are listed now."""
        from thesis_assets.provenance import Place, Unit, Wanted

        roots = {f"canonical_gt/{scene}": self._truth(scene), f"renders/{scene}": self._renders(scene)}
        files = {
            f"{root}{path.removeprefix(str(folder))}": path
            for root, folder in roots.items()
            for path in listed(str(folder))
        }
        place = Place(self._snapshot, self._snapshot / "scene_runs" / scene / "made_from.json")
        options = {"generation": {"target_frames": {"stride": 1}, "renders": {"source": "precomputed"}}}
        return Unit(f"shard of {scene}", place, Wanted("scene_samples", "1", options=options, files=files))

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
        yield from self.base.glob("snapshot/scene_runs/*/made_from*.json")

    @property
    def _snapshot(self) -> Path:
        return self.base / "snapshot"

    def _truth(self, scene: str) -> Path:
        return self.base / "canonical_gt" / scene

    def _renders(self, scene: str) -> Path:
        return self.base / "renders" / scene

    def _write_scene(self, scene: str) -> None:
        for cam_id in CAMERAS:
            kinds = [
                (self._truth(scene) / "images", ".jpg", self.jpeg),
                (self._truth(scene) / "all_cameras", ".npz", b"K" * 800),
            ]
            kinds += [(self._renders(scene), ".png", self.png)] if cam_id != SOURCE else []
            for root, suffix, content in kinds:
                folder = root / str(cam_id)
                folder.mkdir(parents=True)
                for frame in range(self.n_frames):
                    _write(f"{folder}/{frame:06d}{suffix}", content)

    def _write_samples(self, scene: str) -> list[Path]:
        images, written = self._truth(scene) / "images", []
        for cam_id in CAMERAS:
            for frame in range(self.n_frames) if cam_id != SOURCE else ():
                folder = (
                    self._snapshot / "samples" / f"{scene}__tcam{cam_id}__rcam{SOURCE}__tf{frame:06d}__rf{frame:06d}"
                )
                folder.mkdir(parents=True)
                paths = [folder / name for name in SAMPLE_FILES]
                _write(str(paths[0]), self.png)
                for path, camera in zip(paths[1:3], (cam_id, SOURCE), strict=True):
                    photograph = images / str(camera) / f"{frame:06d}.jpg"
                    if self.linked:
                        os.link(photograph, path)
                    else:
                        _write(str(path), photograph.read_bytes()[len(str(path)) :])
                _write(str(paths[3]), b"{}" * 500)
                written += paths
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
