"""The contrary of a prompt, which guidance may lead away from.

    a woman without bangs               a woman with bangs
    a smiling man wearing a hat         a man without a hat, not smiling

Leading away from a face without a prompt makes all of a prompt stronger, also what goes with it: a man gets a beard.
Leading away from the contrary makes only stronger what the prompt says of the face, and a denial as well as a claim.
"""

from __future__ import annotations

import random

from unif2ace_core.data.attributes import BINARY
from unif2ace_core.data.parse import parse
from unif2ace_core.data.plain import worded

OPPOSITE = "opposite"  # stands for the contrary of each prompt
CONTRARY = {"no": "yes", "yes": "no"}


def opposite(prompt: str) -> str:
    """A prompt for a person of the same gender with the contrary of all else that can be read; "" where nothing can."""
    said = {name: value for name, value in parse(prompt).items() if name in BINARY}
    male = {"Male": said.pop("Male")} if "Male" in said else {}
    if not said:
        return ""
    return worded({**male, **{name: CONTRARY[value] for name, value in said.items()}}, random.Random(prompt))[0]
