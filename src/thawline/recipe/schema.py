"""The sections and keys of a recipe: types, ranges, defaults, and the words that explain them. Nothing here is said twice.

Comments of `thawline init`, the table in docs/guides/recipe.md and the messages about faults are all made from these fields.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    Strict,
    ValidationInfo,
    field_validator,
    model_validator,
)

from thawline.recipe import forms
from thawline.tasks.base import TASKS
from thawline.train.optimizers import OPTIMIZERS
from thawline.train.schedule import SCHEDULES

_Whole = Annotated[int, Strict(), BeforeValidator(forms.whole)]
_Number = Annotated[float, Strict(), BeforeValidator(forms.number)]
Count = Annotated[_Whole, Field(ge=1)]
Several = Annotated[_Whole, Field(ge=2)]
Steps = Annotated[_Whole, Field(ge=0)]
Seed = Annotated[_Whole, Field(ge=0, le=2**32 - 1)]
Positive = Annotated[_Number, Field(gt=0)]
NotNegative = Annotated[_Number, Field(ge=0)]
Share = Annotated[_Number, Field(ge=0, le=1)]
BelowOne = Annotated[_Number, Field(ge=0, lt=1)]
Flag = Annotated[bool, Strict()]
PathText = Annotated[str, BeforeValidator(forms.path_text), Field(min_length=1), "a path"]
ModelText = Annotated[str, BeforeValidator(forms.path_text), Field(min_length=1), "a hub name, a folder, package:NAME"]
Texts = Annotated[list[str], BeforeValidator(forms.texts), "a list of texts"]
Trackers = Annotated[list[str], BeforeValidator(forms.trackers), "a list of names"]
Split = Annotated[str, BeforeValidator(forms.split), "auto, given, stratified, random, group(COLUMN), time(COLUMN) or hash"]
Strategy = Annotated[str, BeforeValidator(forms.strategy), "a call form"]
Regularizers = Annotated[list[str], BeforeValidator(forms.regularizers), "a list of call forms"]
Augmentations = Annotated[list[str], BeforeValidator(forms.augmentations), "a list of call forms"]
Vary = Annotated[dict[str, list[JsonValue]], "a mapping of keys to lists of values"]
Arguments = Annotated[dict[str, JsonValue], "a mapping"]
_WEIGHTS = "none, auto, or a mapping of class names to numbers of at least 0"
ClassWeights = Annotated[Literal["none", "auto"] | dict[str, NotNegative], BeforeValidator(forms.named_weights), _WEIGHTS]
TaskName = Annotated[str, BeforeValidator(forms.part(TASKS, "auto")), forms.parts(TASKS, "auto")]
Optim = Annotated[str, BeforeValidator(forms.part(OPTIMIZERS)), BeforeValidator(forms.optim), forms.parts(OPTIMIZERS)]
Schedule = Annotated[str, BeforeValidator(forms.part(SCHEDULES)), forms.parts(SCHEDULES)]
Problem = Literal["auto", "single_label_classification", "multi_label_classification", "regression"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Task(_Section):
    """What is learnt."""

    name: TaskName = Field(default="auto", description="the task; auto reads it off the data")
    problem: Problem = Field(default="auto", description="the kind of label; auto reads it off the label column and says so")
    options: Arguments = Field(default={}, description="the task's own options; docs/guides/tasks.md lists them")


class Model(_Section):
    """Which pretrained model learns it."""

    name: ModelText | None = Field(default=None, description="the pretrained model; null takes the packaged MiniLM for text")
    add_tokens: Texts = Field(default=[], description="words to add to the vocabulary")
    in_channels: Count | None = Field(default=None, description="channels of pictures, as 1 for grey; null: the model's own")
    config: Arguments = Field(default={}, description="settings of the model's own config, {classifier_dropout: 0.2}, say")
    revision: str | None = Field(default=None, description="branch, tag or commit on the hub")
    trust_remote_code: Flag = Field(default=False, description="run code that comes with a model from the hub")


class Data(_Section):
    """What it is learnt from."""

    path: PathText = Field(description="the file or the folder with the examples")
    encoding: str | None = Field(default=None, description="the files' encoding; null detects it and says so")
    text: str | list[str] | None = Field(default=None, description="the text column, or two for pairs; null infers it")
    image: str | None = Field(default=None, description="the column with pictures; null infers it")
    audio: str | None = Field(default=None, description="the column with recordings; null infers it")
    tokens: str | None = Field(default=None, description="the column with lists of tokens; null infers it")
    messages: str | None = Field(default=None, description="the column with conversations; null infers it")
    label: str | list[str] | None = Field(default=None, description="the label column, or several of 0 and 1; null infers it")
    label_names: Texts = Field(default=[], description="the names of labels or tags that are given as numbers, in order from 0")
    id: str | None = Field(default=None, description="the column with an id per example; null: id, else the content's hash")
    weight: str | None = Field(default=None, description="the column with a weight per example")
    split: Split = Field(default="auto", description="how validation and test sets are made where they are not given")
    validation_size: BelowOne = Field(default=0.1, description="the share of a made validation set; 0 makes none")
    calibration_size: BelowOne = Field(
        default=0.5, description="the share of 200 or more validation examples that chooses nothing, for promises about answers"
    )
    test_size: BelowOne | None = Field(
        default=None, description="the share of a made test set, 0 makes none; null: 0.2 where one table is cut"
    )
    folds: Several | None = Field(
        default=None, description="deal the examples into so many folds; each is measured by a model that did not learn from it"
    )
    fold: Steps | None = Field(default=None, description="the fold to leave out, 1 to data.folds; 0: none; null: each in turn")
    seed: Seed | None = Field(default=None, description="the seed of made splits, folds and samples; null: train.seed")
    augment: Augmentations = Field(default=[], description="how training examples are changed at random: flip, crop(0.7), ...")
    drop_duplicates: Flag = Field(
        default=False, description="keep one of several examples with the same text, picture or sound"
    )
    max_train_samples: Count | None = Field(default=None, description="train on at most so many examples, drawn by data.seed")
    max_eval_samples: Count | None = Field(default=None, description="evaluate on at most so many examples a split")
    max_length: Count | None = Field(default=None, description="tokens after which a text is cut; null: the model's limit")

    @model_validator(mode="after")
    def _agrees(self) -> Data:
        if self.fold is not None and not (self.folds and self.fold <= self.folds):
            raise ValueError(
                f"data.fold: is {self.fold} while data.folds is {self.folds or 'null'}; expected a number from 0 to data.folds;"
                " for example data.folds=5 data.fold=1"
            )
        return self


class Train(_Section):
    """How it is learnt."""

    num_train_epochs: Positive = Field(default=3.0, description="passes over the training set")
    max_steps: Count | None = Field(default=None, description="optimiser steps, instead of num_train_epochs")
    per_device_train_batch_size: Count = Field(
        default=32, description="examples between two optimiser steps, divided by gradient_accumulation_steps"
    )
    tokens_per_step: Count | None = Field(
        default=None, description="tokens an optimiser step holds, about, instead of a number of examples; null: by examples"
    )
    per_device_eval_batch_size: Count | None = Field(default=None, description="examples at once in evaluation; null decides")
    gradient_accumulation_steps: Count = Field(default=1, description="micro-batches to one optimiser step")
    learning_rate: Positive | Literal["auto"] = Field(default="auto", description="the peak rate; auto suits the strategy")
    optim: Optim = Field(default="adamw", description="the optimiser")
    lr_scheduler_type: Schedule = Field(default="linear", description="the course of the learning rate after warm-up")
    lr_scheduler_kwargs: Arguments = Field(default={}, description="the schedule's own arguments")
    warmup_ratio: Share = Field(default=0.1, description="the share of the steps in which the learning rate rises from 0")
    warmup_steps: Steps | None = Field(default=None, description="the same in steps, instead of warmup_ratio")
    weight_decay: NotNegative = Field(default=0.01, description="decoupled weight decay; none on norms and biases")
    adam_beta1: BelowOne = Field(default=0.9, description="decay of Adam's first moment")
    adam_beta2: BelowOne = Field(default=0.999, description="decay of Adam's second moment")
    adam_epsilon: Positive = Field(default=1e-8, description="Adam's epsilon")
    momentum: BelowOne = Field(default=0.9, description="momentum of sgd")
    max_grad_norm: Positive | None = Field(default=1.0, description="the gradient's norm is clipped to this; null: not clipped")
    batch_norm: Literal["frozen", "batch"] = Field(
        default="frozen", description="batch norms use the pretrained statistics, or those of the examples that run together"
    )
    label_smoothing_factor: BelowOne = Field(default=0.0, description="share of the target that is spread over all classes")
    class_weights: ClassWeights = Field(default="none", description="weights per class; auto: inverse to their frequency")
    seed: Seed = Field(default=42, description="the seed of everything random")
    seeds: Several | None = Field(
        default=None, description="train so many times, with train.seed and those after it; the best by validation is kept"
    )
    bf16: Flag | Literal["auto"] = Field(default="auto", description="train in bfloat16; auto measures whether it is faster")
    compile: Flag | Literal["auto"] = Field(
        default="auto",
        description="run blocks as compiled code; auto tries it in long trainings and keeps it where it is faster",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps, ...")
    threads: Count | None = Field(default=None, description="processor threads; null: what the machine has")
    eval_strategy: Literal["epoch", "steps", "no"] = Field(default="epoch", description="when the validation set is evaluated")
    eval_steps: Count | None = Field(default=None, description="steps between two evaluations with eval_strategy steps")
    metric_for_best_model: str | None = Field(default=None, description="which metric says what is best; null: the task's")
    early_stopping_patience: Count | None = Field(default=None, description="stop after so many evaluations with none better")
    early_stopping_threshold: NotNegative = Field(default=0.0, description="by how much better it must be to count")
    load_best_model_at_end: Flag = Field(default=True, description="keep the best checkpoint as the result, not the last")
    max_minutes: Positive | None = Field(default=None, description="a time budget, evaluation and saving included")
    checkpoint_minutes: Positive = Field(default=5.0, description="a checkpoint is written at least so often")
    report_to: Trackers = Field(default=[], description="accelerate's trackers: tensorboard, wandb, ...")
    train_sampling_strategy: Literal["random", "group_by_length"] = Field(
        default="random", description="the order of an epoch; group_by_length puts texts of like length together"
    )

    @field_validator("lr_scheduler_kwargs")
    @classmethod
    def _suits_the_schedule(cls, options: dict[str, JsonValue], info: ValidationInfo) -> dict[str, JsonValue]:
        return forms.options(options, info.data.get("lr_scheduler_type", ":"))

    @model_validator(mode="after")
    def _agrees(self) -> Train:
        for key, instead in REPLACED_BY.items():
            if getattr(self, instead) is not None and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"train.{instead}: stands beside train.{key}; expected one of the two; leave one out")
        if (self.eval_strategy == "steps") != (self.eval_steps is not None):
            raise ValueError(
                f"train.eval_steps: is {self.eval_steps or 'null'} while train.eval_strategy is {self.eval_strategy};"
                " expected a number with steps and null otherwise; for example train.eval_strategy=steps train.eval_steps=100"
            )
        if self.early_stopping_patience is not None and self.eval_strategy == "no":
            raise ValueError(
                "train.early_stopping_patience: stands beside train.eval_strategy=no;"
                " expected evaluations to stop by; for example train.eval_strategy=epoch"
            )
        return self


REPLACED_BY = {"num_train_epochs": "max_steps", "warmup_ratio": "warmup_steps"}
"""Keys of train that say nothing once the other one is given."""


class Store(_Section):
    """Where features and prepared data are kept."""

    path: PathText | None = Field(default=None, description="the folder of caches; null: $THAWLINE_CACHE or the user's own")
    features: Flag | Literal["auto"] = Field(
        default="auto", description="keep what frozen stages compute; auto: where that is predicted to save time"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="precision of what is kept; auto: that of training"
    )
    views: Count = Field(default=4, description="views of an example that are kept where it is changed at random")
    max_gb: Positive | None = Field(
        default=10.0, description="what is kept takes at most so many GB (10^9 bytes), the oldest goes; null: no limit"
    )


class Evaluate(_Section):
    """How the result is measured."""

    bootstrap_samples: Steps = Field(default=1000, description="resamples behind each 95 % interval; 0: no intervals")
    baselines: Flag = Field(default=True, description="measure simple baselines beside the model")
    analysis: Flag = Field(default=True, description="look behind the metrics: classes, calibration, mistakes, slices")
    attributions: Steps = Field(default=8, description="mistakes of which is shown what the answer rests on; 0: none")
    robustness: Flag = Field(default=False, description="measure it again with inputs mistyped, cut, blurred, noisy ...")


class Predict(_Section):
    """How the saved model answers."""

    dtype: Literal["float32", "bfloat16", "float16"] = Field(default="float32", description="precision of the final answers")
    batch_size: Count | None = Field(default=None, description="examples at once; null decides")


class Output(_Section):
    """Where the run is kept."""

    dir: PathText | None = Field(default=None, description="the run's folder; null: runs/<data>-<n>")


class Recipe(_Section):
    """The whole experiment as one validated value; two recipes are equal where all keys are.

    >>> Recipe(data=Data(path="reviews.csv")).train.num_train_epochs
    3.0
    """

    task: Task = Field(default=Task(), description="what is learnt; a bare text is task.name")
    model: Model = Field(default=Model(), description="which pretrained model learns it; a bare text is model.name")
    data: Data = Field(description="what it is learnt from; a bare text is data.path")
    strategy: Strategy = Field(
        default="full",
        description="what learns, how fast and when: full, head, freeze(4), layerwise(full, decay=0.9), ...",
    )
    regularize: Regularizers = Field(default=[], description="what holds it back: l1(1e-5), l2(1e-4), dropout(0.1), ...")
    train: Train = Field(default=Train(), description="how it is learnt")
    store: Store = Field(default=Store(), description="where features and prepared data are kept")
    evaluate: Evaluate = Field(default=Evaluate(), description="how the result is measured")
    predict: Predict = Field(default=Predict(), description="how the saved model answers")
    output: Output = Field(default=Output(), description="where the run is kept; a bare text is output.dir")
    vary: Vary = Field(default={}, description="keys with lists of values: every combination is trained, the best is kept")
