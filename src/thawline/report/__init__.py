"""Reports of runs: a page for people, and the model card for hubs, both from the run's files alone."""

from thawline.report.card import card
from thawline.report.facts import RunFacts, facts_of
from thawline.report.page import render

__all__ = ["RunFacts", "card", "facts_of", "render"]
