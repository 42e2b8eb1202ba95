"""The table of checks: what each says, and what mends it where it fails.

Does not belong here: making a check (`operations/check_outcomes`), or how one came out (`check_history`).
"""

from dataclasses import dataclass

from thesis_assets.graph.cells import Cell
from thesis_assets.graph.nodes import NODES
from thesis_assets.layout import POSE_TASKS
from thesis_assets.schemas.checks import Remedy


@dataclass(frozen=True)
class Check:
    """One check of an asset: what holds where it passes, and what mends it where it does not.

    Attributes:
        mend: the commands, in order, with `{exp}` and `{run}` for the parts of the partition.
        first: what only a person can do, before the commands.
        blocks: whether what is downstream stands still where it fails; else a failure is a warning.
    """

    says: str
    mend: tuple[str, ...]
    first: str = ""
    blocks: bool = True

    def remedy(self, exp_name: str, run_name: str = "") -> Remedy:
        """What mends the check in one partition."""
        parts = {"exp": exp_name, "run": run_name}
        return Remedy(self.first.format(**parts), tuple(command.format(**parts) for command in self.mend))


_EXP = "thesis-assets run --exp {exp}"
_RUN = f"{_EXP} --run {{run}}"
_RECORD = "thesis-assets rerun export-all --exp {exp} --run {run} --force"

_ONE_GROUP = (
    "hold out both groups of the named scenes (`split.test_groups` of {exp}.yaml; frozen data: of a fork, "
    "`thesis-assets fork --exp {exp} --as <new name>`)"
)

