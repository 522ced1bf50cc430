"""The service's main process, before it has workers."""

import socket

import psutil
import pytest

from perennial.errors import StackError
from service.server import listen


def test_a_port_that_is_taken_is_told_and_no_socket_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        before = psutil.Process().num_fds()
        with pytest.raises(StackError, match=r"cannot listen on 127\.0\.0\.1:.* set PERENNIAL_PORT") as raised:
            listen("127.0.0.1", taken.getsockname()[1])
        assert psutil.Process().num_fds() == before, raised
