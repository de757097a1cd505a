"""The contrary of a prompt, which guidance may lead away from.

    a woman without bangs               a woman with bangs
    a smiling man wearing a hat         a man without a hat, not smiling

Leading away from a face without a prompt makes all of a prompt stronger, also what goes with it: a man with glasses
gets a beard. Leading away from the contrary makes only stronger what the prompt says of the face, and a denial as well
as a claim. Of a prompt that says the gender alone, or nothing that can be read, there is no contrary.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import lru_cache

from unif2ace_core.data.attributes import BINARY

OPPOSITE = "opposite"  # stands for the contrary of each prompt
CONTRARY = {"no": "yes", "yes": "no"}
YOUNG = {"child": "no", "teenager": "no", "young adult": "no", "middle-aged": "yes", "senior": "yes"}
SMILING = {"happiness": "no", "neutral": "yes"}


@lru_cache(maxsize=256)  # asked for again by each candidate of a picture, and when it is told
def opposite(prompt: str) -> str:
    """A prompt for a person of the same gender with the contrary of all else that can be read; "" where nothing can."""
    # The grammar of captions takes 40 ms to import; what neither writes nor reads prompts starts without it.
    from unif2ace_core.data.parse import parse
    from unif2ace_core.data.plain import worded

    read = parse(prompt)
    said = contraries(read)
    if not said:
        return ""
    male = {"Male": read["Male"]} if "Male" in read else {}
    text = worded({**male, **said}, random.Random(prompt))[0]
    return text if said.items() & parse(text).items() else ""  # some things are not said of a man, or a woman


def contraries(read: Mapping[str, str]) -> dict[str, str]:
    """The contrary of each yes or no but the gender; an age is the contrary of youth, a mood that of a smile."""
    found = {name: CONTRARY[value] for name, value in read.items() if name in BINARY and name != "Male"}
    for name, of, contrary in (("Young", "Age_Group", YOUNG), ("Smiling", "Emotion", SMILING)):
        if name not in found and (value := contrary.get(read.get(of, ""))):
            found[name] = value
    return found
