"""Text classification: files, splits, batches, payloads, errors; and a supernet trained and scored on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from nassearch.errors import ConfigError, DataError
from nassearch.evaluation import EvaluationSettings, SupernetEvaluator, inputs_fault
from nassearch.pretrained import load_pretrained
from nassearch.problem import Problem
from nassearch.tasks import from_payload, make_task
from nassearch.tasks.text_files import Columns, from_parts
from supernets import call, convert
from supernets.training import TrainSettings, method_settings, train

WORDS = ["good", "fine", "great", "bad", "poor", "awful", "film", "plot", "cast"]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """The folder of a tokenizer of whole words, with special tokens."""
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tok = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tok.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tok.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = hf.PreTrainedTokenizerFast(
        tokenizer_object=tok,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    fast.save_pretrained(tmp_path / "tok")
    return tmp_path / "tok"


def texts(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """Texts of 1 to 12 words; good words in one class, bad ones in the other."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        words = [WORDS[6 + w] for w in rng.integers(0, 3, rng.integers(0, 11))]
        made.append((" ".join([WORDS[3 * (i % 2) + rng.integers(0, 3)], *words]), ["pos", "neg"][i % 2]))
    return made


def write(path: Path, rows: list[tuple[str, str]], head: bool = True) -> Path:
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps({"sentence": t, "label": c}) for t, c in rows))
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        lines = [mark.join(r) for r in ([("sentence", "label")] if head else []) + rows]
        path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, n in (("train", 80), ("dev", 20), ("test", 30)):
        write(tmp_path / "data" / f"{name}.tsv", texts(n, seed=n), head=name == "dev")
    return tmp_path / "data"


@pytest.fixture
def make(tokenizer: Path) -> Callable[..., object]:
    return lambda where, more="", **k: make_task(f"text-classification:{where},tokenizer={tokenizer}{more}", **k)


@pytest.mark.parametrize("kind", [".tsv", ".csv", ".jsonl"])
def test_one_file_is_split(make, tmp_path, kind):
    task = make(write(tmp_path / f"all{kind}", texts(100)))
    assert {s: task.size(s) for s in task.splits} == {"train": 55, "calibration": 5, "search": 20, "report": 20}
    assert len(set(np.concatenate(list(task.splits.values())))) == 100
    assert task.class_names == ["neg", "pos"]
    same = make(write(tmp_path / "again.tsv", texts(100)))
    assert same.fingerprint == task.fingerprint
    assert make(tmp_path / "again.tsv", seed=1).fingerprint != task.fingerprint
    assert make(tmp_path / "again.tsv", ",label_smoothing=0.1").fingerprint != task.fingerprint
    json.dumps(task.describe())


def test_three_files_are_train_search_and_report(make, folder):
    task = make(folder)
    assert {s: task.size(s) for s in task.splits} == {"train": 76, "calibration": 4, "search": 20, "report": 30}
    assert sorted(task.splits["report"]) == list(range(100, 130))
    assert sorted(task.splits["search"]) == list(range(80, 100))
    assert make(folder, ",search=10,report=12,train=40").size("train") == 40
    with pytest.raises(DataError, match="search=21 texts are asked for but the validation set has 20"):
        make(folder, ",search=21")


def test_texts_are_tokenised_padded_and_cut(make, folder, tokenizer):
    task = make(folder)
    wanted = hf.AutoTokenizer.from_pretrained(tokenizer)
    (batch,) = task.batches("report", 30)
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    assert ids.dtype == mask.dtype == torch.int64
    by_text = {tuple(wanted(t)["input_ids"]): c for t, c in texts(30, seed=30)}
    for row, m, y in zip(ids, mask, batch.targets, strict=True):
        assert by_text[tuple(row[m.bool()].tolist())] == task.class_names[int(y)]
        assert not row[~m.bool()].any()
    assert task.describe()["cut_texts"] == 0
    short = make(folder, ",max_length=5")
    assert short.input_shape == (5,)
    assert short.describe()["cut_texts"] > 0
    assert all(
        row[m.bool()][-1] == 3 for b in short.batches("search", 4) for row, m in zip(*b.inputs.values(), strict=True)
    )


