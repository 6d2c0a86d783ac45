import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from data_modules.errors import DataError
from data_modules.listing.splits import (
    assert_disjoint,
    position,
    require_training,
    split_groups,
    tie_groups,
)

names = st.lists(st.text("abcdef0123", min_size=1, max_size=6), unique=True, max_size=40)
fractions = st.floats(0.05, 0.45)


@given(old=names, new=names, val=fractions, test=fractions, seed=st.integers(0, 9))
def test_added_data_moves_no_group(
    old: list[str], new: list[str], val: float, test: float, seed: int
) -> None:
    before = dict(zip(old, _split(old, val, test, seed), strict=True))
    # A split that was empty took one group; only that one may go back.
    free = {g for g in old if test <= position(g, seed) < 1 - val}
    both = list(dict.fromkeys([*old, *new]))
    after = dict(zip(both, _split(both, val, test, seed), strict=True))
    for group in old:
        assert after[group] == before[group] or group in free


def _split(groups: list[str], val: float, test: float, seed: int) -> list[str]:
    return list(split_groups(groups, val_fraction=val, test_fraction=test, seed=seed))


@given(groups=names.filter(lambda g: len(g) > 2), val=fractions, test=fractions)
def test_no_split_is_empty_as_long_as_there_are_training_groups(
    groups: list[str], val: float, test: float
) -> None:
    assume(sum(test <= position(g, 0) < 1 - val for g in groups) > 2)
    assert set(_split(groups, val, test, 0)) == {"train", "val", "test"}


def test_fractions_hold_on_average_and_seeds_differ() -> None:
    groups = [f"g{k}" for k in range(4000)]
    splits = _split(groups, 0.05, 0.2, 0)
    assert splits.count("val") / 4000 == pytest.approx(0.05, abs=0.015)
    assert splits.count("test") / 4000 == pytest.approx(0.2, abs=0.03)
    assert splits != _split(groups, 0.05, 0.2, 1)


def test_fraction_zero_gives_nothing_and_one_fraction_leaves_the_other_alone() -> None:
    groups = [f"g{k}" for k in range(300)]
    assert set(_split(groups, 0.0, 0.0, 0)) == {"train"}
    alone = {g for g, s in zip(groups, _split(groups, 0.1, 0.0, 0), strict=True) if s == "val"}
    with_test = {g for g, s in zip(groups, _split(groups, 0.1, 0.3, 0), strict=True) if s == "val"}
    assert alone == with_test


def test_a_split_is_the_same_on_every_machine() -> None:
    # Written down once; a change here would move images of published splits.
    assert position("ISIC_0000000", 0) == pytest.approx(0.5517238, abs=1e-6)
    assert position("ISIC_0000000", 1) == pytest.approx(0.6699766, abs=1e-6)


def test_identical_files_tie_groups_over_any_distance() -> None:
    groups = ["d", "c", "b", "a", "e"]
    digests = ["1", "1", "2", "2", "3"]
    assert tie_groups(groups, digests) == ["c", "c", "a", "a", "e"]
    assert tie_groups([*groups, "c"], [*digests, "2"]) == ["a", "a", "a", "a", "e", "a"]


def test_fractions_that_leave_nothing_for_training() -> None:
    with pytest.raises(DataError, match=r"val_fraction 0.5 and test_fraction 0.5 .* below 1"):
        require_training(0.5, 0.5)
    require_training(0.5, 1.0)  # all is for test
    require_training(0.0, 0.0)


def test_overlap_names_both_files() -> None:
    assert_disjoint({"train": {"a": "1"}, "val": {"b": "2"}}, "identical files")
    with pytest.raises(DataError, match="1 identical files in two splits") as error:
        assert_disjoint({"train": {"a.png": "1"}, "test": {"b.png": "1"}}, "identical files")
    assert "a.png and b.png" in str(error.value)
    assert "exclude_file" in str(error.value)
