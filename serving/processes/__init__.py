"""Several processes behind one port: a supervisor, and whole servers that share the port (docs/decisions/0022)."""
