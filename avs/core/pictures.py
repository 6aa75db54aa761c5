"""Which frames of a video are kept: those shown in the middle of each second, and which need not be decoded for it."""

from __future__ import annotations

from bisect import bisect
from fractions import Fraction
from math import ceil

import av
import numpy as np
from av.video.reformatter import Interpolation

_EPS = 2e-6  # a container's start time is rounded to microseconds
_BITEXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


class MediaError(Exception):
    """A file that cannot be used; the message is the reason, in one line."""


class Pictures:
    """Picks the frames shown at 0.5, 1.5, … s."""

    def __init__(self, num_seconds: int, origin: float) -> None:
        self.short = False
        self.late = True  # whether even the first frame came too late for the first second
        self._count, self._origin = num_seconds, origin
        self._chosen: list[np.ndarray] = []
        self._times: list[float] = []  # of the chosen
        self._last: av.VideoFrame | None = None
        self._time = self._end = 0.0  # of the last
        self._packets: list[float] = []  # times of all that `spare` saw
        self._spared = False

    @property
    def full(self) -> bool:
        return len(self._chosen) == self._count

    def add(self, frame: av.VideoFrame) -> None:
        pts = frame.dts if frame.pts is None else frame.pts
        base = frame.time_base
        if pts is None or base is None:
            return
        time = seconds(pts, base) - self._origin
        if self._last is None:
            self.late = time > _middle(0)
        while not self.full and time > _middle(len(self._chosen)):
            self._times.append(time if self._last is None else self._time)
            self._chosen.append(upright(self._last or frame))
        self._last, self._time = frame, time
        self._end = time + seconds(frame.duration or 0, base)

    def spare(self, packet: av.Packet) -> None:
        """Let the decoder pass over the packet's frame if no other is built on it and it is not one to choose.

        H.264 marks such frames (nal_ref_idc is 0: Rec. ITU-T H.264, 7.4.1), so that a decoder may leave them out.
        That a frame is shown for about its packet's duration is a guess; `unsure` tells where it was wrong.
        """
        coder = packet.stream.codec_context
        if coder.name != "h264":
            return
        coder.skip_frame = "DEFAULT"
        if packet.pts is None or not packet.duration:
            return
        base = packet.time_base
        time = seconds(packet.pts, base) - self._origin
        self._packets.append(time)
        if _middle(max(ceil(time - 0.5 - _EPS), 0)) - time > 1.5 * seconds(packet.duration, base):
            coder.skip_frame = "NONREF"
            self._spared = True

    @property
    def unsure(self) -> bool:
        """Whether frames were spared, and one that was chosen is not the last that there was by then."""
        if not self._spared:
            return False
        times = sorted(self._packets)
        wanted = [times[max(bisect(times, _middle(t)) - 1, 0)] for t in range(len(self._times))]
        return wanted != self._times or (not self.full and self._time != times[-1])

    def finish(self) -> list[np.ndarray]:
        if self._last is None:
            raise MediaError("no frame could be decoded")
        if not self.full:
            if self._end <= self._count - 1 + _EPS:
                raise MediaError(f"video ends at {self._end:.2f} s of {self._count} s")
            self.short = self._end <= self._count - 0.5
            self._chosen += [upright(self._last)] * (self._count - len(self._chosen))
        return self._chosen


def seconds(stamp: int, base: Fraction) -> float:
    """A time stamp in seconds: what float(stamp * base) is, without the cost of making a fraction."""
    return stamp * base.numerator / base.denominator


def _middle(second: int) -> float:
    return second + 0.5 + _EPS


def upright(frame: av.VideoFrame) -> np.ndarray:
    """RGB uint8 [H,W,3], turned as it is meant to be seen."""
    try:
        picture = frame.to_ndarray(format="rgb24", interpolation=_BITEXACT, threads=1)
    except av.FFmpegError as error:
        raise MediaError(f"a frame cannot be converted to RGB: {error.strerror}") from error
    return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)))
