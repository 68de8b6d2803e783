"""From what is given to the splits of a run: those that are missing, smaller ones, and what is held back for calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thawline.data import labels as labelling
from thawline.data import split as splitting
from thawline.data.columns import Columns
from thawline.data.prepare import Part
from thawline.errors import DataError
from thawline.types import Finding

if TYPE_CHECKING:
    from thawline.data.dataset import Options

Parts = dict[str, Part]
LEAST_VALIDATION = 200
"""Validation examples from which on a part is held back for calibration."""
VALIDATION_SIZE, TEST_SIZE = 0.1, 0.2


def method_of(columns: Columns, options: Options) -> str:
    """Return how splits are made: by `data.split`, or as suits the labels."""
    return ("stratified" if columns.problem == labelling.SINGLE else "random") if options.split == "auto" else options.split


def strata_of(columns: Columns) -> tuple[str, ...]:
    """Return the classes that are kept in proportion; none where an example has not one class."""
    return columns.labels if columns.problem == labelling.SINGLE else ()


def divided(parts: Parts, columns: Columns, options: Options) -> tuple[Parts, list[Finding]]:
    """Make the splits that are not given: both from one table; validation, and test if its size is set, from train."""
    one = "all" in parts
    if one and options.split == "given":
        raise DataError("data.split is given, but the data is one table without splits; expected a folder with train, test, …")
    sizes = {
        "test": (TEST_SIZE if one else 0.0) if options.test_size is None else options.test_size,
        "validation": VALIDATION_SIZE if options.validation_size is None else options.validation_size,
    }
    makes = options.split != "given"
    sizes = {split: size for split, size in sizes.items() if makes and size and split not in parts}
    whole = parts.pop("all") if one else parts.pop("train")
    findings = []
    if "test" not in parts and "test" not in sizes and options.folds is None:
        findings.append(
            Finding(
                "note", "split", "there is no test split, so nothing final is measured (data.test_size makes one from train)"
            )
        )
    if not sizes:
        return {"train": whole, **parts}, findings
    method = method_of(columns, options)
    positions, notes = splitting.make(whole, method, sizes, classes=strata_of(columns), seed=options.seed)
    made = {split: whole.select(rows) for split, rows in positions.items()}
    for split in sizes:
        of = f"{len(made[split])} of {len(whole)} rows of {'the data' if one else 'train'}"
        text = f"{split}: {of}, {method} (no {split} split was given)"
        findings.append(Finding("note", "split", text))
    findings += [Finding("note", "split", note) for note in notes]
    everything = {**made, **parts}
    return {split: everything[split] for split in ("train", "validation", "test") if split in everything}, findings


def held_back(parts: Parts, columns: Columns, options: Options) -> tuple[Parts, list[Finding]]:
    """Take a calibration split from a validation split that is large enough: what promises are made by chose nothing."""
    part, labelled = parts.get("validation"), columns.problem in (labelling.SINGLE, labelling.MULTI)
    if not labelled or not options.calibration_size or part is None or len(part) < LEAST_VALIDATION:
        return parts, []
    # Drawn as it comes, so that it is a sample of what will be asked: shares of classes would leave the rare ones out.
    method = options.split if options.split.startswith("group(") else "random"
    try:
        positions, _ = splitting.make(part, method, {"calibration": options.calibration_size}, seed=options.seed)
    except DataError as error:
        return parts, [Finding("note", "split", f"calibration: nothing of validation is held back for it: {error}")]
    text = f"calibration: {len(positions['calibration'])} of {len(part)} rows of validation, {method}; they choose nothing"
    held = {"validation": part.select(positions["train"]), "calibration": part.select(positions["calibration"])}
    return {**parts, **held}, [Finding("note", "split", text)]


def sampled(parts: Parts, columns: Columns, options: Options) -> tuple[Parts, list[Finding]]:
    """Cut the splits down to data.max_train_samples and data.max_eval_samples."""
    kept, findings = {}, []
    for split, part in parts.items():
        key = "max_train_samples" if split == "train" else "max_eval_samples"
        most: int | None = getattr(options, key)
        if most is None or most >= len(part):
            kept[split] = part
            continue
        kept[split] = part.select(splitting.sample(part, most, classes=strata_of(columns), seed=options.seed))
        findings.append(Finding("note", "sample", f"{split}: {most} of {len(part)} rows are used (data.{key})"))
    return kept, findings
