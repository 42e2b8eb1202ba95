"""Fixtures that several rooms' tests share: the small studio scenes, made once, and fresh worlds over them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")

from thesis_assets_tests.defs.sensor_ticks import add_scene, experiment, tiny_world
from thesis_assets_tests.kept_worlds import KeptFolder, kept_folder
from thesis_assets_tests.services.browser import chromium
from thesis_assets_tests.worlds import N_FRAMES, SCENES, SIZE, SMALL, World

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# A busy machine is no failure of a property.
settings.register_profile("house", deadline=None)
settings.load_profile("house")


@pytest.fixture(scope="session")
def kept() -> Iterator[KeptFolder]:
    """See `kept_worlds`."""
    with kept_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def scene_home(kept: KeptFolder) -> Path:
    """A data home that holds the small studio scenes; nothing may change it."""
    from thesis_assets.demo.studio import make_studio
    from thesis_assets.demo.studio_people import SCENES as CAST
    from thesis_assets.graph.platform import Platform
    from thesis_assets.settings import Settings

    def make(home: Path) -> None:
        platform = Platform(Settings(_env_file=None, data_home=home, device="cpu"))
        chosen = [scene for scene in CAST if scene.name in SCENES]
        make_studio(platform.roots, lambda line: None, scenes=chosen, size=SIZE, n_frames=N_FRAMES)

    return kept.make_once("scenes", make)


@pytest.fixture
def new_world(tmp_path: Path, scene_home: Path) -> Callable[..., World]:
    """Make a world with some experiments (default: the small one)."""

    def make(*experiments: dict[str, object]) -> World:
        world = World(tmp_path / "home", scene_home)
        for each in experiments or (SMALL,):
            world.write(each)
        return world

    return make


@pytest.fixture(scope="session")
def finished_world(kept: KeptFolder, scene_home: Path) -> World:
    """The small experiment, run to its end, for tests that only look at it or put back what they change."""

    def make(home: Path) -> None:
        world = World(home, scene_home)
        world.write(SMALL)
        report = world.run()
        assert report.exit_code == 0, [outcome.errors + outcome.failed_checks for outcome in report.outcomes]

    return World(kept.make_once("finished", make), scene_home)


@pytest.fixture
def finished_world_to_change(kept: KeptFolder, finished_world: World) -> Iterator[World]:
    """The same, brought back as it was made, history and all, when a test that makes something of it anew has ended."""
    yield finished_world
    kept.bring_back("finished")


@pytest.fixture
def data_of_scenes(kept: KeptFolder) -> Iterator[Callable[[int], World]]:
    """Make a world of so many scenes of few images: the data of experiment `v1` is made, its run `r1` is declared and not trained.
    It is brought back as it was made, history and all, when the test has ended."""
    used = []

    def make(n_scenes: int) -> World:
        def make_at(base: Path) -> None:
            world = tiny_world(base)
            for number in range(n_scenes):
                add_scene(world, f"hi4d_pair{number:02}_hug")
            world.write(experiment("v1", runs={"r1": {"max_train_steps": 10}}))
            report = world.run("v1", until="difix_data")
            assert report.exit_code == 0, [outcome.errors + outcome.failed_checks for outcome in report.outcomes]

        used.append(f"data_of_{n_scenes}_scenes")
        return tiny_world(kept.make_once(used[-1], make_at))

    yield make
    for name in used:
        kept.bring_back(name)


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """One headless chromium for the tests of a module; while it runs, nothing else in this process can use asyncio."""
    with chromium() as launched:
        yield launched


# --- the tests that the run before had skipped -----------------------------------------------------------------------

_SKIPPED = "thesis_assets/skipped"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--skipped-before`."""
    parser.addoption("--skipped-before", action="store_true", help="only the tests that the run before had skipped")


class _Skipped:
    """Notes the skipped tests of a run, for `--skipped-before` in the next one."""

    def __init__(self, config: pytest.Config) -> None:
        self._config, self._names = config, set[str]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._names.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        if self._config.cache is not None:
            self._config.cache.set(_SKIPPED, sorted(self._names))


def pytest_configure(config: pytest.Config) -> None:
    """Note what is skipped, once: where the tests run side by side, in the process that hears of all of them."""
    if not hasattr(config, "workerinput") and not config.getoption("skipped_before"):
        config.pluginmanager.register(_Skipped(config))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave only what was skipped before, where that is asked for."""
    if config.getoption("skipped_before") and config.cache is not None:
        wanted = set(config.cache.get(_SKIPPED, []))
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in wanted])
        items[:] = [item for item in items if item.nodeid in wanted]
