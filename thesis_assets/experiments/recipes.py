"""Recipes: where samples' imperfect renders come from, where an experiment names several ways, and for which share of the samples.

A recipe has one folder of renders a scene, or one for each value of its schedule. Does not belong here: which sample gets which
(`samples.recipes`).
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from thesis_assets.experiments.command_template import Part

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
MAX_RECIPES = 20
MAX_VALUES = 20
RECIPE_FIELDS = ("recipe", "iterations", "train_cameras", "train_frames")
"""What the command that renders is told of a recipe."""
TOLERANCE = 0.01
"""By how much of all samples a recipe may have more or fewer than asked for before it is told."""

ScheduleValue = Annotated[float, Field(gt=0.0, le=1.0, strict=True)]


class Recipe(Part):
    """One way to an imperfect render.

    Attributes:
        share: of the samples.
        schedule: after which shares of the full schedule the 3D model is stopped; the recipe's samples are shared out evenly.
        iterations: the full schedule.
        every: the 3D model is trained on every n-th frame, and samples come from the others.
        train_cameras: which cameras the 3D model is trained from: the source camera, or all.
    """

    name: str
    share: float = Field(gt=0.0, le=1.0, strict=True)
    schedule: tuple[ScheduleValue, ...] = Field(default=(), max_length=MAX_VALUES)
    iterations: Annotated[int, Field(ge=1, le=100_000_000, strict=True)] | None = None
    every: Annotated[int, Field(ge=2, le=1_000_000, strict=True)] | None = None
    train_cameras: Literal["source", "all"] = "source"

    @model_validator(mode="after")
    def _parts_belong_together(self) -> "Recipe":
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"`{self.name[:80]}` is no name of a recipe, which becomes a folder: a letter first, then letters, digits, `_` and "
                "`-`, at most 64"
            )
        if self.schedule and self.iterations is None:
            raise ValueError(f"recipe `{self.name}`: `schedule` needs `iterations`, the length of the full schedule")
        if len({f"{value:g}" for value in self.schedule}) != len(self.schedule):
            raise ValueError(f"recipe `{self.name}`: `schedule` names a value twice")
        return self

    def renders(self) -> "list[RecipeRenders]":
        """Its folders of renders, in the order of its schedule."""
        return [RecipeRenders(self, value) for value in self.schedule or (None,)]


@dataclass(frozen=True)
class RecipeRenders:
    """One folder of renders of a recipe. `value`: of its schedule; None where it has none."""

    recipe: Recipe
    value: float | None

    @property
    def folder(self) -> str:
        """`sparse`, `underfit-0.25`."""
        return self.recipe.name if self.value is None else f"{self.recipe.name}-{self.value:g}"

    @property
    def iterations(self) -> int | None:
        """After how many the 3D model is stopped, at least one; None where the recipe does not say."""
        whole = self.recipe.iterations
        return whole if whole is None or self.value is None else max(1, round(self.value * whole))


def check_recipes(recipes: Sequence[Recipe]) -> None:
    """Refuse recipes that cannot stand side by side.

    Raises:
        ValueError: their shares do not add up, or two have one folder.
    """
    if len(recipes) > MAX_RECIPES:
        raise ValueError(f"{len(recipes)} recipes; at most {MAX_RECIPES}")
    total = sum(recipe.share for recipe in recipes)
    if abs(total - 1.0) > 1e-6:
        shares = " + ".join(f"{recipe.share:g}" for recipe in recipes)
        raise ValueError(f"the shares add up to {total:g} ({shares}): they are of all samples, and must add up to 1")
    # Upper and lower case alike: on some disks they are one folder.
    folders = Counter(renders.folder.casefold() for recipe in recipes for renders in recipe.renders())
    twice = [folder for folder, n in folders.items() if n > 1]
    if twice:
        raise ValueError(f"two recipes have the folder of renders `{twice[0]}`: name one of them otherwise")


def refused_by_source(recipes: Sequence[Recipe], source: str, told: set[str] | None) -> Iterator[str]:
    """Why recipes do not go with where renders come from.

    Args:
        told: the placeholders of the command that renders; None where there is no command.
    """
    if source == "gaussians":
        yield (
            "recipes need renders of your own pipeline (`renders.source: command` or `precomputed`): the scene's Gaussians, which "
            "`source: gaussians` draws, are of one making"
        )
    if told is None:
        return
    for recipe in recipes:
        lacking = [
            (recipe.schedule, "iterations", "a `schedule`"),
            (recipe.every, "train_frames", "`every`"),
            (recipe.train_cameras == "all", "train_cameras", "`train_cameras: all`"),
        ]
        for is_set, field, what in lacking:
            if is_set and field not in told:
                yield f"recipe `{recipe.name}` has {what}, and `renders.command` is not told it: write {{{field}}} into it"
        if "iterations" in told and recipe.iterations is None:
            yield f"`renders.command` has {{iterations}}, and recipe `{recipe.name}` has no `iterations`"
    if len(recipes) > 1 and told.isdisjoint(RECIPE_FIELDS):
        yield "`renders.command` is not told the recipe, and would render all of them alike: write {recipe} into it"
