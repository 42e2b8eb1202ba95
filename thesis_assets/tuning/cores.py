"""How many cores there are for a process here, and for each of several. Imports nothing heavy: asked before a launcher runs."""

import os


def available_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_per_process(processes: int) -> int:
    """What each of several training processes may use of this machine's cores, 1 at least."""
    return max(1, available_cores() // processes)
