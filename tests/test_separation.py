"""SEANet by itself: SI-SDR by its formula, the objective of all stages, crops, wrong lips, and what is reported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from avs.avsr.batch import Batch
from avs.avsr.recognizers import Loss
from avs.avsr.seanet import SEANet, Stages
from avs.avsr.separation import (
    SIZES,
    Separation,
    SeparationParams,
    crops,
    intelligibility,
    interval,
    judge,
    listen_by_frequency,
    objective,
    si_sdr,
    standardized,
)
from avs.core.errors import InputError
from avs.core.execute import one_thread

SMALL = {"N": 16, "L": 160, "B": 8, "H": 4, "K": 8, "R": 2}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def batch(frames: tuple[int, ...] = (12, 9, 12), names: str = "abc") -> Batch:
    """Each frame of MuSE's features holds its number and its row; so does each sample; the voice is half of it."""
    longest = max(frames)
    number = torch.arange(longest).expand(len(frames), longest) + 100.0 * torch.arange(len(frames))[:, None]
    there = torch.arange(longest) < torch.tensor(frames)[:, None]
    muse = (number * there)[..., None].expand(-1, -1, 512).contiguous()
    mixture = muse[..., :1].expand(-1, -1, 640).flatten(1).contiguous()
    return Batch(
        tuple(names[: len(frames)]),
        frames,
        mixture,
        mixture / 2,
        torch.zeros(len(frames), longest, 88, 88, dtype=torch.uint8),
        muse,
        torch.ones(len(frames), dtype=torch.bool),
        torch.full((len(frames), 1), -1),
        torch.full((len(frames), longest), -1),
    )


def sounds(frames: int = 10, clips: int = 2, seed: int = 0) -> Batch:
    """Two tones, one of them the voice; the features say which of both."""
    rng = np.random.default_rng(seed)
    time = torch.arange(640 * frames) / 16000
    phase = torch.from_numpy(rng.uniform(0, 6, (2, clips, 1))).float()
    tones = [0.1 * torch.sin(2 * np.pi * pitch * time + phase[n]) for n, pitch in enumerate((300, 1100))]
    first = torch.arange(clips)[:, None] % 2 == seed % 2
    looks = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 512))).float()
    muse = torch.where(first, *looks)[:, None].expand(-1, frames, -1).contiguous()
    empty = batch((frames,) * clips, "abcdefgh")
    voice = torch.where(first, *tones)
    return replace(empty, mixture=tones[0] + tones[1], voice=voice, muse=muse, wrong_muse=muse.roll(1, 0))


def formula(found: np.ndarray, wanted: np.ndarray) -> float:
    found, wanted = found - found.mean(), wanted - wanted.mean()
    part = (found @ wanted) / (wanted @ wanted) * wanted
    return float(10 * np.log10((part @ part) / ((found - part) @ (found - part))))


@pytest.mark.parametrize("level", [0.01, 1.0, 100.0])
def test_si_sdr_is_the_formula_in_float64(level: float) -> None:
    """Tolerance 2e-3 dB: 1e-6 is added to ratios down to 0.01, and to sums of squares."""
    rng = np.random.default_rng(0)
    wanted = rng.standard_normal((3, 16000)) + 0.3
    found = level * (wanted * [[1.0], [0.2], [-0.1]] + rng.standard_normal((3, 16000))) + 0.1
    values = si_sdr(torch.from_numpy(found).float(), torch.from_numpy(wanted).float())
    expected = [formula(*pair) for pair in zip(found, wanted, strict=True)]
    np.testing.assert_allclose(values, expected, rtol=0, atol=2e-3)


def test_si_sdr_of_known_signals() -> None:
    time = torch.arange(16000, dtype=torch.float64) / 16000
    tone, other = torch.sin(2 * torch.pi * 100 * time), torch.sin(2 * torch.pi * 300 * time)
    assert float(si_sdr(3 * tone + 0.3 * other + 1, tone)) == pytest.approx(20, abs=1e-4)
    assert float(si_sdr(-3 * tone + 0.3 * other, tone)) == pytest.approx(20, abs=1e-4)  # a turned sign is a scale
    assert float(si_sdr(other, torch.zeros_like(tone))) == pytest.approx(-60)


