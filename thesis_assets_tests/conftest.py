"""Fixtures that several rooms' tests share: the small studio scenes, made once, and fresh worlds over them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")

from thesis_assets_tests.services.browser import chromium
from thesis_assets_tests.worlds import N_FRAMES, SCENES, SIZE, SMALL, World

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# A busy machine is no failure of a property.
settings.register_profile("house", deadline=None)
settings.load_profile("house")


@pytest.fixture(scope="session")
def scene_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data home that holds the small studio scenes; nothing may change it."""
    from thesis_assets.defs.platform import Platform
    from thesis_assets.demo.studio import make_studio
    from thesis_assets.demo.studio_cast import SCENES as CAST
    from thesis_assets.settings import Settings

    home = tmp_path_factory.mktemp("scenes")
    platform = Platform(Settings(_env_file=None, data_home=home, device="cpu"))
    chosen = [scene for scene in CAST if scene.name in SCENES]
    make_studio(platform.roots, lambda line: None, scenes=chosen, size=SIZE, n_frames=N_FRAMES)
    return home


@pytest.fixture
def new_world(tmp_path: Path, scene_home: Path) -> Callable[..., World]:
    """Make a world with some experiments (default: the small one)."""

    def make(*experiments: dict[str, object]) -> World:
        world = World(tmp_path / "home", scene_home)
        for experiment in experiments or (SMALL,):
            world.write(experiment)
        return world

    return make


@pytest.fixture(scope="session")
def finished_world(tmp_path_factory: pytest.TempPathFactory, scene_home: Path) -> World:
    """The small experiment, run to its end once. A test that changes a file of it puts it back."""
    world = World(tmp_path_factory.mktemp("finished") / "home", scene_home)
    world.write(SMALL)
    report = world.run()
    assert report.exit_code == 0, [outcome.errors + outcome.failed_checks for outcome in report.outcomes]
    return world


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """One headless chromium for the tests of a module; while it runs, nothing else in this process can use asyncio."""
    with chromium() as launched:
        yield launched
