"""What lies below a folder, by links too; nothing of it is lost without a word."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data_modules.listing.walk import Tree, walk


def tree_of(base: Path) -> Tree:
    return walk(base, {".png", ".dcm"})


def write(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")


def reasons(tree: Tree) -> dict[str, str]:
    return dict(tree.problems)


def test_files_are_sorted_out_by_their_endings(tmp_path: Path) -> None:
    read = [
        "a.png",
        "deep/er/B.PNG",
        "deep/c.Dcm",
        "v1.2.840.10008.png",
        "-dash.png",
        "tab\tin.png",
    ]
    others = ["IM000001", "1.2.840.113619.2.55.3", "d.jfif", "deep/e.IMA", "a.png.bak", ".own.png"]
    silent = [".hidden", "._a.png", "Thumbs.db", "deep/desktop.ini", ".git/f.png"]
    write(*(tmp_path / name for name in read + others + silent))
    tree = tree_of(tmp_path)
    assert tree.files == sorted(read)
    assert tree.others == sorted(others)
    assert tree.problems == tree.repeated == []
    assert walk(tmp_path, {".png"}, deep=False).files == [
        "-dash.png",
        "a.png",
        "tab\tin.png",
        "v1.2.840.10008.png",
    ]


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert tree_of(tmp_path / "none") == Tree()


def test_links_to_folders_and_files_are_followed(tmp_path: Path) -> None:
    far, base = tmp_path / "far", tmp_path / "base"
    write(far / "site_b/p0.png", far / "site_b/in/p1.png", far / "single.png", base / "own.png")
    (base / "site_b").symlink_to(far / "site_b")
    (base / "one.png").symlink_to(far / "single.png")
    (far / "site_b/more").symlink_to("../other", target_is_directory=True)
    write(far / "other/p2.png")
    tree = tree_of(base)
    expected = ["one.png", "own.png", "site_b/in/p1.png", "site_b/more/p2.png", "site_b/p0.png"]
    assert tree.files == expected
    assert tree.problems == tree.repeated == []


@pytest.mark.parametrize("target", [".", "..", "../..", "sub", "sub/deeper"])
def test_loops_end(tmp_path: Path, target: str) -> None:
    base = tmp_path / "root/images"
    write(base / "sub/deeper/a.png", base / "b.png", tmp_path / "root/masks/b.png")
    (base / "sub/deeper/back").symlink_to((base / target).resolve())
    tree = tree_of(base)
    # Masks above the folder of images are none of its images.
    assert tree.files == ["b.png", "sub/deeper/a.png"]
    ((name, reason),) = tree.repeated
    assert name == "sub/deeper/back"
    assert "a folder that holds it" in reason


def test_a_loop_through_another_disk_ends(tmp_path: Path) -> None:
    base, far = tmp_path / "here/images", tmp_path / "there/far"
    write(base / "a.png", far / "b.png", tmp_path / "here/masks/a.png", tmp_path / "there/c.png")
    (base / "far").symlink_to(far)
    (far / "home").symlink_to(tmp_path / "here")
    (far / "up").symlink_to(tmp_path / "there")
    tree = tree_of(base)
    assert tree.files == ["a.png", "far/b.png"]
    assert [name for name, _ in tree.repeated] == ["far/home", "far/up"]


def test_a_folder_that_is_reached_twice_is_listed_under_its_own_place(tmp_path: Path) -> None:
    base, far = tmp_path / "base", tmp_path / "far"
    write(base / "z/a.png", far / "part/b.png", far / "c.png")
    (base / "a").symlink_to("z")  # comes first in the alphabet
    (base / "k").symlink_to(far / "part")
    (base / "l").symlink_to(far / "part")
    (base / "m").symlink_to(far)
    tree = tree_of(base)
    assert tree.files == ["k/b.png", "m/c.png", "z/a.png"]
    told = dict(tree.repeated)
    assert set(told) == {"a", "l", "m/part"}
    assert "is the folder z once more" in told["a"]
    assert "is the folder k once more" in told["m/part"]


def test_what_is_no_file_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "x.png/inside.png")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to_pipe.png").symlink_to("pipe")
    (tmp_path / "device.dcm").symlink_to("/dev/null")
    (tmp_path / "linked.png").symlink_to("x.png")
    monkeypatch.chdir(tmp_path)  # the name of a socket has at most 108 bytes
    with socket.socket(socket.AF_UNIX) as open_socket:
        open_socket.bind("talk.png")
        tree = tree_of(tmp_path)
    assert tree.files == []
    found = reasons(tree)
    assert set(found) == {
        "x.png",
        "linked.png",
        "pipe.png",
        "pipe",
        "to_pipe.png",
        "device.dcm",
        "talk.png",
    }
    assert found["x.png"] == found["linked.png"]
    assert "folder with the name of a file" in found["x.png"]
    for name in ("pipe.png", "pipe", "to_pipe.png"):
        assert "a pipe (fifo)" in found[name]
    assert "a device" in found["device.dcm"]
    assert "a socket" in found["talk.png"]


def test_broken_links_say_what_they_lead_to(tmp_path: Path) -> None:
    for name, target in {
        "gone.png": "/nowhere/annex/abc.png",
        "site_c": "/mnt/not-mounted/site_c",
        "annex.dcm": "../.git/annex/objects/x1/MD5E-s7--a.dcm/MD5E-s7--a.dcm",
        "self.png": "self.png",
        "through.png": f"{tmp_path}/file/below.png",
        "notes.txt": "/nowhere/notes.txt",
        ".hidden.png": "/nowhere/hidden.png",
    }.items():
        (tmp_path / name).symlink_to(target)
    write(tmp_path / "file")
    tree = tree_of(tmp_path)
    found = reasons(tree)
    assert set(found) == {"gone.png", "site_c", "annex.dcm", "self.png", "through.png"}
    assert "broken link: /nowhere/annex/abc.png is not there" in found["gone.png"]
    assert "/mnt/not-mounted/site_c" in found["site_c"]
    assert "content not fetched" in found["annex.dcm"]
    assert "git annex get" in found["annex.dcm"]
    assert "leads back to itself" in found["self.png"]
    assert "Not a directory" in found["through.png"]
    assert tree.others == ["file", "notes.txt"]


def test_folders_that_cannot_be_opened_are_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "open/a.png", tmp_path / "shut/b.png", tmp_path / "open/shut/c.png")
    scandir = os.scandir

    def guarded(path: str) -> Any:
        if path.endswith("shut"):  # as root, tests may open everything
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    tree = tree_of(tmp_path)
    assert tree.files == ["open/a.png"]
    assert reasons(tree) == {
        "shut": "cannot be opened (Permission denied)",
        "open/shut": "cannot be opened (Permission denied)",
    }
    assert reasons(tree_of(tmp_path / "shut")) == {"": "cannot be opened (Permission denied)"}


def test_each_entry_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in range(3):
        write(*(tmp_path / f"f{folder}/{k}.png" for k in range(40)))
    asked = []
    stat, scandir = os.stat, os.scandir

    def counted(path: Any, **options: Any) -> os.stat_result:
        asked.append(path)
        return stat(path, **options)

    def opened(path: Any) -> Iterator[Any]:
        asked.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "stat", counted)
    monkeypatch.setattr(os, "scandir", opened)
    assert len(tree_of(tmp_path).files) == 120
    assert sum(str(path).startswith(str(tmp_path)) for path in asked) == 2 * 4
