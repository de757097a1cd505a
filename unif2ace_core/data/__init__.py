"""Records, captions and questions: what the model is taught, from the label tables."""
