"""A full disk: told from other errors, and said in a sentence. No run has failed by it; each goes on when there is room."""

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFullError(OSError):
    """A sweep stopped because there is no room on a disk."""


def is_full(error: BaseException) -> bool:
    """Whether an error, or one behind it, says that a disk is full; libraries say it in words of the system."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in FULL:
            return True
        if any(os.strerror(number) in str(seen) for number in FULL):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def disk_full(folders: Iterable[Path], *, done: int, left: int) -> DiskFullError:
    """What is said of the fullest of the disks of some folders."""
    free = {folder: shutil.disk_usage(folder).free for folder in folders if folder.is_dir()}
    fullest = min(free, key=lambda folder: free[folder])
    return DiskFullError(
        errno.ENOSPC,
        f"no room is left on a disk ({free[fullest] / 1e6:.0f} MB): {done} runs are done and stay so, {left} are left. Make "
        "room (`colbert-research cache gc` removes what no record names) and run again: it goes on",
        str(fullest),
    )
