# Installs Debian's packages, as root or through sudo; nothing if none is named. For the other scripts here.
install_packages() {
    (($#)) || return 0
    local root=()
    ((EUID == 0)) || root=(sudo)
    "${root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq --no-install-recommends "$@"
}
