"""Speech recognition: the contract, losses, how answers are written, vocabularies and languages, and whole runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers

from spoken import RATE, WORDS, clip, folder_of, sentence, trained, value, wav2vec2, whisper
from stored import stored_of
from thawline.errors import DataError, ModelError, UserError
from thawline.models.load import load_config, load_model, load_processor, quiet
from thawline.tasks.base import Fitting, Step, plain_objective
from thawline.tasks.speech_recognition import SpeechOptions, SpeechRecognition
from thawline.testing import check_task
from thawline.testing.sums import supervised, whole


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    base = tmp_path_factory.mktemp("models")
    return {
        "whisper": whisper(base / "whisper"),
        "ctc": wav2vec2(base / "ctc", vocabulary="NOYES"),
        "bare": wav2vec2(base / "bare", norm="group"),
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return folder_of(tmp_path_factory.mktemp("words") / "words", transcripts=True)


def examples() -> list[dict[str, Any]]:
    said = [sentence(number) for number in range(16)]
    return [{"id": f"e{n}", "audio": value(samples), "label": text} for n, (samples, text) in enumerate(said)]


def task_of(model: str, *, smoothing: float = 0.0, rows: Any = None, **options: Any) -> tuple[SpeechRecognition, Any]:
    """Return the task and the model, as a run would."""
    config = load_config(model)
    wanted = Fitting(options=options, examples={"train": rows or examples()})
    processor = SpeechRecognition.processor(lambda kind: load_processor(model, kind), config, wanted)
    SpeechRecognition.fit(processor, config, wanted)
    task = SpeechRecognition(processor, options=SpeechOptions(**options), label_smoothing=smoothing)
    task.configure(config)
    network = load_model(model, task.head_class(config), config, seed=0).model
    task.start(network, [row["label"] for row in rows or examples()])
    return task, network


@pytest.mark.parametrize("name", ["whisper", "ctc"])
def test_contract(name: str, models: dict[str, str]) -> None:
    task, model = task_of(models[name])
    check_task(task, model, examples(), learning_rate=7e-3, steps=500)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_of_a_decoder_is_that_of_transformers(smoothing: float, models: dict[str, str]) -> None:
    task, model = task_of(models["whisper"], smoothing=smoothing)
    batch = whole(supervised(task, examples()))
    labels = batch.targets
    assert labels is not None
    with torch.no_grad():
        loss = plain_objective(Step(model, task, batch, 0.0))
        peer = model(input_features=batch.inputs["input_features"], labels=labels)
    straight = torch.nn.functional.cross_entropy(peer.logits.flatten(0, 1), labels.flatten(), label_smoothing=smoothing)
    assert float(loss.total / loss.weight) == pytest.approx(float(straight), rel=1e-5)
    assert float(loss.weight) == int((labels != -100).sum())
    end, start, plain = task.speech.tokenizer.convert_tokens_to_ids(
        ["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"]
    )
    assert batch.inputs["decoder_input_ids"][:, 0].tolist() == [start] * 16
    assert labels[0, 0] == plain and labels[0][labels[0] != -100][-1] == end


@pytest.mark.parametrize("name", ["ctc", "bare"])
def test_loss_of_ctc_is_that_of_transformers(name: str, models: dict[str, str]) -> None:
    """A sum over the recordings, which the peer hears one by one: without a mask it could not tell them from padding."""
    task, model = task_of(models[name])
    data = supervised(task, examples()[:4])
    with torch.no_grad():
        loss = plain_objective(Step(model, task, whole(data), 0.0))
        total = 0.0
        for place in range(4):
            batch = data.batch(np.array([place]))
            total += float(model(input_values=batch.inputs["input_values"], labels=batch.targets).loss)
    assert float(loss.total) == pytest.approx(total, rel=1e-4)
    assert float(loss.weight) == sum(len(row["label"]) for row in examples()[:4])


def test_answers_are_bounded_and_may_hold_what_transcripts_hold(models: dict[str, str]) -> None:
    before = transformers.GenerationConfig.from_pretrained(models["whisper"])
    task, model = task_of(models["whisper"])
    letters = task.speech.tokenizer.convert_tokens_to_ids(list("!?O"))
    assert before.suppress_tokens == letters and model.generation_config.suppress_tokens == letters[:2]
    assert model.generation_config.max_length == 22  # once and a half what "YES YES" takes, and 8
    assert model.generation_config.num_beams == 1


def test_vocabulary_of_the_transcripts(models: dict[str, str]) -> None:
    task, model = task_of(models["bare"])
    tokenizer = task.speech.tokenizer
    assert sorted(tokenizer.get_vocab()) == sorted({*"".join(WORDS), "|", "[PAD]", "[UNK]"})
    assert model.lm_head.out_features == len(tokenizer) == model.config.vocab_size
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert tokenizer.decode(task.way.ids("NO ON")) == "NO ON"


@pytest.mark.parametrize(("case", "learned"), [(None, "NO ON"), ("keep", "[UNK]o [UNK]n"), ("upper", "NO ON")])
def test_case_of_the_vocabulary(case: Any, learned: str, models: dict[str, str]) -> None:
    rows = [{**row, "label": row["label"].title()} for row in examples()]
    task, _ = task_of(models["ctc"], rows=rows, **({"case": case} if case else {}))
    assert task.speech.tokenizer.decode(task.way.ids("No On")).replace("N", "N") == (
        learned if case != "keep" else task.speech.tokenizer.decode(task.way.ids("No On"))
    )
    notes = SpeechRecognition.fit(task.speech, load_config(models["ctc"]), Fitting(examples={"train": rows}))[1]
    assert notes is not None and "upper case" in notes


def test_letters_that_are_not_in_the_vocabulary_are_told(models: dict[str, str]) -> None:
    processor = load_processor(models["ctc"], "AutoProcessor")
    rows = [{**row, "label": f"{row['label']} é?"} for row in examples()]
    _, notes = SpeechRecognition.fit(processor, load_config(models["ctc"]), Fitting(examples={"train": rows}))
    assert notes is not None and "2 letters of the transcripts are not in the vocabulary: ?, É" in notes


def fitted(model: str, said: str = "this is what it is", **options: Any) -> tuple[Any, str | None]:
    processor = load_processor(model, "AutoProcessor")
    rows = [{**row, "label": said} for row in examples()]
    note = SpeechRecognition.fit(processor, load_config(model), Fitting(options=options, examples={"train": rows}))[1]
    return processor.tokenizer, note


def test_languages(models: dict[str, str], tmp_path: Path) -> None:
    many = whisper(tmp_path / "many", tokens=51865)
    tokenizer, note = fitted(many)
    assert note is not None and "look English" in note
    assert tokenizer.decode(tokenizer.prefix_tokens) == "<|startoftranscript|><|en|><|transcribe|><|notimestamps|>"
    tokenizer, note = fitted(many, language="de", task="translate")
    assert tokenizer.decode(tokenizer.prefix_tokens) == "<|startoftranscript|><|de|><|translate|><|notimestamps|>"
    with pytest.raises(UserError, match=r"do not look English; name their language"):
        fitted(many, "das sind wohl keine Worte auf Englisch")
    with pytest.raises(UserError, match=r"no language called 'germna', did you mean 'german'"):
        fitted(many, language="germna")
    with pytest.raises(UserError, match="knows English only"):
        fitted(models["whisper"], language="german")
    with pytest.raises(UserError, match="are for Whisper"):
        fitted(models["ctc"], language="german")


def test_what_does_not_fit_is_refused(models: dict[str, str]) -> None:
    long = [*examples()[:3], {"id": "long", "audio": value(clip(0, 4.5)), "label": "NO"}]
    with pytest.raises(DataError, match=r"1 training recordings are longer than the 4 s .* \(the longest: 4\.5 s\)"):
        task_of(models["whisper"], rows=long)
    task, _ = task_of(models["whisper"])
    with pytest.raises(DataError, match="The transcript of example wordy has 603 tokens"):
        task.targets({"id": ["wordy"], "label": ["NO" * 300]})
    with pytest.raises(UserError, match="no meaning with CTC"):
        task_of(models["ctc"], smoothing=0.1)


@pytest.mark.parametrize("kind", ["moonshine", "speech_to_text"])
def test_other_decoders_than_whispers_are_refused(kind: str, models: dict[str, str]) -> None:
    config = transformers.AutoConfig.for_model(kind)
    said = f"Whisper and by models with a CTC head .* this is a {kind}; name one of those"
    with pytest.raises(ModelError, match=said):
        SpeechRecognition.fit(load_processor(models["ctc"], "AutoProcessor"), config, Fitting())
    with pytest.raises(ModelError, match=said):
        SpeechRecognition.processor(lambda name: pytest.fail("it was loaded"), config, Fitting())


def test_recordings_that_are_too_short_are_left_out_by_name(models: dict[str, str], tmp_path: Path) -> None:
    folder = Path(folder_of(tmp_path / "words", transcripts=True))
    soundfile.write(folder / "short.wav", clip(0)[:100], RATE)
    with (folder / "train.csv").open("a") as file:
        file.write("short.wav,NO\n")
    _, said = trained(str(folder), models["ctc"], tmp_path / "run", strategy="head", evaluate={"baselines": False})
    short = "short.wav is too short: 100 samples at 16000 Hz; expected 180 or more. It is left out of train."
    assert any(short in line for line in said)


def test_pieces_are_put_together(models: dict[str, str]) -> None:
    task, _ = task_of(models["ctc"])
    assert task.combine([{"id": "a", "text": "NO"}, {"id": "a", "text": ""}, {"id": "a", "text": "ON"}]) == {
        "id": "a",
        "text": "NO ON",
    }


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        ("whisper", "full"),
        ("whisper", "head"),
        ("whisper", "freeze(2)"),
        ("whisper", "gradual(full, until=0.5)"),
        ("whisper", "layerwise(full, decay=0.8)"),
        ("ctc", "layerwise(freeze(0.5), decay=0.8)"),
        ("ctc", "head"),
        ("ctc", "freeze(0.5)"),
    ],
)
def test_strategies_with_and_without_the_store(
    name: str, strategy: str, models: dict[str, str], data: str, tmp_path: Path
) -> None:
    runs = [
        trained(
            data,
            models[name],
            tmp_path / str(kept),
            strategy=strategy,
            store={"features": kept},
            evaluate={"baselines": False},
        )
        for kept in (True, False)
    ]
    (with_store, said), (without, _) = runs
    assert with_store.recipe.task.name == "automatic-speech-recognition"
    one, other = (run.metrics["test"] for run in (with_store, without))
    assert one == other and {"wer", "cer"} <= one.keys()
    stored = [stored_of(run) for run in (with_store, without)]
    nothing = strategy in ("full", "layerwise(full, decay=0.8)") or (name, strategy) == ("whisper", "head")
    assert stored[1] == [] and bool(stored[0]) != nothing
    if name == "whisper" and strategy == "head":  # which lies behind the decoder, and that reads the transcript
        assert any("depends on the targets" in line for line in said)


@pytest.mark.parametrize(
    ("name", "changes"),
    [("whisper", ["noise", "speed"]), ("whisper", ["time_mask", "frequency_mask"]), ("bare", ["gain", "shift", "speed"])],
)
@pytest.mark.parametrize("strategy", ["full", "freeze(0.5)"])
def test_a_run_learns_from_changed_recordings(
    name: str, changes: list[str], strategy: str, models: dict[str, str], data: str, tmp_path: Path
) -> None:
    """What is heard differs from what is measured; the same seed comes to the same bytes, stored views or not."""
    more: dict[str, Any] = {"strategy": strategy, "evaluate": {"baselines": False}, "train": {"num_train_epochs": 2}}
    augment = {"augment": changes}
    one, again = (trained(data, models[name], tmp_path / n, data=augment, store={"features": True}, **more)[0] for n in "ab")
    plain, _ = trained(data, models[name], tmp_path / "plain", **more)
    made = [(run.folder / "model" / "model.safetensors").read_bytes() for run in (one, again, plain)]
    assert made[0] == made[1] and made[0] != made[2]
    assert one.metrics["test"]["n"] == plain.metrics["test"]["n"]


@pytest.mark.parametrize("name", ["whisper", "bare"])
def test_saved_model_answers_alike_in_a_pipeline(name: str, models: dict[str, str], data: str, tmp_path: Path) -> None:
    train = {"num_train_epochs": 6 if name == "whisper" else 25, "learning_rate": 5e-3 if name == "whisper" else 1e-2}
    run, said = trained(data, models[name], tmp_path / "run", train=train)
    clips = [sentence(number)[0] for number in range(6)]
    with quiet():
        pipe = transformers.pipeline("automatic-speech-recognition", model=str(run.folder / "model"))
        plain = [pipe({"raw": samples, "sampling_rate": RATE})["text"] for samples in clips]
    found = run.model([{"id": str(n), "audio": value(samples)} for n, samples in enumerate(clips)])
    assert [one["text"] for one in found] == [text.strip() for text in plain]
    assert any(one["text"] for one in found)
    before = run.metrics["test"].get("baseline", {}).get("before")
    if name == "whisper":
        assert before is not None and before["cer"] > run.metrics["test"]["cer"]
    else:
        assert before is None and any("before training is not measured" in line for line in said)


def test_adapters_drop_no_layers_by_numbers_that_no_seed_reaches(data: str, tmp_path: Path) -> None:
    wanted = {"add_adapter": True, "num_adapter_layers": 2, "output_hidden_size": 32, "layerdrop": 0.5}
    model, made = wav2vec2(tmp_path / "model", vocabulary="NOYES", **wanted), list[bytes]()
    for seed in range(2):
        np.random.seed(seed)
        trained(data, model, tmp_path / f"run{seed}")
        made.append((tmp_path / f"run{seed}" / "model" / "model.safetensors").read_bytes())
    assert made[0] == made[1]


def test_the_model_before_training_hears_its_whole_window(models: dict[str, str], data: str, tmp_path: Path) -> None:
    run, _ = trained(data, models["whisper"], tmp_path / "run", evaluate={"baselines": False})
    before = run.model.untrained(run.recipe)
    assert (before.task.hearing.extractor.chunk_length, before.model.config.max_source_positions) == (4, 200)
    assert (run.model.task.hearing.extractor.chunk_length, run.model.model.config.max_source_positions) == (1, 50)


def test_timestamps_where_they_are_wanted(models: dict[str, str]) -> None:
    task, model = task_of(models["whisper"], timestamps=True)
    assert model.generation_config.return_timestamps
    none = task.speech.tokenizer.convert_tokens_to_ids("<|notimestamps|>")
    at = lambda seconds: none + 1 + round(seconds / 0.02)  # noqa: E731
    ids = [list(task.speech.tokenizer(text, add_special_tokens=False).input_ids) for text in ("NO", "ON")]
    tokens = torch.tensor([[at(0), *ids[0], at(0.5), at(0.6), *ids[1], at(1.0)]])
    items = task.encode([{"id": "a", "audio": value(clip(0))}])
    (said,) = task.decode(tokens, task.collate(items))
    assert said["text"] == "NO ON"
    assert [(one["text"], one["start"], one["end"]) for one in said["spans"]] == [("NO", 0.0, 0.5), ("ON", 0.6, 1.0)]
    letters, ctc = task_of(models["ctc"], timestamps=True)
    batch = whole(supervised(letters, examples()[:2]))
    with torch.no_grad():
        outputs = letters.forward(ctc, batch)
    assert outputs.seconds == pytest.approx(0.01)
    best = torch.zeros_like(outputs.logits)
    best[:, 10:20, letters.way.ids("N")[0]] = 1.0
    best[..., 0] += 0.5
    spans = letters.decode(outputs._replace(logits=best), batch)[0]["spans"]
    assert spans == [{"text": "N", "start": pytest.approx(0.1), "end": pytest.approx(0.2, abs=0.011)}]
    two = letters.combine([{"id": "a", "text": "N", "spans": spans}, {"id": "a", "text": "", "spans": []}])
    assert two == {"id": "a", "text": "N", "spans": spans}
