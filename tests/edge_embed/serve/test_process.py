"""The socket of the server."""

import socket

import pytest
import uvicorn

from edge_embed.errors import InputError
from edge_embed.serve.process import bind


def config(port):
    return uvicorn.Config(lambda: None, host="127.0.0.1", port=port, log_config=None)


def test_answers_do_not_wait_for_acknowledgements():
    with bind(config(0)) as listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()):
            connection, _ = listening.accept()
            with connection:
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_an_address_in_use_is_one_clear_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="cannot listen"):
            bind(config(taken.getsockname()[1]))
