"""Small files that stand where a data tool has not fetched the content yet."""

from pathlib import Path

_LONGEST = 1024
_LFS = b"version https://git-lfs.github.com/spec/"
_ANNEX = (b"/annex/objects/", b"../.git/annex/objects/", b".git/annex/objects/")


def unfetched(data: bytes) -> str | None:
    """Why a file is no content but a pointer to it; None where it is none.

    Args:
        data: The bytes of the file, or at least its first 100.
    """
    if len(data) > _LONGEST:
        return None
    if data.startswith(_LFS):
        return "content not fetched: a pointer of git-lfs; run `git lfs pull`"
    if data.startswith(_ANNEX):
        return "content not fetched: a pointer of git-annex; run `git annex get`"
    return None


def unfetched_file(path: Path) -> str | None:
    """As `unfetched`, of a file that need not be readable."""
    try:
        with path.open("rb") as file:
            return unfetched(file.read(_LONGEST + 1))
    except OSError:
        return None
