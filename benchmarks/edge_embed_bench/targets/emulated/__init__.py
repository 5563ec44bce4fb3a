"""The target `emulated:aarch64`: an ARM processor emulated by qemu on this machine."""
