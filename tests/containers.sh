#!/usr/bin/env bash
# Reads containers back through Google's own wheels.
#
#   tests/containers.sh PYTHON DIRECTORY            the virtual environment is made in DIRECTORY and kept
#   tests/containers.sh PYTHON DIRECTORY --fetch    first installs the libraries that the wheels load from the
#                                                   system, if they are missing (Debian's packages, as root)
#
# The wheels bring builds of LiteRT of their own and a hundred megabytes that nothing else here needs, so they
# get an environment without PyTorch and the converter's other packages, which writing containers does not need.
set -euo pipefail
mkdir -p "$2"
environment=$(realpath "$2")
python=$(command -v "$1")
cd "$(dirname "$0")/.."
source tests/debian.sh

if [[ ${3:-} == --fetch ]]; then
    declare -A packages=([libEGL.so.1]=libegl1 [libGLESv2.so.2]=libgles2 [libGL.so.1]=libgl1)
    present=$(/sbin/ldconfig -p)
    missing=()
    for library in "${!packages[@]}"; do
        [[ $present == *"$library "* ]] || missing+=("${packages[$library]}")
    done
    install_packages "${missing[@]}"
fi

[[ -x $environment/bin/python ]] || "$python" -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint constraints.txt --editable '.[containers]' 'pytest>=8'
exec "$environment/bin/python" -m pytest tests/containers --strict-skips