def test_batches_are_of_like_lengths(make, folder):
    task = make(folder)
    lengths = [b.inputs["input_ids"].shape[1] for b in task.batches("search", 5)]
    assert lengths == sorted(lengths)
    data = task.training_data(8, seed=3)
    batches = list(data.batches(0))
    assert len(batches) == data.steps_per_epoch == 10
    assert sum(len(b.targets) for b in batches) == 76
    padded = sum(int((b.inputs["attention_mask"] == 0).sum()) for b in batches)
    assert padded < 76  # at most one token a text
    again, other = list(task.training_data(8, seed=3).batches(0)), list(data.batches(1))
    equal = [torch.equal(a.targets, b.targets) for a, b in zip(batches, again, strict=True)]
    assert all(equal)
    assert any(not torch.equal(a.targets, b.targets) for a, b in zip(batches, other, strict=True))
    assert sum(len(b.targets) for b in data.evaluation()) == 20
    assert len(task.calibration_inputs(2)) == 2


def test_another_process_makes_an_equal_task(make, folder):
    task = make(folder, ",label_smoothing=0.1")
    settings, arrays = task.to_payload()
    twin = from_payload(json.loads(json.dumps(settings)), arrays)
    assert twin.fingerprint == task.fingerprint
    assert twin.describe() == task.describe()
    assert twin.label_smoothing == 0.1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "x", "allowed are .tsv, .csv, .jsonl"),
        ("a.tsv", "", "has no columns 'sentence' and 'label', but nothing"),
        ("a.csv", "text,label,id\nx,1,2\n", "but 'text', 'label', 'id'; name its columns"),
        ("a.tsv", "good\tpos\nbad\n", "line 2 has 1 columns, the first line 2"),
        ("a.jsonl", '{"sentence": "x", "label": 1}\n{"text": "x"}', "line 2 lacks 'sentence' or 'label'"),
        ("a.jsonl", "{", "line 1 is no JSON"),
        ("a.jsonl", '{"sentence": 3, "label": 1}', "'sentence' must be text"),
        ("a.jsonl", "\n", "has no texts"),
        ("a.tsv", "good\tpos\nfine\tpos\n", "only one class"),
        ("a.tsv", "sentence\tlabel\n" + "good\tpos\n" * 9 + "bad\tneg\n", "class 'neg' has 1 text; at least 4"),
    ],
)
def test_faults_of_files(make, tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        make(tmp_path / name)


def test_faults_of_folders_and_options(make, folder, tmp_path):
    with pytest.raises(DataError, match="do not exist; give a"):
        make(tmp_path / "none")
    with pytest.raises(ConfigError, match="needs the model's tokenizer; add tokenizer=FOLDER"):
        make_task(f"text-classification:{folder}")
    with pytest.raises(DataError, match="is no folder"):
        make_task(f"text-classification:{folder},tokenizer={tmp_path / 'none'}")
    with pytest.raises(DataError, match="cannot be loaded"):
        make_task(f"text-classification:{folder},tokenizer={folder}")
    write(folder / "dev.csv", texts(4))
    with pytest.raises(DataError, match=r"has dev\.tsv and dev\.csv; keep one"):
        make(folder)
    (folder / "dev.csv").unlink()
    write(folder / "test.tsv", [("good", "other")])
    with pytest.raises(DataError, match=r"labels that the train file lacks \(other\)"):
        make(folder)
    (folder / "train.tsv").unlink()
    with pytest.raises(DataError, match="has no train file"):
        make(folder)


def bert(**changes):
    sizes = {"vocab_size": 13, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"intermediate_size": 32, "max_position_embeddings": 20, "num_labels": 2}
    torch.manual_seed(0)
    return convert(hf.BertForSequenceClassification(hf.BertConfig(**sizes | more | changes)))


def test_a_pretrained_model_is_instatuned_and_its_subnets_scored(make, folder):
    net, task = bert(), make(folder)
    assert inputs_fault(net, task) is None
    problem = SimpleNamespace(task=task)
    settings = TrainSettings(**method_settings("instatune") | {"lr": 1e-2, "epochs": 15})
    report = train(
        net, task.training_data(8), lambda o, t: Problem.loss(problem, o, t), method="instatune", settings=settings
    )
    assert report.top1_largest > 90
    evaluator = SupernetEvaluator(net, task, EvaluationSettings(("accuracy",), {}, device="cpu"))
    (smallest,) = net.space.decode(net.space.smallest[None])
    small = net.extract(smallest).eval()
    wanted = task.evaluate(lambda x: call(small, x).logits, "report", batch_size=1)
    got = evaluator.quality(smallest, "report").values
    assert got["accuracy"] == wanted["accuracy"]
    assert got["loss"] == pytest.approx(wanted["loss"], rel=1e-4)


def test_models_that_do_not_fit_are_told_before_training(make, folder):
    task = make(folder)
    assert "too long: sequence must be 1 to 4" in inputs_fault(bert(max_position_embeddings=4), task)
    task.model_options = {"num_classes": 3}
    assert inputs_fault(bert(), task) == "it has 2 classes, the task 3"
    base = convert(hf.BertModel(bert().model.config))
    assert "hold no logits" in inputs_fault(base, task)
    from supernets import build

    fault = inputs_fault(build("mobilenetv3-tiny"), task)
    assert fault == "it takes 1 positional input, the task gives inputs by name (input_ids, attention_mask)"


def pairs_set(n: int, label: int | None = None):
    import datasets

    features = datasets.Features(
        {
            "sentence1": datasets.Value("string"),
            "sentence2": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["not_equivalent", "equivalent"]),
        }
    )
    rows = {"sentence1": [t for t, _ in texts(n)], "sentence2": [t for t, _ in texts(n, seed=1)]}
    labels = [i % 2 if label is None else label for i in range(n)]
    return datasets.Dataset.from_dict(rows | {"label": labels}, features=features)


