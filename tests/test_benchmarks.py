"""benchmarks/: every script starts, tables come out of rows, and what the scripts compute beside the training is right."""

import importlib
import json
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
ROWS = sorted(path.stem for path in (FOLDER / "speed").glob("*.py") if path.stem != "side_by_side")


@pytest.fixture(autouse=True)
def benchmarks(tmp_path, monkeypatch):
    """The folder of results is empty, and modules of the benchmarks do not outlive the test."""
    before = set(sys.modules)
    monkeypatch.setenv("THAWLINE_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(sys, "path", [str(FOLDER / "speed"), str(FOLDER), *sys.path])
    yield
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


def finished(script: ModuleType, repeats: int) -> list[dict]:
    """Made-up rows of a script's runs: Thawline takes 10 s, the Trainer 50 s at its default and 20 s at its best."""
    runs = script.ROW.runs(repeats) if hasattr(script, "ROW") else script.runs(repeats)
    seconds = {"thawline": 10.0, "trainer-default": 50.0, "trainer-best": 20.0}
    facts = {"load_before": 0.1, "threads": 2, "accuracy": 0.9, "examples_per_second": 200.0, "whole_seconds": 30.0}
    return [
        run
        | {"seconds": seconds[run["tool"]] + run["seed"], "peak_memory_mb": 100 * seconds[run["tool"]] ** 0.1}
        | {"tokens_per_second": 4000.0, "product_gflops": 400.0, "step_ms": 100.0}
        | facts
        for run in runs
    ]


@pytest.mark.parametrize("name", ROWS)
def test_a_script_starts_where_nothing_is_measured(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--table"])
    runpy.run_path(str(FOLDER / "speed" / f"{name}.py"), run_name="__main__")
    assert "nothing is measured yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("full", ["4.64 (≥ 4: yes)", "1.91 (≥ 1.6: yes)", "0.85 (≤ 0.8: no)"]),
        ("head", ["46.36 (≥ 30: yes)", "19.09 (≥ 15: yes)"]),
        ("gradual", ["18.55 (≥ 4.5: yes)", "7.64 (≥ 1.8: yes)"]),
        ("adaptive", ["13.91 (≥ 5: yes)", "5.73 (≥ 2: yes)"]),
        ("multilingual", ["4.64 (≥ 4: yes)", "0.85 (≤ 0.5: no)"]),
    ],
)
def test_medians_stand_beside_targets(name, shown, monkeypatch, capsys):
    """Medians of 10, 11, 12 and 50, 51, 52 and 20, 21, 22 seconds; the Trainer's of one epoch; no other processor's."""
    results, made = script("results"), script(name)
    results.FOLDER.mkdir(exist_ok=True)
    other = [row | {"seconds": 1000 * row["seconds"], "processor": "another"} for row in finished(made, 3)]
    rows = [*other, *(row | {"processor": results.processor()} for row in finished(made, 3))]
    (results.FOLDER / "speed.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    monkeypatch.setattr(sys, "argv", [name, "--table"])
    runpy.run_path(str(FOLDER / "speed" / f"{name}.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert all(cell in out for cell in shown), out
    assert "load before a run 0.1" in out


def test_nothing_is_carried_out_in_the_name_of_another_processor(monkeypatch, capsys):
    """Its rows are only shown: what ran here would be written down as having run there."""
    monkeypatch.setattr("subprocess.run", lambda *words, **more: pytest.fail("a run was started"))
    monkeypatch.setattr(sys, "argv", ["full", "--processor", "another"])
    runpy.run_path(str(FOLDER / "speed" / "full.py"), run_name="__main__")
    assert "nothing is measured yet" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["rates", "growth", "first_step"])
def test_other_tables_come_out_of_rows(name):
    made = script(name)
    lines = made.table(finished(made, 2)).splitlines()
    assert len(lines) > 3 and "–" not in "".join(lines[2:]), lines


def test_useful_flops():
    flops = script("flops")
    config = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6}
    assert flops.layer_parameters(config) == 10_646_784
    row = flops.shares([{"tokens_per_second": 4000.0, "product_gflops": 400.0}], 10**7)[0]
    assert row["share"] == pytest.approx(0.6)
    assert "(≥ 0.58: yes)" in flops.table([made | {"share": 0.6} for made in finished(flops, 1)])


def test_differences_are_paired_by_seed():
    quality = script("quality")
    one = quality.COMPARISONS[0]
    accuracies = [(0.90, 0.89), (0.88, 0.88), (0.90, 0.88)]
    rows = [
        side | {"accuracy": accuracy, "load_before": 0.1}
        for sides, pair in zip(one.sides(3), accuracies, strict=True)
        for side, accuracy in zip(sides, pair, strict=True)
    ]
    assert quality.paired(one, rows[:-1]) == [(90.0, 89.0), (88.0, 88.0)]
    assert "+1.00 ± 0.58 (±0.5: no)" in quality.table(rows, (one,))


def test_tasks_stand_beside_their_targets():
    tasks = script("tasks")
    runs = tasks.wanted(list(tasks.SETTINGS), ["thawline", "trainer-best"], seeds=2, strategy="full")
    assert set(tasks.SETTINGS) == set(tasks.METRICS) == set(tasks.TARGETS) == set(script("peer_tasks").PEERS)
    lost = {"thawline": 0.02, "trainer-best": 0.0}
    made = [
        run
        | dict.fromkeys(tasks.METRICS[run["task"]], 0.5 - lost[run["tool"]] * run["seed"])
        | {"seconds": 10.0, "peak_memory_mb": 100.0, "timed": run["seed"] == 0, "processor": "x86_64"}
        for run in runs
    ]
    lines = tasks.table(made).splitlines()
    assert any("f1 49.00 ± 1.41" in line and "thawline" in line for line in lines)
    assert "token-classification, full: f1 -1.00 over 2 seeds (no more than 1 F1 below the Trainer: yes)" in lines
    worse = [row | {"f1": row["f1"] - 0.001 * (row["tool"] == "thawline")} for row in made if "f1" in row]
    assert "f1 -1.10 over 2 seeds (no more than 1 F1 below the Trainer: no)" in tasks.table(worse)
    assert tasks.table(made[:1]).count("over") == 0, "one side alone is not compared"


def test_words_without_a_piece_stay_outside_for_the_peer(tmp_path):
    peer_tasks = script("peer_tasks")
    assert peer_tasks.first_pieces([None, 0, 0, 2, 3, 3, None]) == [None, 0, None, 2, 3, None, None]
    (tmp_path / "test.conll").write_text("In\tO\nOslo\tB-loc\n\nBob\tB-per\n")
    assert peer_tasks.conll(tmp_path / "test.conll") == ([["In", "Oslo"], ["Bob"]], [["O", "B-loc"], ["B-per"]])
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "test.jsonl").write_text('{"tags": ["O", "B-loc"]}\n{"tags": ["O"]}\n')
    found = peer_tasks.tags_of_run(tmp_path, tmp_path)
    assert (found["precision"], found["recall"], round(found["f1"], 3)) == (1.0, 0.5, 0.667)


