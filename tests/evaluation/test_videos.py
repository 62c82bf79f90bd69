import os
import re
import resource
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from recorded_episodes import balance, whim

from sndqn.errors import ConfigError, RunFolderError, TraceError
from sndqn.evaluation import rendering_of, trace_frames, with_poster, write_video
from sndqn.evaluation.indexed import Indexed


def noise(count, height=42, width=32):
    rng = np.random.default_rng(0)
    return [rng.integers(256, size=(height, width, 3)).astype(np.uint8) for _ in range(count)]


def ffmpeg(*arguments):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def facts(path):
    """What ffmpeg finds in a file: its description, size, and how many frames decode."""
    described = ffmpeg("-i", path)
    width, height = re.search(r"Video: h264.* yuv420p\(.*?, (\d+)x(\d+)", described).groups()
    decoded = ffmpeg("-i", path, "-f", "null", "-")
    assert "rror" not in decoded
    return described, (int(height), int(width)), int(re.findall(r"frame= *(\d+)", decoded)[-1])


def decode(path, shape):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path)]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    content = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(content, np.uint8).reshape(-1, *shape)


@pytest.mark.parametrize("count", [1, 2, 90])
@pytest.mark.parametrize("fps", [10, 29.97, 60])
def test_the_file_has_every_frame_and_is_h264_yuv420p(tmp_path, count, fps):
    path = tmp_path / "a.mp4"
    assert write_video(path, noise(count), fps, min_height=0) == count
    described, size, decoded = facts(path)
    assert decoded == count
    assert size == (42, 32)
    assert f"{fps} fps" in described


@pytest.mark.parametrize(
    ("given", "min_height", "written"),
    [
        ((210, 160), 400, (420, 320)),
        ((10, 10), 400, (400, 400)),
        ((400, 600), 400, (400, 600)),
        ((209, 159), 0, (210, 160)),
        ((209, 160), 0, (210, 160)),
        ((7, 5), 20, (22, 16)),
    ],
    ids=str,
)
def test_sides_are_enlarged_by_whole_factors_and_made_even(tmp_path, given, min_height, written):
    path = tmp_path / "a.mp4"
    write_video(path, noise(3, *given), 10, min_height=min_height)
    assert facts(path)[1:] == (written, 3)


def test_pixels_keep_their_place_and_colour(tmp_path):
    frame = np.zeros((210, 160, 3), np.uint8)
    frame[:105, :80] = (200, 60, 60)
    frame[:105, 80:] = (60, 200, 60)
    frame[105:, :80] = (60, 60, 200)
    frame[105:, 80:] = (240, 240, 240)
    write_video(tmp_path / "a.mp4", [frame] * 5, 10)
    decoded = decode(tmp_path / "a.mp4", (420, 320, 3))
    expected = frame.repeat(2, axis=0).repeat(2, axis=1).astype(int)
    assert np.abs(decoded - expected).mean() < 2
    assert np.abs(decoded[:, 100, 60] - np.array([200, 60, 60])).max() < 8


@pytest.mark.parametrize(("suffix", "codec"), [("gif", "gif"), ("webm", "vp9")])
def test_gif_and_webm_are_written_by_their_suffix(tmp_path, suffix, codec):
    frames = [
        np.full((42, 32, 3), (level, 40, 200 - level), np.uint8) for level in range(0, 200, 10)
    ]
    path = tmp_path / f"a.{suffix}"
    assert write_video(path, frames, 10, min_height=0) == 20
    assert f"Video: {codec}" in ffmpeg("-i", path)
    decoded = decode(path, (42, 32, 3))
    assert len(decoded) == 20
    assert np.abs(decoded.astype(int) - np.stack(frames)).max() < 16


def test_a_gif_shows_no_more_frames_a_second_than_browsers_do(tmp_path):
    write_video(tmp_path / "a.gif", noise(60), 60, min_height=0)
    assert len(decode(tmp_path / "a.gif", (42, 32, 3))) == 50


