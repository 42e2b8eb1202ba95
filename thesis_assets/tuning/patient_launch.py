"""Runs a launcher module (`accelerate.commands.launch`, `torch.distributed.run`) that waits for its trainers when asked to stop.

python patient_launch.py <number of trainers> <module> <its arguments>

A cluster sends SIGTERM and SIGUSR2 to every process of a job. The trainers answer by saving, which takes as long as it takes; both
launchers would die of the signal, or kill the trainers after 30 seconds, and what is left of a job whose first process died is
killed too. It runs where the trainers do, so it is here that they are told how many threads each may have.
Imports nothing of ours, so that it starts at once. Does not belong here: what the trainers do.
"""

import os
import runpy
import signal
import sys


def available_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_per_process(processes: int) -> int:
    """What each of several training processes may use of this machine's cores, 1 at least."""
    return max(1, available_cores() // processes)


OF_A_LAUNCH = (
    *(
        "RANK",
        "LOCAL_RANK",
        "GROUP_RANK",
        "NODE_RANK",
        "ROLE_RANK",
        "WORLD_SIZE",
        "LOCAL_WORLD_SIZE",
        "ROLE_WORLD_SIZE",
    ),
    *("MASTER_ADDR", "MASTER_PORT"),
)
OF_A_LAUNCH_PREFIXES = ("PMI_", "PMIX_", "OMPI_COMM_", "MV2_COMM_", "MPI_LOCAL", "TORCHELASTIC_")


def forget_other_launches() -> None:
    """Take from this process what another launcher above it (torchrun, srun, mpirun) said of ranks and addresses.

    The trainers would take it for their own: wait for processes that never come, or believe to be one of several.
    """
    for name in list(os.environ):
        # `ACCELERATE_USE_CPU` is our own launch's; the others would change a run from outside its configuration.
        of_accelerate = name.startswith("ACCELERATE_") and name != "ACCELERATE_USE_CPU"
        if of_accelerate or name in OF_A_LAUNCH or name.startswith(OF_A_LAUNCH_PREFIXES):
            del os.environ[name]


def main(processes: int, module: str) -> None:
    """Run `module` as `python -m` would, deaf to both signals. A trainer listens again as soon as it runs."""
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    forget_other_launches()
    # torchrun would put a handler of its own in place of this.
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGINT,SIGHUP,SIGQUIT"
    # Left to itself one launcher counts the host's physical cores, also where a job has only a few, and the other gives one.
    os.environ.setdefault("OMP_NUM_THREADS", str(threads_per_process(processes)))
    del sys.argv[:2]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
