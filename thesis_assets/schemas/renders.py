"""The record of renders that a user's command made, kept beside them."""

from thesis_assets.schemas.base import FileModel


class RenderRecord(FileModel):
    """`command.json` in a scene's folder of renders.

    Attributes:
        command_digest: of the command line, its environment, and the scene's files (`rendering.render_command`).
        finished: False while the command runs, and after it failed.
        job: path of the `JobRecord` of its last run.
        made: frames with a render when the command had ended, by camera.
    """

    command_digest: str
    command: list[str]
    exp_name: str
    finished: bool
    job: str
    made: dict[int, list[str]] = {}
