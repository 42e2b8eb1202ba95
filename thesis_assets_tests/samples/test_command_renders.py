"""Renders by the user's own command: when it runs, what it is told, what its failures cost."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from thesis_assets import storage
from thesis_assets.errors import CellLocked, InvalidScene, ThesisAssetsError
from thesis_assets.images.codecs import encode_png, read_rgb
from thesis_assets.launch.commands import JOB_VARIABLE
from thesis_assets.layout import SampleId
from thesis_assets.rendering import command_renders
from thesis_assets.rendering.command_renders import RenderCommandFailed
from thesis_assets.samples import triplet_export
from thesis_assets.samples.export import ShardWork, export_shard
from thesis_assets.samples.shards import read_dropped
from thesis_assets.samples.triplet_export import scene_renderer
from thesis_assets.scenes.scene import open_scene
from thesis_assets.schemas.scenes import RenderRecord
from thesis_assets.schemas.tuning import JobRecord
from thesis_assets_tests.samples.tiny_scenes import SIZE, image, look, roots, work, write_camera, write_scene

NAME = "hi4d_pair00_dance"
OTHER = "hi4d_pair01_dance"
SECOND = SampleId(NAME, 16, 4, "000001", "000001")

# Runs under an interpreter without site-packages: it knows neither this package nor an imaging library.
SCRIPT = """
import json, os, pathlib, sys
try:
    import thesis_assets
except ImportError:
    pass
else:
    sys.exit("this interpreter has the platform")
