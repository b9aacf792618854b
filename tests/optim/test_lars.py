import copy

import numpy as np
import pytest
import torch
from torch import nn

from cassle.optim.lars import LARS

torch.set_num_threads(1)

SHAPES = [(4, 3), (4,), (2, 3, 2), (3,)]


def parameters(dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=g, dtype=dtype)) for shape in SHAPES]


def set_gradients(params, step):
    g = torch.Generator().manual_seed(100 + step)
    for p in params:
        p.grad = torch.randn(p.shape, generator=g, dtype=torch.float64).to(p.dtype)


def oracle_step(w, grad, buffer, *, lr, momentum, weight_decay, eta, clip_lr, exclude_bias_n_norm):
    """The published update of one parameter."""
    if not (exclude_bias_n_norm and w.ndim == 1):
        w_norm, g_norm = np.sqrt((w**2).sum()), np.sqrt((grad**2).sum())
        if w_norm == 0 or g_norm == 0:
            local = 1.0
        else:
            local = eta * w_norm / (g_norm + weight_decay * w_norm + 1e-8)
            if clip_lr:
                local = min(local / lr, 1)
        grad = (grad + weight_decay * w) * local
    buffer = momentum * buffer + grad
    return w - lr * buffer, buffer


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("exclude", [False, True])
def test_five_steps_are_the_published_formula(clip, exclude):
    common = {"clip_lr": clip, "exclude_bias_n_norm": exclude}
    # eta 0.05 is beyond lr 0.02, so the first group is clipped if asked; the second overrides every option.
    groups = [
        {"lr": 0.02, "momentum": 0.9, "weight_decay": 1e-2, "eta": 0.05, **common},
        {"lr": 0.3, "momentum": 0.5, "weight_decay": 0.0, "eta": 1e-3, "clip_lr": False, "exclude_bias_n_norm": False},
    ]
    params = parameters()
    halves = [params[:2], params[2:]]
    optimizer = LARS([{"params": halves[0]}, {"params": halves[1], **groups[1]}], **groups[0])

    expected = [[(p.detach().numpy().copy(), np.zeros(p.shape)) for p in half] for half in halves]
    for step in range(5):
        set_gradients(params, step)
        for half, options, state in zip(halves, groups, expected, strict=True):
            for i, p in enumerate(half):
                state[i] = oracle_step(state[i][0], p.grad.numpy(), state[i][1], **options)
        optimizer.step()
    for half, state in zip(halves, expected, strict=True):
        for p, (w, _) in zip(half, state, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), w, rtol=1e-10)


def test_clipping_binds_in_one_layer_and_not_in_another():
    steep, flat = nn.Parameter(torch.full((2, 2), 1.0)), nn.Parameter(torch.full((2, 2), 1.0))
    steep.grad, flat.grad = torch.full((2, 2), 10.0), torch.full((2, 2), 1e-3)
    LARS([steep, flat], lr=0.1, eta=0.01, clip_lr=True).step()
    torch.testing.assert_close(steep.detach(), torch.full((2, 2), 1 - 0.01))  # |update| = eta |w|
    torch.testing.assert_close(flat.detach(), torch.full((2, 2), 1 - 0.1 * 1e-3))  # plain SGD


@pytest.mark.parametrize("clip", [False, True])
def test_a_weight_of_zeros_moves_and_a_gradient_of_zeros_only_decays(clip):
    zero, still = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.ones(2, 2))
    zero.grad, still.grad = torch.ones(2, 2), torch.zeros(2, 2)
    LARS([zero, still], lr=0.1, weight_decay=0.5, clip_lr=clip).step()
    torch.testing.assert_close(zero.detach(), torch.full((2, 2), -0.1))
    torch.testing.assert_close(still.detach(), torch.full((2, 2), 1 - 0.1 * 0.5))


def test_a_restored_optimizer_takes_bitwise_the_same_step(tmp_path):
    params = parameters(torch.float32)
    optimizer = LARS(params, lr=0.1, weight_decay=1e-2)
    for step in range(2):
        set_gradients(params, step)
        optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")

    twins = copy.deepcopy(params)
    restored = LARS(twins, lr=9.0)
    restored.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert restored.param_groups[0]["lr"] == 0.1
    for each, by in ((params, optimizer), (twins, restored)):
        set_gradients(each, 2)
        by.step()
    for p, twin in zip(params, twins, strict=True):
        assert torch.equal(p, twin)
        assert torch.equal(optimizer.state[p]["momentum_buffer"], restored.state[twin]["momentum_buffer"])


def test_without_a_gradient_nothing_happens_and_gradients_are_left_alone():
    params = parameters()
    set_gradients(params, 0)
    params[0].grad = None
    before, grads = copy.deepcopy(params), [p.grad.clone() for p in params[1:]]
    optimizer = LARS(params, lr=0.1, weight_decay=1e-2)
    optimizer.step()
    assert torch.equal(params[0], before[0]) and params[0] not in optimizer.state
    assert all(not torch.equal(p, b) for p, b in zip(params[1:], before[1:], strict=True))
    assert all(torch.equal(p.grad, g) for p, g in zip(params[1:], grads, strict=True))
    for p in params:
        p.grad = None
    optimizer.step()


def test_momentum_zero_keeps_no_state():
    params = parameters()
    set_gradients(params, 0)
    optimizer = LARS(params, lr=0.1, momentum=0.0)
    optimizer.step()
    assert not optimizer.state


def test_half_precision_norms_do_not_overflow():
    w = nn.Parameter(torch.ones(64, 64, dtype=torch.float16))
    w.grad = torch.full_like(w, 3e4)
    LARS([w], lr=1.0, eta=0.125).step()
    torch.testing.assert_close(w.detach(), torch.full_like(w, 0.875))


def test_grad_scaler_unscales_and_skips_what_is_not_finite():
    scaled, plain = parameters(torch.float32), parameters(torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    by_scaler, by_hand = LARS(scaled, lr=0.1), LARS(plain, lr=0.1)
    scaler.scale(sum(p.pow(2).sum() for p in scaled)).backward()
    sum(p.pow(2).sum() for p in plain).backward()
    scaler.step(by_scaler)
    scaler.update()
    by_hand.step()
    for a, b in zip(scaled, plain, strict=True):
        torch.testing.assert_close(a, b)

    before = copy.deepcopy(scaled)
    by_scaler.zero_grad()
    scaler.scale(sum(p.sum() for p in scaled) * float("inf")).backward()
    scaler.step(by_scaler)
    assert all(torch.equal(a, b) for a, b in zip(scaled, before, strict=True))


def test_closure_is_evaluated_with_gradients():
    w = nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([w], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = w.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4
    assert (w < 1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -0.1}, "lr=-0.1"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"lr": 0.1, "momentum": 1.0}, "momentum=1.0"),
        ({"lr": 0.1, "weight_decay": -1.0}, "weight_decay=-1.0"),
        ({"lr": 0.1, "eta": 0.0}, "eta=0.0"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        LARS(parameters(), **options)
    with pytest.raises(ValueError, match=message):
        LARS([{"params": parameters(), **options}], lr=0.1)
