"""On a real Slurm cluster: jobs and calls end, are requeued, found again and refused as those of this machine are."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from thesis_assets.errors import InvalidExperiment, ThesisAssetsError
from thesis_assets.launch.commands import members
from thesis_assets.launch.jobs import Call, Calling, Following, Job, JobState, Resources, left_running, run_job
from thesis_assets.launch.slurm_cluster import (
    Node,
    Preset,
    Seen,
    Site,
    ask_submission,
    count_gpus,
    min_gpus_of_qos,
    presets_with,
    require_place,
)
from thesis_assets.launch.slurm_jobs import SlurmLauncher
from thesis_assets.launch.telling import tell
from thesis_assets.layout import JobTree
from thesis_assets.schemas.tuning import JobRecord
from thesis_assets.storage import read_json
from thesis_assets_tests.services.slurm import GPUS_A_NODE, MAX_ARRAY_SIZE, SMALL_PRESETS, SlurmCluster, slurm_cluster

pytestmark = pytest.mark.long

__all__ = ["slurm_cluster"]

SITE = Site(presets=presets_with(SMALL_PRESETS), poll_seconds=0.5, vanished_seconds=2.0, signal_seconds=35)
ORPHAN = "import signal, time, pathlib; signal.signal(signal.SIGTERM, signal.SIG_IGN); pathlib.Path('orphan').touch(); time.sleep(600)"
FAMILY = f"""
import pathlib, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {ORPHAN!r}])
while not pathlib.Path("orphan").exists():
    time.sleep(0.02)
pathlib.Path("starts").touch()
time.sleep(600)
"""
# Saves when it is warned, goes on where it was when it is started again, and says so each time.
SAVING = """
import pathlib, signal, sys, time
def save(*_):
    pathlib.Path("saved").touch()
    sys.exit(0)
signal.signal(signal.SIGUSR2, save)
resumed = pathlib.Path("saved").exists()
print("resumed" if resumed else "began", flush=True)
pathlib.Path("starts").touch()
if not resumed:
    time.sleep(600)
sys.exit(5)
"""
WAITING = """
import pathlib, sys, time
with open("starts", "a") as file:
    file.write("x")
while not pathlib.Path("go").exists():
    time.sleep(0.05)
