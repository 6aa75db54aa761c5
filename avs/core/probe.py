"""A quick look at a media file: its header, the time stamps of its packets, its key frames and its sound."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.stream import VideoStream

from avs.core.media import RUN_UP, MediaError, Sound, decode, opened, streams_of

_ODD_GAP = 0.5  # a gap between frames this share longer or shorter than the usual one is irregular
_ODD_GAPS = 0.05  # so many irregular gaps make a rate variable
_REORDERED = 1.0  # seconds by which packets may come before their time


@dataclass(frozen=True)
class Probe:
    """What some seconds of a file are like; times count from their start.

    announced: where the video ends by the header, 0 if it does not say; end: where the pictures end that are
    there, at most a second after those looked at; width, height: in pixels, upright; rotation: degrees to turn
    the stored pictures by; rate: frames a second; sound: start and end, None without any; level: dB relative to
    full scale of its mean power, -inf for digital silence; damaged: the decoder met errors.
    """

    announced: float
    end: float
    width: int
    height: int
    rotation: int
    rate: float
    variable_rate: bool
    sound: tuple[float, float] | None
    level: float
    damaged: bool


def probe(path: Path, num_seconds: int, *, start: float = 0) -> Probe:
    """Look at `num_seconds` of a file, from `start` seconds on, decoding all of the sound but only the key frames.

    Raises MediaError where no use can be made of the file.
    """
    with opened(path) as container:
        video, *audio = streams_of(container)
        assert isinstance(video, VideoStream)
        video.codec_context.skip_frame = "NONKEY"
        origin = max(container.start_time or 0, 0) / av.time_base + start
        if start > RUN_UP:
            with suppress(av.FFmpegError):  # then it is read from its beginning
                container.seek(round((origin - RUN_UP) * av.time_base))
        pictures, sound = _Stamps(num_seconds, origin), Sound(num_seconds, origin)
        starts: dict[Any, float] = {}

        def watch(packet: Any) -> None:
            if packet.pts is not None:
                starts.setdefault(packet.stream, float(packet.pts * packet.time_base))
            if packet.stream is video:
                pictures.look(packet)

        damaged = decode(container, dict(zip([video, *audio], (pictures, sound), strict=False)), watch)
        sound.finish()
        if not pictures.times:
            raise MediaError("no frame in it")
        size = (video.codec_context.width, video.codec_context.height)
        return Probe(
            max((container.duration or 0) / av.time_base - start, 0),
            pictures.end,
            *(size[::-1] if pictures.rotation % 180 else size),
            pictures.rotation,
            *pictures.rate(),
            None if sound.empty else (starts.get(audio[0], origin) - origin, sound.end),
            _level(sound.samples),
            damaged,
        )


class _Stamps:
    """Notes when the pictures are shown, and decodes what the decoder does not skip."""

    def __init__(self, num_seconds: int, origin: float) -> None:
        self.times: list[float] = []
        self.end = 0.0
        self.rotation = 0
        self._until, self._origin = num_seconds + _REORDERED, origin

    @property
    def full(self) -> bool:
        return bool(self.times) and self.times[-1] > self._until

    def look(self, packet: Any) -> None:
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None or packet.is_corrupt or not packet.size:
            return
        self.times.append(float(stamp * packet.time_base) - self._origin)
        self.end = max(self.end, self.times[-1] + float((packet.duration or 0) * packet.time_base))

    def add(self, frame: av.VideoFrame) -> None:
        self.rotation = round(frame.rotation)

    def rate(self) -> tuple[float, bool]:
        """Frames a second, and whether it varies."""
        gaps = np.diff(np.sort(self.times))
        if not len(gaps) or not gaps.sum():
            return 0.0, False
        odd = np.abs(gaps / max(float(np.median(gaps)), 1e-6) - 1) > _ODD_GAP
        return len(gaps) / float(gaps.sum()), bool(odd.mean() > _ODD_GAPS)


def _level(samples: np.ndarray) -> float:
    power = np.mean(np.square(samples / 32768.0))
    return float(10 * np.log10(power)) if power else float("-inf")
