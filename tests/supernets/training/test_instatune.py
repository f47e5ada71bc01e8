"""InstaTune: its loss against hand-computed ones, who teaches whom, options, teachers, resume."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from tiny_models import make_model
from torch.nn import functional
from training_toy import ToyData, ToySupernet, loss, same, settings, toy_space, weights_of

from supernets import convert, registry, save
from supernets.base import call
from supernets.training import (
    InstaTune,
    InvalidSettings,
    Passes,
    ResumeError,
    kl_loss,
    make_method,
    method_options,
    method_settings,
    prepare,
    soft_targets_loss,
    train,
)
from supernets.training.teachers import check_teacher, load_teacher

CPU = torch.device("cpu")
BATCH = next(ToyData().batches(0))


@pytest.fixture
def teacher(tmp_path, monkeypatch):
    """The folder of a toy supernet with other weights."""
    monkeypatch.setitem(registry._FAMILIES, "toy", ToySupernet)
    save(ToySupernet(seed=7), tmp_path / "teacher")
    return str(tmp_path / "teacher")


def gradients(step=0, net=None, **options):
    """What the method adds up, and the subnets that ran."""
    net = net or ToySupernet()
    method = make_method("instatune", net.space, total_steps=10, **options)
    method.check(net)
    method.enter(method.phases[0], net)
    subnets, passes = method.subnets(step), Passes(net, loss, CPU)
    passes.start(step)
    method.backward(BATCH, subnets, passes)
    return of(net), subnets


def of(net):
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in net.named_parameters()}


def formula(subnets, alpha, gamma, temperature=1.0, stop=True, teacher=None):
    """The paper's loss, written down and differentiated at once."""
    net = ToySupernet()

    def run(arch):
        net.activate(arch)
        return call(net, net.fit_inputs(BATCH.inputs, arch))

    def kl(student, wanted):
        student, wanted = (x.div(temperature).log_softmax(-1) for x in (student, wanted))
        return functional.kl_div(student, wanted, reduction="batchmean", log_target=True) * temperature**2

    t = None
    if teacher is not None:
        with torch.no_grad():
            t = call(teacher.eval(), BATCH.inputs)
    s, *others = (run(arch) for arch in subnets)
    source = s.detach() if stop else s
    labels = sum((loss(x, BATCH.targets) for x in others), loss(s, BATCH.targets))
    soft = sum(((1 - gamma) * kl(x, source) for x in others), torch.zeros(()))
    if t is not None:
        soft = soft + gamma * sum((kl(x, t) for x in others), kl(s, t))
    (alpha * labels + (1 - alpha) * soft).backward()
    return of(net)


def close(a, b, tolerance=1e-6):
    assert a.keys() == b.keys()
    for k in a:
        torch.testing.assert_close(a[k], b[k], atol=tolerance, rtol=1e-4, msg=lambda m, k=k: f"{k}: {m}")


@pytest.mark.parametrize("gamma", [0, 0.25, 1])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_gradients_are_those_of_the_formula(gamma, temperature, teacher):
    options = {"alpha": 0.3, "gamma": gamma, "temperature": temperature}
    got, subnets = gradients(**options, random_subnets=2, smallest=True, teacher=teacher if gamma else None)
    assert len(subnets) == 4
    close(got, formula(subnets, **options, teacher=ToySupernet(seed=7) if gamma else None))


def test_gradients_without_the_stop_are_those_of_the_formula_without_it():
    options = {"alpha": 0.4, "gamma": 0, "random_subnets": 3}
    got, subnets = gradients(**options, stop_gradient=False)
    close(got, formula(subnets, 0.4, 0, stop=False))
    stopped, _ = gradients(**options)
    assert not torch.allclose(stopped["head.weight"], got["head.weight"], rtol=1e-2)


def test_labels_alone_are_the_sandwich_without_distillation():
    got, subnets = gradients(step=4, alpha=1, random_subnets=2, smallest=True)
    net = ToySupernet()
    sandwich = make_method("sandwich", net.space, total_steps=10, random_subnets=2, distillation=False)
    assert sandwich.subnets(4) == subnets
    sandwich.backward(BATCH, subnets, Passes(net, loss, CPU))
    close(got, of(net))


def test_labels_alone_and_no_subnet_are_plain_fine_tuning():
    got, subnets = gradients(alpha=1, random_subnets=0)
    net = ToySupernet()
    assert subnets == [net.active]
    loss(net(*BATCH.inputs), BATCH.targets).backward()
    assert same(got, of(net))


