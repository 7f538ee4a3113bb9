"""Sweeps: many runs over a space of settings, on Ray Tune."""
