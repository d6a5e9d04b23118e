"""The overview: the report's answer, Figure 5 and table, for the runs that the filters leave."""

from starlette.requests import Request
from starlette.responses import Response

from stagetransfer.errors import UserError
from stagetransfer.serve.site import Settings, Site


def overview(site: Site, request: Request) -> Response:
    """Show the answer; instead, why these runs cannot be compared."""
    data_set, only, conditions = choice(site, request)
    answer = problem = ""
    if data_set:
        try:
            answer = site.answer(data_set, only, conditions)
        except UserError as error:
            problem = str(error)
    return site.page(
        request, "overview", "Overview", data_set=data_set, only=only, conditions=conditions,
        settings=site.settings(data_set), answer=answer, problem=problem,
    )  # fmt: skip


def choice(site: Site, request: Request) -> tuple[str, Settings, Settings]:
    """Return the data set, settings and conditions that the address asks for; none: the first."""
    query = request.query_params
    data_set = query.get("data_set") or next(iter(site.data_sets), "")
    only = tuple(one for one in query.getlist("only") if "=" in one)
    return data_set, only, tuple(query.getlist("conditions"))


def style(site: Site, request: Request) -> Response:
    """Return the style sheet of the report and of what only these pages have."""
    names = ("report.css.jinja", "serve.css.jinja")
    text = "".join(site.templates.get_template(name).render() for name in names)
    return Response(text, media_type="text/css")
