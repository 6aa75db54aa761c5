"""Media files: pictures by presentation time and 16 kHz mono sound from them; small videos into them."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from PIL import Image

from avs.core import tars
from avs.core.pictures import MediaError, Pictures
from avs.core.store import atomic

Frame = TypeVar("Frame", av.VideoFrame, av.AudioFrame)
RATE = 16_000
MAX_SIDE = 8192
MAX_PIXELS = MAX_SIDE * 4608  # 8K; some decoders keep sixteen pictures
MAX_BYTES = 1 << 30  # of a clip's pictures; a decoder may keep as much again
MAX_SOUND = 6 * 3600  # seconds of a file of sound: a slow rate makes many samples of few bytes
# Playlists and scripted formats, which can name other files or addresses, are not among them.
FORMATS = "mov,matroska,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,flv,ogg,asf,wav,mp3,aac,flac"
_GAP = RATE // 20  # jumps in audio time stamps up to 50 ms are jitter
RUN_UP = 2.0  # seconds decoded before a late start, for codecs that build on what came before


@dataclass(frozen=True)
class Media:
    """What a clip shows and sounds like.

    frames: T upright RGB pictures, uint8 [H,W,3] at native size, frame t being the one shown at t + 0.5 s;
    audio: int16 [T * 16000]; flags: any of no_audio, short_video, short_audio, damaged.
    """

    frames: list[np.ndarray]
    audio: np.ndarray
    flags: tuple[str, ...]


def read_media(path: Path, num_seconds: int, *, start: float = 0) -> Media:
    """Decode `num_seconds` of a file, from `start` seconds on, in one pass, on one thread.

    H.264 frames that are not chosen and that no other is built on are passed over, which leaves the others as they are.
    Where it turns out that this may have changed the choice, or there are errors, all is decoded after all.

    Times count from the container's start, those of the result from `start`. Frames are chosen and sound is
    placed by presentation time; where there is no sound there is silence. Flags: `no_audio`; `short_video`, the
    last frame is held because the video ends less than 1 s early, before the last t + 0.5; `short_audio`, more
    than 50 ms are missing at the end; `damaged`, the decoder met errors in what it decoded. Raises MediaError where
    no use can be made of the file.
    """
    read, seek = partial(_read, path, num_seconds, start), start > RUN_UP
    pictures, sound, damaged = read(seek=seek, spare=True)
    if damaged or pictures.unsure:
        pictures, sound, damaged = read(seek=seek)
    if pictures.late and seek:
        pictures, sound, damaged = read(seek=False)
    frames = pictures.finish()
    flags = {"no_audio": sound.empty, "short_video": pictures.short, "short_audio": sound.short}
    flags["damaged"] = damaged
    return Media(frames, sound.samples, tuple(name for name, raised in flags.items() if raised))


def read_sound(path: Path) -> np.ndarray:
    """The sound of a whole file's whole seconds: int16 [S * 16000]. Raises MediaError where there is none."""
    with opened(path) as container:
        stream = next((stream for stream in container.streams.audio if stream.codec_context is not None), None)
        if stream is None:
            raise MediaError("no audio stream")
        origin = max(container.start_time or 0, 0) / av.time_base
        seconds = (container.duration or 0) // av.time_base
        if seconds > MAX_SOUND:
            raise MediaError(f"{seconds} s of sound, more than {MAX_SOUND}")
        sound = Sound(seconds, origin)
        decode(container, {stream: sound})
        sound.finish()
    return sound.samples


