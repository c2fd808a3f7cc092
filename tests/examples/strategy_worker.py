"""Child of test_distribution.py: the CIFAR-10 example on two logical CPUs.

Usage: strategy_worker.py STRATEGY WORKDIR
"""

import os
import sys
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.append(str(Path(__file__).resolve().parents[2]))

from examples.cifar10 import train
from examples.common import pipeline
from keras_dbq.compat import tf

if __name__ == "__main__":
    strategy, workdir = sys.argv[1:]
    if strategy == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    results = pipeline.run(
        train.TASK,
        "digits",
        Path(workdir),
        float_model=str(Path(workdir).parent / "float.keras"),
        epochs=1,
        branches=1,
        distill=1.0,
        strategy=strategy,
        hparams="depth=8,batch_size=256,fixed_statistics=True,calibration=64,learning_rate=0.5",
    )
    print(f"results: {sorted(results)}")
