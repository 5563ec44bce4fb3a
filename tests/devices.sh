#!/usr/bin/env bash
# Runs the tests that need a device: an ssh server, an emulated ARM processor, a browser, a GPU in software.
#
#   tests/devices.sh PYTHON            fails if one of them is missing
#   tests/devices.sh PYTHON --fetch    first installs what is missing (Debian's packages, as root) and
#                                      downloads the emulator, its arm64 system and npm's packages
#
# Downloads go to the cache directory: EDGE_EMBED_CACHE, else ~/.cache/edge_embed.
set -euo pipefail
python=$(realpath -s "$1") # a virtual environment's python is a link that must stay one
cd "$(dirname "$0")/.."
source tests/debian.sh

declare -A packages=(
    [chromium]=chromium [sshd]=openssh-server [ssh]=openssh-client [mmdebstrap]=mmdebstrap [node]=nodejs [npm]=npm
)
PATH=$PATH:/usr/sbin

if [[ ${2:-} == --fetch ]]; then
    missing=()
    for program in "${!packages[@]}"; do
        command -v "$program" >/dev/null || missing+=("${packages[$program]}")
    done
    install_packages "${missing[@]}"
    # `verify` on a target fetches what the target needs, and is itself a check of it.
    for target in emulated:aarch64/max browser; do
        "$python" -m edge_embed verify tests/golden/schema1/bert.tflite --target "$target" --prepare-target
    done
fi

exec "$python" -m pytest -m device --strict-skips
