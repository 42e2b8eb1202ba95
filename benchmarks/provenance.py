"""What digests and records cost: an export, looks, bytes. On a real disk: what a tmpfs holds is never flushed."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from benchmarks.bench_scene import TRIPLETS, BenchScene, write_bench_scene
from benchmarks.measure import Row, paired, seconds_of
from benchmarks.photograph import HEIGHT, WIDTH, photograph
from benchmarks.shard_world import ShardWorld
from benchmarks.triplet_baselines import MemoryRenders

ON_DISK = "/var/tmp"
SMALL = (32, 48)
MANY = (100, 110)
"""Scenes and frames: 77,000 samples."""
FEW = (2, 20)
ROUNDS = 5
CORES = len(os.sched_getaffinity(0))
NO_DIGEST = "0" * 64


def rows() -> Iterator[Row]:
    """An export; quick looks at many small samples; first looks at small and at full-size ones; bytes."""
    with (
        tempfile.TemporaryDirectory(dir=ON_DISK) as folder,
        mock.patch("thesis_assets.rendering.choice.make_renderer", return_value=MemoryRenders()),
    ):
        yield _export(write_bench_scene(Path(folder), masks=False))
    with tempfile.TemporaryDirectory(dir=ON_DISK) as folder:
        world = _written(folder, *MANY, size=SMALL, linked=True)
        yield _quick_look(world)
        yield _first_look(world, "32x48, linked", target=None)
        yield _bytes(world)
    with tempfile.TemporaryDirectory(dir=ON_DISK) as folder:
        # What copies without times mostly copies without links too.
        world = _written(folder, *FEW, size=(HEIGHT, WIDTH), linked=False)
        yield _first_look(world, f"{WIDTH}x{HEIGHT}", target="<= 1.3")


def _export(scene: BenchScene) -> Row:
    scene.export(CORES)
    seconds, without, ratio = paired(lambda: scene.export(CORES), lambda: _without_digests(scene), ROUNDS)
    name = f"export of {TRIPLETS} triplets at {WIDTH}x{HEIGHT}, links, against the same without digests and flushing"
    return Row("provenance", name, seconds, "s", without, ratio, "<= 1.15")


def _without_digests(scene: BenchScene) -> float:
    none = SimpleNamespace(sha256=lambda content: SimpleNamespace(hexdigest=lambda: NO_DIGEST))
    with ExitStack() as stack:
        stack.enter_context(mock.patch("thesis_assets.images.triplet_writer.hashlib", none, create=True))
        stack.enter_context(mock.patch("thesis_assets.storage.sha256_bytes", return_value=NO_DIGEST))
        stack.enter_context(mock.patch("thesis_assets.provenance.Contents.sha256", return_value=NO_DIGEST))
        stack.enter_context(mock.patch("thesis_assets.provenance.making.flush_files"))
        return scene.export(CORES)


def _written(folder: str, n_scenes: int, n_frames: int, *, size: tuple[int, int], linked: bool) -> ShardWorld:
    from thesis_assets.images.codecs import encode_jpeg, encode_png

    image = photograph()[: size[0], : size[1]]
    world = ShardWorld(Path(folder) / "world", n_scenes, n_frames, encode_png(image), encode_jpeg(image), linked)
    world.write()
    return world


def _quick_look(world: ShardWorld) -> Row:
    assert world.looked_at() == world.n_scenes
    look, listing, ratio = paired(
        lambda: seconds_of(world.looked_at), lambda: seconds_of(lambda: _scanned(str(world.base))), ROUNDS
    )
    n_files = sum(1 for _ in world.files())
    name = f"look at {world.n_samples:,} finished samples, {n_files:,} files, against nested os.scandir with stat"
    return Row("provenance", name, look, "s", listing, ratio, "<= 3")


def _first_look(world: ShardWorld, what: str, *, target: str | None) -> Row:
    files = list(world.files())

    def first_look() -> float:
        for path in files:
            os.utime(path)
        return seconds_of(world.looked_at)

    look, digests, ratio = paired(first_look, lambda: seconds_of(lambda: _sha256sum(files)), ROUNDS)
    assert world.looked_at() == world.n_scenes
    name = f"first look at {world.n_samples:,} samples ({what}) after all times are lost, against sha256sum"
    return Row("provenance", name, look, "s", digests, ratio, target)


def _bytes(world: ShardWorld) -> Row:
    """Against full-size renders alone: a sample's JPEG files are mostly links to the scene's."""
    from thesis_assets.images.codecs import encode_png

    records = sum(path.stat().st_size for path in world.records())
    samples = world.n_samples * len(encode_png(photograph()))
    name = f"records and caches of {world.n_samples:,} samples, against their images at {WIDTH}x{HEIGHT}"
    return Row("provenance", name, records, "bytes", samples, records / samples, "<= 0.02")


def _scanned(folder: str) -> int:
    """Number of files below a folder, each asked for size and time."""
    n = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                n += _scanned(entry.path)
            else:
                entry.stat()
                n += 1
    return n


def _sha256sum(files: list[str]) -> None:
    """On as many cores as a look has."""
    command = ["xargs", "-0", "-P", str(CORES), "-n", "200", "sha256sum"]
    subprocess.run(command, input="\0".join(files).encode(), stdout=subprocess.DEVNULL, check=True)
