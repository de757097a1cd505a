"""Words of the data factory's captions, all as data: what fills the slots of the sentences in `plans.py`."""

from __future__ import annotations

Pair = tuple[str, str]  # attribute, value

# Verbs after a singular and after a plural subject.
VERBS: dict[str, str] = {
    "is": "are", "has": "have", "wears": "wear", "smiles": "smile", "looks": "look", "keeps": "keep",
    "shows": "show", "does": "do", "gives": "give", "faces": "face", "seems": "seem", "appears": "appear",
    "goes": "go", "poses": "pose", "sports": "sport", "can": "can", "frames": "frame", "stands": "stand",
    "shapes": "shape", "marks": "mark", "belongs": "belong", "covers": "cover", "completes": "complete",
    "rounds": "round", "adds": "add", "holds": "hold", "turns": "turn", "tilts": "tilt", "lets": "let",
}  # fmt: skip

# (he, his, him) by value of Male; unknown: they, or "the person".
PRONOUNS: dict[str, tuple[str, str, str]] = {
    "yes": ("he", "his", "him"),
    "no": ("she", "her", "her"),
    "": ("they", "their", "them"),
}
GROWN: dict[str, tuple[str, ...]] = {
    "yes": ("man", "man", "man", "man", "gentleman"),
    "no": ("woman", "woman", "woman", "woman", "lady"),
    "": ("person",),
}
CHILDREN: dict[str, tuple[str, ...]] = {"yes": ("boy",), "no": ("girl",), "": ("child", "child", "kid")}
# Age words before the noun, and phrases after it.
YOUNG: dict[str, tuple[str, ...]] = {"yes": ("young",), "no": ("older", "older", "mature")}
AGES: dict[str, tuple[str, ...]] = {
    "child": (),  # the noun says it
    "teenager": ("teenage", "teenage", "adolescent"),
    "young adult": ("young adult",),
    "middle-aged": ("middle-aged",),
    "senior": ("elderly", "old", "senior"),
}
AGES_AFTER: dict[str, tuple[str, ...]] = {
    "teenager": ("in {p} teens",),
    "young adult": ("in {p} twenties or early thirties",),
    "middle-aged": ("of middle age",),
    "senior": ("in {p} sixties or older",),
}

# Modifiers of the hair, the eyebrows and the nose: these merge with their noun.
MODIFIERS: dict[Pair, tuple[str, ...]] = {
    ("Black_Hair", "yes"): ("black",),
    ("Brown_Hair", "yes"): ("brown",),
    ("Blond_Hair", "yes"): ("blond", "blond", "blonde"),
    ("Gray_Hair", "yes"): ("gray", "gray", "grey"),
    ("Hair_Color", "red"): ("red", "red", "ginger"),
    ("Wavy_Hair", "yes"): ("wavy", "wavy", "softly wavy"),
    ("Straight_Hair", "yes"): ("straight",),
    ("Bushy_Eyebrows", "yes"): ("bushy", "bushy", "thick"),
    ("Arched_Eyebrows", "yes"): ("arched", "arched", "gently arched"),
    ("Big_Nose", "yes"): ("big", "large"),
    ("Pointy_Nose", "yes"): ("pointed", "pointy"),
}
COLORS = ("Black_Hair", "Brown_Hair", "Blond_Hair", "Gray_Hair")
TEXTURES = ("Wavy_Hair", "Straight_Hair")

