"""Names of files as text: in any Unicode form, and with bytes that are no UTF-8."""

import re
import unicodedata
from pathlib import PurePath

_STRAY_BYTE = re.compile("[\udc80-\udcff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


def escaped(text: str) -> str:
    r"""Text that any file and terminal takes: bytes of a name that are no UTF-8 become `\xe9`."""
    if text.isascii():
        return text
    text = _STRAY_BYTE.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", text)
    return text.encode("utf-8", "backslashreplace").decode()


def one_line(name: str) -> str:
    r"""A name for a message: `escaped`, and a line break in it becomes `\x0a`."""
    return _CONTROL.sub(lambda found: _code_of(found[0]), escaped(name))


def _code_of(character: str) -> str:
    r"""A character as `\x0a` or `\u2028`."""
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def comparable(name: str) -> str:
    """What is equal for names that look equal: composed (NFC), and `escaped`.

    Macs decompose names (`a` and a dot sign), other systems keep them as they were typed.
    """
    return name if name.isascii() else escaped(unicodedata.normalize("NFC", name))


def form_alone(path: str, other: str) -> str | None:
    """What tells two names apart that look equal; None where they differ in more than the form.

    Args:
        path: A path; its last part counts, without suffix.
        other: Another one.
    """
    mine, theirs = PurePath(path).stem, PurePath(other).stem
    if mine == theirs or comparable(mine) != comparable(theirs):
        return None
    return (
        f"differs from {other} in its Unicode form alone: this name is {_form(mine)}, the other "
        f"{_form(theirs)}"
    )


def _form(name: str) -> str:
    if unicodedata.is_normalized("NFC", name):
        return "composed (NFC)"
    return "decomposed (NFD)" if unicodedata.is_normalized("NFD", name) else "of a mixed form"
