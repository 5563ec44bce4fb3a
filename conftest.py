"""Options and markers of the whole test suite.

`@pytest.mark.device("gpu")` marks a test that needs more than Python packages: a server, an emulator, a
browser, a driver. `make test` leaves such tests out and `make test-devices` runs them. One whose device is
missing is skipped, and with `--strict-skips` the session fails, unless `ALLOWED_SKIPS` has the reason.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_embed.engine.cache_directory import default_directory

CACHE = default_directory()
"""The user's own cache, read before the tests get caches of their own: downloads of the targets are there."""

VULKAN = Path("/usr/lib/chromium/vk_swiftshader_icd.json")
"""Chromium's software Vulkan, which stands in for a GPU."""

ALLOWED_SKIPS = (
    r"needs an ARM processor",  # what a test of ARM alone says elsewhere
    r"root may read everything",  # CI runs as root
    r"only root may mount a small disk",
    r"signals of POSIX|this system has no fork|a shell script",  # on Windows
)
"""Reasons for which a test may be skipped under `--strict-skips`, as regular expressions."""


def _kept(name: str) -> bool:
    return CACHE is not None and (CACHE / "targets" / name).is_dir()


def _missing_ssh() -> str | None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    names = [name for name in ("sshd", "ssh", "ssh-keygen") if shutil.which(name, path=path) is None]
    return f"no {', no '.join(names)}" if names else None


def _missing_emulator() -> str | None:
    from edge_embed_bench.targets.emulated import qemu, sysroot

    kept = all(_kept(place.directory().name) for place in (qemu, sysroot))
    return None if kept else "no emulator or arm64 system in the cache"


def _missing_browser() -> str | None:
    from edge_embed_bench.targets.browser import tools

    names = [name for name in ("chromium", "node") if shutil.which(name) is None]
    names += [] if _kept(tools.directory().name) else ["npm packages in the cache"]
    return f"no {', no '.join(names)}" if names else None


def _missing_gpu() -> str | None:
    found = VULKAN.is_file() and VULKAN.with_name("libvulkan.so.1").is_file()
    return None if found else "no software Vulkan of Chromium's"


DEVICES: dict[str, Callable[[], str | None]] = {
    "ssh": functools.cache(_missing_ssh),
    "emulator": functools.cache(_missing_emulator),
    "browser": functools.cache(_missing_browser),
    "gpu": functools.cache(_missing_gpu),
}
"""What tests may need, and what of it is missing here."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--strict-skips", action="store_true", help="fail if a test is skipped for an unexpected reason"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"device(name): needs one of {', '.join(DEVICES)}")
    if config.getoption("--strict-skips"):
        config.pluginmanager.register(StrictSkips(), "strict-skips")


@pytest.hookimpl(trylast=True)  # after the tests that the command line leaves out are gone
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name in [name for marker in item.iter_markers("device") for name in marker.args]:
            if reason := DEVICES[name]():
                item.add_marker(pytest.mark.skip(f"{reason} (make test-devices FETCH=1 installs it)"))


class StrictSkips:
    """Fails the session if a test was skipped for a reason that is not in `ALLOWED_SKIPS`."""

    def __init__(self) -> None:
        self.unexpected: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report.skipped and not hasattr(report, "wasxfail"), report.nodeid, report.longrepr)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report.skipped, report.nodeid, report.longrepr)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unexpected and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.unexpected:
            terminalreporter.section("unexpected skips", red=True)
            for line in self.unexpected:
                terminalreporter.write_line(line)

    def _note(self, skipped: bool, name: str, where: object) -> None:
        reason = str(where[2] if isinstance(where, tuple) else where).removeprefix("Skipped: ")
        if skipped and not any(re.search(allowed, reason) for allowed in ALLOWED_SKIPS):
            self.unexpected.append(f"{name}: {reason}")
