"""A PostgreSQL server of its own on loopback: made in a folder, started, restarted, killed, ended."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from thesis_assets_tests.services.dagster_server import free_port
from thesis_assets_tests.services.required import absent

DATABASE = "dagster"
USER = "thesis"
PROGRAMS = ("initdb", "pg_ctl", "createdb")


def binaries() -> Path | None:
    """The folder of the programs: on the path, or where Debian puts them; the newest version that has them all.

    Debian puts them beside the path, and a program on it that finds them: without that one they count as not here.
    """
    on_path = shutil.which("initdb")
    debian = Path("/usr/lib/postgresql").glob("*/bin") if shutil.which("pg_ctlcluster") else ()
    by_version = sorted(debian, key=lambda path: int(path.parts[-2]), reverse=True)
    folders = [*([Path(on_path).parent] if on_path else []), *by_version]
    return next((each for each in folders if all((each / name).is_file() for name in PROGRAMS)), None)


class PostgresServer:
    """One cluster in `folder`, with one database for Dagster. PostgreSQL refuses to run as root: then it runs as `postgres`."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self.data, self.port = programs, folder / "pg", free_port()
        self.log = folder / "postgres.log"
        self._as_user: list[str] = []
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            self._as_user = ["setpriv", "--reuid", str(owner.pw_uid), "--regid", str(owner.pw_gid), "--clear-groups"]
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        self._run("initdb", "-D", self.data, "-U", USER, "--auth=trust", "--no-sync", "-E", "UTF8")
        self.start()
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, DATABASE)

    @property
    def environment(self) -> dict[str, str]:
        """What `deploy/dagster.postgres.yaml` reads."""
        return {
            "THESIS_PG_USERNAME": USER,
            "THESIS_PG_PASSWORD": "none-is-asked-for",
            "THESIS_PG_HOSTNAME": "127.0.0.1",
            "THESIS_PG_PORT": str(self.port),
            "THESIS_PG_DATABASE": DATABASE,
        }

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories='' -c fsync=off"
        self._run("pg_ctl", "-D", self.data, "-l", self.log, "-w", "-t", "60", "-o", options, "start")

    def stop(self) -> None:
        """End it, its connections with it; no error where it is down already."""
        if self.is_running:
            self._run("pg_ctl", "-D", self.data, "-w", "-t", "60", "-m", "fast", "stop")

    def kill(self) -> None:
        """Kill all of its processes at once: nothing is written back, and the next start recovers from its log."""
        server = psutil.Process(int((self.data / "postmaster.pid").read_text().split()[0]))
        server.suspend()  # It starts nothing meanwhile, and does not see the others go.
        killed = [server, *server.children(recursive=True)]
        for process in killed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(killed, timeout=20)

    @property
    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        return (self.data / "postmaster.pid").is_file()

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [*self._as_user, str(self._programs / program), *map(str, arguments)],
            cwd=self.data.parent,
            # pg_ctl's server keeps standard output open: a pipe would never end.
            stdout=(self.data.parent / "programs.log").open("ab"),
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (self.data.parent / "programs.log").read_text()[-3000:]


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server in a folder of its own; skips (or fails, where services are required) without the programs.

    Not below pytest's own folder: that is closed to the user that the server runs as.
    """
    programs = binaries()
    if programs is None:
        pytest.skip(absent("PostgreSQL", "neither initdb nor Debian's pg_ctlcluster is on the path"))
    with tempfile.TemporaryDirectory(prefix="thesis-assets-postgres-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(programs, Path(folder))
        try:
            yield server
        finally:
            server.stop()
