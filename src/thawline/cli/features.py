"""`thawline features`: vectors for a model of one's own, written to a Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from thawline.cli.show import progress, say
from thawline.errors import UserError


def write_features(
    model: str, data: str, settings: Sequence[str], *, output: Path | None, stage: str | None, pool: str
) -> None:
    """Write the features of data to `output`, which must not be there yet; raises UserError before anything is computed."""
    if output is None:
        raise UserError("--output is missing; expected the file to write, such as --output features.parquet.")
    if output.suffix.lower() != ".parquet":
        raise UserError(f"Features are written as .parquet, and {str(output)!r} is not; name it {output.stem}.parquet.")
    if output.exists():
        raise UserError(f"{output} is there already, and nothing is written over; give another --output.")
    from thawline.run.features import Wanted, features_of, write

    found = features_of(model, data, settings, wanted=Wanted(stage, pool), say=say)
    missing = found.missing
    with progress("computing", missing) as told:
        found.fill(lambda done, total: told(done))
    with progress("writing", len(found)) as told:
        write(found, output, told)
    say(f"Features of {len(found):,} examples are in {output}: {missing:,} computed, {len(found) - missing:,} from the store.")
