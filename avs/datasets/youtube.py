"""Parts of YouTube videos by a list of ids: fetched one by one, politely, each once; what is gone is a table.

The list is a TSV with the columns of any other (`video`, here the id, `label`, `start`, `end`, `split`) and
`clip_start`, where in the YouTube video the clip begins.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from avs.core.clips import write_table
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams, progress
from avs.core.media import MediaError, cut_media
from avs.core.params import params
from avs.core.store import raw_root, write_json
from avs.datasets.annotations import Annotation, read_annotations
from avs.datasets.subsets import check_limit, limited

TERMS = (
    "YouTube: the videos belong to those who put them there, and YouTube's terms of service say what may be done with "
    "them. Fetch only what you may, keep it to yourself, and mind that a set fetched on another day is another set."
)
URL = "https://www.youtube.com/watch?v={id}"
EXTRACTORS = ["youtube"]  # of yt-dlp, so that nothing else is ever followed
# One file over https: streams in pieces go on as long as a broadcast does.
FORMAT = "(18/best[height<=480]/best)[protocol=https]"
MAX_BYTES = 2 << 30
_ID = re.compile(r"[\w-]{11}", re.ASCII)
# What says "not now" comes first: one such message begins with "Video unavailable".
_REFUSED = re.compile(
    r"not a bot|rate.?limit|try again later|requested format|HTTP Error (403|429|5\d\d)", re.IGNORECASE
)
_GONE = re.compile(
    r"unavailable|private|removed|terminated|deleted|not available|copyright|confirm your age|members.only"
    r"|HTTP Error (404|410)",
    re.IGNORECASE,
)


@params
class YouTubeParams:
    """rows: the list; limit: rows a split, drawn by `seed`; seconds: of a clip; fetch: false takes what is there.

    rate_limit: bytes a second at most; pause: seconds before each video, doubled after each refusal; max_refusals:
    videos in a row that are refused before all is stopped.
    """

    rows: str = "data/youtube/rows.tsv"
    limit: int | None = None
    seed: int = 0
    seconds: int = 10
    fetch: bool = True
    rate_limit: int = 2_000_000
    pause: float = 5.0
    retries: int = 2
    max_refusals: int = 5

    def __post_init__(self) -> None:
        for name in ("seconds", "rate_limit", "max_refusals"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be >= 1")
        check_limit(self.limit)
        if min(self.pause, self.retries) < 0:
            raise ValueError(f"pause ({self.pause}) and retries ({self.retries}) must be >= 0")


@dataclass(frozen=True)
class Gone:
    """A video that cannot be had any more, and what YouTube says."""

    video: str
    reason: str


@dataclass(frozen=True)
class _Part:
    """What is asked of one video: all that its rows need, in seconds."""

    video: str
    start: float
    end: float


class _RefusedError(Exception):
    """Not had this time; the message says why."""


class YouTube:
    """Each video leaves `ID.json`: where its part `ID.mkv` begins, or why there is none.

    A part counts only with its record, which is written after it and removed before another takes its place.
    """

    def __init__(self, p: YouTubeParams) -> None:
        self._p = p

    def folder(self) -> Path:
        return raw_root() / "youtube"

    def annotations(self, check: bool = True) -> list[Annotation]:
        return [self._in_part(row) for row in self._rows(check)]

    def prepare(self, execution: ExecutionParams) -> None:
        parts = _parts(self._rows())
        if self._p.fetch:
            self.folder().mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder() / ".lock"):
                self._fetch_absent(parts)
        records = {part.video: self._record(part.video) for part in parts}
        gone = [Gone(video, record["gone"]) for video, record in records.items() if "gone" in record]
        write_table(self.folder() / "gone.tsv", gone, Gone)
        there = sum(_covers(records[part.video], part.start, part.end) for part in parts)
        print(
            f"youtube: {there} of {len(parts)} videos are there, {len(gone)} gone (gone.tsv in {self.folder()}), "
            f"{len(parts) - there - len(gone)} not had yet (dvc repro -f install@clips asks for these again)",
            file=sys.stderr,
        )

    def _rows(self, check: bool = True) -> list[Annotation]:
        rows = read_annotations(Path(self._p.rows), self._p.seconds, check)
        for row in rows:
            if not _ID.fullmatch(row.video):
                raise InputError(f"{self._p.rows}, row {row.number}: video ({row.video!r}) must be a YouTube id")
            if check and not row.split:
                raise InputError(f"{self._p.rows}, row {row.number}: needs a split")
        return limited(rows, self._p.limit, self._p.seed)

    def _in_part(self, row: Annotation) -> Annotation:
        record, video = self._record(row.video), f"{row.video}.mkv"
        if not _covers(record, row.clip_start, row.clip_start + row.seconds):
            return replace(row, video=video, absent=_why_absent(record))
        return replace(row, video=video, clip_start=round(row.clip_start - record["begin"], 6))

    def _record(self, video: str) -> dict[str, Any]:
        path = self.folder() / f"{video}.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def _fetch_absent(self, parts: list[_Part]) -> None:
        absent = []
        for part in parts:
            record = self._record(part.video)
            if "begin" not in record:  # a run was stopped between the two, or the video is gone by now
                (self.folder() / f"{part.video}.mkv").unlink(missing_ok=True)
            if not ("gone" in record or _covers(record, part.start, part.end)):
                absent.append(part)
        if absent:
            print(TERMS, file=sys.stderr)
            self._fetch_all(absent)

    def _fetch_all(self, parts: list[_Part]) -> None:
        refused = 0
        for part in progress(parts, "youtube"):
            path = self.folder() / f"{part.video}.json"
            try:
                write_json(path, self._fetch(part))
                refused = 0
            except _RefusedError as reason:
                write_json(path, self._record(part.video) | {"refused": str(reason)})
                refused += 1
                if refused == self._p.max_refusals:
                    raise InputError(
                        f"youtube: {refused} videos in a row were refused, last {part.video}: {reason} "
                        "(run again later to go on, or set data.youtube.fetch=false to take what is there)"
                    ) from None

    def _fetch(self, part: _Part) -> dict[str, Any]:
        """The record of a part that is now there, or gone. Raises _RefusedError after the last try."""
        partial = self.folder() / "partial" / part.video
        for attempt in range(self._p.retries + 1):
            time.sleep(self._p.pause * 2**attempt)
            try:
                record = self._cut(_download(part.video, partial, self._p), part)
            except MediaError as error:
                record = {"gone": f"cannot be used: {error}"}
            except _RefusedError as error:
                if not _GONE.search(str(error)) or _REFUSED.search(str(error)):
                    if attempt == self._p.retries:
                        raise
                    continue
                record = {"gone": str(error)}
            shutil.rmtree(partial, ignore_errors=True)
            return record
        raise AssertionError("the last attempt returns or raises")

    def _cut(self, whole: Path, part: _Part) -> dict[str, Any]:
        (self.folder() / f"{part.video}.json").unlink(missing_ok=True)
        begin = cut_media(whole, self.folder() / f"{part.video}.mkv", part.start, part.end)
        return {"begin": round(begin, 6), "start": part.start, "end": part.end}


def _parts(rows: Iterable[Annotation]) -> list[_Part]:
    parts: dict[str, _Part] = {}
    for row in rows:
        start, end = row.clip_start, row.clip_start + row.seconds
        known = parts.get(row.video, _Part(row.video, start, end))
        parts[row.video] = _Part(row.video, min(start, known.start), max(end, known.end))
    return list(parts.values())


def _covers(record: dict[str, Any], start: float, end: float) -> bool:
    return "begin" in record and record["start"] <= start and end <= record["end"]


def _why_absent(record: dict[str, Any]) -> str:
    if "gone" in record:
        return f"gone: {record['gone']}"
    return f"refused: {record['refused']}" if "refused" in record else "not asked for yet"


def _download(video: str, folder: Path, p: YouTubeParams) -> Path:
    """The whole video, as one file that needs no merging; yt-dlp goes on with what an earlier run left."""
    import yt_dlp  # slow to import, and seldom needed

    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "outtmpl": {"default": str(folder / "video").replace("%", "%%")},  # neither title nor id names a file
        "format": FORMAT,
        "match_filter": yt_dlp.utils.match_filter_func("!is_live"),
        "allowed_extractors": EXTRACTORS,
        "ratelimit": p.rate_limit,
        "progress_hooks": [_check_size],
        "socket_timeout": 30,
        "noplaylist": True,
        "cachedir": False,
        "quiet": True,
        "noprogress": True,
        "no_warnings": True,
        "logger": _Silent(),
    }
    try:
        with yt_dlp.YoutubeDL(options) as downloader:
            downloader.extract_info(URL.format(id=video))
    except yt_dlp.utils.YoutubeDLError as error:
        raise _RefusedError(_one_line(str(error))) from error
    if not (folder / "video").is_file():
        raise _RefusedError("nothing arrived: a broadcast that goes on, or no file in one piece")
    return folder / "video"


def _check_size(progress: dict[str, Any]) -> None:
    """Raise MediaError for a video beyond the limit, as it is announced or, where it is not, as it comes."""
    if max(progress.get(name) or 0 for name in ("total_bytes", "downloaded_bytes")) > MAX_BYTES:
        raise MediaError(f"larger than {MAX_BYTES} bytes")


class _Silent:
    """yt-dlp would print each error, which comes as an exception anyway."""

    def debug(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...


def _one_line(message: str) -> str:
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", message).removeprefix("ERROR: ").split())[:300]


def located(rows: Iterable[Annotation], segments: Iterable[Path]) -> tuple[list[str], int]:
    """AVE's rows as lines of a list, and how many have no place; segments: AudioSet's `*_segments.csv` files.

    AVE does not say where in its YouTube video a clip begins; it chose its clips from AudioSet's ten-second
    segments, of which each video has one. Raises InputError for a file that is no list of them.
    """
    starts: dict[str, float] = {}
    for path in segments:
        try:
            with path.open(encoding="utf-8", newline="") as file:
                cells = csv.reader((line for line in file if not line.startswith("#")), skipinitialspace=True)
                starts |= {line[0]: float(line[1]) for line in cells if len(line) > 1}
        except (OSError, ValueError, csv.Error) as error:
            raise InputError(f"{path}: cannot be read as a list of AudioSet's segments: {error}") from error
    lines, absent = ["video\tlabel\tstart\tend\tsplit\tclip_start"], 0
    for row in rows:
        video = Path(row.video).stem
        if video in starts:
            lines.append(f"{video}\t{row.label}\t{row.start:g}\t{row.end:g}\t{row.split}\t{starts[video]:g}")
        else:
            absent += 1
    return lines, absent
