"""Whether somebody else could put a file of his own where we put our socket.

A socket is as private as the folder it is in: who may rename there can be taken for us. Looks at
owners and modes alone and changes nothing.
"""

import os
import stat
from pathlib import Path

ROOT = 0
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def not_private(folder: Path) -> str | None:
    """What makes this folder no place for a socket, in words; None when nothing does.

    In a folder such as /tmp (mode 1777) others may write, and still not touch what is ours.
    """
    for part in (*reversed(folder.absolute().parents), folder.absolute()):
        if part.is_symlink() and not _trusted(part.lstat().st_uid):
            return (
                f"{part} is a symbolic link of user {part.lstat().st_uid}, who can turn it around"
            )
    seen = folder.stat()
    if not _trusted(seen.st_uid):
        return f"{folder} belongs to user {seen.st_uid}, who can replace what is in it"
    if seen.st_mode & _OTHERS_MAY_WRITE and not seen.st_mode & stat.S_ISVTX:
        mode = stat.S_IMODE(seen.st_mode)
        return (
            f"others may write to {folder} (mode {mode:04o}) and replace what is in it;"
            f" chmod go-w {folder}, or name a folder that is not there yet"
        )
    return None


def _trusted(uid: int) -> bool:
    return uid in (ROOT, os.geteuid())
