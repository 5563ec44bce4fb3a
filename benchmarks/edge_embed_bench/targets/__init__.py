"""Where cells are measured. `base` defines what a target is and lists them; `verify` checks a file on one.

`local` is a file; targets that need more than one are folders: `ssh`, `emulated`, `adb`, `browser`.
"""
