"""The frame of a page: head, style, the few lines of script that sort tables, sections, tables. All text is escaped."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NoReturn

from kernels.errors import InputError
from sim.show.tables import number

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"  # nothing is loaded from anywhere
NUM_COLOUR = 7
# Okabe and Ito's colours, as in `sim.show.plot_style`; blue lighter on a dark ground
STYLE = """
:root{color-scheme:light dark;--bg:#fff;--ink:#222;--faint:#6b6b6b;--rule:#e2e2e2;
--c0:#0072b2;--c1:#e69f00;--c2:#009e73;--c3:#d55e00;--c4:#cc79a7;--c5:#56b4e9;--c6:#b8a500}
@media(prefers-color-scheme:dark){:root{--bg:#16181c;--ink:#e6e6e6;--faint:#a0a0a0;--rule:#33363c;--c0:#4aa3df}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem;max-width:76rem;
background:var(--bg);color:var(--ink);font:15px/1.45 system-ui,sans-serif}
h1{font-size:1.35rem;margin:.2rem 0;overflow-wrap:anywhere}h2{font-size:1.1rem;margin:1.6rem 0 .4rem}
p,li{max-width:60rem;overflow-wrap:anywhere}.faint,figcaption small{color:var(--faint)}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,27rem),1fr));gap:1rem 1.5rem}
figure{margin:0;min-width:0}figcaption{font-weight:600}figcaption small{display:block;font-weight:400}
svg{display:block;width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:var(--ink)}
svg .rule{stroke:var(--rule)}svg .axis{stroke:var(--faint)}svg .roof{stroke:var(--ink);fill:none}
.key{list-style:none;display:flex;flex-wrap:wrap;gap:.1rem 1rem;margin:.2rem 0;padding:0;font-size:.85rem}
.key i{display:inline-block;width:.75em;height:.75em;margin-right:.35em;border-radius:2px}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.88rem}
th,td{padding:.25rem .6rem;border-bottom:1px solid var(--rule);text-align:left;white-space:nowrap}
td.n{text-align:right;font-variant-numeric:tabular-nums}
th button{all:unset;cursor:pointer;font-weight:600}th button:focus-visible{outline:2px solid var(--c0)}
th[aria-sort=ascending] button::after{content:" \\2191"}th[aria-sort=descending] button::after{content:" \\2193"}
""" + "".join(
    f".s{k}{{stroke:var(--c{k});fill:none}}.f{k}{{fill:var(--c{k})}}.key .f{k}{{background:var(--c{k})}}\n"
    for k in range(NUM_COLOUR)
)
SCRIPT = """
for(const button of document.querySelectorAll("th button"))button.onclick=()=>{
const head=button.parentNode,body=head.closest("table").tBodies[0],at=head.cellIndex;
const down=head.ariaSort==="ascending";
for(const other of head.parentNode.cells)other.ariaSort=null;
head.ariaSort=down?"descending":"ascending";
const of=row=>{const cell=row.cells[at];return cell.hasAttribute("data-v")?+cell.dataset.v:cell.textContent};
const none=value=>value===""||value==="-";
body.append(...[...body.rows].sort((one,other)=>{const a=of(one),b=of(other);
if(none(a)||none(b))return none(a)-none(b);
return(typeof a!==typeof b?(typeof a<typeof b?1:-1):a<b?-1:a>b?1:0)*(down?-1:1)}))}
"""


def page(title: str, parts: Sequence[str], said: Sequence[str] = ()) -> str:
    """A whole document: `title` and the sentences of `said` are text, `parts` what the functions here and
    `sim.show.page.charts` made."""
    head = f"<h1>{escape(title)}</h1>\n" + "".join(f"<p class=faint>{escape(text)}</p>\n" for text in said if text)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>Ridgeline: {escape(title)}</title><style>{STYLE}</style></head>\n<body>\n{head}"
        + "\n".join(parts)
        + f"\n<script>{SCRIPT}</script></body></html>\n"
    )


def section(title: str, *parts: str, said: str = "") -> str:
    """A heading and figures side by side, as many as there is room for; nothing where there is nothing in it."""
    if not any(parts) and not said:
        return ""
    word = f"<p class=faint>{escape(said)}</p>" if said else ""
    return f"<section><h2>{escape(title)}</h2>{word}<div class=grid>{''.join(parts)}</div></section>"


def items(texts: Sequence[str]) -> str:
    """Sentences as a list."""
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>" if texts else ""


def table(columns: Mapping[str, Sequence[Any]]) -> str:
    """Columns by their heads as a table that a click on a head sorts; a number's cell holds it whole in `data-v`."""
    head = "".join(f"<th><button>{escape(name)}</button></th>" for name in columns)
    rows = zip(*columns.values(), strict=True)
    body = "\n".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>"


def cell(value: Any) -> str:
    """One cell: four digits to read, all of them to sort by.

    >>> cell(1234.5678), cell("<b>"), cell(None)
    ('<td class=n data-v="1234.5678">1,234.6</td>', '<td>&lt;b&gt;</td>', '<td>-</td>')
    """
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return f'<td class=n data-v="{value!r}">{escape(number(value))}</td>'
    return f"<td>{escape(number(value))}</td>"


def page_bytes(text: str) -> bytes:
    """The bytes of a page; what UTF-8 has no bytes for is written out."""
    return text.encode(errors="backslashreplace")


def refuse_empty() -> NoReturn:
    """There is no page of nothing."""
    raise InputError("no request was served: there is nothing to show", field="page")
