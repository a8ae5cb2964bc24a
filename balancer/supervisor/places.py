"""Why a path of the configuration cannot be used: one sentence that names the setting and the path.

Makes private folders and nothing else.
"""

import os
from pathlib import Path


class NoPlace(Exception):
    """A path cannot be used; str() is a sentence for the operator."""


def make_folder_of(setting: str, place: Path) -> None:
    """Make the folder (0700) that is to hold `place`. Raises NoPlace."""
    folder = place.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        why = _in_the_way(folder) or error.strerror or str(error)
        raise NoPlace(f"cannot make the folder of {setting}, {folder}: {why}") from error


def cannot_open(setting: str, place: Path, error: OSError) -> NoPlace:
    """The refusal for a file that could not be opened."""
    missing = f"there is no folder {place.parent}" if not os.path.lexists(place.parent) else None
    why = _in_the_way(place.parent) or missing or error.strerror or str(error)
    return NoPlace(f"cannot open {setting}, {place}: {why}")


def _in_the_way(folder: Path) -> str | None:
    """The part of a folder's path that is no folder, in words."""
    for part in (folder, *folder.parents):
        if os.path.lexists(part) and not part.is_dir():
            return f"{part} is a file" if part.is_file() else f"{part} is no folder"
    return None
