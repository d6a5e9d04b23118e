"""The routes of the pages, and how a problem is shown."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from stagetransfer.errors import UserError
from stagetransfer.serve.guard import HOSTS, Guard

if TYPE_CHECKING:
    from stagetransfer.serve.site import Site

PAGES = {
    "/": "overview_page.overview",
    "/runs": "runs_page.runs",
    "/runs/{name}": "runs_page.run",
    "/runs/{name}/curves": "runs_page.curves",
    "/compare": "compare_page.compare",
    "/images": "images_page.images",
    "/images/{run}/{number:int}": "images_page.image",
    "/images/{run}/{number:int}/nearest": "images_page.nearest",
    "/images/{run}/{number:int}/explained.png": "images_page.explained",
    "/test/{run}/{number:int}.png": "images_page.test_image",
    "/train/{run}/{number:int}.png": "images_page.training_image",
    "/slices": "slices_page.slices",
    "/slices/{series:int}/{index:int}/window": "slices_page.window",
    "/slices/{series:int}/{index:int}/explained.png": "slices_page.explained",
    "/slices/{series:int}/{index:int}/{layer}.png": "slices_page.layer",
    "/style.css": "overview_page.style",
}
"""The function that answers each path, by module."""


def create_app(open_site: Callable[[], "Site"], token: str) -> Starlette:
    """Return the application that shows a site to whoever knows the token.

    The modules of the pages are imported when they are first asked for. One page is computed at a
    time: matplotlib's settings are those of the process, and a network has one set of hooks.
    """
    lock = RLock()

    def route(path: str, function: str) -> Route:
        def answer(request: Request) -> Response:
            module, name = function.split(".")
            with lock:
                site = open_site()
                try:
                    site.refresh()
                    found = getattr(import_module(f"stagetransfer.serve.{module}"), name)
                    response: Response = found(site, request)
                except UserError as error:
                    response = _problem(site, request, str(error), 400)
                except HTTPException as error:
                    response = _problem(site, request, error.detail, error.status_code)
            return response

        return Route(path, answer, methods=["GET"])

    def script(request: Request) -> Response:
        return FileResponse(
            Path(__file__).parent / "templates" / "serve.js.jinja", media_type="text/javascript"
        )

    routes = [route(*item) for item in PAGES.items()]
    routes.append(Route("/serve.js", script))
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS), www_redirect=False),
            Middleware(Guard, token=token),
        ],
    )


def _problem(site: "Site", request: Request, line: str, status: int) -> Response:
    return site.page(request, "problem", "Problem", line=line, status=status)
