"""Export of recordings: speed against a loop that logs decoded images frame by frame, and memory at two lengths."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.measure import Row, paired, seconds_of
from benchmarks.recording_tree import CAMERAS, N_PEOPLE, decoded, make_tree

N_FRAMES, ROUNDS = 24, 5
LENGTHS = (24, 120)
MAX_GROWTH_MB = 200


def rows() -> Iterator[Row]:
    """Speed of both recordings; growth of memory at both lengths."""
    with tempfile.TemporaryDirectory() as folder:
        tree = make_tree(Path(folder) / "speed", N_FRAMES)
        for part in ("input_data", "evaluation"):
            _export(tree, part)  # Once before: what a process imports first is not its speed.
            seconds, loop_seconds, ratio = paired(
                lambda part=part: seconds_of(lambda: _export(tree, part)),
                lambda part=part: seconds_of(lambda: _loop(tree, part, Path(folder) / "loop.rrd")),
                ROUNDS,
            )
            name = f"export of {part.replace('_', ' ')}, {len(CAMERAS)} cameras x {N_FRAMES} frames, times faster than a log() loop"
            yield Row("evaluation", name, seconds, "s", loop_seconds, 1 / ratio, ">= 3")
            size = sum(path.stat().st_size for path in tree.rerun_dir.glob("*.rrd"))
            loop_size = (Path(folder) / "loop.rrd").stat().st_size
            yield Row(
                "evaluation", f"size of both recordings so far, against the loop's {part}", size, "bytes", loop_size
            )
        for n_frames in LENGTHS:
            growth = _growth_mb(Path(folder) / f"memory{n_frames}", n_frames)
            name = f"memory growth of an export, {len(CAMERAS)} cameras x {n_frames} frames"
            yield Row("evaluation", name, growth, "MB", target=f"<= {MAX_GROWTH_MB}")


def _export(tree, part: str) -> None:
    from thesis_assets.recordings.exports import export_recordings

    export_recordings(tree, (part,), force=True)


def _loop(tree, part: str, path: Path) -> None:
    """What one writes first: decode and log each picture, each body with its faces, each number, frame by frame."""
    import rerun as rr

    from thesis_assets.layout import frame_name

    stream = rr.RecordingStream("loop")
    stream.save(path)
    task, pose, test = tree.task(30, "nvs"), tree.task(30, "pose_smplx"), tree.input_data("test")
    for frame in range(N_FRAMES):
        fname = frame_name(frame)
        stream.set_time("frame", sequence=frame)
        for cam_id in CAMERAS:
            if part == "input_data":
                stream.log(f"cam_{cam_id}/image", rr.Image(decoded(test.image(cam_id, fname))))
                stream.log(f"cam_{cam_id}/mask", rr.SegmentationImage(decoded(test.mask(cam_id, fname, 0))))
                continue
            prediction, truth = decoded(task.pred_image(cam_id, fname)), decoded(task.gt_image(cam_id, fname))
            stream.log(f"cam_{cam_id}/render", rr.Image(decoded(task.input_render(cam_id, fname))))
            stream.log(f"cam_{cam_id}/pred", rr.Image(prediction))
            stream.log(f"cam_{cam_id}/truth", rr.Image(truth))
            stream.log(f"cam_{cam_id}/difference", rr.Image(np.abs(prediction.astype(int) - truth).astype(np.uint8)))
            for metric in ("psnr", "ssim", "lpips"):
                stream.log(f"cam_{cam_id}/{metric}", rr.Scalars(20.0))
        for side in ("pred", "gt_inputs") if part == "evaluation" else ():
            for person in range(N_PEOPLE):
                vertices, faces = _read_obj(pose.person_mesh(side, "world_aligned", person, fname))
                stream.log(f"{side}/person_{person}", rr.Mesh3D(vertex_positions=vertices, triangle_indices=faces))
    stream.flush()
    stream.disconnect()


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray]:
    lines = [line.split() for line in path.read_text().splitlines()]
    vertices = np.array([line[1:4] for line in lines if line[0] == "v"], np.float32)
    faces = np.array([line[1:4] for line in lines if line[0] == "f"], np.int32) - 1
    return vertices, faces


def _growth_mb(root: Path, n_frames: int) -> float:
    """How far a fresh process's peak of resident memory rises over that of an export of one frame."""
    make_tree(root / "one", 1)
    make_tree(root / "all", n_frames)
    program = (
        "import json, sys\nfrom pathlib import Path\n"
        "from thesis_assets.recordings.exports import export_recordings\n"
        "from thesis_assets.layout import EvaluationTree\n"
        "from benchmarks.measure import peak_megabytes\n"
        "export_recordings(EvaluationTree(Path(sys.argv[1]) / 'one', 'bench'))\n"
        "before = peak_megabytes()\n"
        "export_recordings(EvaluationTree(Path(sys.argv[1]) / 'all', 'bench'))\n"
        "print(json.dumps(peak_megabytes() - before))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(root)], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout))
