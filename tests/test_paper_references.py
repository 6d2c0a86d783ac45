"""Whoever follows a reference to a specification finds the file and the section."""

import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SUFFIXES = {".py", ".md", ".yaml", ".yml", ".toml", ".cff"}
HISTORY = "CHANGELOG.md"  # may tell of what is gone

HEADING = re.compile(r"#{2,} (\d+(?:\.\d+)+|\d+[a-z]?)\.? ")
ITEM = re.compile(r"(\d+)\. ")
BREAK = re.compile(r"\n[ \t]*(?:#+|>)?[ \t]*")  # of a comment or a quotation too
SECTION = r"(?:\d+(?:\.\d+)+|\d+[a-z](?:-\d+)?)(?![\w-])"
SECTIONS = rf",? (?:sections? )?{SECTION}(?:(?:,| and|, and) {SECTION})*"
LONE = r" \d+(?=[):;]|\.(?!\d)|$)"
CITATION = re.compile(
    r"(?P<before>[\w./-]*)papers/(?P<name>[\w-]+)\.md[`)]*"
    rf"(?P<sections>{SECTIONS}|{LONE})?"
)


def sections_of(specification: str) -> set[str]:
    """Numbers of the sections, and of their items behind a hyphen."""
    found: set[str] = set()
    section = ""
    for line in specification.splitlines():
        if heading := HEADING.match(line):
            section = heading[1]
            found.add(section)
        elif item := ITEM.match(line):
            found.add(f"{section}-{item[1]}")
    return found


def citations(root: Path, files: Iterable[Path]) -> Iterator[tuple[Path, re.Match[str]]]:
    for file in files:
        text = BREAK.sub(" ", (root / file).read_text(encoding="utf-8"))
        for match in CITATION.finditer(text):
            yield file, match


def is_followed(root: Path, file: Path, before: str) -> bool:
    """Whether a path that begins so leads to the folder: from the root, as a link, as a URL."""
    if before == "docs/" or (before.startswith("//") and before.endswith("/docs/")):
        return True
    target = (root / file.parent / before / "papers").resolve()
    return file.suffix == ".md" and target == (root / "docs" / "papers").resolve()


def wrong_citations(root: Path, files: Iterable[Path]) -> list[str]:
    """What a reader could not follow, one line each."""
    folder = root / "docs" / "papers"
    known = {path.stem: sections_of(path.read_text(encoding="utf-8")) for path in folder.iterdir()}
    wrong = []
    for file, match in citations(root, files):
        cited = f"{file}: {match[0].strip()}"
        if not is_followed(root, file, match["before"]):
            wrong.append(f"{cited}: is no path from the root of the repository")
        if match["name"] not in known:
            wrong.append(f"{cited}: there is no docs/papers/{match['name']}.md")
            continue
        for section in re.findall(rf"{SECTION}|\d+", match["sections"] or ""):
            if section not in known[match["name"]]:
                wrong.append(f"{cited}: there is no {section}")
    return wrong


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("which files belong to the repository is asked of git")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    files = [Path(name) for name in listed.stdout.split("\0") if name]
    return [
        file
        for file in files
        if (file.suffix in SUFFIXES or file.name == "Makefile")
        and file.name not in (HISTORY, Path(__file__).name)
        and file.parent != Path("docs/papers")
        and (ROOT / file).is_file()  # not where a deletion is not yet committed
    ]


def test_every_cited_section_is_in_the_repository() -> None:
    files = tracked()
    assert not wrong_citations(ROOT, files)
    assert len(list(citations(ROOT, files))) > 50


def test_sections_and_their_items_are_found() -> None:
    for name, numbers in {
        "shared": {"0.1", "0.2", "0.3.1", "0.3.3", "0.4", "6"},
        "hybrid": {"2", "2a", "2b", "2c-1", "2c-9", "2c-12", "2d", "2e", "2f", "2g-7"},
        "lmi": {"5", "5a", "5b", "5c-2", "5c-14", "5d", "5e", "5f", "5g-10"},
    }.items():
        specification = (ROOT / "docs" / "papers" / f"{name}.md").read_text(encoding="utf-8")
        assert numbers <= sections_of(specification)


def tree(root: Path, cited: str, file: str = "meddiff/loss.py") -> list[str]:
    """What is wrong with a tree of one specification and one file that cites it."""
    (root / "docs" / "papers").mkdir(parents=True)
    specification = "## 2. Title\n### 2a. Maths\n1. One.\n### 2b. Values\n#### 0.3.1 Schedule\n"
    (root / "docs" / "papers" / "hybrid.md").write_text(specification)
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(cited)
    return wrong_citations(root, [Path(file)])


@pytest.mark.parametrize(
    "cited",
    [
        '"""The loss (docs/papers/hybrid.md 2a)."""',
        '"""The loss (docs/papers/hybrid.md, section 2a, Eq. 1) at 3 levels."""',
        '"""Of docs/papers/hybrid.md, Propositions 1 and 2."""',
        "# `docs/papers/hybrid.md` 2a, 2b, and 2a-1: 20 / 10 / 10",
        "# docs/papers/hybrid.md 0.3.1 and 2a-1.",
        "# of docs/papers/hybrid.md 2.",
        "# Of the paper (docs/papers/hybrid.md) 20 labels.",
        'class Loss:\n    """Facts 1 to 4 of docs/papers/hybrid.md\n    2a,\n    2b."""',
        "key: 1  # docs/papers/hybrid.md\n        # 2a-1",
        "# https://example.org/meddiff/blob/main/docs/papers/hybrid.md",
    ],
)
def test_what_can_be_followed_passes(tmp_path: Path, cited: str) -> None:
    assert tree(tmp_path, cited) == []


@pytest.mark.parametrize(
    ("cited", "reason"),
    [
        ('"""The loss (papers/hybrid.md 2a)."""', "no path from the root"),
        ('"""The loss (../shared/papers/hybrid.md 2a)."""', "no path from the root"),
        ('"""The loss (docs/papers/other.md 2a)."""', "no docs/papers/other.md"),
        ('"""The loss (docs/papers/hybrid.md 2c)."""', "no 2c"),
        ('"""The loss (docs/papers/hybrid.md 3)."""', "no 3"),
        ("# of docs/papers/hybrid.md 3.", "no 3"),
        ("# docs/papers/hybrid.md 2a, 2a-2 and 2b", "no 2a-2"),
        ("# docs/papers/hybrid.md 2a and\n# 0.3.2", "no 0.3.2"),
        (
            '"""docs/papers/hybrid.md 2a,\n\n    section 2b; `docs/papers/hybrid.md`\n 2z."""',
            "no 2z",
        ),
    ],
)
def test_what_cannot_be_followed_is_told(tmp_path: Path, cited: str, reason: str) -> None:
    wrong = tree(tmp_path, cited)
    assert len(wrong) == 1
    assert reason in wrong[0]
    assert wrong[0].startswith("meddiff/loss.py: ")


def test_links_between_pages_are_relative(tmp_path: Path) -> None:
    assert tree(tmp_path / "right", "[it](../papers/hybrid.md) 2a", "docs/methods/hybrid.md") == []
    assert tree(tmp_path / "wrong", "[it](papers/hybrid.md) 2a", "docs/methods/hybrid.md")