base, out, scene, cameras, frames = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]
with (base / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps({"argv": sys.argv[2:], "cwd": os.getcwd(), "env": dict(os.environ)}) + chr(10))
for frame in frames.split(","):
    if frame == "fail" and not (base / "mended").exists():
        sys.exit(f"no luck with {scene}")
    for camera in cameras.split(","):
        path = out / camera / f"{frame}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((base / "render.png").read_bytes())
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder whose name a shell would take apart, with one scene that has no renders."""
    base = tmp_path / "my data; touch pwned; 'x"
    base.mkdir()
    write_scene(roots(base))
    shutil.rmtree(roots(base).renders)
    (base / "render.py").write_text(SCRIPT)
    (base / "render.png").write_bytes(encode_png(image(3) // 2))
    return base


def by_command(
    base: Path, frames: str = "000000,000001", *, extra: str = "", exp: str = "v1", name: str = NAME, **renders: object
) -> ShardWork:
    words = (
        f"python -S -E render.py . {{render_dir}} {{scene_name}} {{target_cameras}} {frames} {{source_camera}} {extra}"
    )
    renders = {"python": sys.executable, "cwd": str(base), **renders}
    return work(base, name, exp=exp, renders={"source": "command", "command": words, **renders})


def calls(base: Path) -> list[dict]:  # type: ignore[type-arg]
    path = base / "calls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_command_makes_the_renders_of_a_scene_and_the_export_goes_on(base: Path) -> None:
    shard = by_command(base, extra="{exp_name}", env={"GREETING": "a b; $HOME"})

    record = export_shard(shard)

    assert (record.stats.n_saved, record.stats.renderer) == (2, "command")
    assert np.array_equal(read_rgb(shard.tree.image(SECOND)), image(3) // 2)
    (call,) = calls(base)
    renders_dir = roots(base).tree(NAME).renders_dir
    assert call["argv"] == [str(renders_dir), NAME, "16", "000000,000001", "4", "v1"]
    assert (call["cwd"], call["env"]["GREETING"]) == (str(base), "a b; $HOME")
    job = storage.read_json(shard.tree.render_command(NAME).job, JobRecord)
    assert (job.returncode, job.stdout) == (0, str(shard.tree.render_command(NAME).stdout))
    assert shard.tree.render_command(NAME).stderr.is_file()
    assert not list(base.parent.rglob("pwned"))


def test_a_command_of_hydras_is_given_a_run_folder(base: Path) -> None:
    root = base / "hydra"
    export_shard(by_command(base, extra="hydra.run.dir={hydra_run_dir}", env={"THESIS_HYDRA_ROOT_DIR": str(root)}))

    (call,) = calls(base)
    assert call["argv"][-1] == f"hydra.run.dir={root}/v1/_renders/{NAME}"


def test_set_up_lines_run_first_in_the_same_shell(base: Path) -> None:
    (base / "activate").write_text("export ACTIVATED='it is'\n")

    export_shard(by_command(base, setup=["source ./activate", "MORE=1; export MORE"]))

    (call,) = calls(base)
    assert (call["env"]["ACTIVATED"], call["env"]["MORE"]) == ("it is", "1")
    assert call["argv"][0] == str(roots(base).tree(NAME).renders_dir)
    assert not list(base.parent.rglob("pwned"))


def test_a_set_up_line_that_fails_ends_the_command(base: Path) -> None:
    with pytest.raises(RenderCommandFailed, match="status 3"):
        export_shard(by_command(base, setup=["echo no module >&2; (exit 3)", "echo never"]))

    assert calls(base) == []


def test_the_command_is_not_called_again_for_what_is_there(base: Path) -> None:
    shard = by_command(base)
    export_shard(shard)
    assert look(shard).is_made
    assert not export_shard(shard).exported
    # An unfinished shard, as a kill between the renders and the samples leaves it.
    shutil.rmtree(shard.tree.samples_dir)
    shutil.rmtree(shard.tree.scene_runs_dir)

    assert export_shard(shard).stats.n_saved == 2

    assert len(calls(base)) == 1


def test_a_finished_shard_needs_its_renders_no_more(base: Path) -> None:
    shard = by_command(base)
    export_shard(shard)
    shutil.rmtree(roots(base).renders)

    assert look(shard).is_made


def test_a_render_that_the_command_left_out_drops_its_sample(base: Path) -> None:
    shard = by_command(base, "000000")

    stats = export_shard(shard).stats

    assert (stats.n_saved, stats.n_dropped) == (1, 1)
    (dropped,) = read_dropped(shard.tree.scene_run(NAME).dropped_samples)
    assert (dropped.sample_id, dropped.reason) == (str(SECOND), "missing_render")
    shutil.rmtree(shard.tree.scene_runs_dir)
    export_shard(shard)
    assert len(calls(base)) == 1, "it has said its last word on that frame"


def test_a_render_that_went_missing_is_made_again(base: Path) -> None:
    shard = by_command(base)
    export_shard(shard)
    shutil.rmtree(shard.tree.scene_runs_dir)
    roots(base).tree(NAME).render(16, "000001").unlink()

    assert export_shard(shard).stats.n_saved == 2

    assert len(calls(base)) == 2


def test_a_render_that_was_cut_is_made_again_and_a_touched_scene_calls_nobody(base: Path) -> None:
    shard = by_command(base)
    export_shard(shard)
    for path in roots(base).canonical_gt.rglob("*.jpg"):
        path.touch()
    shutil.rmtree(shard.tree.scene_runs_dir)
    export_shard(shard)
    assert len(calls(base)) == 1
    render = roots(base).tree(NAME).render(16, "000001")
    render.write_bytes(render.read_bytes()[:-1])
    shutil.rmtree(shard.tree.base)

    assert export_shard(shard).stats.n_saved == 2

    assert len(calls(base)) == 2


def test_renders_of_a_command_that_was_stopped_are_no_other_commands(base: Path) -> None:
    export_shard(by_command(base))
    with pytest.raises(RenderCommandFailed):
        export_shard(by_command(base, "000000,fail", exp="v2"))

    assert export_shard(by_command(base, "000001", exp="v3")).stats.n_dropped == 1
    assert not roots(base).tree(NAME).render(16, "000000").exists()


def test_the_shards_of_two_runs_of_a_command_have_one_identity_and_two_data_versions(base: Path) -> None:
    shard, records = by_command(base), []
    for seed in (3, 4):
        shutil.rmtree(shard.tree.root, ignore_errors=True)
        shutil.rmtree(roots(base).renders, ignore_errors=True)
        (base / "render.png").write_bytes(encode_png(image(seed) // 2))
        export_shard(shard)
        records.append(look(shard).record)
    first, second = records
    assert first is not None
    assert second is not None
    assert first.identity == second.identity
    assert first.data_version != second.data_version


def test_renders_of_a_version_without_records_are_taken_over(base: Path) -> None:
    shard = by_command(base)
    export_shard(shard)
    tree = roots(base).tree(NAME)
    tree.renders_made_from.unlink()
    record = json.loads(tree.render_record.read_bytes())
    del record["identity"]
    tree.render_record.write_text(json.dumps(record | {"command_digest": "a" * 64, "made": {"16": ["000000"]}}))
    shutil.rmtree(shard.tree.base)

    assert export_shard(shard).stats.n_saved == 2

    assert len(calls(base)) == 1
    assert tree.renders_made_from.is_file()


@pytest.mark.parametrize("change", [{"extra": "--sharper"}, {"env": {"QUALITY": "2"}}, {"setup": ["true"]}])
def test_a_changed_command_is_called_again_and_finds_an_empty_folder(base: Path, change: dict[str, object]) -> None:
    export_shard(by_command(base))

    shard = by_command(base, "000000", exp="v2", **change)  # type: ignore[arg-type]

    assert export_shard(shard).stats.n_dropped == 1, "the frame that only the first command made is not used"
    assert len(calls(base)) == 2
    assert look(by_command(base)).is_made, "the first experiment has its samples still"


def test_changed_cameras_call_the_command_again(base: Path) -> None:
    shard = by_command(base)
    export_shard(shard)
    write_camera(roots(base).tree(NAME).ground_truth.camera(16, "000000"), x=0.25)

    assert not look(shard).is_made
    export_shard(shard)

    assert len(calls(base)) == 2


def test_an_equal_shard_is_linked_unless_the_command_is_told_the_experiment(base: Path) -> None:
    for extra, n_calls in (("", 1), ("{exp_name}", 2)):
        (base / "calls.jsonl").unlink(missing_ok=True)
        export_shard(by_command(base, extra=extra, exp=f"one{n_calls}"))
        record = export_shard(by_command(base, extra=extra, exp=f"two{n_calls}"))
        assert record.linked == (n_calls == 1)
        assert len(calls(base)) == n_calls


def test_a_failing_command_says_why_and_what_it_wrote_is_left_to_it(base: Path) -> None:
    shard = by_command(base, "000000,fail,000001")

    with pytest.raises(RenderCommandFailed, match="ended with status 1") as caught:
        export_shard(shard)

    assert f"no luck with {NAME}" in str(caught.value)
    assert str(shard.tree.render_command(NAME).stderr) in str(caught.value)
    assert not shard.tree.scene_run(NAME).run_stats.exists()
    assert not shard.tree.samples_dir.exists()
    tree = roots(base).tree(NAME)
    assert tree.render(16, "000000").exists()
    assert not storage.read_json(tree.render_record, RenderRecord).finished
    # Corrected under the same line: the script is the user's, and no part of the experiment.
    (base / "mended").touch()
    assert export_shard(shard).stats.n_saved == 2
    assert len(calls(base)) == 2


def test_a_failing_command_leaves_the_other_scenes(base: Path) -> None:
    write_scene(roots(base), OTHER)
    shutil.rmtree(roots(base).tree(OTHER).renders_dir)
    export_shard(by_command(base, name=OTHER))

    with pytest.raises(RenderCommandFailed):
        export_shard(by_command(base, "fail", exp="v2"))

    assert look(by_command(base, name=OTHER)).is_made


def test_a_command_that_writes_nothing_is_a_failure(base: Path) -> None:
    command = {"source": "command", "command": "true {scene_name}"}

    with pytest.raises(RenderCommandFailed, match="left no render"):
        export_shard(work(base, renders=command))


def test_a_program_that_is_not_there_is_named(base: Path) -> None:
    command = {"source": "command", "command": "no-such-renderer {scene_name}"}

    with pytest.raises(RenderCommandFailed, match="status 127") as caught:
        export_shard(work(base, renders=command))

    assert "no-such-renderer: No such file" in str(caught.value)


def test_renders_of_the_users_own_are_not_written_over(base: Path) -> None:
    own = roots(base).tree(NAME).render(16, "000000")
    storage.write_bytes(own, encode_png(image(1)))

    with pytest.raises(InvalidScene, match="no command of an experiment made") as caught:
        export_shard(by_command(base))

    assert "precomputed" in str(caught.value)
    assert own.read_bytes() == encode_png(image(1))
    assert calls(base) == []


def test_one_command_a_scene_at_a_time(base: Path) -> None:
    with (
        storage.cell_lock(roots(base).tree(NAME).renders_lock, "test"),
        pytest.raises(CellLocked, match="the renders of"),
    ):
        export_shard(by_command(base))


def test_renders_that_another_command_writes_over_are_not_read(base: Path) -> None:
    first = by_command(base)
    scene = open_scene(first.roots, NAME)
    renderer = scene_renderer(first.tree, scene, first.generation, device="cpu")
    assert renderer.render("000000", [scene.camera(16, "000000")]).shape == (1, 3, SIZE, SIZE)
    second = by_command(base, extra="--other", exp="v2")
    scene_renderer(second.tree, scene, second.generation, device="cpu")

    with pytest.raises(ThesisAssetsError, match="written over"):
        renderer.render("000000", [scene.camera(16, "000000")])


def test_a_command_whose_starter_was_killed_is_ended_before_the_next_one(base: Path) -> None:
    shard = by_command(base)
    left = subprocess.Popen(["sleep", "60"], env={**os.environ, JOB_VARIABLE: "left-over"}, start_new_session=True)
    try:
        export_shard(shard)
        record_path = roots(base).tree(NAME).render_record
        record = storage.read_json(record_path, RenderRecord)
        storage.write_json(record_path, record.model_copy(update={"finished": False}))
        job = storage.read_json(shard.tree.render_command(NAME).job, JobRecord)
        storage.write_json(
            shard.tree.render_command(NAME).job, job.model_copy(update={"job_id": "left-over", "returncode": None})
        )
        shutil.rmtree(shard.tree.scene_runs_dir)

        export_shard(shard)

        assert left.wait(5) < 0
    finally:
        left.kill()
    assert len(calls(base)) == 2


def test_an_interrupt_ends_the_command(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> object:
        def poll() -> None:
            raise KeyboardInterrupt

        return poll

    monkeypatch.setattr(command_renders, "_reporter", interrupt)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        export_shard(work(base, renders={"source": "command", "command": "sleep 61.5"}))

    assert time.monotonic() - started < 20
    assert not [each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"] == ["sleep", "61.5"]]


def test_progress_is_told_while_the_command_runs(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_renders, "_REPORT_SECONDS", 0.0)
    lines: list[str] = []

    export_shard(by_command(base), on_progress=lines.append)

    assert any("the render command runs for" in line for line in lines)


def test_the_renders_are_rendered_once_for_the_whole_scene(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triplet_export, "render_frame", None)
    with pytest.raises(TypeError):
        export_shard(by_command(base))
    monkeypatch.undo()

    assert export_shard(by_command(base)).stats.n_saved == 2
    assert len(calls(base)) == 1
