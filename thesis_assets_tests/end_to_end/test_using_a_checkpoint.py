"""A tuned checkpoint used from the command line: verified, and applied to files."""

import json
from pathlib import Path

from thesis_assets.images.codecs import image_size
from thesis_assets_tests.worlds import World, thesis_assets


def test_every_checkpoint_of_a_run_verifies_and_a_cut_one_does_not(finished_world: World) -> None:
    arguments = ("checkpoint", "verify", "--exp", "small", "--run", "r1", "--json")
    whole = thesis_assets(finished_world, *arguments)
    assert whole.returncode == 0, whole.stderr
    assert [(row["step"], row["whole"]) for row in json.loads(whole.stdout)] == [(2, True), (4, True)]
    path = finished_world.platform.difix(finished_world.cell()).tuning_run("r1").checkpoint(2)
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-100])
        cut = thesis_assets(finished_world, *arguments)
    finally:
        path.write_bytes(content)
    assert cut.returncode == 3
    assert [row["whole"] for row in json.loads(cut.stdout)] == [False, True]


def test_one_render_is_refined_at_its_own_size(finished_world: World, tmp_path: Path) -> None:
    tree = finished_world.platform.difix(finished_world.cell())
    sample = sorted(tree.samples_dir.iterdir())[0]
    out = tmp_path / "refined.png"
    result = thesis_assets(
        finished_world,
        *("refine", "--checkpoint", str(tree.tuning_run("r1").checkpoint(4)), "--image", str(sample / "image.png")),
        *("--ref", str(sample / "ref_image.jpg"), "--out", str(out)),
    )
    assert result.returncode == 0, result.stderr
    assert image_size(out) == image_size(sample / "image.png")
    assert out.read_bytes() != (sample / "image.png").read_bytes()
