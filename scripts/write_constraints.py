"""Write `constraints.txt`: the versions, in this environment, of everything that this project depends on.

Run it in an environment where `make test` is green: `.venv/bin/python scripts/write_constraints.py`.
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = "thesis-assets"
HEADER = """\
# Versions that the tests were green with. `make` installs with `pip install -c constraints.txt`.
# Written by scripts/write_constraints.py; a constraint installs nothing by itself.
"""


def closure() -> dict[str, str]:
    """Name to version of every installed requirement, at any depth, of the project with all its extras."""
    extras = tuple(distribution(PROJECT).metadata.get_all("Provides-Extra") or ())
    found: dict[str, str] = {}
    seen: set[tuple[str, tuple[str, ...]]] = set()
    left: list[tuple[str, tuple[str, ...]]] = [(PROJECT, extras)]
    while left:
        name, wanted_extras = left.pop()
        key = (canonicalize_name(name), tuple(sorted(wanted_extras)))
        if key in seen:
            continue
        seen.add(key)
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue  # an extra that is not installed here
        if key[0] != PROJECT:
            # The local part (`+cpu`) names a build, not a version: a constraint with it would exclude all others.
            found[key[0]] = Version(installed.version).public
        for text in installed.requires or ():
            requirement = Requirement(text)
            if _applies(requirement, wanted_extras):
                left.append((requirement.name, tuple(requirement.extras)))
    return found


def _applies(requirement: Requirement, extras: tuple[str, ...]) -> bool:
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras))


def main() -> None:
    """Write the file beside `pyproject.toml`."""
    versions = closure()
    lines = [f"{name}=={versions[name]}\n" for name in sorted(versions)]
    Path(__file__).resolve().parents[1].joinpath("constraints.txt").write_text(
        HEADER + "".join(lines), encoding="utf-8"
    )
    print(f"constraints.txt: {len(lines)} packages")


if __name__ == "__main__":
    main()
