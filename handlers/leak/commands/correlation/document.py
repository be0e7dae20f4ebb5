"""The report as one HTML file: plots and tables, without a script or anything from elsewhere."""

from html import escape
from typing import Final

from handlers.leak.commands.correlation import tables
from handlers.leak.commands.correlation.drawing import svg
from handlers.leak.commands.correlation.plots import heat_map, scatter_pairs, scatters
from handlers.leak.commands.correlation.recording import Recording
from handlers.leak.commands.correlation.report import Report
from handlers.leak.commands.correlation.tables import Table
from handlers.leak.commands.correlation.timeline import timeline
from supervisor.command import duration

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c1e21; --faint: #667; --line: #d8dade; --paper: #fff; --card: #f6f7f9;
  --bad: #b3261e; --good: #1b7a3d; --open: #8a5a00 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e7ea; --faint: #9aa0aa; --line: #3a3d44; --paper: #17181b;
  --card: #202226; --bad: #ff8a80; --good: #7bd69a; --open: #f0c070 } }
body { font: 15px/1.5 system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1120px; margin: 2rem auto; padding: 0 1.2rem }
h1 { font-size: 1.9rem; line-height: 1.2; margin: .2rem 0 .6rem } h1::first-letter { text-transform: uppercase }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem }
.leak { color: var(--bad) } .none { color: var(--good) } .open { color: var(--open) }
.file, .reading, figcaption { color: var(--faint); margin: 0; overflow-wrap: anywhere }
.verdict { background: var(--card); border-radius: 8px; padding: .8rem 1.2rem }
.verdict ul, .notes { margin: .3rem 0; padding-left: 1.2rem } li { overflow-wrap: anywhere }
figure { margin: 0 0 1rem } svg { max-width: 100%; height: auto }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th { color: var(--faint); font-weight: 600; font-size: .82rem } .l { text-align: left }
td.l:last-child { min-width: 16rem; max-width: 34rem; white-space: normal; overflow-wrap: anywhere }
@media print { body { max-width: none } }
"""


def document(recording: Recording, report: Report) -> str:
    """The whole page."""
    name = escape(report.file)
    folded = f", {report.folded:,} folded into one" if report.folded > 1 else ""
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in report.sentences)
    parts = [
        f'<p class="file">{name} · {report.rows:,} rows{folded} · {duration(report.duration_s)}</p>',
        f'<h1 class="{report.gravity}">{escape(report.headline)}</h1>',
        f'<div class="verdict"><ul>{said}</ul></div>' if said else "",
        _figure("Over time", svg(lambda: timeline(recording, report), "timeline"), _TIMELINE),
        _table(tables.resources(recording, report)),
        _table(tables.surges(recording, report)),
        _table(tables.first_calls(recording, report)),
    ]
    if scatter_pairs(recording, report):
        parts.append(_figure("Against each other", svg(lambda: scatters(recording, report), "scatter"), ""))
    if report.pairs:
        parts.append(_figure("What moves together", svg(lambda: heat_map(report), "heat"), ""))
        parts.append(_table(tables.pairs(report), titled=False))
    parts.append(_table(tables.columns(report)))
    if report.notes:
        notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
        parts.append(f'<h2>Left out, or uncertain</h2><ul class="notes">{notes}</ul>')
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.headline)} · {name}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


_TIMELINE: Final = (
    "Yellow: surge points. Dashed: first calls. Tinted: since a leak began. Sizes are in MB of 2²⁰ bytes."
)


def _figure(title: str, drawn: str, caption: str) -> str:
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<h2>{escape(title)}</h2>\n<figure>{drawn}{below}</figure>"


def _table(table: Table, titled: bool = True) -> str:
    if not table.rows:
        return ""
    head = "".join(_cell("th", text, index in table.left) for index, text in enumerate(table.heads))
    rows = "".join(
        "<tr>" + "".join(_cell("td", text, index in table.left) for index, text in enumerate(row)) + "</tr>\n"
        for row in table.rows
    )
    reading = f'<p class="reading">{escape(table.reading)}</p>' if table.reading else ""
    title = f"<h2>{escape(table.title)}</h2>\n" if titled else ""
    whole = f"<table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>"
    return f'{title}{reading}<div class="scroll">{whole}</div>'


def _cell(tag: str, text: str, left: bool) -> str:
    return f"<{tag}{' class=l' if left else ''}>{escape(text)}</{tag}>"
