"""What keeps other machines, users and web sites out of the pages.

The server listens on 127.0.0.1 only. A request must name this host (against DNS rebinding) and know
the token: once in the address, then in a cookie that no script can read. Pages may load nothing
from elsewhere, and no other site may show them or their images.
"""

import secrets
from hashlib import sha256
from urllib.parse import urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = ("127.0.0.1", "localhost")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",  # the pages show images of patients
}


class Guard:
    """ASGI middleware that lets only requests with the token pass, and adds `HEADERS`."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token
        # Cookies are shared by all ports of a host, so each server has a name of its own.
        self.cookie = f"stagetransfer-{sha256(token.encode()).hexdigest()[:8]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._answer(Request(scope))(scope, receive, with_headers)

    def _answer(self, request: Request) -> ASGIApp:
        if self._is_token(request.query_params.get("token", "")):
            rest = [item for item in request.query_params.multi_items() if item[0] != "token"]
            # A path of two slashes would lead to another host.
            address = f"/{request.url.path.lstrip('/')}?{urlencode(rest)}".rstrip("?")
            response = RedirectResponse(address, 303)
            response.set_cookie(self.cookie, self.token, httponly=True, samesite="strict")
            return response
        if self._is_token(request.cookies.get(self.cookie, "")):
            return self.app
        text = "Open the address that stagetransfer serve has printed: it holds a token.\n"
        return PlainTextResponse(text, 403)

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode(), self.token.encode())
