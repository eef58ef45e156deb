"""The command line: quick to help, one line for a mistake, documented statuses."""

import gc
import os
import subprocess
import sys

import pytest

import hf_usod
from hf_usod import cli
from hf_usod.commands.common import importing
from hf_usod.errors import CommandError, WrongArgumentsError

HEAVY = {"torch", "torchvision", "transformers", "peft", "timm", "numpy", "scipy", "PIL", "datasets", "accelerate"}
NAMES = ("predict", "label", "train", "evaluate", "convert", "export", "publish", "table", "figure")
SHOW_MODULES = "import atexit, sys; atexit.register(lambda: print('\\nMODULES', *sys.modules)); "
CALL = SHOW_MODULES + "from hf_usod.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["nothing"], 2),
        ([], 2),
        *(([name, "--help"], 0) for name in NAMES),
        (["publish", "model", "--help"], 0),
        (["figure", "compare", "--help"], 0),
        *(([name, "--no_such_option"], 2) for name in NAMES),
        *((["train", "--stage", stage, "--help"], 0) for stage in ("sce", "sd", "transfer")),
        (["predict", "photo.jpg", "--output", "out", "--batch_size", "0"], 2),
        (["label", "photos", "--output", "out", "--refine", "twice"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_help_and_wrong_arguments_load_nothing_heavy(words, status):
    ran = subprocess.run([sys.executable, "-c", CALL, *words], capture_output=True, text=True)
    assert ran.returncode == status
    modules = {name.partition(".")[0] for name in ran.stdout.rpartition("MODULES")[2].split()}
    assert "argparse" in modules and not HEAVY & modules
    assert "usage: " in (ran.stderr if status else ran.stdout) or words == ["--version"]


def test_help_comes_at_once():
    """In time of the processor: the machine may have other things to do."""
    before = sum(os.times()[2:4])
    for name in NAMES:
        subprocess.run([sys.executable, "-m", "hf_usod", name, "--help"], capture_output=True, check=True)
    assert sum(os.times()[2:4]) - before < 0.5 * len(NAMES)


def test_garbage_is_looked_for_after_imports_as_before():
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ModuleNotFoundError), importing():
        raise ModuleNotFoundError
    assert gc.isenabled()


def test_version_and_statuses_are_told(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"hf-usod {hf_usod.__version__}\n"
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert "0 done, 1 something failed (it says what), 2 wrong arguments, 130 stopped" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--batch-size=3", "--batch_size=3"])
def test_dashes_are_as_good_as_underscores(option):
    assert cli.parser().parse_args(["predict", "a", "--output", "out", option]).batch_size == 3
    assert cli.parser().parse_args(["publish", "model", "a", "--repo", "a/b", "--dry_run"]).dry_run
    assert cli.parser().parse_args(["publish", "model", "a", "--repo", "a/b", "--dry-run"]).dry_run


def test_values_keep_their_dashes():
    words = ["publish", "model", "my-model_a", "--repo", "a-b/c_d", "--message=one--two_three"]
    args = cli.parser().parse_args(words)
    assert (args.source, args.repo, args.message) == ("my-model_a", "a-b/c_d", "one--two_three")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (CommandError("--a: no such folder."), 1, "hf-usod: --a: no such folder.\n"),
        (WrongArgumentsError("--a: not with --b."), 2, "hf-usod: --a: not with --b.\n"),
        (PermissionError(13, "Permission denied", "x"), 1, "hf-usod: [Errno 13] Permission denied: 'x'\n"),
        (ModuleNotFoundError("pip install this"), 1, "hf-usod: pip install this\n"),
        (KeyboardInterrupt("a checkpoint is in run"), 130, "hf-usod: a checkpoint is in run\n"),
        (KeyboardInterrupt(), 130, "hf-usod: stopped. What was finished is kept, and nothing is half written.\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_mistake_ends_in_one_line(monkeypatch, capsys, error, status, line):
    def fail(args):
        raise error

    monkeypatch.setattr("hf_usod.commands.convert.run", fail)
    assert cli.main(["convert", "file", "--output", "out"]) == status
    assert capsys.readouterr().err == line


def test_a_program_that_returns_nothing_is_done_and_its_mistakes_begin_with_its_name(capsys):
    def fail():
        raise CommandError("--a: no such folder.")

    assert cli.exit_status("tool.py", lambda: None) == 0 and cli.exit_status("tool.py", fail) == 1
    assert capsys.readouterr().err == "tool.py: --a: no such folder.\n"


def test_an_error_of_the_program_is_not_hidden(monkeypatch):
    monkeypatch.setattr("hf_usod.commands.convert.run", lambda args: {}["missing"])
    with pytest.raises(KeyError):
        cli.main(["convert", "file", "--output", "out"])


def test_a_reader_that_leaves_is_no_error():
    code = "import sys\nfrom hf_usod import cli\n" + (
        "cli.convert.run = lambda args: [print('line') for _ in range(100000)] and 0\n"
        "sys.exit(cli.main(['convert', 'file', '--output', 'out']))"
    )
    piped = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert piped.stdout.readline() == b"line\n"
    piped.stdout.close()
    assert piped.stderr.read() == b"" and piped.wait() == 1