def test_teacher_alone_and_no_subnet_are_plain_distillation(teacher):
    got, _ = gradients(alpha=0, gamma=1, temperature=2.0, random_subnets=0, teacher=teacher)
    net = ToySupernet()
    taught = ToySupernet(seed=7).eval()(*BATCH.inputs)
    soft_targets_loss(net(*BATCH.inputs), taught, 2.0).backward()
    close(got, of(net))


def test_kl_is_zero_at_the_teacher_and_differs_from_soft_targets_by_their_entropy():
    student, wanted = torch.randn(5, 3), torch.randn(5, 3)
    assert float(kl_loss(wanted, {"logits": wanted}, 2.0)) == pytest.approx(0.0, abs=1e-6)
    entropy = soft_targets_loss(wanted, wanted, 2.0)
    torch.testing.assert_close(kl_loss(student, wanted, 2.0), soft_targets_loss(student, wanted, 2.0) - entropy)


def outside(arch, name, gradient):
    """The part of a gradient that is outside the slices of the smallest subnet."""
    kept = torch.zeros_like(gradient, dtype=torch.bool)
    w, e, k = arch["width"], arch["e.0"], arch["kernel"]
    places = {
        "stem.weight": (slice(w), slice(k)), "stem.bias": slice(w),
        "grow.0.weight": (slice(e), slice(w)), "grow.0.bias": slice(e),
        "shrink.0.weight": (slice(w), slice(e)), "shrink.0.bias": slice(w),
        "norms.0.weight": slice(e), "norms.0.bias": slice(e),
        "head.weight": (slice(None), slice(w)), "head.bias": slice(None),
    }  # fmt: skip
    if name in places:
        kept[places[name]] = True
    return gradient[~kept]


@pytest.mark.parametrize("stop", [True, False])
def test_a_subnet_moves_its_slices_alone_unless_gradients_flow_into_the_largest(stop):
    alone, _ = gradients(alpha=0.3, random_subnets=0)
    both, subnets = gradients(alpha=0.3, random_subnets=0, smallest=True, stop_gradient=stop)
    changed = {n: both[n] - alone[n] for n in both}
    assert any(float(g.abs().max()) > 0 for g in changed.values())
    untouched = all(not outside(subnets[1], n, g).any() for n, g in changed.items())
    assert untouched == stop


def test_the_teacher_has_no_gradients_and_does_not_change(teacher):
    net = ToySupernet()
    method = make_method("instatune", net.space, total_steps=2, teacher=teacher)
    assert method.gamma == 1
    method.enter(method.phases[0], net)
    before = weights_of(method.teacher)
    assert not method.teacher.training
    passes = Passes(net, loss, CPU)
    method.backward(BATCH, method.subnets(0), passes)
    assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())
    assert same(before, weights_of(method.teacher))


def test_subnets_are_drawn_by_seed_and_step_and_the_smallest_is_added():
    space = toy_space()
    make = lambda **options: make_method("instatune", space, total_steps=50, **options)  # noqa: E731
    one = [make(seed=3).subnets(step) for step in range(50)]
    assert one == [make(seed=3).subnets(step) for step in range(50)]
    assert one != [make(seed=4).subnets(step) for step in range(50)]
    method = make(seed=3)
    assert all(len(archs) == 2 and archs[0] == method.largest for archs in one)
    assert len({json.dumps(archs[1]) for archs in one}) > 25
    sandwich = make(seed=3, random_subnets=2, smallest=True).subnets(0)
    assert len(sandwich) == 4
    assert sandwich[-1] == method.smallest


def test_high_then_low_switches_once(teacher, monkeypatch):
    method = make_method("instatune", toy_space(), total_steps=20, gamma="high-then-low", teacher=teacher)
    assert [method.gamma_at(i) for i in range(20)] == [1.0] * 10 + [0.0] * 10
    quarter = make_method(
        "instatune", toy_space(), total_steps=20, gamma="high-then-low", high_share=0.25, teacher=teacher
    )
    assert [quarter.gamma_at(i) for i in (4, 5)] == [1.0, 0.0]
    high, _ = gradients(step=4, gamma="high-then-low", teacher=teacher)
    low, _ = gradients(step=5, gamma="high-then-low", teacher=teacher)
    close(high, gradients(step=4, gamma=1, teacher=teacher)[0])
    close(low, gradients(step=5, gamma=0)[0])
    seen = []
    monkeypatch.setattr(InstaTune, "gamma_at", lambda self, step: seen.append(step) or 1.0)
    s = settings(steps=3, accumulate=2, evaluate_every=0, options={"teacher": teacher})
    train(ToySupernet(), ToyData(), loss, method="instatune", settings=s, score=None, device="cpu")
    assert seen == [0, 0, 1, 1, 2, 2]


