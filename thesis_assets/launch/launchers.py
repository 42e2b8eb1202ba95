"""Which launchers this version has."""

from thesis_assets.errors import NotBuiltYet


def require_local(launcher: str) -> None:
    """Refuse every launcher but `local`, before anything starts.

    Raises:
        NotBuiltYet: the launcher is another one.
    """
    if launcher != "local":
        raise NotBuiltYet(
            "this version runs its work on this machine only",
            key="THESIS_LAUNCHER",
            found=launcher,
            wanted="local",
            remedy="set THESIS_LAUNCHER=local, or start the whole command inside a job of your cluster",
        )