@pytest.mark.parametrize(("number", "chosen"), [(0, 0), (3, 3), (99, 6)])
def test_a_poster_is_one_of_the_frames_as_the_video_has_them(tmp_path, number, chosen):
    frames, path = noise(7), tmp_path / "new" / "a.png"
    passed = list(with_poster(iter(frames), path, number, min_height=84))
    assert all(one is other for one, other in zip(passed, frames, strict=True))
    expected = frames[chosen].repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), expected)


def test_the_index_is_in_front_so_that_a_browser_starts_at_once(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, noise(5), 10)
    content = path.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize("name", ["-i.mp4", "a b.MP4", "it's %d.mp4", "file:x.mp4", "é.mp4"])
def test_odd_file_names_are_only_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    write_video(Path(name), noise(2), 10)
    assert os.listdir(tmp_path) == [name]


def test_folders_are_made_and_an_old_video_is_replaced(tmp_path):
    path = tmp_path / "new" / "a.mp4"
    write_video(path, noise(2), 10)
    write_video(path, noise(7), 10)
    assert facts(path)[2] == 7
    assert os.listdir(path.parent) == ["a.mp4"]


def broken(error):
    yield from noise(5)
    raise error


@pytest.mark.parametrize("error", [TraceError("step 5"), KeyboardInterrupt(), OSError("gone")])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_failed_or_interrupted_write_leaves_what_was_there(tmp_path, error, old):
    path = tmp_path / "a.mp4"
    if old is not None:
        path.write_bytes(old)
    expected = RunFolderError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        write_video(path, broken(error), 10)
    assert os.listdir(tmp_path) == ([] if old is None else ["a.mp4"])
    assert old is None or path.read_bytes() == old


@pytest.mark.parametrize(
    ("frames", "found"),
    [
        ([], "at least one frame"),
        ([None], "found None"),
        ([np.zeros((4, 4), np.uint8)], r"found uint8 \(4, 4\)"),
        ([np.zeros((4, 4, 3))], r"found float64 \(4, 4, 3\)"),
        ([np.zeros((4, 4, 4), np.uint8)], r"found uint8 \(4, 4, 4\)"),
        ([*noise(2), *noise(1, height=44)], "as frame 3"),
    ],
)
def test_wrong_frames_are_refused_and_leave_no_file(tmp_path, frames, found):
    with pytest.raises(ConfigError, match=found):
        write_video(tmp_path / "a.mp4", frames, 10, min_height=0)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_a_wrong_speed_is_refused(tmp_path, fps):
    with pytest.raises(ConfigError, match="expected fps above 0"):
        write_video(tmp_path / "a.mp4", noise(1), fps)


def test_other_formats_and_unwritable_places_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"ending in \.mp4, \.gif or \.webm, found 'a\.avi'"):
        write_video(tmp_path / "a.avi", noise(1), 10)
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="name another file"):
        write_video(tmp_path / "file" / "a.mp4", noise(1), 10)


def test_an_encoder_that_dies_is_told_and_leaves_no_file(tmp_path):
    script = """
import sys, numpy as np
from pathlib import Path
from sndqn.errors import RunFolderError
from sndqn.evaluation import write_video
rng = np.random.default_rng(0)
frames = (rng.integers(256, size=(210, 160, 3)).astype(np.uint8) for _ in range(500))
try:
    write_video(Path(sys.argv[1]), frames, 10)
except RunFolderError as error:
    print("refused:", error)
"""

    def small_files_only():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path / "a.mp4")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=small_files_only
    )
    assert done.stdout.startswith("refused: expected to write a video"), done.stderr
    assert os.listdir(tmp_path) == []


def test_a_trace_becomes_a_video_with_one_frame_per_step_and_the_reset(
    tmp_path, breakout_trace, minatar_trace, cartpole_trace
):
    for trace, size in (
        (breakout_trace, (420, 320)),
        (minatar_trace, (400, 400)),
        (cartpole_trace, (400, 600)),
    ):
        path = tmp_path / "a.mp4"
        assert write_video(path, trace_frames(trace), rendering_of(trace).fps) == trace.length + 1
        assert facts(path)[1:] == (size, trace.length + 1)


def test_a_forged_trace_gives_no_video(tmp_path, minatar_trace):
    rewards = minatar_trace.rewards + 1
    with pytest.raises(TraceError, match="step 1: recorded reward"):
        write_video(tmp_path / "a.mp4", trace_frames(replace(minatar_trace, rewards=rewards)), 10)
    assert os.listdir(tmp_path) == []


