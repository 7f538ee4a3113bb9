"""What the server is compared with: each module is a program, `python -m benchmarks.serving_peers.<name>`."""
