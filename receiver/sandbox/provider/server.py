"""Serves the API on loopback, in a thread, quietly."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Final

from werkzeug.serving import WSGIRequestHandler, make_server

from receiver.errors import OperationRefused
from receiver.sandbox.provider.api import create_api

if TYPE_CHECKING:
    from collections.abc import Iterator

    from receiver.sandbox.provider.provider import Provider

LOOPBACK: Final = "127.0.0.1"
WAITING: Final = 256
"""Connections that may wait to be accepted."""
POLL_SECONDS: Final = 0.02


class _Quiet(WSGIRequestHandler):
    """Logs no requests: the test, or the command, reports what matters."""

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - werkzeug's name
        pass


@contextmanager
def serving(provider: Provider, *, port: int = 0) -> Iterator[str]:
    """Serve *provider* on this machine (*port* 0: a free one) and yield the base URL; the block ends and closes it.

    Raises ``OperationRefused`` when the port is taken.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError as error:
            raise OperationRefused(f"cannot listen on {LOOPBACK}:{port}: {error.strerror}") from None
        listener.listen(WAITING)
        server = make_server(
            LOOPBACK,
            port,
            create_api(provider),
            threaded=True,
            request_handler=_Quiet,
            fd=listener.fileno(),
        )
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": POLL_SECONDS}, daemon=True)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_address[1]}"
    finally:
        provider.stopping.set()
        server.shutdown()
        thread.join()
        provider.close()
