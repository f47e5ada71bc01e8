"""Translation: files, vocabulary and cache, batches, BLEU, payloads, errors; a supernet trained and scored on it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nassearch.config import make_config
from nassearch.errors import ConfigError, DataError
from nassearch.evaluation import EvaluationSettings, SupernetEvaluator, inputs_fault
from nassearch.finetuning import FinetuneSettings
from nassearch.problem import make_problem
from nassearch.tasks import from_payload, make_task
from nassearch.tasks.translations import corpus_bleu
from predictors import LatencySetting
from search_spaces import hat_space
from supernets import Supernet, build, save
from supernets.hat import HatSupernet
from supernets.mixture import MixtureSpec
from supernets.training import TrainSettings, method_settings, train

GERMAN = ["hund", "katze", "haus", "baum", "rot", "blau", "gross", "klein"]
ENGLISH = ["dog", "cat", "house", "tree", "red", "blue", "big", "small"]
OPTIONS = "vocab_size=60,max_length=30"


def pairs(n: int, seed: int) -> tuple[list[str], list[str]]:
    """Sentences translated word by word."""
    rng = np.random.default_rng(seed)
    words = [rng.integers(0, 8, rng.integers(1, 7)) for _ in range(n)]
    return [" ".join(GERMAN[w] for w in ws) for ws in words], [" ".join(ENGLISH[w] for w in ws) for ws in words]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files laid out as Multi30k's; the cache is in a folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    for stem, n, seed in (("train", 120, 0), ("val", 20, 1), ("test_2016_flickr", 17, 2)):
        for end, lines in zip(("de", "en"), pairs(n, seed), strict=True):
            (tmp_path / "data" / f"{stem}.{end}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "data"


def spec(folder: Path, more: str = "") -> str:
    return f"translation:multi30k:{folder},{OPTIONS}{more}"


def supernet(vocab_size: int) -> HatSupernet:
    torch.manual_seed(0)
    space = hat_space(
        "hat-test", embeds=(24, 16), ffns=(32, 16), heads=(2, 1), encoder_layers=(3,), decoder_layers=(2, 1)
    )
    return HatSupernet(space=space, vocab_size=vocab_size, inner=16, max_length=40, length=6, beam=2, dropout=0.1)


def test_splits_are_the_files(folder):
    task = make_task(spec(folder))
    assert {s: task.size(s) for s in ("train", "calibration", "search", "report")} == {
        "train": 118, "calibration": 2, "search": 20, "report": 17,
    }  # fmt: skip
    assert sorted(task.reference("search")) == sorted(pairs(20, 1)[1])
    assert sorted(task.reference("report")) == sorted(pairs(17, 2)[1])
    assert task.metrics == {"bleu": "max", "nll": "min", "loss": "min"}
    assert make_task(spec(folder)).fingerprint == task.fingerprint
    assert make_task(spec(folder, ",source=en,target=de")).fingerprint != task.fingerprint
    assert make_task(spec(folder, ",label_smoothing=0.1")).fingerprint == task.fingerprint
    assert make_task(spec(folder, ",label_smoothing=0")).fingerprint != task.fingerprint
    assert make_task(spec(folder, ",search=5,train=50")).size("search") == 5


def test_batches_are_shifted_and_padded(folder):
    task = make_task(spec(folder))
    (batch,) = task.batches("search", 64)
    inputs, targets = batch.inputs, batch.targets
    prefix, counted = inputs["decoder_input_ids"], targets != -100
    assert (prefix[:, 0] == 2).all()
    assert torch.equal(prefix[:, 1:][counted[:, 1:]], targets[:, :-1][counted[:, 1:]])
    assert batch.counts.tolist() == counted.sum(1).tolist()
    assert (prefix[~counted] == 1).all()
    assert ((inputs["input_ids"] == 1) == (inputs["attention_mask"] == 0)).all()
    assert not counted.all()
    ends = [int(row[row != -100][-1]) for row in targets]
    assert set(ends) == {2}
    texts = [task.processor.decode([i for i in row.tolist() if i > 2]) for row in targets]
    assert texts == task.reference("search")


def test_what_is_cut_still_ends(folder):
    task = make_task(spec(folder).replace("max_length=30", "max_length=4"))
    (batch,) = task.batches("search", 64)
    assert batch.targets.shape[1] == 4
    assert {int(row[row != -100][-1]) for row in batch.targets} == {2}


def test_epochs_are_reproducible_and_complete(folder):
    data = make_task(spec(folder)).training_data(32, seed=3)
    first, again, other = ([b.targets for b in data.batches(e)] for e in (0, 0, 1))
    assert len(first) == data.steps_per_epoch == 4
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert sum(len(t) for t in first) == 118


def test_batches_of_a_number_of_tokens(folder):
    task = make_task(spec(folder, ",tokens=60"))
    data = task.training_data(64, seed=3)
    first, again, other = ([b.targets for b in data.batches(e)] for e in (0, 0, 1))
    assert len(first) == len(other) == data.steps_per_epoch > 4
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(first, other, strict=True))
    for batches in (first, other):
        rows = [tuple(r[r != -100].tolist()) for b in batches for r in b]
        assert sorted(rows) == sorted(
            tuple(r[r != -100].tolist()) for b in task.batches("train", 64) for r in b.targets
        )
    sizes = [b.inputs["input_ids"].numel() for b in data.batches(0)]
    assert max(max(t.numel() for t in first), max(sizes)) <= 60
    assert np.mean([max(t.numel(), n) for t, n in zip(first, sizes, strict=True)]) > 40  # and they are filled
    assert task.fingerprint != make_task(spec(folder)).fingerprint
    assert from_payload(*task.to_payload()).training_data(64).steps_per_epoch == data.steps_per_epoch
    lengthy = make_task(spec(folder, ",tokens=1")).training_data(64)
    assert {len(b.targets) for b in lengthy.batches(0)} == {1}  # a pair of more tokens is a batch by itself


def test_a_number_of_pairs_beside_a_number_of_tokens_is_refused(folder):
    task = make_task(spec(folder, ",tokens=60"))
    wanted = r"batch_size=16 and tokens=60 of task .* both say how large a training batch is; leave one of them out"
    given = {"space": "hat-multi30k", "objectives": ["nll:min"], "task": task.spec, "train": {"batch_size": 16}}
    with pytest.raises(ConfigError, match=wanted):
        make_problem(make_config(given))
    assert make_problem(make_config(given | {"train": {}})).task.batch_tokens == 60
    assert make_problem(make_config(given | {"task": spec(folder)})).training_batch_size == 16
    run = SimpleNamespace(config=SimpleNamespace(train=SimpleNamespace(batch_size=None)))
    with pytest.raises(ConfigError, match=wanted):
        FinetuneSettings(batch_size=16).inputs_of_a_step(run, task)
    assert FinetuneSettings().inputs_of_a_step(run, task) == 64
    assert task.describe_training_batches(64) == {"batch_tokens": 60}  # what fine-tunings and gaps record
    assert make_task(spec(folder)).describe_training_batches(64) == {"batch_size": 64}


def test_tokenised_once(folder, tmp_path, monkeypatch):
    from nassearch.tasks import subwords

    task = make_task(spec(folder))
    (cached,) = (tmp_path / "cache" / "nassearch" / "translation").iterdir()
    assert cached.suffix == ".npz"
    with np.load(cached, allow_pickle=False) as data:
        assert set(data) == {"model", "source", "source_starts", "target", "target_starts"}
    with monkeypatch.context() as patch:
        patch.setattr(subwords, "train_vocabulary", lambda *_: pytest.fail("the cache was not used"))
        assert make_task(spec(folder)).fingerprint == task.fingerprint
    cached.write_bytes(cached.read_bytes()[:500])  # a damaged cache is made anew
    assert make_task(spec(folder)).fingerprint == task.fingerprint
    file = tmp_path / "m.model"
    file.write_bytes(task.arrays["model"].tobytes())
    given = make_task(f"translation:multi30k:{folder},max_length=30,vocabulary={file}")
    assert given.model_options == task.model_options


def test_payload(folder):
    task = make_task(spec(folder))
    copy = from_payload(*task.to_payload())
    assert copy.fingerprint == task.fingerprint
    assert copy.reference("report") == task.reference("report")
    assert copy.describe() == task.describe()


def test_pair_of_files(folder):
    task = make_task(f"translation:{folder / 'train.en'}:{folder / 'train.de'},{OPTIONS}")
    assert {s: task.size(s) for s in ("train", "calibration", "search", "report")} == {
        "train": 95, "calibration": 2, "search": 11, "report": 12,
    }  # fmt: skip
    assert all(set(line.split()) <= set(GERMAN) for line in task.reference("report"))


def test_hub_data(folder, monkeypatch):
    from nassearch.tasks import hub

    class Table(list):
        column_names = ("translation",)

        def __getitem__(self, key):
            return [row["translation"] for row in list(self)] if key == "translation" else super().__getitem__(key)

    def loaded(name, config, revision, instead):
        assert (name, config, revision) == ("bentrevett/multi30k", None, None)
        rows = [{"translation": {"de": a, "en": b}} for a, b in zip(*pairs(80, 0), strict=True)]
        return {"train": Table(rows), "validation": Table(rows[:9]), "test": Table(rows[:8])}

    monkeypatch.setattr(hub, "load_hub", loaded)
    task = make_task(f"translation:hf:bentrevett/multi30k,{OPTIONS}")
    assert (task.size("search"), task.size("report")) == (9, 8)
    with pytest.raises(DataError, match="no language 'fr'"):
        make_task(f"translation:hf:bentrevett/multi30k,{OPTIONS},target=fr")
    monkeypatch.setattr(hub, "load_hub", lambda *_: {"train": Table([{"translation": {"de": "hund", "en": None}}])})
    with pytest.raises(DataError, match=r"\(train\) en, line 1 is empty"):
        make_task(f"translation:hf:bentrevett/multi30k,{OPTIONS}")
    with pytest.raises(ConfigError, match="revision is of a data set of the hub"):
        make_task(spec(folder, ",revision=main"))


def test_faults_name_file_and_line(folder, tmp_path):
    english, german = folder / "train.en", folder / "train.de"
    whole = english.read_text()
    english.write_text("\n".join(whole.splitlines()[:100]) + "\n")
    with pytest.raises(DataError, match=r"train\.de has 120 lines, .*train\.en 100: line 101 of .*train\.de has no"):
        make_task(spec(folder))
    lines = whole.splitlines()
    lines[6], lines[41] = "", "  "
    english.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError) as raised:
        make_task(spec(folder))
    assert [f.partition(" is empty")[0] for f in raised.value.faults] == [f"{english}, line 7", f"{english}, line 42"]
    english.unlink()
    with pytest.raises(DataError, match=r"train\.en: no such file"):
        make_task(spec(folder))
    english.write_bytes(b"fine\nalso fine\nb\xff\n")
    with pytest.raises(DataError, match=r"train\.en, about line 3: not UTF-8"):
        make_task(spec(folder))
    german.unlink()
    english.unlink()
    with pytest.raises(DataError, match=r"no train.de and train.en; file endings there: de, en"):
        make_task(spec(folder))
    with pytest.raises(DataError, match="is no folder"):
        make_task(spec(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="names no pairs"):
        make_task("translation:multi30k")
    assert not (tmp_path / "cache").exists()


def test_faults_of_the_vocabulary(folder, tmp_path):
    with pytest.raises(DataError, match="no vocabulary of 5000 tokens"):
        make_task(spec(folder).replace("vocab_size=60", "vocab_size=5000"))
    (tmp_path / "bad.model").write_bytes(b"nothing")
    with pytest.raises(DataError, match="no sentencepiece model"):
        make_task(given := f"translation:multi30k:{folder},max_length=30,vocabulary={tmp_path / 'bad.model'}")
    with pytest.raises(DataError, match="cannot be read"):
        make_task(given.replace("bad.model", "absent.model"))
    with pytest.raises(ConfigError, match="vocab_size is of a vocabulary that is learnt"):
        make_task(f"{given},vocab_size=60")
    task = make_task(spec(folder))
    assert "none of the supernet's 20" in str(inputs_fault(supernet(20), task))
    assert inputs_fault(supernet(90), task) == "it has 90 classes, the task 60"
    assert inputs_fault(supernet(60), task) is None
    assert "by name" in str(inputs_fault(build("mobilenetv3-tiny"), task))


def test_a_supernet_of_another_vocabulary_of_the_size_is_refused(folder, tmp_path):
    """Of another seed, say: its training pairs, and so its subwords, are others."""
    first, second = (make_task(spec(folder, ",train=90"), seed=s) for s in (0, 1))
    assert first.model_options["vocab_size"] == second.model_options["vocab_size"]
    known = {"vocab_size": 60, "vocabulary": first.model_options["vocabulary"]}
    save(build("hat-multi30k", **known), tmp_path / "known")
    save(build("hat-multi30k", vocab_size=60), tmp_path / "unknown")
    file = tmp_path / "m.model"
    file.write_bytes(first.arrays["model"].tobytes())
    given = {"space": "hat-multi30k", "objectives": ["nll:min"], "supernet": tmp_path / "known"}

    def built(seed: int, task: str, **more: object) -> Supernet:
        return make_problem(make_config(given | {"task": task, "seed": seed} | more)).build_supernet()

    assert built(0, spec(folder, ",train=90")).config()["vocabulary"] == known["vocabulary"]
    with pytest.raises(ConfigError, match=r"it has vocabulary=\w{16}, the task needs vocabulary=\w{16}"):
        built(1, spec(folder, ",train=90"))
    built(1, f"translation:multi30k:{folder},max_length=30,vocabulary={file}")
    built(1, spec(folder, ",train=90"), supernet=tmp_path / "unknown")


def test_loss_ignores_padding(folder):
    task = make_task(spec(folder))
    (batch,) = task.batches("search", 64)
    outputs = torch.randn(*batch.targets.shape, 60, generator=torch.Generator().manual_seed(0))
    changed = outputs.clone()
    changed[batch.targets == -100] = 9.0
    assert torch.equal(task.loss(outputs, batch.targets), task.loss(changed, batch.targets))
    scores = task.score(outputs, batch.targets)
    assert scores["loss"] == pytest.approx(float(task.loss(outputs, batch.targets)), rel=1e-5)
    plain = torch.nn.functional.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten(), ignore_index=-100)
    assert scores["nll"] == pytest.approx(float(plain), rel=1e-5)


def test_evaluated_batches_have_few_logits(folder, monkeypatch):
    from nassearch.tasks import translations

    task, net, sizes = make_task(spec(folder)), supernet(60).eval(), []

    def forward(inputs):
        outputs = net(**inputs)
        sizes.append(outputs.numel())
        return outputs

    whole = task.evaluate(forward, "search")
    assert len(sizes) == 1
    monkeypatch.setattr(translations, "_MOST_LOGITS", most := sizes.pop() // 3)
    assert task.evaluate(forward, "search") == pytest.approx(whole, rel=1e-6)
    assert len(sizes) >= 3
    assert max(sizes) <= most
    monkeypatch.setattr(translations, "_MOST_LOGITS", 1)  # a pair at a time is the least
    assert task.evaluate(forward, "search") == pytest.approx(whole, rel=1e-6)


def test_bleu_of_the_references_is_100(folder):
    task = make_task(spec(folder, ",beam=1"))

    def generate(inputs, *, beam, length):
        """Writes what the reference says, then the end, then anything."""
        rows = next(iter(task.batches("report", 64)))
        written = torch.where(rows.targets == -100, 1, rows.targets)
        return torch.cat([written, torch.full((len(written), 1), 5)], dim=1)

    assert task.evaluate_sequences(generate, "report", batch_size=64) == {"bleu": pytest.approx(100.0)}
    assert corpus_bleu(["a cat sat on the mat"], ["a dog lay in the house"]) < 20
    quiet = make_task(spec(folder, ",bleu=report"))
    assert quiet.metrics == {"nll": "min", "loss": "min"}
    assert quiet.evaluate_sequences(generate, "search") == {}


def settings(**more: object) -> TrainSettings:
    given = {"optimizer": "adamw", "lr": 1e-2, "clip_norm": 1.0, "weight_decay": 0.0, "warmup": 0.1}
    return TrainSettings(**(method_settings("single-path") | given | more))


def test_trained_and_scored(folder, monkeypatch):
    """The supernet learns; evaluation gives BLEU, and the latency of a whole translation."""
    task = make_task(spec(folder, ",beam=2"))
    net = supernet(60)
    evaluation = EvaluationSettings(
        metrics=("bleu", "latency_ms"),
        latency={"latency_ms": LatencySetting.parse("cpu:eager,batch=1,threads=1,sequence=8")},
        device="cpu",
    )
    (arch,) = net.space.decode(net.space.largest[None])
    before = SupernetEvaluator(net, task, evaluation).quality(arch).values
    train(net, task.training_data(32), task.loss, method="single-path", settings=settings(epochs=100))
    evaluator = SupernetEvaluator(net, task, evaluation)
    after = evaluator.quality(arch).values
    assert {"bleu", "nll", "loss", "params_m", "macs_m", "size_mb"} <= set(after)
    assert after["nll"] < 0.7 * before["nll"]
    assert after["bleu"] > before["bleu"]
    assert evaluator.quality(arch).values == after
    timed: list[torch.nn.Module] = []
    monkeypatch.setattr(net, "timed", lambda a: timed.append(HatSupernet.timed(net, a)) or timed[-1])
    assert evaluator.cost(arch).values["latency_ms"] > 0
    assert timed[0](**net.example_inputs(arch, sequence=8)).shape == (1, 8)


@pytest.mark.parametrize(
    ("method", "more", "mixture"),
    [
        ("single-path", "", None),
        ("sandwich", "", None),
        ("sandwich", ",tokens=240", "neuron"),
        ("single-path", ",tokens=240", "layer"),
    ],
)
def test_resumed_training_ends_alike(folder, tmp_path, method, more, mixture):
    task = make_task(spec(folder, more))

    def made() -> HatSupernet:
        net = supernet(60)
        if mixture is not None:
            net.mix(MixtureSpec(mixture, 2))
        return net

    def run(where: Path, stop_at: int | None) -> dict[str, torch.Tensor]:
        net = made()

        class Stop(Exception):
            pass

        def progress(event: object) -> None:
            calls.append(event)
            if stop_at is not None and len(calls) == stop_at:
                raise Stop

        for attempt in range(2 if stop_at else 1):
            calls: list[object] = []
            if attempt:
                net, stop_at = made(), None
            try:
                report = train(
                    net, task.training_data(32), task.loss, method=method, checkpoint_dir=where, resume=True,
                    settings=settings(epochs=2, checkpoint_every=3), progress=progress,
                )  # fmt: skip
            except Stop:
                continue
            assert (report.resumed_from or 0) % 3 == 0
            assert bool(report.resumed_from) == bool(attempt)
        return net.state_dict()

    whole, resumed = run(tmp_path / "a", None), run(tmp_path / "b", 5)
    assert [n for n in whole if not torch.equal(whole[n], resumed[n])] == []


@pytest.mark.needs_shared
def test_multi30k(shared_data, tmp_path):
    """The real files, in their full size."""
    task = make_task(f"translation:multi30k:{shared_data / 'multi30k_en_de'},vocab_size=2000,cache={tmp_path}")
    assert {s: task.size(s) for s in ("train", "calibration", "search", "report")} == {
        "train": 28500, "calibration": 500, "search": 1014, "report": 1000,
    }  # fmt: skip
    assert task.input_shape[0] <= 100
    assert inputs_fault(build("hat-multi30k", vocab_size=2000), task) is None
