"""Publishing to a real HTTP server that speaks the Hub's endpoints, through the Hub's own client."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Read by the Hub's client when it is imported: the tests' server stores by LFS.
os.environ["HF_HUB_DISABLE_XET"] = "1"

from thesis_assets import storage
from thesis_assets.layout import DifixTree, EvaluationTree
from thesis_assets.provenance import Unit, take_over
from thesis_assets.publishing.plan import plan_publication
from thesis_assets.publishing.publication import ATTEMPTS, HubRefused, HubUnavailable, publication_unit, publish
from thesis_assets.recordings.exports import TreeExports, export_recordings
from thesis_assets.recordings.verification import read_recording, verify_recording
from thesis_assets.schemas.recordings import PublicationIndex, PublicationRecord
from thesis_assets_tests.recordings.read_back import views_of
from thesis_assets_tests.recordings.small_tree import make_tree
from thesis_assets_tests.services.hub import TOKEN, Fault, Hub, Stored, serve_hub

REPO = "someone/recordings"
PLACE = "demo/tiny_a/studio_pair03_dance/rerun"
RECORDINGS = [f"{PLACE}/{name}.rrd" for name in ("evaluation_epoch_0000", "evaluation_epoch_0030", "input_data")]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serve_hub() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_token_in_any_message(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    captured = capsys.readouterr()
    said = "\n".join([captured.out, captured.err, *(record.getMessage() for record in caplog.records)])
    assert TOKEN not in said


@pytest.fixture
def tree(tmp_path: Path) -> EvaluationTree:
    tree = make_tree(tmp_path)
    export_recordings(tree)
    return tree


class Published:
    """Publishes a tree again and again; remembers what was said and waited."""

    def __init__(self, tree: EvaluationTree, hub: Hub, folder: Path) -> None:
        self.tree, self.hub, self.run = tree, hub, DifixTree(folder / "difix", "demo")
        self.record_file = self.run.tuning_run("tiny_a").publication
        self.lines: list[str] = []
        self.waits: list[float] = []

    @property
    def unit(self) -> Unit:
        return publication_unit({"studio_pair03_dance": self.tree}, self.run, "tiny_a", REPO)

    def __call__(self, **options: bool) -> PublicationRecord:
        plan = plan_publication([self.tree], REPO)
        return publish(
            plan,
            self.unit,
            endpoint=self.hub.url,
            sleep=self.waits.append,
            on_progress=self.lines.append,
            **options,
        )


@pytest.fixture
def send(tree: EvaluationTree, hub: Hub, tmp_path: Path) -> Published:
    return Published(tree, hub, tmp_path)


def change_epoch_30(tree: EvaluationTree) -> None:
    from thesis_assets.images.codecs import encode_png, read_rgb

    path = tree.task(30, "nvs").pred_image(4, "000001")
    pixels = read_rgb(path).copy()
    pixels[0, 0, 0] ^= 1
    path.write_bytes(encode_png(pixels))
    TreeExports(tree).export_epoch(30)


def test_a_first_upload_makes_a_private_repo_by_one_commit(send: Published, hub: Hub) -> None:
    record = send()
    repo = hub.repos[REPO]
    assert repo.private
    assert len(repo.commits) == 2  # the repo's own first one, and ours
    assert repo.added[-1] == ["README.md", *RECORDINGS, "recordings.json"]
    assert record.revision == repo.head
    assert record.sent == RECORDINGS
    assert record.private
    assert storage.read_json(send.record_file, PublicationRecord) == record
    for file in record.files:
        assert repo.files[file.path].sha256 == file.sha256
        assert len(repo.files[file.path].content) == file.bytes


def test_what_is_in_the_repo_is_the_recording_with_its_layout(
    send: Published, hub: Hub, tree: EvaluationTree, tmp_path: Path
) -> None:
    send()
    downloaded = tmp_path / "downloaded.rrd"
    downloaded.write_bytes(hub.repos[REPO].files[RECORDINGS[1]].content)
    assert verify_recording(downloaded).passed
    there, here = read_recording(downloaded), read_recording(tree.evaluation_recording(30))
    assert there.entities == here.entities
    assert there.properties == here.properties
    assert views_of(there) == views_of(here)
    assert there.recording_id == here.recording_id


def test_an_unchanged_second_run_makes_no_commit(send: Published, hub: Hub) -> None:
    first = send()
    asked = len(hub.requests)
    second = send()
    assert len(hub.repos[REPO].commits) == 2
    assert second.revision == first.revision
    assert second.sent == []
    assert second.files == first.files
    assert all(line.startswith(("GET", "HEAD")) for line, _ in hub.requests[asked:])


def test_recordings_written_again_from_the_same_files_are_not_sent_again(
    send: Published, hub: Hub, tree: EvaluationTree
) -> None:
    send()
    export_recordings(tree, force=True)  # other bytes: an .rrd is not deterministic
    assert send().sent == []
    assert len(hub.repos[REPO].commits) == 2


def test_a_publication_is_made_until_a_recording_another_repo_or_its_own_file_says_otherwise(
    send: Published, tree: EvaluationTree
) -> None:
    assert send.unit.look().state == "missing"
    send()
    export_recordings(tree, force=True)
    assert send.unit.look().in_words == "made"
    other = publication_unit({"studio_pair03_dance": tree}, send.run, "tiny_a", "someone/else")
    assert other.look().in_words == f"stale: `repo_id` was {REPO}, is someone/else"
    change_epoch_30(tree)
    assert send.unit.look().in_words == "stale: `studio_pair03_dance/evaluation_epoch_0030.rrd`: made anew"
    send.record_file.write_bytes(b"")
    assert send.unit.look().state == "damaged"
    send()
    assert send.unit.look().is_made


def test_a_publication_of_a_version_without_records_is_taken_over(send: Published) -> None:
    send()
    send.unit.place.record.unlink()
    assert send.unit.look().in_words == "made (not verified yet)"
    assert take_over(send.unit) is not None
    assert send.unit.look().in_words == "made"


def test_recordings_that_are_gone_make_no_publication(send: Published, tree: EvaluationTree) -> None:
    send()
    shutil.rmtree(tree.rerun_dir)
    assert send.unit.look().is_made


def test_one_changed_file_is_the_one_that_is_sent(send: Published, hub: Hub, tree: EvaluationTree) -> None:
    send()
    before = hub.asked("PUT /lfs-store")
    change_epoch_30(tree)
    record = send()
    assert record.sent == [RECORDINGS[1]]
    assert hub.asked("PUT /lfs-store") == before + 1
    assert hub.repos[REPO].added[-1] == [RECORDINGS[1], "recordings.json"]


def test_a_file_that_somebody_replaced_in_the_repo_is_sent_again(send: Published, hub: Hub) -> None:
    send()
    hub.repos[REPO].commit({RECORDINGS[2]: Stored(b"another", lfs=True)})
    assert send().sent == [RECORDINGS[2]]


def test_429_twice_is_waited_for_as_long_as_the_hub_says(send: Published, hub: Hub) -> None:
    hub.faults.append(Fault("POST .*/commit/main", 429, times=2, headers={"Retry-After": "7"}))
    record = send()
    assert send.waits == [7.0, 7.0]
    assert record.sent == RECORDINGS
    assert len(hub.repos[REPO].commits) == 2
    assert sum("429" in line and "again in 7 s" in line for line in send.lines) == 2


def test_500_for_ever_is_a_clear_failure_and_nothing_is_recorded(send: Published, hub: Hub) -> None:
    hub.faults.append(Fault("POST .*/commit/main", 500))
    with pytest.raises(HubUnavailable) as caught:
        send()
    assert "500" in caught.value.problem
    assert f"asked {ATTEMPTS} times" in caught.value.problem
    assert send.waits == [2, 4, 8, 16, 32]
    assert len(hub.repos[REPO].commits) == 1
    assert not send.record_file.exists()
    hub.faults.clear()
    assert send().sent == RECORDINGS


def test_a_commit_whose_answer_was_lost_is_not_made_twice(send: Published, hub: Hub) -> None:
    hub.faults.append(Fault("POST .*/commit/main", 502, times=1, lost=True))
    record = send()
    assert send.waits == [2]
    assert len(hub.repos[REPO].commits) == 2
    assert record.revision == hub.repos[REPO].head
    assert {file.path for file in record.files} == set(RECORDINGS)


def test_somebody_elses_commit_in_between_is_kept(send: Published, hub: Hub) -> None:
    theirs = {"notes.txt": Stored(b"theirs", lfs=False)}
    hub.faults.append(Fault("POST .*/commit/main", 0, times=1, before=lambda: hub.repos[REPO].commit(theirs) and None))
    record = send()
    assert any("somebody else committed" in line for line in send.lines)
    assert hub.repos[REPO].files["notes.txt"].content == b"theirs"
    assert record.revision == hub.repos[REPO].head
    assert set(RECORDINGS) <= set(hub.repos[REPO].files)


def test_a_conflict_without_end_fails_and_records_nothing(send: Published, hub: Hub) -> None:
    hub.faults.append(Fault("POST .*/commit/main", 412))
    with pytest.raises(HubUnavailable, match="somebody else committed"):
        send()
    assert not send.record_file.exists()


def test_a_wrong_token_is_said_at_once(send: Published, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubRefused, match="does not accept the token") as caught:
        send()
    assert caught.value.key == "HF_TOKEN"
    assert "hf_wrong" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert send.waits == []
    assert hub.repos == {}


def test_a_token_that_may_not_write_is_said_at_once(send: Published, hub: Hub) -> None:
    hub.faults.append(Fault("POST .*/commit/main", 403))
    with pytest.raises(HubRefused, match="may not write"):
        send()


def test_without_a_token_nothing_is_asked(
    send: Published, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-login"))
    with pytest.raises(HubRefused, match="no token") as caught:
        send()
    assert "hf auth login" in str(caught.value.remedy)
    assert hub.requests == []


def test_a_hub_that_is_not_there_is_asked_again_then_named(
    send: Published, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "url", "http://127.0.0.1:9")
    with pytest.raises(HubUnavailable, match="not reached"):
        send()
    assert len(send.waits) == ATTEMPTS - 1


def test_a_server_that_is_no_hub_is_named(send: Published, hub: Hub) -> None:
    hub.faults.append(Fault("GET /api/datasets/", 200))  # what answers is JSON, and nothing that the client expects
    with pytest.raises(HubRefused, match="could not read the repo") as caught:
        send()
    assert hub.url in str(caught.value)
    assert not send.record_file.exists()


def test_two_runs_share_a_repo_and_its_card(send: Published, hub: Hub, tmp_path: Path) -> None:
    from thesis_assets.schemas.evaluation import EvaluationManifest

    send()
    other = make_tree(tmp_path / "other")
    manifest = storage.read_json(other.manifest, EvaluationManifest)
    storage.write_json(other.manifest, manifest.model_copy(update={"notes": {"run_name": "tiny_b"}}))
    export_recordings(other)
    Published(other, hub, tmp_path / "other")()
    index = PublicationIndex.model_validate_json(hub.repos[REPO].files["recordings.json"].content)
    assert {file.run_name for file in index.files} == {"tiny_a", "tiny_b"}
    readme = hub.repos[REPO].files["README.md"].content.decode()
    assert "run `tiny_a`" in readme
    assert "run `tiny_b`" in readme
    assert send().sent == []


def test_nothing_is_ever_deleted_and_a_persons_own_words_stay(send: Published, hub: Hub, tree: EvaluationTree) -> None:
    from thesis_assets_tests.services.hub import Repo

    hub.repos[REPO] = Repo(private=False)
    own = "---\nlicense: cc-by-4.0\ntags: [mine]\n---\n# My data\n\nWritten by hand.\n"
    hub.repos[REPO].commit({"README.md": Stored(own.encode(), lfs=False), "data.bin": Stored(b"x", lfs=True)})
    send()
    change_epoch_30(tree)
    send()
    readme = hub.repos[REPO].files["README.md"].content.decode()
    assert readme.count("# My data\n\nWritten by hand.") == 1
    assert readme.count("# Rerun recordings") == 1
    assert "license: cc-by-4.0" in readme
    assert hub.repos[REPO].files["data.bin"].content == b"x"
    assert hub.repos[REPO].deletions == []


def test_previews_go_along_and_are_not_sent_twice(send: Published, hub: Hub, tree: EvaluationTree) -> None:
    from thesis_assets.recordings import previews
    from thesis_assets_tests.services.graphics import require_graphics

    require_graphics()
    previews.make_previews([tree.evaluation_recording(30)], window=(480, 320))
    send()
    pictures = [path for path in hub.repos[REPO].files if path.endswith(".png")]
    assert pictures == [
        f"{PLACE}/evaluation_epoch_0030.previews/{name}_000001.png" for name in ("nvs", "nvs_inputs", "pose_smplx")
    ]
    readme = hub.repos[REPO].files["README.md"].content.decode()
    assert f"]({PLACE}/evaluation_epoch_0030.previews/nvs_000001.png)" in readme
    send()
    assert len(hub.repos[REPO].commits) == 2


def test_an_index_that_is_not_ours_is_replaced(send: Published, hub: Hub) -> None:
    send()
    hub.repos[REPO].commit({"recordings.json": Stored(b'{"files": 3}', lfs=False)})
    assert send().sent == RECORDINGS
    assert any("not one of ours" in line for line in send.lines)
    assert json.loads(hub.repos[REPO].files["recordings.json"].content)["licences"] == {
        "studio": "synthetic, drawn by thesis_assets"
    }


def test_the_token_is_in_no_output_of_a_process_that_fails(tree: EvaluationTree, hub: Hub, tmp_path: Path) -> None:
    """With the client's own debugging on, through the real environment."""
    hub.faults.append(Fault("POST .*/commit/main", 403))
    program = (
        "import logging, sys; logging.basicConfig(level=logging.DEBUG)\n"
        "from pathlib import Path\n"
        "from thesis_assets.layout import DifixTree, EvaluationTree\n"
        "from thesis_assets.publishing.plan import plan_publication\n"
        "from thesis_assets.publishing.publication import publication_unit, publish\n"
        f"tree = EvaluationTree(Path({str(tree.output_dir)!r}), {tree.exp_name!r})\n"
        f"unit = publication_unit({{'a': tree}}, DifixTree(Path({str(tmp_path)!r}), 'demo'), 'tiny_a', {REPO!r})\n"
        f"publish(plan_publication([tree], {REPO!r}), unit, on_progress=print)\n"
    )
    environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_DEBUG": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "may not write" in done.stderr
    assert "DEBUG" in done.stderr
    assert TOKEN not in done.stdout + done.stderr
