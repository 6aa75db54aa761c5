from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from avs.localization import train as module
from avs.localization.heads import StackedHeads
from avs.localization.train import Inputs, Model, P0Params, _fit, _order, _solve, train_and_predict

ARMS, SEEDS, CLIPS, SECONDS, DIM, CLASSES = 3, 2, 12, 4, 5, 3


def inputs() -> Inputs:
    g = torch.Generator().manual_seed(0)
    return Inputs(
        features=torch.randn(3, CLIPS, SECONDS, DIM, generator=g),
        beside=torch.randn(CLIPS, SECONDS, 2, generator=g),
        mask=torch.tensor([[0.0, 0], [1, 0], [0, 1]]),
        plan=torch.randint(3, (ARMS, SEEDS, CLIPS, SECONDS), generator=g, dtype=torch.uint8),
        targets=torch.randint(CLASSES, (CLIPS, SECONDS), generator=g),
        classes=CLASSES,
    )


def test_a_batch_holds_the_planned_features_and_the_allowed_audio() -> None:
    data = inputs()
    pairs = [(0, 1), (2, 0), (1, 1)]
    clips = torch.tensor([[3, 1], [0, 2], [3, 1]])
    visual, beside = data.of(*map(list, zip(*pairs, strict=True))).batch(clips)  # type: ignore[arg-type]
    assert beside is not None
    for place, (arm, seed) in enumerate(pairs):
        for at, clip in enumerate(clips[place].tolist()):
            for t in range(SECONDS):
                assert torch.equal(visual[place, at, t], data.features[int(data.plan[arm, seed, clip, t]), clip, t])
                assert torch.equal(beside[place, at, t], data.beside[clip, t] * data.mask[arm])
    assert data.of([0, 0], [0, 1]).batch(clips[:2])[1] is None  # arm 0 sees nothing beside


