"""The command line: `python -m avs COMMAND`. Each command is a function here that calls one module of the kit."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from avs.core.errors import InputError

if TYPE_CHECKING:
    from avs.config import Config
    from avs.datasets import Dataset

Run = Callable[[argparse.Namespace], None]


def main(arguments: list[str] | None = None) -> None:
    options = make_parser().parse_args(arguments)
    try:
        options.run(options)
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}" if error.filename else f"error: {error}")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m avs", description="Look at results, data and single clips.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, run: Run, text: str, example: str) -> Callable[..., Any]:
        epilog = f"example: python -m avs {example}"
        sub = commands.add_parser(name, help=text, description=text, epilog=epilog)
        sub.set_defaults(run=run)
        return sub.add_argument

    add = command("table", show_tables, "print the tables of the last run", "table")
    add("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")

    add = command(
        "verify", verify, "hold README and docs against the committed figures, and say where those come from", "verify"
    )
    add("--write", action="store_true", help="first render anew what is marked")
    add("--brief", action="store_true", help="disagreements only, not where each file comes from")

    add = command(
        "report", report, "make the page of the last run, or of what changed since", "report --against HEAD~1"
    )
    add("--against", metavar="REV", help="a commit: the page also says what changed since, in results/report/against")

    add = command(
        "weights",
        fetch_weights,
        "list the published weights, fetch some for work offline, or convert a checkpoint of the speech study",
        "weights convert model_0147.model seanet.safetensors",
    )
    add("names", nargs="*", metavar="NAME", help="an encoder or an eventness method; or: convert IN OUT.safetensors")

    add = command("doctor", doctor, "say what is wrong with a data set, before it costs anything", "doctor --full")
    add("--dataset", metavar="NAME", help="default: that of params.yaml")
    add("--videos", metavar="DIR", help="look at the videos of another folder")
    add("--annotations", metavar="PATH", help="read other annotations: a file or folder in AVE's format, or a TSV")
    add("--seconds", type=int, help="length of a clip there; default: data.local.seconds")
    add("--annotations-only", action="store_true", help="check the annotations only, without the videos")
    add("--full", action="store_true", help="decode every frame that preprocessing would")
    add("--max-failed", type=float, metavar="SHARE", help="of rows lost; default: data.max_failed_fraction")
    add("-o", "--out", type=Path, default=Path("results/doctor"), metavar="DIR", help="default: results/doctor")

    add = command("smoke", smoke, "check in a minute that everything works here, without network", "smoke")
    add("what", nargs="?", choices=["all"], default="all", help="there is one check: all")
    add("--weights", choices=["random", "published"], default="random", help="of the encoder; default: random")

    add = command("estimate", estimate, "say what a run will take: time, disk and memory", "estimate")
    add("--params", type=Path, default=Path("params.yaml"), metavar="FILE", help="default: params.yaml")

    add = command("plan", plan, "draw eventness, anchors and plan of a clip of your own", "plan clip.mp4 --k 3")
    add("video", type=Path, metavar="VIDEO")
    add("--k", type=int, help="anchors; default: that of params.yaml")
    add("--method", metavar="NAME", help="eventness method; default: eventness.method")
    add("--seconds", type=int, help="look at the first so many; default: all whole ones, up to 60")
    add("-o", "--out", type=Path, metavar="PNG", help="default: VIDEO-plan.png in this folder")
    about = "also encode the frames as planned (cache.* of params.yaml), write features [T, D], say what that takes"
    add("--features", type=Path, metavar="NPY", help=about)

    add = command("long", long_videos, "say how many events the anchors of EPIC-SOUNDS' videos meet", "long --k 20")
    add("--split", choices=["train", "val"], default="val", help="default: val")
    add("--k", type=int, default=10, help="anchors a video; default: 10")
    add("--budget", type=int, default=120, metavar="N", help="seconds of a video that are looked at; default: 120")
    add("--frames", type=Path, metavar="DIR", help="write the frames of those seconds to DIR/VIDEO/SECOND.jpg")

    add = command(
        "locate",
        locate,
        "list for `dataset: youtube` where on YouTube AVE's clips are, by AudioSet",
        "locate /abs/AVE_Dataset /abs/audioset",
    )
    add("annotations", type=Path, metavar="AVE", help="Annotations.txt of AVE, or the folder that holds it")
    add("segments", type=Path, metavar="DIR", help="folder of AudioSet's *_segments.csv files")
    add(
        "-o",
        "--out",
        type=Path,
        default=Path("data/youtube/rows.tsv"),
        metavar="TSV",
        help="default: data/youtube/rows.tsv",
    )

    add = command("export", export, "write audio.wav and frames/ of a clip", "export 0-RUhOCu3LNXM clip")
    add("clip", metavar="CLIP", help="its key in index.tsv, or its video where that has one row")
    add("folder", type=Path, metavar="DIR")
    add("--media", type=Path, default=Path("data/media/clips"), metavar="DIR", help="default: data/media/clips")

    add = command(
        "transcribe",
        transcribe,
        "write down what is said in a video, by sound, lips or both",
        "transcribe clip.mp4 --checkpoint avhubert.pt",
    )
    add("video", type=Path, metavar="VIDEO")
    add("--checkpoint", type=Path, required=True, metavar="PATH", help="AV-HuBERT's, fine-tuned (docs/avsr.md)")
    add("--tokenizer", type=Path, metavar="DIR", help="*units.txt and *.model, where the checkpoint has none")
    add("--use", choices=["both", "audio", "lips"], default="both", help="default: both")
    add("--noise", type=Path, metavar="FILE", help="add the sound of this file")
    add("--snr", type=float, default=0.0, metavar="DB", help="how far the voice is above the noise; default: 0")
    add("--seed", type=int, default=0, help="draws where in the noise; default: 0")
    add("--beam", type=int, help="default: as published, 50 for seq2seq, 3 for CTC/attention")
    add("--length-penalty", type=float, default=1.0, metavar="X", help="of seq2seq; default: 1")
    add("--best", type=int, default=1, metavar="N", help="show so many hypotheses; default: 1")
    add("--landmarks", type=Path, metavar="FILE", help="points of the face in each picture, an .npy file")
    add("--detector", choices=["none", "mediapipe"], default="none", help="of the face; default: none, 96×96 mouths")
    add("--bfloat16", action="store_true", help="faster where the processor has it, less exact")

    add = command(
        "muse-cache", muse_cache, "read, write or check MuSE features in the published layout", "muse-cache import DIR"
    )
    add("action", choices=["import", "export", "verify"])
    add("folder", type=Path, nargs="?", metavar="DIR", help="the cache in that layout; verify without it: data/muse")
    add("--videos", metavar="PATH", help="where the videos lie, or lay, as the folder's keys have it; default: as here")
    add("--media", type=Path, default=Path("data/media/speech"), metavar="DIR", help="default: data/media/speech")
    return parser


def show_tables(options: argparse.Namespace) -> None:
    from avs.report.looks import count_looks
    from avs.report.table import print_recall, print_study

    print_recall(_metrics(options.results / "anchor_eval/metrics.json"))
    print_study(_metrics(options.results / "p0/metrics.json"))
    print(count_looks(options.results.parent).text)
    if (speech := options.results / "avsr/metrics.json").exists():
        from avs.report.word_errors import print_speech

        print_speech(_metrics(speech))


def verify(options: argparse.Namespace) -> None:
    from avs.report.verify import print_report, verify

    report = verify(write=options.write)
    print_report(report, brief=options.brief)
    if report.problems:
        count = len(report.problems)
        sys.exit(f"{count} disagreement{'' if count == 1 else 's'} (what marks mean: CONTRIBUTING.md)")


def report(options: argparse.Namespace) -> None:
    """Make the pages that `dvc repro report@avs report@avsr` makes, with what differs from run to run; say where.

    That of speech is made where its results are there.
    """
    from avs.report.against import changes
    from avs.report.page import shown_clips, write_page
    from avs.report.results import load_results, read_json
    from avs.report.run_facts import write_run

    config, folder = _config(), Path("results/report")
    results = load_results(Path("results"), Path("data/media/clips"))
    write = partial(write_page, clips=config.report.clips, dataset=config.dataset, effect=config.data.demo.effect)
    page = folder / "avs"
    write(page, results)
    write_run(folder / "run.js", results, config)
    if options.against:
        headline, shown = read_json(Path("results/headline.json")), shown_clips(results, config.report.clips)
        since = changes(options.against, results, Path("params.yaml"), headline, shown)
        page = folder / "against"
        write(page, results, media=folder / "avs/media", changes=since)
    print(page / "index.html")
    if Path("results/avsr/metrics.json").exists():
        report_speech(folder / "avsr", config)


def report_speech(page: Path, config: Config) -> None:
    """The page of the speech study."""
    from avs.report.machine import write_facts
    from avs.report.speech_page import RUN, write_speech_page
    from avs.report.speech_results import load_speech

    results = load_speech(Path("results/avsr"), Path("data/media/speech"))
    write_speech_page(page, results, clips=config.report.clips)
    write_facts(page.parent / RUN, results.fingerprint, config)
    print(page / "index.html")


def fetch_weights(options: argparse.Namespace) -> None:
    """Print where the weights of `names` lie, fetched if need be; without names, what there is, from where."""
    if options.names[:1] == ["convert"]:
        convert_weights(options.names[1:])
        return
    from avs.audio.eventness import published_weights
    from avs.core.weights import fetch
    from avs.report.weights import described
    from avs.vision.encoder import PUBLISHED

    sources = PUBLISHED | published_weights()
    if unknown := [name for name in options.names if name not in sources]:
        raise InputError(f"no published weights of {', '.join(unknown)} (there are: {', '.join(sources)})")
    for name in options.names or sources:
        print(f"{name}\t{fetch(sources[name])}" if options.names else described(name, sources[name]))


def convert_weights(paths: list[str]) -> None:
    """Write a published checkpoint as safetensors, with a description beside it, and say how its keys were met."""
    from avs.avsr.checkpoints import convert

    if len(paths) != 2:
        raise InputError("weights convert takes two paths: weights convert model_0147.model seanet.safetensors")
    source, target = map(Path, paths)
    print(convert(source, target), f"written: {target}, {target.with_suffix('.json')}", sep="\n")


def doctor(options: argparse.Namespace) -> None:
    from avs.doctor import diagnose
    from avs.report.doctor import draw_diagnosis, print_diagnosis, write_findings

    config = _config()
    limit = config.data.max_failed_fraction if options.max_failed is None else options.max_failed
    if not 0 <= limit <= 1:
        raise InputError(f"--max-failed ({limit:g}) must be a share from 0 to 1")
    dataset = _dataset(config, options)
    rows = dataset.annotations(check=False)
    folder = None if options.annotations_only else dataset.folder()
    if folder and not folder.is_dir():
        way_out = "run: dvc repro install@clips, or check the annotations alone: --annotations-only"
        raise InputError(f"folder of videos ({folder}) is not there ({way_out})")
    diagnosis = diagnose(rows, folder, config.execution, full=options.full)
    write_findings(options.out / "findings.tsv", diagnosis)
    draw_diagnosis(options.out / "doctor.png", diagnosis)
    print_diagnosis(diagnosis)
    print(f"written: {options.out}/findings.tsv, {options.out}/doctor.png")
    if verdict := diagnosis.verdict(limit):
        sys.exit(f"{diagnosis.lost} of {len(diagnosis.rows)} rows cannot be used: {verdict}")


def smoke(options: argparse.Namespace) -> None:
    from avs.smoke import smoke

    smoke(options.weights)


def estimate(options: argparse.Namespace) -> None:
    from avs.config import load_config
    from avs.estimate import estimate
    from avs.report.costs import last_run, print_costs

    print_costs(estimate(load_config(options.params)), last_run())


def plan(options: argparse.Namespace) -> None:
    from avs.audio.eventness import EventnessParams
    from avs.core.params import build
    from avs.report.clip_plan import describe, draw_plan, encode_plan, plan_clip

    config = _config()
    chosen = {"method": options.method} if options.method else vars(config.eventness)
    eventness = build(EventnessParams, chosen, "--method")
    k = config.k if options.k is None else options.k
    found = plan_clip(
        options.video, k=k, eventness=eventness, anchors=config.anchors, budget=config.budget, seconds=options.seconds
    )
    out = options.out or Path(f"{options.video.stem}-plan.png")
    draw_plan(out, found)
    print(describe(found), f"written: {out}", sep="\n")
    if options.features:
        print(encode_plan(options.features, found, config.cache), f"written: {options.features}", sep="\n")


def long_videos(options: argparse.Namespace) -> None:
    from avs.datasets.epic_sounds import EpicSounds, events_by_video, read_sounds
    from avs.localization.long import choose_seconds, evaluate_long, read_long, write_frames

    config = _config()
    p = config.data.epic_sounds
    videos = EpicSounds(p).videos()
    events = events_by_video(read_sounds(Path(p.annotations)), options.split)
    clips = list(read_long(Path(p.videos), videos, events, config.eventness.backend()))
    print(json.dumps(evaluate_long(clips, k=options.k, budget=options.budget), indent=1))
    for clip in clips if options.frames else ():
        seconds = choose_seconds(clip.scores, k=options.k, budget=options.budget)[1]
        write_frames(Path(p.videos) / videos[clip.name], seconds, options.frames / clip.name)


def export(options: argparse.Namespace) -> None:
    from avs.preprocess import MediaShards

    clip = MediaShards(options.media).export(options.clip, options.folder)
    print(f"{clip.key}: {clip.label!r} in [{clip.start:g}, {clip.end:g}) s, written to {options.folder}")


def locate(options: argparse.Namespace) -> None:
    from avs.core.store import atomic
    from avs.datasets.annotations import read_annotations
    from avs.datasets.youtube import located

    segments = sorted(options.segments.glob("*_segments.csv"))
    if not segments:
        raise InputError(f"{options.segments} has no *_segments.csv (they come from AudioSet's download page)")
    lines, absent = located(read_annotations(options.annotations, seconds=10), segments)
    with atomic(options.out) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
    print(f"{len(lines) - 1} rows, {absent} without a place, written: {options.out}")


def transcribe(options: argparse.Namespace) -> None:
    from avs.avsr.recognizers import SearchParams
    from avs.avsr.transcribe import describe, load_recognizer, read_clip, transcribe, with_noise
    from avs.lips.preprocess import LipsParams

    params = SearchParams(beam=options.beam, length_penalty=options.length_penalty)
    if options.best < 1:
        raise InputError(f"--best ({options.best}) must be >= 1")
    lips = LipsParams(detector=options.detector)
    clip = read_clip(options.video, options.landmarks, lips, sound_only=options.use == "audio")
    if options.noise:
        clip = clip._replace(sound=with_noise(clip.sound, options.noise, options.snr, options.seed))
    model = load_recognizer(options.checkpoint, options.tokenizer)
    found = transcribe(model, clip, use=options.use, params=params, bfloat16=options.bfloat16)
    print(describe(found, clip.flags, options.best))


def muse_cache(options: argparse.Namespace) -> None:
    from avs.lips.exchange import export_published, import_published, verify_features

    muse, folder = _config().muse, options.folder
    if folder is None and options.action != "verify":
        raise InputError(f"muse-cache {options.action} needs a folder: muse-cache {options.action} DIR")
    folder = folder or Path("data/muse")
    where = options.media, folder
    if options.action == "export":
        count = export_published(Path("data/muse"), *where, options.videos)
        print(f"{count} clips written to {folder}")
    elif options.action == "import":
        digest, count, missing = import_published(*where, muse, options.videos)
        print(f"{count} clips imported, {len(missing)} missing{f', first {missing[0].clip}' if missing else ''}")
        print(f"to use them: dvc exp run -S muse.checkpoint=imported:{digest}")
    else:
        total, problems = verify_features(*where, muse, options.videos)
        print(*problems, sep="\n", end="\n" if problems else "")
        if problems:
            sys.exit(f"{len(problems)} problems with {total} clips in {folder}")
        print(f"{total} clips in {folder}: each has its features")


def _dataset(config: Config, options: argparse.Namespace) -> Dataset:
    """The data set of params.yaml, or what the options name."""
    from avs.core.params import build
    from avs.datasets import DatasetName, open_dataset
    from avs.datasets.local import LocalParams

    given = {name: getattr(options, name) for name in ("videos", "annotations", "seconds")}
    places = {name: value for name, value in given.items() if value is not None}
    if places and options.dataset:
        raise InputError("--dataset names a data set of params.yaml: give it, or --videos and --annotations")
    if places:
        local = build(LocalParams, vars(config.data.local) | places, "options")
        return open_dataset("local", replace(config.data, local=local))
    name = options.dataset or config.dataset
    if name not in get_args(DatasetName):
        raise InputError(f"--dataset ({name!r}) must be one of {', '.join(get_args(DatasetName))}")
    return open_dataset(name, config.data)


def _config() -> Config:
    from avs.config import load_config

    return load_config()


def _metrics(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except OSError:
        raise InputError(f"{path} is not there yet (run: dvc repro)") from None