def test_pairs_of_glue_have_two_types_and_report_on_the_validation_set(tokenizer, monkeypatch):
    import datasets

    parts = {"train": pairs_set(60), "validation": pairs_set(20), "test": pairs_set(10, label=-1)}
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: asked.append((a, k)) or datasets.DatasetDict(parts))
    task = make_task(f"text-classification:mrpc,tokenizer={tokenizer}")
    assert asked == [(("nyu-mll/glue", "mrpc"), {"revision": None})]
    assert {s: task.size(s) for s in task.splits} == {"train": 51, "calibration": 3, "search": 6, "report": 20}
    assert task.class_names == ["not_equivalent", "equivalent"]
    assert task.describe()["parts"] == {"train": "train", "report": "validation"}
    (batch,) = task.batches("report", 20)
    wanted = hf.AutoTokenizer.from_pretrained(tokenizer)
    made = {
        (tuple(m["input_ids"]), tuple(m["token_type_ids"]))
        for a, b in zip(pairs_set(20)["sentence1"], pairs_set(20)["sentence2"], strict=True)
        for m in [wanted(a, b)]
    }
    rows = zip(*(batch.inputs[k] for k in ("input_ids", "token_type_ids", "attention_mask")), strict=True)
    got = {(tuple(i[m.bool()].tolist()), tuple(t[m.bool()].tolist())) for i, t, m in rows}
    assert got == made
    settings, arrays = task.to_payload()
    assert from_payload(json.loads(json.dumps(settings)), arrays).fingerprint == task.fingerprint
    assert inputs_fault(bert(max_position_embeddings=64), task) is None
    with pytest.raises(ConfigError, match="stsb is a regression"):
        make_task(f"text-classification:stsb,tokenizer={tokenizer}")
    with pytest.raises(ConfigError, match="columns of GLUE's mrpc are known"):
        make_task(f"text-classification:mrpc,tokenizer={tokenizer},sentence=x")


