"""Where a run may be cut is verified on its own model and data, once."""

from pathlib import Path
from typing import Any

import pytest
import torch

from families import folder_of
from test_training import options, silent, table
from thawline.run import below
from thawline.run.api import recipe_for
from thawline.run.assemble import assemble
from thawline.run.prepare import prepare


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The lines of each verification, as they are carried out."""
    done = list[list[int]]()

    def watched(prepared: Any, assembled: Any, lines: list[int], verify: Any = below._verdicts) -> Any:
        done.append(lines)
        return verify(prepared, assembled, lines)

    monkeypatch.setattr(below, "_verdicts", watched)
    return done


def cuts(*, rows: int = 40, change: bool = False, **more: Any) -> tuple[int, ...]:
    texts, labels = table()
    prepared = prepare(recipe_for((texts[:rows], labels[:rows]), **options(**more)), silent)
    assembled = assemble(prepared, silent)
    if change:
        with torch.no_grad():
            next(assembled.model.parameters()).add_(1e-3)
    return below.cuts_of(prepared, assembled, say=silent)


def test_a_verdict_is_kept_for_the_same_model_data_and_lines(verified: list[list[int]]) -> None:
    assert cuts(strategy="freeze(2)") == cuts(strategy="freeze(2)") == (2,)
    assert cuts(strategy="layerwise(freeze(2), decay=0.9)") == (2,)
    assert verified == [[2]]


@pytest.mark.parametrize("other", [{"strategy": "freeze(3)"}, {"rows": 32}, {"change": True}], ids=str)
def test_another_line_other_data_or_weights_are_verified_anew(other: dict[str, Any], verified: list[list[int]]) -> None:
    cuts(strategy="freeze(2)")
    cuts(**{"strategy": "freeze(2)", **other})
    assert len(verified) == 2


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"9": null}'])
def test_a_torn_or_foreign_verdict_is_found_anew(torn: str, cache: Path, verified: list[list[int]]) -> None:
    cuts(strategy="freeze(2)")
    (path,) = cache.rglob("verdicts/*.json")
    path.write_text(torn)
    assert cuts(strategy="freeze(2)") == (2,)
    assert len(verified) == 2 and path.read_text() == '{"2": null}'


def test_other_batches_are_verified_anew(verified: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    cuts(strategy="freeze(2)")
    cuts(strategy="freeze(2)", max_length=8)
    monkeypatch.setattr(below, "_padding", lambda prepared: "left")
    cuts(strategy="freeze(2)")
    assert len(verified) == 3


def test_code_of_a_models_own_counts_and_that_of_libraries_does_not() -> None:
    own = type("Layer", (torch.nn.Linear,), {"__module__": "transformers_modules.mine.0123abc.modeling"})
    changed = type("Layer", (torch.nn.Linear,), {"__module__": "transformers_modules.mine.4567def.modeling"})
    assert len({below._kind(own), below._kind(changed), below._kind(torch.nn.Linear)}) == 3
    assert below._kind(torch.nn.Linear) == "Linear"


def test_narrow_examples_at_the_front_do_not_stand_in_the_way(verified: list[list[int]]) -> None:
    texts, labels = table()
    rows = ["a", "", *texts], [*labels[:2], *labels]
    prepared = prepare(recipe_for(rows, **options(model=str(folder_of("llama")), strategy="freeze(2)")), silent)
    assert int(prepared.sets["train"].lengths[below._traced(prepared.sets["train"])].min()) >= 3
    assert below.cuts_of(prepared, assemble(prepared, silent), say=silent) == (2,)