def test_a_panel_beside_a_trace_shows_the_actions_that_were_taken(cartpole_trace, minatar_trace):
    for trace, q_function in ((cartpole_trace, balance), (minatar_trace, whim(6))):
        plain = list(trace_frames(trace))
        frames = list(trace_frames(trace, q_function))
        assert len({frame.shape for frame in frames}) == 1
        width = plain[0].shape[1]
        for frame, picture in zip(frames, plain, strict=True):
            np.testing.assert_array_equal(frame[:, :width], picture)


@pytest.mark.parametrize("values", [False, True])
def test_every_frame_of_a_game_is_shown_and_each_steps_last_is_where_it_was(breakout_trace, values):
    q_function = whim(4) if values else None
    steps = list(trace_frames(breakout_trace, q_function, min_height=1))
    frames = list(trace_frames(breakout_trace, q_function, min_height=1, every_frame=True))
    # The game ends within its last step.
    assert 4 * breakout_trace.length - 3 < len(frames) <= 4 * breakout_trace.length + 1
    assert rendering_of(breakout_trace).frames_per_step == 4
    width = 320 if values else 160
    for number, step in enumerate(steps[1:-1], start=1):
        *between, last = frames[4 * number - 3 : 4 * number + 1]
        pooled = np.maximum(between[-1][:, :width], last[:, :width])
        np.testing.assert_array_equal(pooled, step[:, :width])
        np.testing.assert_array_equal(last[:, width:], step[:, width:])
        for frame in between:
            np.testing.assert_array_equal(frame[:, width:], steps[number - 1][:, width:])


def test_where_there_is_nothing_between_two_steps_every_frame_is_one_a_step(minatar_trace):
    frames = list(trace_frames(minatar_trace, every_frame=True))
    assert len(frames) == minatar_trace.length + 1
    assert rendering_of(minatar_trace).frames_per_step == 1


def test_names_and_speed_are_the_environments(breakout_trace, cartpole_trace):
    assert rendering_of(breakout_trace).action_names == ["NOOP", "FIRE", "RIGHT", "LEFT"]
    assert rendering_of(cartpole_trace).action_names == ["push left", "push right"]
    assert rendering_of(cartpole_trace).fps == 50


def pixels(content, shape):
    """What ffmpeg's pixel format pal8 says: indices, then the palette."""
    height, width = shape[:2]
    assert len(content) == height * width + 1024
    indices = np.frombuffer(content[: height * width], np.uint8).reshape(height, width)
    palette = np.frombuffer(content[height * width :], "<u4")[indices]
    assert (palette >> 24 == 255).all()
    return np.stack([palette >> shift & 0xFF for shift in (16, 8, 0)], axis=-1).astype(int)


def test_a_gif_keeps_drawn_colours_and_all_pictures_share_a_palette(minatar_trace):
    index, palettes = Indexed(), []
    for frame in trace_frames(minatar_trace, whim(6)):
        content = index(frame)
        errors = np.abs(pixels(content, frame.shape) - frame)
        assert errors.max() <= 8
        assert (errors == 0).all(axis=2).mean() > 0.9
        palettes.append(np.frombuffer(content[-1024:], "<u4"))
    for before, after in pairwise(palettes):
        known = before != 0xFF000000
        assert (before[known] == after[known]).all()


def test_a_gif_of_pictures_of_many_colours_has_a_palette_for_each():
    rng = np.random.default_rng(0)
    smooth = np.linspace(0, 255, 64)
    index = Indexed()
    for turn in range(4):
        frame = np.stack(np.meshgrid(smooth, smooth[::-1]), axis=-1)[..., [0, 1, turn % 2]]
        frame = np.clip(frame + rng.normal(size=frame.shape), 0, 255).astype(np.uint8)
        frame[:8] = turn * 60
        assert np.abs(pixels(index(frame), frame.shape) - frame).mean() < 8
    # And one that has few again.
    plain = np.full((64, 64, 3), 77, np.uint8)
    assert np.abs(pixels(index(plain), plain.shape) - plain).max() <= 8