def test_operators_fall_into_kinds():
    where = script("where")
    assert where.kind_of(["aten::copy_", "aten::_foreach_copy_"]) == "optimiser"
    assert where.kind_of(["aten::addmm", "aten::linear"]) == "matrix products"
    assert where.kind_of(["aten::bmm", "aten::matmul"]) == "attention"
    assert where.kind_of(["aten::empty", "aten::native_dropout", "aten::scaled_dot_product_attention"]) == "dropout"
    assert where.kind_of(["aten::gelu"]) == where.OTHER
    shares = dict.fromkeys([*where.KINDS, where.OTHER, where.NONE], 0.125)
    rows = [run | {"shares": shares, "step_ms": 100.0, "load_before": 0.1} for run in where.runs(10)]
    assert where.table(rows).count("12.5") == 2 * len(shares)


def test_padding_is_a_line_for_each_data_set():
    padding = script("padding")
    rows = [run | {"padded_ms": 250.0, "left_out_ms": 200.0, "load_before": 0.1} for run in padding.runs(10)]
    table = padding.table(rows)
    assert table.count("250") == table.count("200") == 2 and "banking77" in table


def test_a_run_is_carried_out_once_and_kept_whole(tmp_path):
    """The command that is carried out here stands for a training; it says what it was given."""
    alternate, results = script("alternate"), script("results")
    fake = tmp_path / "fake.py"
    fake.write_text(
        "import json, os, sys\n"
        "cache = os.environ['THAWLINE_CACHE']\n"
        "known = len(os.listdir(cache))\n"
        "open(f'{cache}/{known}', 'w').close()\n"
        "json.dump({'seconds': 1.0, 'known': known, 'threads': 1, 'load_before': 0.5}, open(sys.argv[2], 'w'))\n"
    )
    runs = [{"seed": 0, "learning_rate": [1.0, 2.0], "store": store} for store in ("empty", "filled")]
    alternate.fill("fake", runs, script=fake)
    alternate.fill("fake", runs, script=fake)
    rows = results.finished("fake")
    assert [row["known"] for row in rows] == [0, 1]
    assert all(row["threads"] == 1 and row["load_before"] == 0.5 and row["timed"] for row in rows)
    assert {"torch", "transformers", "thawline", "processor"} <= set(rows[0])


@pytest.mark.parametrize(("examples", "last"), [(2, "b"), (5, "a 4")])
def test_data_is_cut_or_repeated(examples, last, tmp_path, monkeypatch):
    one_run = script("one_run")
    source = tmp_path / "data" / "made"
    source.mkdir(parents=True)
    (source / "train.csv").write_text("text,label\na,x\nb,x\nc,y\nd,y\n")
    (source / "test.csv").write_text("text,label\nd,x\n")
    monkeypatch.setattr(one_run, "SHARED", tmp_path)
    (folder := tmp_path / "cut").mkdir()
    made = one_run.data_of({"data": "made", "examples": examples}, folder)
    header, *lines = (made / "train.csv").read_text().splitlines()
    assert header == "text,label" and len(lines) == examples and lines[-1].startswith(last)
    assert one_run.data_of({"data": "made"}, folder) == source
    assert len((made / "test.csv").read_text().splitlines()) == 2


def test_each_speaker_is_left_out_once(tmp_path, monkeypatch):
    speakers = script("speakers")
    monkeypatch.setattr(speakers, "SHARED", tmp_path)
    (source := tmp_path / "data" / speakers.DATA).mkdir(parents=True)
    rows = [f"{name}{n}.wav,{n},{name}" for name in speakers.SPEAKERS for n in range(2)]
    (source / "manifest.csv").write_text("\n".join(["path,label,speaker", *rows]))
    (folder := tmp_path / "one").mkdir()
    train, test = ((speakers.split(folder, "theo") / f"{name}.csv").read_text().splitlines()[1:] for name in ("train", "test"))
    assert len(test) == 2 and all("theo" in line for line in test)
    assert len(train) == 10 and not any("theo" in line for line in train)
    runs = speakers.wanted(["head", "full"], 1)
    made = [run | {"accuracy": 0.9 if run["strategy"] == "head" else 0.95} for run in runs]
    assert "full minus head: +5.00 (≥ 0: yes)" in speakers.table(made)
    assert "–" in speakers.table(made[:-1]) and "mean of 5" in speakers.table(made[:-1])
