"""TensorFlow Serving's names for services, methods and signatures, and the key under which requests are counted."""

from typing import TypedDict

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
V2_SERVICE = "inference.GRPCInferenceService"  # of the Open Inference Protocol

DEFAULT_SIGNATURE = "serving_default"
# What a signature is made for: its method_name.
PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"


class ModelKey(TypedDict):
    """Whose requests an event is about."""

    model_name: str
    version: int
    signature_name: str
