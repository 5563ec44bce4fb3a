"""The entry point: verbs, exit codes, help, errors and warnings."""

import importlib.util
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_embed import _version
from edge_embed.cli import commands, exit_codes, main, program
from edge_embed.cli.commands import Command, available_commands, find_command
from edge_embed.cli.parser import build_parser, parse
from edge_embed.errors import (
    EdgeEmbedError,
    InputError,
    MissingExtraError,
    ModelFileError,
    ParityError,
    SelfCheckError,
    TruncationWarning,
)

DOCS = Path(__file__).parents[3] / "docs"
HEAVY = (
    "numpy",
    "torch",
    "transformers",
    "litert_torch",
    "ai_edge_quantizer",
    "ai_edge_litert",
    "tokenizers",
    "sentencepiece",
    "tqdm",
    "pyarrow",
    "psutil",
    "matplotlib",
)


@pytest.fixture
def command(monkeypatch):
    """Installs a command whose work is the function given."""

    def install(work, extra=None):
        module = SimpleNamespace(configure=lambda parser: parser.add_argument("--json"), run=work)
        monkeypatch.setitem(sys.modules, "edge_embed_fake_command", module)
        fake = Command("fake", "edge_embed_fake_command", "fake", extra)
        monkeypatch.setattr(program, "find_command", {"fake": fake}.get)

    return install


def raising(error):
    def work(args):
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("bad text", got="x", fix="y"), 2),
        (ModelFileError("not a model"), 2),
        (MissingExtraError("torch", extra="convert", purpose="it"), 2),
        (ParityError("too far"), 1),
        (SelfCheckError("wrong"), 1),
    ],
)
def test_errors_of_ours_are_messages_with_an_exit_code(command, capsys, error, code):
    command(raising(error))
    assert main(["fake"]) == code
    out, err = capsys.readouterr()
    assert not out
    assert err == f"edge_embed: error: {error}\n"


def test_interrupt(command, capsys):
    command(raising(KeyboardInterrupt()))
    assert main(["fake"]) == 130
    assert capsys.readouterr().err == "edge_embed: interrupted\n"


def test_a_bug_keeps_its_traceback(command):
    command(raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main(["fake"])


def test_missing_package_names_the_extra(command, capsys):
    command(raising(ModuleNotFoundError("No module", name="torch.nn")), extra="convert")
    assert main(["fake"]) == 2
    err = capsys.readouterr().err
    assert "'torch'" in err
    assert "pip install 'edge-embed[convert]'" in err


@pytest.mark.parametrize("name", ["edge_embed.gone", "edge_embed_convert.gone"])
def test_a_missing_module_of_ours_is_a_bug(command, name):
    command(raising(ModuleNotFoundError("No module", name=name)), extra="convert")
    with pytest.raises(ModuleNotFoundError):
        main(["fake"])


def test_warnings_of_ours_are_one_line_each_time(command, capsys):
    def work(args):
        for _ in range(2):
            warnings.warn("2 texts\n  were cut", TruncationWarning, stacklevel=1)
        return 0

    command(work)
    assert main(["fake"]) == 0
    assert capsys.readouterr().err == "edge_embed: warning: 2 texts were cut\n" * 2


def test_unknown_command_lists_the_commands(capsys):
    assert main(["embd"]) == 2
    err = capsys.readouterr().err
    assert "'embd'" in err
    assert "did you mean embed?" in err
    assert all(verb in err for verb in available_commands())


@pytest.mark.parametrize(
    "words", [["embed", "--input"], ["embed", "m", "--no-such"], ["embed", "m", "t", "--threads", "0"]]
)
def test_bad_usage(capsys, words):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("edge_embed: error: ")
    assert "edge_embed embed --help" in err


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"edge_embed {_version.__version__}\n"


def test_without_a_command_the_help_is_shown(capsys):
    assert main([]) == 2
    bare = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == bare


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["m", "--query", "a", "--threads", "2", "b"], ["a", "b"]),
        (["--query", "m", "--", "-a", "--", "--threads"], ["-a", "--", "--threads"]),
        (["m", "x", "--query", "--", "-a"], ["x", "-a"]),
        (["--query", "--", "m", "-a"], ["-a"]),
        (["m", "--query", "--"], []),
    ],
)
def test_words_may_follow_options(words, texts):
    args = parse(build_parser(find_command("embed")), words)
    assert (args.model, args.texts, args.query) == ("m", texts, True)


@pytest.mark.parametrize("verb", [None, *available_commands()])
def test_help_loads_nothing_heavy(verb):
    words = [verb, "--help"] if verb else ["--help"]
    code = (
        "import json, sys\nfrom edge_embed.cli import main\n"
        f"code = main({words!r})\nprint(json.dumps([code, sorted(sys.modules)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    status, modules = json.loads(done.stdout.splitlines()[-1])
    assert status == 0
    assert "usage: edge_embed" in done.stdout
    packages = {name.partition(".")[0] for name in modules}
    assert not packages & set(HEAVY)
    # The help of a sibling's command loads that sibling; nothing else loads one.
    own = {find_command(verb).module.partition(".")[0]} if verb else set()
    assert {name for name in packages if name.startswith("edge_embed_")} == own - {"edge_embed"}


def test_a_package_adds_a_command_by_an_entry_point(tmp_path, monkeypatch, capsys):
    (tmp_path / "guest").mkdir()
    (tmp_path / "guest" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "guest" / "work.py").write_text('SUMMARY = "do " "work"\nEXTRA = "convert"\nOTHER = 1\n')
    info = tmp_path / "guest-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: guest\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        f"[{commands.GROUP}]\nwork = guest.work\ngone = guest.gone\nidle = guest\nembed = guest.work\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = available_commands()
    assert found["work"] == find_command("work") == Command("work", "guest.work", "do work", "convert")
    assert not {"gone", "idle"} & found.keys()
    assert find_command("gone") is None
    # A command of the runtime cannot be replaced.
    assert found["embed"].module == find_command("embed").module == "edge_embed.cli.embed"
    assert main(["--help"]) == 0
    assert "  work        do work\n" in capsys.readouterr().out


def test_own_commands_need_no_entry_points(monkeypatch):
    monkeypatch.setattr(commands.importlib.metadata, "entry_points", lambda **_: [])
    assert {"embed", "inspect", "similarity", "verify"} <= available_commands().keys()
    assert find_command("embed").summary == "turn texts into vectors"
    with pytest.raises(EdgeEmbedError, match="no installed package offers 'source'"):
        commands.load_entry_point("edge_embed.verify", "source")


def test_module_and_closed_pipe():
    # The reader leaves before a word is written, so the first flush meets a closed pipe.
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "edge_embed", "--help"], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert done.returncode == exit_codes.PIPE_CLOSED
    assert done.stderr == b""


def test_every_command_has_help_and_a_section():
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    for verb, command in available_commands().items():
        parser = build_parser(command)
        assert command.summary
        assert all(action.help for action in parser._actions), verb
        assert f"\n## edge_embed {verb}\n" in page


def test_the_page_is_current():
    spec = importlib.util.spec_from_file_location("generate_cli", DOCS / "generate_cli.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.PAGE.read_text(encoding="utf-8")
    if sys.version_info[:2] != module.PYTHON:
        pytest.skip("argparse of another Python lays help out differently")
    assert page == module.render(), "run python docs/generate_cli.py"
