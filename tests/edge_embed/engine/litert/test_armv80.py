"""The empty library, on whatever 64-bit Linux this is."""

import ctypes
import platform
import subprocess
import sys

import pytest

from edge_embed.engine.litert import armv80

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="64-bit Linux only"
)


def test_the_linker_takes_it_for_the_one_that_is_asked_for():
    name = "libedge_embed_no_such_thing.so"
    with pytest.raises(OSError, match=name):
        ctypes.CDLL(name)
    kept = armv80.load_empty_library(name)
    found = ctypes.CDLL(name)
    assert found._handle == kept._handle
    with pytest.raises(AttributeError):
        _ = found.LiteRtRegisterAccelerator


def test_with_it_litert_runs_without_its_gpu(tiny_model):
    script = (
        "import sys\n"
        "from edge_embed import Embedder\nfrom edge_embed.engine.litert import armv80\n"
        "kept = armv80.load_empty_library(armv80.LIBRARY)\n"
        "vector = Embedder(sys.argv[1], weight_cache='memory').encode('the red planet')\n"
        "maps = open('/proc/self/maps').read()\n"
        "print(len(vector), 'ai_edge_litert/' + armv80.LIBRARY in maps)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tiny_model)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["8", "False"]


def test_processors_that_need_nothing_get_nothing(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(armv80, "has_atomics", lambda: True)
    armv80.keep_out_what_would_kill_us()
    assert armv80._loaded == []
