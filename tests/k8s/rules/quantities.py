"""Kubernetes' quantities as numbers: 250m, 4, 1Gi."""

SUFFIXES = {
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


def amount(quantity: str | int | float) -> float:
    """The number that a quantity means: CPUs, bytes or pieces."""
    text = str(quantity)
    digits = text.rstrip("mkMGTKi")
    return float(digits) * SUFFIXES.get(text[len(digits) :], 1)
