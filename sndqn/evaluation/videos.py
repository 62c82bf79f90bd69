"""Frames to a file everyone can play.

H.264 in yuv420p with even sides and the index in front is what browsers, phones and slides accept;
GIF and WebM are for where these are asked for.
"""

import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from sndqn.errors import ConfigError, MissingExtraError, RunFolderError
from sndqn.evaluation.indexed import indexed
from sndqn.evaluation.panel import MIN_HEIGHT, ValuePanel, checked_frame, enlarge
from sndqn.evaluation.play import QFunction, values_of_many
from sndqn.evaluation.replaying import rendering_of, replay_trace
from sndqn.evaluation.traces import Trace
from sndqn.files import written_whole

_STEPS_AT_ONCE = 32


def trace_frames(
    trace: Trace,
    q_function: QFunction | None = None,
    *,
    action_names: Sequence[str] | None = None,
    min_height: int = MIN_HEIGHT,
    every_frame: bool = False,
) -> Iterator[np.ndarray]:
    """Replays a trace and yields its pictures, checked step by step.

    Args:
        trace: The episode.
        q_function: If given, a panel beside each picture shows its values of the state in the
            picture and the action that was taken there.
        action_names: Names for the panel; by default the environment's own.
        min_height: Pictures lower than this are enlarged.
        every_frame: Whether to show what is between two steps as well, see `replay_trace`.

    Yields:
        RGB uint8, all of one shape: the reset, then one picture per action, or all its frames.

    Raises:
        TraceError: The episode does not replay as recorded.
    """
    replay = replay_trace(trace, render=True, every_frame=every_frame)
    if q_function is None:
        for replayed in replay:
            for frame in (*replayed.between, replayed.frame):
                yield enlarge(checked_frame(frame), min_height)
        return
    panel = ValuePanel(action_names or rendering_of(trace).action_names)
    episode_return = 0.0
    while steps := list(islice(replay, _STEPS_AT_ONCE)):
        values = _values_of(q_function, [replayed.step.observation for replayed in steps])
        for replayed, q_values in zip(steps, values, strict=True):
            # The action of the step before is still under way.
            yield from (panel.beside(_raised(frame, min_height)) for frame in replayed.between)
            ended = replayed.index == trace.length
            episode_return += replayed.step.reward
            yield panel.draw(
                _raised(replayed.frame, min_height),
                q_values,
                None if ended else int(trace.actions[replayed.index]),
                step=replayed.index,
                episode_return=episode_return,
            )


def _values_of(q_function: QFunction, observations: Sequence[Any]) -> Sequence[np.ndarray]:
    from sndqn.evaluation.values import one_thread

    with one_thread():  # as when the agent acted
        return values_of_many(q_function, observations)


def _raised(frame: np.ndarray | None, min_height: int) -> np.ndarray:
    """Enlarges a frame to a height beyond that of the panel, which enlarges to its own."""
    frame = checked_frame(frame)
    return enlarge(frame, min_height) if min_height > MIN_HEIGHT else frame


