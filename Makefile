# make demo        the main job on handwritten digits, in an environment of its own; ends with one table
# make test        the fast tests (make test ARGS=--run-slow for all); the other targets are CI's
VENV ?= .venv
PYTHON ?= python3.11
BUILD ?= tflite_ops/build-make
ARGS ?=

BIN := $(VENV)/bin
SOURCES := setup.py pyproject.toml $(shell find keras_dbq -name '*.py') \
           $(shell find tflite_ops -name 'build*' -prune -o \( -name '*.cc' -o -name '*.h' -o -name '*.map' -o -name '*.inc' \) -print)
CXX_FILES := $(shell find tflite_ops -name 'build*' -prune -o \( -name '*.cc' -o -name '*.h' \) -print)

.PHONY: demo test test-slow lint docs test-cpp test-tsan test-arm wheels test-wheels test-android clean

demo: $(VENV)/.examples
	$(BIN)/python examples/demo/main.py --out out/demo $(ARGS)

# `pytest`, not `python -m pytest`: it tests the installed package.
test: $(VENV)/.dev
	$(BIN)/pytest -n 2 $(ARGS)

# The slow tests alone; those of the real networks skip where the data is absent.
test-slow: $(VENV)/.dev
	$(BIN)/pytest -n 2 -m slow $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	clang-format --dry-run --Werror $(CXX_FILES)

# The documents as a site, out/site/index.html; any warning ends the run.
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# The C++ tests with address and undefined-behaviour sanitizers; any finding ends the run.
test-cpp:
	cmake -S tflite_ops -B $(BUILD)-sanitize -DDBQ_SANITIZE=address,undefined
	cmake --build $(BUILD)-sanitize -j 2
	ctest --test-dir $(BUILD)-sanitize --output-on-failure

# The C++ tests that use several threads with the thread sanitizer; any race ends the run.
test-tsan:
	cmake -S tflite_ops -B $(BUILD)-threads -DDBQ_SANITIZE=thread
	cmake --build $(BUILD)-threads -j 2 --target threads_test delegate_test
	TSAN_OPTIONS=halt_on_error=1 ctest --test-dir $(BUILD)-threads --output-on-failure -R '^(threads|delegate)_test$$'

# The C++ tests on aarch64, under qemu: all on a Cortex-A53, those of kernels on every kind of processor.
test-arm:
	cmake -S tflite_ops -B $(BUILD)-arm -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake
	cmake --build $(BUILD)-arm -j 2
	ctest --test-dir $(BUILD)-arm --output-on-failure
	for cpu in cortex-a72 cortex-a76 max; do \
	  qemu-aarch64 -cpu $$cpu $(BUILD)-arm/kernels_test && \
	  qemu-aarch64 -cpu $$cpu $(BUILD)-arm/requantize_test || exit 1; \
	done

# keras_dbq-*.whl for x86_64 and aarch64, glibc 2.17 and later, in dist/.
wheels:
	PYTHON="$(PYTHON)" tools/wheels.sh dist

# Both installed and used: here, and with Debian's Python for Arm under qemu.
test-wheels: wheels
	PYTHON="$(PYTHON)" tools/wheel_test.sh dist out/arm-root

# The C++ example and the Android library on the published TensorFlow Lite for Android.
test-android: $(VENV)/.dev
	tools/android_test.sh $(BIN)/python out/android

$(VENV)/.examples: $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check ".[examples]"
	touch $@

$(VENV)/.dev: $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check ".[dev]"
	touch $@

$(BIN)/python:
	PYTHON="$(PYTHON)" tools/make_venv.sh $(VENV)

clean:
	rm -rf $(VENV) .venv-wheels $(BUILD)-sanitize $(BUILD)-threads $(BUILD)-arm build dist out *.egg-info
