"""``meshcore routes``: the routes of a running proxy, and how well each does."""

from __future__ import annotations

from meshcore_cli.figures import VIEWS
from meshcore_cli.listing import Listing
from meshcore_cli.pages import text

DESCRIPTION = """\
Lists the routes of a running proxy with their figures, those that have had no request included: `default` is what
no other route takes, or all there is where there are no routes.

  meshcore routes
  meshcore routes --direction outbound --window 1m"""

_VIEW = next(view for view in VIEWS if view.name == "routes")
_LISTING = Listing(
    _VIEW.name,
    [field.heading for field in _VIEW.fields],
    lambda row: [field.cell(row) for field in _VIEW.fields],
    lambda row: (text(row, "direction"), text(row, "parent"), text(row, "route")),
)
add_arguments, run = _LISTING.add_arguments, _LISTING.run
