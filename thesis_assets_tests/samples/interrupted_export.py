"""A program that exports one tiny scene, to be killed or watched from outside: `python -m ... <base> <root> <seconds a frame>`.

It says `ready` when everything is imported, `frame <name> <n>` before it renders n views of a frame, `record` when only the
made-from record is left to be written, and `done` at its end.
"""

import sys
import time
from pathlib import Path

import torch  # noqa: F401  before `ready`: the moments after it are the export's

from thesis_assets.errors import ThesisAssetsError
from thesis_assets.images import triplet_writer  # noqa: F401
from thesis_assets.provenance import making
from thesis_assets.rendering import renderer as _renderer  # noqa: F401
from thesis_assets.samples import triplet_export
from thesis_assets.samples.export import export_shard
from thesis_assets_tests.samples.tiny_scenes import work

NAME = "hi4d_pair00_dance"
THREADS = 2


def main(base: Path, root: str, seconds_a_frame: float) -> None:
    render = triplet_export.render_frame

    def tells(renderer, scene, fname, cam_ids):
        tell(f"frame {fname} {len(cam_ids)}")
        time.sleep(seconds_a_frame)
        return render(renderer, scene, fname, cam_ids)

    flush, publish = making.flush_files, making._publish

    def flushes(paths):
        tell("record")
        flush(paths)
        time.sleep(seconds_a_frame)

    def publishes(place, record):
        publish(place, record)
        time.sleep(seconds_a_frame)

    triplet_export.render_frame = tells
    making.flush_files, making._publish = flushes, publishes
    tell("ready")
    export_shard(work(base, NAME, root=root, threads=THREADS))
    tell("done")


def tell(line: str) -> None:
    """One write, so that a kill never leaves half a line: `print` makes two of them where output is not buffered."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
    except ThesisAssetsError as error:
        sys.exit(str(error))
