"""Every number of a task once more, from its saved images and arrays alone, by other libraries' formulas and plain loops.

Nothing of the evaluation room is used: PIL and numpy read, scikit-image and SciPy measure.
"""

import csv
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation
from skimage.metrics import structural_similarity

Array = np.ndarray[Any, Any]
Row = dict[str, float | None]


def assert_task_is_reproduced(base: Path) -> int:
    """Every number of every required file below `<task>/metrics/`. Returns how many there were."""
    metrics = base / "metrics"
    protocol = json.loads((metrics / "protocol.json").read_text())
    table = next(path for path in metrics.glob("*.csv") if "per_frame" in path.name)
    written = read_csv(table)
    rows = [nvs_row(base, protocol, row) for row in written] if base.name == "nvs" else pose_rows(base, protocol)
    count = sum(same(one, other, table) for one, other in zip(written, rows, strict=True))
    counted = [row for row in rows if row.get("camera_id") != protocol["details"]["source_camera"]]
    for path in metrics.iterdir():
        if path.suffix == ".txt":
            lines = dict(line.split(": ") for line in path.read_text().splitlines())
            overall = {key: None if value == "nan" else float(value) for key, value in lines.items()}
            count += same(overall, means(counted, list(overall)) | recall(protocol, counted), path, tolerance=1e-4)
        elif path.suffix == ".csv" and path != table:
            for camera in read_csv(path):
                own = [row for row in rows if row["camera_id"] == camera["camera_id"]]
                count += same(camera, means(own, list(camera)) | {"camera_id": camera["camera_id"]}, path)
    return count


def read_csv(path: Path) -> list[Row]:
    with path.open(newline="") as handle:
        return [{key: float(text) if text else None for key, text in row.items()} for row in csv.DictReader(handle)]


def same(written: Row, found: Row, path: Path, tolerance: float = 1e-5) -> int:
    """Compare the numbers of one row."""
    for key, value in written.items():
        other = found[key]
        assert (value is None) == (other is None), (path, key, value, other)
        if value is not None and other is not None:
            assert abs(value - other) <= tolerance + 1e-6 * abs(value), (path, key, value, other)
    return len(written)


def means(rows: list[Row], keys: list[str]) -> Row:
    values = {key: [row[key] for row in rows if row.get(key) is not None] for key in keys}
    return {key: float(np.mean(found)) if found else None for key, found in values.items()}  # type: ignore[arg-type]


# --- novel views -----------------------------------------------------------------------------------------------------


def nvs_row(base: Path, protocol: dict[str, Any], row: Row) -> Row:
    name = f"cam_{int(row['camera_id'] or 0)}", f"{int(row['frame_id'] or 0):06d}.png"
    pred, true = (np.asarray(Image.open(base / side / "/".join(name))) for side in ("pred", "gt_inputs"))
    how = protocol["comparable"]
    mask = base / "inputs" / name[0] / "mask" / name[1]
    inside = coarse_mask(np.asarray(Image.open(mask)) > 127, how["downscale_factor"]) if mask.exists() else None
    region = np.ones(pred.shape[:2], bool)
    values: Row = {"camera_id": row["camera_id"], "frame_id": row["frame_id"], "lpips": None}
    if inside is not None and (how["region"], how["background"]) != ("full_frame", "none"):
        if not inside.any():
            return values | {"psnr": None, "ssim": None, "psnr_channel_sum": None}
        if how["region"] != "full_frame":
            region = inside if how["region"] == "mask" else box_around(inside)
    error = ((pred[region] / 255 - true[region] / 255) ** 2).sum(axis=1)
    values["psnr"] = 10 * math.log10(1 / max(float(error.mean()) / 3, 1e-12))
    values["psnr_channel_sum"] = 10 * math.log10(1 / max(float(error.mean()), 1e-12))
    _, similarity = structural_similarity(
        pred, true, gaussian_weights=True, use_sample_covariance=False, full=True, channel_axis=2, data_range=255
    )
    chosen = similarity[5:-5, 5:-5][region[5:-5, 5:-5]]
    values["ssim"] = float(chosen.mean()) if chosen.size else None
    return values


