"""The check that every sample is complete, without decoding and with a warm cache, against listing the same folders."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Row, paired, seconds_of
from benchmarks.photograph import photograph

SAMPLES, ROUNDS = 3000, 5


def rows() -> Iterator[Row]:
    """One row. The images are small: neither side reads more of a large one."""
    from thesis_assets.layout import DifixTree, SampleId, frame_name
    from thesis_assets.samples.integrity import check_samples_complete
    from thesis_assets.samples.sample_rows import row_of

    samples = [SampleId("studio_pair00_dance", 16, 4, frame_name(i), frame_name(i)) for i in range(SAMPLES)]
    manifest = [row_of(sample, "pair00") for sample in samples]
    with tempfile.TemporaryDirectory() as folder:
        tree = DifixTree(Path(folder), "bench")
        write_samples([tree.sample_dir(sample) for sample in samples])
        check, listing, ratio = paired(
            lambda: seconds_of(lambda: check_samples_complete(tree, manifest, decode_share=0)),
            lambda: seconds_of(lambda: listed(tree.samples_dir)),
            ROUNDS,
        )
        outcome = check_samples_complete(tree, manifest, decode_share=0)
        assert outcome.passed, outcome.message
        assert listed(tree.samples_dir) == 4 * SAMPLES
    name = f"every_sample_complete of {SAMPLES} samples without decoding, against nested os.scandir"
    yield Row("samples", name, check, "s", listing, ratio, "<= 8")


def write_samples(folders: list[Path]) -> None:
    """The four files of each sample, larger than what one read takes."""
    from thesis_assets.images.codecs import encode_jpeg, encode_png

    image = photograph()[:128, :128]
    jpeg = encode_jpeg(image)
    contents = {"image.png": encode_png(image), "target_image.jpg": jpeg, "ref_image.jpg": jpeg, "meta.json": b"{}\n"}
    for folder in folders:
        folder.mkdir(parents=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content)


def listed(samples_dir: Path) -> int:
    """Number of files two levels down. `os.walk` sorts files from folders as well and takes half as long again."""
    n = 0
    with os.scandir(samples_dir) as folders:
        for folder in folders:
            with os.scandir(folder.path) as files:
                n += sum(1 for _ in files)
    return n
