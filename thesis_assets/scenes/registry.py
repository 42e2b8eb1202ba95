"""The scene registry: one bounded JSON file a scene that names its source camera."""

from pathlib import Path

from thesis_assets import storage
from thesis_assets.scenes.listing import SceneRoots, file_with_content
from thesis_assets.schemas.scenes import SceneRegistryEntry

MAX_REGISTRY_BYTES = 1024 * 1024


def read_registry(roots: SceneRoots, scene_name: str) -> SceneRegistryEntry | None:
    """The registry entry of a scene, or None where there is no file (or an empty one).

    Raises:
        InvalidKey: the scene's name is unsafe.
        InvalidFile: the file is too large, not JSON, or breaks the schema; the message names the key.
        InvalidScene: the file is a link out of the roots.
    """
    path = file_with_content(roots.tree(scene_name).registry_entry, roots)
    return None if path is None else storage.read_json(path, SceneRegistryEntry, max_bytes=MAX_REGISTRY_BYTES)


def write_registry(path: Path, entry: SceneRegistryEntry) -> None:
    """Write a registry entry; keys without a value are left out."""
    storage.write_json(path, entry.model_dump(mode="json", exclude_none=True))
