"""The transformer and both MoE levels: tensors and masks, no tasks, files or devices."""