# topic -> pair -> things a face has, wears or lacks. Plain wordings are repeated to be commoner.
THINGS: dict[str, dict[Pair, tuple[str, ...]]] = {
    "hair": {
        ("Bangs", "yes"): ("bangs", "bangs", "a fringe"),
        ("Receding_Hairline", "yes"): ("a receding hairline",),
    },
    "features": {
        ("Bags_Under_Eyes", "yes"): ("bags under {p} eyes", "bags under {p} eyes", "bags beneath {p} eyes"),
        ("Narrow_Eyes", "yes"): ("narrow eyes", "rather narrow eyes"),
        ("High_Cheekbones", "yes"): ("high cheekbones",),
        ("Rosy_Cheeks", "yes"): ("rosy cheeks", "rosy cheeks", "pink cheeks", "flushed cheeks"),
        ("Chubby", "yes"): ("chubby cheeks", "a chubby face", "plump cheeks"),
        ("Pale_Skin", "yes"): ("pale skin", "pale skin", "a pale complexion", "fair skin"),
        ("Skin_Tone", "even"): ("an even complexion", "an even skin tone"),
        ("Big_Lips", "yes"): ("full lips", "full lips", "big lips"),
        ("Oval_Face", "yes"): ("an oval face", "an oval face", "an oval-shaped face"),
        ("Double_Chin", "yes"): ("a double chin",),
    },
    "beard": {
        ("No_Beard", "no"): ("a beard",),
        ("Goatee", "yes"): ("a goatee",),
        ("Mustache", "yes"): ("a mustache", "a mustache", "a moustache"),
        ("Sideburns", "yes"): ("sideburns",),
        ("5_o_Clock_Shadow", "yes"): ("stubble", "light stubble", "a five o'clock shadow"),
    },
    "worn": {
        ("Eyeglasses", "yes"): ("glasses", "glasses", "eyeglasses", "spectacles", "a pair of glasses"),
        ("Wearing_Hat", "yes"): ("a hat",),
        ("Wearing_Earrings", "yes"): ("earrings", "earrings", "a pair of earrings"),
        ("Wearing_Necklace", "yes"): ("a necklace",),
        ("Wearing_Necktie", "yes"): ("a tie", "a necktie"),
        ("Heavy_Makeup", "yes"): ("heavy makeup", "heavy makeup", "a lot of makeup"),
        ("Wearing_Lipstick", "yes"): ("lipstick",),
    },
    "lack_worn": {
        ("Eyeglasses", "no"): ("glasses", "glasses", "eyeglasses", "spectacles"),
        ("Wearing_Hat", "no"): ("a hat",),
        ("Wearing_Earrings", "no"): ("earrings",),
        ("Wearing_Necklace", "no"): ("a necklace",),
        ("Wearing_Necktie", "no"): ("a tie", "a necktie"),
        ("Heavy_Makeup", "no"): ("heavy makeup",),
        ("Wearing_Lipstick", "no"): ("lipstick",),
    },
    "lack_beard": {
        ("No_Beard", "yes"): ("a beard",),
        ("Mustache", "no"): ("a mustache", "a mustache", "a moustache"),
        ("Goatee", "no"): ("a goatee",),
        ("Sideburns", "no"): ("sideburns",),
        ("5_o_Clock_Shadow", "no"): ("stubble", "a five o'clock shadow"),
    },
    "lack_marks": {
        ("Bangs", "no"): ("bangs",),
        ("Receding_Hairline", "no"): ("a receding hairline",),
        ("Bags_Under_Eyes", "no"): ("bags under {p} eyes", "bags beneath {p} eyes"),
        ("Double_Chin", "no"): ("a double chin",),
    },
    "state": {
        ("Bald", "yes"): ("bald",),
        ("No_Beard", "yes"): ("clean-shaven",),
        ("Wearing_Hat", "no"): ("bareheaded", "hatless"),
    },
    "eyes": {("Eyes", "open"): ("open",)},
    "photo": {
        ("Blurry", "no"): ("in focus", "in sharp focus", "sharp"),
        ("Blurry", "yes"): ("slightly out of focus", "a little blurry", "blurry"),
    },
}
SUNGLASSES = ("sunglasses", "sunglasses", "a pair of sunglasses")

# subject and verb -> what it is said not to be
DENIALS: dict[str, dict[Pair, tuple[str, ...]]] = {
    "{p} nose is": {("Big_Nose", "no"): ("big", "large"), ("Pointy_Nose", "no"): ("pointed", "pointy")},
    "{p} eyebrows are": {("Bushy_Eyebrows", "no"): ("bushy", "thick"), ("Arched_Eyebrows", "no"): ("arched",)},
    "{p} lips are": {("Big_Lips", "no"): ("full",)},
    "{p} eyes are": {("Narrow_Eyes", "no"): ("narrow",)},
    "{p} face is": {("Oval_Face", "no"): ("oval",), ("Chubby", "no"): ("chubby",)},
    "{p} cheekbones are": {("High_Cheekbones", "no"): ("high",)},
    "{p} cheeks are": {("Rosy_Cheeks", "no"): ("rosy",)},
    "{p} skin is": {("Pale_Skin", "no"): ("pale",)},
    "{s} {is}": {("Bald", "no"): ("bald",)},
    "{p} hair is": {
        ("Wavy_Hair", "no"): ("wavy",),
        ("Black_Hair", "no"): ("black",),
        ("Brown_Hair", "no"): ("brown",),
        ("Blond_Hair", "no"): ("blond",),
        ("Gray_Hair", "no"): ("gray", "grey"),
    },
}

