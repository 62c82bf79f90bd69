"""Targets of temporal-difference learning, as pure functions of tensors.

Symbols, after Sutton and Barto: s is the state acted in, s' the next one; r the reward on the way;
`discount` is γ, and 0 where the episode ended in s'. Shapes are (batch,) unless said otherwise.
"""

from torch import Tensor


def q_learning(reward: Tensor, discount: Tensor, next_q_target: Tensor) -> Tensor:
    """Gives r + γ max over a' of Q_target(s', a').

    Args:
        reward: r.
        discount: γ, 0 at terminal transitions.
        next_q_target: Q_target(s', ·), shape (batch, actions).

    Source: Mnih et al., Nature 2015, equation 2.
    """
    return reward + discount * next_q_target.max(dim=1).values


def double_q_learning(
    reward: Tensor, discount: Tensor, next_q_target: Tensor, next_q_online: Tensor
) -> Tensor:
    """Gives r + γ Q_target(s', a*), where a* is the online network's choice in s'.

    Args:
        reward: r.
        discount: γ, 0 at terminal transitions.
        next_q_target: Q_target(s', ·), shape (batch, actions).
        next_q_online: Q(s', ·), shape (batch, actions).

    Source: van Hasselt et al., AAAI 2016 (arXiv 1509.06461).
    """
    choice = next_q_online.argmax(dim=1, keepdim=True)
    return reward + discount * next_q_target.gather(1, choice).squeeze(1)