def coarse_mask(mask: Array, factor: int) -> Array:
    """True where at least half of a block is."""
    rows, columns = (range(0, size, factor) for size in mask.shape)
    return np.array([[mask[y : y + factor, x : x + factor].mean() >= 0.5 for x in columns] for y in rows])


def box_around(mask: Array) -> Array:
    rows, columns = np.nonzero(mask)
    box = np.zeros_like(mask)
    box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    return box


# --- bodies ----------------------------------------------------------------------------------------------------------


OF_THE_ROTATION = ("rr_mpjpe_mm", "rr_mve_mm", "pcdr", "mpjpe_mm", "mve_mm", "accel_mm")


def pose_rows(base: Path, protocol: dict[str, Any]) -> list[Row]:
    names = protocol["details"]["frames"]
    frames = {name: saved_bodies(base, name) for name in names}
    rows = {name: pose_row(*frames[name]) | {"frame_id": float(name)} for name in names}
    motion: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    for person in range(max(int(true["n_true"]) for _, true in frames.values())):
        for metric, found in motion_of(person, frames, protocol["comparable"]["frames_per_second"]).items():
            for name, value in found.items():
                motion[name].setdefault(metric, []).append(value)
    for name, row in rows.items():
        row |= dict.fromkeys(("w_mpjpe_mm", "wa_mpjpe_mm", "accel_mm", "jitter"))
        row |= {metric: float(np.mean(values)) for metric, values in motion[name].items()}
    if protocol["comparable"]["world_alignment"] == "pelvis_trajectory":
        pairs = [(true["joints"][:, 0], ours["joints"][true["pairs"][:, 0]][:, 0]) for ours, true in frames.values()]
        theirs, found = (np.concatenate(side) for side in zip(*pairs, strict=True))
        spread = np.linalg.svd(np.cov(theirs.T, found.T)[:3, 3:], compute_uv=False)  # a rigid move changes none of it
        for row in rows.values():
            row |= dict.fromkeys(OF_THE_ROTATION if spread[1] < 0.05 * spread[0] else ())
    return list(rows.values())


def recall(protocol: dict[str, Any], rows: list[Row]) -> Row:
    if "missing_people" not in protocol["details"]:
        return {}
    seen = sum(row["n_people"] or 0 for row in rows)
    return {"recall": seen / (seen + sum(len(people) for people in protocol["details"]["missing_people"].values()))}


def motion_of(person: int, frames: dict[str, Any], fps: float | None) -> dict[str, dict[str, float]]:
    """W- and WA-MPJPE, acceleration error and jitter of one person by frame."""
    ours: dict[int, Array] = {}
    moved: dict[int, Array] = {}
    true: dict[int, Array] = {}
    for name, (predicted, truth) in frames.items():
        for place, (one, other) in enumerate(truth["pairs"]):
            if other == person:
                back = np.linalg.inv(truth["motion"])
                ours[int(name)], moved[int(name)] = predicted["joints"][one].astype(float), truth["joints"][place]
                true[int(name)] = truth["joints"][place] @ back[:3, :3].T + back[:3, 3]
    found: dict[str, dict[str, float]] = {"w_mpjpe_mm": {}, "wa_mpjpe_mm": {}, "accel_mm": {}, "jitter": {}}
    order = sorted(ours)
    for chunk in (order[start : start + 100] for start in range(0, len(order), 100)):
        for metric, fitted in (("w_mpjpe_mm", chunk[:2]), ("wa_mpjpe_mm", chunk)):
            move = similarity(*(np.concatenate([side[frame] for frame in fitted]) for side in (ours, true)))
            for frame in chunk:
                found[metric][f"{frame:06d}"] = distance(move(ours[frame]), true[frame])
    for t in order:
        if {t - 1, t - 2} <= ours.keys():
            bent = [
                (side[t] - side[t][0]) - 2 * (side[t - 1] - side[t - 1][0]) + (side[t - 2] - side[t - 2][0])
                for side in (ours, moved)
            ]
            found["accel_mm"][f"{t:06d}"] = distance(*bent) * (1 if fps is None else fps**2)
        if fps is not None and {t - 1, t - 2, t - 3} <= ours.keys():
            third = ours[t] - 3 * ours[t - 1] + 3 * ours[t - 2] - ours[t - 3]
            found["jitter"][f"{t:06d}"] = distance(third, np.zeros_like(third)) / 1000 * fps**3 / 10
    return found


