"""The network: five layers, a batch normalisation that replicas share, and its statistics measured on plain images."""
