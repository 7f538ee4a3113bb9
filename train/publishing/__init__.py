"""From a trained model to a version that servers load: written, checked in a fresh process, put in its place."""
