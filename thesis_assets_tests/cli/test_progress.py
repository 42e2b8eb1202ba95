"""What a command says while it works: a line a step, its details in place, and what is absent once, at the end."""

import io
from collections.abc import Callable

import pytest

from thesis_assets.cli import console, demo
from thesis_assets.cli.console import _Progress
from thesis_assets.cli.doctor import absent_parts
from thesis_assets.cli.run import ended_lines
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import LEVELS
from thesis_assets.operations.execution import RunOutcome, Work
from thesis_assets_tests.worlds import World


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Callable[[io.StringIO], tuple[_Progress, io.StringIO]]:
    def to(stream: io.StringIO) -> tuple[_Progress, io.StringIO]:
        monkeypatch.setattr("sys.stderr", stream)
        return _Progress(), stream

    return to


def test_in_a_terminal_a_steps_details_take_one_anothers_place(written) -> None:
    progress, stream = written(Terminal())
    for line in ("  step 1 of 2", "  step 2 of 2", "done"):
        progress.write(line)
    assert stream.getvalue() == "  step 1 of 2\r\x1b[K  step 2 of 2\r\x1b[Kdone\n"


def test_a_detail_is_never_wider_than_the_terminal(written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    progress, stream = written(Terminal())
    progress.write("  " + 40 * "x" + "\n  more")
    assert stream.getvalue() == ("  " + 40 * "x")[:19]


def test_in_a_file_a_step_says_at_once_that_it_began_and_then_speaks_now_and_then(
    written, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    progress, stream = written(io.StringIO())
    progress.write("before")
    for second in range(3600):
        now[0] = 1000.0 + second
        progress.write(f"  {second} s")
    progress.write("done")
    lines = stream.getvalue().splitlines()
    assert lines[:4] == ["before", "  0 s", "  15 s", "  30 s"]
    assert 60 < len(lines) < 90, "a minute apart in the end"
    assert lines[-1] == "done"


def test_a_step_ends_in_one_line_and_an_absent_part_is_no_line_of_its_own() -> None:
    level = next(level for level in LEVELS if level.job == "evaluate")
    work = Work(level, level.assets, (Cell("demo", run_name="tiny_a"),))
    absent, real = "nvs.lpips_present: no weights", "input_data.input_data_clean: est_x lies there"
    well = RunOutcome(work, "id", success=True, warnings=[absent, real], n_checks=9)
    assert ended_lines("demo", well, 41.2) == [
        f"warning {real}",
        "demo: evaluation at every epoch (tiny_a): 41 s; 7 checks passed, 1 warning",
    ]
    refused = RunOutcome(work, "id", success=False, failed_checks=["nvs.nvs_required_files: cut"], n_checks=9)
    assert ended_lines("demo", refused, 3.0) == [
        "FAILED nvs.nvs_required_files: cut",
        "demo: evaluation at every epoch (tiny_a): 3 s; 8 checks passed, 1 failed",
    ]


def test_every_absent_part_has_the_command_that_brings_it(
    finished_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("VK_DRIVER_FILES", "/nowhere.json")
    monkeypatch.setenv("TORCH_HOME", str(finished_world.home / "no-torch"))
    parts = {part.what: part.fix for part in absent_parts(finished_world.settings)}
    assert parts.keys() == {"LPIPS weights", "Vulkan driver", "ffmpeg"}
    assert "make lpips" in parts["LPIPS weights"]
    assert all("sudo apt-get install" in parts[name] for name in ("Vulkan driver", "ffmpeg"))


def test_the_last_screen_fits_and_names_what_to_open(
    finished_world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("VK_DRIVER_FILES", "/nowhere.json")
    monkeypatch.chdir(finished_world.home)
    monkeypatch.setattr(demo, "DEMO_EXPERIMENTS", ("small",))
    with finished_world.instance() as instance:
        demo.last_screen(finished_world.platform, instance, seconds=187.0, n_made=9)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 140
    said = "\n".join(lines)
    for part in (
        "4 scenes, 36 triplets, 1 tuned checkpoint,",
        "LPIPS weights",
        "reports/",
        "make ui",
        "--run r1 --web",
    ):
        assert part in said, said
