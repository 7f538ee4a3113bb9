"""The files that flags name."""
