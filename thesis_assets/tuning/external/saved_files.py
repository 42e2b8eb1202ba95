"""The checkpoints that the script writes: seen when they are whole, verified, and given their side files.

The published script writes a file under its final name at once, so one that is there may be half of itself.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence

from thesis_assets.layout import TuningRunTree, parse_checkpoint_step
from thesis_assets.provenance.contents import Stat, stat_of
from thesis_assets.schemas.tuning import CheckpointInfo, TrainConfig
from thesis_assets.tuning.checkpoints import list_checkpoints, register_checkpoint


class SavedFiles:
    """Watches `checkpoints/` for the wanted steps."""

    def __init__(self, tree: TuningRunTree, config: TrainConfig, wanted: Sequence[int]) -> None:
        self._tree, self._config = tree, config
        self._before: dict[int, Stat] = {}
        finished = set(list_checkpoints(tree))
        self.missing = [step for step in wanted if step not in finished]

    def newly_whole(self, *, settled: bool = False) -> list[CheckpointInfo]:
        """Those that became whole since the last call, verified.

        Args:
            settled: nobody writes any more; else a file must have kept its size and time since the last call.

        Raises:
            InvalidFile: a whole file is no checkpoint, or a weight is not finite.
        """
        whole = [step for step in self.missing if self._is_whole(step, settled)]
        infos = [
            register_checkpoint(
                self._tree,
                step,
                metrics={},
                data_json_sha256=self._config.data_json_sha256,
                hyperparameter_digest=self._config.hyperparameter_digest,
            )
            for step in whole
        ]
        self.missing = [step for step in self.missing if step not in whole]
        return infos

    def _is_whole(self, step: int, settled: bool) -> bool:
        path = self._tree.checkpoint(step)
        now, before = stat_of(path), self._before.get(step)
        if now is None:
            return False
        self._before[step] = now
        # A zip archive has its directory at its end: without that it is still being written.
        return (settled or now == before) and zipfile.is_zipfile(path)

    def remove_unfinished(self) -> list[str]:
        """Take away the `.pkl` files without a side file: cut off by the script's end, or saved beyond the last wanted step.

        The script reads a step out of every `.pkl` name when it is told to go on from the folder.
        """
        finished = set(list_checkpoints(self._tree))
        removed = []
        for path in sorted(self._tree.checkpoints_dir.glob("*.pkl")):
            if parse_checkpoint_step(path.name) not in finished:
                path.unlink()
                removed.append(path.name)
        return removed