def test_si_sdr_has_finite_gradients_through_silence() -> None:
    found = torch.zeros(2, 640, requires_grad=True)
    si_sdr(found, torch.stack([torch.zeros(640), torch.ones(640)])).sum().backward()
    assert found.grad is not None
    assert found.grad.isfinite().all()
    with pytest.raises(InputError, match="must be of one length"):
        si_sdr(torch.zeros(2, 5), torch.zeros(2, 6))


def test_the_objective_weighs_stages_as_published() -> None:
    generator = torch.Generator().manual_seed(0)
    speech, noise = (torch.randn(3, 2, 640, generator=generator) for _ in range(2))
    voice, rest = (torch.randn(2, 640, generator=generator) for _ in range(2))
    loss = objective(Stages(speech, noise), voice, rest, others=0.1)
    of = [[float(si_sdr(found, wanted).mean()) for found in x] for x, wanted in ((speech, voice), (noise, rest))]
    expected = -of[0][2] - 0.1 * (of[1][2] + of[0][0] + of[0][1] + of[1][0] + of[1][1])
    assert float(loss.total) == pytest.approx(expected, abs=1e-4)
    assert float(loss.parts["si_sdr"]) == pytest.approx(of[0][2], abs=1e-4)
    clean = objective(Stages(speech, noise), voice, torch.zeros_like(rest))
    assert float(clean.total) == pytest.approx(-of[0][2] - 0.1 * (of[0][0] + of[0][1]), abs=1e-4)


def test_crops_keep_sound_and_lips_together_and_shorter_clips_begin_again() -> None:
    torch.manual_seed(0)
    for _ in range(5):
        mixture, voice, muse = crops(batch(), 5)
        assert muse.shape == (3, 5, 512)
        assert mixture.shape == voice.shape == (3, 3200)
        assert torch.equal(mixture.view(3, 5, 640), muse[..., :1].expand(-1, -1, 640))
        assert torch.equal(voice, mixture / 2)
        assert (muse[:, 1:, 0] - muse[:, :-1, 0] == 1).all()
    whole = crops(batch(), 100)[2][..., 0]
    assert whole[1].tolist() == [100, 101, 102, 103, 104, 105, 106, 107, 108, 100, 101, 102]


def test_a_crop_does_not_depend_on_how_a_batch_is_shared_out() -> None:
    found = []
    for part in (slice(0, 3), slice(0, 1), slice(1, 3)):
        torch.manual_seed(3)
        found.append(crops(batch().rows(part), 5, jitter=0.1)[2])
    assert torch.equal(found[0], torch.cat(found[1:]))
    assert not torch.equal(found[0][0].round() % 100, found[0][2].round() % 100)
    torch.manual_seed(3)
    assert float((found[0] - crops(batch(), 5)[2]).std()) == pytest.approx(0.1, abs=0.01)


def test_filter_banks_are_an_addition_to_the_published_objective() -> None:
    def loss(fbank: float) -> Loss:
        torch.manual_seed(0)
        return Separation(SEANet(**SMALL), SeparationParams(crop=5, fbank=fbank))(sounds())

    plain, more = loss(0.0), loss(20.0)
    assert "fbank" not in plain.parts
    assert float(more.parts["fbank"]) > 0.1
    assert float(more.total.detach()) == pytest.approx(float(plain.total.detach() + 20 * more.parts["fbank"]), abs=1e-3)


def test_training_brings_a_voice_out_and_lips_decide() -> None:
    """Of two tones. Seen after 60 steps: 6.7 dB more with right lips, 15.8 less with wrong ones."""
    torch.manual_seed(0)
    model = Separation(SEANet(N=64, L=160, B=16, H=8, K=8, R=2), SeparationParams(crop=5))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(60):
        optimizer.zero_grad()
        model(sounds(clips=4, seed=step)).total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5)  # as published
        optimizer.step()
    heard = sounds(clips=4, seed=1000)
    right, wrong = (
        np.mean([row.gain("si_sdr") for row in judge(model.seanet, [heard], lips)]) for lips in ("right", "wrong")
    )
    assert model.seanet.training
    assert right > 2
    assert wrong < -5


def test_judging_a_padded_batch_is_judging_each_clip() -> None:
    torch.manual_seed(0)
    network, padded = SEANet(**SMALL), sounds(50, 2)
    padded = replace(padded, frames=(50, 30))
    for sound in (padded.mixture, padded.voice):
        sound[1, 640 * 30 :] = 0
    assert padded.muse is not None
    alone = replace(padded, frames=(30, 30), mixture=padded.mixture[:, :19200], voice=padded.voice[:, :19200])
    alone = replace(alone, muse=padded.muse[:, :30])
    found, expected = judge(network, [padded])[1], judge(network, [alone])[1]
    for name in ("si_sdr_before", "si_sdr", "stoi_before", "stoi"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-3)
    assert found.si_sdr_before == pytest.approx(
        formula(*(x[1, :19200].numpy() for x in (padded.mixture, padded.voice))), abs=1e-2
    )


