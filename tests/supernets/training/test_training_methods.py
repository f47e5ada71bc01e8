"""What each method does in a step: gradients, targets, sampled subnets, phases."""

from __future__ import annotations

import pytest
import torch
from training_toy import ToyData, ToySupernet, loss, same, settings, toy_space, weights_of

from search_spaces import Gene, SearchSpace, get_space
from supernets.base import call
from supernets.training import (
    Batch,
    InvalidSettings,
    Method,
    Passes,
    Sandwich,
    TrainingError,
    UnknownMethod,
    list_methods,
    make_method,
    method_options,
    register_method,
    sample_subnets,
    soft_targets_loss,
    train,
)
from supernets.training.progressive_shrinking import shrinking_stages

CPU = torch.device("cpu")


def gradients(net):
    return {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}


def first_batch() -> Batch:
    return next(ToyData().batches(0))


def close(a, b, tolerance=1e-6):
    assert a.keys() == b.keys()
    for k in a:
        torch.testing.assert_close(a[k], b[k], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("distillation", [True, False])
def test_sandwich_gradients_are_the_sum_of_separate_passes(distillation):
    net, batch = ToySupernet(), first_batch()
    method = make_method(
        "sandwich", net.space, total_steps=10, random_subnets=2, distillation=distillation, temperature=2.0
    )
    subnets = method.subnets(3)
    assert subnets[0] == method.largest
    assert subnets[-1] == method.smallest
    assert len(subnets) == 4
    method.backward(batch, subnets, Passes(net, loss, CPU))
    together = gradients(net)

    net = ToySupernet()
    total = {}
    taught = call(net, net.fit_inputs(batch.inputs, method.largest)).detach()
    net = ToySupernet()
    for i, arch in enumerate(subnets):
        net.zero_grad(set_to_none=True)
        net.activate(arch)
        outputs = call(net, net.fit_inputs(batch.inputs))
        if i and distillation:
            # By another way than the library: cross-entropy with probabilities as targets.
            value = 4.0 * torch.nn.functional.cross_entropy(outputs / 2.0, (taught / 2.0).softmax(-1))
        else:
            value = loss(outputs, batch.targets)
        value.backward()
        for name, grad in gradients(net).items():
            total[name] = total.get(name, 0) + grad
    close(together, total, 1e-5)


def test_in_place_targets_have_no_gradient():
    student = torch.randn(4, 3, requires_grad=True)
    teacher = torch.randn(4, 3, requires_grad=True)
    soft_targets_loss(student, teacher).backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_soft_targets_loss_is_least_at_the_teacher_and_reads_logits():
    teacher = torch.randn(5, 3)
    at = soft_targets_loss(teacher.clone(), {"logits": teacher})
    assert at < soft_targets_loss(teacher + torch.randn(5, 3), teacher)
    assert torch.equal(at, soft_targets_loss((teacher, "more"), teacher))
    with pytest.raises(TrainingError, match="hold no logits"):
        soft_targets_loss("text", teacher)


def test_accumulation_equals_one_big_batch():
    def trained(accumulate, batch_size, n=80):
        net = ToySupernet(norm=False)  # batch statistics would differ
        data = ToyData(n=n, batch_size=batch_size)
        s = settings(steps=8, accumulate=accumulate)
        train(net, data, loss, method="sandwich", settings=s, device="cpu")
        return weights_of(net), net.ran

    big, ran_big = trained(1, 40)
    small, ran_small = trained(4, 10)
    close(big, small, 1e-5)
    # The same subnets for all batches of a step.
    assert ran_small[:16] == ran_big[:4] * 4
    ragged, _ = trained(2, 27, n=40)  # 27 + 13 inputs
    one, _ = trained(1, 40, n=40)
    close(ragged, one, 1e-5)


def test_single_path_runs_one_subnet_a_step_uniformly():
    net = ToySupernet()
    train(net, ToyData(), loss, method="single-path", settings=settings(steps=300, evaluate_every=0), device="cpu")
    ran = net.ran[:300]
    for gene in net.space.genes:
        if gene.active_when:
            continue
        for value in gene.choices:
            share = sum(a[gene.name] == value for a in ran) / len(ran)
            assert abs(share - 1 / len(gene.choices)) < 0.12


def test_sampled_subnets_depend_on_seed_and_step_alone_and_are_feasible():
    space = SearchSpace("f", [Gene("a", (1, 2, 3)), Gene("b", (1, 2, 3))], [{"a": {3}, "b": {1, 2}}])
    archs = sample_subnets(space, 200, 0, 5)
    assert archs == sample_subnets(space, 200, 0, 5)
    assert archs != sample_subnets(space, 200, 0, 6)
    assert archs != sample_subnets(space, 200, 1, 5)
    for arch in archs:
        space.validate(arch)


# -- progressive shrinking ---------------------------------------------------------------------------


def test_phases_restrict_the_genes():
    net = ToySupernet()
    method = make_method("progressive-shrinking", net.space, total_steps=300)
    names = [p.name for p in method.phases]
    assert names == ["largest", "kernel", "depth-1", "depth-2", "expand-1", "expand-2", "width"]
    assert method.phases[0].start == 0
    assert method.phases[-1].stop == 300
    assert all(a.stop == b.start for a, b in zip(method.phases, method.phases[1:], strict=False))
    only = {
        "largest": {"kernel": {16}, "depth": {3}, "e.0": {12}, "width": {16}},
        "kernel": {"kernel": {8, 16}, "depth": {3}, "e.0": {12}, "width": {16}},
        "depth-1": {"kernel": {8, 16}, "depth": {2, 3}, "e.0": {12}, "width": {16}},
        "depth-2": {"kernel": {8, 16}, "depth": {1, 2, 3}, "e.0": {12}, "width": {16}},
        "expand-1": {"depth": {1, 2, 3}, "e.0": {8, 12}, "width": {16}},
        "expand-2": {"depth": {1, 2, 3}, "e.0": {4, 8, 12}, "width": {16}},
        "width": {"kernel": {8, 16}, "depth": {1, 2, 3}, "e.0": {4, 8, 12}, "width": {8, 16}},
    }
    counts = dict(zip(names, (1, 1, 2, 2, 4, 4, 4), strict=True))
    for phase in method.phases:
        sampled = [method.subnets(s) for s in range(phase.start, phase.stop)]
        assert {len(archs) for archs in sampled} == {counts[phase.name]}
        flat = [a for archs in sampled for a in archs]
        for arch in flat:
            net.space.validate(arch)
        for gene, values in only[phase.name].items():
            assert {a[gene] for a in flat} == values, (phase.name, gene)
        assert {a["resolution"] for a in flat} == {8, 16}  # throughout


def test_trained_subnets_follow_the_phases_and_channels_are_sorted_once():
    net = ToySupernet()
    phases = []
    train(
        net, ToyData(), loss, method="progressive-shrinking", settings=settings(steps=70, evaluate_every=0),
        progress=lambda p: phases.append((p.phase, p.lr)), device="cpu",
    )  # fmt: skip
    assert net.sorted_times == 1
    before = sum(name != "expand-1" for name, _ in phases[: [n for n, _ in phases].index("expand-1")])
    assert all(a["e.0"] == 12 and a["width"] == 16 for a in net.ran[:before])
    # Each phase has its own peak, OFA's relative to the largest network's.
    peak = {name: max(lr for n, lr in phases if n == name) for name, _ in phases}
    assert peak["kernel"] == pytest.approx(0.37 * peak["largest"], rel=0.05)
    assert peak["depth-1"] < peak["depth-2"] < peak["kernel"]


def test_teacher_is_the_largest_subnet_of_the_first_phase():
    net = ToySupernet()
    seen = {}

    def look(p):
        if p.phase == "largest":
            seen["after"] = weights_of(net)

    method_class = type(make_method("progressive-shrinking", net.space, total_steps=30))
    kept = []
    original = method_class._keep_teacher

    def keep(self, net):
        kept.append(original(self, net))
        return kept[-1]

    method_class._keep_teacher = keep
    try:
        train(
            net, ToyData(), loss, method="progressive-shrinking", settings=settings(steps=40), progress=look,
            device="cpu",
        )  # fmt: skip
    finally:
        method_class._keep_teacher = original
    (teacher,) = kept
    assert not teacher.training
    names = {n for n, _ in teacher.named_parameters()}
    assert same({n: w for n, w in teacher.state_dict().items() if n in names},
                {n: w for n, w in seen["after"].items() if n in names})  # fmt: skip
    assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())
    assert not same(weights_of(net), dict(teacher.state_dict()))


