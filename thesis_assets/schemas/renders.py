"""The record of renders that a user's command made, kept beside them."""

from typing import ClassVar

from thesis_assets.schemas.base import OlderKeys


class RenderRecord(OlderKeys):
    """`command.json` in a scene's folder of renders.

    Attributes:
        identity: of the renders' made-from record that this command is to end with (`rendering.render_command`).
        finished: False while the command runs, and after it failed.
        job: path of the `JobRecord` of its last run.
    """

    older_keys: ClassVar[frozenset[str]] = frozenset({"command_digest", "made"})

    identity: str = ""
    command: list[str]
    exp_name: str
    finished: bool
    job: str