def test_accumulation_equals_one_big_batch_and_bf16_trains(teacher):
    def trained(accumulate, batch_size, **changes):
        net = ToySupernet(norm=False)
        s = settings(steps=6, accumulate=accumulate, options={"teacher": teacher, "gamma": 0.5}, **changes)
        train(net, ToyData(n=80, batch_size=batch_size), loss, method="instatune", settings=s, device="cpu")
        return weights_of(net)

    big = trained(1, 40)
    close(trained(4, 10), big, 1e-5)
    half = trained(1, 40, amp="bf16")
    assert all(t.dtype is torch.float32 for t in half.values())
    close(half, big, 0.02)


def test_it_learns():
    values = method_settings("instatune") | {"lr": 0.01}
    report = train(
        ToySupernet(), ToyData(), loss, method="instatune", settings=settings(steps=120, **values), device="cpu"
    )
    assert report.top1_largest > 85
    assert report.top1_smallest > 45


# -- options -----------------------------------------------------------------------------------------


def test_options_and_settings():
    assert method_options("instatune") == {
        "alpha": 0.3, "gamma": None, "high_share": 0.5, "temperature": 1.0, "random_subnets": 1, "smallest": False,
        "stop_gradient": True, "layer_loss": 0.0, "teacher": None,
    }  # fmt: skip
    assert method_settings("instatune") == {
        "optimizer": "adamw", "lr": 5e-5, "weight_decay": 0.01, "warmup": 0.1, "decay": "linear", "clip_norm": 1.0,
    }  # fmt: skip
    assert settings(**method_settings("instatune")).faults() == []
    assert method_settings("sandwich") == {}


def test_option_faults_come_together():
    options = {
        "alpha": 2, "gamma": "low", "high_share": 1, "temperature": 0, "random_subnets": -1, "smallest": 1,
        "stop_gradient": "yes", "teacher": 5, "alfa": 1,
    }  # fmt: skip
    with pytest.raises(InvalidSettings) as error:
        make_method("instatune", toy_space(), total_steps=1, **options)
    assert len(error.value.faults) == 9
    assert "did you mean 'alpha'" in str(error.value)
    assert "gamma must be a number >= 0 and <= 1 or 'high-then-low', got 'low'" in str(error.value)
    with pytest.raises(InvalidSettings, match="gamma must be a number >= 0 and <= 1, got -1"):
        make_method("instatune", toy_space(), total_steps=1, gamma=-1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 1}, "give teacher=FOLDER, or gamma=0"),
        ({"gamma": "high-then-low"}, "give teacher=FOLDER"),
        ({"gamma": 0, "teacher": "t"}, "nothing learns from the teacher t; leave it out"),
        ({"alpha": 1, "teacher": "t"}, "nothing learns from the teacher t"),
        ({"alpha": 0}, "alpha=0 with gamma=0.0 leaves the largest network nothing"),
        ({"alpha": 0, "gamma": "high-then-low", "teacher": "t"}, "leaves the largest network nothing"),
    ],
)
def test_combinations_that_make_no_sense(options, message):
    with pytest.raises(InvalidSettings, match=message):
        make_method("instatune", toy_space(), total_steps=1, **options)


# -- teachers ----------------------------------------------------------------------------------------


def refused(net, folder, data=None):
    with pytest.raises(InvalidSettings) as error:
        prepare("instatune", settings(options={"teacher": str(folder)}), net, data or ToyData())
    (fault,) = error.value.faults
    return fault


def test_teachers_are_checked_before_training(tmp_path, teacher):
    net = ToySupernet()
    assert "is no folder" in refused(net, tmp_path / "none")
    assert "holds neither a supernet (supernet.json) nor" in refused(net, tmp_path)
    (tmp_path / "config.json").write_text('{"architectures": ["os"]}')
    assert "must name a model class" in refused(net, tmp_path)
    with pytest.raises(InvalidSettings) as error:  # with the faults of the settings
        prepare("instatune", settings(lr=0, options={"teacher": str(tmp_path)}), net, ToyData())
    assert len(error.value.faults) == 2
    next((tmp_path / "teacher").glob("*.safetensors")).unlink()
    assert "cannot be loaded" in refused(net, teacher)


