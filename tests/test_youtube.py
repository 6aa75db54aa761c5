"""YouTube: yt-dlp itself, fetching from a server on this machine."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yt_dlp

import stages.install
import stages.preprocess
from avs.config import load_config
from avs.core.clips import read_table
from avs.core.errors import InputError
from avs.core.execute import ExecutionParams
from avs.core.media import cut_media, read_media, write_media
from avs.core.store import raw_root
from avs.datasets import DataParams, install, youtube
from avs.datasets.annotations import Annotation
from avs.datasets.demo import DemoParams
from avs.datasets.local import LocalParams
from avs.datasets.youtube import Gone, YouTube, YouTubeParams, located
from avs.preprocess import preprocess

ROOT = Path(__file__).resolve().parents[1]
INLINE = ExecutionParams(backend="inline")
HTTP = youtube.FORMAT.replace("https", "http")
HEADER = "video\tlabel\tstart\tend\tsplit\tclip_start"


class Handler(BaseHTTPRequestHandler):
    """Serves the server's `videos` by the id in the path, or the status that stands in their place."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        server: Any = self.server
        name = self.path.strip("/").removesuffix(".mp4")
        server.asked.append(name)
        found = server.videos.get(name, 404)
        self.send_response(200 if isinstance(found, bytes) else found)
        content = found if isinstance(found, bytes) else b""
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 s, a level of grey and of sound each second."""
    path = tmp_path_factory.mktemp("source") / "video.mp4"
    sound = np.repeat(np.arange(12), 16000) * 500 * np.sin(np.arange(12 * 16000))
    frames = (np.full((32, 32, 3), 20 * (n // 5), np.uint8) for n in range(60))
    write_media(path, frames, 5, np.rint(sound).astype(np.int16))
    return path


@pytest.fixture
def server(video: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    running: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.videos, running.asked = {"-aaaaaaaaaa": video.read_bytes(), "bbbbbbbbbbb": video.read_bytes()}, []
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setattr(youtube, "URL", f"http://127.0.0.1:{running.server_port}/{{id}}.mp4")
    monkeypatch.setattr(youtube, "EXTRACTORS", ["generic"])
    monkeypatch.setattr(youtube, "FORMAT", HTTP)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., YouTubeParams]:
    def write(*lines: str, **options: Any) -> YouTubeParams:
        (tmp_path / "rows.tsv").write_text("\n".join([HEADER, *lines]))
        return YouTubeParams(
            **{"rows": str(tmp_path / "rows.tsv"), "seconds": 3, "pause": 0.0, "rate_limit": 10**9} | options
        )

    return write


def installed(p: YouTubeParams) -> tuple[list, list]:
    return install(YouTube(p), INLINE)


def test_parts_are_fetched_once_and_hold_the_right_seconds(server: Any, rows: Any, tmp_path: Path) -> None:
    p = rows("-aaaaaaaaaa\tDog\t0\t2\ttrain\t4", "bbbbbbbbbbb\tCat\t1\t3\ttest\t0.5", "-aaaaaaaaaa\tCow\t0\t1\tval\t7")
    clips, failed = installed(p)
    assert [clip.key for clip in clips] == ["0--aaaaaaaaaa", "1-bbbbbbbbbbb", "2--aaaaaaaaaa"]
    assert failed == []
    written, _, _ = preprocess(clips, YouTube(p).folder(), tmp_path / "out", INLINE)
    assert len(written) == 3
    for clip, begins in zip(clips, (4, 0.5, 7), strict=True):
        media = read_media(YouTube(p).folder() / clip.video, 3, start=clip.clip_start)
        assert [round(frame.mean() / 20) for frame in media.frames] == [int(begins + t + 0.5) for t in range(3)]
    asked = len(server.asked)
    assert installed(p) == (clips, [])
    assert len(server.asked) == asked
    assert {path.name for path in (raw_root() / "youtube").iterdir()} == {
        *("-aaaaaaaaaa.json", "-aaaaaaaaaa.mkv", "bbbbbbbbbbb.json", "bbbbbbbbbbb.mkv", "gone.tsv", "partial", ".lock")
    }
    assert not list((raw_root() / "youtube/partial").iterdir())


def test_what_is_gone_is_told_and_not_asked_for_again(server: Any, rows: Any) -> None:
    server.videos["ddddddddddd"] = 410
    server.videos["eeeeeeeeeee"] = b"not a video"
    lines = [f"{name * 11}\tDog\t0\t2\ttrain\t0" for name in "bcde"]
    clips, failed = installed(rows(*lines))
    assert [clip.key for clip in clips] == ["0-bbbbbbbbbbb"]
    assert all(row.reason.startswith("gone: ") for row in failed)
    assert not list((raw_root() / "youtube/partial").iterdir())
    gone = read_table(raw_root() / "youtube/gone.tsv", Gone)
    assert [(row.video[0], next(w for w in ("404", "410", "cannot") if w in row.reason)) for row in gone] == [
        ("c", "404"),
        ("d", "410"),
        ("e", "cannot"),
    ]
    asked = len(server.asked)
    installed(rows(*lines))
    assert len(server.asked) == asked


def test_only_https_is_taken(server: Any, rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(youtube, "FORMAT", HTTP.replace("http", "https"))
    clips, (failed,) = installed(rows("bbbbbbbbbbb\tDog\t0\t2\ttrain\t0", retries=0))
    assert clips == []
    assert "Requested format is not available" in failed.reason


def test_refusals_stop_the_run_which_goes_on_later(server: Any, rows: Any, capsys: Any) -> None:
    good = server.videos["bbbbbbbbbbb"]
    server.videos = {"bbbbbbbbbbb": good} | {name * 11: 429 for name in "cdefg"}
    lines = [f"{name * 11}\tDog\t0\t2\ttrain\t0" for name in "bcdefg"]
    with pytest.raises(InputError, match=r"3 videos in a row were refused, last eeeeeeeeeee: .*429.*run again later"):
        installed(rows(*lines, max_refusals=3))
    assert not {"fffffffffff", "ggggggggggg"} & set(server.asked)
    assert server.asked.count("ccccccccccc") >= 3
    clips, failed = installed(rows(*lines, fetch=False))
    assert len(clips) == 1
    assert [row.reason.split(":")[0] for row in failed] == ["refused"] * 3 + ["not asked for yet"] * 2
    assert "1 of 6 videos are there, 0 gone" in (said := capsys.readouterr().err)
    assert "5 not had yet (dvc repro -f install@clips" in said
    server.videos, server.asked = dict.fromkeys((name * 11 for name in "bcdefg"), good), []
    assert len(installed(rows(*lines))[0]) == 6
    assert "bbbbbbbbbbb" not in server.asked


def test_a_list_that_needs_more_of_a_video_fetches_it_again(server: Any, rows: Any) -> None:
    installed(rows("bbbbbbbbbbb\tDog\t0\t2\ttrain\t0"))
    clips, failed = installed(rows("bbbbbbbbbbb\tDog\t0\t2\ttrain\t0", "bbbbbbbbbbb\tDog\t0\t2\ttrain\t8"))
    assert not failed
    assert len(read_media(YouTube(rows()).folder() / "bbbbbbbbbbb.mkv", 3, start=clips[1].clip_start).frames) == 3


def test_a_part_without_its_record_is_not_used(server: Any, rows: Any) -> None:
    """What a run leaves that is stopped after the part and before its record."""
    p = rows("bbbbbbbbbbb\tDog\t0\t2\ttrain\t8")
    clips, _ = installed(p)
    (raw_root() / "youtube/bbbbbbbbbbb.json").unlink()
    assert [row.reason for row in installed(replace(p, fetch=False))[1]] == ["not asked for yet"]
    assert installed(p) == (clips, [])
    server.videos["bbbbbbbbbbb"] = 429
    (raw_root() / "youtube/bbbbbbbbbbb.json").unlink()
    assert [row.reason[:8] for row in installed(p)[1]] == ["refused:"]
    assert not (raw_root() / "youtube/bbbbbbbbbbb.mkv").exists()


def test_a_part_that_is_cut_anew_has_no_old_record(server: Any, rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(rows("bbbbbbbbbbb\tDog\t0\t2\ttrain\t8"))

    def stop(*arguments: Any) -> float:
        cut_media(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(youtube, "cut_media", stop)
    wider = rows("bbbbbbbbbbb\tDog\t0\t2\ttrain\t1", "bbbbbbbbbbb\tDog\t0\t2\ttrain\t8")
    with pytest.raises(KeyboardInterrupt):
        installed(wider)
    assert [row.reason for row in installed(replace(wider, fetch=False))[1]] == ["not asked for yet"] * 2


def test_a_row_beyond_the_part_that_is_there_is_absent(server: Any, rows: Any) -> None:
    installed(rows("bbbbbbbbbbb\tDog\t0\t2\ttrain\t8"))
    server.videos["bbbbbbbbbbb"] = 429
    clips, failed = installed(rows("bbbbbbbbbbb\tDog\t0\t2\ttrain\t1", "bbbbbbbbbbb\tDog\t0\t2\ttrain\t8"))
    assert [clip.key for clip in clips] == ["1-bbbbbbbbbbb"]
    assert [row.key for row in failed] == ["0-bbbbbbbbbbb"]


def test_a_video_beyond_the_limit_is_gone(server: Any, rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(youtube, "MAX_BYTES", 1000)
    _, failed = installed(rows("bbbbbbbbbbb\tDog\t0\t2\ttrain\t0"))
    assert [row.reason for row in failed] == ["gone: cannot be used: larger than 1000 bytes"]
    assert not list((raw_root() / "youtube/partial").iterdir())


def test_only_one_file_over_http_is_taken() -> None:
    def known(name: str, protocol: str, height: int = 360) -> dict[str, Any]:
        kind = {"ext": "mp4", "vcodec": "a", "acodec": "b", "url": "x"}
        return {"format_id": name, "protocol": protocol, "height": height} | kind

    streams = [known("18", "m3u8_native"), known("a", "http_dash_segments"), known("b", "m3u8")]
    select = yt_dlp.YoutubeDL({"quiet": True}).build_format_selector(youtube.FORMAT)
    for files, chosen in (([known("c", "https"), known("d", "https", 720)], ["c"]), ([], [])):
        found = select({"formats": streams + files, "incomplete_formats": False, "has_merged_format": True})
        assert [one["format_id"] for one in found] == chosen


def test_two_runs_fetch_each_video_once(server: Any, rows: Any) -> None:
    p = rows("-aaaaaaaaaa\tDog\t0\t2\ttrain\t4", "bbbbbbbbbbb\tCat\t1\t3\ttest\t0.5")
    installed(p)
    asked = len(server.asked)
    for path in (raw_root() / "youtube").glob("*.json"):
        path.unlink()
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(installed, [p, p])
    assert first == second
    assert len(server.asked) == 2 * asked


def test_preprocess_asks_for_nothing(server: Any, rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.videos["ccccccccccc"] = 429
    there = [f"bbbbbbbbbbb\tDog\t0\t2\t{split}\t0" for split in ("train", "test")]
    p = rows(*there, "ccccccccccc\tDog\t0\t2\ttrain\t0", retries=0)
    data = DataParams(DemoParams(), LocalParams(), youtube=p, max_failed_fraction=0.5)
    config = replace(load_config(ROOT / "params.yaml"), dataset="youtube", data=data, execution=INLINE)
    monkeypatch.chdir(tmp_path)
    assert stages.install.main(config) == {"clips": 2, "failed": 1}
    asked = len(server.asked)
    assert stages.preprocess.main(config)["computed"] == 1
    assert len(server.asked) == asked


@pytest.mark.parametrize("name", ["../../../etc", "a/bbbbbbbbb", "https://x.y", "%(title)s.sh", "short", "x" * 12])
def test_hostile_ids_are_refused(name: str, rows: Any) -> None:
    with pytest.raises(InputError, match="must be a YouTube id"):
        installed(rows(f"{name}\tDog\t0\t2\ttrain\t0"))


def test_other_addresses_are_not_followed(server: Any, rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(youtube, "EXTRACTORS", ["youtube"])
    with pytest.raises(InputError, match="1 videos in a row were refused"):
        installed(rows("bbbbbbbbbbb\tDog\t0\t2\ttrain\t0", max_refusals=1, retries=0))
    assert server.asked == []


@pytest.mark.parametrize(
    ("message", "gone"),
    [
        ("Video unavailable. This video has been removed by the uploader", True),
        ("Private video. Sign in if you've been granted access to this video", True),
        ("This video is not available in your country", True),
        ("Sign in to confirm your age", True),
        ("Sign in to confirm you're not a bot", False),
        (
            "Video unavailable. This content isn't available, try again later. The session was rate-limited",
            False,
        ),
        ("Requested format is not available", False),
        ("unable to download video data: HTTP Error 403: Forbidden", False),
        ("Failed to resolve host", False),
    ],
)
def test_gone_is_told_from_not_now(message: str, gone: bool, rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Path:
        raise youtube._RefusedError(message)

    monkeypatch.setattr(youtube, "_download", refuse)
    p = rows("bbbbbbbbbbb\tDog\t0\t2\ttrain\t0", max_refusals=9)
    installed(p)
    assert read_table(raw_root() / "youtube/gone.tsv", Gone) == [Gone("bbbbbbbbbbb", message)] * gone


def test_waits_longer_after_each_refusal(server: Any, rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(youtube.time, "sleep", waited.append)
    server.videos["bbbbbbbbbbb"] = 503
    installed(rows("bbbbbbbbbbb\tDog\t0\t2\ttrain\t0", pause=2.0))
    assert [seconds for seconds in waited if seconds >= 2] == [2, 4, 8]


def test_rows_of_ave_get_their_place_from_audioset(tmp_path: Path, rows: Any) -> None:
    path = tmp_path / "eval_segments.csv"
    path.write_text('# YTID, start_seconds, end_seconds, positive_labels\n-aaaaaaaaaa, 30.000, 40.000, "/m/a,/m/b"\n')
    ave = [
        Annotation("-aaaaaaaaaa.mp4", "Dog", 0, 9, 10, "train"),
        Annotation("bbbbbbbbbbb.mp4", "Cat", 0, 9, 10, "val"),
    ]
    lines, absent = located(ave, [path])
    assert (lines, absent) == ([HEADER, "-aaaaaaaaaa\tDog\t0\t9\ttrain\t30"], 1)
    path.write_text("YTID, start_seconds\n")
    with pytest.raises(InputError, match=r"eval_segments\.csv: cannot be read as a list of AudioSet's segments"):
        located(ave, [path])


def test_wrong_parameters_are_refused() -> None:
    for wrong in ({"limit": 0}, {"pause": -1.0}, {"seconds": 0}, {"max_refusals": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            YouTubeParams(**wrong)
    assert DataParams(DemoParams(), LocalParams()).youtube == YouTubeParams()