def saved_bodies(base: Path, name: str) -> tuple[dict[str, Array], dict[str, Array]]:
    path = f"{base.name.removeprefix('pose_')}/{name}.npz"
    return dict(np.load(base / "inputs" / path)), dict(np.load(base / "gt_inputs" / path))


def pose_row(ours: dict[str, Array], theirs: dict[str, Array]) -> Row:
    order = [int(pair[0]) for pair in theirs["pairs"]]
    joints, vertices = (ours[key][order].astype(np.float64) for key in ("joints", "vertices"))
    true_joints, true_vertices = theirs["joints"], theirs["vertices"].astype(np.float64)
    n_people = len(order)
    values: Row = {
        "n_people": float(n_people),
        "n_true": float(theirs["n_true"]),
        "mpjpe_mm": distance(joints, true_joints),
        "mve_mm": distance(vertices, true_vertices),
        "rr_mpjpe_mm": distance(joints - joints[:, :1], true_joints - true_joints[:, :1]),
        "rr_mve_mm": distance(vertices - joints[:, :1], true_vertices - true_joints[:, :1]),
        "pa_mpjpe_mm": distance(
            np.stack([similarity(one, other)(one) for one, other in zip(joints, true_joints, strict=True)]), true_joints
        ),
    }
    values["cd_mm"] = contact(vertices, theirs.get("contact"))
    values["pcdr"] = values["pcdr_legacy"] = None
    if n_people > 1 and "source_extrinsics" in theirs:
        camera, back = theirs["source_extrinsics"], np.linalg.inv(theirs["motion"])
        unmoved = true_joints[:, 0] @ back[:3, :3].T + back[:3, 3]
        seen = depths(joints[:, 0], camera)
        values["pcdr"] = order_share(seen, depths(true_joints[:, 0], camera))
        values["pcdr_legacy"] = order_share(seen, depths(unmoved, camera))
    return values


def distance(points: Array, others: Array) -> float:
    return (
        float(np.mean([math.dist(*pair) for pair in zip(points.reshape(-1, 3), others.reshape(-1, 3), strict=True)]))
        * 1000
    )


def similarity(points: Array, target: Array) -> Callable[[Array], Array]:
    """SciPy's proper rotation, then the scale that fits best."""
    centre, aim = points.mean(axis=0), target.mean(axis=0)
    rotation, _ = Rotation.align_vectors(target - aim, points - centre)
    scale = (rotation.apply(points - centre) * (target - aim)).sum() / ((points - centre) ** 2).sum()
    return lambda moved: np.asarray(scale * rotation.apply(moved - centre) + aim)


def contact(vertices: Array, touches: Array | None) -> float | None:
    if touches is None or len(vertices) != 2:
        return None
    directions = []
    for person in (0, 1):
        gaps = [math.dist(vertices[person, i], vertices[1 - person, j]) for i, j in enumerate(touches[person]) if j > 0]
        directions += [float(np.mean(gaps))] if gaps else []
    return float(np.mean(directions)) * 1000 if directions else None


def depths(points: Array, camera: Array) -> list[float]:
    return [float(camera[2, :3] @ point + camera[2, 3]) for point in points]


def order_share(predicted: list[float], true: list[float]) -> float:
    """Of pairs of people: side by side within one layer (gaps of at most 0.3 m), else in the true order by 0.15 m."""
    layers: list[int] = [0] * len(true)
    ranked = sorted(range(len(true)), key=lambda person: true[person])
    for before, person in itertools.pairwise(ranked):
        layers[person] = layers[before] + (true[person] - true[before] > 0.3)
    right = []
    for one in range(len(true)):
        for other in range(one + 1, len(true)):
            gap = predicted[one] - predicted[other]
            if layers[one] == layers[other]:
                right.append(abs(gap) < 0.15)
            else:
                right.append(gap > 0.15 if layers[one] > layers[other] else gap < -0.15)
    return float(np.mean(right))
