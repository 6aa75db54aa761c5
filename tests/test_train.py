import numpy as np
import pytest
import torch
from torch import nn

from avs.localization import train as module
from avs.localization.heads import StackedHeads
from avs.localization.train import Inputs, P0Params, _batch, _fit, _order, _solve, train_and_predict

ARMS, SEEDS, CLIPS, SECONDS, DIM, CLASSES = 3, 2, 12, 4, 5, 3


def inputs() -> Inputs:
    g = torch.Generator().manual_seed(0)
    return Inputs(
        features=torch.randn(3, CLIPS, SECONDS, DIM + 2, generator=g),
        mask=torch.tensor([[0.0, 0], [1, 0], [0, 1]]),
        plan=torch.randint(3, (ARMS, SEEDS, CLIPS, SECONDS), generator=g),
        targets=torch.randint(CLASSES, (CLIPS, SECONDS), generator=g),
        classes=CLASSES,
    )


def test_a_batch_holds_the_planned_features_and_the_allowed_audio() -> None:
    data = inputs()
    clips = torch.tensor([[3, 1], [0, 2]])
    batch = _batch(data, clips).view(ARMS, SEEDS, 2, SECONDS, DIM + 2)
    for arm in range(ARMS):
        for seed in range(SEEDS):
            for place in range(2):
                clip = int(clips[seed, place])
                for t in range(SECONDS):
                    got = batch[arm, seed, place, t]
                    row = data.features[data.plan[arm, seed, clip, t], clip, t]
                    assert torch.equal(got, torch.cat([row[:DIM], row[DIM:] * data.mask[arm]]))


