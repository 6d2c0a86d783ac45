import sys

import pytest
from lightning.pytorch.callbacks import TQDMProgressBar

from callbacks import RunProgressBar
from lightning_app.standing import users_callbacks


@pytest.mark.parametrize("asked", [None, True, False])
@pytest.mark.parametrize(("terminal", "kind"), [(True, "xterm"), (True, "dumb"), (False, "xterm")])
def test_a_bar_is_for_a_terminal(
    asked: bool | None, terminal: bool, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("TERM", kind)
    given, shown = users_callbacks({"enable_progress_bar": asked, "callbacks": None})
    assert shown == (terminal and kind != "dumb" and asked is not False)
    assert [type(callback) for callback in given] == [RunProgressBar] * shown


def test_a_bar_of_the_users_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    own = TQDMProgressBar()
    assert users_callbacks({"callbacks": [own]}) == ([own], True)
    assert users_callbacks({"callbacks": own, "enable_progress_bar": False}) == ([own], False)
