#!/usr/bin/env bash
# Reads containers back through Google's own wheels.
#
#   tests/containers.sh PYTHON DIRECTORY    the virtual environment is made in DIRECTORY and kept
#
# The wheels bring builds of LiteRT of their own and a hundred megabytes that nothing else here needs, so they
# get an environment without PyTorch and the converter's other packages, which writing containers does not need.
set -euo pipefail
mkdir -p "$2"
environment=$(realpath "$2")
python=$(command -v "$1")
cd "$(dirname "$0")/.."

[[ -x $environment/bin/python ]] || "$python" -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint constraints.txt --editable '.[containers]' 'pytest>=8'
exec "$environment/bin/python" -m pytest tests/containers --strict-skips
