"""`thesis-assets demo-scenes` and `scenes`: make the demo scenes, list what is on disk."""

import dataclasses

from thesis_assets.cli.console import JsonOption, load_platform, print_json, print_table


def demo_scenes(as_json: JsonOption = False) -> None:
    """Make the demo scenes.

    A synthetic studio with moving pairs of people, and one pair of real stereo photographs. Scenes that are there already, whole, are left alone.
    """
    from thesis_assets.demo.motorcycle import make_motorcycle
    from thesis_assets.demo.studio import make_studio

    platform = load_platform()
    names = [*make_studio(platform.roots, platform.echo), *make_motorcycle(platform.roots)]
    if as_json:
        print_json({"scenes": names, "canonical_gt": str(platform.roots.canonical_gt)})
    else:
        print(f"{len(names)} demo scenes below {platform.roots.canonical_gt}: {', '.join(names)}")


def list_scenes_command(as_json: JsonOption = False) -> None:
    """List the scenes on disk, and what each lacks for which task."""
    from thesis_assets.scenes.catalog import describe_scene, list_scenes, missing_text

    platform = load_platform()
    summaries = [describe_scene(platform.roots, name) for name in list_scenes(platform.roots)]
    if as_json:
        print_json([dataclasses.asdict(summary) for summary in summaries])
        return
    rows = [
        (each.name, each.n_frames, len(each.cameras), ", ".join(each.modalities), missing_text(each))
        for each in summaries
    ]
    print_table(
        f"Scenes below {platform.roots.canonical_gt}", ("scene", "frames", "cameras", "modalities", "missing"), rows
    )
