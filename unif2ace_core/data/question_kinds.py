"""The wordings of the question set as data: open, choice, counting, comparison, reasoning, unanswerable.

{p} is the person in a question (the person, he, the woman), {p's} the possessive; {s} is the person in an
answer. {a} and {b} are the two options of a choice, {A} is {a} at the start of a sentence, {n} a number, {l} a
list, {x} a term. An answer states what is the case, so it can be read without its question.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from unif2ace_core.data import wordings
from unif2ace_core.data.attributes import Family
from unif2ace_core.data.wordings import ASKED, asked_templates


@dataclass(frozen=True)
class Question:
    """One question-answer pair and what it rests on.

    `kind` is of `KINDS`; `attributes` are names of the schema or "Age"; `value` their values,
    joined by commas, or "unknown" where the answer is that it cannot be told.
    """

    kind: str
    family: str
    question: str
    answer: str
    attributes: tuple[str, ...]
    value: str


@dataclass(frozen=True)
class Dialogue:
    """Pairs in one conversation; the first stands for itself, later ones may refer to earlier ones."""

    turns: tuple[Question, ...]


KINDS = ("yes_no", "choice", "open", "counting", "comparison", "reasoning", "unanswerable")

# Who a question speaks of, by value of Male and whether it is an adult: (subject, possessive).
NEUTRAL = (("the person", "the person's"), ("this person", "this person's"))
PEOPLE: dict[tuple[str, bool], tuple[tuple[str, str], ...]] = {
    ("", True): NEUTRAL,
    ("", False): (*NEUTRAL, ("the child", "the child's")),
    ("yes", True): (("he", "his"), ("the man", "the man's")),
    ("no", True): (("she", "her"), ("the woman", "the woman's")),
    ("yes", False): (("he", "his"), ("the boy", "the boy's")),
    ("no", False): (("she", "her"), ("the girl", "the girl's")),
}

# --- Yes or no --------------------------------------------------------------------------------------

# Wordings that ask for more or less than the label says: a cap is one hat of many, dark hair may be brown.
_LOOSE = re.compile(
    r"\b(cap|hoop|red lipstick|dark|headwear|made up|face bald|(?:young|bald) in)\b|(?<!heavy )make-?up", re.IGNORECASE
)
CHILD_GENDER = {
    "yes": ("Is this a boy?", "Is the child a boy?", "Is the person male?", "Is this person male?", "A boy?"),
    "no": ("Is this a girl?", "Is the child a girl?", "Is the person female?", "Is this person female?", "A girl?"),
}
VALUED_YES_NO: dict[str, tuple[str, ...]] = {
    "Emotion": ("Is {p} {x}?", "Does {p} look {x}?", "Is the expression {x}?", "Would you say {p} looks {x}?",
                "Does {p} seem {x}?"),
    "Age_Group": ("Is this {x}?", "Is the person {x}?", "Would you say this is {x}?", "Is this person {x}?",
                  "Would you call this person {x}?"),
    "Head_Pose": ("Is {p} {x}?", "Is {p} {x} in this photo?", "Would you say {p} is {x}?", "{X}?",
                  "Is it true that {p} is {x}?"),
}  # fmt: skip


# Wordings that are out of place: sunglasses are no spectacles, and only a man is clean-shaven.
NOT_SUNGLASSES = re.compile(r"\b(?:eyeglasses|spectacles)\b", re.IGNORECASE)
OF_MEN_ONLY = re.compile(r"clean-shaven|bearded|beardless", re.IGNORECASE)


def strict_templates(attribute: str, turned: bool) -> tuple[str, ...]:
    """The yes/no templates that ask exactly for the label; `turned` ones mean the value no."""
    templates = ASKED[attribute].reversed if turned else asked_templates(attribute)
    return tuple(template for template in templates if not _LOOSE.search(template))


# --- Open: one attribute tells ------------------------------------------------------------------------


@dataclass(frozen=True)
class Open:
    """An open question on one attribute; `follow` are the nouns of "And her ...?"."""

    family: Family
    templates: tuple[str, ...]
    follow: tuple[str, ...]
    answers: dict[str, str]
    weight: float = 1.0


WORDS: dict[str, dict[str, str]] = {
    "Emotion": {**wordings.EMOTION_WORDS, "neutral": "expressionless"},
    "Hair_Color": {color: color for color in ("black", "brown", "blond", "red", "gray")},
    "Age_Group": {
        "child": "a child",
        "teenager": "a teenager",
        "young adult": "a young adult",
        "middle-aged": "a middle-aged adult",
        "senior": "a senior",
    },
    "Head_Pose": {
        "facing forward": "facing forward",
        "turned to the side": "turned to the side",
        "tilted up": "looking up",
        "tilted down": "looking down",
    },
    "Mouth_Action": {"open smile": "an open smile", "closed smile": "a closed smile"},
    "Eyes": {"open": "open", "narrowed": "narrow", "behind sunglasses": "behind sunglasses"},
    "Skin_Tone": {"even": "even", "pale": "pale", "rosy": "rosy"},
    "Male": {"yes": "a man", "no": "a woman"},
}

OPEN: dict[str, Open] = {
    "Hair_Color": Open(
        "appearance", wordings.HAIR, ("hair", "hair colour", "hair color"),
        {**{color: f"the hair is {color}" for color in WORDS["Hair_Color"]}, "bald": "{s} is bald"}, 1.5,
    ),
    "Emotion": Open(
        "emotion",
        ("What emotion is this?", "What is {p's} expression?", "How does {p} feel?", "What emotion does {p} show?",
         "What mood is {p} in?", "Which emotion does {p} express?", "What is the facial expression?",
         "What emotion is on the face?", "What feeling does the face show?"),
        ("expression", "mood", "facial expression"),
        {name: "{s} looks " + word for name, word in wordings.EMOTION_WORDS.items()}
        | {"neutral": "{s} has a neutral expression"}, 2.0,
    ),
    "Age_Group": Open(
        "appearance",
        ("What age group is {p} in?", "Which age group does {p} belong to?", "What age group?",
         "Which age group is this?", "What stage of life is {p} in?"),
        ("age group",),
        {value: f"{{s}} is {word}" for value, word in WORDS["Age_Group"].items()},
    ),
    "Male": Open(
        "appearance",
        ("What is the gender of the person?", "What gender is the person?", "What gender is this person?",
         "What is the gender?", "Which gender is seen here?"),
        (),
        {"yes": "this is a man", "no": "this is a woman"}, 0.6,
    ),
    "Head_Pose": Open(
        "action",
        ("Where is the head turned?", "What is the head pose?", "Which way is {p} facing?", "Which way is {p} looking?",
         "How is the head turned?", "What direction is {p} facing?", "Head pose?"), ("head pose", "pose"),
        wordings.POSE_ANSWERS,
    ),
    "Mouth_Action": Open(
        "action",
        (*wordings.MOUTH, "What is {p} doing with the mouth?", "What does {p's} mouth do?"), ("mouth",),
        wordings.MOUTH_ANSWERS,
    ),
    "Eyes": Open(
        "action",
        (*wordings.EYES, "In what state are the eyes?"), ("eyes",), wordings.EYES_ANSWERS, 0.6,
    ),
    "Skin_Tone": Open(
        "appearance",
        (*wordings.SKIN, "What is {p's} complexion?"), ("skin", "complexion"), wordings.SKIN_ANSWERS, 0.6,
    ),
    "Blurry": Open(
        "appearance",
        ("How sharp is the photo?", "What is the quality of the photo?", "How is the focus of the photo?",
         "How well is the photo focused?", "How clear is the photo?"),
        (),
        {"yes": "the photo is blurry", "no": "the photo is sharp"}, 0.2,
    ),
}  # fmt: skip
AGE = tuple(text for text in wordings.AGE if not text.endswith("{p} about?"))
AGE_FOLLOW = ("age",)


# --- Open: several attributes tell --------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """An open question on attributes that are all known: those that are yes are joined and put in `some` for {l}."""

    words: dict[str, str]
    templates: tuple[str, ...]
    follow: tuple[str, ...]
    some: str
    none: str
    exclusive: bool = False
    only: str = ""  # the value of Male that the question is for


GROUPS: dict[str, Group] = {
    "texture": Group(
        {"Wavy_Hair": "wavy", "Straight_Hair": "straight"},
        ("What is the texture of the hair?", "What is the texture of {p's} hair?", "How does the hair fall?",
         "What texture does {p's} hair have?", "What hair texture is this?"),
        ("hair texture",), "the hair is {l}", "the hair is neither wavy nor straight", exclusive=True,
    ),
    "brows": Group(
        {"Arched_Eyebrows": "arched", "Bushy_Eyebrows": "bushy"},
        ("What are {p's} eyebrows like?", "What do the eyebrows look like?", "Describe the eyebrows.",
         "How are the eyebrows shaped?", "What kind of eyebrows does {p} have?"),
        ("eyebrows",), "the eyebrows are {l}", "the eyebrows are neither arched nor bushy",
    ),
    "nose": Group(
        {"Big_Nose": "big", "Pointy_Nose": "pointy"},
        ("What is {p's} nose like?", "What does the nose look like?", "Describe the nose.",
         "How is the nose shaped?", "What kind of nose does {p} have?"),
        ("nose",), "the nose is {l}", "the nose is neither big nor pointy",
    ),
    "face": Group(
        {"Oval_Face": "oval", "Chubby": "chubby"},
        ("What shape is the face?", "What is the shape of {p's} face?", "Describe the shape of the face.",
         "What kind of face shape does {p} have?", "How is the face shaped?"),
        ("face shape",), "the face is {l}", "the face is neither oval nor chubby",
    ),
    "cheeks": Group(
        {"High_Cheekbones": "high cheekbones", "Rosy_Cheeks": "rosy cheeks"},
        ("What are {p's} cheeks like?", "What do the cheeks look like?", "Describe the cheeks.",
         "What stands out about the cheeks?", "What can be said of the cheeks?"),
        ("cheeks",), "{s} has {l}", "{s} has neither high cheekbones nor rosy cheeks",
    ),
    "around the eyes": Group(
        {"Bags_Under_Eyes": "bags under the eyes", "Narrow_Eyes": "narrow eyes"},
        ("What stands out about the eyes?", "What can be said of the eyes and what is around them?",
         "What do you notice about {p's} eyes?", "What marks the region around the eyes?",
         "Describe the region around the eyes."),
        (), "{s} has {l}", "{s} has neither bags under the eyes nor narrow eyes",
    ),
    "forehead": Group(
        {"Bangs": "bangs", "Receding_Hairline": "a receding hairline"},
        ("What is {p's} hairline like?", "What can be seen at the forehead?", "How is the hair over the forehead?",
         "Describe the hairline.", "What does the hairline look like?"),
        ("hairline",), "{s} has {l}", "{s} has neither bangs nor a receding hairline",
    ),
    "lower face": Group(
        {"Big_Lips": "full lips", "Double_Chin": "a double chin"},
        ("What are the lips and the chin like?", "Describe the lips and the chin.",
         "What stands out about {p's} lips and chin?", "How do the lips and the chin look?",
         "What can be said of the lips and the chin?"),
        ("lips and chin",), "{s} has {l}", "{s} has neither full lips nor a double chin",
    ),
    "make-up": Group(
        {"Heavy_Makeup": "heavy makeup", "Wearing_Lipstick": "lipstick"},
        ("What makeup is {p} wearing?", "What make-up does {p} wear?", "How is {p} made up?",
         "Which makeup can be seen?", "Describe {p's} makeup."),
        ("makeup",), "{s} is wearing {l}", "{s} is wearing neither heavy makeup nor lipstick", only="no",
    ),
    "jewellery": Group(
        {"Wearing_Earrings": "earrings", "Wearing_Necklace": "a necklace"},
        ("What jewellery is {p} wearing?", "What jewelry does {p} wear?", "Which jewellery can be seen?",
         "Describe {p's} jewelry.", "What jewelry does {p} have on?"),
        ("jewellery", "jewelry"), "{s} is wearing {l}", "{s} is wearing neither earrings nor a necklace",
    ),
}  # fmt: skip
BEARD = wordings.BEARD
BEARD_FOLLOW = ("facial hair",)
WORN = (
    "Which accessories is {p} wearing?", "Which accessories does {p} wear?", "Which accessories can be seen?",
    "What accessories does {p} have?", "What accessories is {p} wearing?", "Name the accessories {p} is wearing.",
)  # fmt: skip
WORN_FOLLOW = ("accessories",)

# --- Choice -------------------------------------------------------------------------------------------

CHOICE: dict[str, tuple[str, ...]] = {
    "Hair_Color": ("Is the hair {a} or {b}?", "Is {p's} hair {a} or {b}?", "{A} or {b} hair?",
                   "Does {p} have {a} or {b} hair?", "Which is it, {a} or {b} hair?"),
    "Emotion": ("Does {p} look {a} or {b}?", "Is {p} {a} or {b}?", "{A} or {b}?", "Is the expression {a} or {b}?",
                "Would you say {p} looks {a} or {b}?"),
    "Age_Group": ("Is this {a} or {b}?", "Is the person {a} or {b}?", "{A} or {b}?",
                  "Is this person {a} or {b}?", "Which fits better: {a} or {b}?"),
    "Head_Pose": ("Is {p} {a} or {b}?", "Is {p} {a} in this photo, or {b}?", "{A} or {b}?",
                  "Would you say {p} is {a} or {b}?", "Which is right: {a} or {b}?"),
    "Mouth_Action": ("Is this {a} or {b}?", "Does {p} have {a} or {b}?", "{A} or {b}?",
                     "Is {p} giving {a} or {b}?", "Which is it: {a} or {b}?"),
    "Eyes": ("Are the eyes {a} or {b}?", "Are {p's} eyes {a} or {b}?", "Would you say the eyes are {a} or {b}?",
             "Are the eyes {a} in this photo, or {b}?", "Which is right, are the eyes {a} or {b}?"),
    "Skin_Tone": ("Is the complexion {a} or {b}?", "Is the skin {a} or {b}?", "Is {p's} complexion {a} or {b}?",
                  "Does the skin look {a} or {b}?", "Would you call the complexion {a} or {b}?"),
    "Male": ("Is this {a} or {b}?", "Is the person {a} or {b}?", "{A} or {b}?", "Do we see {a} or {b}?",
             "Is this person {a} or {b}?"),
}  # fmt: skip
_WORN_CHOICE = (
    "Is {p} wearing {x} or not?", "With or without {x}?", "Does {p} wear {x} or not?", "Is {p} with or without {x}?",
    "Does {p} have {x} on or not?",
)  # fmt: skip
BINARY_CHOICE: dict[str, tuple[str, ...]] = {
    **{name: tuple(text.replace("{x}", term) for text in _WORN_CHOICE) for name, term in wordings.WEARABLES.items()},
    "Smiling": ("Is {p} smiling or not?", "Smiling or not?", "Does {p} smile or not?", "With or without a smile?",
                "Is {p} smiling in this photo or not?"),
    "Mouth_Slightly_Open": ("Is the mouth open or closed?", "Mouth open or closed?", "Is {p's} mouth open or closed?",
                            "Is the mouth closed or open?", "Does {p} have the mouth open or closed?"),
    "Young": ("Is {p} young or older?", "Young or older?", "Would you say {p} is young or older?",
              "Does {p} look young or older?", "Is the face young or older?"),
    "No_Beard": ("Is {p} bearded or clean-shaven?", "Bearded or clean-shaven?", "With or without a beard?",
                 "Is {p} with or without a beard?", "Does {p} have a beard or not?"),
    "Blurry": ("Is the photo sharp or blurry?", "Is the photo blurry or sharp?", "Sharp or blurry?",
               "Is the picture sharp or blurry?", "Would you call the photo sharp or blurry?"),
}  # fmt: skip
TEXTURE_CHOICE = (
    "Is the hair wavy or straight?", "Is the hair straight or wavy?", "Is {p's} hair wavy or straight?",
    "Wavy or straight hair?", "Does {p} have straight or wavy hair?",
)  # fmt: skip

# --- Counting and comparison --------------------------------------------------------------------------

NUMBERS = ("none", "one", "two", "three", "four", "five")
ACCESSORIES = (
    "How many accessories is {p} wearing?", "How many accessories does {p} wear?", "How many accessories can be seen?",
    "How many accessories does {p} have on?", "How many accessories are there?",
)  # fmt: skip
COUNT = (
    "How many of these does {p} have: {l}?", "How many of these can be seen: {l}?", "How many of these are there: {l}?",
    "Of these, how many does {p} have: {l}?", "How many of the following can be seen: {l}?",
)  # fmt: skip
# What is counted: attribute -> the term; a beard is there where No_Beard says no.
COUNTED: dict[str, str] = {
    "Eyeglasses": "glasses", "Wearing_Hat": "a hat", "Wearing_Earrings": "earrings",
    "Wearing_Necklace": "a necklace", "Wearing_Necktie": "a necktie", "Wearing_Lipstick": "lipstick",
    "No_Beard": "a beard", "Mustache": "a mustache", "Goatee": "a goatee", "Sideburns": "sideburns",
    "5_o_Clock_Shadow": "stubble", "Bangs": "bangs", "Smiling": "a smile", "Mouth_Slightly_Open": "an open mouth",
    "Double_Chin": "a double chin", "Rosy_Cheeks": "rosy cheeks", "High_Cheekbones": "high cheekbones",
    "Bags_Under_Eyes": "bags under the eyes", "Bushy_Eyebrows": "bushy eyebrows",
    "Arched_Eyebrows": "arched eyebrows", "Receding_Hairline": "a receding hairline",
}  # fmt: skip
NOT_FOR_WOMEN = ("No_Beard", "Mustache", "Goatee", "Sideburns", "5_o_Clock_Shadow", "Wearing_Necktie")
NOT_FOR_MEN = ("Wearing_Lipstick", "Heavy_Makeup")

CLOSER = (
    "Is {p} closer to {a} or to {b}?", "Is {p} nearer to {a} or to {b}?", "Is {p's} age closer to {a} or to {b}?",
    "Does {p} look closer to {a} or to {b}?", "Which age is closer: {a} or {b}?",
)  # fmt: skip
OLDER = (
    "Does {p} look younger or older than {n}?", "Is {p} younger or older than {n}?", "Younger or older than {n}?",
    "Is {p} older or younger than {n}?", "Would you say {p} is younger or older than {n}?",
)  # fmt: skip
OLDER_YES_NO = (
    "Is {p} older than {n}?", "Does {p} look older than {n}?", "Older than {n}?",
    "Would you say {p} is older than {n}?", "Is this person older than {n}?",
)  # fmt: skip
WHICH = (
    "Which is true: {a} or {b}?", "Which of the two is true: {a} or {b}?", "What is the case: {a} or {b}?",
    "Which one is right: {a} or {b}?", "Which one holds: {a} or {b}?",
)  # fmt: skip
BOTH = (
    "Are both true: {a}, and {b}?", "Is it true that {a} and that {b}?", "Do both hold: {a}, and {b}?",
    "Is it right that {a} and that {b}?", "Would you say that {a} and that {b}?",
)  # fmt: skip
# What two-attribute comparisons may be about, beyond what is counted.
COMPARED = (
    "Smiling", "Mouth_Slightly_Open", "Eyeglasses", "Wearing_Hat", "Wearing_Earrings", "Wearing_Necklace",
    "Wearing_Necktie", "Wearing_Lipstick", "Bangs", "Mustache", "Goatee", "Sideburns", "Wavy_Hair", "Black_Hair",
    "Blond_Hair", "Brown_Hair", "Gray_Hair", "Rosy_Cheeks", "High_Cheekbones", "Bushy_Eyebrows", "Bags_Under_Eyes",
)  # fmt: skip

# --- Reasoning ----------------------------------------------------------------------------------------

EMOTION_WHY = (
    "What emotion does {p} show, and why do you think so?", "How does {p} feel, and what tells you?",
    "What is {p's} expression, and how can you tell?", "What mood is {p} in, and what shows it?",
    "Which emotion is this, and why?", "Why does {p} look {x}?", "What tells you that {p} looks {x}?",
    "How can you tell that {p} looks {x}?", "What shows that {p} looks {x}?", "Why is the expression {x}?",
)  # fmt: skip
MOOD = (
    "Does {p} look cheerful or serious, and why?", "Cheerful or serious, and why?",
    "Would you say {p} looks serious or cheerful, and what tells you?",
    "Does the face look serious or cheerful, and how can you tell?", "Is {p} cheerful or serious, and what shows it?",
)  # fmt: skip
SPEECH = (
    "Could {p} be speaking, and why?", "Might {p} be speaking right now, and what tells you?",
    "Is it possible that {p} is speaking, and why?", "May {p} be speaking in this photo, and how can you tell?",
    "Is {p} perhaps speaking, and what shows it?",
)  # fmt: skip
LAUGHTER = (
    "Could {p} be laughing, and why?", "Might {p} be laughing, and what tells you?",
    "Is it possible that {p} is laughing, and why?", "May {p} be laughing in this photo, and how can you tell?",
    "Is {p} perhaps laughing, and what shows it?",
)  # fmt: skip
SIGHT = (
    "Are the eyes visible, and why?", "Are {p's} eyes visible or hidden, and why?",
    "Are the eyes hidden, and how can you tell?", "Can {p's} eyes be seen, and why?",
    "Are {p's} eyes hidden in this photo, and what shows it?",
)  # fmt: skip
WHY_FOLLOW = ("Why do you think so?", "How can you tell?", "What tells you that?", "Why?", "What shows it?")

# --- Dialogues ----------------------------------------------------------------------------------------

FOLLOW_NOUN = ("And {p's} {x}?", "What about {p's} {x}?", "And what about {p's} {x}?")
FOLLOW_THING = ("And {x}?", "What about {x}?", "And what about {x}?")
FOLLOW_HAIR = ("Is it {x}?", "And is it {x}?", "And {x}?", "Would you call it {x}?", "And would you call it {x}?")
HAIR_WORDS = {"Black_Hair": "black", "Blond_Hair": "blond", "Brown_Hair": "brown", "Gray_Hair": "gray",
              "Wavy_Hair": "wavy", "Straight_Hair": "straight"}  # fmt: skip

# --- Unanswerable -------------------------------------------------------------------------------------

DECLINED = (
    "That cannot be told from what is known about this photo.",
    "What is known about this photo does not tell that.",
    "That is not known for this photo.",
    "There is no telling from what is known about this photo.",
    "I cannot tell that from what is known about this photo.",
)
IDENTITY_DECLINED = (
    "I do not identify people.",
    "I do not say who a person is.",
    "I do not name people in photos.",
    "Who this is cannot be told from what is known about this photo.",
    "I cannot tell who this is.",
)


@dataclass(frozen=True)
class Outside:
    """A question on what no label tells."""

    family: Family
    templates: tuple[str, ...]
    identity: bool = False


def _has(thing: str, plural: str) -> tuple[str, ...]:
    """Wordings on a thing that may be seen on the person."""
    return (f"Is there {thing}?", f"Does {{p}} have {thing}?", f"Any {plural}?", f"Can you see {thing}?",
            f"Has {{p}} got {thing}?")  # fmt: skip


OUTSIDE: tuple[Outside, ...] = (
    Outside(
        "appearance",
        ("What is {p's} name?", "Who is this?", "Who is {p}?", "What is {p} called?", "Can you identify this person?",
         "Do you know {p's} name?", "Is {p} famous?"),
        identity=True,
    ),
    Outside(
        "appearance",
        ("What colour are the eyes?", "What color are {p's} eyes?", "What is the eye colour?",
         "Which color do the eyes have?", "What eye color does {p} have?"),
    ),
    Outside("appearance", _has("a tattoo", "tattoos")),
    Outside("appearance", _has("a scar", "scars")),
    Outside("appearance", (*_has("a freckle", "freckles")[2:3], "Are there freckles?", "Does {p} have freckles?",
                           "Can you see freckles?", "Has {p} got freckles?")),
    Outside("appearance", _has("a piercing", "piercings")),
    Outside("appearance", _has("a scarf", "scarves")),
    Outside("appearance", ("How tall is {p}?", "What is {p's} height?", "Is {p} tall?", "Is {p} tall or short?",
                           "How tall might {p} be?")),
    Outside("appearance", ("What is {p's} job?", "What is {p's} profession?", "What does {p} do for a living?",
                           "Where does {p} work?", "What work does {p} do?")),
    Outside("appearance", ("Is {p} married?", "Does {p} have children?", "Does {p} have a partner?",
                           "Is {p} a parent?", "Does {p} have brothers or sisters?")),
    Outside("appearance", ("Where was this photo taken?", "In which place is this?", "What place is this?",
                           "In which city was this photo taken?", "Where is {p}?")),
    Outside("appearance", ("When was this photo taken?", "What is the date of this photo?",
                           "In which year was this taken?",
                           "What day was this photo taken?", "In what season was this photo taken?")),
    Outside("appearance", ("Who took this photo?", "Which camera took this photo?", "What camera was used?",
                           "Who is the photographer?", "Was this photo taken by a photographer?")),
    Outside("appearance", ("What shoes is {p} wearing?", "What are {p's} shoes like?", "Is {p} wearing shoes?",
                           "Which shoes does {p} wear?", "What colour are the shoes?")),
    Outside("appearance", ("Is the hair dyed?", "Is {p's} hair dyed?", "Has {p} got dyed hair?", "Dyed hair?",
                           "Does {p} have dyed hair?")),
    Outside("appearance", ("Is {p} wearing contact lenses?", "Does {p} wear contact lenses?", "Any contact lenses?",
                           "Are there contact lenses?", "Does {p} have contact lenses?")),
    Outside("emotion", ("What is {p} thinking?", "What is {p} thinking about?", "What does {p} think?",
                        "Which thoughts does {p} have?", "What thought is on {p's} mind?")),
    Outside("emotion", ("What caused this mood?", "What has caused this expression?", "What happened before the photo?",
                        "What caused this feeling?", "What has just happened?")),
    Outside("emotion", ("Is {p} tired?", "Does {p} feel tired?", "Is {p} hungry?", "Does {p} feel hungry?",
                        "Is {p} tired or rested?")),
    Outside("emotion", ("Does {p} like the photographer?", "Does {p} like being in this photo?",
                        "What music does {p} like?", "What food does {p} like?", "What does {p} like to do?")),
    Outside("action", ("What is {p} saying?", "What does {p} say?", "Which words does {p} say?",
                       "What has {p} just said?", "What words is {p} saying?")),
    Outside("action", ("What is {p} holding?", "What do {p's} hands do?", "What is in {p's} hands?",
                       "Is {p} holding something?", "What are {p's} hands doing?")),
    Outside("action", ("What will {p} do next?", "What happens next?", "Where will {p} go next?",
                       "What does {p} do next?", "What will happen next?")),
    Outside("action", ("Is {p} sitting or standing?", "Is {p} standing?", "Is {p} sitting?", "Sitting or standing?",
                       "Does {p} sit or stand?")),
    Outside("action", ("Who is {p} looking at?", "Whom does {p} look at?", "Who else is there?",
                       "To whom is {p} talking?", "Who is next to this person?")),
)  # fmt: skip
