"""The report: one page of HTML that needs no network and no server."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import cache
from importlib.resources import files

from thawline.report import analyses, views
from thawline.report.blocks import Num, Paragraph, Points, Section
from thawline.report.bounded import bounded
from thawline.report.draw import block, section, words
from thawline.report.facts import RunFacts
from thawline.report.html import Html, element, join
from thawline.report.summary import Summary, summarize
from thawline.report.words import BASELINES, data_name, greater, main_of, measured, metric_name, metrics_of, model_name
from thawline.version import __version__

View = Callable[[RunFacts], Section | None]

_BEFORE: tuple[View, ...] = (views.metrics, views.training)
_AFTER: tuple[View, ...] = (views.repeats, views.trials, views.plan, views.data, views.recipe)


def render(facts: RunFacts) -> str:
    """Return the report of a run as HTML. It depends on `facts` alone: equal facts give equal pages."""
    before, after = ([one for view in some if (one := view(facts)) is not None] for some in (_BEFORE, _AFTER))
    sections = list(bounded([*before, *analyses.sections(facts), *after]))
    title = f"{model_name(facts)} on {data_name(facts)}"
    links = [element("li", element("a", one.title, href=f"#{one.name}")) for one in sections]
    body = element(
        "body",
        element("a", "Skip to the report", href="#main", class_="skip"),
        element("header", element("h1", title), element("p", f"Report of the run {facts.name}", class_="quiet")),
        element("nav", element("ul", element("li", element("a", "Summary", href="#summary")), links), aria_label="Sections"),
        element("main", _summary(facts, summarize(facts)), map(section, sections), id="main"),
        element("footer", element("p", f"Made by Thawline {__version__} from the run's files; every number is in them.")),
        element("script", _raw("script.js")),
    )
    return f"<!doctype html>\n{element('html', _head(title), body, lang='en')}\n"


def _head(title: str) -> Html:
    # The page may do what its own two blocks say, and nothing else: no network, no other script, whatever a label holds.
    allowed = f"style-src '{_hash('style.css')}'; script-src '{_hash('script.js')}'; img-src data:; media-src data:"
    policy = f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{title} · Thawline"),
        element("style", _raw("style.css")),
    )


def _summary(facts: RunFacts, found: Summary) -> Html:
    tiles = _tiles(facts)
    mind = [*found.warnings, *found.findings]
    parts = [
        element("h2", "Summary", id="summary-title"),
        block(Paragraph(found.trained, "lead")),
        element("div", tiles, class_="tiles") if tiles else None,
        [block(Paragraph(sentence)) for sentence in found.quality],
        block(Points("Mind", mind, "warnings")) if mind else None,
        block(Points("What to do next", found.next, "next")),
    ]
    return element("section", parts, id="summary", aria_labelledby="summary-title")


def _tiles(facts: RunFacts) -> list[Html]:
    """Return the two metrics that matter most with their intervals, and what the best baseline has."""
    main = main_of(facts)
    if main is None:
        return []
    tiles = []
    for name in [main, *(name for name in metrics_of(facts.section) if name != main)][:2]:
        value = measured(facts, name)
        ends = words(["95 % interval ", value.ends[0], " to ", value.ends[1]]) if value.ends else Html("no interval")
        tiles.append(_tile(metric_name(name), words([value.number]), ends))
    found = {name: entry[main] for name, entry in facts.section.get("baseline", {}).items() if main in entry}
    if found:
        best = (max if greater(main) else min)(found, key=found.__getitem__)
        number = Num(found[best], key=f"metrics.{facts.measured}.baseline.{best}.{main}")
        tiles.append(_tile(f"{metric_name(main)} of a baseline", words([number]), join(BASELINES.get(best, best))))
    return tiles


def _tile(name: str, value: Html, below: Html) -> Html:
    return element("div", element("p", name), element("p", value, class_="large"), element("p", below, class_="quiet"))


@cache
def _raw(name: str) -> Html:
    return Html(files("thawline.report").joinpath(name).read_text("utf-8").strip())


@cache
def _hash(name: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(_raw(name).encode()).digest()).decode()}"
