"""Train the digit CNN data-parallel on Ray and publish it as a SavedModel: `python -m train --help`."""
