"""A page on this machine for looking around in finished runs; nothing leaves the machine.

`web_app` has the routes, `guard` what keeps others out, `site` what all pages share. Each page
is a module of its own. The answer, figures, tables and intervals are those of the report.
"""

from stagetransfer.serve.server import serve
from stagetransfer.serve.web_app import create_app

__all__ = ["create_app", "serve"]
