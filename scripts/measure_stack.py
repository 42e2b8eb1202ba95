"""The deepest stack of the package's own frames from a command to an image on the disk, joined over threads and processes.

    python scripts/measure_stack.py run --exp demo --until predictions

runs `thesis-assets run ...` with the settings of this shell and prints, for every folder of images that was written, the frames from
the command to the write: those of the thread or process that writes below those of the one that gave it the work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "thesis_assets"

HOOK = '''
import atexit, concurrent.futures as futures, functools, json, os, sys, threading

PACKAGE, FOUND = os.environ["STACK_PACKAGE"], os.environ["STACK_FOUND"]
below, deepest = threading.local(), {}


def frames():
    found, frame = [], sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(PACKAGE) and not frame.f_code.co_name.startswith("<"):
            found.append(f"{name[len(PACKAGE) + 1:]}:{frame.f_code.co_name}")
        frame = frame.f_back
    return [*getattr(below, "frames", ()), *reversed(found)]


class Given:
    """A function with the frames of who gave it."""

    def __init__(self, function, given):
        self.function, self.given = function, given

    def __call__(self, *args, **kwargs):
        below.frames = self.given
        return self.function(*args, **kwargs)


def giving(submit):
    @functools.wraps(submit)
    def submit_with(pool, function, *args, **kwargs):
        return submit(pool, Given(function, frames()), *args, **kwargs)
    return submit_with


def heard(event, args):
    if event == "open" and isinstance(args[0], str) and isinstance(args[1], str) and set(args[1]) & set("wxa+"):
        path = args[0]
    elif event == "os.link":
        path = args[1]
    else:
        return
    path = os.fspath(path)
    if not isinstance(path, str) or not path.endswith((".png", ".jpg")):
        return
    own = frames()
    kind = next((part for part in reversed(path.split("/")[:-1]) if part.isidentifier()), "")
    if len(own) > len(deepest.get(kind, ())):
        deepest[kind] = own
        with open(f"{FOUND}/{os.getpid()}.json", "w") as file:
            json.dump(deepest, file)


if not os.environ.get("STACK_OFF"):
    futures.ThreadPoolExecutor.submit = giving(futures.ThreadPoolExecutor.submit)
    futures.ProcessPoolExecutor.submit = giving(futures.ProcessPoolExecutor.submit)
    sys.addaudithook(heard)
'''


def measure(words: list[str]) -> dict[str, list[str]]:
    """Run a command, and give by folder of images the deepest stack to one of them."""
    with tempfile.TemporaryDirectory() as folder:
        hook, found = Path(folder, "hook"), Path(folder, "found")
        hook.mkdir()
        found.mkdir()
        (hook / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
        paths = [str(hook), str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {"PYTHONPATH": os.pathsep.join(paths), "STACK_PACKAGE": str(PACKAGE), "STACK_FOUND": str(found)}
        command = [sys.executable, "-m", "thesis_assets.cli.main", *words]
        subprocess.run(command, env={**os.environ, **env}, check=True, stdout=subprocess.DEVNULL)
        deepest: dict[str, list[str]] = {}
        for file in found.iterdir():
            for kind, frames in json.loads(file.read_text()).items():
                if len(frames) > len(deepest.get(kind, ())):
                    deepest[kind] = frames
    return deepest


def main() -> None:
    """Print the stacks, and end with their greatest depth."""
    deepest = measure(sys.argv[1:])
    for kind, frames in sorted(deepest.items(), key=lambda item: len(item[1])):
        print(f"{kind}: {len(frames)} frames in {len({frame.partition(':')[0] for frame in frames})} files")
        print("".join(f"    {frame}\n" for frame in frames), end="")
    print(f"deepest: {max((len(frames) for frames in deepest.values()), default=0)}")


if __name__ == "__main__":
    main()
