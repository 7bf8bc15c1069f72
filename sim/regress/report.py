"""What moved, for a terminal, a pull request (Markdown) and a CI server (JUnit XML)."""

import math
import re
from collections.abc import Sequence
from xml.etree import ElementTree as Xml

import pandas as pd

from sim.regress.judge import Verdict, frame
from sim.show import tables

NUM_ROW = 12  # of a scenario, in the terminal
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def text(verdicts: Sequence[Verdict]) -> str:
    """One line a scenario that holds; what moved and why of one that does not."""
    lines = []
    for one in verdicts:
        if one.holds:
            lines += [f"{one.name}: {_num(one)} results as recorded", *_new(one)]
            continue
        lines += [
            f"{one.name}: {len(one.moved)} of {_num(one)} results moved",
            *_indent(_table(one, NUM_ROW)),
        ]
        if len(one.moved) > NUM_ROW:
            lines.append(f"  and {len(one.moved) - NUM_ROW} more results")
        lines += [f"  because: {cause}" for cause in one.causes or ["nothing that is kept beneath the results moved"]]
        lines += _new(one)
    return "\n".join(lines)


def markdown(verdicts: Sequence[Verdict]) -> str:
    """A heading, a table and the causes of each scenario that moved, and what no baseline guards yet."""
    held, new = sum(one.holds for one in verdicts), any(one.new for one in verdicts)
    lines = [f"## Simulated results: {held} of {len(verdicts)} scenarios as recorded"]
    for one in verdicts:
        if not one.holds:
            lines += ["", f"### {one.name}", "", tables.markdown(_rows(one)), ""]
            lines += [f"- {cause}" for cause in one.causes]
    lines += ["", *(f"- {one.name}: {said.strip()}" for one in verdicts for said in _new(one))] if new else []
    return "\n".join(lines) + "\n"


def junit(verdicts: Sequence[Verdict]) -> bytes:
    """A test suite as CI servers read it: a test case a scenario, a failure that names what moved and why. No time of
    day and no duration stands in it, so that two runs give the same bytes."""
    failed = sum(not one.holds for one in verdicts)
    counts = {"tests": str(len(verdicts)), "failures": str(failed), "errors": "0"}
    root = Xml.Element("testsuites", counts)
    suite = Xml.SubElement(root, "testsuite", {"name": "ridgeline regress", **counts, "skipped": "0"})
    for one in verdicts:
        case = Xml.SubElement(suite, "testcase", {"classname": "regress", "name": _clean(one.name), "time": "0"})
        if not one.holds:
            names = ", ".join(name for name, _, _ in one.moved[:4])
            message = f"{len(one.moved)} results moved: {names}; {one.causes[0] if one.causes else 'no cause found'}"
            failure = Xml.SubElement(case, "failure", {"type": "moved", "message": _clean(message)})
            failure.text = _clean("\n".join([*_table(one, len(one.moved)), *one.causes]))
        if one.new:
            Xml.SubElement(case, "system-out").text = _clean(_new(one)[0].strip())
    Xml.indent(root)
    return bytes(Xml.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _num(one: Verdict) -> int:
    """How many results were compared."""
    return len(one.now.metric) - len(one.new)


def _new(one: Verdict) -> list[str]:
    """What the baseline does not know, in a line."""
    return [f"  new since it was recorded, and not compared: {', '.join(one.new)}"] if one.new else []


def _rows(one: Verdict) -> pd.DataFrame:
    """What moved, the most first."""
    found = frame([one]).drop(columns="entry").astype(object)
    size = found["change"].astype(float).abs().fillna(math.inf)
    found = found.loc[size.sort_values(ascending=False, kind="stable").index]
    found["change"] = ["-" if pd.isna(value) else f"{value:+.3%}" for value in found["change"]]
    for name in ("baseline", "now"):
        found[name] = ["-" if pd.isna(value) else f"{value:,.7g}" for value in found[name]]
    return found


def _table(one: Verdict, num: int) -> list[str]:
    return tables.table(_rows(one).head(num)).splitlines()


def _indent(lines: Sequence[str]) -> list[str]:
    return ["  " + line for line in lines]


def _clean(said: str) -> str:
    """Without what XML cannot hold."""
    return _NOT_XML.sub("?", said)
