"""Masked diffusion over image codes: schedules, the D3Diff objective, likelihood bounds and samplers.

Pure tensor code with no model inside; the model is passed in as a function. The mask token is the id K.
"""
