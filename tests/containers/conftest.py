"""These tests read containers back through Google's wheels, which only `make test-containers` installs."""

from __future__ import annotations

import importlib.util

WHEELS = ("mediapipe", "litert_lm", "litert_lm_builder")

collect_ignore_glob = [] if all(map(importlib.util.find_spec, WHEELS)) else ["test_*.py"]
