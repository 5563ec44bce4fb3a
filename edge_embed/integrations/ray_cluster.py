"""A Ray cluster while a driver uses it: joined or started, watched, and left."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from edge_embed.errors import RuntimeFailure
from edge_embed.extras import needs_extra

with needs_extra("ray", "work on many machines"):
    import ray

CONNECT_SECONDS = 10.0
"""How long a cluster may take to accept a connection."""

WATCH_SECONDS = 3.0
"""How often the head of a cluster is looked for."""

LOST_SECONDS = 20.0
"""How long it may be away. After a minute Ray itself ends every process that uses it, this one too."""

LEAVE_SECONDS, LEAVE_LOST_SECONDS = 40.0, 5.0
"""How long it may take to leave a cluster, and one that is lost: Ray would wait for its head."""


class Cluster:
    """A cluster that this process has joined.

    A thread looks for its head and counts its cores: both may take long when the head is gone.
    """

    def __init__(self) -> None:
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        self._head = (host.strip("[]"), int(port))
        self._cores = _count_cores()
        self._seen = time.monotonic()
        self._left = threading.Event()
        threading.Thread(target=self._watch, name="edge_embed cluster", daemon=True).start()

    @property
    def cores(self) -> int:
        """Cores of all its machines, as they were a few seconds ago."""
        return self._cores

    @property
    def is_lost(self) -> bool:
        """Whether its head has been away for too long."""
        return time.monotonic() - self._seen > LOST_SECONDS

    def check(self) -> None:
        """Raises an error if the cluster is gone.

        Raises:
            RuntimeFailure: If its head has not answered for `LOST_SECONDS`.
        """
        if self.is_lost:
            raise RuntimeFailure(
                "the Ray cluster is gone",
                got=f"its head at {self._head[0]}:{self._head[1]} has not answered for {LOST_SECONDS:g} s",
                fix="start it again; finished files are kept, and the same command goes on",
            )

    def leave(self) -> None:
        """Stops watching."""
        self._left.set()

    def _watch(self) -> None:
        while not self._left.wait(WATCH_SECONDS):
            try:
                socket.create_connection(self._head, CONNECT_SECONDS).close()
                self._cores = _count_cores()
            except (OSError, RuntimeError, ray.exceptions.RayError):
                continue
            self._seen = time.monotonic()


@contextmanager
def joined(address: str | None) -> Iterator[Cluster]:
    """Joins a cluster, or starts one on this machine, while the block runs.

    Args:
        address: The cluster; None for the one that Ray finds, and else for this machine alone.

    Raises:
        RuntimeFailure: If there is no cluster.
    """
    ours = not ray.is_initialized()
    if ours:
        try:
            _knock(address)
            ray.init(address, log_to_driver=False, logging_level="error", configure_logging=False)
        except (OSError, RuntimeError, ValueError) as error:  # a failed connection is an OSError
            raise RuntimeFailure(
                f"there is no Ray cluster at {address or 'the address that Ray found'}",
                got=str(error).strip().splitlines()[0],
                fix="start one with `ray start --head`, or leave --address out for this machine alone",
            ) from error
    cluster = Cluster()
    try:
        yield cluster
    finally:
        cluster.leave()
        if ours:
            thread = threading.Thread(target=ray.shutdown, name="edge_embed leaves", daemon=True)
            thread.start()
            thread.join(LEAVE_LOST_SECONDS if cluster.is_lost else LEAVE_SECONDS)


def _count_cores() -> int:
    return int(ray.cluster_resources().get("CPU", 0))


def _knock(address: str | None) -> None:
    """Tries the address of a cluster: Ray itself would go on trying for minutes.

    Raises:
        OSError: If nobody listens there.
    """
    host, found, port = (address or "").rpartition("://")[2].rpartition(":")
    if found and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
