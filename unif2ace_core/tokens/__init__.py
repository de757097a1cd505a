"""Text tokens, image codes and the sequences that hold both."""
