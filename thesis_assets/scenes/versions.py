"""One version for all files of a scene, by their content; and the stamp of their sizes and times that saves reading them."""

import time
from collections.abc import Mapping

from thesis_assets.provenance import Contents
from thesis_assets.provenance.contents import CLOCK_TICK_NS, stat_of
from thesis_assets.storage import sha256_value


def files_stamp(files: Mapping[str, str]) -> str:
    """Digest of the files' names, sizes and times. Empty where one changed just now: it may change again without a new time."""
    now_ns = time.time_ns()
    stats = sorted((name, stat_of(path)) for name, path in files.items())
    newest = max((stat[1] for _, stat in stats if stat is not None), default=0)
    return sha256_value(stats) if newest + CLOCK_TICK_NS < now_ns else ""


def scene_version(files: Mapping[str, str], known: Mapping[str, str], contents: Contents) -> str:
    """The version of a scene as it is now.

    Args:
        files: name to path of all that there are, see `listing.scene_files`.
        known: digests of what was once read of the scene, by name. A file that is gone counts as it was: scratch that was purged
            is no new version.
    """
    return version_read(files, {name: sha256 for name, sha256 in known.items() if name not in files}, contents)


def version_read(files: Mapping[str, str], read: Mapping[str, str], contents: Contents) -> str:
    """The version of a scene of which these digests were read, whatever its files hold by now; the other files as they are."""
    rest = {name: path for name, path in files.items() if name not in read}
    found = dict(zip(rest, contents.sha256_of(rest.values()), strict=True))
    return sha256_value(sorted({**found, **read}.items()))