def write_video(
    path: Path, frames: Iterable[np.ndarray], fps: float, *, min_height: int = MIN_HEIGHT
) -> int:
    """Writes frames as an MP4, GIF or WebM file, wholly or not at all.

    Frames lower than `min_height` are enlarged by a whole factor, so pixels stay square and sharp;
    an odd side gets its last row or column twice.

    Args:
        path: Where to write; ends in ".mp4", ".gif" or ".webm". Missing folders are created.
        frames: RGB uint8 of shape (height, width, 3), all of one shape; may be lazy.
        fps: Frames per second.
        min_height: Height in pixels to enlarge to.

    Returns:
        The number of frames written.

    Raises:
        ConfigError: No frames, a frame of another shape or type, a bad `fps` or file name.
        RunFolderError: The file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in _CODECS:
        *others, last = _CODECS
        raise ConfigError(
            f"expected a video name ending in {', '.join(others)} or {last}, found {path.name!r}"
        )
    if not 0 < fps <= 1000:
        raise ConfigError(f"expected fps above 0 and up to 1000, found {fps}")
    frames = iter(frames)
    try:
        first = _prepared(next(frames), min_height)
    except StopIteration:
        raise ConfigError("expected at least one frame for a video, found none") from None
    rest = (_prepared(frame, min_height) for frame in frames)
    with written_whole(path) as temporary:
        shape, form = first.shape, path.suffix.lower()
        return _encode(temporary, chain([first], rest), shape, fps, form)


def with_poster(
    frames: Iterable[np.ndarray], path: Path, number: int, *, min_height: int = MIN_HEIGHT
) -> Iterator[np.ndarray]:
    """Yields frames, and writes one of them as a picture: what a page shows before a video plays.

    Args:
        frames: As for `write_video`.
        path: Where to write the picture, a PNG file.
        number: Which frame, counted from 0; the last one, where there are fewer.
        min_height: Height in pixels to enlarge to.

    Raises:
        RunFolderError: The picture cannot be written.
    """
    from PIL import Image

    frame = None
    for count, frame in enumerate(frames):
        if count <= number:
            chosen = frame
        yield frame
    if frame is not None:
        with written_whole(path) as temporary:
            Image.fromarray(_prepared(chosen, min_height)).save(temporary, format="PNG")


def _encode(
    path: Path, frames: Iterable[np.ndarray], shape: tuple[int, ...], fps: float, form: str
) -> int:
    """Have ffmpeg overwrite `path` with frames of one even-sided shape."""
    command = _ffmpeg_command(path, shape, fps, form)
    # Messages go to a file, not a pipe: a pipe would fill up while frames are being written.
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=messages
        )
        assert process.stdin is not None
        try:
            frames = _of_shape(shape, frames)
            if form == ".gif":
                count = _feed(process.stdin, indexed(frames))
            else:
                count = _feed(process.stdin, (np.ascontiguousarray(f).data for f in frames))
            process.wait()
        finally:
            # Still running only if the frames failed or were interrupted.
            process.kill()
            process.wait()
        if process.returncode != 0:
            reason = _last_line(messages) or f"ffmpeg ended with status {process.returncode}"
            raise RunFolderError(
                f"expected to write a video in {path.parent}, found: {reason}; "
                "free space or name another file"
            )
    return count


def _of_shape(shape: tuple[int, ...], frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for number, frame in enumerate(frames):
        if frame.shape != shape:
            raise ConfigError(
                f"expected every frame of shape {shape}, found {frame.shape} "
                f"as frame {number + 1}; record at one size"
            )
        yield frame


def _feed(pipe: IO[bytes], frames: Iterable[bytes | memoryview]) -> int:
    """Write frames to a pipe and close it; return their number."""
    count = 0
    # The pipe breaks if ffmpeg dies; its status and message then tell more than our exception.
    with suppress(BrokenPipeError), pipe:
        for frame in frames:
            pipe.write(frame)
            count += 1
    return count


# Enlarged pixels are larger than what colours are sampled by: to filter them would blur none less.
# Players guess the colour matrix from the height unless the file says it; and Chromium does, too,
# unless it says the primaries and the transfer as well, which ffmpeg takes from the frames alone.
_TAGGED = "setparams=color_primaries=bt709:color_trc=bt709"
_COLOURS = ["-vf", f"scale=out_color_matrix=bt709:out_range=tv:flags=neighbor,{_TAGGED}"]
_COLOURS += ["-pix_fmt", "yuv420p"]
_GIF_FPS = 50
"""What browsers show at most; GIF counts hundredths of a second."""
_H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "18", "-movflags", "+faststart"]
_VP9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-row-mt", "1"]
_CODECS = {
    ".mp4": [*_COLOURS, *_H264, "-f", "mp4"],
    ".gif": ["-vf", f"fps='min({_GIF_FPS},source_fps)'", "-f", "gif"],
    ".webm": [*_COLOURS, *_VP9, "-crf", "24", "-b:v", "0", "-f", "webm"],
}


def _ffmpeg_command(path: Path, shape: tuple[int, ...], fps: float, form: str) -> list[str]:
    height, width = shape[:2]
    rate = str(Fraction(fps).limit_denominator(1001))
    pixels = "pal8" if form == ".gif" else "rgb24"
    source = ["-f", "rawvideo", "-pix_fmt", pixels, "-s", f"{width}x{height}", "-r", rate]
    # An absolute path after "file:" is never taken for an option or a protocol.
    target = f"file:{path.absolute()}"
    quiet = ["-hide_banner", "-loglevel", "error", "-nostdin", "-y"]
    return [_ffmpeg(), *quiet, *source, "-i", "pipe:0", *_CODECS[form], target]


def _ffmpeg() -> str:
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise MissingExtraError(
            "expected the ffmpeg that imageio-ffmpeg brings, found none; "
            "type: pip install --force-reinstall imageio-ffmpeg"
        ) from error


def _last_line(messages: IO[bytes]) -> str:
    messages.seek(0)
    lines = messages.read().decode("utf-8", errors="replace").split("\n")
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")


def _prepared(frame: np.ndarray, min_height: int) -> np.ndarray:
    """Enlarges a frame, where it is too low, and makes its sides even."""
    frame = checked_frame(frame)
    if frame.shape[0] < min_height:
        frame = enlarge(frame, min_height)
    height, width = frame.shape[:2]
    if height % 2 == width % 2 == 0:
        return frame
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
