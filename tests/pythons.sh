#!/usr/bin/env bash
# Runs the runtime's tests on every CPython from 3.10 on that this machine has, each with the base install.
#
#   tests/pythons.sh DIRECTORY    the virtual environments are made in DIRECTORY and kept
#
# PyTorch and the converter are not installed there, so what needs them is not collected.
set -euo pipefail
mkdir -p "$1"
environments=$(realpath "$1")
cd "$(dirname "$0")/.."

shopt -s nullglob
declare -A found
for python in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python3 $(compgen -c python3. | sort -u); do
    path=$(command -v "$python") || continue
    version=$("$path" -c 'import sys
good = sys.implementation.name == "cpython" and sys.version_info >= (3, 10) and hasattr(sys, "abiflags")
print("%d.%d" % sys.version_info[:2] if good and not sys.abiflags else "")' 2>/dev/null) || continue
    [[ -z $version || -n ${found[$version]:-} ]] || found[$version]=$path
done
((${#found[@]})) || { echo "test-pythons: no CPython from 3.10 on is here" >&2 && exit 1; }

for version in $(printf '%s\n' "${!found[@]}" | sort -V); do
    environment=$environments/$version
    echo "== CPython $version (${found[$version]})"
    [[ -x $environment/bin/python ]] || "${found[$version]}" -m venv "$environment"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --editable . 'pytest>=8' 'hypothesis>=6.100'
    # Rooms of an extra are left out; single tests of one skip themselves with pytest.importorskip.
    "$environment/bin/python" -m pytest tests/edge_embed -m "not device" -q \
        --ignore tests/edge_embed/serve --ignore tests/edge_embed/integrations
done
