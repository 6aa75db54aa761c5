"""The verdict of the AVS study in words: what was found, how sure that is, and what speaks against it."""

from __future__ import annotations

from dataclasses import dataclass

from avs.core.stats import ALPHA
from avs.report.numbers import FEW, bounds, p_value, points, sign
from avs.report.results import BASELINE, MAIN, MEASURES, Results, Tree, families, ordered

DEMO = {
    "resolution": "The clips are synthetic: the class was made to show at high resolution only, so an effect must be "
    "found. It says nothing about real video.",
    "none": "The clips are synthetic: the class was made to show at any resolution, so no effect between plans must "
    "be found. It says nothing about real video.",
}


ASKED = (
    ("oracle_topk", BASELINE, "How much could there be to gain, with anchors on the true event?"),
    ("oracle_topk", MAIN, "How much of that do audio anchors leave?"),
    (MAIN, "random_topk", "Does it matter where the anchors are, or would random ones do?"),
    (MAIN, "audio_concat_uniform", "Is it more than hearing: against uniform with the audio score as a feature?"),
    ("plan_concat_uniform", BASELINE, "Does it help to be told the plan alone, without its pixels?"),
    (MAIN, "plan_concat_uniform", "Is it more than that: against uniform that is told the plan?"),
    (MAIN, "anchored_shuffled", "Does the clip's own sound matter: against the anchors of another clip?"),
    (MAIN, "anchored_permuted", "Do the very seconds matter: against the same plan, its seconds permuted?"),
    (MAIN, "constant_topk", "Is it more than where events usually are: against the best constant seconds?"),
    (MAIN, "visual_topk", "Does it take sound: against the seconds in which the picture changes most?"),
    ("train_random_eval_anchored", "random_topk", "Do anchors help in judging alone, after training on random plans?"),
    (MAIN, "flop_matched_uniform", "Does it hold at equal arithmetic, not just equal tokens?"),
    ("uniform_high", BASELINE, "How much would a larger budget bring: every second at high resolution?"),
)


@dataclass(frozen=True)
class Finding:
    """The main contrast in one measure, in words; `sign` is 0 where it is not significant."""

    name: str
    sign: int
    points: str
    interval: str
    p: str
    remark: str
    seen: str


@dataclass(frozen=True)
class Point:
    """A question that another contrast answers: its row of each measure."""

    question: str
    contrast: str
    cells: list[Tree | None]


@dataclass(frozen=True)
class Verdict:
    """One sentence, the numbers that it rests on, what the other contrasts say of it, and cautions."""

    sentence: str
    results: list[Finding]
    points: list[Point]
    cautions: list[str]


def judge(results: Results, *, dataset: str, effect: str) -> Verdict:
    """`effect` is that of the data set `demo`."""
    tested = results.metrics["contrasts"]
    main = {measure: tested[measure][f"{MAIN}-{BASELINE}"] for measure in MEASURES}
    seen = results.metrics.get("uncertainty", {})
    return Verdict(
        sentence=_sentence(results.metrics, {measure: sign(row) for measure, row in main.items()}),
        results=[_finding(MEASURES[measure], row, seen.get(measure)) for measure, row in main.items()],
        points=_points(results.metrics),
        cautions=_cautions(results, DEMO[effect] if dataset == "demo" else ""),
    )


def _finding(name: str, row: Tree, seen: Tree | None) -> Finding:
    found = sign(row)
    remark = "" if found else ": not significant"
    if not found and row["p"] < ALPHA:
        remark += f", though by itself it would be (p {p_value(row['p'])}): it is one of several contrasts"
    return Finding(name, found, points(row["diff"]), bounds(row), p_value(row["p_holm"]), remark, _seen(seen))


def _sentence(metrics: Tree, signs: dict[str, int]) -> str:
    same = f"at the same {metrics['tokens_per_clip']} visual tokens a clip"
    found = signs["accuracy"], signs["class_event"]
    if found == (1, 1):
        return f"Audio anchors beat uniform sampling, {same}."
    if found == (0, 0):
        return f"No difference between audio anchors and uniform sampling can be told, {same}."
    if found == (1, 0):
        return (
            f"Audio anchors raise accuracy over uniform sampling, {same}, but not for certain the class of event "
            "seconds: resolution may merely tell the head where the event is."
        )
    if found == (0, 1):
        return (
            f"Audio anchors raise the class of event seconds over uniform sampling, {same}; over all seconds no "
            "difference can be told."
        )
    worse = " and the ".join(name for measure, name in MEASURES.items() if signs[measure] < 0)
    better = " and the ".join(name for measure, name in MEASURES.items() if signs[measure] > 0)
    also = f", better in {better}" if better else ""
    return f"Audio anchors do worse than uniform sampling in {worse}{also}, {same}."


def _points(metrics: Tree) -> list[Point]:
    tested: dict[str, dict[str, Tree]] = {measure: {} for measure in MEASURES}
    for family in families(metrics).values():
        for measure, rows in tested.items():
            rows |= family.get(measure, {})
    return [
        Point(text, f"{a} − {b}", [rows.get(f"{a}-{b}") for rows in tested.values()])
        for a, b, text in ASKED
        if any(f"{a}-{b}" in rows for rows in tested.values())
    ]


def _cautions(results: Results, synthetic: str) -> list[str]:
    metrics = results.metrics
    said = ([synthetic] if synthetic else []) + _unexplained(metrics)
    if metrics["clips"] < FEW:
        said.append(f"Only {metrics['clips']} clips: below {FEW}, nobody has measured what intervals and p are worth.")
    if metrics["seeds"] == 1:
        said.append("One seed only: the spread between trainings is not in the intervals.")
    if metrics["failed_clips"]:
        said.append(f"{metrics['failed_clips']} clips of the data set could not be used and are not counted.")
    if share := results.recall["fallback"]:
        said.append(
            f"{share:.0%} of the clips fell back to uniform sampling, since their scores were too flat or their "
            "anchors fell outside: there the arms differ only in what they learnt."
        )
    return said


def _unexplained(metrics: Tree) -> list[str]:
    """For each measure with a gain: the arms that the anchors do not beat for certain, which may explain it."""
    said = []
    for measure, text in MEASURES.items():
        rows = metrics["contrasts"][measure].items()
        against = {name.removeprefix(f"{MAIN}-"): row for name, row in rows if name.startswith(f"{MAIN}-")}
        close = [arm for arm in ordered(against) if sign(against[arm]) < 1]
        if sign(against[BASELINE]) == 1 and close:
            said.append(
                f"Something else may explain the gain in {text}: {MAIN} does not beat {', '.join(close)} for certain."
            )
    return said


def _seen(row: Tree | None) -> str:
    """What the study could have seen, and how far its baseline wanders, where p0 says so."""
    text = ""
    if least := row and row.get("minimum_detectable_effect_holm"):
        alone = row["minimum_detectable_effect"]
        text += f"A true difference of {100 * least:.1f} points would be found four times in five after Holm "
        text += f"({100 * alone:.1f} by itself), a smaller one less often. "
    if sd := row and row.get("baseline_seed_sd"):
        text += (
            f"From seed to seed {BASELINE} itself varies by {100 * sd:.1f} points (standard deviation), a mean over "
        )
        text += f"as many other seeds by {100 * row['baseline_rerun_sd']:.1f}."
    return text