def test_spaces_lacking_roles_skip_phases_and_unknown_roles_come_last():
    assert [s.name for s in shrinking_stages(get_space("ofa-mobilenetv3-w1.0"))] == [
        "largest", "kernel", "depth-1", "depth-2", "expand-1", "expand-2",
    ]  # fmt: skip
    tiny = [s.name for s in shrinking_stages(get_space("mobilenetv3-tiny"))]
    assert tiny == ["largest", "kernel", "depth-1", "depth-2", "expand-1", "expand-2", "width"]
    bert = SearchSpace(
        "b", [Gene("heads", (6, 12), role="heads"), Gene("layers", (6, 12), role="depth"), Gene("free", (1, 2))]
    )
    assert [s.name for s in shrinking_stages(bert)] == ["largest", "depth", "heads", "other"]


def test_largest_phase_can_be_left_out_and_teacher_switched_off():
    method = make_method("progressive-shrinking", toy_space(), total_steps=40, epochs={"largest": 0}, kd_ratio=0)
    assert method.phases[0].name == "kernel"
    net = ToySupernet()
    method.enter(method.phases[0], net)
    assert method.state_dict() == {}
    method = make_method("progressive-shrinking", toy_space(), total_steps=40, epochs={"largest": 0})
    method.enter(method.phases[0], net)
    assert method.state_dict().keys() == net.state_dict().keys()


