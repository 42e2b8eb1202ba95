"""What is noted of a cell while it is made, and stays where it is not."""

from thesis_assets.schemas.base import FileModel


class Attempt(FileModel):
    """`meta/attempts/<asset>--<run or scene>.json`.

    Attributes:
        cell: its partition key.
        wanted: digest of what it is made from.
        number: how many attempts from the same things this is.
        reason: why it failed; while it is at work, what is true if its process is gone.
        is_lost: the process was killed, or its node died: the same again may succeed.
        before: while it is at work, what was noted until then; it is put back where another process is found at work.
    """

    asset: str
    cell: str
    wanted: str
    run_id: str
    began_at: str
    number: int
    reason: str
    is_lost: bool
    before: "Attempt | None" = None
