"""What every command shares: the platform, the Dagster instance, output as text or JSON, exit codes."""

import contextlib
import fcntl
import io
import json
import math
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import dagster as dg
import typer
from rich.console import Console
from rich.table import Table

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.graph.platform import Platform
from thesis_assets.settings import Settings

DONE, FAILED, WRONG_USE, CHECK_FAILED = 0, 1, 2, 3

_DAGSTER_YAML = "dagster.yaml"


def console() -> Console:
    """A console that wraps to the terminal; where there is none, wide enough for a table of names and no colours."""
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)


class _Progress:
    """Lines on standard error, so that standard output stays the result.

    A line that begins with a blank tells of a step at work. In a terminal it stands until the next line takes its place; in
    a file one is written at once, then now and then.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_place = False
        self._step_began, self._told = -math.inf, -math.inf

    def write(self, line: str) -> None:
        with self._lock:
            if line.startswith(" "):
                self._detail(line)
            else:
                self._end_detail()
                sys.stderr.write(line + "\n")
                self._step_began, self._told = time.monotonic(), -math.inf
            sys.stderr.flush()

    def _detail(self, line: str) -> None:
        if sys.stderr.isatty():
            self._end_detail()
            sys.stderr.write(line.splitlines()[0][: shutil.get_terminal_size().columns - 1])
            self._in_place = True
            return
        now = time.monotonic()
        if now - self._told >= min(60.0, max(DETAIL_SECONDS, (now - self._step_began) / 20)):
            sys.stderr.write(line + "\n")
            self._told = now

    def _end_detail(self) -> None:
        if self._in_place:
            sys.stderr.write("\r\x1b[K")
            self._in_place = False


DETAIL_SECONDS = 15.0
"""Between two lines of one step's progress where no terminal shows them; more after five minutes, up to a minute."""
progress_line = _Progress().write


def wrong_use(problem: object) -> NoReturn:
    """End a command that cannot be done as it was given."""
    progress_line(f"error: {problem}")
    raise typer.Exit(WRONG_USE)


def load_platform(env_file: Path | None = None) -> Platform:
    """The platform of this environment, with progress on the terminal.

    Args:
        env_file: in place of `.env`.

    Raises:
        ThesisAssetsError: this user may not enter the data home.
    """
    settings = Settings() if env_file is None else Settings(_env_file=env_file)
    refuse_closed(settings.data_home, "the data home", "THESIS_DATA_HOME")
    return Platform(settings, progress_line)


def refuse_closed(folder: Path, what: str, setting: str) -> None:
    """Refuse a folder that this user may not enter: to most calls it would look as if it were empty.

    Raises:
        ThesisAssetsError: with the first folder of the path that is closed.
    """
    path = folder.absolute()
    for each in (*reversed(path.parents), path):
        # Not `Path.is_dir`, which raises below a closed folder.
        if os.path.isdir(each) and not os.access(each, os.X_OK):  # noqa: PTH112
            raise ThesisAssetsError(
                f"{what} may not be entered by this user",
                file=each,
                found="no permission",
                wanted="a folder that this user may enter and read",
                remedy=f"ask whose it is to open it (`chmod a+rx`), or name a folder of your own in {setting}",
            )


def prepare_dagster_home(settings: Settings) -> Path:
    """Make `DAGSTER_HOME` with an instance configuration, and export it and the data home to child processes.

    A configuration that is already there is left alone; else the working directory's is taken, or the checkout's.
    """
    home = settings.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    target = home / _DAGSTER_YAML
    sources = [path for path in (Path(_DAGSTER_YAML), Path(__file__).parents[2] / _DAGSTER_YAML) if path.is_file()]
    if not target.exists() and sources:
        shutil.copyfile(sources[0], target)
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ["THESIS_DATA_HOME"] = str(settings.data_home)
    os.environ["THESIS_EXPERIMENTS_DIR"] = str(settings.experiments_dir)
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    return home


def may_write(folder: Path) -> bool:
    """Whether this user may write into a folder, or into the nearest one above it that is there."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return os.access(there, os.W_OK)


@contextlib.contextmanager
def dagster_instance(settings: Settings, *, to_look: bool = False) -> Iterator[dg.DagsterInstance]:
    """The persistent instance whose history the web UI shows.

    Args:
        to_look: where this user may not write it, a copy of it is looked at, and goes with the command.

    Raises:
        ThesisAssetsError: it cannot be opened or written: one may not write there, or the disk is full.
    """
    from sqlalchemy.exc import DatabaseError

    refuse_closed(settings.dagster_home, "the history of runs", "DAGSTER_HOME")
    with contextlib.ExitStack() as stack:
        try:
            if to_look and settings.dagster_home.is_dir() and not may_write(settings.dagster_home):
                opened = dg.DagsterInstance.from_config(_copied(settings.dagster_home, stack))
            else:
                opened = _opened(settings)
        except (OSError, DatabaseError) as error:
            raise _closed_history("opened", settings.dagster_home, error) from error
        try:
            yield stack.enter_context(opened)
        except Exception as error:
            behind = next((each for each in _behind(error) if isinstance(each, DatabaseError)), None)
            if behind is None:
                raise
            raise _closed_history("read or written", settings.dagster_home, behind) from error


def _closed_history(what: str, home: Path, error: Exception) -> ThesisAssetsError:
    return ThesisAssetsError(
        f"the history of runs cannot be {what}",
        file=home,
        found=str(error).splitlines()[0],
        wanted="a folder that this user may write, on a disk with room",
        remedy="make room; where the data home is read-only, copy this folder, and name the copy in DAGSTER_HOME",
    )


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _opened(settings: Settings) -> dg.DagsterInstance:
    """The instance; where it is new, one process at a time makes its tables: Dagster's own making of them is not for two."""
    home = prepare_dagster_home(settings)
    with (home / ".opening.lock").open("a") as handle:
        fcntl.flock(handle.fileno(), fcntl.LOCK_EX)
        opened = dg.DagsterInstance.get()
        opened.schedule_storage  # noqa: B018 - the last of its tables are made when it is first asked for
    return opened


def _copied(home: Path, stack: contextlib.ExitStack) -> str:
    """A copy of a history's databases and configuration, until the stack ends."""
    copy = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    for path in home.rglob("*"):
        if path.name == _DAGSTER_YAML or ".db" in path.suffix:
            target = copy / path.relative_to(home)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    progress_line(f"the history {home} may not be written by this user: a copy of it is looked at")
    return str(copy)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on standard output; numbers are right-aligned."""
    console().print(_table(title, header, rows))


def table_text(title: str, header: Sequence[str], rows: Sequence[Sequence[object]], *, width: int) -> str:
    """The same as text of a fixed width, whatever the terminal."""
    text = io.StringIO()
    Console(file=text, width=width, color_system=None, force_terminal=False, legacy_windows=False).print(
        _table(title, header, rows)
    )
    return text.getvalue()


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for place, name in enumerate(header):
        numeric = bool(rows) and all(isinstance(row[place], int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def _cell(value: object) -> str:
    from rich.markup import escape

    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return escape(f"{value:,.1f}" if isinstance(value, float) else str(value))


def print_json(value: Any) -> None:
    """One JSON value on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def human_bytes(count: int) -> str:
    """`1536` -> `1.5 KB`."""
    size = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
