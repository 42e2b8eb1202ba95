"""`thesis-assets doctor`: what this machine has, what is missing, and the fix for each."""

import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from thesis_assets.cli import options
from thesis_assets.cli.console import FAILED, human_bytes, load_platform, print_json, print_table
from thesis_assets.errors import InvalidFile, ThesisAssetsError, pip_install
from thesis_assets.graph.cells import Cell
from thesis_assets.graph.platform import Platform
from thesis_assets.settings import Settings

NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "gpfs", "lustre", "beegfs", "cifs", "smb3", "ceph", "fuse.sshfs", "9p", "afs"}
"""Where SQLite locks and corrupts."""
LOW_SPACE_BYTES = 5_000_000_000
PACKAGES = ("thesis-assets", "dagster", "torch", "accelerate", "rerun-sdk", "huggingface_hub", "pillow", "pandas")
ANSWER_SECONDS = 15
LPIPS_FIX = "make lpips (0.5 GB); or THESIS_LPIPS_WEIGHTS, see docs/operate.md"


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `ok`, `missing` (something works without it) or `bad`."""

    what: str
    state: str
    found: str
    fix: str = ""

    @classmethod
    def of(cls, what: str, there: object, found: str, fix: str, *, absent: str = "missing") -> "Finding":
        """What is there, and then needs no fix, or is not."""
        return cls(what, "ok" if there else absent, found, "" if there else fix)


def doctor(as_json: options.AsJson = False) -> None:
    """Show what this machine has and lacks, with the fix for each.

    Versions, roots and their free space, GPU, Slurm, ffmpeg, Vulkan, body models, LPIPS weights, Hub token (never its value).
    """
    platform = load_platform()
    settings = platform.settings
    findings = [
        *_versions(),
        *_roots(settings),
        *_moves(platform),
        *_dagster_home(settings),
        *machine(settings),
        *_hub(),
    ]
    if as_json:
        print_json([finding.__dict__ for finding in findings])
    else:
        print_table("", ("what", "state", "found", "fix"), [(f.what, f.state, f.found, f.fix) for f in findings])
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(FAILED)


def _versions() -> Iterator[Finding]:
    yield Finding("python", "ok", sys.version.split()[0])
    for package in PACKAGES:
        try:
            yield Finding(package, "ok", importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(package, "bad", "not installed", pip_install("-c constraints.txt -e ."))
    for extra, package in (("demo", "skimage"), ("gpu", "gsplat"), ("slurm", "submitit"), ("body", "smplx")):
        yield Finding.of(
            f"extra [{extra}]", importlib.util.find_spec(package), package, pip_install(f"-e '.[{extra}]'")
        )


def _roots(settings: Settings) -> Iterator[Finding]:
    for name, root in settings.roots.items():
        if not root.exists():
            yield Finding(
                name, "missing", str(root), "made when it is first written; or set its variable (docs/operate.md)"
            )
            continue
        if not os.access(root, os.R_OK | os.X_OK):
            yield Finding(name, "bad", f"{root} is not readable", "give yourself read permission, or set another root")
            continue
        free = shutil.disk_usage(root).free
        writable = _is_writable(root)
        state = "ok" if writable and free > LOW_SPACE_BYTES else "missing"
        fix = "" if writable else "read only: fine for inputs, not for results"
        if free <= LOW_SPACE_BYTES:
            fix = "little space is left: an export needs about 3 MB a triplet of 940x1280"
        yield Finding(name, state, f"{root}, {human_bytes(free)} free", fix)


def _moves(platform: Platform) -> Iterator[Finding]:
    """Snapshots that were written at another place: nothing of them is made again but the file that holds paths."""
    from thesis_assets.splits.data_json import moved_from

    for spec in platform.readable_experiments():
        found = moved_from(platform.difix(Cell(spec.exp_name)))
        if found is not None:
            folder, is_renewed = found
            state = "data.json was written anew" if is_renewed else "data.json still has its paths"
            fix = "" if is_renewed else f"`thesis-assets run --exp {spec.exp_name}` writes it anew, and nothing else"
            yield Finding("data home", "ok", f"{spec.exp_name} was moved here from {folder}: {state}", fix)


def _is_writable(root: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=root):
            return True
    except OSError:
        return False


def _dagster_home(settings: Settings) -> Iterator[Finding]:
    home = settings.dagster_home
    kind = file_system_of(home)
    if kind in NETWORK_FILE_SYSTEMS and _has_its_own_database(home):
        yield Finding("DAGSTER_HOME", "ok", f"{home} on {kind}; the history is in a database of its own")
    elif kind in NETWORK_FILE_SYSTEMS:
        fix = "set DAGSTER_HOME to a local disk: SQLite on a network file system corrupts; or use PostgreSQL"
        yield Finding("DAGSTER_HOME", "bad", f"{home} on {kind}", fix)
    else:
        yield Finding("DAGSTER_HOME", "ok", f"{home} on {kind}")


def _has_its_own_database(home: Path) -> bool:
    """Whether the instance file names another storage than SQLite below the home."""
    import yaml

    path = home / "dagster.yaml"
    value = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    storage = value.get("storage") if isinstance(value, dict) else None
    return isinstance(storage, dict) and bool(storage) and "sqlite" not in storage


def file_system_of(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The type of the file system that holds a path (or would: its nearest existing parent); `unknown` without /proc."""
    if not mounts.is_file():
        return "unknown"
    real = path
    while not real.exists():
        real = real.parent
    real = real.resolve()
    best, kind = Path("/"), "unknown"
    for line in mounts.read_text(encoding="utf-8").splitlines():
        _, point, this_kind, *_ = line.split(" ")
        mounted = Path(point.replace("\\040", " "))
        if real.is_relative_to(mounted) and len(mounted.parts) >= len(best.parts):
            best, kind = mounted, this_kind
    return kind


