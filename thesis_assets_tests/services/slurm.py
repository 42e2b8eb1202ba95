"""A real Slurm cluster on this host for tests: its own munge, one slurmctld, three slurmd with two fake GPUs each.

Its nodes say that two of them have A100 cards and one has V100 cards, which is a partition of its own too (`volta`). Like sites with a QOS
of minimal GPUs, its controller refuses jobs of the account `gpus_only` that ask for no GPU.

`slurm_cluster` is a session's fixture: import it into a test module. Nothing of it lies outside a temporary folder, and it listens on
free ports of loopback; all daemons are killed at the end. It needs root, and the packages `slurmctld slurmd slurm-client munge`.
"""

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from thesis_assets_tests.services.required import absent

NODES = ("n0", "n1", "n2")
VOLTA_NODE = "n2"
GPUS_A_NODE = 2
CORES_A_NODE = 4
MAX_ARRAY_SIZE = 10
START_SECONDS = 90
SMALL_PRESETS: dict[str, dict[str, int | float]] = {
    name: {"minutes": 10, "cores": 1, "memory_gb": 1}
    for name in ("smoke", "data_gen", "tune_1gpu", "tune_2gpu", "tune_4gpu", "cpu")
}
"""The presets, as small as these nodes are."""
REFUSE_WITHOUT_GPU = """
function slurm_job_submit(job, partitions, user)
    local gpus = (job.tres_per_node or "") .. (job.tres_per_job or "")
    if job.account == "gpus_only" and not string.find(gpus, "gpu") then
        slurm.log_user("QOSMinGRES: this account is for jobs with a GPU")
        return slurm.ERROR
    end
    return slurm.SUCCESS
end

function slurm_job_modify(job, record, partitions, user)
    return slurm.SUCCESS
end
"""
PROGRAMS = ("setpriv", "munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo", "scontrol", "scancel")


