"""Pictures at 25 a second, one by one, and the 640 samples of sound that go with each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from avs.core.media import RATE, RUN_UP, MediaError, Sound, feed, opened, streams_of
from avs.core.pictures import upright

Seen = TypeVar("Seen")
FPS = 25
SAMPLES = RATE // FPS
MAX_SECONDS = 3600
_FRAME = 1 / FPS
_EPS = 1e-3  # Matroska counts in milliseconds
_TORN = 0.25  # seconds that a file may lack of what its header announces
_ODD_RATE = 0.1  # frames a second off 25


@dataclass(frozen=True)
class Footage(Generic[Seen]):
    """What was seen of T pictures, int16 [640 * T] of sound, and flags: any of no_audio, other_rate, damaged."""

    seen: list[Seen]
    audio: np.ndarray
    flags: tuple[str, ...]


@dataclass(frozen=True)
class _Span:
    begin: float
    end: float


def read_footage(
    path: Path,
    see: Callable[[int, np.ndarray], Seen],
    *,
    start: float = 0,
    end: float = 0,
    longest: float = MAX_SECONDS,
) -> Footage[Seen]:
    """Decode [start, end) seconds of a file in one pass, on one thread; an `end` of 0 is the video's own.

    `see(n, picture)` is shown each in turn, RGB uint8 [H,W,3]: picture n is the one that is on at (n + 0.5) / 25 s,
    so that video of 25 frames a second stays as it is. Times count from the first frame. Sound is brought to 16 kHz
    mono, placed by presentation time, and cut, or filled with silence, to the length of the picture.

    Raises MediaError where no use can be made of the file, where sound or picture begins or ends more than one
    frame off the other, or off the clip, and, before it decodes, for a clip of more than `longest` seconds.
    """
    with opened(path) as container:
        video, audio = _two(streams_of(container))
        spans = [_span(container, stream, end) for stream in (video, audio) if stream is not None]
        if not end:
            _check_whole((container.duration or 0) / av.time_base, spans)
        odd = abs(float(video.average_rate or FPS) - FPS) > _ODD_RATE
    count = _checked_count(spans, start, end, longest)
    sink, sound, damaged = _read(path, count, spans[0].begin + start, see, seek=start > RUN_UP)
    if sink.late and start > RUN_UP:
        sink, sound, damaged = _read(path, count, spans[0].begin + start, see, seek=False)
    flags = {"no_audio": audio is None, "other_rate": odd, "damaged": damaged}
    if audio is not None and sound.end < (count - 1) * _FRAME - _EPS:
        raise MediaError(f"sound cannot be decoded after {sound.end:.2f} s of {count * _FRAME:.2f} s")
    return Footage(sink.finish(), sound.samples, tuple(name for name, raised in flags.items() if raised))


def _two(streams: Sequence[VideoStream | AudioStream]) -> tuple[VideoStream, AudioStream | None]:
    video, *audio = streams
    assert isinstance(video, VideoStream)
    return video, next((stream for stream in audio if isinstance(stream, AudioStream)), None)


def _span(container: InputContainer, stream: VideoStream | AudioStream, until: float) -> _Span:
    """When a stream begins and ends by its packets, which are not decoded; those after `until` are not looked at."""
    times: list[float] = []
    last = 0.0
    for packet in _packets(container, stream):
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None or not packet.size:
            continue
        times.append(float(stamp * packet.time_base))
        last = max(last, times[-1] + float((packet.duration or 0) * packet.time_base))
        if until and times[-1] > times[0] + until + 1:
            break
    if not times:
        raise MediaError(f"no {stream.type} in it")
    begin = min(times) if stream.start_time is None else float(stream.start_time * (stream.time_base or 0))
    return _Span(begin, last)


def _packets(container: InputContainer, stream: VideoStream | AudioStream) -> Iterator[av.Packet]:
    """From the beginning on."""
    try:
        container.seek(0)
        yield from container.demux(stream)
    except av.FFmpegError as error:
        raise MediaError(f"cannot be read: {error.strerror}") from error


def _check_whole(announced: float, spans: Sequence[_Span]) -> None:
    there = max(span.end for span in spans) - min(span.begin for span in spans)
    if announced > there + _TORN:
        raise MediaError(f"file ends at {there:.2f} s of {announced:.2f} s that it announces: it is cut off")


def _checked_count(spans: Sequence[_Span], start: float, end: float, longest: float) -> int:
    """How many pictures the clip has. Raises MediaError where sound, picture and clip do not go together."""
    origin = spans[0].begin
    length = spans[0].end - origin
    stop = end or length
    if not 0 <= start < stop <= start + longest:
        raise MediaError(f"clip of {stop - start:.2f} s must be longer than 0 and at most {longest:g} s long")
    if length < stop - _FRAME - _EPS:
        raise MediaError(f"video ends at {length:.2f} s, the clip at {stop:.2f} s")
    for sound in spans[1:]:
        if sound.begin - origin > start + _FRAME + _EPS or (not start and origin - sound.begin > _FRAME + _EPS):
            raise MediaError(f"sound begins at {sound.begin - origin:.2f} s of the picture: more than one frame off")
        over = sound.end - origin - stop
        if over < -_FRAME - _EPS or (not end and over > _FRAME + _EPS):
            what = "the clip" if end else "the picture"
            raise MediaError(
                f"sound ends at {sound.end - origin:.2f} s, {what} at {stop:.2f} s: more than one frame off"
            )
    count = round((stop - start) * FPS)
    if not count:
        raise MediaError(f"clip of {stop - start:.3f} s is shorter than a frame")
    return count


def _read(
    path: Path, count: int, origin: float, see: Callable[[int, np.ndarray], Seen], *, seek: bool
) -> tuple[_Pictures[Seen], Sound, bool]:
    with opened(path) as container:
        pictures, sound = _Pictures(count, origin, see), Sound(count / FPS, origin)
        return pictures, sound, feed(container, pictures, sound, origin, seek=seek)


class _Pictures(Generic[Seen]):
    """Shows what is on at (n + 0.5) / 25 s."""

    def __init__(self, count: int, origin: float, see: Callable[[int, np.ndarray], Seen]) -> None:
        self.late = True  # whether even the first frame came too late for the first picture
        self._count, self._origin, self._see = count, origin, see
        self._seen: list[Seen] = []
        self._last: av.VideoFrame | None = None
        self._end = 0.0

    @property
    def full(self) -> bool:
        return len(self._seen) == self._count

    def add(self, frame: av.VideoFrame) -> None:
        stamp = frame.dts if frame.pts is None else frame.pts
        if stamp is None or frame.time_base is None:
            return
        time = float(stamp * frame.time_base) - self._origin
        if self._last is None:
            self.late = time > self._target
        while not self.full and time > self._target:
            self._show(self._last or frame)
        self._last = frame
        self._end = time + float((frame.duration or 0) * frame.time_base)

    @property
    def _target(self) -> float:
        return (len(self._seen) + 0.5) / FPS + _EPS

    def finish(self) -> list[Seen]:
        if self._last is None:
            raise MediaError("no frame could be decoded")
        if self._end < (self._count - 1) / FPS - _EPS and not self.full:
            raise MediaError(f"video cannot be decoded after {self._end:.2f} s of {self._count / FPS:.2f} s")
        while not self.full:
            self._show(self._last)
        return self._seen

    def _show(self, frame: av.VideoFrame) -> None:
        self._seen.append(self._see(len(self._seen), upright(frame)))
