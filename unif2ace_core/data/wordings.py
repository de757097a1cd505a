"""The wording of questions and answers as data: what each binary attribute is asked and answered with.

    wear  "is {p} wearing {x}?"   have  "does {p} have {x}?"   be  "is {p} {x}?"   own  only its own questions

{p} is the person (the person, he, she), {x} the term, {b} the term without its article. In answers {s}
is the person. An answer states what is the case, so it can be read without its question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Asked:
    """How a binary attribute is asked. In `own` and the kinds' templates "yes" means the value yes;
    in `reversed` it means the value no. `yes` and `no` state the values; `weight` is how often to ask."""

    kind: str
    terms: tuple[str, ...]
    yes: str
    no: str
    weight: float
    own: tuple[str, ...] = ()
    reversed: tuple[str, ...] = ()


TEMPLATES: dict[str, tuple[str, ...]] = {
    "wear": (
        "Is {p} wearing {x}?", "Does {p} wear {x}?", "Does {p} have {x} on?", "{b}?", "Any {b}?",
        "Wearing {x}?", "Is {p} wearing {x} in this photo?", "Can you see {x}?",
    ),
    "have": (
        "Does {p} have {x}?", "Has {p} got {x}?", "{b}?", "Any {b}?", "Is this a face with {x}?",
        "Can you see {x}?", "Does {p} have {x} in this photo?",
    ),
    "be": (
        "Is {p} {x}?", "{x}?", "Does {p} look {x}?", "Would you say {p} is {x}?", "Is {p} {x} in this photo?",
        "Is this face {x}?",
    ),
    "own": (),
}  # fmt: skip


def _wear(terms: str, weight: float, *own: str) -> Asked:
    words = tuple(terms.split("|"))
    yes, no = f"{{s}} is wearing {words[0]}", f"{{s}} is not wearing {words[0]}"
    return Asked("wear", words, yes, no, weight, own)


def _have(terms: str, weight: float, *own: str) -> Asked:
    words = tuple(terms.split("|"))
    return Asked("have", words, f"{{s}} has {words[0]}", f"{{s}} does not have {words[0]}", weight, own)


def _be(terms: str, weight: float, *own: str) -> Asked:
    words = tuple(terms.split("|"))
    return Asked("be", words, f"{{s}} is {words[0]}", f"{{s}} is not {words[0]}", weight, own)


_HAIR_TEMPLATES = (
    "Is the hair {x}?", "Is {p's} hair {x}?", "{x} hair?", "Does {p} have {x} hair?", "Is this {x} hair?",
)  # fmt: skip


def _hair(terms: str, weight: float) -> Asked:
    words = tuple(terms.split("|"))
    own = tuple(template.replace("{x}", word) for word in words for template in _HAIR_TEMPLATES)
    return Asked("own", (), f"the hair is {words[0]}", f"the hair is not {words[0]}", weight, own)


ASKED: dict[str, Asked] = {
    "Male": Asked(
        "own", (), "this is a man", "this is a woman", 1.5,
        ("Is this a man?", "Is the person male?", "Is this person a man?", "Man?", "Is it a man?", "Male?",
         "Is the person a man?", "Is this a male face?"),
        ("Is this a woman?", "Is the person female?", "Is this person a woman?", "Woman?", "Is it a woman?",
         "Female?", "Is the person a woman?", "Is this a female face?"),
    ),
    "Young": Asked(
        "be", ("young",), "{s} is young", "{s} is older", 1.2, ("Is this a young person?",),
        ("Is {p} old?", "Old?", "Is this an old person?", "Does {p} look old?", "Is {p} older?"),
    ),
    "Smiling": Asked(
        "own", ("smiling",), "{s} is smiling", "{s} is not smiling", 1.5,
        ("Is {p} smiling?", "Smiling?", "Is {p} smiling in this photo?", "Does {p} smile?",
         "Is there a smile?", "Smile?", "Is this a smiling face?", "Would you say {p} is smiling?",
         "Can you see a smile?"),
    ),
    "Mouth_Slightly_Open": Asked(
        "own", (), "the mouth is open", "the mouth is closed", 1.2,
        ("Is the mouth open?", "Is {p's} mouth open?", "Mouth open?", "Is the mouth slightly open?",
         "Does {p} have an open mouth?", "Open mouth?"),
        ("Is the mouth closed?", "Is {p's} mouth closed?", "Mouth closed?", "Does {p} have a closed mouth?"),
    ),
    "Eyeglasses": _wear("glasses|glasses|eyeglasses|spectacles", 1.6, "Does {p} have glasses?",
                        "Is {p} with glasses?", "Are there glasses?"),
    "Wearing_Hat": _wear("a hat|a hat|a cap|headwear", 1.5,
                         "Is there a hat on the head?", "Does {p} have a hat?"),
    "Wearing_Earrings": _wear("earrings|earrings|hoop earrings", 1.3, "Are there earrings?",
                              "Does {p} have earrings?", "Is {p} wearing an earring?"),
    "Wearing_Necktie": _wear("a necktie|a tie", 1.3, "Does {p} have a tie?"),
    "Wearing_Necklace": _wear("a necklace", 0.6, "Is there a necklace?"),
    "Wearing_Lipstick": _wear("lipstick|lipstick|red lipstick", 1.2, "Is there lipstick on the lips?"),
    "Heavy_Makeup": _wear("heavy makeup|makeup|make-up", 1.2, "Is {p} made up?",
                          "Is there makeup on the face?"),
    "Black_Hair": _hair("black|black|dark", 1.2),
    "Blond_Hair": _hair("blond|blonde|fair", 1.2),
    "Brown_Hair": _hair("brown", 0.8),
    "Gray_Hair": _hair("gray|grey", 1.2),
    "Wavy_Hair": _hair("wavy", 0.6),
    "Straight_Hair": _hair("straight", 0.5),
    "Bald": _be("bald", 1.2, "Is the head bald?", "Does {p} have no hair?", "Bald head?"),
    "Bangs": _have("bangs|bangs|a fringe", 1.2, "Are there bangs?"),
    "Receding_Hairline": _have("a receding hairline", 0.4, "Is the hairline receding?"),
    "No_Beard": Asked(
        "own", (), "{s} has no beard", "{s} has a beard", 1.4,
        ("Is {p} clean-shaven?", "Clean-shaven?", "Is {p} beardless?", "Is {p} without a beard?", "No beard?",
         "Is the face clean-shaven?", "Is the chin free of a beard?", "Is there no beard?"),
        ("Does {p} have a beard?", "Beard?", "Is {p} bearded?", "Is there a beard?", "Any beard?",
         "Has {p} got a beard?", "Does {p} wear a beard?", "Can you see a beard?"),
    ),
    "Goatee": _have("a goatee", 1.2, "Is there a goatee?", "Does {p} wear a goatee?"),
    "Mustache": _have("a mustache|a moustache", 1.2, "Is there a mustache?", "Does {p} wear a mustache?"),
    "Sideburns": _have("sideburns", 1.2, "Are there sideburns?"),
    "5_o_Clock_Shadow": _have("stubble|a five o'clock shadow|a 5 o'clock shadow|beard stubble", 1.2,
                              "Is there stubble?"),
    "Arched_Eyebrows": _have("arched eyebrows|arched brows", 0.4, "Are the eyebrows arched?"),
    "Bushy_Eyebrows": _have("bushy eyebrows|thick eyebrows", 0.4, "Are the eyebrows bushy?"),
    "Bags_Under_Eyes": _have("bags under the eyes|eye bags", 0.4, "Are there bags under the eyes?"),
    "Narrow_Eyes": _have("narrow eyes", 0.3, "Are the eyes narrow?"),
    "Big_Lips": _have("full lips|big lips", 0.3, "Are the lips full?"),
    "Big_Nose": _have("a big nose|a large nose", 0.3, "Is the nose big?"),
    "Pointy_Nose": _have("a pointy nose|a pointed nose", 0.3, "Is the nose pointy?"),
    "Oval_Face": _have("an oval face", 0.3, "Is the face oval?"),
    "High_Cheekbones": _have("high cheekbones", 0.4, "Are the cheekbones high?"),
    "Chubby": _have("a chubby face|chubby cheeks", 0.4, "Is the face chubby?"),
    "Double_Chin": _have("a double chin", 0.4, "Is there a double chin?"),
    "Pale_Skin": _have("pale skin|fair skin", 0.4, "Is the skin pale?"),
    "Rosy_Cheeks": _have("rosy cheeks|flushed cheeks|pink cheeks", 0.8, "Are the cheeks rosy?"),
    "Blurry": Asked("own", (), "the photo is blurry", "the photo is sharp", 0.1,
                    ("Is the photo blurry?", "Is the picture blurry?", "Blurry?", "Is this photo unsharp?",
                     "Is the image out of focus?")),
}  # fmt: skip

# Questions of the open kinds.
EMOTION = (
    "What emotion?", "What emotion is this?", "What is the expression?", "What is {p's} expression?",
    "How does {p} feel?", "What emotion does {p} show?", "What mood is {p} in?",
    "What emotion is on the face?", "Which emotion does {p} express?", "Describe the expression.",
    "Emotion?", "Expression?", "What is the facial expression?", "How does {p} look, happy or neutral?",
)  # fmt: skip
AGE = (
    "How old?", "How old is {p}?", "How old is {p} about?", "What is {p's} age?", "What age is {p}?",
    "Guess the age.", "Age?", "How old does {p} look?", "About how old is {p}?", "What is the age?",
    "Estimate the age of this person.",
)  # fmt: skip
AGE_GROUP = (
    "What age group is {p} in?", "Which age group?", "Is {p} a child, an adult or a senior?",
    "What age group?", "Is {p} a child, a teenager, a young adult, middle-aged or a senior?",
)  # fmt: skip
GENDER = (
    "Man or woman?", "Is this a man or a woman?", "What gender?", "What is the gender?", "Male or female?",
    "Is the person male or female?", "What is the gender of this person?", "Woman or man?", "Gender?",
)  # fmt: skip
HAIR = (
    "What colour is the hair?", "What color is the hair?", "What is {p's} hair color?", "Hair color?",
    "What hair colour does {p} have?", "What color is {p's} hair?", "Which color is the hair?",
    "What is the color of the hair?", "Hair colour?", "What colour of hair?",
)  # fmt: skip
BEARD = (
    "What facial hair does {p} have?", "What kind of facial hair?", "What kind of beard does {p} have?",
    "Describe {p's} facial hair.", "Facial hair?", "What facial hair?",
)  # fmt: skip
HEAD = ("What is on the head?", "What is {p} wearing on the head?", "What is on {p's} head?", "Any headwear?")
WORN = (
    "What is {p} wearing?", "What does {p} wear?", "Which accessories?", "What accessories does {p} have?",
    "What accessories is {p} wearing?", "Accessories?",
)  # fmt: skip
POSE = (
    "Where is the head turned?", "What is the head pose?", "Which way is {p} facing?", "Head pose?",
    "How is the head turned?", "Where does {p} face?",
)  # fmt: skip
MOUTH = ("What is the mouth doing?", "What does the mouth do?", "How is the mouth?", "Describe the mouth.")
SKIN = ("What is the complexion?", "How is the skin?", "What does the skin look like?", "Complexion?")
EYES = ("How are the eyes?", "What about the eyes?", "Describe the eyes.", "What do the eyes look like?")

EMOTION_WORDS = {
    "neutral": "neutral",
    "happiness": "happy",
    "surprise": "surprised",
    "anger": "angry",
    "sadness": "sad",
    "contempt": "contemptuous",
    "disgust": "disgusted",
    "fear": "afraid",
}
EMOTION_YES_NO = (
    "Is {p} {x}?", "Does {p} look {x}?", "{x}?", "Is the expression {x}?", "Is this an expression of {n}?",
    "Is this face {x}?",
)  # fmt: skip
AGE_GROUP_ANSWERS = {
    "child": "{s} is a child",
    "teenager": "{s} is a teenager",
    "young adult": "{s} is a young adult",
    "middle-aged": "{s} is middle-aged",
    "senior": "{s} is a senior",
}
POSE_ANSWERS = {
    "facing forward": "{s} is facing forward",
    "turned to the side": "{s} is turned to the side",
    "tilted up": "{s} is looking up",
    "tilted down": "{s} is looking down",
}
MOUTH_ANSWERS = {
    "closed": "the mouth is closed",
    "open": "the mouth is open",
    "closed smile": "{s} is smiling with the mouth closed",
    "open smile": "{s} is smiling with the mouth open",
}
SKIN_ANSWERS = {"even": "the skin is even", "pale": "the skin is pale", "rosy": "the cheeks are rosy"}
EYES_ANSWERS = {
    "open": "the eyes are open",
    "narrowed": "the eyes are narrow",
    "behind sunglasses": "the eyes are behind sunglasses",
}
# Binary attributes asked as a choice; the answer states the value.
CHOICES: dict[str, tuple[str, ...]] = {
    "Smiling": ("Is {p} smiling or not?", "Smiling or serious?", "Is {p} smiling or serious?"),
    "Eyeglasses": ("With or without glasses?", "Is {p} with or without glasses?"),
    "Mouth_Slightly_Open": ("Is the mouth open or closed?", "Mouth open or closed?"),
    "Young": ("Young or old?", "Is {p} young or old?"),
    "No_Beard": ("With or without a beard?", "Bearded or clean-shaven?", "Is {p} bearded or clean-shaven?"),
    "Wearing_Hat": ("With or without a hat?",),
    "Wavy_Hair": ("Is the hair wavy or not?",),
}

# What the head wears, in the order of an answer.
WEARABLES = {
    "Eyeglasses": "glasses",
    "Wearing_Hat": "a hat",
    "Wearing_Earrings": "earrings",
    "Wearing_Necklace": "a necklace",
    "Wearing_Necktie": "a necktie",
}

DESCRIBE = (
    "Describe this face.", "Describe the face.", "Describe this person.", "What does this person look like?",
    "Describe the person in this photo.", "Please describe this face.", "Give a description of this face.",
    "What do you see?", "Tell me about this face.",
)  # fmt: skip

# Subject of a question by value of Male: (subject, possessive).
PEOPLE: dict[str, tuple[tuple[str, str], ...]] = {
    "": (("the person", "the person's"), ("this person", "this person's")),
    "yes": (("he", "his"), ("the man", "the man's")),
    "no": (("she", "her"), ("the woman", "the woman's")),
}


def _article_off(term: str) -> str:
    return term.removeprefix("a ").removeprefix("an ")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


@cache
def phrased(templates: tuple[str, ...], male: str = "") -> tuple[str, ...]:
    """The questions with the person put in: neutral for "", he or she for the values of Male."""
    texts = (
        _capital(template.replace("{p's}", whose).replace("{p}", who))
        for template in templates
        for who, whose in PEOPLE[male]
    )
    return tuple(dict.fromkeys(texts))


@cache
def asked_templates(attribute: str) -> tuple[str, ...]:
    """All templates of a binary attribute whose "yes" means the value yes; {p} still open."""
    asked = ASKED[attribute]
    kinds = (
        template.replace("{x}", term).replace("{b}", _article_off(term))
        for term in dict.fromkeys(asked.terms)
        for template in TEMPLATES[asked.kind]
    )
    return (*kinds, *asked.own)


def join(parts: list[str], last: str = "and") -> str:
    """a, b and c"""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}"


def knows_beard(labels: Mapping[str, str]) -> bool:
    """Whether the facial hair of a man is known: a mustache may be there although no beard is."""
    if labels.get("Male") != "yes" or labels.get("Age_Group") == "child" or "No_Beard" not in labels:
        return False
    return labels["No_Beard"] == "no" or "Mustache" in labels


def beard_statement(labels: Mapping[str, str]) -> str:
    """What facial hair a man has: "{s} has a goatee and stubble", "{s} is clean-shaven"."""
    names = (("Goatee", "a goatee"), ("Mustache", "a mustache"), ("Sideburns", "sideburns"))
    parts = [text for name, text in names if labels.get(name) == "yes"]
    if labels.get("5_o_Clock_Shadow") == "yes":
        parts.append("stubble")
    elif labels.get("No_Beard") == "no" and "a goatee" not in parts:
        parts.insert(0, "a beard")
    return f"{{s}} has {join(parts)}" if parts else "{s} is clean-shaven"


def sentence(statement: str, male: str, start: str = "") -> str:
    """The statement as a sentence about him, her or the person, after "Yes, " or "No, " where given."""
    who = {"yes": "he", "no": "she"}.get(male, "the person")
    return _capital(start + statement.replace("{s}", who)) + "."