def test_stock_models_teach_supernets_of_the_same_inputs_and_classes(tmp_path):
    bert = make_model("bert")
    net = convert(bert)
    bert.save_pretrained(tmp_path / "same")
    net.train()
    state = torch.get_rng_state()
    method = prepare("instatune", settings(options={"teacher": str(tmp_path / "same")}), net, ToyData())
    assert torch.equal(state, torch.get_rng_state())
    assert net.training
    assert type(method.teacher) is type(bert)
    make_model("electra").save_pretrained(tmp_path / "other")
    fault = refused(net, tmp_path / "other")
    assert "its logits are [2, 2], the supernet's [2, 3]; give a teacher of the same classes" in fault
    make_model("vit").save_pretrained(tmp_path / "image")
    assert "does not run on the supernet's inputs input_ids, attention_mask" in refused(net, tmp_path / "image")
    make_model("bert_base").save_pretrained(tmp_path / "headless")
    path = tmp_path / "headless" / "config.json"
    path.write_text(path.read_text().replace("BertModel", "BertForSequenceClassification"))
    assert "lacks weights of its BertForSequenceClassification: classifier" in refused(net, tmp_path / "headless")


def test_teachers_in_half_precision_and_with_other_class_orders(tmp_path):
    bert = make_model("bert")
    names = ["Yes", "no", "maybe"]
    bert.config.id2label = dict(enumerate(names))
    net = convert(bert)
    bert.config.id2label = dict(enumerate(n.upper() for n in names))
    bert.half().save_pretrained(tmp_path / "half")
    half = load_teacher(str(tmp_path / "half"))
    assert next(half.parameters()).dtype == torch.float32
    (largest,) = net.space.decode(net.space.largest[None])
    assert check_teacher(half, net, largest) is None
    half.config.id2label = {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert check_teacher(half, net, largest) is None
    half.config.id2label = {0: "no", 1: "yes", 2: "maybe"}
    fault = check_teacher(half, net, largest)
    assert fault == "its classes are no, yes, maybe, the supernet's yes, no, maybe; give a teacher with the same order"


def test_folders_of_timm_are_called_so(tmp_path):
    (tmp_path / "config.json").write_text('{"architecture": "vit_tiny_patch16_224", "num_classes": 3}')
    assert "is a model of timm (vit_tiny_patch16_224)" in refused(ToySupernet(), tmp_path)


@pytest.mark.parametrize("gamma", [1, "high-then-low"])
def test_resume_with_a_teacher(gamma, teacher, tmp_path):
    s = settings(steps=8, checkpoint_every=2, options={"teacher": teacher, "gamma": gamma}, optimizer="adamw", lr=0.003)

    def fit(folder=None, stop=None):
        def progress(state):
            if state.step == stop:
                raise KeyboardInterrupt

        net = ToySupernet(dropout=0.2)
        return net, train(
            net, ToyData(), loss, method="instatune", settings=s, checkpoint_dir=folder, resume=True,
            progress=progress, device="cpu",
        )  # fmt: skip

    whole, _ = fit()
    for stop in (3, 5, 7):
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "kept", stop)
    net, report = fit(tmp_path / "kept")
    assert report.resumed_from == 6
    assert same(weights_of(net), weights_of(whole))
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "other", 3)
    moved = shutil.move(teacher, tmp_path / "moved")
    s = replace(s, options={"teacher": str(moved), "gamma": gamma})
    assert fit(tmp_path / "other")[1].resumed_from == 2
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "third", 3)
    save(ToySupernet(seed=8), moved)
    with pytest.raises(ResumeError, match=r"settings\.options\.teacher: 'weights .*' in the checkpoint, now 'weights"):
        fit(tmp_path / "third")


def test_losses_are_float32_in_mixed_precision(teacher):
    net = ToySupernet()
    method = make_method("instatune", net.space, total_steps=10, gamma=0.5, teacher=teacher)
    method.check(net)
    passes = Passes(net, loss, CPU, "bf16")
    teachers = []
    passes.forward_frozen = lambda m, x: teachers.append(Passes.forward_frozen(passes, m, x)) or teachers[-1]
    labels = passes.loss(passes.forward(net.active, BATCH.inputs), BATCH.targets)
    assert labels.dtype == torch.float32
    method.backward(BATCH, method.subnets(0), passes)
    assert teachers[0].dtype == torch.bfloat16
    assert all(value.dtype == torch.float32 for _, _, value in passes.values)
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in net.parameters())