def test_sets_on_disk_and_of_the_hub_give_the_same_task(tokenizer, tmp_path, monkeypatch):
    import datasets

    parts = datasets.DatasetDict({"train": pairs_set(60), "validation": pairs_set(20), "test": pairs_set(30)})
    parts.save_to_disk(tmp_path / "saved")
    (tmp_path / "parquet").mkdir()
    for name, part in parts.items():
        part.to_parquet(tmp_path / "parquet" / f"{name}.parquet")
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: parts)
    more = f",sentence=sentence1,sentence2=sentence2,tokenizer={tokenizer}"
    places = (tmp_path / "saved", tmp_path / "parquet", "hf:someone/pairs")
    made = [make_task(f"text-classification:{place}{more}") for place in places]
    assert len({task.fingerprint for task in made}) == 1
    assert made[0].size("report") == 30
    with pytest.raises(DataError, match="no column 'sentence3'; did you mean 'sentence"):
        make_task(f"text-classification:hf:a/b,sentence=sentence3,tokenizer={tokenizer}")

    def offline(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(DataError, match=r"could not be loaded: no route\. It needs network.*without network use files"):
        make_task(f"text-classification:sst2,tokenizer={tokenizer}")


def test_the_model_of_the_run_gives_tokenizer_limits_and_order_of_classes(folder, tokenizer):
    spec = f"text-classification:{folder}"
    config = {"model_type": "bert", "max_position_embeddings": 6, "vocab_size": 13}
    (tokenizer / "config.json").write_text(json.dumps(config | {"id2label": {"0": "POS", "1": "NEG"}}))
    task = make_task(spec, model=str(tokenizer))
    assert task.input_shape == (6,)
    assert task.class_names == ["pos", "neg"]
    with pytest.raises(ConfigError, match="max_length=7 is more than the model's limit of 6 tokens"):
        make_task(f"{spec},max_length=7", model=str(tokenizer))
    (tokenizer / "config.json").write_text(json.dumps(config | {"vocab_size": 12}))
    with pytest.raises(DataError, match="does not match the model: the data have token 12"):
        make_task(spec, model=str(tokenizer))


@pytest.mark.parametrize("empty", ["train", "validation", "test"])
def test_empty_parts_of_a_set_are_refused(empty):
    parts = {name: pairs_set(0 if name == empty else 20) for name in ("train", "validation", "test")}
    with pytest.raises(DataError, match=rf"some set: {empty} is empty; fill it, or leave it out"):
        from_parts("some set", parts, Columns({"sentence": "sentence1"}, "label"))


def test_empty_texts_are_named(make, tmp_path):
    (tmp_path / "a.tsv").write_text("good\tpos\n \tneg\n")
    with pytest.raises(DataError, match=r"a\.tsv, line 2: 'sentence' is empty"):
        make(tmp_path / "a.tsv")


def test_f1_and_matthews_are_sklearns(make, folder):
    from sklearn.metrics import f1_score, matthews_corrcoef

    task, rng = make(folder), np.random.default_rng(0)
    outputs = iter(torch.from_numpy(rng.normal(size=(n, 2))) for n in (20, 10))
    given, wanted = [], []

    def forward(inputs):
        given.append(next(outputs))
        return given[-1]

    got = task.evaluate(forward, "report", 20)
    wanted = np.concatenate([b.targets.numpy() for b in task.batches("report", 20)])
    answers = torch.cat(given).argmax(1).numpy()
    assert got["f1"] == 100 * f1_score(wanted, answers)
    assert got["matthews"] == pytest.approx(100 * matthews_corrcoef(wanted, answers))
    assert got["accuracy"] == pytest.approx(100 * (wanted == answers).mean())


def gpt2(tokenizer: Path) -> Path:
    """Turn a tokenizer's folder into that of a decoder, which has an end but no padding token."""
    for path in tokenizer.glob("*.json"):
        settings = json.loads(path.read_text())
        if settings.pop("pad_token", None):
            path.write_text(json.dumps(settings | {"eos_token": "[SEP]"}))
    torch.manual_seed(0)
    hf.GPT2Model(hf.GPT2Config(vocab_size=13, n_positions=20, n_embd=16, n_layer=2, n_head=2)).save_pretrained(
        tokenizer
    )
    return tokenizer


def test_a_decoder_without_padding_token_classifies_texts_of_any_batch(folder, tokenizer):
    model = gpt2(tokenizer)
    task = make_task(f"text-classification:{folder}", model=str(model))
    assert task.padding == 3
    loaded = load_pretrained(str(model), task, seed=0).module
    assert loaded.config.get_text_config().pad_token_id == 3
    scores = [task.evaluate(lambda x: call(loaded, x).logits, "report", n)["loss"] for n in (1, 30)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)
    assert inputs_fault(convert(loaded), task) is None
    unset = hf.GPT2ForSequenceClassification.from_pretrained(model)
    unset.config.pad_token_id = None
    assert "batch sizes > 1" in inputs_fault(convert(unset), task)
