"""Walks of folders: what is found, what is ignored as git ignores it, what loops or disappears."""

import os
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_embed.errors import InputError
from edge_embed.retrieval.readers import Found, Skipped, find_files
from edge_embed.retrieval.readers.ignore import IgnoreRules, ignored


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text", encoding="utf-8")


def found(*paths, **options):
    return [f for f in find_files(paths, **options) if isinstance(f, Found)]


def names(root, *paths, **options):
    return [f.path.relative_to(root).as_posix() for f in found(*(paths or (root,)), **options)]


def test_files_come_once_in_the_order_of_their_names_and_hidden_ones_do_not(tmp_path):
    make(tmp_path, "b.md", "a/z.md", "a/y.md", ".hidden/x.md", "a/.hidden.md", "c/d/e.md")
    assert names(tmp_path) == ["b.md", "a/y.md", "a/z.md", "c/d/e.md"]
    assert names(tmp_path, tmp_path / "a", tmp_path, tmp_path / "a" / "z.md")[:2] == ["a/y.md", "a/z.md"]
    assert len(names(tmp_path, tmp_path / "a", tmp_path, tmp_path / "a" / "z.md")) == 4
    assert found(tmp_path / "a" / ".hidden.md")[0].named


def test_gitignore_and_exclude_are_honoured(tmp_path):
    make(
        tmp_path,
        "keep.md",
        "drop.log",
        "build/x.md",
        "sub/build.md",
        "sub/own.md",
        "sub/deep/t.tmp",
        "sub/important.log",
    )
    (tmp_path / ".gitignore").write_text("*.log\nbuild/\n!important.log\n")
    (tmp_path / "sub" / ".gitignore").write_text("/own.md\n**/*.tmp\n")
    assert names(tmp_path) == ["keep.md", "sub/build.md", "sub/important.log"]
    assert names(tmp_path, exclude=["sub/", "nothing"]) == ["keep.md"]
    assert names(tmp_path, exclude=["*.md", "*.log"]) == []


def test_rules_of_the_repository_around_a_folder_hold(tmp_path):
    make(tmp_path, "notes/a.md", "notes/secret.md", "notes/out/b.md")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("secret.md\n/notes/out\n")
    assert names(tmp_path, tmp_path / "notes") == ["notes/a.md"]


def test_links_are_followed_and_loops_end(tmp_path):
    make(tmp_path, "a/b/c.md", "elsewhere/d.md")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "a" / "link.md").symlink_to(tmp_path / "a" / "b" / "c.md")
    (tmp_path / "a" / "other").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "a" / "gone.md").symlink_to(tmp_path / "nowhere")
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    results = list(find_files([tmp_path / "a"]))
    files = [f.path.name for f in results if isinstance(f, Found)]
    assert sorted(files) == ["d.md", "link.md"]  # the same file as c.md, met first
    skipped = {s.path.name: s.reason for s in results if isinstance(s, Skipped)}
    assert skipped["up"] == "a link to a folder that was read already"
    assert skipped["gone.md"] == "a link to nothing"
    assert "self" in skipped


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_named(tmp_path):
    make(tmp_path, "closed/a.md")
    (tmp_path / "closed").chmod(0)
    try:
        assert "permission" in next(s.reason for s in find_files([tmp_path]) if isinstance(s, Skipped))
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_a_folder_that_disappears_is_named(tmp_path):
    make(tmp_path, "a/x.md", "b/y.md")
    walk = find_files([tmp_path])
    assert next(walk).path.name == "x.md"
    shutil.rmtree(tmp_path / "b")
    assert [(s.path.name, s.reason) for s in walk] == [("b", "deleted while the folder was read")]


def test_a_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        list(find_files([tmp_path / "no"]))


PARTS = st.sampled_from(
    ["a", "b", "ab", "a.b", "*", "**", "?", "a*", "*.b", "[ab]", "[!a]", "\\*", "[", "a b", "a[b"]
)
PATTERNS = st.builds(
    lambda keep, anchor, parts, end: keep + anchor + "/".join(parts) + end,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "/"]),
    st.lists(PARTS, min_size=1, max_size=3),
    st.sampled_from(["", "/", " ", "\\ "]),
)
PATHS = ["a", "b", "ab", "a.b", "b/a", "a/b", "a/b/ab", "b/a.b/a", "ab/a/b/a.b", "*", "a b", "b/a b"]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@given(st.lists(PATTERNS, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_patterns_mean_what_they_mean_to_git(tmp_path, patterns):
    repository = tmp_path / "repository"
    if not repository.exists():
        subprocess.run(["git", "init", "-q", str(repository)], check=True)
    (repository / ".gitignore").write_text("\n".join(patterns) + "\n")
    # git takes a path that is not there for a file.
    answer = subprocess.run(
        ["git", "-C", str(repository), "check-ignore", "--no-index", "--stdin", "-z"],
        input="\0".join(PATHS), capture_output=True, text=True, check=False,
    )  # fmt: off
    theirs = set(filter(None, answer.stdout.split("\0")))
    stack = [IgnoreRules(patterns)]

    def ours(path):
        parts = path.split("/")
        above = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
        return any(ignored(stack, folder, is_folder=True) for folder in above) or ignored(
            stack, path, is_folder=False
        )

    assert {path for path in PATHS if ours(path)} == theirs, patterns
