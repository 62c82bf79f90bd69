"""Frames to a file everyone can play.

H.264 in yuv420p with even sides and the index in front is what browsers, phones and slides accept.
"""

import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np

from sndqn.errors import ConfigError, MissingExtraError, RunFolderError
from sndqn.evaluation.panel import MIN_HEIGHT, ValuePanel, checked_frame, enlarge
from sndqn.evaluation.play import QFunction
from sndqn.evaluation.replaying import rendering_of, replay_trace
from sndqn.evaluation.traces import Trace
from sndqn.files import written_whole


def trace_frames(
    trace: Trace,
    q_function: QFunction | None = None,
    *,
    action_names: Sequence[str] | None = None,
    min_height: int = MIN_HEIGHT,
) -> Iterator[np.ndarray]:
    """Replay a trace and yield its pictures, checked step by step.

    Args:
        trace: The episode.
        q_function: If given, a panel beside each picture shows its values of the state in the
            picture and the action that was taken there.
        action_names: Names for the panel; by default the environment's own.
        min_height: Pictures lower than this are enlarged.

    Yields:
        RGB uint8, all of one shape: the reset, then one picture per action.

    Raises:
        TraceError: The episode does not replay as recorded.
    """
    if q_function is not None and action_names is None:
        action_names = rendering_of(trace).action_names
    panel = ValuePanel(action_names)
    episode_return = 0.0
    for replayed in replay_trace(trace, render=True):
        frame = checked_frame(replayed.frame)
        frame = enlarge(frame, min_height)
        if q_function is not None:
            ended = replayed.index == trace.length
            episode_return += replayed.step.reward
            frame = panel.draw(
                frame,
                np.asarray(q_function(replayed.step.observation)),
                None if ended else int(trace.actions[replayed.index]),
                step=replayed.index,
                episode_return=episode_return,
            )
        yield frame


def write_video(
    path: Path, frames: Iterable[np.ndarray], fps: float, *, min_height: int = MIN_HEIGHT
) -> int:
    """Write frames as an MP4 file, wholly or not at all.

    Frames lower than `min_height` are enlarged by a whole factor, so pixels stay square and sharp;
    an odd side gets its last row or column twice.

    Args:
        path: Where to write; must end in ".mp4". Missing folders are created.
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
    if path.suffix.lower() != ".mp4":
        raise ConfigError(f"expected a video name ending in .mp4, found {path.name!r}")
    if not 0 < fps <= 1000:
        raise ConfigError(f"expected fps above 0 and up to 1000, found {fps}")
    frames = iter(frames)
    try:
        first = _prepared(next(frames), min_height)
    except StopIteration:
        raise ConfigError("expected at least one frame for a video, found none") from None
    rest = (_prepared(frame, min_height) for frame in frames)
    with written_whole(path) as temporary:
        return _encode(temporary, chain([first], rest), first.shape, fps)


def _encode(path: Path, frames: Iterable[np.ndarray], shape: tuple[int, ...], fps: float) -> int:
    """Have ffmpeg overwrite `path` with frames of one even-sided shape."""
    command = _ffmpeg_command(path, shape, fps)
    # Messages go to a file, not a pipe: nobody empties a pipe while frames are being written.
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=messages
        )
        assert process.stdin is not None
        try:
            count = _feed(process.stdin, frames, shape)
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


def _feed(pipe: IO[bytes], frames: Iterable[np.ndarray], shape: tuple[int, ...]) -> int:
    """Write frames to a pipe and close it; return their number."""
    count = 0
    # The pipe breaks if ffmpeg dies; its status and message then tell more than our exception.
    with suppress(BrokenPipeError), pipe:
        for frame in frames:
            if frame.shape != shape:
                raise ConfigError(
                    f"expected every frame of shape {shape}, found {frame.shape} "
                    f"as frame {count + 1}; record at one size"
                )
            pipe.write(frame.tobytes())
            count += 1
    return count


def _ffmpeg_command(path: Path, shape: tuple[int, ...], fps: float) -> list[str]:
    height, width = shape[:2]
    rate = str(Fraction(fps).limit_denominator(1001))
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", rate]
    # Players guess the colour matrix from the height unless the file says it.
    colours = ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-colorspace", "bt709"]
    colours += ["-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
    codec = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-pix_fmt", "yuv420p"]
    # An absolute path after "file:" is never taken for an option or a protocol.
    target = ["-movflags", "+faststart", "-f", "mp4", f"file:{path.absolute()}"]
    quiet = ["-hide_banner", "-loglevel", "error", "-nostdin", "-y"]
    return [_ffmpeg(), *quiet, *source, "-i", "pipe:0", *colours, *codec, *target]


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
    """Enlarge a frame and make its sides even."""
    frame = enlarge(checked_frame(frame), min_height)
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
