package org.kerasdbq;

import java.util.Collections;
import java.util.Map;
import org.tensorflow.lite.Delegate;

/**
 * The operators of keras_dbq for {@code org.tensorflow.lite.Interpreter}.
 *
 * <pre>{@code
 * try (DbqDelegate delegate = new DbqDelegate();
 *     Interpreter interpreter =
 *         new Interpreter(model, new Interpreter.Options().addDelegate(delegate))) {
 *   interpreter.run(input, output);
 * }
 * }</pre>
 *
 * <p>Close it after every interpreter that it was given to. Several interpreters may share one.
 */
public final class DbqDelegate implements Delegate {
  static {
    System.loadLibrary("dbq_delegate_jni");
  }

  private long handle;

  /** With the options' defaults. */
  public DbqDelegate() {
    this(Collections.emptyMap());
  }

  /**
   * With options by name: "isa", "partition", "builtins", "profile" (tflite_ops/README.md).
   *
   * @throws IllegalArgumentException an option is unknown, or this processor lacks an instruction set
   */
  public DbqDelegate(Map<String, String> options) {
    String[] keys = options.keySet().toArray(new String[0]);
    String[] values = new String[keys.length];
    for (int i = 0; i < keys.length; ++i) {
      values[i] = options.get(keys[i]);
      if (values[i] == null) {
        throw new IllegalArgumentException("options: expected a value of " + keys[i] + ", got null");
      }
    }
    handle = create(keys, values);
  }

  /**
   * The {@code TfLiteDelegate*}.
   *
   * @throws IllegalStateException the delegate was closed
   */
  @Override
  public long getNativeHandle() {
    if (handle == 0) {
      throw new IllegalStateException("expected an open delegate, got one that was closed");
    }
    return handle;
  }

  /** Frees what is native; a second call does nothing. */
  @Override
  public void close() {
    if (handle != 0) {
      destroy(handle);
      handle = 0;
    }
  }

  private static native long create(String[] keys, String[] values);

  private static native void destroy(long handle);
}
