"""What the wheel carries, and what is shown of it."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_in_the_wheel() -> None:
    top = ("callbacks", "data_modules", "lightning_app", "meddiff")
    found = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for name in top
        for file in (ROOT / name).rglob("*.py")
    }
    configs = {
        ".".join(("lightning_app", *file.parent.relative_to(ROOT).parts))
        for file in (ROOT / "configs").rglob("*")
        if file.is_file()
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found | configs


def test_the_description_leads_nowhere_that_the_wheel_does_not_have() -> None:
    text = (ROOT / PROJECT["project"]["readme"]).read_text()
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert all(target.startswith("https://") for target in targets)


def test_the_malicious_releases_of_lightning_are_excluded() -> None:
    from packaging.requirements import Requirement

    asked = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
    (lightning,) = (one for one in asked if one.name == "lightning")
    assert not any(lightning.specifier.contains(bad) for bad in ("2.6.2", "2.6.3"))
    assert lightning.specifier.contains("2.6.6")