def test_stoi_knows_clean_from_noisy_and_what_is_too_short() -> None:
    clean, noise = torch.randn(2, 32000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert intelligibility(clean, clean) == pytest.approx(1, abs=1e-6)
    assert 0.3 < intelligibility(clean + noise, clean) < 0.9
    assert np.isnan(intelligibility(clean[:3200], clean[:3200]))


def test_clips_outside_the_scope_are_not_judged() -> None:
    torch.manual_seed(0)
    network, heard = SEANet(**SMALL), sounds(clips=3)
    found = judge(network, [replace(heard, seanet=torch.tensor([True, False, True]))])
    assert [row.clip for row in found] == ["a", "c"]
    expected = {row.clip: row.si_sdr for row in judge(network, [heard])}
    assert [row.si_sdr for row in found] == pytest.approx([expected["a"], expected["c"]], abs=1e-3)
    assert judge(network, [replace(heard, seanet=torch.zeros(3, dtype=torch.bool))]) == []


def test_wrong_lips_that_are_not_there_are_refused() -> None:
    with pytest.raises(InputError, match="wrong lips need MuSE's features of other clips"):
        judge(SEANet(**SMALL), [batch()], "wrong")


def test_intervals_are_over_clips_and_leave_out_what_is_not_known() -> None:
    assert interval([4.0, 5.0] * 10) == pytest.approx({"mean": 4.5, "low": 4.27, "high": 4.73}, abs=0.03)
    assert interval([float("nan"), 0.25, 0.25]) == {"mean": 0.25, "low": 0.25, "high": 0.25}
    assert np.isnan(interval([float("nan")])["mean"])


def test_filters_by_frequency_give_the_sound_back() -> None:
    """All of it with all frequencies; with three quarters a tone that lies below the limit, and none above."""
    torch.manual_seed(0)
    sound = torch.randn(1, 3200)

    def back(filters: int, sound: torch.Tensor) -> torch.Tensor:
        network = listen_by_frequency(SEANet(**SMALL | {"N": filters}))
        with torch.inference_mode():
            return network._decode(torch.relu(network.encoder.conv1d_U(sound[:, None])).transpose(1, 2))

    torch.testing.assert_close(back(320, sound)[:, 80:-80], sound[:, 80:-80], rtol=0, atol=1e-4)
    time = torch.arange(3200)[None] / 16000
    low, high = (torch.sin(2 * torch.pi * pitch * time) for pitch in (3000, 7500))
    assert float(si_sdr(back(240, low), low)) > 15
    assert float(back(240, high).square().mean()) < 0.05
    with pytest.raises(InputError, match=r"N \(324\) must be 4 times a number from 1 to L / 2 \(80\)"):
        back(324, sound)


def test_standardized_features_keep_what_moves() -> None:
    rng = np.random.default_rng(0)
    features = (5 + rng.standard_normal((75, 512)) * np.linspace(0.1, 2, 512)).astype(np.float32)
    features[:, 7] = 3
    found = standardized(features)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.delete(found.std(axis=0), 7), 1, atol=0.02)
    assert not found[:, 7].any()


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_possible(name: str) -> None:
    with torch.device("meta"):
        SEANet(**SIZES[name])
    assert name != "published" or dict(SIZES[name]) == {
        "N": 256,
        "L": 40,
        "B": 64,
        "H": 128,
        "K": 100,
        "R": 6,
        "head": 64,
    }


def test_refuses_clips_outside_the_scope_and_impossible_params() -> None:
    with pytest.raises(InputError, match="cannot learn from clips outside its scope: b"):
        Separation(SEANet(**SMALL))(replace(batch(), seanet=torch.tensor([True, False, True])))
    for wrong in ({"others": -1.0}, {"fbank": -1.0}, {"jitter": -1.0}, {"crop": 0}):
        name, value = next(iter(wrong.items()))
        with pytest.raises(ValueError, match=rf"{name} \({value}\) must be >= "):
            SeparationParams(**wrong)  # type: ignore[arg-type]
