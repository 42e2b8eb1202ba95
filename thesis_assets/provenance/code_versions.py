"""The code version of each step: Dagster's word, shown at the asset, and part of every record's identity.

Raised where a change of code changes what a step makes of the same inputs. What an older version made stays, with a note; nothing
asks for it by itself. Without any import: loading the graph reads it.
"""

_POSE = "2"
_RECORDING = "4"

CODE_VERSIONS = {
    "scene_samples": "1",
    "sample_set": "1",
    "split_manifests": "1",
    "difix_data": "1",
    "tuned_checkpoint": "2",
    "selected_checkpoint": "1",
    "input_data": "1",
    "predictions": "2",
    "nvs": "1",
    "pose_smplx": _POSE,
    "pose_smpl": _POSE,
    "evaluation_manifest": "1",
    "triplet_recording": _RECORDING,
    "input_data_recording": _RECORDING,
    "evaluation_recordings": _RECORDING,
    "published_recordings": "1",
    "leaderboard": "3",
    # Not assets: the event in the history is all that there is of the first two, the others are made within an asset's step.
    "scene_catalog": "1",
    "check_report": "1",
    "command_renders": "1",
    "pipeline": "1",
    "taken": "1",
    "training_artifacts": "1",
    "recording_previews": "1",
    "compare_page": "3",
}
"""By asset, or by what an asset's step makes besides. `taken`: what an evaluation takes over from the tree of another pipeline."""