def _read(
    path: Path, num_seconds: int, start: float, *, seek: bool, spare: bool = False
) -> tuple[Pictures, Sound, bool]:
    with opened(path) as container:
        origin = max(container.start_time or 0, 0) / av.time_base + start
        pictures, sound = Pictures(num_seconds, origin), Sound(num_seconds, origin)
        watch = pictures.spare if spare else _let_pass
        pixels = min(MAX_PIXELS, MAX_BYTES // (3 * num_seconds))
        return pictures, sound, feed(container, pictures, sound, origin, seek=seek, watch=watch, pixels=pixels)


def _let_pass(packet: av.Packet) -> None:
    """For those who need not see packets."""


def feed(
    container: InputContainer,
    pictures: Any,
    sound: Sound,
    origin: float,
    *,
    seek: bool,
    watch: Callable[[Any], None] = _let_pass,
    pixels: int = MAX_PIXELS,
) -> bool:
    """Decode into a sink of pictures and one of sound, with `seek` from a run-up to `origin` on; whether damaged.

    `watch`: as of `decode`; `pixels`: as of `streams_of`.
    """
    sinks: dict[Any, Any] = dict(zip(streams_of(container, pixels), (pictures, sound), strict=False))
    if seek:
        with suppress(av.FFmpegError):  # then it is read from its beginning
            container.seek(round((origin - RUN_UP) * av.time_base))
    damaged = decode(container, sinks, watch)
    sound.finish()
    return damaged


def opened(path: Path) -> InputContainer:
    """The container of a media file, which may lie in a tar. Raises MediaError where there is none that is allowed."""
    part = tars.find(path)
    if part is None:
        raise MediaError("no such file" if not path.exists() else "not a regular file")
    if part.size == 0:
        raise MediaError("file is empty")
    # An absolute path is never taken for an address or an option.
    url, protocols = str(part.path.absolute()), "file"
    if part.inside:
        url, protocols = f"subfile,,start,{part.start},end,{part.start + part.size},,:{url}", "file,subfile"
    options = {"format_whitelist": FORMATS, "protocol_whitelist": protocols}
    try:
        return av.open(url, options=options, metadata_errors="ignore")
    except (av.FFmpegError, UnicodeError) as error:
        raise MediaError(f"cannot be opened: {getattr(error, 'strerror', 'odd file name')}") from error


def streams_of(container: InputContainer, pixels: int = MAX_PIXELS) -> list[VideoStream | AudioStream]:
    """The streams to decode: a video, of at most so many pixels, and, where there is one, an audio stream."""
    video = next((s for s in container.streams.video if not s.disposition & Disposition.attached_pic), None)
    if video is None:
        raise MediaError("no video stream")
    if video.codec_context is None:
        raise MediaError("no decoder for the video stream")
    width, height = video.codec_context.width, video.codec_context.height
    if max(width, height) > MAX_SIDE:
        raise MediaError(f"frame size {width}x{height} exceeds {MAX_SIDE} a side")
    if width * height > pixels:
        raise MediaError(f"frame size {width}x{height} exceeds {pixels} pixels, as many as fit into memory: scale it")
    video.codec_context.options = {"max_pixels": str(pixels)}  # holds if the size changes later
    audio = [stream for stream in container.streams.audio if stream.codec_context is not None][:1]
    streams: list[VideoStream | AudioStream] = [video, *audio]
    for stream in streams:
        stream.codec_context.thread_count = 1
    return streams


def decode(container: InputContainer, sinks: dict[Any, Any], watch: Callable[[Any], None] = _let_pass) -> bool:
    """Feed the frames of each stream to its sink until all are full; whether the data was damaged.

    `watch` is shown every packet before it is decoded.
    """
    damaged = False
    packets = container.demux(list(sinks))
    while not all(sink.full for sink in sinks.values()):
        try:
            packet = next(packets, None)
            if packet is None:
                break
            sink = sinks[packet.stream]
            damaged |= packet.is_corrupt
            watch(packet)
            frames: list[Any] = [] if sink.full else packet.decode()
            for frame in frames:
                damaged |= frame.is_corrupt
                sink.add(frame)
        except av.FFmpegError:
            damaged = True
    return damaged


class Sound:
    """Resamples to 16 kHz mono and lays the samples down at their presentation times."""

    def __init__(self, num_seconds: float, origin: float) -> None:
        self.samples = np.zeros(round(num_seconds * RATE), np.int16)
        self._origin = origin
        self._begun, self._cursor = False, 0
        self._kind: tuple[str, str, int] | None = None
        self._resampler = av.AudioResampler("s16", "mono", RATE)

    @property
    def full(self) -> bool:
        return self._cursor >= len(self.samples)

    @property
    def end(self) -> float:
        """Where the sound ends so far, in seconds."""
        return self._cursor / RATE

    @property
    def empty(self) -> bool:
        return self._cursor <= 0

    @property
    def short(self) -> bool:
        return 0 < self._cursor < len(self.samples) - _GAP

    def add(self, frame: av.AudioFrame) -> None:
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._kind not in (None, kind):  # some streams change their rate or layout on the way
            self.finish()
        self._kind = kind
        for block in self._resampler.resample(frame):
            self._place(block)

    def finish(self) -> None:
        if self._kind is not None:
            for block in self._resampler.resample(None):
                self._place(block)
        self._resampler = av.AudioResampler("s16", "mono", RATE)

    def _place(self, block: av.AudioFrame) -> None:
        start = self._cursor if block.time is None else round((block.time - self._origin) * RATE)
        begin = self._cursor if self._begun and abs(start - self._cursor) <= _GAP else start
        self._begun, self._cursor = True, begin + block.samples
        low, high = (min(max(edge, 0), len(self.samples)) for edge in (begin, self._cursor))
        self.samples[low:high] = np.frombuffer(memoryview(block.planes[0]), np.int16)[low - begin : high - begin]


def write_media(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: int | Fraction,
    audio: np.ndarray | None = None,
    *,
    crf: int = 18,
) -> None:
    """Write RGB frames uint8 [H,W,3] (even sizes) and int16 [S] sound at 16 kHz as H.264 and AAC in mp4.

    The same input gives the same bytes; the file appears under its name only when it is complete.
    """
    with atomic(path) as file, av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        _encode(container, iter(frames), Fraction(fps), audio, crf)


def _encode(
    container: OutputContainer,
    frames: Iterator[np.ndarray],
    fps: Fraction,
    audio: np.ndarray | None,
    crf: int,
) -> None:
    first = next(frames)
    # Slower presets look ahead with approximate arithmetic, whose results are not the same everywhere.
    video = container.add_stream("libx264", rate=fps, options={"crf": str(crf), "preset": "ultrafast"})
    video.pix_fmt = "yuv420p"
    video.height, video.width = first.shape[:2]
    streams: dict[type, Any] = {av.VideoFrame: video}
    if audio is not None:
        streams[av.AudioFrame] = container.add_stream("aac", rate=RATE, layout="mono")
    for stream in streams.values():
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= Flags.bitexact
    for frame in _interleaved(chain([first], frames), fps, audio):
        container.mux(streams[type(frame)].encode(frame))
    for stream in streams.values():
        container.mux(stream.encode(None))


def _interleaved(
    pictures: Iterable[np.ndarray], fps: Fraction, audio: np.ndarray | None
) -> Iterator[av.VideoFrame | av.AudioFrame]:
    """Each picture followed by the sound of its time, so that a reader can stop early."""
    samples = np.zeros(0, np.int16) if audio is None else audio
    start = 0
    for index, picture in enumerate(pictures):
        yield _timed(av.VideoFrame.from_ndarray(picture, format="rgb24"), index, 1 / fps)
        stop = round((index + 1) / fps * RATE)
        yield from _blocks(samples, start, stop)
        start = stop
    yield from _blocks(samples, start, len(samples))


def _blocks(samples: np.ndarray, start: int, stop: int) -> Iterator[av.AudioFrame]:
    block = samples[start:stop]
    if len(block):
        frame = av.AudioFrame.from_ndarray(block[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        yield _timed(frame, start, Fraction(1, RATE))


def _timed(frame: Frame, pts: int, time_base: Fraction) -> Frame:
    frame.pts, frame.time_base = pts, time_base
    return frame


def cut_media(source: Path, path: Path, start: float, end: float) -> float:
    """Copy `start` to `end` seconds of a file's picture and sound, as they are coded, to a Matroska file.

    Returns the source's time at which the copy's begins: a key frame early enough for a run-up to `start`; below 0
    where the copy begins before its source, by the coder's own run-up. Times count from the container's start.
    Raises MediaError where there is nothing to copy.
    """
    try:
        begin = _cut(source, path, start, end, seek=start > RUN_UP)
        late = begin > start and start > RUN_UP
        return _cut(source, path, start, end, seek=False) if late else begin
    except (av.FFmpegError, IndexError) as error:
        raise MediaError(f"cannot be copied: {error}") from error


def _cut(source: Path, path: Path, start: float, end: float, *, seek: bool) -> float:
    options = {"fflags": "+bitexact"}  # the same parts have the same bytes
    with opened(source) as container, atomic(path) as file, av.open(file, "w", "matroska", options=options) as out:
        origin = _origin(container)
        copies: dict[Any, Any] = {stream: out.add_stream_from_template(stream) for stream in streams_of(container)}
        if seek:
            with suppress(av.FFmpegError):  # then it is copied from its beginning
                container.seek(round((origin + start - RUN_UP) * av.time_base))
        first: float | None = None
        for packet in _packets_until(container, list(copies), origin + end):
            if first is None and packet.stream is next(iter(copies)):
                first = _time(packet)
            packet.stream = copies[packet.stream]
            out.mux(packet)
        if first is None:
            raise MediaError("no key frame from which it could be cut")
    with opened(path) as container:
        # Matroska moves all times alike, by whole milliseconds, where one of them is below 0.
        moved = round(_time(next(container.demux(container.streams.video[0]))) - first, 3)
        return _origin(container) - moved - origin


def _origin(container: InputContainer) -> float:
    """The container's start, in seconds; where it is below 0, that is the coder's run-up and 0 the start."""
    return max(container.start_time or 0, 0) / av.time_base


def _time(packet: av.Packet) -> float:
    pts = packet.dts if packet.pts is None else packet.pts
    return float((pts or 0) * packet.time_base)


def _packets_until(container: InputContainer, streams: list[Any], end: float) -> Iterator[av.Packet]:
    """Packets until each stream has reached `end`, those of the first stream from a key frame on.

    The others' are kept from the beginning on, since they say where a picture that starts late has its place.
    """
    begun, running = False, set(streams)
    for packet in container.demux(streams):
        begun |= packet.is_keyframe and packet.stream is streams[0]
        if packet.dts is not None and (begun or packet.stream is not streams[0]):
            if packet.dts * packet.time_base > end:
                running.discard(packet.stream)
            if not running:
                break
            yield packet


def jpeg(frame: np.ndarray) -> bytes:
    """RGB uint8 [H,W,3] as a JPEG of quality 95 without chroma subsampling."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def unjpeg(data: bytes) -> np.ndarray:
    """The RGB picture, uint8 [H,W,3], of a JPEG file's bytes. Raises MediaError for one that is too large."""
    image = Image.open(io.BytesIO(data), formats=["JPEG"])
    if max(image.size) > MAX_SIDE:
        raise MediaError(f"picture of {image.width}x{image.height} exceeds {MAX_SIDE} a side")
    return np.asarray(image.convert("RGB"))


def wav(samples: np.ndarray) -> bytes:
    """Mono int16 [S] at 16 kHz as a WAV file's bytes."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()


def unwav(data: bytes) -> np.ndarray:
    """Samples, int16 [S], of a mono 16-bit 16 kHz WAV file's bytes; ValueError if it is another kind."""
    with wave.open(io.BytesIO(data)) as file:
        kind = (file.getnchannels(), file.getsampwidth(), file.getframerate())
        if kind != (1, 2, RATE):
            raise ValueError(f"WAV (channels, bytes, rate) {kind} must be (1, 2, {RATE})")
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.int16)