@pytest.mark.parametrize("head", ["mlp", "temporal_conv"])
def test_training_all_at_once_equals_training_one_by_one(head: str) -> None:
    """Every arm and seed, trained by itself with plain modules and AdamW, ends at the same weights."""
    data, p = inputs(), P0Params(head=head, hidden=6, seeds=SEEDS, epochs=3, batch_size=5)  # type: ignore[arg-type]
    train = torch.arange(9)
    together = _fit(data, train, p, [arm for arm in range(ARMS) for _ in range(SEEDS)], [*range(SEEDS)] * ARMS)
    for arm in range(ARMS):
        visible = data.mask[arm] > 0
        for seed in range(SEEDS):
            start = StackedHeads([seed], DIM, 6, CLASSES, head=head, kernel=3, dropout=0, beside=2)  # type: ignore[arg-type]
            width, columns = start.kernel, DIM + int(visible.sum())
            conv = nn.Conv1d(columns, 6, width, padding=width // 2)
            linear = nn.Linear(6, CLASSES)
            conv.weight.data = _kernels(start, 0, visible).clone()
            conv.bias.data = start.bias1[0].clone()
            linear.weight.data, linear.bias.data = start.weight2[0].T.clone(), start.bias2[0].clone()
            optimizer = torch.optim.AdamW([*conv.parameters(), *linear.parameters()], lr=p.lr, weight_decay=0.0)
            for clips in _order(train, p, [seed]):
                visual, beside = data.of([arm], [seed]).batch(clips)
                x = visual[0] if beside is None else torch.cat([visual[0], beside[0][..., visible]], dim=-1)
                logits = linear(torch.relu(conv(x.transpose(1, 2))).transpose(1, 2))
                optimizer.zero_grad()
                nn.functional.cross_entropy(logits.flatten(0, 1), data.targets[clips[0]].flatten()).backward()
                optimizer.step()
            place = arm * SEEDS + seed
            torch.testing.assert_close(_kernels(together, place, visible), conv.weight, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(together.weight2[place].T, linear.weight, rtol=1e-4, atol=1e-5)


def _kernels(heads: StackedHeads, place: int, visible: torch.Tensor) -> torch.Tensor:
    """The first layer of one head as Conv1d has it, [H, columns, K]."""
    rows = torch.cat([heads.weight1[place], heads.beside[place][visible]])
    return rows.view(len(rows), heads.kernel, heads.hidden).permute(2, 0, 1)


def test_arms_that_see_the_same_are_trained_once_and_answer_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arm 1 trains as arm 0 and is judged as arm 2, arm 3 is arm 0."""
    data = inputs()
    plan = data.plan[[0, 0, 2, 0]]
    eval_plan = data.plan[[0, 2, 2, 0]]
    mask = torch.tensor([[1.0, 0]]).expand(4, -1)
    plan[:, :, 9:] = 0  # what is not seen in training does not count
    data = replace(data, mask=mask, plan=plan, eval_plan=eval_plan)
    p, where = P0Params(hidden=6, seeds=SEEDS, epochs=2, batch_size=5), (np.arange(9), np.arange(9, CLIPS))
    trained = []
    monkeypatch.setattr(module, "_fit", lambda *given: trained.extend(given[-1]) or _fit(*given))
    together = np.stack(train_and_predict(data, *where, p, "cpu"))
    assert len(trained) == 2 * SEEDS
    trained.clear()
    for arm in range(4):
        alone = replace(data, mask=mask[:1], plan=plan[[arm]], eval_plan=eval_plan[[arm]])
        np.testing.assert_array_equal(together[:, arm], np.stack(train_and_predict(alone, *where, p, "cpu"))[:, 0])
    np.testing.assert_array_equal(together[:, 0], together[:, 3])
    assert (together[:, 0] != together[:, 1]).any()


def test_models_trained_together_answer_as_those_trained_apart() -> None:
    """A GPU trains all models at once: here that is done on the CPU, with dropout too."""
    data = inputs()
    data = replace(data, eval_plan=data.plan[[0, 2, 1]])
    where = torch.arange(9), torch.arange(9, CLIPS)
    every = [Model(seed, [[arm]]) for arm in range(ARMS) for seed in range(SEEDS)]
    for dropout, models in ((0.0, every), (0.5, every[-SEEDS:])):
        p = P0Params(hidden=6, seeds=SEEDS, epochs=2, batch_size=5, dropout=dropout)
        together = _solve(data, *where, p, models)
        apart = train_and_predict(data, np.arange(9), np.arange(9, CLIPS), p, "cpu")
        for place, answers in together.items():
            np.testing.assert_array_equal(answers, np.stack([both[place] for both in apart]))


def test_products_in_bfloat16_answer_nearly_the_same_and_are_not_left_on() -> None:
    """Where the processor has no such products they are float32, and the answers the same."""
    data, where = inputs(), (np.arange(9), np.arange(9, CLIPS))
    p = P0Params(hidden=64, seeds=SEEDS, epochs=20, batch_size=5)
    exact = train_and_predict(data, *where, p, "cpu")[0]
    rounded = train_and_predict(data, *where, replace(p, precision="bfloat16"), "cpu")[0]
    assert (exact == rounded).mean() > 0.9
    assert torch.get_float32_matmul_precision() == "highest"


def test_the_bits_do_not_depend_on_the_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CACHED", 1)  # a job each
    data, where = inputs(), (np.arange(9), np.arange(9, CLIPS))
    p, kept = P0Params(hidden=6, seeds=SEEDS, epochs=2, batch_size=5, dropout=0.2), torch.get_num_threads()
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(np.stack(train_and_predict(data, *where, p, "cpu")))
    torch.set_num_threads(kept)
    np.testing.assert_array_equal(*found)


def test_every_seed_sees_every_clip_once_an_epoch() -> None:
    p = P0Params(seeds=3, epochs=2, batch_size=4)
    steps = list(_order(torch.arange(10), p, [0, 2, 1]))
    assert [step.shape for step in steps] == [(3, 4), (3, 4), (3, 2)] * 2
    epoch = torch.cat(steps[:3], dim=1)
    assert (epoch.sort(dim=1).values == torch.arange(10)).all()
    assert not torch.equal(epoch[0], epoch[1])


def test_a_separable_problem_is_learnt_and_foreground_is_never_background() -> None:
    targets = torch.arange(CLIPS * SECONDS).view(CLIPS, SECONDS) % CLASSES
    features = nn.functional.one_hot(targets, DIM).float().expand(3, -1, -1, -1).contiguous()
    data = inputs()
    data = replace(data, features=features, mask=data.mask * 0, targets=targets)
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
