"""Keras' epoch from files: image_dataset_from_directory and fit; seconds of it, a line each."""

import os
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras

FOLDER, BATCH, MODEL = sys.argv[1], int(sys.argv[2]), sys.argv[3]

model = keras.saving.load_model(MODEL, compile=False)
files = keras.utils.image_dataset_from_directory(
    FOLDER, image_size=model.input_shape[1:3], batch_size=BATCH, verbose=False
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.SGD(0.01, 0.9, nesterov=True), loss)

for _ in sys.stdin:
    started = time.perf_counter()
    model.fit(files, verbose=0)
    print(time.perf_counter() - started, flush=True)
