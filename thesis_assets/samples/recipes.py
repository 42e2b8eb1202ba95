"""Which sample has its render from which recipe: by shares, seeded, and the same whatever comes before or beside a scene.

Pure over names. The samples of a scene are ranked by digests of seed and sample id, and each recipe takes its share of them; where shares
do not come out even, the scene's own name decides who gets one more, so that over many scenes nobody comes off worse.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from thesis_assets import storage
from thesis_assets.errors import InvalidFile
from thesis_assets.experiments.recipes import TOLERANCE, Recipe, RecipeRenders
from thesis_assets.experiments.spec import GenerationSpec
from thesis_assets.layout import SampleId
from thesis_assets.schemas.samples import SampleMeta


def training_frames(frames: Sequence[str], recipe: Recipe) -> list[str]:
    """The frames that a recipe's 3D model is trained on, of all frames of a scene."""
    return list(frames[:: recipe.every or 1])


def share_out(
    samples: Iterable[SampleId], frames: Sequence[str], generation: GenerationSpec
) -> dict[SampleId, RecipeRenders]:
    """The folder of renders of each sample of one scene. A sample whose frame every recipe trains on has none.

    Args:
        frames: all frames of the scene, in numeric order.
    """
    recipes = {recipe.name: recipe for recipe in generation.recipes}
    trained = {name: frozenset(training_frames(frames, each)) for name, each in recipes.items() if each.every}
    ranked = sorted(samples, key=lambda sample: _drawn(generation.recipe_seed, str(sample)))
    can = {sample: [name for name in recipes if sample.target_fname not in trained.get(name, ())] for sample in ranked}
    left = [sample for sample in ranked if can[sample]]
    if not left:
        return {}
    wanted = _counts(recipes.values(), len(left), _unit(generation.recipe_seed, left[0].scene_name))
    # Who has the least to choose from chooses first.
    choice = Counter(name for sample in left for name in can[sample])
    found: dict[SampleId, str] = {}
    for name in sorted(recipes, key=lambda name: choice[name]):
        free = [sample for sample in left if sample not in found and name in can[sample]]
        found |= dict.fromkeys(free[: wanted[name]], name)
    got = Counter(found.values())
    for sample in left:
        if sample not in found:  # a recipe that had no more to choose from leaves its share to the others
            name = max(can[sample], key=lambda name: wanted[name] - got[name])
            found[sample] = name
            got[name] += 1
    return {sample: each for recipe in generation.recipes for sample, each in _by_value(found, recipe, generation)}


def _by_value(
    found: Mapping[SampleId, str], recipe: Recipe, generation: GenerationSpec
) -> Iterable[tuple[SampleId, RecipeRenders]]:
    """The samples of one recipe, evenly over its schedule."""
    renders, name = recipe.renders(), recipe.name
    own = [sample for sample, of in found.items() if of == name]
    own.sort(key=lambda sample: _drawn(generation.recipe_seed, f"{name}|{sample}"))
    start = int(_unit(generation.recipe_seed, f"{name}|{own[0].scene_name}") * len(renders)) if own else 0
    return [(sample, renders[(start + place) % len(renders)]) for place, sample in enumerate(own)]


def _counts(recipes: Iterable[Recipe], n: int, offset: float) -> dict[str, int]:
    """How many of `n` samples each recipe gets: a ruler with a mark a sample, moved by `offset` of one, over the shares."""
    counts, passed, share = {}, 0, 0.0
    *first, last = recipes
    for recipe in first:
        share += recipe.share
        upto = min(n, max(passed, int(share * n + offset)))
        counts[recipe.name] = upto - passed
        passed = upto
    return {**counts, last.name: n - passed}


def _drawn(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}|{text}".encode()).digest()


def _unit(seed: int, text: str) -> float:
    """In [0, 1)."""
    return int.from_bytes(_drawn(seed, text)[:8], "big") / 2**64


def off_share(recipes: Sequence[Recipe], counts: Mapping[str, int]) -> list[str]:
    """In words, each recipe whose share of the samples is not what was asked for, by more than `TOLERANCE` of all samples.

    Args:
        counts: samples by recipe.
    """
    total = sum(counts.values())
    if not total:
        return []
    shares = {recipe.name: counts.get(recipe.name, 0) / total for recipe in recipes}
    return [
        f"recipe {recipe.name}: {shares[recipe.name]:.1%} of {total} samples, {recipe.share:.1%} asked for"
        for recipe in recipes
        if abs(shares[recipe.name] - recipe.share) > TOLERANCE
    ]


def recipe_beside(image: Path) -> str | None:
    """The recipe of a sample's image, by the `meta.json` beside it; None where it has none, or where that cannot be read."""
    with suppress(InvalidFile):
        return storage.read_json(image.with_name("meta.json"), SampleMeta).provenance.recipe
    return None
