"""The gradients of batch normalisation, straight from their definition."""

import numpy as np


def slopes_by_definition(x, upstream, gamma, mean, variance, epsilon):
    """Gradients of x, gamma and beta after Ioffe and Szegedy, 2015, section 3, with the mean and variance given."""
    x, upstream, gamma, mean, variance = (
        np.asarray(value, np.float64) for value in (x, upstream, gamma, mean, variance)
    )
    deviation = np.sqrt(variance + epsilon)
    normalised = (x - mean) / deviation
    beta_slope = upstream.sum(axis=(0, 1, 2))
    gamma_slope = (upstream * normalised).sum(axis=(0, 1, 2))
    count = x.size / x.shape[-1]
    return gamma / deviation * (upstream - (beta_slope + normalised * gamma_slope) / count), gamma_slope, beta_slope
