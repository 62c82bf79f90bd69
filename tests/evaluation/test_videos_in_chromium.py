"""Videos as a browser shows them: every frame, read from a canvas of Chromium."""

import json
import shutil
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
from recorded_episodes import record

from sndqn.evaluation import write_video
from sndqn.evaluation.films import Film, Side, film, film_of_two

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]

# Frames come by seeking to the middle of each. Blocks of 4 x 4 pixels are enough to tell frames
# apart, and small enough to send.
PAGE = """<!doctype html><video muted></video><script>
const answer = (what) => fetch("/answer", {method: "POST", body: JSON.stringify(what)});
const canvas = document.createElement("canvas");
const context = canvas.getContext("2d", {willReadFrequently: true});
function blocks(picture, width, height) {
  [canvas.width, canvas.height] = [width, height];
  context.drawImage(picture, 0, 0);
  const pixels = context.getImageData(0, 0, width, height).data;
  const [wide, high] = [Math.floor(width / 4), Math.floor(height / 4)];
  const sums = new Array(3 * wide * high).fill(0);
  for (let y = 0; y < 4 * high; y++) for (let x = 0; x < 4 * wide; x++) for (let c = 0; c < 3; c++)
    sums[3 * ((y >> 2) * wide + (x >> 2)) + c] += pixels[4 * (y * width + x) + c];
  return sums;
}
async function video(source, fps, count) {
  const shown = document.querySelector("video");
  shown.src = URL.createObjectURL(await (await fetch(source)).blob());
  await new Promise((done, failed) => {
    shown.onloadeddata = done;
    shown.onerror = () => failed(shown.error.message);
  });
  const frames = [];
  for (let number = 0; number < count; number++) {
    shown.currentTime = (number + 0.5) / fps;
    await new Promise((done) => { shown.onseeked = done; });
    frames.push(blocks(shown, shown.videoWidth, shown.videoHeight));
  }
  const [width, height] = [shown.videoWidth, shown.videoHeight];
  return {width, height, seconds: shown.duration, frames};
}
async function gif(source) {
  const decoder = new ImageDecoder({data: (await fetch(source)).body, type: "image/gif"});
  await decoder.completed;
  await decoder.tracks.ready;
  const frames = [], count = decoder.tracks.selectedTrack.frameCount;
  let size = {}, seconds = 0;
  for (let frameIndex = 0; frameIndex < count; frameIndex++) {
    const {image} = await decoder.decode({frameIndex});
    size = {width: image.displayWidth, height: image.displayHeight};
    seconds += image.duration / 1e6;
    frames.push(blocks(image, size.width, size.height));
    image.close();
  }
  return {...size, seconds, frames};
}
SHOW.then(answer, (error) => answer({error: `${error}`}));
</script>"""


def in_chromium(path: Path, fps: float, count: int, profile: Path) -> dict[str, Any]:
    """Opens a video in a page, and gives what the page saw."""
    answers: Queue[dict[str, Any]] = Queue()
    name = f"/video{path.suffix}"
    show = f'gif("{name}")' if path.suffix == ".gif" else f'video("{name}", {fps}, {count})'

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_video = self.path == name
            content = path.read_bytes() if is_video else PAGE.replace("SHOW", show).encode()
            self.send_response(200)
            self.send_header("Content-Type", "video/mp4" if is_video else "text/html")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--mute-audio"]
    command += [
        "--disable-dev-shm-usage",
        f"--user-data-dir={profile}",
        "--remote-debugging-port=0",
    ]
    command += [f"http://127.0.0.1:{server.server_port}/"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return answers.get(timeout=240)
    finally:
        browser.terminate()
        browser.wait(30)
        server.shutdown()
        server.server_close()


def breakout() -> Film:
    return film(record("Breakout", max_steps=15))


def two_of_minatar() -> Film:
    trace = record("MinAtar/Breakout")
    other = record("MinAtar/Breakout", max_steps=5)
    return film_of_two((Side("one", trace), Side("other", other)))


@pytest.fixture(params=[breakout, two_of_minatar])
def frames(request: pytest.FixtureRequest) -> tuple[list[np.ndarray], float]:
    make: Callable[[], Film] = request.param
    made = make()
    return list(islice(made.frames, 60)), made.fps


def block_means(frame: np.ndarray) -> np.ndarray:
    height, width = (4 * (side // 4) for side in frame.shape[:2])
    blocks = frame[:height, :width].reshape(height // 4, 4, width // 4, 4, 3)
    return blocks.astype(float).mean(axis=(1, 3))


@pytest.mark.parametrize("suffix", ["mp4", "webm", "gif"])
def test_a_browser_shows_every_frame_that_was_written(
    frames: tuple[list[np.ndarray], float], suffix: str, tmp_path: Path
) -> None:
    pictures, fps = frames
    path = tmp_path / f"a.{suffix}"
    count = write_video(path, pictures, fps)
    seen = in_chromium(path, fps, count, tmp_path / "profile")
    assert "error" not in seen, seen
    if suffix == "gif" and fps > 50:  # no browser shows more than 50 a second
        pictures = pictures[: len(seen["frames"])]
        assert len(pictures) == pytest.approx(count * 50 / fps, abs=1)
        return
    assert (seen["height"], seen["width"]) == tuple(
        side + side % 2 for side in pictures[0].shape[:2]
    )
    assert seen["seconds"] == pytest.approx(count / fps, abs=1.5 / fps)
    assert len(seen["frames"]) == len(pictures) == count
    expected = np.stack([block_means(picture) for picture in pictures])
    rows, columns = seen["height"] // 4, seen["width"] // 4
    found = np.array(seen["frames"]).reshape(count, rows, columns, 3) / 16
    found = found[:, : expected.shape[1], : expected.shape[2]]
    errors = np.abs(found - expected)
    assert errors.mean() < 1.5
    # Of colours where they are even: edges of coloured areas blur, by what H.264 and VP9 sample.
    assert np.median(errors) <= 2
    # Each is the picture that was written at its place, and no neighbour.
    apart = [not np.array_equal(a, b) for a, b in pairwise(expected)]
    for number in np.flatnonzero(apart):
        own, next_one = (np.abs(found[number] - expected[number + k]).mean() for k in (0, 1))
        assert own < next_one
