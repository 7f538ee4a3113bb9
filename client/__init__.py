"""A thin gRPC client that reads handwriting: no TensorFlow, only grpcio, protobuf, numpy and Pillow."""
