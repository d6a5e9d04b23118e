"""Start the server: it answers at once, and the runs are read in the background."""

import secrets
import socket
from collections.abc import Callable
from functools import cache
from threading import Lock, Thread
from typing import TYPE_CHECKING

import uvicorn

from stagetransfer.errors import UserError
from stagetransfer.serve.web_app import create_app

if TYPE_CHECKING:
    from stagetransfer.serve.site import Site


def serve(open_site: Callable[[], "Site"], port: int, show: Callable[[str], None]) -> None:
    """Serve the pages on 127.0.0.1 until Ctrl-C; `show` receives the address.

    Port 0 is any free one. UserError, also after the start: what `open_site` raises.
    """
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError as error:
        why = f"--port {port}: cannot be used ({error.strerror})"
        raise UserError(f"{why}. Give another, or leave it out") from error
    token, failures = secrets.token_urlsafe(24), list[Exception]()
    opened, lock = cache(open_site), Lock()

    def site() -> "Site":
        with lock:
            return opened()

    def prepare() -> None:
        try:
            site()
        except Exception as error:  # raised again below, in the main thread
            failures.append(error)
            server.should_exit = True

    # No access log: the first address of a session holds the token.
    app = create_app(site, token)
    server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="warning"))
    listening.listen()
    show(f"http://127.0.0.1:{listening.getsockname()[1]}/?token={token}")
    Thread(target=prepare, daemon=True).start()
    server.run(sockets=[listening])
    if failures:
        raise failures[0]