sys.exit(5)
"""


@pytest.fixture
def cluster(slurm_cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> SlurmCluster:
    for name, value in slurm_cluster.environment.items():
        monkeypatch.setenv(name, value)
    return slurm_cluster


@pytest.fixture
def launcher(cluster: SlurmCluster) -> SlurmLauncher:
    return SlurmLauncher(SITE)


def job_of(base: Path, code: str, **resources: object) -> Job:
    return Job(
        name="test",
        command=[sys.executable, "-c", code],
        record=base / "job.json",
        exit_file=base / "job_exit.json",
        stdout=base / "logs" / "out.log",
        stderr=base / "logs" / "err.log",
        cwd=base,
        resources=Resources(**resources),  # type: ignore[arg-type]
    )


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def record_of(base: Path) -> JobRecord:
    return read_json(base / "job.json", JobRecord)


# --- jobs ------------------------------------------------------------------------------------------------------------


def test_a_job_runs_on_a_node_with_its_gpus_and_leaves_its_status_and_logs(
    tmp_path: Path, launcher: SlurmLauncher, cluster: SlurmCluster
) -> None:
    code = (
        "import os, sys, time; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['COLOUR']); print('oh', file=sys.stderr);"
        "time.sleep(3); sys.exit(3)"  # long enough to be seen at work
    )
    told: list[str] = []
    job = replace(job_of(tmp_path, code, processes=2), env={"COLOUR": "green"})

    state = run_job(launcher, job, following=Following(on_wait=told.append))

    assert state == JobState("ended", 3)
    assert (tmp_path / "logs" / "out.log").read_text() == "0,1 green\n"
    assert (tmp_path / "logs" / "err.log").read_text() == "oh\n"
    record = record_of(tmp_path)
    assert (record.launcher, record.returncode) == ("slurm", 3)
    assert record.scheduler_id is not None
    assert any(f"Slurm job {record.scheduler_id}: RUNNING on n" in line for line in told)
    until(lambda: record.scheduler_id not in cluster.queue())


def test_stopping_a_job_leaves_nothing_in_the_queue_and_no_process(
    tmp_path: Path, launcher: SlurmLauncher, cluster: SlurmCluster
) -> None:
    state = run_job(
        launcher,
        job_of(tmp_path, FAMILY),
        following=Following(should_stop=(tmp_path / "starts").exists, grace_seconds=1),
    )

    assert state.is_over
    record = record_of(tmp_path)
    assert record.scheduler_id not in cluster.queue()
    assert record.job_id is not None
    until(lambda: members(record.job_id) == [], 10)


def test_a_job_that_is_warned_saves_and_goes_on_when_its_turn_comes_again(
    tmp_path: Path, launcher: SlurmLauncher, cluster: SlurmCluster
) -> None:
    warned: list[str] = []

    def warn() -> None:
        number = record_of(tmp_path).scheduler_id
        if not warned and (tmp_path / "starts").exists() and number:
            warned.append(number)
            cluster.ask("scancel", "--signal=USR2", number)

    state = run_job(launcher, job_of(tmp_path, SAVING), following=Following(poll=warn))

    assert state == JobState("ended", 5)
    assert (tmp_path / "logs" / "out.log").read_text() == "began\nresumed\n"


def test_a_job_that_is_killed_outright_is_lost_with_slurms_own_word(
    tmp_path: Path, launcher: SlurmLauncher, cluster: SlurmCluster
) -> None:
    def kill() -> None:
        job_id = record_of(tmp_path).job_id
        if (tmp_path / "starts").exists() and job_id is not None:
            for process in members(job_id):
                parent = process.parent()
                if parent is not None:
                    parent.kill()  # What would have said how the command ended.
                process.kill()

    state = run_job(launcher, job_of(tmp_path, WAITING), following=Following(poll=kill))

    assert state.phase == "lost"
    assert f"Slurm job {record_of(tmp_path).scheduler_id}: FAILED" in state.how


def test_a_job_that_outlives_its_follower_is_followed_by_the_next(tmp_path: Path, cluster: SlurmCluster) -> None:
    def interrupt() -> None:
        if (tmp_path / "starts").exists():
            raise KeyboardInterrupt

    job = job_of(tmp_path, WAITING)
    with pytest.raises(KeyboardInterrupt):
        run_job(SlurmLauncher(SITE), job, following=Following(poll=interrupt, leave_running=lambda: True))
    assert left_running(SlurmLauncher(SITE), job.record) is not None

    state = run_job(SlurmLauncher(SITE), job, following=Following(poll=(tmp_path / "go").touch))

    assert state == JobState("ended", 5)
    assert (tmp_path / "starts").read_text() == "x"


def test_a_job_whose_number_was_not_written_down_is_found_by_its_comment(
    tmp_path: Path, launcher: SlurmLauncher
) -> None:
    """Its starter was killed between `sbatch` and the record."""
    job = job_of(tmp_path, WAITING)
    record = launcher.start(job).model_copy(update={"scheduler_id": None})

    assert SlurmLauncher(SITE).state(record).phase in ("pending", "running")

    SlurmLauncher(SITE).end(record, grace_seconds=0)
    assert launcher.state(record).phase != "ended"


# --- what waits for somebody ------------------------------------------------------------------------------------------


def test_a_job_that_waits_for_a_person_says_for_what(
    tmp_path: Path, launcher: SlurmLauncher, cluster: SlurmCluster
) -> None:
    cluster.ask("scontrol", "update", "nodename=n0,n1,n2", "state=drain", "reason=tests")
    try:
        record = launcher.start(job_of(tmp_path, "import sys; sys.exit(4)"))
        until(lambda: "`sinfo -R` says why" in launcher.state(record).detail)
        assert launcher.state(record).phase == "pending"
        cluster.ask("scontrol", "uhold", str(record.scheduler_id))
        until(lambda: "JobHeldUser" in launcher.state(record).detail)
        assert "`scontrol release <job>`" in launcher.state(record).detail
        cluster.ask("scontrol", "release", str(record.scheduler_id))
    finally:
        cluster.ask("scontrol", "update", "nodename=n0,n1,n2", "state=resume")
    until(lambda: launcher.state(record).phase == "ended")
    assert launcher.state(record) == JobState("ended", 4)


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("JobHeldAdmin", "the cluster's staff"),
        ("launch failed requeued held", "`scontrol release"),
        ("ReqNodeNotAvail, UnavailableNodes:n1", "sinfo -R"),
        ("AssocGrpGRESMinutes", "THESIS_SLURM_ACCOUNT"),
        ("InvalidAccount", "THESIS_SLURM_ACCOUNT"),
        ("PartitionTimeLimit", "minutes"),
        ("PartitionDown", "THESIS_SLURM_PARTITION"),
        ("QOSMinGRES", "thesis-assets doctor"),
    ],
)
def test_each_reason_of_slurm_that_needs_a_person_says_what_to_do(reason: str, said: str) -> None:
    assert said in str(Seen("PENDING", "", reason, ""))


@pytest.mark.parametrize("reason", ["None", "", "Priority", "Resources", "BeginTime", "Dependency"])
def test_a_job_that_waits_for_its_turn_needs_nothing(reason: str) -> None:
    assert ";" not in str(Seen("PENDING", "", reason, ""))


# --- what is refused -------------------------------------------------------------------------------------------------


def test_more_gpus_than_a_node_has_are_refused_before_anything_is_submitted(
    tmp_path: Path, launcher: SlurmLauncher, cluster: SlurmCluster
) -> None:
    before = cluster.queue()

    with pytest.raises(ThesisAssetsError, match="more GPUs than any node has") as caught:
        run_job(launcher, job_of(tmp_path, "", processes=4))

    assert str(GPUS_A_NODE) in str(caught.value.wanted)
    assert set(cluster.queue()) <= set(before)  # an earlier test's may leave it meanwhile
    assert not (tmp_path / "job.json").exists()


def test_more_cores_than_a_node_has_are_refused_with_what_it_has(tmp_path: Path, cluster: SlurmCluster) -> None:
    site = SITE.model_copy(update={"presets": {"tune_1gpu": Preset(minutes=5, gpus=1, cores=64, memory_gb=1)}})

    with pytest.raises(ThesisAssetsError, match="64 cores") as caught:
        run_job(SlurmLauncher(site), job_of(tmp_path, ""))

    assert "4 cores" in str(caught.value.wanted)


def test_what_slurm_itself_refuses_is_told_in_its_words(tmp_path: Path, cluster: SlurmCluster) -> None:
    preset = SITE.presets["tune_1gpu"].model_copy(update={"constraint": "nonesuch"})
    with pytest.raises(ThesisAssetsError, match="refuses the job") as caught:
        run_job(SlurmLauncher(SITE.model_copy(update={"presets": {"tune_1gpu": preset}})), job_of(tmp_path, ""))

    assert "feature" in str(caught.value.found)
    assert not (tmp_path / "job.json").exists()


def test_a_partition_that_is_not_there_is_named(tmp_path: Path, cluster: SlurmCluster) -> None:
    with pytest.raises(ThesisAssetsError, match="no node") as caught:
        run_job(SlurmLauncher(SITE.model_copy(update={"partition": "nonesuch"})), job_of(tmp_path, ""))

    assert caught.value.found == "partition nonesuch"


@pytest.mark.parametrize(
    ("resources", "key"),
    [
        ({"processes": 2, "preset": "tune_1gpu"}, "num_processes"),
        ({"processes": 1, "preset": "tune_2gpu"}, "num_processes"),
        ({"processes": 3}, "num_processes"),
        ({"preset": "nonesuch"}, "preset"),
    ],
)
def test_processes_that_are_not_the_presets_gpus_are_refused(resources: Mapping[str, object], key: str) -> None:
    from thesis_assets.launch.slurm_cluster import choose_preset

    with pytest.raises(InvalidExperiment) as caught:
        choose_preset(SITE.presets, Resources(**resources))  # type: ignore[arg-type]
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("gpu:2", 2),
        ("gpu:a100:4(S:0-1)", 4),
        ("gpu:a100:2(S:0),gpu:v100:1(S:1),nvme:3", 3),
        ("(null)", 0),
        ("shard:8", 0),
    ],
)
def test_gpus_are_counted_as_slurm_lists_them(gres: str, gpus: int) -> None:
    assert count_gpus(gres) == gpus


@pytest.mark.parametrize(
    ("gpu_words", "features", "word"),
    [
        ("gpu:v100:2(S:0-1)", "", "v100"),
        ("gpu:tesla_v100-sxm2:4", "", "v100"),
        ("gpu:2", "ib,Volta", "Volta"),
        ("gpu:2", "sm_70", "sm_70"),
        ("gpu:a100:2", "ib,ampere", ""),
        ("gpu:2", "v1000", ""),
        ("gpu:2", "prev100", ""),
    ],
)
def test_volta_is_known_by_the_words_that_sites_use(gpu_words: str, features: str, word: str) -> None:
    assert Node(2, 8, 64, gpu_words, frozenset(features.split(","))).volta == word


def test_the_least_gpus_of_a_qos_are_read_as_accounting_lists_them() -> None:
    rows = "normal|\ngpu|cpu=1,gres/gpu=1\nbig|gres/gpu:a100=2,mem=1G\nnone|gres/gpu=0\n"
    assert min_gpus_of_qos(rows) == {"gpu": 1, "big": 2}


@pytest.mark.parametrize(("account", "least", "said"), [("gpus_only", 1, "jobs with a GPU"), ("anybody", 0, "")])
def test_a_cluster_that_takes_no_job_without_a_gpu_is_found_by_asking(
    cluster: SlurmCluster, account: str, least: int, said: str
) -> None:
    answer = ask_submission(SITE.model_copy(update={"account": account}), SITE.presets["cpu"])
    assert answer.min_gpus == least
    assert said in answer.said
    assert bool(answer.said) == bool(said)
    assert cluster.queue() == []


def test_a_job_that_no_number_of_gpus_helps_is_told_in_slurms_words(cluster: SlurmCluster) -> None:
    answer = ask_submission(SITE.model_copy(update={"partition": "nowhere"}), SITE.presets["cpu"])
    assert answer.min_gpus is None
    assert "nowhere" in answer.said


@pytest.mark.parametrize(
    ("place", "refused"),
    [
        ({"partition": "volta"}, True),
        ({}, True),  # it may come to any node of the default partition
        ({"constraint": "a100"}, False),
        ({"constraint": "v100|a100"}, True),
        ({"constraint": "v100&a100"}, False),  # no node has both: Slurm says so itself
    ],
)
def test_bf16_is_refused_where_a_job_may_come_to_a_volta_gpu(
    cluster: SlurmCluster, place: dict[str, str], refused: bool
) -> None:
    preset = SITE.presets["tune_1gpu"].model_copy(update=place)
    launcher = SlurmLauncher(SITE.model_copy(update={"presets": {"tune_1gpu": preset}}))
    launcher.require(Resources(gpus=1))
    if not refused:
        launcher.require(Resources(gpus=1, bf16=True))
        return
    with pytest.raises(InvalidExperiment) as caught:
        launcher.require(Resources(gpus=1, bf16=True))
    remedy = str(caught.value.remedy)
    assert "`stable_v100: true`" in remedy
    assert '`mixed_precision: "no"`' in remedy
    assert ('"constraint": "a100"' in remedy) == (place.get("partition") != "volta")


def test_presets_take_single_values_from_the_settings_and_refuse_wrong_ones() -> None:
    presets = presets_with(
        {"cpu": {"min_gpus": 1}, "tune_8gpu": {"minutes": 60, "gpus": 8, "cores": 64, "memory_gb": 500}}
    )
    assert (presets["cpu"].asked_gpus, presets["cpu"].gpus, presets["tune_8gpu"].gpus) == (1, 0, 8)
    with pytest.raises(ThesisAssetsError, match="valid") as caught:
        presets_with({"cpu": {"hours": 3}})
    assert caught.value.key == "THESIS_SLURM_PRESETS: cpu.hours"


# --- calls -----------------------------------------------------------------------------------------------------------


def describe(item: str) -> str:
    """What an item is where it runs."""
    if item == "bad":
        raise ThesisAssetsError("a bad item", found=item)
    if item == "deadly":
        os._exit(9)
    tell(f"{item} at work")
    return f"{item} in {os.environ['SLURM_ARRAY_JOB_ID']} on {os.environ['SLURMD_NODENAME']}"


def wait_for_go(folder: str) -> str:
    """Says that it started, and waits for a word."""
    with Path(folder, "starts").open("a") as file:
        file.write("x")
    while not Path(folder, "go").exists():
        time.sleep(0.05)
    return "went"


def calls_of(base: Path, *items: str, digest: str = "d") -> list[Call[str]]:
    return [Call(Path(item).name, item, digest, JobTree(base / "jobs" / Path(item).name)) for item in items]


SMOKE = Resources(preset="smoke")


def test_calls_are_one_array_and_a_bad_one_leaves_the_others(tmp_path: Path, launcher: SlurmLauncher) -> None:
    told: list[str] = []
    done: list[str] = []
    calls = calls_of(tmp_path, "a", "bad", "deadly", "b")

    calling = Calling[str, str](resources=SMOKE, on_line=told.append, on_done=lambda item, _: done.append(item))
    a, bad, deadly, b = launcher.map(describe, calls, calling)

    assert isinstance(a, str)
    assert isinstance(b, str)
    assert a.split(" on ")[0].removeprefix("a") == b.split(" on ")[0].removeprefix("b"), "both are of one array"
    assert isinstance(bad, ThesisAssetsError)
    assert bad.found == "bad"
    assert isinstance(deadly, ThesisAssetsError)
    assert "Slurm job" in str(deadly)
    assert sorted(done) == ["a", "b", "bad", "deadly"]
    assert sorted(told) == ["a at work", "b at work"]


def own_number(item: str) -> str:
    return f"{os.environ['SLURM_ARRAY_JOB_ID']} {item}"


def test_more_calls_than_an_array_may_have_are_several_arrays(tmp_path: Path, launcher: SlurmLauncher) -> None:
    items = [f"i{number}" for number in range(MAX_ARRAY_SIZE + 2)]
    found = launcher.map(own_number, calls_of(tmp_path, *items), Calling(resources=SMOKE))
    assert [str(each).partition(" ")[2] for each in found] == items
    arrays = Counter(str(each).partition(" ")[0] for each in found)
    assert sorted(arrays.values()) == [2, MAX_ARRAY_SIZE]


def test_arrays_that_were_taken_go_again_where_a_later_one_is_refused(
    tmp_path: Path, launcher: SlurmLauncher, cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = tmp_path / "bin" / "sbatch"
    once.parent.mkdir()
    real = shutil.which("sbatch")
    once.write_text(
        f'#!/bin/sh\nmkdir "{tmp_path}/taken" 2>/dev/null || {{ echo "no more jobs" >&2; exit 1; }}\nexec {real} "$@"\n'
    )
    once.chmod(0o755)
    monkeypatch.setenv("PATH", f"{once.parent}:{os.environ['PATH']}")
    go = [str(tmp_path / f"i{number}") for number in range(MAX_ARRAY_SIZE + 2)]
    for each in go:
        Path(each).mkdir()
    with pytest.raises(ThesisAssetsError, match="Slurm refuses the job"):
        launcher.map(wait_for_go, calls_of(tmp_path, *go), Calling(resources=SMOKE))
    assert (tmp_path / "taken").is_dir()
    until(lambda: cluster.queue() == [])


def variable(name: str) -> str | None:
    return os.environ.get(name)


def test_jobs_and_calls_on_nodes_have_the_variables_of_the_launcher(tmp_path: Path, cluster: SlurmCluster) -> None:
    launcher = SlurmLauncher(SITE, {"HF_HOME": "/hub", "COLOUR": "blue"})
    code = "import os; print(os.environ['HF_HOME'], os.environ['COLOUR'])"

    run_job(launcher, replace(job_of(tmp_path, code), env={"COLOUR": "green"}))
    found = launcher.map(variable, calls_of(tmp_path, "HF_HOME", "COLOUR"), Calling(resources=SMOKE))

    assert (tmp_path / "logs" / "out.log").read_text() == "/hub green\n"
    assert found == ["/hub", "blue"]


def nap(item: str) -> tuple[float, float]:
    """When a short nap began and ended."""
    began = time.time()
    time.sleep(1.0)
    return began, time.time()


def test_no_more_of_an_array_run_at_once_than_the_settings_allow(tmp_path: Path, cluster: SlurmCluster) -> None:
    launcher = SlurmLauncher(SITE.model_copy(update={"at_once": 1}))
    calling = Calling[str, tuple[float, float]](resources=SMOKE)

    first, second = launcher.map(nap, calls_of(tmp_path, "a", "b"), calling)

    assert not isinstance(first, Exception)
    assert not isinstance(second, Exception)
    assert first[1] <= second[0] or second[1] <= first[0]


STARTER = """
import sys
from pathlib import Path
from thesis_assets_tests.launch import test_slurm as t
base = Path(sys.argv[1])
t.SlurmLauncher(t.SITE).map(t.wait_for_go, t.calls_of(base, str(base)), t.Calling(resources=t.SMOKE))
"""


def test_a_call_whose_caller_was_killed_is_followed_and_made_once(tmp_path: Path, cluster: SlurmCluster) -> None:
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(tmp_path)])
    until((tmp_path / "starts").exists)
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    (tmp_path / "go").touch()

    calls = calls_of(tmp_path, str(tmp_path))
    assert SlurmLauncher(SITE).map(wait_for_go, calls, Calling(resources=SMOKE)) == ["went"]

    assert (tmp_path / "starts").read_text() == "x"


def test_an_answer_that_nobody_took_is_taken_and_one_to_another_question_is_not(
    tmp_path: Path, cluster: SlurmCluster
) -> None:
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(tmp_path)])
    until((tmp_path / "starts").exists)
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    (tmp_path / "go").touch()
    (call,) = calls_of(tmp_path, str(tmp_path))
    until(call.place.exit_file.exists)

    assert SlurmLauncher(SITE).map(wait_for_go, [call], Calling(resources=SMOKE)) == ["went"]
    assert (tmp_path / "starts").read_text() == "x"
    assert SlurmLauncher(SITE).map(wait_for_go, [call], Calling(resources=SMOKE)) == ["went"]
    assert (tmp_path / "starts").read_text() == "xx", "an answer is taken once"


def test_an_interrupt_cancels_the_calls(tmp_path: Path, launcher: SlurmLauncher, cluster: SlurmCluster) -> None:
    def interrupt(line: str) -> None:
        if "RUNNING" in line:
            raise KeyboardInterrupt

    calls = calls_of(tmp_path, str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        launcher.map(wait_for_go, calls, Calling(resources=SMOKE, following=Following(on_wait=interrupt)))

    record = read_json(calls[0].place.record, JobRecord)
    assert record.scheduler_id not in cluster.queue()
    assert not [
        process
        for process in psutil.process_iter(["environ"])
        if (process.info["environ"] or {}).get("SLURM_JOB_ID") == record.scheduler_id
        and (process.info["environ"] or {}).get("SLURM_CONF") == os.environ["SLURM_CONF"]
    ]


def test_the_way_around_volta_keeps_the_other_presets_and_names_no_feature_that_a_volta_node_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = [Node(2, 8, 64, "", frozenset(words)) for words in (("ib", "v100"), ("ib", "a100"))]
    monkeypatch.setattr("thesis_assets.launch.slurm_cluster._list_nodes", lambda partition: nodes)
    changes: dict[str, dict[str, object]] = {"cpu": {"min_gpus": 1}, "tune_1gpu": {"memory_gb": 32.0}}
    with pytest.raises(InvalidExperiment) as caught:
        require_place(Site(presets=presets_with(changes)), Resources(bf16=True))
    told = str(caught.value.remedy).split("THESIS_SLURM_PRESETS='")[1].split("'")[0]
    assert json.loads(told) == {"cpu": {"min_gpus": 1}, "tune_1gpu": {"memory_gb": 32.0, "constraint": "a100"}}