@pytest.mark.parametrize("head", ["mlp", "temporal_conv"])
def test_training_all_at_once_equals_training_one_by_one(head: str) -> None:
    """Every arm and seed, trained by itself with plain modules and AdamW, ends at the same weights."""
    data, p = inputs(), P0Params(head=head, hidden=6, seeds=SEEDS, epochs=3, batch_size=5)  # type: ignore[arg-type]
    train = torch.arange(9)
    together = _fit(data, train, p)
    for arm in range(ARMS):
        visible = [True] * DIM + [bool(v) for v in data.mask[arm]]
        for seed in range(SEEDS):
            start = StackedHeads(range(SEEDS), DIM + 2, 6, CLASSES, head=head, kernel=3, dropout=0, fan_in=DIM)  # type: ignore[arg-type]
            width = start.kernel
            conv = nn.Conv1d(sum(visible), 6, width, padding=width // 2)
            linear = nn.Linear(6, CLASSES)
            conv.weight.data = start.weight1[seed].view(DIM + 2, width, 6)[visible].permute(2, 0, 1).clone()
            conv.bias.data = start.bias1[seed].clone()
            linear.weight.data, linear.bias.data = start.weight2[seed].T.clone(), start.bias2[seed].clone()
            optimizer = torch.optim.AdamW([*conv.parameters(), *linear.parameters()], lr=p.lr, weight_decay=0.0)
            for clips in _order(train, p):
                x = _batch(data, clips).view(ARMS, SEEDS, -1, SECONDS, DIM + 2)[arm, seed][..., visible]
                logits = linear(torch.relu(conv(x.transpose(1, 2))).transpose(1, 2))
                optimizer.zero_grad()
                nn.functional.cross_entropy(logits.flatten(0, 1), data.targets[clips[seed]].flatten()).backward()
                optimizer.step()
            ours = together.weight1[arm * SEEDS + seed].view(DIM + 2, width, 6)[visible].permute(2, 0, 1)
            torch.testing.assert_close(ours, conv.weight, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(together.weight2[arm * SEEDS + seed].T, linear.weight, rtol=1e-4, atol=1e-5)


def test_arms_that_see_the_same_are_trained_once_and_answer_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arm 1 trains as arm 0 and is judged as arm 2, arm 3 is arm 0."""
    data = inputs()
    plan = data.plan[[0, 0, 2, 0]]
    eval_plan = data.plan[[0, 2, 2, 0]]
    mask = torch.tensor([[1.0, 0]]).expand(4, -1)
    plan[:, :, 9:] = 0  # what is not seen in training does not count
    data = Inputs(data.features, mask, plan, data.targets, CLASSES, eval_plan)
    p, where = P0Params(hidden=6, seeds=SEEDS, epochs=2, batch_size=5), (np.arange(9), np.arange(9, CLIPS))
    trained = []
    monkeypatch.setattr(module, "_fit", lambda inputs, *rest: trained.append(len(inputs.plan)) or _fit(inputs, *rest))
    together = np.stack(train_and_predict(data, *where, p, "cpu"))
    assert sum(trained) == 2
    trained.clear()
    for arm in range(4):
        alone = Inputs(data.features, mask[:1], plan[[arm]], data.targets, CLASSES, eval_plan[[arm]])
        np.testing.assert_array_equal(together[:, arm], np.stack(train_and_predict(alone, *where, p, "cpu"))[:, 0])
    np.testing.assert_array_equal(together[:, 0], together[:, 3])
    assert (together[:, 0] != together[:, 1]).any()


def test_models_trained_together_answer_as_those_trained_apart() -> None:
    """A GPU trains all models at once: here that is done on the CPU, with dropout too."""
    data = inputs()
    data = Inputs(data.features, data.mask, data.plan, data.targets, CLASSES, data.plan[[0, 2, 1]])
    where = torch.arange(9), torch.arange(9, CLIPS)
    for dropout, models in ((0.0, [[[0]], [[1]], [[2]]]), (0.5, [[[2]]])):
        p = P0Params(hidden=6, seeds=SEEDS, epochs=2, batch_size=5, dropout=dropout)
        together = _solve(data, *where, p, models)
        apart = train_and_predict(data, np.arange(9), np.arange(9, CLIPS), p, "cpu")
        for arm, answers in together.items():
            np.testing.assert_array_equal(answers, np.stack([both[arm] for both in apart]))


def test_every_seed_sees_every_clip_once_an_epoch() -> None:
    p = P0Params(seeds=3, epochs=2, batch_size=4)
    steps = list(_order(torch.arange(10), p))
    assert [step.shape for step in steps] == [(3, 4), (3, 4), (3, 2)] * 2
    epoch = torch.cat(steps[:3], dim=1)
    assert (epoch.sort(dim=1).values == torch.arange(10)).all()
    assert not torch.equal(epoch[0], epoch[1])


def test_a_separable_problem_is_learnt_and_foreground_is_never_background() -> None:
    targets = torch.arange(CLIPS * SECONDS).view(CLIPS, SECONDS) % CLASSES
    features = nn.functional.one_hot(targets, DIM + 2).float().expand(3, -1, -1, -1).contiguous()
    data = inputs()
    data = Inputs(features, data.mask * 0, data.plan, targets, CLASSES)
    p = P0Params(head="mlp", hidden=16, seeds=SEEDS, epochs=60, batch_size=4, lr=0.01)
    best, foreground = train_and_predict(data, np.arange(8), np.arange(8, CLIPS), p, "cpu")
    assert best.shape == (ARMS, SEEDS, 4, SECONDS)
    assert (best == targets[8:].numpy()).all()
    assert (foreground > 0).all()
    assert (foreground[..., targets[8:] > 0] == best[..., targets[8:] > 0]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": 4}, "kernel"),
        ({"seeds": 0}, "seeds"),
        ({"dropout": 1.0}, "dropout"),
        ({"lr": -1.0}, "lr"),
        ({"eval_splits": ()}, "eval"),
        ({"curve": (0.5, 1.0)}, "curve"),
    ],
)
def test_wrong_parameters_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        P0Params(**change)
