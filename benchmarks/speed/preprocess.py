"""The stage `preprocess` beside three ffmpeg processes a clip, and beside OpenCV, on generated clips like AVE's.

The clips are ten seconds of H.264 and AAC of about AVE's size (1.4 MB each: the set is 5.7 GB in 4143 clips), in
several encodings; each is copied many times and told apart by a number in a box that players skip.
"""

from __future__ import annotations

import shutil
import subprocess
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import joblib
import numpy as np
from PIL import Image

from avs.core.clips import Clip, Failed, read_table, write_table
from avs.core.execute import ExecutionParams, map_items
from avs.core.media import RATE, unjpeg
from avs.core.store import root, sha256_file
from avs.preprocess import MediaShards, preprocess
from benchmarks.speed.step import Clock, Found, Limit, Step

CLIPS, SECONDS = 72, 10
# Width, height and frames a second.
_KINDS = ((640, 360, 30), (640, 360, 25), (480, 360, 30), (640, 360, Fraction(30000, 1001)), (640, 480, 25))
_LEAST_PSNR, _LEAST_CORRELATION = 30.0, 0.99  # JPEGs differ in quality, resamplers in their filters


def prepare(folder: Path, clips: int = CLIPS) -> None:
    """The videos and their table, as install leaves it."""
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    originals = [_encoded(folder / f"kind{number}.mp4", number) for number in range(len(_KINDS))]
    rows = []
    for number in range(clips):
        video = folder / "videos" / f"clip{number:04d}.mp4"
        box = (16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big")
        video.write_bytes(originals[number % len(originals)].read_bytes() + box)
        rows.append(Clip(f"{number}-{video.stem}", "train", "Dog", 0, SECONDS, SECONDS, video.name, sha256_file(video)))
    write_table(folder / "clips.tsv", rows, Clip)


def _encoded(path: Path, number: int) -> Path:
    """A clip of that kind, encoded as ffmpeg does unless told otherwise: B frames, key frames far apart."""
    width, height, fps = _KINDS[number]
    draw = np.random.default_rng(number)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=fps, options={"crf": "22"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = container.add_stream("aac", rate=44100, layout="stereo")
        for picture in _pictures(draw, width, height, round(SECONDS * fps)):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        tones = np.sin(np.arange(SECONDS * 44100) * np.array([[0.03], [0.05]])) + draw.normal(0, 0.3, SECONDS * 44100)
        sound = av.AudioFrame.from_ndarray((0.1 * tones).astype(np.float32), format="fltp", layout="stereo")
        sound.sample_rate = 44100
        container.mux([*audio.encode(sound), *audio.encode(None)])
    return path


def _pictures(draw: np.random.Generator, width: int, height: int, count: int) -> Iterator[np.ndarray]:
    """A camera that wanders over a coarse and fine landscape, with grain."""
    size = (2 * width, 2 * height)
    layers = [draw.integers(0, 256, (2 * height // cell, 2 * width // cell, 3), np.uint8) for cell in (60, 20, 6)]
    large = np.mean([np.asarray(Image.fromarray(layer).resize(size), np.float32) for layer in layers], axis=0)
    grain = draw.normal(0, 4, (8, height, width, 1)).astype(np.float32)
    for n in range(count):
        y, x = round(height * (0.5 + 0.45 * np.sin(n / 40))), round(width * (0.5 + 0.45 * np.cos(n / 55)))
        yield np.clip(large[y : y + height, x : x + width] + grain[n % 8], 0, 255).astype(np.uint8)


def ours(folder: Path, clock: Clock) -> Found:
    clips, out = read_table(folder / "clips.tsv", Clip), folder / "ours"
    shutil.rmtree(root() / "media", ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    with clock:
        rows, failed, _ = preprocess(clips, folder / "videos", out, ExecutionParams())
    write_table(out / "failures.tsv", failed, Failed)
    floor, every = (_decoding(folder, clips, kinds) for kinds in ("NONREF", "DEFAULT"))
    return {"clips": len(rows), "floor_seconds": floor, "every_frame_seconds": every}


def _decoding(folder: Path, clips: list[Clip], skip: str) -> float:
    """Seconds of decoding alone on all cores, after a first round that starts the workers."""
    paths = [folder / "videos" / clip.video for clip in clips]
    with joblib.Parallel(n_jobs=joblib.cpu_count()) as parallel:
        parallel(joblib.delayed(_decode)(skip, path) for path in paths[: 2 * joblib.cpu_count()])
        clock = Clock()
        with clock:
            parallel(joblib.delayed(_decode)(skip, path) for path in paths)
    return clock.seconds


def _decode(skip: str, path: Path) -> None:
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        video.codec_context.skip_frame = skip
        for stream in (video, audio):
            stream.codec_context.thread_count = 1
        for packet in container.demux(video, audio):
            packet.decode()


def alternative(folder: Path, clock: Clock) -> Found:
    clips, out = read_table(folder / "clips.tsv", Clip), folder / "ffmpeg"
    shutil.rmtree(out, ignore_errors=True)
    with clock, ThreadPoolExecutor(joblib.cpu_count()) as pool:
        list(pool.map(partial(_three_processes, folder / "videos", out), clips))
    found = _compared(folder / "ours", out, clips[: len(_KINDS)])
    return found | {"clips": len(list(out.glob("*/audio.wav"))), "opencv_seconds": _with_opencv(folder, clips)}


def _three_processes(videos: Path, out: Path, clip: Clip) -> None:
    """Is there sound, then the sound, then the frame shown at t + 0.5 s of each second."""
    source, target = str(videos / clip.video), out / clip.key
    (target / "frames").mkdir(parents=True)
    asked = ["-v", "error", "-select_streams", "a", "-show_entries", "stream=codec_type", "-of", "csv=p=0"]
    sound = subprocess.run(["ffprobe", *asked, source], check=True, capture_output=True).stdout
    quiet = ["ffmpeg", "-nostdin", "-v", "error", "-threads", "1", "-i", source]
    if sound.strip():
        to_wav = ["-vn", "-ac", "1", "-ar", str(RATE), "-t", str(clip.seconds), str(target / "audio.wav")]
        subprocess.run([*quiet, *to_wav], check=True)
    at_half = "setpts=PTS-0.5/TB,fps=1:start_time=0:round=up"
    to_jpeg = ["-an", "-vf", at_half, "-frames:v", str(clip.seconds), "-q:v", "2", str(target / "frames/%d.jpg")]
    subprocess.run([*quiet, *to_jpeg], check=True)


def _with_opencv(folder: Path, clips: list[Clip]) -> float | None:
    """Seconds of the same by OpenCV for the frames, and ffmpeg for the sound; None where it is not installed."""
    try:
        import cv2  # noqa: F401
    except ImportError:
        return None
    out, clock = folder / "opencv", Clock()
    shutil.rmtree(out, ignore_errors=True)
    work = partial(_frames_by_opencv, folder / "videos", out)
    map_items(work, clips[: 2 * joblib.cpu_count()], ExecutionParams(), "opencv")
    shutil.rmtree(out, ignore_errors=True)
    with clock:
        done = map_items(work, clips, ExecutionParams(), "opencv")
    assert done == [SECONDS] * len(clips), done
    return clock.seconds


def _frames_by_opencv(videos: Path, out: Path, clip: Clip) -> int:
    """Reads frame by frame and keeps those shown at t + 0.5 s; how many were kept."""
    import cv2

    source, target = str(videos / clip.video), out / clip.key
    target.mkdir(parents=True)
    cv2.setNumThreads(1)
    capture, kept, last = cv2.VideoCapture(source), 0, None
    while kept < clip.seconds and capture.grab():
        if capture.get(cv2.CAP_PROP_POS_MSEC) > 1000 * (kept + 0.5) and last is not None:
            cv2.imwrite(str(target / f"{kept}.jpg"), last)
            kept += 1
        last = capture.retrieve()[1]
    to_wav = ["-vn", "-ac", "1", "-ar", str(RATE), "-t", str(clip.seconds), str(target / "audio.wav")]
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-threads", "1", "-i", source, *to_wav], check=True)
    return kept


def _compared(ours: Path, theirs: Path, clips: list[Clip]) -> Found:
    """The least likeness of frames (PSNR in dB) and of sound (correlation) between both outputs."""
    shards = MediaShards(ours)
    psnr, correlation = [], []
    for clip in shards.clips[: len(clips)]:
        for t, frame in enumerate(shards.frames(clip)):
            other = unjpeg((theirs / clip.key / f"frames/{t + 1}.jpg").read_bytes())
            assert other.shape == frame.shape, f"{clip.key}, frame {t}: {other.shape}, not {frame.shape}"
            psnr.append(10 * np.log10(255**2 / np.mean((frame - other.astype(float)) ** 2)))
        sound = np.zeros(SECONDS * RATE)
        with wave.open(str(theirs / clip.key / "audio.wav")) as file:
            samples = np.frombuffer(file.readframes(len(sound)), "<i2")
        sound[: len(samples)] = samples
        correlation.append(np.corrcoef(sound, shards.waveform(clip))[0, 1])
    frames = sum(len(list((theirs / clip.key / "frames").iterdir())) for clip in clips)
    return {"frames": frames, "psnr": float(min(psnr)), "correlation": float(min(correlation))}


def check(ours: Found, alternative: Found) -> Found:
    assert ours["clips"] == alternative["clips"] == CLIPS, (ours, alternative)
    assert alternative["frames"] == SECONDS * len(_KINDS), f"{alternative['frames']} frames of {len(_KINDS)} clips"
    assert alternative["psnr"] > _LEAST_PSNR, f"frames differ: {alternative['psnr']} dB"
    assert alternative["correlation"] > _LEAST_CORRELATION, f"sound differs: {alternative['correlation']}"
    names = ("clips", "psnr", "correlation", "opencv_seconds")
    figures = {name: alternative[name] for name in names} | {"floor_seconds": ours["floor_seconds"]}
    return {name: value and float(f"{value:.4g}") for name, value in figures.items()}


def limit(ours: Found, alternative: Found) -> Limit:
    floor, every = ours["floor_seconds"], ours["every_frame_seconds"]
    cores = joblib.cpu_count()
    why = (
        f"on {cores} cores, decoding alone (sound, and the frames that others build on) takes {floor:.1f} s and that "
        f"of every frame {every:.1f} s, by the same library that ffmpeg uses ({CLIPS} clips)"
    )
    return Limit(alternative["seconds"] / floor, why)


def needs() -> str | None:
    if all(shutil.which(name) for name in ("ffmpeg", "ffprobe")):
        return None
    return "ffmpeg is not installed (Debian: apt-get install ffmpeg)"


STEP = Step(
    what=f"{CLIPS} generated ten-second clips like AVE's (H.264 and AAC, 1.4 MB each): frames, sound and shards",
    alternative_is="ffprobe and two ffmpeg processes a clip, as many clips at once as cores (OpenCV: see check)",
    goal=5.0,
    prepare=prepare,
    ours=ours,
    alternative=alternative,
    check=check,
    limit=limit,
    needs=needs,
)
