"""The Open Inference Protocol (KServe's V2 protocol) over REST, with Triton's binary tensor data."""
