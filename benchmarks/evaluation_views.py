"""Predicting and measuring full-size views on one core, against their unavoidable parts, each timed alone.

Measuring: render and photograph are decoded and downscaled, PSNR and SSIM computed, four pictures encoded; where ffmpeg is, the video
too. Predicting: render and reference are decoded and brought to the model's size, its correction back, the result encoded; a small
network's forward pass is timed and taken off. All else counts against it: masks, backgrounds, digests, files, records.
Run alone: `python -m benchmarks.evaluation_views <empty folder>` prints one JSON line.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench_scene import write_camera
from benchmarks.evaluation_tree import SCENES, SOURCE, STEPS, open_cell, roots, write, write_checkpoint
from benchmarks.measure import Row, on_cores, paired, seconds_of
from benchmarks.photograph import HEIGHT, WIDTH, photograph

SCENE = SCENES[0]
TARGETS, N_FRAMES = (1, 2, 3, 4), 8
N_VIEWS = len(TARGETS) * N_FRAMES
EPOCHS = {15: {"step": STEPS[0]}}
RESOLUTION = 512
ROUNDS = 3
NAMES = {
    "measure": "measuring a 940x1280 view, one core, against decode, downscale, PSNR, SSIM and encode alone",
    "video": "measuring a 940x1280 view with a video, one core, against the same and the video alone",
    "predict": "predicting a 940x1280 view around the model, one core, against decode, resize, resize back and encode alone",
}


def rows() -> Iterator[Row]:
    """What a process of its own measured: its libraries start with one thread."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.evaluation_views", folder],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    measured = json.loads(done.stdout.splitlines()[-1])
    for key, name in NAMES.items():
        if key in measured:
            value, parts, ratio = measured[key]
            yield Row("evaluation", name, value, "s", parts, ratio, "<= 1.5")
        else:
            yield Row("evaluation", name, None, "", target="<= 1.5", skipped="ffmpeg is not installed")


def main(folder: Path) -> None:
    write_scene(folder)
    write_checkpoint(folder, STEPS[0], RESOLUTION)
    views = FullViews(folder)
    views.measure(video=False)  # loads the libraries
    subjects: dict[str, tuple[Callable[[], float], Callable[[], float]]] = {
        "measure": (lambda: views.measure(video=False), views.parts_of_measuring),
        "video": (lambda: views.measure(video=True), lambda: views.parts_of_measuring() + views.video_alone()),
        "predict": (lambda: views.predict() - views.forward_alone(), views.parts_of_predicting),
    }
    if shutil.which("ffmpeg") is None:
        del subjects["video"]
    with on_cores(1):
        print(json.dumps({key: paired(*pair, ROUNDS) for key, pair in subjects.items()}))


def worked_off(step: Callable[[Any], Any], cell: Any) -> None:
    """Do a step of the evaluation of one scene, in this process."""
    from thesis_assets.evaluation.shared_work import SceneEpochs, joined
    from thesis_assets.launch.mapping import map_items

    joined(map_items(step, [SceneEpochs(cell, tuple(cell.epoch_steps()))], workers=1)).raise_failures()


