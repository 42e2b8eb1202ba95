"""The export of one scene of 940x1280 triplets: against its own encoder, against the way without the platform, and repeated.

Renders lie in memory as float tensors, as a renderer gives them; photographs are linked, or decoded, masked and encoded. Files are
written to memory, where the system has a folder for that, so that ratios are the program's; one row says what the disk adds.
The render is a photograph, flipped: the ratios to Pillow depend on the picture (docs/decisions.md has them for a noisy one).
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from benchmarks.bench_scene import MEMORY, TRIPLETS, BenchScene, write_bench_scene
from benchmarks.measure import Row, on_cores, paired, skipped_without
from benchmarks.triplet_baselines import (
    MemoryRenders,
    arrow_writer_rate,
    encode_rate,
    mask_steps_rate,
    shard_writer_rate,
    todays_rate,
)

ROUNDS = 2
CORES = len(os.sched_getaffinity(0))
EXPORT = "export of 940x1280 triplets, renders in memory"


def rows() -> Iterator[Row]:
    """Rates are triplets a second; the first export, which loads the libraries, is not counted."""
    renders = MemoryRenders()
    with (
        tempfile.TemporaryDirectory(dir=MEMORY) as folder,
        tempfile.TemporaryDirectory() as on_disk,
        mock.patch("thesis_assets.rendering.choice.make_renderer", return_value=renders),
    ):
        linked = write_bench_scene(Path(folder) / "linked", masks=False)
        masked = write_bench_scene(Path(folder) / "masked", masks=True)
        linked.export(CORES)
        yield from against_the_encoder(linked)
        yield from against_the_masking_steps(masked)
        yield from against_today(linked, masked)
        yield repeated(linked)
        yield from against_containers(linked)
        yield to_the_disk(linked, write_bench_scene(Path(on_disk) / "linked", masks=False))


def against_the_encoder(scene: BenchScene) -> Iterator[Row]:
    """The whole export with links, on all cores, against what the encoder could do on all of them."""
    rate, one_core, ratio = paired(lambda: TRIPLETS / scene.export(CORES), encode_rate, ROUNDS)
    name = f"{EXPORT}, links, {CORES} threads, against {CORES} x the single-core encode rate"
    yield Row("samples", name, rate, "triplets/s", CORES * one_core, ratio / CORES, ">= 0.6")


def against_the_masking_steps(scene: BenchScene) -> Iterator[Row]:
    """With masks: against its steps on the same files and renders with nothing around them; and against those on images alone."""
    name = f"{EXPORT}, masks, {CORES} threads, against"
    rate, steps, ratio = paired(
        lambda: TRIPLETS / scene.export(CORES), lambda: mask_steps_rate(scene.frames(), CORES, whole=True), ROUNDS
    )
    whole = f"{name} decode, mask, round, encode, digest and write alone on {CORES} threads"
    yield Row("samples", whole, rate, "triplets/s", steps, ratio, ">= 0.85")
    images = mask_steps_rate(scene.frames(), CORES)
    yield Row(
        "samples", f"{name} decode, mask and encode alone on {CORES} threads", rate, "triplets/s", images, rate / images
    )
    with on_cores(1):
        one_core = mask_steps_rate(scene.frames(), 1)
    name = f"{name} decode, mask and encode alone, {CORES} x one core"
    yield Row("samples", name, rate, "triplets/s", CORES * one_core, rate / (CORES * one_core))


def against_today(linked: BenchScene, masked: BenchScene) -> Iterator[Row]:
    """Float images, Pillow's default PNG, every JPEG encoded anew, one process."""
    for scene, kind in ((linked, "links"), (masked, "masks")):
        rate, today, ratio = paired(
            lambda scene=scene: TRIPLETS / scene.export(CORES), lambda scene=scene: todays_rate(scene.frames()), 1
        )
        name = f"{EXPORT}, {kind}, {CORES} threads, times faster than float images, Pillow PNG and JPEG in one process"
        yield Row("samples", name, rate, "triplets/s", today, ratio, ">= 10")


def repeated(scene: BenchScene) -> Row:
    """Exporting what is exported already."""
    again, first, ratio = paired(lambda: scene.export_again(CORES), lambda: scene.export(CORES), ROUNDS)
    name = f"no-change re-run of {TRIPLETS} exported triplets, share of the export's time"
    return Row("samples", name, again, "s", first, ratio, "<= 0.02")


def against_containers(scene: BenchScene) -> Iterator[Row]:
    """Triplets a second on one and two cores, against other containers of the same encoded bytes."""
    containers = (
        ("webdataset", "webdataset's ShardWriter", shard_writer_rate),
        ("datasets", "Hugging Face datasets' ArrowWriter", arrow_writer_rate),
    )
    for package, title, container_rate in containers:
        for cores in (1, 2):
            name = f"{EXPORT}, links, {cores} cores, against {title} with the same encoded bytes"
            absent = skipped_without(package, "samples", name)
            if absent is not None:
                yield absent
                continue
            with on_cores(cores):
                rate, other, ratio = paired(
                    lambda cores=cores: TRIPLETS / scene.export(cores),
                    lambda cores=cores, container_rate=container_rate: container_rate(scene.frames(), cores),
                    ROUNDS,
                )
            yield Row("samples", name, rate, "triplets/s", other, ratio)


def to_the_disk(in_memory: BenchScene, on_disk: BenchScene) -> Row:
    """The same export to the disk of temporary files, flushed before its record is published."""
    rate, memory, ratio = paired(
        lambda: TRIPLETS / on_disk.export(CORES), lambda: TRIPLETS / in_memory.export(CORES), ROUNDS
    )
    return Row(
        "samples",
        f"{EXPORT}, links, {CORES} threads, to this disk against to memory",
        rate,
        "triplets/s",
        memory,
        ratio,
    )