def test_every_phase_has_a_step():
    method = make_method("progressive-shrinking", toy_space(), total_steps=7)
    assert [p.stop - p.start for p in method.phases] == [1] * 7
    with pytest.raises(InvalidSettings, match="needs at least"):
        make_method("progressive-shrinking", toy_space(), total_steps=6)


# -- registry ----------------------------------------------------------------------------------------


def test_registry_names_and_suggestions():
    assert {"sandwich", "progressive-shrinking", "single-path"} <= set(list_methods())
    with pytest.raises(UnknownMethod, match="did you mean 'sandwich'"):
        make_method("sandwhich", toy_space(), total_steps=1)
    assert method_options("sandwich") == {"random_subnets": 2, "distillation": True, "temperature": 1.0}
    assert method_options("single-path") == {}
    with pytest.raises(TrainingError, match="registered already"):
        register_method("sandwich")(Sandwich)
    assert Sandwich.name == "sandwich"


def test_another_method_can_be_registered():
    from supernets.training import methods

    try:

        @register_method("largest-only")
        class LargestOnly(Method):
            def subnets(self, step):
                return [self.largest]

            def backward(self, batch, subnets, passes):
                passes.backward(passes.loss(passes.forward(subnets[0], batch.inputs), batch.targets))

        net = ToySupernet()
        report = train(net, ToyData(), loss, method="largest-only", settings=settings(), device="cpu")
        assert report.top1_largest > 80
        assert all(a == net.active for a in net.ran)
    finally:
        methods._METHODS.pop("largest-only", None)


def test_option_faults_come_together():
    with pytest.raises(InvalidSettings) as error:
        make_method("sandwich", toy_space(), total_steps=1, random_subnets=-1, temperature=0, distilation=True)
    text = str(error.value)
    assert len(error.value.faults) == 3
    assert "did you mean 'distillation'" in text
    assert "random_subnets must be an integer >= 0, got -1" in text
    with pytest.raises(InvalidSettings) as error:
        make_method(
            "progressive-shrinking", toy_space(), total_steps=99,
            epochs={"depth": 3}, lr={"kernel": 0}, subnets=5, kd_ratio=-1,
        )  # fmt: skip
    assert len(error.value.faults) == 4
    assert "did you mean 'depth-1'" in str(error.value) or "did you mean 'depth-2'" in str(error.value)
