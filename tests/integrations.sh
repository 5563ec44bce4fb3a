#!/usr/bin/env bash
# Runs the tests of the adapters beside the libraries that they adapt to, in an environment of its own.
#
#   tests/integrations.sh PYTHON DIRECTORY [ARGUMENT …]    DIRECTORY is kept; arguments go to pytest
#
# The converter is not installed there: its packages cap others below what these libraries need.
set -euo pipefail
python=$1
mkdir -p "$2"
environment=$(realpath "$2")
shift 2
cd "$(dirname "$0")/.."

[[ -x $environment/bin/python ]] || "$python" -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint tests/integrations/constraints.txt --editable '.[test-integrations]'
"$environment/bin/python" -m pytest tests/integrations -q --strict-skips -o asyncio_mode=auto \
    -o asyncio_default_fixture_loop_scope=function "$@"
