"""Programs that read a container as an app does, through Google's wheels; `readback` runs them.

Each is a process of its own: the wheels carry LiteRT builds that must not share a process with ours, and what
a wheel refuses may end its process.
"""
