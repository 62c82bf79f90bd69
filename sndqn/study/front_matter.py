"""The front matter of a card on the Hugging Face hub: YAML that the hub searches and shows."""

from typing import Any

import yaml

from sndqn.agents.agents import Agent
from sndqn.evaluation import EvaluationRecord
from sndqn.study.bootstrap import Estimate

TASK = "reinforcement-learning"


def front_matter(
    agent: Agent, record: EvaluationRecord | None, interval: Estimate | None = None
) -> str:
    """Writes it: library, task, tags and, of an evaluated agent, the model index.

    The value of `mean_reward` is "mean +/- standard deviation", as leaderboards of the hub read it
    from the agents of Stable-Baselines3; its arguments have the numbers, with the interval of the
    mean.

    Args:
        agent: The agent.
        record: Its evaluation; None where there is none.
        interval: Of the mean return over episodes, of 95 %.
    """
    about = agent.description
    tags = [about.settings.name, about.title or about.algo, TASK, "deep-reinforcement-learning"]
    if about.network.spectral.layers != "none":
        tags.append("spectral-normalization")
    data: dict[str, Any] = {"library_name": "sndqn", "pipeline_tag": TASK, "tags": tags}
    if record is not None:
        data["model-index"] = [{"name": about.name, "results": [_result(agent, record, interval)]}]
    words = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{words}---\n\n"


def _result(agent: Agent, record: EvaluationRecord, interval: Estimate | None) -> dict[str, Any]:
    settings, how = agent.description.settings, record.protocol
    arguments: dict[str, Any] = {
        "episodes": len(record.episodes),
        "mean": record.mean,
        "std": record.std,
        "epsilon": how.epsilon,
        "seed": how.seed,
    }
    if interval is not None and interval.low is not None:
        arguments["interval_95"] = [round(interval.low, 4), round(interval.high or 0.0, 4)]
    return {
        "task": {"type": TASK, "name": TASK},
        "dataset": {"type": settings.name, "name": settings.name, "args": settings.to_dict()},
        "metrics": [
            {
                "type": "mean_reward",
                "name": "mean_reward",
                "value": f"{record.mean:.2f} +/- {record.std:.2f}",
                "args": arguments,
            }
        ],
    }
