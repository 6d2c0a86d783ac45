"""The file of names that a user leaves out: how its lines are read."""

import unicodedata
from pathlib import Path

import pytest

from data_modules.errors import DataError
from data_modules.listing.exclusion import Exclusion

NAME = "läsion"


def exclusion_of(tmp_path: Path, data: bytes | str) -> Exclusion:
    file = tmp_path / "exclude.txt"
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    return Exclusion(str(file))


@pytest.mark.parametrize(
    ("text", "left_out"),
    [
        ("c0\r\nc1\r\n", {"c0", "c1"}),
        ("\ufeffc0\r\nc1", {"c0", "c1"}),
        ("\ufeff# bad ones\r\nc0\r\n", {"c0"}),
        ("c0\n\ufeffc1\n", {"c0", "c1"}),  # two files of Windows, joined
        ("c0\rc1\r", {"c0", "c1"}),
        ("c#5\r\n", {"c#5"}),
        ("case #5\n", {"case #5"}),
        ("./#7\n", {"#7"}),
        ("images/c0.png  # torn\n  c1\t# too dark\n", {"images/c0.png", "c1"}),
        ("images\\c0.png\n", {"images/c0.png"}),
        ("a\\b\n", {"a\\b"}),
        ("./images/c0.png\n", {"images/c0.png"}),
        ("tab\tin\n", {"tab\tin"}),
        ('a=b\n50%\nit\'s\n"q"\n', {"a=b", "50%", "it's", '"q"'}),
        (unicodedata.normalize("NFD", NAME), {unicodedata.normalize("NFC", NAME)}),
        (unicodedata.normalize("NFC", NAME), {unicodedata.normalize("NFD", NAME)}),
        ("caf\\xe9_1\n", {"caf\udce9_1"}),
        ("two\\x0alines\n", {"two\nlines"}),
        ("", set()),
        ("# nothing\n\n  \n", set()),
    ],
)
def test_lines_are_names(tmp_path: Path, text: str, left_out: set[str]) -> None:
    exclusion = exclusion_of(tmp_path, text)
    others = {"c", "c2", "7", "5", "images/c9.png", "", "bad ones"}
    assert {name for name in others | left_out if exclusion.covers(name)} == left_out
    exclusion.require_all_used()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_one_error(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(DataError, match=r"exclude\.txt is saved as UTF-16.*Save it as UTF-8"):
        exclusion_of(tmp_path, "c0\r\n".encode(encoding))


def test_bytes_that_are_no_utf_8_name_their_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no UTF-8 in line 2: caf\\xe9_1\. Save it as UTF-8"):
        exclusion_of(tmp_path, b"\xef\xbb\xbfc0\r\ncaf\xe9_1\r\n")


def test_a_line_that_is_two_names_is_refused(tmp_path: Path) -> None:
    exclusion = exclusion_of(tmp_path, "case #5\n")
    assert exclusion.covers("case #5")
    assert exclusion.covers("case")
    with pytest.raises(DataError, match=r"Write '\./case #5' for the first, or 'case'"):
        exclusion.require_all_used()
    exclusion = exclusion_of(tmp_path, "./case #5\n")
    assert exclusion.covers("case #5")
    assert not exclusion.covers("case")
    exclusion.require_all_used()


def test_a_comment_that_is_a_name_is_refused(tmp_path: Path) -> None:
    exclusion = exclusion_of(tmp_path, "#c5\n")
    assert not exclusion.covers("#c5")
    with pytest.raises(DataError, match=r"is a comment, and a file has that name.*'\./#c5'"):
        exclusion.require_all_used()


def test_names_of_no_file_are_told(tmp_path: Path) -> None:
    exclusion = exclusion_of(tmp_path, "a\nb\nc\nd\ne # why\n")
    assert exclusion.covers("b")
    with pytest.raises(DataError, match=r"lists a, c, d and 1 more, which match no file"):
        exclusion.require_all_used()


def test_a_file_that_is_not_there_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(DataError, match=r"exclude_file: .* cannot be read"):
            Exclusion(str(path))
