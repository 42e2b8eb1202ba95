"""What of a shard was lost or damaged, what is kept, and what a frozen snapshot takes back in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from thesis_assets.errors import InvalidScene
from thesis_assets.layout import DifixTree
from thesis_assets.provenance import LOST, MadeFrom, Output, Verdict
from thesis_assets.samples.snapshot import refuse_change

_NAMED = 5


@dataclass(frozen=True)
class ShardDamage:
    """What a look found of a shard that is made from what one would make it from now.

    Attributes:
        samples: ids of those that are to be made again.
        kept: the others, with what the record says of their files by name.
        own_files: the shard's own files are to be written again.
    """

    samples: frozenset[str]
    kept: dict[str, dict[str, Output]]
    own_files: bool

    def require_made_again(self, tree: DifixTree, scene_name: str, made: set[str]) -> None:
        """All lost samples must be there again.

        Raises:
            InvalidScene: some could not be made: what they were made from is gone by now, or cannot be read.
        """
        left = sorted(self.samples - made)
        if left:
            raise InvalidScene(
                f"{len(left)} lost samples of `{scene_name}` could not be made again",
                file=tree.samples_dir,
                found=", ".join(left[:_NAMED]) + (f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""),
                wanted="the scene's files that they were made from",
                remedy="bring them back; or let the scene's samples be made anew from what is there: "
                f"`thesis-assets run --exp {tree.exp_name} --force scene_samples`",
            )


def shard_damage(record: MadeFrom, verdict: Verdict, *, everything: bool = False) -> ShardDamage:
    """See `ShardDamage`. `everything`: all samples are to be made again, whole or not."""
    kept: dict[str, dict[str, Output]] = {}
    for name, output in record.outputs.items():
        folder, _, rest = name.partition("/")
        if folder == "samples":
            sample_id, _, file = rest.partition("/")
            kept.setdefault(sample_id, {})[file] = Output(*output)
    names = [*verdict.missing, *verdict.damaged]
    lost = set(kept) if everything else {name.split("/")[1] for name in names if name.startswith("samples/")}
    return ShardDamage(
        samples=frozenset(lost),
        kept={sample_id: files for sample_id, files in kept.items() if sample_id not in lost},
        own_files=any(not name.startswith("samples/") for name in names),
    )


def only_as_recorded(tree: DifixTree, record: MadeFrom) -> Callable[[str, Mapping[str, Output]], None]:
    """What a frozen snapshot takes in place of a lost sample: the recorded bytes, or, of images that we encode, pixels.

    `meta.json` may say of another renderer; its eleven required keys follow from the sample's id.
    """

    def accept(sample_id: str, files: Mapping[str, Output]) -> None:
        for file, made in files.items():
            then = record.output(f"samples/{sample_id}/{file}")
            if file == "meta.json" or then is None or then.sha256 in (made.sha256, LOST):
                continue
            if then.pixels is None or then.pixels != made.pixels:
                raise refuse_change(
                    tree,
                    "and a sample that is made again would be another one",
                    key=f"samples/{sample_id}/{file}",
                    found=f"sha256 {made.sha256[:12]}, pixels {(made.pixels or 'not known')[:12]}",
                    wanted=f"sha256 {then.sha256[:12]}, pixels {(then.pixels or 'not known')[:12]}",
                )

    return accept
