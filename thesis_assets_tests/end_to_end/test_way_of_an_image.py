"""How an image comes to the disk: through the IO manager and the one map, by few frames of ours."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from thesis_assets_tests.worlds import SMALL, TINY_RUN, World

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_stack.py"
MOST_FRAMES = 14


@pytest.mark.long
def test_from_a_command_to_an_image_on_the_disk_it_is_few_frames_of_ours(new_world: Callable[..., World]) -> None:
    # Every scene is evaluated, so that workers share the views; the last checkpoint needs nobody to be chosen by.
    runs = {"r1": {**TINY_RUN, "selection": {"rule": "last"}}}
    world = new_world({**SMALL, "runs": runs, "evaluation": {"scenes": ["studio_*"], "epochs": [0, 1]}})
    command = [sys.executable, str(SCRIPT), "run", "--exp", "small", "--until", "nvs"]
    environment = {**os.environ, **world.environment, "THESIS_WORKERS": "2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    ways = done.stdout.split("\n")
    deepest = int(ways[-2].removeprefix("deepest: "))
    assert deepest <= MOST_FRAMES, done.stdout
    for folder in ("samples", "render", "render_vs_gt"):
        place = next(number for number, line in enumerate(ways) if line.startswith(f"{folder}: "))
        frames = [line.strip() for line in ways[place + 1 : place + 1 + int(ways[place].split()[1])]]
        assert frames.count("defs/io_manager.py:handle_output") == 1
        assert frames.count("launch/mapping.py:map_items") == 1
