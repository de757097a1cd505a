"""Whatever is read from or written to disk: safetensors, atomic, with a config beside it."""
