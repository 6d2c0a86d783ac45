"""Names that are no text, or the same text in another form."""

import unicodedata

import pytest

from data_modules.names import comparable, escaped, form_alone, one_line


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain", "plain"),
        ("日本 語", "日本 語"),
        (b"caf\xe9_1".decode("utf-8", "surrogateescape"), r"caf\xe9_1"),
        (b"\xff\xfe\x80ok\xc3\xa4".decode("utf-8", "surrogateescape"), r"\xff\xfe\x80okä"),
        ("\ud800", r"\ud800"),
        ("tab\tin", "tab\tin"),
    ],
)
def test_bytes_that_are_no_utf_8_are_escaped(name: str, shown: str) -> None:
    assert escaped(name) == shown
    assert escaped(name).encode().decode() == shown


def test_a_message_has_a_name_in_one_line() -> None:
    assert one_line("a\nb\tc\u2028d\udce9") == r"a\x0ab\x09c\u2028d\xe9"


def test_forms_of_one_name_are_equal_and_told_apart() -> None:
    composed, decomposed = (unicodedata.normalize(form, "läsion_é") for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert comparable(composed) == comparable(decomposed) == composed
    text = form_alone(f"a/{decomposed}.png", f"a/{composed}.jpg")
    assert text is not None
    assert "decomposed (NFD), the other composed (NFC)" in text
    assert form_alone(f"a/{composed}.png", f"a/{composed}.jpg") is None
    assert form_alone("a/x.png", "a/y.png") is None
