"""The speech study on GRID: `tiny` from scratch, in babble and beside talkers, trained jointly and with parts frozen.

First put GRID's clips and features into `data/`:

    dvc exp run -S speech_dataset=grid -S speech_data.grid.folder=FOLDER muse_precompute
    python -m benchmarks.avsr_grid
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from avs.avsr.recipes import AvsrParams, PhaseParams
from avs.avsr.study import run_study, train_apart
from avs.core.clips import read_table
from avs.lips.media import SpeechClip
from benchmarks import record

MEDIA, MUSE = Path("data/media/speech"), Path("data/muse")
BABBLE = ("snr_5", "snr_0", "snr_-5")
CONDITIONS = {
    "clean": "clean",
    "snr_5": "babble, 5 dB",
    "snr_0": "babble, 0 dB",
    "snr_-5": "babble, −5 dB",
    "talker_0_unseen": "unseen people",
    "talker_0_same": "the same voice",
    "talker_0_synthetic": "synthetic voices",
}
WAYS = {"joint": "joint", "frozen_seanet": "joint, SEANet frozen", "frozen_avhubert": "joint, AV-HuBERT frozen"}
TALKERS = ("talker_0_unseen", "talker_0_same", "talker_0_synthetic")
SYSTEM = AvsrParams(
    eval_splits=("val", "test"),
    conditions=("clean", *BABBLE, *TALKERS),
    voices=0,
)
VARIANTS = {
    "joint": SYSTEM,
    "frozen_seanet": replace(SYSTEM, freeze_seanet=True),
    "frozen_avhubert": replace(SYSTEM, freeze_avhubert=True),
}


def apart(p: AvsrParams) -> float:
    """Train networks by themselves; seconds of this process."""
    started = time.process_time()
    train_apart(MEDIA, MUSE, p)
    return time.process_time() - started


def together(p: AvsrParams) -> dict[str, Any]:
    started = time.process_time()
    with TemporaryDirectory() as folder:
        study = run_study(MEDIA, MUSE, Path(folder), p)
        assert study is not None
        return study.metrics() | {"cpu_seconds": round(time.process_time() - started), "notes": study.notes}


def main() -> None:
    started = time.time()
    alone = PhaseParams(audio=0, both=0, joint=0)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        apart_seconds = list(pool.map(apart, [replace(SYSTEM, epochs=alone), replace(SYSTEM, use_seanet=False)]))
        unseen = replace(SYSTEM, eval_splits=("unseen",), conditions=("clean",))
        found = dict(zip([*VARIANTS, "unseen"], pool.map(together, [*VARIANTS.values(), unseen]), strict=True))
    smoke = found.pop("unseen")
    rates = found["joint"]["wer"]
    named = {name: rows | {"talker_0": rows["talker_0_unseen"]} for name, rows in rates.items()}
    record(
        "avsr_grid",
        {
            "clips": found["joint"]["clips"],
            "words": found["joint"]["words"],
            "training_clips": sum(clip.split == "train" for clip in read_table(MEDIA / "index.tsv", SpeechClip)),
            "wer": named,
            "contrasts": found["joint"]["contrasts"],
            "si_sdr": found["joint"]["si_sdr"],
            "stoi": found["joint"]["stoi"],
            "variants": {name: _differing(metrics) for name, metrics in found.items()},
            "unseen_speakers": {"clips": smoke["clips"], "wer": smoke["wer"]},
            "seconds": {
                "apart_cpu": {"seanet": round(apart_seconds[0]), "recognizer": round(apart_seconds[1])},
                "together_cpu": {name: metrics["cpu_seconds"] for name, metrics in found.items()},
                "wall": round(time.time() - started),
            },
        },
    )


def _differing(metrics: dict[str, Any]) -> dict[str, Any]:
    """What differs between the ways to train jointly: the models behind SEANet, and what became of SEANet."""
    rates = {name: rows for name, rows in metrics["wer"].items() if name.endswith(("seanet", "separate", "wrong"))}
    wanted = ("av_seanet-av_separate", "audio_seanet-audio_separate", "audio_seanet-audio_wrong")
    contrasts = {c: {k: v for k, v in rows.items() if k in wanted} for c, rows in metrics["contrasts"].items()}
    return {"wer": rates, "contrasts": contrasts, "si_sdr": metrics["si_sdr"]}


def noise_table(figures: dict[str, Any]) -> str:
    """The rows of docs/grid.md: without SEANet, in clean sound and babble."""
    names = ("audio", "video", "av")
    rows = [[CONDITIONS[c], *(_rate(figures["wer"][name][c]) for name in names)] for c in ("clean", *BABBLE)]
    return _markdown(["WER in %", "sound alone", "lips alone", "sound and lips"], rows)


def talker_table(figures: dict[str, Any]) -> str:
    """Beside another talker: what SEANet gains, and words, with the right lips, with wrong ones and without SEANet."""
    head = ["another talker at 0 dB, and babble", "SI-SDR, right lips", "wrong lips"]
    head += [
        "sound alone, no SEANet",
        "right lips",
        "wrong lips",
        "sound and lips, no SEANet",
        "right lips",
        "wrong lips",
    ]
    rows = []
    for condition in (*TALKERS, *BABBLE):
        gains = [_gain(figures["si_sdr"][condition][lips]) for lips in ("improvement", "wrong_lips")]
        names = [f"{use}{way}" for use in ("audio", "av") for way in ("", "_seanet", "_wrong")]
        rows.append([CONDITIONS[condition], *gains, *(_rate(figures["wer"][name][condition]) for name in names)])
    return _markdown(head, rows)


def joint_table(figures: dict[str, Any]) -> str:
    """Networks trained apart, and then jointly: all of them, with SEANet frozen, with AV-HuBERT frozen."""
    head = ["", "in", "SI-SDR gain", "sound alone", "p", "sound and lips", "p"]
    variants, rows = figures["variants"], []
    for condition in TALKERS:
        apart = variants["joint"]
        gain = _gain(apart["si_sdr"][condition]["separate"])
        rates = [_rate(apart["wer"][f"{use}_separate"][condition]) for use in ("audio", "av")]
        rows.append(["apart", CONDITIONS[condition], gain, rates[0], "", rates[1], ""])
        for name, found in variants.items():
            cells = []
            for use in ("audio", "av"):
                contrast = found["contrasts"][condition][f"{use}_seanet-{use}_separate"]
                cells += [_rate(found["wer"][f"{use}_seanet"][condition]), f"{contrast['p_holm']:.3f}"]
            gain = _gain(found["si_sdr"][condition]["improvement"])
            rows.append([WAYS[name], CONDITIONS[condition], gain, *cells])
    return _markdown(head, rows)


def _rate(row: dict[str, float]) -> str:
    return f"{100 * row['wer']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def _gain(row: dict[str, float]) -> str:
    return f"{row['mean']:+.1f} dB [{row['low']:+.1f}, {row['high']:+.1f}]".replace("-", "−")


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
