"""What no config, path or option can be: each with the words of its error."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_app import check, training
from lightning_app.cli import main
from lightning_app.config_files import check_values, read_given
from lightning_app.errors import UsageError, describe
from lightning_app.preparation import VARIABLE, Preparation
from lightning_app.yaml_text import MAX_DEPTH, MAX_NODES, load
from tests.lightning_app.conftest import Command
from tests.lightning_app.toys import ARGS, HERE

Captured = pytest.CaptureFixture[str]

SECTIONS = ("trainer", "ema", "wandb", "early_stopping", "samples", "tensorboard", "best", "guard")
HELD = {
    "7": "holds the number 7; expected keys",
    "1.5": "holds the number 1.5; expected keys",
    ".nan": "holds the number nan; expected keys",
    "true": "holds true; expected keys",
    "[]": "holds a list; expected keys",
    "[1]": "holds a list; expected keys",
    "x": "holds the word 'x'; expected keys",
    "2026-13-45": "holds the word '2026-13-45'; expected keys",
    "null": "holds",
}
CLASSES = [
    ("model: 7", "model (in c.yaml): holds the number 7; expected a class, e.g. model: Hybrid"),
    ("model: []", "model (in c.yaml): holds a list; expected a class"),
    ("model: true", "model (in c.yaml): holds true"),
    ("model: a b", "model (in c.yaml): holds the word 'a b'"),
    ("data: 1.5", "data (in c.yaml): holds the number 1.5; expected a class, e.g. data: ISIC"),
    ("data: nowhere/x.yaml", "data (in c.yaml): holds the word 'nowhere/x.yaml'"),
    ("model: {class_path: 3}", "model.class_path (in c.yaml): holds the number 3; expected the n"),
    ("data: {class_path: [a]}", "data.class_path (in c.yaml): holds a list"),
    ("model: {init_args: 3}", "model.init_args (in c.yaml): holds the number 3; expected keys"),
    ("model: {init_args: }", "model.init_args (in c.yaml): holds nothing"),
    ("data: {init_args: [1]}", "data.init_args (in c.yaml): holds a list"),
    ("data: {init_args: x}", "data.init_args (in c.yaml): holds the word 'x'"),
]
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(9 * [f'*{old}'])}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML = [
    ("trainer: &t {callbacks: [*t]}", "c.yaml: *t stands inside of &t: it has no end"),
    ("&all {trainer: *all}", "*all stands inside of &all"),
    (LAUGHS, f"c.yaml: holds more than {MAX_NODES} values"),
    (f"a: {'[' * 3000}{']' * 3000}", f"c.yaml: is nested more than {MAX_DEPTH} deep"),
    (f"a: {'{b: ' * 3000}", f"c.yaml: is nested more than {MAX_DEPTH} deep"),
    (f"# {'x' * 2**20}", "c.yaml: is larger than 1024 KiB"),
    ("ema:\n  x: !!timestamp 2026-13-45\n", "is no value that YAML can make"),
    ("ema:\n  x: !!int x\n", "is no value that YAML can make"),
    ("ema:\n  x: !!bool x\n", "is no value that YAML can make"),
    (f"seed_everything: {'9' * 5000}", "4300 digits"),
    ("x: !!python/object:os.system {}", "c.yaml:1: is not YAML: the tag !!python/object:os.sys"),
    ("x: !!python/object/apply:os.system [ls]", "nothing in a config is run"),
    ("run_root: !home x", "c.yaml:1: is not YAML: the tag !home is not known"),
    ("ema:\n\tdecay: 0.9\n", "c.yaml:2: is not YAML: a tab stands where spaces are expected"),
    ("run_root: a\n---\nrun_root: b\n", "is not YAML: it holds several documents"),
    ("run_root: *nowhere", "c.yaml:1: is not YAML"),
    ("run_root: [", "is not YAML"),
    ("run_root: 'x", "is not YAML"),
    ("run_root: a\nrun_root: b\n", "c.yaml:2: run_root is given twice, first in line 1"),
    ("7", "c.yaml: holds the number 7, not keys"),
    ("true", "c.yaml: holds true, not keys"),
    ("word", "c.yaml: holds the word 'word', not keys"),
    ("1: x", "c.yaml:1: the key 1 is read as int; keys are words"),
    ("null: x", "the key null is read as null"),
    ("on: x", "the key on is read as bool"),
    ("~: x", "the key ~ is read as null"),
    ("ema: {1.5: x}", "the key ema.1.5 is read as float"),
    ("model: {init_args: {1: x}}", "the key model.init_args.1 is read as int"),
    ("model: {init_args: {of: {no: x}}}", "the key model.init_args.of.no is read as bool"),
    ("? [a]\n: x", "a seq stands where a key is expected"),
    ("? {a: b}\n: x", "a map stands where a key is expected"),
    ('run_root: "a\\0b"', "run_root (in c.yaml): holds a NUL character"),
    ('wandb: {notes: "\\0"}', "wandb.notes (in c.yaml): holds a NUL character"),
]
BYTES = [
    (b"\xff\xfet\x00", "c.yaml: is UTF-16; save it as text in UTF-8"),
    (b"run_root: x\x00", "c.yaml: holds a NUL byte"),
    (b"a: b\nrun_root: caf\xe9\n", "c.yaml:2: is no UTF-8"),
    (b"\x89PNG\r\n\x1a\n\x00\x00", "holds a NUL byte, so it is no text"),
]
OPTIONS = [
    (["--trainer", "7"], "--trainer: holds the number 7; expected keys, e.g. --trainer."),
    (["--trainer=true"], "--trainer: holds true"),
    (["--wandb", "true"], "--wandb: holds true"),
    (["--wandb", "null"], "--wandb: holds nothing"),
    (["--ema", "[]"], "--ema: holds a list"),
    (["--early_stopping", "nowhere.yaml"], "--early_stopping: holds the word 'nowhere.yaml'"),
    (["--samples="], "--samples: holds nothing"),
    (["--model", "7"], "--model: holds the number 7; expected a class, e.g. --model Hybrid"),
    (["--model", "true"], "--model: holds true"),
    (["--data", "[]"], "--data: holds a list"),
    (["--model="], "--model: holds nothing; expected a class"),
    (["--model", "{class_path: 3}"], "--model.class_path: holds the number 3"),
    (["--data", "{init_args: 3}"], "--data.init_args: holds the number 3; expected keys"),
    (["--trainer", "{1: 2}"], "--trainer: holds the key 1; keys are words"),
    (["--data", "a b"], "--data: holds the word 'a b'"),
    (["--model.init_args", "7"], "--model.init_args: holds the number 7; expected keys, e.g."),
    (["--data.init_args", "[1]"], "--data.init_args: holds a list"),
    (["--trainer.callbacks", "&a [*a]"], "--trainer.callbacks: *a stands inside of &a"),
    (["--trainer.callbacks", "[" * 3000], "--trainer.callbacks: is nested more than"),
    (["--trainer.callbacks", "!!timestamp x"], "is no value that YAML can make"),
    (["--trainer.max_steps", "9" * 5000], "4300 digits"),
    (["--config"], "--config: give a file"),
    (["--config", ""], "--config : is empty; give a path"),
    (["--config", "-"], "--config -: no such file"),
    (["--config", "folder"], "--config folder: is a folder; give a file"),
    (["--config", "pipe"], "--config pipe: is no regular file"),
    (["--config", "/dev/zero"], "--config /dev/zero: is no regular file"),
]
PATHS = {
    "~nobody9/x": "there is no user 'nobody9' here; write ./~nobody9",
    "~nobody9": "there is no user 'nobody9' here",
    "a" * 300: "(300 letters): a name of 300 bytes",
    "ab/" * 2000: "a path of 6000 bytes",
    "": "is empty; give a path, or leave it out",
    "file/x": "file is a file, and nothing can lie in it",
    "broken": "broken is a broken link: /nowhere/x is not there",
    "broken/x": "broken is a broken link",
    "loop": "is a link that leads back to itself",
    "loop/x": "is a link that leads back to itself",
}
PATH_KEYS = (
    *("run_root", "ckpt_path", "resume", "data.init_args.root", "data.init_args.exclude_file"),
    *("data.init_args.cache", "model.init_args.init_from", "model.init_args.judge_from"),
)


@pytest.fixture(scope="module")
def refusal() -> Callable[[list[str]], str]:
    """What is said to a command line before it is parsed; fails where nothing is said."""
    found: list[set[str]] = []

    class Stop(Exception):
        pass

    def keep(given: object, keys: set[str]) -> None:
        found.append(keys)
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "check_values", keep)
        patch.setenv(VARIABLE, "1")
        with pytest.raises(Stop):
            main(["fit", *ARGS])

    def refused(args: list[str]) -> str:
        with pytest.raises(UsageError) as error:
            check_values(read_given(["fit", *args]), found[0])
        return str(describe(error.value))

    return refused


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with things in it that are no plain files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken").symlink_to("/nowhere/x")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


Refusal = Callable[[list[str]], str]


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_that_holds_no_keys(section: str, refusal: Refusal, places: Path) -> None:
    for held, words in HELD.items():
        (places / "c.yaml").write_text(f"{section}: {held}\n")
        assert f"{section} (in c.yaml): {words}" in refusal(["--config", "c.yaml"])


@pytest.mark.parametrize(("text", "words"), [*CLASSES, *YAML])
def test_a_file_that_cannot_be_meant(text: str, words: str, refusal: Refusal, places: Path) -> None:
    (places / "c.yaml").write_text(text)
    assert words in refusal(["--config", "c.yaml"])


@pytest.mark.parametrize(("content", "words"), BYTES)
def test_a_file_that_is_no_text(content: bytes, words: str, refusal: Refusal, places: Path) -> None:
    (places / "c.yaml").write_bytes(content)
    assert words in refusal(["--config", "c.yaml"])


@pytest.mark.parametrize(("args", "words"), OPTIONS)
def test_an_option_that_cannot_be_meant(
    args: list[str], words: str, refusal: Refusal, places: Path
) -> None:
    told = refusal(args)
    assert words in told
    assert len(told) < 1600


@pytest.mark.parametrize("key", PATH_KEYS)
def test_a_path_that_cannot_be(key: str, refusal: Refusal, places: Path) -> None:
    for path, words in PATHS.items():
        assert words in refusal([f"--{key}={path}"])
    if key.endswith("root"):
        assert "is a file; give a folder" in refusal([f"--{key}=file"])
    section, _, rest = key.partition(".")
    name = rest.partition(".")[2] or key
    content = f'{name}: "a\\0b"' if not rest else f'{section}: {{init_args: {{{name}: "a\\0b"}}}}'
    (places / "c.yaml").write_text(content)
    assert "holds a NUL character" in refusal(["--config", "c.yaml"])


MEANT = [
    *("", "# only a comment\n", "{}", "---\n", "---\n...\n", "\ufeff", "ckpt_path:\n"),
    "\ufeffema:\r\n  decay: 0.5\r\n",
    "ema: &e {decay: 0.5}\nlast: {<<: {every_n_steps: 7}}\n",
    "trainer: {max_steps: 3, max_epochs: null}\n",
    "samples: other.yaml\n",
    f"data: {HERE}.ToyDataModule\n",
]


def test_what_can_be_meant_goes_on_working(
    toy: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []

    def stop(cli: training.MedDiffCLI) -> None:
        parsed.append(cli.config["fit"])
        raise SystemExit(77)

    monkeypatch.setattr(training.MedDiffCLI, "before_instantiate_classes", stop)
    (tmp_path / "other.yaml").write_text("num: 3\n")
    files = [tmp_path / f"{number}.yaml" for number in range(len(MEANT))]
    for file, text in zip(files, MEANT, strict=True):
        file.write_text(text)
    given = [word for file in files for word in ("--config", str(file))]
    assert toy("fit", *given) == 77
    assert toy("fit", *(f"--config={file}" for file in files)) == 77
    for config in parsed:
        assert (config.ema.decay, config.samples.num, config.trainer.max_steps) == (0.5, 3, 3)
        assert config.last.every_n_steps == 7


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--trainer", "deep.yaml"], "is nested more than"),
        (["--trainer.plugins", "nope"], "--trainer.plugins: no class 'nope'; give its full path"),
        (["--trainer.max_steps", "[1]"], "trainer.max_steps: expected int"),
        (["--trainer.max_epochs", ".inf"], "trainer.max_epochs: expected int"),
        (["--ema.decay", "{a: b}"], "ema.decay: expected number >=0 and <1, or null"),
        (["--model.init_args", "{a: {b: c}}"], "a.b (in the command line): no such key"),
        (["--model.init_args.width", "-1"], "model: RuntimeError: Trying to create tensor with"),
        (["--model.init_args.width", "1" + "0" * 30], "given for it: model.init_args.width: 1000"),
    ],
)
def test_what_the_parser_and_the_classes_refuse_is_short(
    args: list[str], words: str, toy: Command, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "deep.yaml").write_text(f"callbacks: {'[' * 50}{']' * 50}\n")
    assert toy("fit", *args) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert "Traceback" not in captured.err
    assert len((captured.out + captured.err).splitlines()) <= 25
    assert not list(tmp_path.rglob("run.json"))


def test_a_bug_of_the_preparation_can_be_found(
    toy: Command, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    assert toy("fit", "--model.init_args.width", "-1") == 2
    assert f"{VARIABLE}=1 shows where" in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setenv(VARIABLE, "1")
    with pytest.raises(Exception, match="negative dimension"):
        toy("fit", "--model.init_args.width", "-1")


@pytest.mark.parametrize(
    "kind", [TypeError, KeyError, AttributeError, RecursionError, OverflowError, RuntimeError]
)
def test_every_kind_of_error_is_short_until_the_work_begins(kind: type[Exception]) -> None:
    def work(*, begun: bool) -> None:
        with Preparation("fit") as preparation:
            if begun:
                preparation.over()
            raise kind("text")

    with pytest.raises(UsageError, match=f"fit: {kind.__name__}: .*text.* .in .*test_odd_input.py"):
        work(begun=False)
    with pytest.raises(kind):
        work(begun=True)


SETS = [
    ("year", "expected KEY=VALUE"),
    ("=", "expected KEY=VALUE"),
    ("a b=3", "expected KEY=VALUE"),
    ("year=", "--set year: is empty"),
    ("year=x", "--set year: expected int. Got value: x"),
    ("year=2099", "--set year: expected one of 2016, 2017, 2018"),
    ("year=2026-13-45", "--set year: expected int"),
    ("year=!!timestamp 2026-13-45", "--set year: '!!timestamp 2026-13-45' is no value"),
    ("year=a: b: c", "--set year:1: is not YAML"),
    ("yer=2016", "--set yer: no such key; did you mean 'year'?"),
    ("self=3", "--set self: no such key"),
    ("note=3", "--set note: no such key"),
    ("root=x", "--set root: is given by --root"),
    ("image_size=[64]", "--set image_size: expected whole number >0"),
    ("batch_size=.inf", "--set batch_size: expected whole number >0"),
    ("exclude_file=7", "--set exclude_file: expected str"),
    ("exclude_file=-", "--set exclude_file: expected str"),
    ("exclude_file=~nobody9/x", "--set exclude_file ~nobody9/x: there is no user"),
    ("augment=[7]", "--set augment: expected str"),
    ("augment=&a [*a]", "--set augment: *a stands inside of &a"),
    ("augment=!!python/object:os.system x", "nothing in a config is run"),
    ("cache={}", "--set cache: expected one of"),
]


@pytest.mark.parametrize(("given", "words"), SETS)
def test_what_check_takes_for_set(given: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        check.run(["isic", "--root", "nowhere", "--set", given])
    assert words in str(error.value)


TOOLS = [
    ("phantom isic --root new --num 0", "--num: 0 given, expected"),
    ("phantom isic --root new --num 1e3", "--num: invalid int value: '1e3'"),
    ("phantom isic --root new --seed -1", "--seed: -1 given, expected"),
    ("phantom isic --root file", "file: is a file; give a folder"),
    ("phantom isic --root file/x", "file is a file, and nothing can lie in it"),
    ("phantom isic --root broken", "is a broken link"),
    ("phantom isic --root ~nobody9/x", "there is no user 'nobody9'"),
    ("check isic --root loop", "leads back to itself"),
    (f"check isic --root {'a' * 300}", "a name of 300 bytes"),
    ("runs file", "file: is a file; give a folder"),
    ("runs nowhere", "nowhere: no such folder"),
    ("runs ~nobody9", "there is no user 'nobody9'"),
    ("doctor x", "unrecognized arguments: x"),
    ("table pipe --scale cpu_demo", "pipe: is no regular file"),
    ("table file --scale cpu_demo", "file: holds the word 'x', not keys"),
    ("table configs/table/hybrid.yaml --scale cpu_demo --out file", "file: is a file; give a f"),
    ("table configs/table/hybrid.yaml --scale cpu_demo --data file/x", "nothing can lie in it"),
    ("table configs/table/hybrid.yaml --scale cpu_demo --seeds 0", "a number of at least 1"),
    ("table configs/table/hybrid.yaml --scale cpu_demo --set hybrid.x=!!int x", "YAML can make"),
]


@pytest.mark.parametrize(("line", "words"), TOOLS)
def test_what_the_tools_refuse(line: str, words: str, places: Path, capsys: Captured) -> None:
    first, _, value = line.partition(" --set ")
    assert main([*first.split(), *(["--set", value] if value else [])]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert len(captured.err.splitlines()) <= 16
    assert not (places / "new").exists()


def test_a_file_of_an_exclusion_that_never_ends(places: Path, capsys: Captured) -> None:
    from data_modules import DataError
    from data_modules.listing.exclusion import Exclusion

    for file in ("pipe", "/dev/zero", "~nobody9/x", "a\0b"):
        with pytest.raises(DataError, match=r"data\.init_args\.exclude_file: "):
            Exclusion(file)


def test_values_are_read_as_the_parser_reads_them() -> None:
    read = load("{a: 1e-4, b: 2026-01-01, c: .inf, d: 1_0, e: yes, f: '1'}", "x")
    assert read == {"a": 1e-4, "b": "2026-01-01", "c": float("inf"), "d": 10, "e": True, "f": "1"}


def test_numbers_are_keys_where_an_argument_takes_them() -> None:
    text = """\
trainer:
  callbacks:
  - class_path: GradientAccumulationScheduler
    init_args:
      scheduling: {0: 2, 4: 8}
"""
    (callback,) = load(text, "c.yaml")["trainer"]["callbacks"]
    assert callback["init_args"]["scheduling"] == {0: 2, 4: 8}
