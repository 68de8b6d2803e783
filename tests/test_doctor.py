"""What `thawline doctor` finds, shows and advises."""

import json
from pathlib import Path
from typing import Any

import pytest

from thawline.cli.doctor import advice, doctor, doctor_facts, measure_matmul, missing_by_extra, rows
from thawline.version import __version__


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    return doctor_facts()


def test_facts_are_plain_values(facts: dict[str, Any]) -> None:
    assert json.loads(json.dumps(facts)) == facts
    assert facts["versions"]["thawline"] == __version__
    assert facts["versions"]["torch"]
    assert facts["threads"]["used"] >= 1
    assert facts["devices"][-1] == "cpu"
    assert 0 < facts["memory"]["available"] <= facts["memory"]["machine_total"]


def test_every_fact_has_a_row(facts: dict[str, Any]) -> None:
    shown = dict(rows(facts))
    assert all(shown.values())
    assert "torch" in shown["versions"]
    assert "GFLOP/s" in shown["matrix product"]


def test_it_prints(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    with (cache / "features").open("wb") as file:
        file.truncate(200_000_000)  # takes no room on the disk
    doctor()
    printed = capsys.readouterr().out
    assert "THAWLINE_CACHE" in printed
    assert "0.2 GB" in printed
    assert not {"[bold]", "None", "nan"} & set(printed.split())


def good(facts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Facts of a machine on which nothing is worth saying, with some of them changed."""
    return facts | {
        "matmul": {"float32": 100.0, "bfloat16": 100.0},
        "threads": {"used": 2, "usable": 2},
        "devices": ["cpu"],
        "built_for_cuda": False,
        "memory": {"available": 8e9, "machine_available": 8e9, "machine_total": 16e9},
        "disk": {"cache": 50e9, "here": 50e9},
        "cache": {"folder": "/cache", "bytes": 0, "writable": True},
        "extras": {"quickstart": []},
        "environment": {},
        **changes,
    }


def test_no_advice_where_all_is_well(facts: dict[str, Any]) -> None:
    assert advice(good(facts)) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"extras": {"quickstart": ["a==1", "b>=2"]}}, "pip install a==1 'b>=2'"),
        ({"matmul": {"float32": 100.0, "bfloat16": 180.0}}, "1.8 times as fast"),
        ({"matmul": {"float32": 100.0, "bfloat16": 5.0}}, "0.05 times the speed"),
        ({"built_for_cuda": True}, "no GPU"),
        ({"threads": {"used": 1, "usable": 8}, "environment": {"OMP_NUM_THREADS": "1"}}, "1 of 8"),
        ({"memory": {"available": 3e9, "machine_available": 8e9, "machine_total": 16e9}}, "leaves 3.0 GB"),
        ({"memory": {"available": 1e9, "machine_available": 1e9, "machine_total": 16e9}}, "lower train.batch_size"),
        ({"disk": {"cache": 1e9, "here": 1e9}}, "THAWLINE_CACHE to a larger disk"),
        ({"cache": {"folder": "/no", "bytes": 0, "writable": False}}, "/no cannot be written to"),
        ({"environment": {"HF_HUB_OFFLINE": "1"}}, "HF_HUB_OFFLINE is set"),
    ],
)
def test_advice_is_one_sentence_for_one_thing(facts: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    (line,) = advice(good(facts, **changes))
    assert words in line


def test_matmul_is_measured_in_time() -> None:
    speed = measure_matmul(size=64, budget=0.01)
    assert set(speed) == {"float32", "bfloat16"}
    assert min(speed.values()) > 0


def test_extras_with_pins_bounds_and_markers() -> None:
    wanted = ["torch>=2", 'pytest>=8.3; extra == "test"', 'nowhere-1==0.1 ; python_version >= "3.9" and extra == "quick-start"']
    assert missing_by_extra(wanted) == {"test": [], "quick-start": ["nowhere-1==0.1"]}
