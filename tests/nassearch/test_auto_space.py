"""Runs on pre-trained models: the model becomes the space; what does not fit is refused before any work."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers as hf
import yaml
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import nassearch
from nassearch import unit_order
from nassearch.config import make_config
from nassearch.console import make_console
from nassearch.errors import ConfigError, RunFolderError
from nassearch.finetuning import FinetuneSettings, finetune
from nassearch.pretrained import load_pretrained
from nassearch.problem import make_problem
from nassearch.runs import Run
from nassearch.tasks import make_task
from supernets import call, convert

WORDS = ["good", "fine", "great", "bad", "poor", "awful", "film", "plot", "cast"]
SIZES = {
    "vocab_size": 13,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
}
LAST = "supernet"


def save_tokenizer(folder: Path) -> None:
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tok = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tok.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tok.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    hf.PreTrainedTokenizerFast(
        tokenizer_object=tok, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model without a head for the task, with its tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "bert"
    torch.manual_seed(3)
    hf.BertForMaskedLM(hf.BertConfig(**SIZES)).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    lines = ["sentence\tlabel"]
    for i in range(120):
        words = [WORDS[3 * (i % 2) + rng.integers(0, 3)], *(WORDS[6 + w] for w in rng.integers(0, 3, 5))]
        lines.append(" ".join(words) + "\t" + ["pos", "neg"][i % 2])
    path = tmp_path_factory.mktemp("texts") / "texts.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def settings(bert: Path, texts: Path) -> dict[str, Any]:
    return {
        "space": "auto",
        "model": str(bert),
        "task": f"text-classification:{texts},tokenizer={bert}",
        "objectives": ["accuracy:max", "macs_m:min"],
        "constraints": ["latency_ms <= 120%"],
        "latency": ["cpu:eager,budget_ms=10"],
        "num_evals": 8,
        "batch_size": 4,
        "strategy": "nsga2",
        "train": {"method": "instatune", "batch_size": 16, "settings": {"steps": 6, "checkpoint_every": 2}},
        "export": {"format": "none"},
    }


def go(settings: dict[str, Any], out: Path) -> Run:
    return nassearch.run(settings | {"out": str(out)}, console=make_console(quiet=True))


@pytest.fixture(scope="session")
def finished_auto(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return go(settings, tmp_path_factory.mktemp("auto") / "run").folder


def weights(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / LAST).glob("*.safetensors"))


def test_a_model_of_a_folder_is_searched_from_one_configuration(finished_auto: Path, bert: Path) -> None:
    run = Run(finished_auto)
    assert run.space.name == "bert"
    assert len(run.records) == 8
    assert all(r.status == "ok" for r in run.records)
    assert run.config.model == str(bert.resolve())
    assert run.manifest["importance_order"] is True
    assert any("classifier.weight" in note for note in run.manifest["model_notes"])
    assert run.supernet().space.identity == run.space.identity
    assert "accuracy" in run.front[0].values
    assert run.goal.constraints[0].source.of == "largest"
    assert (finished_auto / "report.html").is_file()


def test_a_run_that_was_stopped_while_training_ends_the_same(
    settings: dict[str, Any], finished_auto: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import supernets.training.loop as loop

    exact = settings | {"constraints": []}
    whole = go(exact, tmp_path / "whole")
    real, calls = loop.seed_step, []

    def stop(seed: int, step: int, device: torch.device, rank: int = 0) -> None:
        calls.append(step)
        if step == 3:
            raise KeyboardInterrupt
        real(seed, step, device, rank)

    monkeypatch.setattr(loop, "seed_step", stop)
    with pytest.raises(KeyboardInterrupt):
        go(exact, tmp_path / "half")
    monkeypatch.setattr(loop, "seed_step", real)
    with monkeypatch.context() as patched:  # the order is kept: it is not found a second time
        patched.setattr(unit_order, "order_units", lambda *_: pytest.fail("ordered again"))
        again = nassearch.resume(tmp_path / "half", console=make_console(quiet=True))
    assert calls == [0, 0, 1, 2, 3]  # a rehearsal of one step, then the training
    assert weights(again.folder) == weights(whole.folder)
    assert [r.values for r in again.records] == [r.values for r in whole.records]
    others = [{"importance_order": False}, {"rehearsal": 0}, {"order_layers": False}]
    folders = [
        go(exact | {"train": exact["train"] | other}, tmp_path / str(i)).folder for i, other in enumerate(others)
    ]
    found = [weights(whole.folder), *(weights(folder) for folder in folders)]
    assert len({tuple(names) for names in found}) == len(found)
    assert Run(folders[2]).supernet().config()["layer_order"] == {"": [0, 1, 2]}


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"importance_order": False, "rehearsal": 3}, r"train.rehearsal have no effect: units are not ordered"),
        ({"method": "sandwich", "order_layers": False}, r"train.order_layers have no effect: units are not ordered"),
    ],
)
def test_settings_of_an_order_that_is_not_made(
    settings: dict[str, Any], tmp_path: Path, train: dict[str, Any], message: str
) -> None:
    changed = settings | {"train": {**settings["train"], "options": {}} | train}
    with pytest.raises(ConfigError, match=message):
        go(changed, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_rehearsal_is_for_new_weights(settings: dict[str, Any], bert: Path, tmp_path: Path) -> None:
    problem = make_problem(make_config(settings | {"out": str(tmp_path)}))
    net = problem.build_supernet()
    assert problem.source.new_weights
    assert unit_order.rehearsed_steps(problem, net) == 1
    tuned = tmp_path / "tuned"
    load_pretrained(str(bert), problem.task, seed=0).module.save_pretrained(tuned)  # type: ignore[operator]
    again = make_problem(make_config(settings | {"model": str(tuned), "out": str(tmp_path)}))
    assert not again.source.new_weights
    assert unit_order.rehearsed_steps(again, again.build_supernet()) == 0


def test_networks_from_scratch_have_the_layers_that_the_run_keeps(finished_auto: Path) -> None:
    from nassearch.gap.scratch import make_recipe

    run = Run(finished_auto)
    recipe = make_recipe(run)
    trained = run.supernet().config()["layer_order"]
    assert [recipe.first_weights(run, seed).config()["layer_order"] for seed in (1, 2, 3)] == [trained] * 3


def test_a_trained_run_goes_on_without_its_model(
    settings: dict[str, Any], bert: Path, texts: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(bert, tmp_path / "model"))
    run = go(settings | {"model": str(moved), "constraints": []}, tmp_path / "run")
    shutil.rmtree(moved)
    longer = nassearch.resume(run.folder, num_evals=10, console=make_console(quiet=True))
    assert len(longer.records) == 10
    reused = go(
        settings | {"model": None, "supernet": str(run.folder / "supernet"), "train": {"method": "none"}},
        tmp_path / "reused",
    )
    assert weights(reused.folder) == weights(run.folder)
    warm = go(
        {
            "warm_start": [str(run.folder)],
            "reuse": ["accuracy"],
            "model": None,
            "objectives": ["accuracy:max", "macs_m:min"],
            "num_evals": 4,
            "batch_size": 4,
            "strategy": "nsga2",
            "export": {"format": "none"},
        },
        tmp_path / "warm",
    )
    assert weights(warm.folder) == weights(run.folder)


def test_a_model_of_timm_on_images(tmp_path: Path, small_task: str) -> None:
    torch.manual_seed(0)
    tiny = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 7}
    model = timm.create_model("vit_tiny_patch16_224", **tiny)
    timm.models.save_for_hf(model, tmp_path / "vit", model_args=tiny | {"num_classes": 7}, safe_serialization=True)
    run = go(
        {
            "space": "auto",
            "model": f"timm:{tmp_path / 'vit'}",
            "task": small_task,
            "objectives": ["accuracy:max", "params_m:min"],
            "num_evals": 4,
            "batch_size": 4,
            "strategy": "random",
            "train": {"method": "instatune", "settings": {"steps": 2}},
            "export": {"format": "none"},
        },
        tmp_path / "run",
    )
    assert run.config.objectives == ["top1:max", "params_m:min"]
    assert run.space.name == "timm-vit"
    assert any("7 classes, the task 10" in note for note in run.manifest["model_notes"])
    assert run.select("best-accuracy").id == run.select("best-top1").id


def test_a_vision_transformer_of_transformers_takes_images_by_name(small_task: str) -> None:
    config = hf.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8,
        num_channels=1, num_labels=10,
    )  # fmt: skip
    net = convert(hf.ViTForImageClassification(config).eval())
    images = torch.rand(2, 1, 16, 16)
    assert torch.equal(call(net, net.fit_inputs((images,))).logits, net(pixel_values=images).logits)


def test_the_new_head_depends_on_the_seed_alone(bert: Path, settings: dict[str, Any]) -> None:
    task = make_task(settings["task"])
    torch.manual_seed(1)
    first = load_pretrained(str(bert), task, seed=5).module.state_dict()
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    again = load_pretrained(str(bert), task, seed=5).module
    assert torch.equal(torch.random.get_rng_state(), state)
    other = load_pretrained(str(bert), task, seed=6).module.state_dict()
    assert all(torch.equal(again.state_dict()[n], t) for n, t in first.items())
    assert not torch.equal(other["classifier.weight"], first["classifier.weight"])
    assert again.config.id2label == {0: "neg", 1: "pos"}


def test_heads_of_other_sizes_and_orders(bert: Path, settings: dict[str, Any], tmp_path: Path) -> None:
    task = make_task(settings["task"])

    def saved(name: str, labels: list[str]) -> str:
        config = hf.BertConfig(**SIZES, id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)})
        hf.BertForSequenceClassification(config).save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    three = load_pretrained(saved("three", ["a", "b", "c"]), task, seed=0)
    assert three.module.config.num_labels == 2
    assert "has 3 classes, the task 2: a new one is drawn" in three.notes[0]
    assert load_pretrained(saved("same", ["NEG", "POS"]), task, seed=0).notes == ()
    assert "'neg' is 'x'" in load_pretrained(saved("other", ["x", "y"]), task, seed=0).notes[0]
    with pytest.raises(ConfigError, match="would be taken for other classes"):
        load_pretrained(saved("swapped", ["pos", "neg"]), task, seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": None}, "--space auto is the space of a pre-trained model; name it by --model"),
        ({"space": "mobilenetv3-tiny"}, "becomes a supernet with --space auto"),
        ({"model": "./nowhere"}, "--model ./nowhere does not exist; give a folder"),
        ({"model_options": {"dept": [1, 3]}}, r"cannot make 'dept' elastic .* did you mean 'depth'\?.*uniform"),
        ({"model_options": {"depth": [1, 2]}}, "lacks 3, the model's own"),
        ({"space": "aut"}, "of a pre-trained model.*: auto"),
        ({"objectives": ["accurac:max"]}, "unknown metric 'accurac'"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(
    settings: dict[str, Any], change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        go(settings | change, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_models_that_cannot_be_used_are_refused(settings: dict[str, Any], bert: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"has no config.json, so it is no folder of a model"):
        make_problem(make_config(settings | {"model": str(tmp_path / "empty")}))
    funnel = hf.FunnelConfig(vocab_size=13, block_sizes=[1], d_model=8, n_head=1, d_head=8, d_inner=8)
    hf.FunnelForSequenceClassification(funnel).save_pretrained(tmp_path / "funnel")
    with pytest.raises(ConfigError, match=r"cannot convert a .*Funnel.*supported: .*bert.*adapters\.md"):
        make_problem(make_config(settings | {"model": str(tmp_path / "funnel")}))
    short = hf.BertConfig(**SIZES | {"max_position_embeddings": 5})
    hf.BertForSequenceClassification(short).save_pretrained(tmp_path / "short")
    long = settings["task"] + ",max_length=20"
    with pytest.raises(ConfigError, match=r"max_length=20 is more than the model's limit of 5 tokens"):
        make_problem(make_config(settings | {"model": str(tmp_path / "short"), "task": long}))
    config = json.loads((bert / "config.json").read_text())
    broken = Path(shutil.copytree(bert, tmp_path / "broken"))
    (broken / "config.json").write_text(json.dumps(config | {"hidden_size": 8}))
    with pytest.raises(ConfigError, match="weights do not have the shapes that its config"):
        make_problem(make_config(settings | {"model": str(broken)}))


def test_labels_in_another_order_than_the_runs_are_refused(
    settings: dict[str, Any], finished_auto: Path, bert: Path, texts: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(finished_auto, tmp_path / "run"))
    model = Path(shutil.copytree(bert, tmp_path / "model"))
    config = yaml.safe_load((copy / "config.yaml").read_text())
    (copy / "config.yaml").write_text(yaml.safe_dump(config | {"model": str(model)}))
    assert Run(copy).task().class_names == ["neg", "pos"]
    assert Run(copy).supernet().class_names == ["neg", "pos"]
    saved = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(saved | {"id2label": {"0": "pos", "1": "neg"}}))
    with pytest.raises(RunFolderError, match=r"restore the data and the model .*order of labels"):
        Run(copy).task()
    # The task takes the order of --model; the supernet has its own.
    again = {"model": str(model), "supernet": str(finished_auto / "supernet"), "train": {"method": "none"}}
    with pytest.raises(ConfigError, match=r"its outputs are the classes \['neg', 'pos'\], in this order.*--model"):
        make_problem(make_config(settings | again)).build_supernet()
    make_problem(make_config(settings | again | {"model": str(bert)})).build_supernet()


def test_a_body_that_is_not_whole_is_refused(settings: dict[str, Any], bert: Path, tmp_path: Path) -> None:
    lacking = Path(shutil.copytree(bert, tmp_path / "lacking"))
    tensors = load_file(lacking / "model.safetensors")
    key = "bert.encoder.layer.1.output.dense.weight"
    save_file({n: t for n, t in tensors.items() if n != key}, lacking / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=rf"lacks 1 weights of its body, which would be random: {key}"):
        load_pretrained(str(lacking), make_task(settings["task"]), seed=0)


def test_an_export_has_the_tokenizer_of_the_task_where_the_model_is_elsewhere(
    finished_auto: Path, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(finished_auto)
    # As of a model on the hub: there is no folder whose files could be copied.
    importlib.import_module("nassearch.exports")
    monkeypatch.setattr(sys.modules["nassearch.exports.export"], "folder_of", lambda name: None)
    nassearch.export(run, str(run.front[0].id), "transformers", tmp_path / "out")
    wanted = hf.AutoTokenizer.from_pretrained(bert)("good film")["input_ids"]
    assert hf.AutoTokenizer.from_pretrained(tmp_path / "out")("good film")["input_ids"] == wanted


@pytest.mark.parametrize("trusted", [False, True])
def test_code_of_a_tokenizer_runs_only_where_it_is_trusted(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    real, asked = hf.AutoTokenizer.from_pretrained, []

    def load(source: Any, **options: Any) -> Any:
        asked.append(options["trust_remote_code"])
        return real(source, **options)

    monkeypatch.setattr(hf.AutoTokenizer, "from_pretrained", load)
    make_task(settings["task"], trust_remote_code=trusted)
    assert asked == [trusted]


def test_a_subnet_of_a_pre_trained_model_is_trained_on_and_loads_without_us(
    finished_auto: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "code"))
    run = Run(finished_auto)
    smallest = min(run.front, key=lambda r: r.values["macs_m"])
    tuning = FinetuneSettings(epochs=3, lr=0.01, batch_size=16)
    quiet = make_console(quiet=True)
    result = finetune(run, str(smallest.id), tuning, out=tmp_path / "out", format="transformers", console=quiet)
    for split, before in {"search": smallest.values, "report": smallest.report}.items():
        assert result.before[split]["accuracy"] == pytest.approx(before["accuracy"])
    assert result.after["search"]["loss"] < result.before["search"]["loss"]
    settings = json.loads((tmp_path / "out" / "finetune.json").read_text())["training"]
    assert settings["options"]["teacher"] == "supernet"
    card = json.loads((tmp_path / "out" / "transformers" / "card.json").read_text())
    assert card["metrics"]["report_split"] == result.after["report"]
    # In plain transformers it is what was scored.
    folder = tmp_path / "out" / "transformers"
    model = hf.AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()
    hits = total = 0
    for batch in run.task().batches("report", 8):
        with torch.no_grad():
            hits += int((model(**batch.inputs).logits.argmax(-1) == batch.targets).sum())
        total += len(batch.targets)
    assert 100 * hits / total == pytest.approx(result.after["report"]["accuracy"])
