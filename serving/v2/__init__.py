"""The Open Inference Protocol (KServe's V2 protocol) without a transport."""
