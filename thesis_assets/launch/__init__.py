"""Running functions and commands here or elsewhere: process groups, logs, progress, locks. Knows nothing of scenes."""

from thesis_assets.launch.launchers import require_local

__all__ = ["require_local"]
