"""A stand-in for a 3DGS pipeline of the user's: configured by words `key=value` as Hydra is, DiFix by `difix.model_id=<directory>`.

python hydra_pipeline.py task=render scene=S 'cameras=[4,28]' out=DIR                    renders, <out>/<cam>/<frame>.png
python hydra_pipeline.py task=train scene=S exp=E out=DIR 'epochs=[0,1]' difix.model_id=DIR   what it measured, half size, JPEG

`hydra.run.dir=DIR` goes with both: the words are kept there. It finds the scenes by the variables that it inherits, draws their
Gaussians, and refines every epoch but epoch 0 by the directory, loaded by diffusers.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from thesis_assets.graph.platform import Platform
from thesis_assets.rendering.gaussian_renderer import GaussianRenderer
from thesis_assets.rendering.torch_rasteriser import TorchRasteriser
from thesis_assets.scenes.scene import Scene, open_scene
from thesis_assets.settings import Settings
from thesis_assets_tests.tuning.published_pipeline import pipeline_of, refine_by

KEYS = {"task", "scene", "cameras", "out", "exp", "epochs", "difix.model_id", "hydra.run.dir"}


def main() -> None:
    words = dict(word.split("=", 1) for word in sys.argv[1:])
    if unknown := words.keys() - KEYS:
        sys.exit(f"Could not override '{min(unknown)}'. Key '{min(unknown)}' is not in struct")
    kept = Path(words["hydra.run.dir"], ".hydra", "overrides.yaml")
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(yaml.safe_dump(sys.argv[1:]))
    scene = open_scene(Platform(Settings()).roots, words["scene"])
    if words["task"] == "render":
        for (cam_id, fname), pixels in renders_of(scene, yaml.safe_load(words["cameras"])).items():
            save(Path(words["out"], str(cam_id), f"{fname}.png"), pixels)
    else:
        train(scene, words)


def renders_of(scene: Scene, cameras: list[int]) -> dict[tuple[int, str], torch.Tensor]:
    """(3, H, W) in [0, 1] by camera and frame."""
    renderer = GaussianRenderer(scene, TorchRasteriser())
    return {
        (cam_id, fname): renderer.render(fname, [scene.camera(cam_id, fname)])[0]
        for cam_id in cameras
        for fname in scene.frames(cam_id)
    }


def train(scene: Scene, words: dict[str, str]) -> None:
    source = scene.registry.cam_id
    difix = pipeline_of(Path(words["difix.model_id"]))
    renders = renders_of(scene, [cam_id for cam_id in scene.camera_ids() if cam_id != source])
    for epoch in yaml.safe_load(words["epochs"]):
        task = Path(words["out"], words["exp"], "evaluation", f"epoch_{epoch:04d}", "nvs")
        for (cam_id, fname), render in renders.items():
            reference, truth = read(scene, source, fname), read(scene, cam_id, fname)
            refined = refine(difix, render, reference) if epoch else render
            for side, picture in (("pred", refined), ("gt_inputs", truth)):
                save(task / side / f"cam_{cam_id}" / "metrics_input" / f"{fname}.jpg", picture, parts=2)


def read(scene: Scene, cam_id: int, fname: str) -> torch.Tensor:
    path = scene.image_path(cam_id, fname)
    assert path is not None
    return torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).copy()).permute(2, 0, 1) / 255


def refine(difix: Any, render: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """At sides that the network takes."""
    height, width = (16 * -(-side // 16) for side in render.shape[1:])
    views = [torch.nn.functional.interpolate(view[None], (height, width)) for view in (render, reference)]
    return torch.nn.functional.interpolate(refine_by(difix, *views, "remove degradation"), tuple(render.shape[1:]))[0]


def save(path: Path, picture: torch.Tensor, parts: int = 1) -> None:
    """`parts`: 2 halves the sides."""
    pixels = (picture.clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).numpy()
    height, width = (-(-side // parts) for side in pixels.shape[:2])
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image if parts == 1 else image.resize((width, height), Image.Resampling.BOX)).save(path)


if __name__ == "__main__":
    main()
