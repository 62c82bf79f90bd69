"""How good generated digits are, by a classifier of real ones."""

from typing import Any

import common
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

A_CLASS = 0.02  # of the generated digits; even shares are 0.1


class Judge:
    """A classifier, by whose last features generated digits are compared with held-out ones."""

    def __init__(self) -> None:
        images, classes, held_out, _ = common.digits()
        torch.manual_seed(0)
        layers = [nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)]
        self.net = nn.Sequential(*layers)
        optimizer = torch.optim.Adam(self.net.parameters(), 1e-3)
        for _ in range(1500):
            batch = torch.randint(len(images), (64,))
            optimizer.zero_grad()
            cross_entropy(self.net(images[batch] * 2 - 1), classes[batch]).backward()
            optimizer.step()
        self.reference = self._moments(held_out * 2 - 1)

    @torch.no_grad()
    def _moments(self, images: Tensor) -> tuple[Any, Any]:
        features = self.net[:-1](images).double().numpy()
        return features.mean(axis=0), np.cov(features.T)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[float, int]:
        """Returns the Fréchet distance to held-out digits, and the number of classes generated."""
        (m, c), (reference_m, reference_c) = self._moments(images), self.reference
        root = np.sqrt(np.maximum(np.linalg.eigvals(c @ reference_c).real, 0)).sum()
        distance = ((m - reference_m) ** 2).sum() + np.trace(c) + np.trace(reference_c) - 2 * root
        shares = self.net(images).argmax(dim=1).bincount(minlength=10) / len(images)
        return round(float(distance), 2), int((shares >= A_CLASS).sum())
