"""Finds planted words in whatever a run left: in names, bytes, archives and records."""

import gzip
import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

_BLOCK, _HEADER = 32768, 7  # of a `.wandb` file, which is a log of LevelDB

LOCAL = (
    "config*.yaml",
    "run.json",
    "splits.json",
    "metrics.csv",
    "*_metrics.csv",
    "predictions/*",
    "wandb/*/logs/*",
)
"""What stays on the disk by design (SECURITY.md), from the run directory."""


def may_leave(run: Path) -> list[Path]:
    """The files of a run that are sent or handed on."""
    files = [path for path in run.rglob("*") if path.is_file()]
    links = [path for path in run.rglob("*") if path.is_symlink()]
    local = {path for pattern in LOCAL for path in run.glob(pattern)}
    inside = [path for path in files if not any(link in (path, *path.parents) for link in links)]
    return [path for path in inside if not local & {path, *path.parents}]


def found(words: Iterable[str], run: Path) -> dict[str, set[str]]:
    """The words that stand in files that may leave, each with those files."""
    where: dict[str, set[str]] = {}
    for path in may_leave(run):
        name = str(path.relative_to(run))
        content = b"\n".join([name.encode(), *_contents(name, path.read_bytes())]).lower()
        for word in words:
            forms = (word.lower().encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be"))
            if any(form in content for form in forms):
                where.setdefault(word, set()).add(name)
    return where


def _contents(name: str, raw: bytes) -> Iterator[bytes]:
    """What a file holds: as it is, unpacked, and without the headers in between."""
    yield raw
    if name.endswith(".wandb"):
        blocks = (raw[start : start + _BLOCK] for start in range(0, len(raw), _BLOCK))
        yield b"".join(_joined(block) for block in blocks)
    if raw[:2] == b"\x1f\x8b":
        yield from _contents("", gzip.decompress(raw))
    if zipfile.is_zipfile(io.BytesIO(raw)):
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            for member in archive.namelist():
                yield from _contents(member, archive.read(member))


def _joined(block: bytes) -> bytes:
    """The parts of records in a block; a record that goes on in the next one is joined to it."""
    parts, place = [], 0
    while place + _HEADER <= len(block):
        length = int.from_bytes(block[place + 4 : place + 6], "little")
        parts.append(block[place + _HEADER : place + _HEADER + length])
        place += _HEADER + length
    return b"".join(parts)
