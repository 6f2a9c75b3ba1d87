"""A replay as one HTML file that needs nothing else: the chart in it, and its numbers as a table."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape

from evergreen.core.replayed import Replayed
from evergreen.replay.told import HEADER, cells, means, summary

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem }
img { max-width: 100%; height: auto }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #d9d9d9 }
th:first-child, td:first-child, th:last-child, td:last-child { text-align: left }
tfoot td { font-weight: 600 }
"""


def page(replayed: Replayed, chart: bytes) -> str:
    """The whole file; `chart` is a PNG."""
    title = escape(f"Replay of {replayed.model}")
    picture = base64.b64encode(chart).decode()
    told = "".join(f"<p>{escape(line)}</p>\n" for line in summary(replayed))
    rows = "".join(_row("td", cells(period, replayed.metric)) for period in replayed.periods)
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>{STYLE}</style></head>
<body>
<h1>{title}</h1>
{told}<img alt="{title}: the metric by period; its numbers are in the table" src="data:image/png;base64,{picture}">
<div class="wide"><table>
<thead>{_row("th", HEADER)}</thead>
<tbody>{rows}</tbody>
<tfoot>{_row("td", means(replayed))}</tfoot>
</table></div>
</body>
</html>
"""


def _row(tag: str, values: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(value)}</{tag}>" for value in values) + "</tr>\n"