def _hub() -> Iterator[Finding]:
    from huggingface_hub import get_token

    there = get_token() is not None
    yield Finding.of("Hub token", there, "present" if there else "none", "`hf auth login`, for publishing")


# --- the machine itself: GPU, Slurm, programs, Vulkan, and files that others publish ---------------------------------


def machine(settings: Settings) -> Iterator[Finding]:
    """Everything of this machine that some part of the work needs."""
    yield from _gpu()
    yield from _slurm(settings)
    yield from _programs()
    yield _vulkan()
    yield from _body_models(settings)
    yield _lpips(settings)
    yield from _failure_hook(settings)


def absent_parts(settings: Settings) -> list[Finding]:
    """What the pictures and numbers of an evaluation lack here, each with what it costs and the command that brings it."""
    return [part for part in (_lpips(settings), _vulkan(), _ffmpeg()) if part.state == "missing"]


def _gpu() -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        driver = _answer(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"])
        if driver:
            fix = (
                f"this torch is a build without CUDA: {pip_install('torch')} from the index of one with it "
                "(https://pytorch.org/get-started/locally)"
            )
            yield Finding("GPU", "bad", f"{driver.splitlines()[0]}, which torch {torch.__version__} cannot use", fix)
        else:
            fix = "for `difix` and fast rendering use a GPU machine"
            yield Finding("GPU", "missing", "no CUDA device; everything runs on the CPU", fix)
        return
    capability = torch.cuda.get_device_capability()
    name, built = torch.cuda.get_device_name(), torch.cuda.get_arch_list()
    try:
        total = float((torch.ones(256, device="cuda") * 2).sum().item())
    except RuntimeError as error:
        fix = f"this torch has {', '.join(built)}: install a build for sm_{capability[0]}{capability[1]}"
        yield Finding("GPU", "bad", f"{name}: a kernel failed: {str(error).splitlines()[0]}", fix)
        return
    state, found, fix = architecture(capability, built)
    if total != 512.0:
        state, fix = "bad", "a kernel computed a wrong number: look into the driver's log (dmesg), try another GPU"
    yield Finding("GPU", state, f"{name}, {found}; a kernel ran", fix)


def architecture(capability: tuple[int, int], built: Sequence[str]) -> tuple[str, str, str]:
    """State, what was found and the fix, of a GPU's compute capability against what a build of torch holds.

    Machine code of the same major version and a minor one not above runs; else the driver compiles from PTX
    (`compute_XY` of no higher capability), which costs minutes at the first start.
    """
    mine = f"sm_{capability[0]}{capability[1]}"
    found = [each for name in built if (each := re.fullmatch(r"(sm|compute)_(\d{1,2})(\d)[a-z]?", name))]
    codes = [(each[1], int(each[2]), int(each[3])) for each in found]
    if any(kind == "sm" and major == capability[0] and minor <= capability[1] for kind, major, minor in codes):
        return "ok", f"{mine} of {', '.join(built)}", ""
    fix = f"install a build of torch with {mine}"
    if any(kind == "compute" and (major, minor) <= capability for kind, major, minor in codes):
        return "missing", f"{mine} is compiled from PTX at the first start ({', '.join(built)})", fix
    return "bad", f"{mine} is not in this build ({', '.join(built)})", fix


def _slurm(settings: Settings) -> Iterator[Finding]:
    wanted = settings.launcher == "slurm"
    absent = "bad" if wanted else "missing"
    if shutil.which("sbatch") is None:
        fix = "run where `sbatch` is, or set THESIS_LAUNCHER=local" if wanted else "only for THESIS_LAUNCHER=slurm"
        yield Finding("Slurm", absent, "no sbatch on PATH", fix)
        return
    partitions = _answer(["sinfo", "--noheader", "--format=%P %a %D"])
    if partitions is None:
        fix = "is this a login node? `sinfo` must answer; ask who runs the cluster"
        yield Finding("Slurm", absent, "sinfo does not answer", fix)
        return
    lines = [line.split() for line in partitions.splitlines() if line.strip()]
    up = [line for line in lines if len(line) > 1 and line[1] == "up"]
    shown = ", ".join(f"{line[0]} ({line[-1]} nodes)" for line in up) or "no partition is up"
    yield Finding("Slurm", "ok" if up else absent, shown, "" if up else "wait, or ask who runs the cluster")
    if wanted and up:
        yield from _submissions(settings)


def _submissions(settings: Settings) -> Iterator[Finding]:
    """Whether the cluster takes what the presets ask for. It is asked, and nothing is submitted."""
    from thesis_assets.launch.slurm_cluster import Submission, ask_submission
    from thesis_assets.launch.slurm_jobs import SlurmLauncher

    launcher = Platform(settings).launcher
    assert isinstance(launcher, SlurmLauncher)
    site = launcher.site
    try:
        answers: dict[str, Submission] = {name: ask_submission(site, preset) for name, preset in site.presets.items()}
    except ThesisAssetsError as error:
        yield Finding("Slurm jobs", "bad", error.in_one_line, error.remedy or "")
        return
    few = {name: answer.min_gpus for name, answer in answers.items() if answer.said and answer.min_gpus is not None}
    if few:
        lacking = {name: {**settings.slurm_presets.get(name, {}), "min_gpus": gpus} for name, gpus in few.items()}
        line = f"THESIS_SLURM_PRESETS='{json.dumps({**settings.slurm_presets, **lacking})}'"
        found = "; ".join(f"{name}: {answers[name].said}" for name in few)
        yield Finding(
            "Slurm jobs", "bad", f"refused without a GPU, taken with one: {found}", f"write into .env: {line}"
        )
    refused = {name: answer.said for name, answer in answers.items() if answer.min_gpus is None}
    if refused:
        fix = "set THESIS_SLURM_ACCOUNT, _PARTITION and _QOS as the cluster wants them; or change the preset (docs/slurm.md)"
        state = "bad" if len(refused) == len(answers) else "missing"
        yield Finding("Slurm presets", state, "; ".join(f"{name}: {said}" for name, said in refused.items()), fix)
    if not few and len(refused) < len(answers):
        taken = ", ".join(name for name in answers if name not in refused)
        yield Finding("Slurm jobs", "ok", f"taken as the presets ask for them: {taken}")


def _ffmpeg() -> Finding:
    version = _answer(["ffmpeg", "-hide_banner", "-version"])
    if version is None:
        return Finding("ffmpeg", "missing", "no videos of the evaluated views", "sudo apt-get install ffmpeg")
    return Finding("ffmpeg", "ok", " ".join(version.split()[:3]))


def _programs() -> Iterator[Finding]:
    yield _ffmpeg()
    rerun = Path(sys.executable).with_name("rerun")
    yield Finding.of("rerun viewer", rerun.is_file(), str(rerun), pip_install("rerun-sdk"), absent="bad")
    revision = _answer(["git", "rev-parse", "HEAD"])
    yield Finding.of("git revision", revision, (revision or "not in a git checkout").strip()[:40], "")


def _vulkan() -> Finding:
    folders = ("/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d")
    named = os.environ.get("VK_DRIVER_FILES") or os.environ.get("VK_ICD_FILENAMES")  # in their place, where one is set
    files = (
        [path for path in map(Path, named.split(os.pathsep)) if path.is_file()]
        if named
        else [path for folder in folders for path in Path(folder).glob("*.json")]
    )
    drivers = sorted({path.stem for path in files})
    if not drivers:
        fix = "sudo apt-get install mesa-vulkan-drivers (or the GPU's own)"
        return Finding("Vulkan driver", "missing", "no pictures of recordings", fix)
    software = all(name.startswith(("lvp", "gfxstream", "virtio")) for name in drivers)
    return Finding("Vulkan driver", "ok", f"{', '.join(drivers)}{' (on the CPU)' if software else ''}")


def _body_models(settings: Settings) -> Iterator[Finding]:
    from thesis_assets.scenes.bodies import BodyModel, find_body_model

    models: tuple[BodyModel, ...] = ("smplx", "smpl")
    for model in models:
        found, lacks = [], ""
        for gender in ("neutral", "male", "female"):
            try:
                find_body_model(settings.body_models, model, gender)
                found.append(gender)
            except InvalidFile as error:
                lacks = error.remedy or error.problem
        yield Finding.of(f"{model.upper()} models", found, ", ".join(found) or "none", lacks)


def _lpips(settings: Settings) -> Finding:
    from thesis_assets.images.lpips_files import find_lpips
    from thesis_assets.images.perceptual import load_lpips

    try:
        files = find_lpips(settings.lpips_weights)
    except InvalidFile:
        return Finding("LPIPS weights", "missing", "the column lpips is empty", LPIPS_FIX)
    try:
        load_lpips(settings.lpips_weights)
    except InvalidFile as error:
        return Finding("LPIPS weights", "bad", f"{error.file}: {error.problem}", LPIPS_FIX)
    return Finding("LPIPS weights", "ok", str(files.backbone.parent))


def _failure_hook(settings: Settings) -> Iterator[Finding]:
    if settings.failure_command:
        try:
            program = shlex.split(settings.failure_command)[0]
        except (ValueError, IndexError):
            program = settings.failure_command
        fix = "correct THESIS_FAILURE_COMMAND: its first word must be a program"
        yield Finding.of("failure command", shutil.which(program), program, fix, absent="bad")
    if settings.failure_mail:
        yield Finding("failure mail", "ok", f"{settings.failure_mail} by {settings.smtp_host}:{settings.smtp_port}")
    if not (settings.failure_command or settings.failure_mail):
        fix = "set THESIS_FAILURE_COMMAND or THESIS_FAILURE_MAIL to hear of failed runs"
        yield Finding("failure hook", "missing", "nobody is told of a failed run", fix)


def _answer(command: Sequence[str]) -> str | None:
    """What a program prints; None where it is not there, fails, or does not answer in time."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            list(command), capture_output=True, text=True, errors="replace", timeout=ANSWER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
