"""Running an exported file, and the proof that it computes what was trained."""