@dataclass
class FullViews:
    """One scene's views, each time evaluated into a tree of its own. All times are seconds a view."""

    folder: Path
    trees: int = 0

    def fresh_cell(self) -> Any:
        if self.trees:
            shutil.rmtree(self.folder / f"results{self.trees}")
        self.trees += 1
        return open_cell(self.folder, SCENE, EPOCHS, f"results{self.trees}")

    def predict(self) -> float:
        from thesis_assets.evaluation.refined_predictions import refine_epoch
        from thesis_assets.evaluation.shared_work import SceneEpochs, each_epoch
        from thesis_assets.launch.mapping import Course

        def refine(work: SceneEpochs) -> Course[Any]:
            return (yield from each_epoch(work, "nvs", refine_epoch))

        self.cell = self.fresh_cell()
        return seconds_of(lambda: worked_off(refine, self.cell)) / N_VIEWS

    def measure(self, *, video: bool) -> float:
        from thesis_assets.evaluation.nvs import measure_views

        self.predict()
        program = shutil.which("ffmpeg") if video else None
        with mock.patch("thesis_assets.evaluation.nvs.shutil.which", return_value=program):
            return seconds_of(lambda: worked_off(measure_views, self.cell)) / N_VIEWS

    @property
    def keys(self) -> list[tuple[int, str]]:
        from thesis_assets.layout import frame_name

        return [(cam_id, frame_name(frame)) for cam_id in TARGETS for frame in range(N_FRAMES)]

    def parts_of_measuring(self) -> float:
        """Of the tree that was measured last: its files are read, and what it saved is encoded again."""
        from thesis_assets.evaluation.nvs_metrics import downscale
        from thesis_assets.images import metrics
        from thesis_assets.images.codecs import encode_png, read_rgb

        task, seconds = self.cell.tree.task(15, "nvs"), 0.0
        for key in self.keys:
            files = task.input_render(*key), self.cell.scene.image_path(*key)
            images = [read_rgb(path) for path in files]
            pair = [read_rgb(path) for path in (task.pred_image(*key), task.gt_image(*key))]
            pictures = [read_rgb(task.viz_image(key[0], kind, key[1])) for kind in ("render_vs_gt", "render_white_bg")]
            seconds += seconds_of(lambda files=files: [read_rgb(path) for path in files])
            seconds += seconds_of(lambda images=images: [downscale(image, 2) for image in images])
            seconds += seconds_of(lambda pair=pair: (metrics.psnr(*pair), metrics.ssim(*pair)))
            seconds += seconds_of(lambda saved=(*pair, *pictures): [encode_png(image) for image in saved])
        return seconds / N_VIEWS

    def video_alone(self) -> float:
        """The program with all pictures of a camera in memory."""
        from thesis_assets.evaluation.comparison_video import Video
        from thesis_assets.images.codecs import read_rgb

        task, seconds = self.cell.tree.task(15, "nvs"), 0.0
        for cam_id in TARGETS:
            paths = [task.viz_image(cam_id, "render_vs_gt", fname) for cam, fname in self.keys if cam == cam_id]
            pictures = [read_rgb(path) for path in paths]

            def encode(pictures: list[NDArray[np.uint8]] = pictures) -> None:
                with Video(self.folder / "alone.mp4", program=shutil.which("ffmpeg")) as video:
                    for picture in pictures:
                        video.add(picture)
                assert video.reason is None, video.reason

            seconds += seconds_of(encode)
        return seconds / N_VIEWS

    @cached_property
    def refiner(self) -> Any:
        from thesis_assets.tuning.refine import load_refiner

        return load_refiner(self.cell.tuning_run.checkpoint(STEPS[0]))

    def _tensors(self) -> tuple[Any, Any]:
        """The renders of a frame, and its reference: (B, 3, H, W) each, pixels interleaved as in files."""
        import torch

        images = [np.stack([photograph()] * count).astype(np.float32) / 255 for count in (len(TARGETS), 1)]
        renders, reference = (torch.from_numpy(each).permute(0, 3, 1, 2) for each in images)
        return renders, reference

    def forward_alone(self) -> float:
        """The network on the views of a frame, at its size."""
        import torch

        from thesis_assets.tuning.trained_model import processing_size, resize

        with torch.inference_mode():
            small = resize(self._tensors()[0], processing_size(HEIGHT, WIDTH, RESOLUTION))
            seconds = [seconds_of(lambda: self.refiner.correct(small, small)) for _ in range(N_FRAMES)]
        return sum(seconds) / N_VIEWS

    def parts_of_predicting(self) -> float:
        import torch

        from thesis_assets.images.codecs import encode_png, read_rgb
        from thesis_assets.tuning.trained_model import processing_size, resize

        scene, task, seconds = self.cell.scene, self.cell.tree.task(15, "nvs"), 0.0
        renders, reference = self._tensors()
        size = processing_size(HEIGHT, WIDTH, RESOLUTION)
        with torch.inference_mode():
            correction = self.refiner.correct(resize(renders, size), resize(renders, size)).contiguous()
            for fname in (self.keys[frame][1] for frame in range(N_FRAMES)):
                samples = [self.cell.difix.base / each for each in self._samples(fname)]
                refined = [read_rgb(task.input_render(cam_id, fname)) for cam_id in TARGETS]
                files = [*samples, scene.image_path(SOURCE, fname)]
                seconds += seconds_of(lambda files=files: [read_rgb(path) for path in files])
                seconds += seconds_of(lambda: (resize(renders, size), resize(reference, size)))
                seconds += seconds_of(lambda: resize(correction, (HEIGHT, WIDTH)))
                seconds += seconds_of(lambda refined=refined: [encode_png(image) for image in refined])
        return seconds / N_VIEWS

    def _samples(self, fname: str) -> list[str]:
        from thesis_assets.samples.sample_rows import read_rows

        rows_file = self.cell.difix.scene_run(SCENE).all_samples
        return [row.image_path for row in read_rows(rows_file) if row.target_fname == fname]


def write_scene(folder: Path) -> None:
    """Photographs, masks, cameras and renders as smooth as those of Gaussians; and the samples of all target views."""
    from thesis_assets import storage
    from thesis_assets.images.codecs import encode_jpeg, encode_png
    from thesis_assets.layout import frame_name
    from thesis_assets.samples.export import ShardWork, export_shard
    from thesis_assets.scenes.matching import group_id

    tree = roots(folder).tree(SCENE)
    storage.write_json(tree.registry_entry, {"seq_name": SCENE, "cam_id": SOURCE})
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    people = ((rows - 700) / 450) ** 2 + ((columns - 470) / 250) ** 2 < 1
    mask = encode_png(np.where(people, np.uint8(255), np.uint8(0)))
    for frame in range(N_FRAMES):
        for cam_id in (SOURCE, *TARGETS):
            key = cam_id, frame_name(frame)
            image = np.roll(photograph(), 37 * frame + 11 * cam_id, axis=1)
            write(tree.ground_truth.image(*key), encode_jpeg(image))
            write(tree.ground_truth.mask(*key), mask)
            write_camera(tree.ground_truth.camera(*key))
            if cam_id != SOURCE:
                smooth = (
                    image.astype(np.uint16) + np.roll(image, 1, 0) + np.roll(image, 1, 1) + np.roll(image, 2, 1)
                ) // 4
                write(tree.render(*key), encode_png(smooth.astype(np.uint8)))
    cell = open_cell(folder, SCENE, EPOCHS)
    generation, group = cell.experiment.generation, group_id(SCENE, cell.experiment.split.group_rules)
    made = export_shard(ShardWork(cell.difix, roots(folder), SCENE, generation, group))
    assert made.stats.n_saved == N_VIEWS, made.stats


if __name__ == "__main__":
    main(Path(sys.argv[1]))
