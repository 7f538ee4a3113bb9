"""Whether this machine has a GPU that TensorFlow uses."""

import os
import subprocess
import sys
from pathlib import Path

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # of TensorFlow; 0 shows all lines
NVIDIA_DRIVER = "/dev/nvidiactl"
AMD_DRIVER = "/dev/kfd"
COUNT = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"


def count_gpus() -> int:
    """How many GPUs TensorFlow sees. Seconds, in a process of its own, where there is a driver; otherwise nothing."""
    if not any(Path(driver).exists() for driver in (NVIDIA_DRIVER, AMD_DRIVER)):
        return 0
    environment = {LOG_LEVEL: "2", **os.environ}
    done = subprocess.run([sys.executable, "-c", COUNT], env=environment, capture_output=True, text=True)
    return int(done.stdout.split()[-1]) if done.returncode == 0 else 0
