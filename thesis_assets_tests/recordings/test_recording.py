"""The life of a recording: identity, one rename, nothing half, the same content twice."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import thesis_assets.evaluation.qualitative as qualitative
from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.images.codecs import encode_png, read_rgb
from thesis_assets.layout import EvaluationTree
from thesis_assets.recordings.exports import TreeExports
from thesis_assets.recordings.recording import RecordingIdentity, identity_of, open_recording
from thesis_assets.recordings.verification import read_recording, rerun_binary, verify_recording

IDENTITY = RecordingIdentity("input_data", "demo", "tiny_a", "studio_pair03_dance")


def blueprint() -> object:
    import rerun.blueprint as rrb

    return rrb.Blueprint(rrb.Spatial2DView())


def compare(one: Path, other: Path) -> int:
    command = [str(rerun_binary()), "rrd", "compare", "--unordered", str(one), str(other)]
    return subprocess.run(command, capture_output=True, check=False, timeout=120, env={"CI": "1"}).returncode


def test_each_run_scene_kind_and_epoch_has_its_own_id() -> None:
    identities = [
        IDENTITY,
        RecordingIdentity("input_data", "demo", "tiny_b", "studio_pair03_dance"),
        RecordingIdentity("input_data", "demo", "tiny_a", "studio_pair02_hug"),
        RecordingIdentity("evaluation", "demo", "tiny_a", "studio_pair03_dance", 0),
        RecordingIdentity("evaluation", "demo", "tiny_a", "studio_pair03_dance", 30),
    ]
    assert len({identity.recording_id for identity in identities}) == len(identities)
    assert (
        IDENTITY.recording_id == RecordingIdentity("input_data", "demo", "tiny_a", "studio_pair03_dance").recording_id
    )


def test_two_recordings_of_one_process_do_not_mix(tmp_path: Path) -> None:
    import rerun as rr

    other = RecordingIdentity("evaluation", "demo", "tiny_a", "studio_pair03_dance", 0)
    with open_recording(tmp_path / "a.rrd", IDENTITY, blueprint()) as first:
        with open_recording(tmp_path / "b.rrd", other, blueprint()) as second:
            second.send_static("/second", rr.TextDocument("2"))
        first.send_static("/first", rr.TextDocument("1"))
    assert set(read_recording(tmp_path / "a.rrd").entities) == {"/first"}
    assert set(read_recording(tmp_path / "b.rrd").entities) == {"/second"}


def test_a_failure_leaves_nothing_and_the_older_recording_stays(tmp_path: Path) -> None:
    import rerun as rr

    path = tmp_path / "a.rrd"
    path.write_bytes(b"older")

    def stopped_by_the_user() -> None:
        with open_recording(path, IDENTITY, blueprint()) as recording:
            recording.send_static("/x", rr.TextDocument("1"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped_by_the_user()
    assert path.read_bytes() == b"older"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.rrd"]


def test_no_reader_sees_a_recording_before_it_is_whole(tmp_path: Path) -> None:
    import rerun as rr

    path = tmp_path / "a.rrd"
    with open_recording(path, IDENTITY, blueprint()) as recording:
        recording.send_static("/x", rr.TextDocument("1"))
        assert not path.exists()
        assert not list(tmp_path.glob("*.rrd"))
    assert verify_recording(path).passed


def test_columns_of_wrong_length_raise_and_strictness_ends_with_the_recording(tmp_path: Path) -> None:
    import rerun as rr

    assert not rr.strict_mode()
    with (
        pytest.raises(ValueError, match=r"length|rows"),
        open_recording(tmp_path / "a.rrd", IDENTITY, blueprint()) as it,
    ):
        it.send_frames("/x", [0, 1, 2], rr.Scalars.columns(scalars=[1.0, 2.0]))
    assert not rr.strict_mode()


def test_recording_switched_off_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERUN", "off")
    with pytest.raises(ThesisAssetsError, match="switched off"), open_recording(tmp_path / "a", IDENTITY, blueprint()):
        pass


def test_a_recording_cut_short_by_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from thesis_assets.recordings import recording

    check = recording._check_footer

    def on_a_full_disk(temporary: Path, path: Path) -> None:
        temporary.write_bytes(temporary.read_bytes()[:-100])
        check(temporary, path)

    monkeypatch.setattr(recording, "_check_footer", on_a_full_disk)
    with pytest.raises(InvalidFile, match="to its end"), open_recording(tmp_path / "a.rrd", IDENTITY, blueprint()):
        pass
    assert list(tmp_path.iterdir()) == []


def test_two_exports_of_one_tree_are_equal_and_a_changed_pixel_makes_them_differ(tree: EvaluationTree) -> None:
    path = tree.evaluation_recording(30)
    first = shutil.copy(path, path.with_name("first.rrd"))
    TreeExports(tree).export_epoch(30, force=True)
    assert compare(first, path) == 0
    image = tree.task(30, "nvs").gt_image(4, "000001")
    pixels = read_rgb(image).copy()
    pixels[0, 0] ^= 255
    image.write_bytes(encode_png(pixels))
    TreeExports(tree).export_epoch(30)
    assert compare(first, path) != 0


def test_what_a_process_exported_before_does_not_show_in_a_recording(tree: EvaluationTree) -> None:
    TreeExports(tree).export_epoch(30, force=True)
    TreeExports(tree).export_input_data(force=True)
    after = shutil.copy(tree.input_data_recording, tree.rerun_dir / "after.rrd")
    script = Path(qualitative.__file__).parent / "rerun_export_input_data.py"
    subprocess.run([sys.executable, str(script), "--exp-dir", str(tree.base), "--force"], check=True, timeout=120)
    assert compare(after, tree.input_data_recording) == 0


def test_recordings_may_be_written_from_several_threads(tree: EvaluationTree) -> None:
    failures: list[Exception] = []

    def export(epoch: int) -> None:
        try:
            TreeExports(tree).export_epoch(epoch, force=True)
        except Exception as error:  # noqa: BLE001 - handed to the assertion below
            failures.append(error)

    threads = [threading.Thread(target=export, args=(epoch,)) for epoch in (0, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert all(verify_recording(tree.evaluation_recording(epoch)).passed for epoch in (0, 30))


def test_the_identity_comes_from_the_caller_then_the_manifest_then_the_folders(tree: EvaluationTree) -> None:
    assert identity_of(tree, "input_data", run_name="other").run_name == "other"
    assert identity_of(tree, "input_data").run_name == "tiny_a"
    tree.manifest.unlink()
    identity = identity_of(tree, "input_data")
    assert (identity.run_name, identity.scene_name) == ("tiny_a", "studio_pair03_dance")


@pytest.mark.parametrize("content", ["", "no recording at all", "cut by one byte", "cut in the middle"])
def test_a_damaged_recording_does_not_verify(exported: EvaluationTree, tmp_path: Path, content: str) -> None:
    whole = exported.input_data_recording.read_bytes()
    cut = {"cut by one byte": whole[:-1], "cut in the middle": whole[: len(whole) // 2]}
    path = tmp_path / "damaged.rrd"
    path.write_bytes(cut.get(content, content.encode()))
    outcome = verify_recording(path)
    assert not outcome.passed
    assert "damaged.rrd" in outcome.offenders[0]


def test_a_recording_that_is_not_there_does_not_verify(tmp_path: Path) -> None:
    assert not verify_recording(tmp_path / "none.rrd").passed
    with pytest.raises(InvalidFile, match="missing"):
        read_recording(tmp_path / "none.rrd")
