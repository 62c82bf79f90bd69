"""Evaluating agents: scores that carry the episodes proving them, and pictures of those.

`evaluate` plays a protocol's episodes and records a `Trace` of each; `replay_trace` proves one
anywhere; `write_video` and `show_window` let people look. The generator under them all is
`sndqn.evaluation.play.play`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sndqn.evaluation.episodes import read_episode as read_episode
    from sndqn.evaluation.episodes import read_episodes as read_episodes
    from sndqn.evaluation.episodes import write_episodes as write_episodes
    from sndqn.evaluation.panel import ValuePanel as ValuePanel
    from sndqn.evaluation.panel import enlarge as enlarge
    from sndqn.evaluation.play import QFunction as QFunction
    from sndqn.evaluation.play import Step as Step
    from sndqn.evaluation.protocol import EpisodeResult as EpisodeResult
    from sndqn.evaluation.protocol import EvaluationProtocol as EvaluationProtocol
    from sndqn.evaluation.protocol import EvaluationRecord as EvaluationRecord
    from sndqn.evaluation.protocol import evaluate as evaluate
    from sndqn.evaluation.recording import record_trace as record_trace
    from sndqn.evaluation.recording import version_differences as version_differences
    from sndqn.evaluation.replaying import Rendering as Rendering
    from sndqn.evaluation.replaying import ReplayedStep as ReplayedStep
    from sndqn.evaluation.replaying import rendering_of as rendering_of
    from sndqn.evaluation.replaying import replay_trace as replay_trace
    from sndqn.evaluation.show import show_window as show_window
    from sndqn.evaluation.traces import Trace as Trace
    from sndqn.evaluation.traces import read_trace as read_trace
    from sndqn.evaluation.traces import write_trace as write_trace
    from sndqn.evaluation.videos import trace_frames as trace_frames
    from sndqn.evaluation.videos import with_poster as with_poster
    from sndqn.evaluation.videos import write_video as write_video

_MODULE_OF = {
    "EpisodeResult": "protocol",
    "EvaluationProtocol": "protocol",
    "EvaluationRecord": "protocol",
    "QFunction": "play",
    "Rendering": "replaying",
    "ReplayedStep": "replaying",
    "Step": "play",
    "Trace": "traces",
    "ValuePanel": "panel",
    "enlarge": "panel",
    "evaluate": "protocol",
    "read_episode": "episodes",
    "read_episodes": "episodes",
    "read_trace": "traces",
    "record_trace": "recording",
    "rendering_of": "replaying",
    "replay_trace": "replaying",
    "show_window": "show",
    "trace_frames": "videos",
    "version_differences": "recording",
    "write_episodes": "episodes",
    "write_trace": "traces",
    "with_poster": "videos",
    "write_video": "videos",
}


def __getattr__(name: str) -> Any:
    """Import a public name's module when the name is first used."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
