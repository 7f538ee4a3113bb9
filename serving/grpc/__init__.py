"""The gRPC services and their transport."""