CHECKS: dict[str, dict[str, Check]] = {
    "sample_set": {
        "every_sample_complete": Check(
            "Four files a sample, whole images of equal size; a seeded share decoded.",
            (_EXP,),
        ),
        "manifest_matches_disk": Check(
            "Every row has its folder and every folder its row.",
            ("thesis-assets set-aside --exp {exp} --yes", _EXP),
            first="remove what is named and is no sample",
        ),
        "generation_config_unchanged": Check(
            "generation_config.yaml and every shard have one digest.",
            (f"{_EXP} --force scene_samples",),
            first="where the samples are to stay, put `generation` in {exp}.yaml back as it was, or take it to another experiment "
            "(`thesis-assets fork --exp {exp} --as <new name>`; frozen data takes no other section); where meta/generation_config.yaml "
            "itself was edited, remove it",
        ),
        "dropped_share_below": Check(
            "Not too many candidates were dropped.",
            (_EXP,),
            first="meta/dropped_samples.csv has a reason a sample: mend those scenes, or leave them out "
            "(`generation.exclude` in {exp}.yaml)",
            blocks=False,
        ),
    },
    "split_manifests": {
        "group_non_leakage": Check(
            "No (dataset, group) stands in both train and test, upper and lower case alike.",
            (_EXP,),
            first="where two names differ by case alone, hold both out: `split.test_groups` of {exp}.yaml",
        ),
        "reserved_scenes_not_in_train": Check("No sample of a reserved scene's group is in training.", (_EXP,)),
        "reserved_scenes_exist": Check(
            "Every reserved scene is on a disk or in the registry (not here at all: a warning; not readable by its dataset's "
            "group rule: blocking).",
            (_EXP,),
            first="correct the names in `split.reserved_scenes` of {exp}.yaml, or bring the scenes",
        ),
        "group_rule_splits_people": Check(
            "No rule of the file parts people whom the built-in rule of their dataset keeps together.",
            (_EXP,),
            first="take the dataset's rule out of `split.group_rules` of {exp}.yaml, or, where it is meant, set "
            "`split.override_builtin_rule: true`",
        ),
        "splits_partition_all_samples": Check(
            "Train, test and what was left out are disjoint and together all samples.", (_EXP,)
        ),
        "splits_not_empty": Check(
            "Both sides have samples (train alone where the file says train_only).",
            (_EXP,),
            first="name groups that there are in `split.test_groups` of {exp}.yaml, or set `split.train_only: true`",
        ),
        "photographs_across_splits": Check(
            "No photograph of a test group is, byte for byte, one of a training group.",
            (_EXP,),
            first=f"{_ONE_GROUP}, or leave one of the two scenes out (`generation.exclude`)",
        ),
        "near_duplicates_across_splits": Check(
            "No photograph of a test group looks like one of a training group, as it is or mirrored.",
            (_EXP,),
            first=f"where they are of one capture, {_ONE_GROUP}",
            blocks=False,
        ),
    },
    "difix_data": {
        "data_json_matches_manifests": Check(
            "data.json holds exactly the manifests' samples, with files that exist.", (_EXP,)
        )
    },
    "tuned_checkpoint": {
        "checkpoint_loads": Check(
            "Every checkpoint has its digest, loads without unpickling, and is finite.",
            (f"{_RUN} --force tuned_checkpoint",),
            first="restore the named checkpoints from a copy, or have the run trained anew: the old training is moved aside",
        ),
        "checkpoint_belongs_to_data": Check(
            "Every checkpoint and the configuration name this data.json.",
            (f"{_RUN} --force tuned_checkpoint",),
            first="where {exp} was meant to get other data, declare the run under a new name in {exp}.yaml; else have it trained anew: "
            "the old training is moved aside",
        ),
        "loss_is_finite": Check(
            "Every loss the trainer reported is finite.",
            (f"{_EXP} --set runs.{{run}}.learning_rate=1e-6",),
            first="a run keeps its settings: the command trains one with a lower rate beside it; then take {run} out of {exp}.yaml",
        ),
        "train_config_complete": Check(
            "train_config.json has every key.",
            (_RUN,),
            first="remove train_config.json of the run: it is written anew, nothing is trained again",
        ),
    },
    "selected_checkpoint": {
        "selection_disjoint_from_evaluation": Check(
            "No person the choice looked at is one the evaluation reports on.",
            (_RUN,),
            first="name the proposed group in `runs.{run}.selection.groups` of {exp}.yaml",
        ),
        "improves_over_input": Check(
            "The chosen checkpoint scores above the unrefined render.",
            (f"{_EXP} --set runs.{{run}}.max_train_steps=20000",),
            first="no file is at fault; a run keeps its settings, so another one is trained beside it, longer for instance",
            blocks=False,
        ),
    },
    "input_data": {
        "input_data_clean": Check(
            "input_data/train holds core inputs only; est_* debug lies under misc/nv_generation.",
            ("thesis-assets checks run --exp {exp} --run {run} input_data_clean",),
            first="remove what is named",
            blocks=False,
        )
    },
    "nvs": {
        "nvs_required_files": Check(
            "Every enabled epoch and scene has the three files, complete and finite (no scene can have the task: a warning).",
            (_RUN,),
        ),
        "lpips_present": Check(
            "The tables have LPIPS, or say why not.",
            (f"{_RUN} --force nvs",),
            first="`make lpips` fetches the two files of weights; or put them where the message says, and `thesis-assets doctor` looks",
            blocks=False,
        ),
    },
    **{
        task: {
            f"{task}_required_files": Check(
                "Every enabled epoch and scene has both files, complete and finite (no scene can have the task: a warning).",
                (_RUN,),
            )
        }
        for task in POSE_TASKS
    },
    "evaluation_manifest": {
        "manifest_matches_disk": Check(
            "manifest.json lists exactly the tasks and epochs that are complete on disk.", (_RUN,)
        ),
        "layout_version_is_v1": Check(
            "output_layout_version is v1.", (_RUN,), first="take what is no entry of the layout out of the tree"
        ),
        "metrics_recompute": Check(
            "A seeded share of the numbers is recomputed from the saved images.",
            (_RUN,),
            first="remove the folders metrics/, pred/ and gt_inputs/ of the named epochs",
            blocks=False,
        ),
        "evaluated_people_unseen": Check(
            "No person that is reported on was trained on.",
            (_RUN,),
            first="leave the scenes out of `evaluation.scenes` in {exp}.yaml, or hold the people out in a fork",
            blocks=False,
        ),
        "upstream_saw_evaluated_people": Check(
            "No model that the run builds on (base model, estimator, LPIPS) was trained on people that are evaluated, by the ledger of "
            "models.",
            (_RUN,),
            first="leave the scenes out of `evaluation.scenes` in {exp}.yaml, take a model that had not seen them, or correct its "
            "entry in the folder of models; else say it beside the numbers",
            blocks=False,
        ),
    },
    "triplet_recording": {
        "recording_follows_contract": Check(
            "Samples, steps and rows are those of the run.", (_RUN,), first="remove rerun/triplets.rrd of the run"
        )
    },
    "input_data_recording": {
        "recording_follows_contract": Check("Entities, timelines and rows are those of the tree.", (_RECORD, _RUN))
    },
    "evaluation_recordings": {
        "recording_follows_contract": Check(
            "Entities, timelines and rows are those of the tree, in both directions.", (_RECORD, _RUN)
        ),
        "recording_verifies": Check("Every file of rerun/ passes the SDK's own verification.", (_RECORD, _RUN)),
        "recording_is_current": Check("Every recording was made from the files that are on disk now.", (_RUN,)),
        "recording_within_size_budget": Check(
            "No file is larger than the web viewer can hold.",
            (_RECORD,),
            first="lower THESIS_SPLIT_RECORDING_MB in .env: an epoch above it gets a recording a task",
            blocks=False,
        ),
    },
}


def remedy_of(asset: str, name: str, key: str | None) -> Remedy:
    """What mends a check in the partition `key`, as the event log has it; nothing where it was made of no partition."""
    if key is None:
        return Remedy()
    cell = Cell.parse(NODES[asset].kind, key)
    return CHECKS[asset][name].remedy(cell.exp_name, cell.run_name)


ABSENCES = {"lpips_present"}
"""Warnings about what this machine lacks: a command says so once, at its end, not at each cell."""


def checks_job(asset: str) -> str:
    """The name of the job that makes an asset's checks alone."""
    return f"{asset}_checks"
