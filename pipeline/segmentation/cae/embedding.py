"""The CAE module: what is taken from the neighbours, and how it is mixed with the pixel's own features."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.params import CaeParams
from pipeline.segmentation.cae.nonlocal_mean import nonlocal_mean
from pipeline.segmentation.cae.window import window_mean


class ContextAwareEmbedding(nn.Module):
    """The CAE module; with gamma 0 it is plain normalisation, and a learned gamma still gets a gradient.

    `mix: fixed` has no transform and learns nothing: it adds the neighbours' unit features to the pixel's own,
    e = normalise((1 - gamma) F / |F| + gamma c / |c|), which is half and half with gamma 0.5.

    Args:
        channels: D.
        params: Group `train.cae`.
    """

    gamma: torch.Tensor

    def __init__(self, channels: int, params: CaeParams) -> None:
        super().__init__()
        self.params = params
        gamma = torch.tensor(float(params.gamma))
        if params.mix == "learned":
            self.transform = nn.Conv2d(channels, channels, 1, bias=False)
            self.norm = nn.BatchNorm2d(channels)
            self.gamma = nn.Parameter(gamma)
        else:
            self.register_buffer("gamma", gamma)
        if not params.fixed_temperature:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(params.temperature)))
            self.log_sigma = nn.Parameter(torch.tensor(math.log(params.sigma)))

    def forward(self, features: torch.Tensor, appearance: Sequence[torch.Tensor] = ()) -> torch.Tensor:
        """Embed.

        Args:
            features: (B, D, h, w), the decoder's map.
            appearance: Maps (B, A, h, w) that tell what is alike; `features` where there is none. The affinities of
                several are multiplied.

        Returns:
            float32 (B, D, h, w), unit norm over D.
        """
        maps = tuple(appearance) or (features,)
        alike = join_units([map_.detach() for map_ in maps] if self.params.stop_gradient else maps)
        if self.params.mix == "learned":
            context = self._gather(self.transform(features), alike)
            return F.normalize(features.float() + self.gamma * self.norm(context).float(), dim=1)
        own = F.normalize(features.float(), dim=1)
        context = F.normalize(self._gather(own.to(features.dtype), alike).float(), dim=1)
        return F.normalize((1 - self.gamma) * own + self.gamma * context, dim=1)

    def _gather(self, values: torch.Tensor, alike: torch.Tensor) -> torch.Tensor:
        """The neighbours' mean; over several scales, the plain mean of their contexts.

        A scale widens the dilation and sigma alike, else the prior would hide what it adds. All scales share one
        transform, so that they add reach and no parameters.
        """
        params = self.params
        sigma: float | torch.Tensor = params.sigma
        temperature: float | torch.Tensor = params.temperature
        if not params.fixed_temperature:
            sigma, temperature = self.log_sigma.exp(), self.log_temperature.exp()
        if params.neighbourhood == "nonlocal":
            return nonlocal_mean(
                values,
                alike=alike,
                top=params.top,
                sigma=sigma,
                temperature=temperature,
                exclude_self=params.exclude_self,
            )
        contexts = [
            window_mean(
                values,
                alike=alike,
                radius=params.radius,
                dilation=params.dilation * scale,
                sigma=sigma * scale,
                temperature=temperature,
                exclude_self=params.exclude_self,
            )
            for scale in params.scales
        ]
        return contexts[0] if len(contexts) == 1 else torch.stack(contexts).mean(0)


def join_units(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Scale each map to unit norm and concatenate, so that an inner product is the sum of the maps' cosines.

    A sum of cosines under the softmax is the product of the maps' affinities, renormalised.

    Args:
        maps: (B, A_i, h, w) each.

    Returns:
        float32 (B, sum of A_i, h, w).
    """
    units = [F.normalize(map_.float(), dim=1) for map_ in maps]
    return units[0] if len(units) == 1 else torch.cat(units, dim=1)
