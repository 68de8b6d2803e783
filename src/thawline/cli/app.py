"""The verbs of the command line. What they need is imported when they run: `thawline --help` waits for no library."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from thawline.cli import runs, show, store
from thawline.cli.show import say
from thawline.version import __version__

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fine-tune pretrained models with labelled data, and pay only for what is trained.",
    epilog="Start with: thawline quickstart",
)

Settings = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", show_default=False, help="settings, such as train.epochs=3")
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", show_default=False, help="the folder of a run, such as runs/reviews-1")]
DataPath = Annotated[str, typer.Argument(metavar="DATA", show_default=False, help="a table, or a folder with one per split")]
OutputFolder = Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help="the run's folder, a new one")]


def _version(asked: bool) -> None:
    if asked:
        print(f"thawline {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Show what there is where no command is named."""
    del version
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def train(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA|RECIPE", show_default=False, help="a table, a folder with one per split, or a .yaml recipe"
        ),
    ],
    settings: Settings = None,
    output: OutputFolder = None,
) -> None:
    """Fine-tune a model on labelled data, measure it, and keep it in a folder (runs/<data>-<n>)."""
    runs.train(runs.recipe_of(data, settings, output))


@app.command()
def plan(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA|RECIPE", show_default=False, help="a table, a folder with one per split, or a .yaml recipe"
        ),
    ],
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the plan as JSON and nothing else on stdout")] = False,
) -> None:
    """Say what training would take (time, memory, disk) and what would learn; measures a few steps and trains nothing."""
    from thawline.cli.plan import show_plan

    show_plan(runs.recipe_of(data, settings), shlex.join([data, *(settings or ())]), as_json=as_json)


@app.command()
def features(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL|RUN", show_default=False, help="a hub name, a folder, package:NAME, or a run's folder"),
    ],
    data: DataPath,
    settings: Settings = None,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="F.parquet", show_default=False, help="the file to write")
    ] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="K", help="what goes into this stage, by number or name; default: the head")
    ] = None,
    pool: Annotated[str, typer.Option("--pool", help="mean, first or last of an example's positions, or none: all")] = "mean",
) -> None:
    """Write what a model's lower stages make of each example, as vectors for a model of your own."""
    from thawline.cli.features import write_features

    write_features(model, data, settings or (), output=output, stage=stage, pool=pool)


@app.command()
def evaluate(
    run: RunPath,
    data: Annotated[
        str | None, typer.Option("--data", metavar="FILE", help="other labelled data to measure the model on")
    ] = None,
    *,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="measure it again with inputs mistyped, cut, blurred, noisy ...")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the metrics as JSON and nothing else on stdout")] = False,
) -> None:
    """Show the metrics of a run, or measure its model on other labelled data; the report shows what stands behind them."""
    from thawline.cli.evaluate import evaluate

    evaluate(run, data, robustness=robustness, as_json=as_json)


@app.command()
def compare(
    several: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", show_default=False, help="folders of finished runs")],
    data: Annotated[str | None, typer.Option("--data", metavar="FILE", help="labelled data to measure all of them on")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print all of it as JSON and nothing else on stdout")] = False,
) -> None:
    """Say how runs differ on the test set they share: paired intervals and tests, which examples changed, time and size."""
    from thawline.cli.compare import compare

    compare(several, as_json=as_json, data=data)


@app.command()
def predict(
    run: RunPath,
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", show_default=False, help="what to answer for; - reads standard input")
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="F.jsonl|F.csv", help="instead of stdout")] = None,
) -> None:
    """Answer for the rows of a table, or for lines of text or JSON objects on standard input, in the order given."""
    from thawline.cli.stream import write_answers

    write_answers(run, file, output)


@app.command()
def resume(run: RunPath) -> None:
    """Finish an interrupted run, to the same bytes as if it had not been interrupted."""
    folder = runs.folder_of(run)
    if folder.finished:
        say(f"{run} is finished, so there is nothing to resume.")
        show.what_next(run)
        return
    from thawline.run.folder import resumable

    with resumable(folder):
        from thawline.run.carry_out import resume

        resume(folder, say)
    runs.show_run(folder)


@app.command()
def report(
    run: RunPath,
    show_it: Annotated[bool, typer.Option("--open/--no-open", help="open it in a browser")] = True,
) -> None:
    """Write the report of a finished run anew, as one page that needs no network, and open it."""
    from thawline.run.finish import write_report

    folder = runs.folder_of(run)
    runs.finished(folder)
    path = write_report(folder).absolute()
    say(f"The report is {path}.")
    if show_it:
        typer.launch(path.as_uri())


@app.command()
def check(
    data: Annotated[
        str,
        typer.Argument(metavar="DATA|RUN", show_default=False, help="a table, a folder with one per split, or a run's folder"),
    ],
    settings: Settings = None,
    *,
    labels: Annotated[
        Path | None, typer.Option("--labels", metavar="F.csv", help="write labels that look wrong and near duplicates there")
    ] = None,
    curve: Annotated[bool, typer.Option("--curve", help="say what twice as many labels would bring")] = False,
) -> None:
    """Look at data as training would: columns, splits, what is odd with it; no model is needed but for --labels and --curve."""
    from thawline.cli.check import check

    check(data, settings, labels=labels, curve=curve)


@app.command()
def pick(
    run: RunPath,
    file: Annotated[str, typer.Argument(metavar="FILE", show_default=False, help="examples without labels")],
    *,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="F.csv", show_default=False, help="the file to write, what to label first on top"
        ),
    ],
    most: Annotated[int, typer.Option("--most", min=1, metavar="N", help="how many to pick")] = 100,
) -> None:
    """Pick what to label next: examples of a file of which the model is least decided, and not all of one sort."""
    from thawline.cli.pick import pick

    pick(run, file, output, most=most)


@app.command()
def init(
    data: DataPath,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="F.yaml", help="the file to write")] = Path("recipe.yaml"),
) -> None:
    """Write a recipe for this data, with every setting, its default and what it means; nothing is overwritten."""
    from thawline.cli.template import write_template

    write_template(data, output)
    say(f"{output} is written. Change what you like, then type: thawline train {output}")


@app.command()
def doctor() -> None:
    """Say what this machine has, what is installed, and what would help."""
    from thawline.cli.doctor import doctor

    doctor()


app.add_typer(store.verbs, name="store")


@app.command()
def quickstart(settings: Settings = None, output: OutputFolder = None) -> None:
    """Fine-tune a real model on real tweets, without a network, in some minutes: train, measure, predict."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the hub's library is imported
    from thawline.run.quickstart import TEXTS, recipe_for_quickstart

    recipe = recipe_for_quickstart(settings or (), output)
    say("Training MiniLM, a pretrained encoder, to tell whether a tweet is negative, neutral or positive.")
    folder = runs.train(recipe, next_steps=False)
    from thawline.run.api import Run

    show.result("", show.answers_table(TEXTS, Run(folder).predict(list(TEXTS))))
    show.what_next(folder)
