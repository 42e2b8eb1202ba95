"""Python environments that lack this package, for a trainer that is the user's own."""

import subprocess
import sys
import sysconfig
from pathlib import Path

WANDB = """
def init(*words, **settings):
    return None
"""
LAUNCH = """
import runpy, sys
words = sys.argv[1:]
place = next(number for number, word in enumerate(words) if word.endswith(".py"))
sys.argv = words[place:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def make_environment(folder: Path, *, torch: bool) -> Path:
    """A second environment; returns its interpreter.

    Args:
        torch: with this one's torch and accelerate, whose folder is on its path (a folder that is only on the path brings no
            editable installation with it); else with a launcher of ten lines in their place.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    python = folder / "bin" / "python"
    packages = Path(
        subprocess.run(
            [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout.strip()
    )
    (packages / "wandb.py").write_text(WANDB)
    if torch:
        (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    else:
        (packages / "accelerate" / "commands").mkdir(parents=True)
        for name in ("__init__.py", "commands/__init__.py"):
            (packages / "accelerate" / name).touch()
        (packages / "accelerate" / "commands" / "launch.py").write_text(LAUNCH)
    return python
