package org.kerasdbq;

import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.Collections;
import org.tensorflow.lite.Interpreter;

/** Runs a file on input codes with the delegate: {@code RunFile model.tflite input output}. */
public final class RunFile {
  public static void main(String[] arguments) throws IOException {
    refusesUnknownOptions();
    byte[] codes = Files.readAllBytes(Paths.get(arguments[1]));
    DbqDelegate delegate = new DbqDelegate(Collections.singletonMap("partition", "graph"));
    Interpreter.Options options = new Interpreter.Options().addDelegate(delegate);
    try (Interpreter interpreter = new Interpreter(new File(arguments[0]), options)) {
      int size = interpreter.getInputTensor(0).numBytes();
      int count = codes.length / size;
      ByteBuffer outputs = ByteBuffer.allocate(count * interpreter.getOutputTensor(0).numBytes());
      for (int i = 0; i < count; ++i) {
        ByteBuffer input = ByteBuffer.allocateDirect(size);
        input.put(codes, i * size, size).rewind();
        ByteBuffer output = ByteBuffer.allocateDirect(interpreter.getOutputTensor(0).numBytes());
        interpreter.run(input, output);
        output.rewind();
        outputs.put(output);
      }
      Files.write(Paths.get(arguments[2]), outputs.array());
    }
    delegate.close();
    delegate.close();
    refusesUseAfterClose(delegate);
  }

  private static void refusesUnknownOptions() {
    try {
      new DbqDelegate(Collections.singletonMap("colour", "red")).close();
    } catch (IllegalArgumentException error) {
      require(error.getMessage().contains("unknown option 'colour'"), error.getMessage());
      return;
    }
    require(false, "expected an error for an unknown option");
  }

  private static void refusesUseAfterClose(DbqDelegate delegate) {
    try {
      delegate.getNativeHandle();
    } catch (IllegalStateException error) {
      return;
    }
    require(false, "expected an error after close");
  }

  private static void require(boolean condition, String message) {
    if (!condition) {
      throw new AssertionError(message);
    }
  }
}