@dataclass
class SlurmCluster:
    """A running cluster. `environment` is what its clients need."""

    base: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> Mapping[str, str]:
        return {"SLURM_CONF": str(self.base / "slurm.conf")}

    def ask(self, *words: str, check: bool = True) -> str:
        """What one of Slurm's commands answers."""
        result = subprocess.run(
            words, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=30, check=False
        )
        assert not check or result.returncode == 0, f"{' '.join(words)}: {result.stderr}\n{self.diagnostics()}"
        return result.stdout

    def queue(self) -> list[str]:
        """Ids of the jobs that wait or run, an array's elements one by one."""
        return self.ask("squeue", "--noheader", "--array", "--format=%i").split()

    def states(self) -> dict[str, str]:
        """State of each node, such as `idle`, `mixed` or `down`."""
        return dict(line.split() for line in self.ask("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines())

    def start_node(self, node: str) -> None:
        """Start one node's daemon, in a session of its own."""
        words = ("slurmd", "-D", "-N", node, "-f", str(self.base / "slurm.conf"))
        self._start(f"slurmd-{node}", *words, SLURMD_NODENAME=node)

    def kill_node(self, node: str) -> None:
        """End everything that runs on a node at once, as a power cut does: nobody tells the controller."""
        everything = self._on_node(node)
        # Stopped first: what is killed before the rest would be missed, and reported.
        for signal_number in (signal.SIGSTOP, signal.SIGKILL):
            for process_id in everything:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process_id, signal_number)
        self._kill(f"slurmd-{node}")

    def _on_node(self, node: str) -> list[int]:
        """The node's daemon, its step daemons and all that they started: all carry its name in their environment."""
        wanted = f"SLURMD_NODENAME={node}".encode()
        conf = f"SLURM_CONF={self.base / 'slurm.conf'}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (folder / "environ").read_bytes().split(b"\0")
                if wanted in words and conf in words:
                    found.append(int(folder.name))
        return found

    def start(self) -> None:
        """Write the configuration, start everything, wait until every node is idle."""
        _write_configuration(self.base)
        (self.base / "munge.key").write_bytes(os.urandom(1024))
        (self.base / "munge.key").chmod(0o400)
        self._start(
            "munged",
            "munged",
            "--foreground",
            "--force",
            f"--key-file={self.base / 'munge.key'}",
            f"--socket={self.base / 'munge.socket'}",
            f"--pid-file={self.base / 'munged.pid'}",
            f"--log-file={self.base / 'munged.log'}",
            f"--seed-file={self.base / 'munge.seed'}",
        )
        self._until(lambda: (self.base / "munge.socket").exists(), "munged's socket")
        self._start("slurmctld", "slurmctld", "-D", "-f", str(self.base / "slurm.conf"))
        for node in NODES:
            self.start_node(node)
        self._until(lambda: set(self._quiet_states().values()) == {"idle"}, "every node to be idle")

    def wait_for_nodes(self) -> None:
        """Wait until every node is up and idle."""
        self._until(lambda: set(self._quiet_states().values()) == {"idle"}, "every node to be idle")

    def stop(self) -> None:
        """Cancel what is left, then kill every daemon."""
        if self.processes.get("slurmctld") is not None:
            self.ask("scancel", "--full", "--signal=KILL", *self.queue(), check=False)
        for node in NODES:
            self.kill_node(node)
        for name in list(self.processes):
            self._kill(name)

    def diagnostics(self) -> str:
        """The end of every daemon's log."""
        logs = sorted(self.base.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}" for log in logs)

    def _quiet_states(self) -> dict[str, str]:
        lines = self.ask("sinfo", "--noheader", "--Node", "--format=%N %T", check=False).splitlines()
        return dict(line.split() for line in lines) or {"": "no answer"}

    def _start(self, name: str, *words: str, **env: str) -> None:
        with (self.base / f"{name}.out.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                # Tests that are killed outright must not leave a cluster behind.
                ["setpriv", "--pdeathsig", "KILL", *words],
                env={**os.environ, **self.environment, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _kill(self, name: str) -> None:
        process = self.processes.pop(name, None)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            ended = [name for name, process in self.processes.items() if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                why = f"{', '.join(ended)} ended" if ended else f"{START_SECONDS} s passed"
                raise AssertionError(f"waiting for {what}: {why}; nodes {self._quiet_states()}\n{self.diagnostics()}")
            time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def _write_configuration(base: Path) -> None:
    host = socket.gethostname().partition(".")[0]
    controller, *ports = _free_ports(1 + len(NODES))
    devices = base / "dev"
    devices.mkdir()
    for number in range(GPUS_A_NODE):
        # The null device in a GPU's place: `Count=` without a device node drains the node.
        os.mknod(devices / f"nvidia{number}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    (base / "state").mkdir()
    gpus = f"{devices}/nvidia[0-{GPUS_A_NODE - 1}]"
    (base / "gres.conf").write_text(f"NodeName={','.join(NODES)} Name=gpu File={gpus}\n")
    lines = [
        "ClusterName=tests",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={controller}",
        "AuthType=auth/munge",
        # A requeued job waits until its credential has expired: 121 s unless told otherwise.
        f"AuthInfo=socket={base}/munge.socket,cred_expire=5",
        "SlurmUser=root",
        "SlurmdUser=root",
        f"StateSaveLocation={base}/state",
        f"SlurmdSpoolDir={base}/spool-%n",
        f"SlurmctldPidFile={base}/slurmctld.pid",
        f"SlurmdPidFile={base}/slurmd-%n.pid",
        f"SlurmctldLogFile={base}/slurmctld.log",
        f"SlurmdLogFile={base}/slurmd-%n.log",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core",
        "SlurmdParameters=config_overrides",
        "AccountingStorageType=accounting_storage/none",
        "JobAcctGatherType=jobacct_gather/none",
        "MpiDefault=none",
        "GresTypes=gpu",
        f"MaxArraySize={MAX_ARRAY_SIZE}",
        "ReturnToService=1",
        "KillWait=5",
        "SlurmdTimeout=20",
        "JobSubmitPlugins=lua",
        "SchedulerParameters=sched_interval=2,sched_min_interval=100000,batch_sched_delay=0,bf_interval=2",
    ]
    for node, port in zip(NODES, ports, strict=True):
        lines.append(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CORES_A_NODE} "
            f"RealMemory=8000 Gres=gpu:{GPUS_A_NODE} Features={'v100' if node == VOLTA_NODE else 'a100'} State=UNKNOWN"
        )
    lines.append(f"PartitionName=main Nodes={','.join(NODES)} Default=YES MaxTime=60 State=UP")
    lines.append(f"PartitionName=volta Nodes={VOLTA_NODE} MaxTime=60 State=UP")
    (base / "job_submit.lua").write_text(REFUSE_WITHOUT_GPU)
    (base / "slurm.conf").write_text("\n".join(lines) + "\n")


def _missing() -> str | None:
    """Why there can be no cluster here; None where there can."""
    hidden = [program for program in PROGRAMS if shutil.which(program) is None]
    if hidden:
        return f"{', '.join(hidden)}: not on the path, to which /usr/sbin must belong"
    return None if os.geteuid() == 0 else "slurmd needs root"


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[SlurmCluster]:
    """A cluster for the whole session."""
    missing = _missing()
    if missing is not None:
        pytest.skip(absent("Slurm", missing))
    # Short: a socket's path has at most 107 characters, and pytest's own folders are long.
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder:
        cluster = SlurmCluster(Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