# (Smiling, Mouth_Slightly_Open) -> verb phrases, participle phrases; "" is left unsaid
Mouth = tuple[tuple[str, ...], tuple[str, ...]]
MOUTHS: dict[tuple[str, str], Mouth] = {
    ("yes", "yes"): (
        ("{is} smiling with an open mouth", "{is} smiling with parted lips", "{smiles} with {p} mouth slightly open",
         "{gives} an open-mouthed smile", "{smiles} with {p} lips parted"),
        ("smiling with an open mouth", "smiling with parted lips", "smiling with {p} mouth slightly open"),
    ),
    ("yes", "no"): (
        ("{is} smiling with a closed mouth", "{smiles} with closed lips", "{smiles} with {p} mouth closed",
         "{gives} a closed-mouth smile"),
        ("smiling with a closed mouth", "smiling with closed lips", "smiling with {p} mouth closed"),
    ),
    ("yes", ""): (
        ("{is} smiling", "{smiles}", "{has} a smile on {p} face", "{is} smiling"),
        ("smiling", "smiling", "with a smile on {p} face"),
    ),
    ("no", "yes"): (
        ("{has} {p} mouth slightly open without smiling", "{has} parted lips but no smile",
         "{is} not smiling but {has} {p} mouth slightly open"),
        ("not smiling but with {p} mouth slightly open", "with parted lips but without a smile"),
    ),
    ("no", "no"): (
        ("{keeps} {p} mouth closed without smiling", "{is} not smiling and {keeps} {p} mouth closed",
         "{has} a closed mouth and no smile", "{keeps} {p} lips closed and {does} not smile"),
        ("not smiling and with a closed mouth", "with closed lips and without a smile",
         "with {p} mouth closed and no smile"),
    ),
    ("no", ""): (("{is} not smiling", "{does} not smile", "{shows} no smile"), ("not smiling", "without a smile")),
    ("", "yes"): (
        ("{has} {p} mouth slightly open", "{has} {p} lips parted", "{keeps} {p} mouth slightly open"),
        ("with {p} mouth slightly open", "with parted lips"),
    ),
    ("", "no"): (
        ("{has} {p} mouth closed", "{keeps} {p} mouth closed", "{keeps} {p} lips closed"),
        ("with {p} mouth closed", "with closed lips"),
    ),
}  # fmt: skip

# emotion -> adjectives that "looks" takes, words before "expression"
EMOTIONS_SAID: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "neutral": ((), ("neutral", "neutral", "serious")),
    "happiness": (("happy", "happy", "cheerful", "joyful"), ("happy", "cheerful", "joyful")),
    "surprise": (("surprised",), ("surprised",)),
    "anger": (("angry",), ("angry",)),
    "sadness": (("sad",), ("sad",)),
    "contempt": (("contemptuous",), ("contemptuous",)),
    "disgust": (("disgusted",), ("disgusted",)),
    "fear": (("frightened", "scared"), ("frightened", "fearful")),
}
EXPRESSIONS = ("expression", "expression", "look")

# head pose -> verb phrases, participle phrases
POSES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "facing forward": (
        ("{faces} the camera", "{is} facing the camera", "{looks} straight ahead", "{is} facing forward"),
        ("facing the camera", "looking straight ahead", "facing forward"),
    ),
    "turned to the side": (
        ("{has} {p} head turned to the side", "{is} turned to the side", "{looks} to the side"),
        ("with {p} head turned to the side", "looking to the side", "turned to the side"),
    ),
    "tilted up": (
        ("{has} {p} head tilted up", "{looks} up", "{is} looking up"),
        ("with {p} head tilted up", "looking up"),
    ),
    "tilted down": (
        ("{has} {p} head tilted down", "{looks} down", "{is} looking down"),
        ("with {p} head tilted down", "looking down"),
    ),
}

# How willingly a dense caption adds what is not there, and the plainest of what is; the rest counts 1.
WILLING: dict[Pair, float] = {
    ("Smiling", "no"): 9.0, ("Mouth_Slightly_Open", "no"): 5.0, ("No_Beard", "yes"): 6.0, ("Eyeglasses", "no"): 4.0,
    ("Wearing_Hat", "no"): 4.0, ("Wearing_Earrings", "no"): 3.0, ("Wearing_Necklace", "no"): 2.5,
    ("Wearing_Necktie", "no"): 2.5, ("Mustache", "no"): 3.0, ("Goatee", "no"): 2.0, ("5_o_Clock_Shadow", "no"): 2.0,
    ("Sideburns", "no"): 2.0, ("Bangs", "no"): 2.5, ("Bags_Under_Eyes", "no"): 2.0, ("Heavy_Makeup", "no"): 2.0,
    ("Wearing_Lipstick", "no"): 2.0, ("Skin_Tone", "even"): 2.0, ("Eyes", "open"): 2.0, ("Blurry", "no"): 1.2,
    ("Bald", "no"): 1.5,
    ("High_Cheekbones", "no"): 0.4, ("Oval_Face", "no"): 0.5, ("Wavy_Hair", "no"): 0.4, ("Pale_Skin", "no"): 0.6,
    ("Narrow_Eyes", "no"): 0.5, ("Rosy_Cheeks", "no"): 0.6, ("Big_Lips", "no"): 0.6,
}  # fmt: skip

PREFIXES: tuple[str, ...] = (
    "", "", "", "", "", "", "", "portrait of ", "a portrait of ", "photo of ", "a photo of ", "a close-up of ",
)  # fmt: skip
