"""Reading a caption back: which attributes a text states, found by spotting phrases.

Nothing here knows how captions are made, so free rewrites can be read too. Three finders work on the words
of the text, articles and mere adverbs left out:

    phrases     "five o'clock shadow", "a hat", "clean-shaven": the longest phrase at each place
    modifiers   "wavy brown hair", "the nose is big and pointed": words around a noun of the face
    people      "she", "boy", "a 45-year-old"

A denial ("no", "without", "neither", "isn't") reaches to the end of its clause: through "or" and lists
that end in "or", not past "and", "but", "with" or a verb. Of what was found, an attribute that is
stated with two different values is stated by neither; `derive` adds what follows (black hair: `Hair_Color`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from unif2ace_core.data.attributes import BY_NAME, age_group, derive

Statement = tuple[str, str]  # attribute, value
_Meaning = tuple[tuple[Statement, ...], tuple[Statement, ...]]  # as it stands, denied

# --- What phrases mean: value, then its phrases ------------------------------------------------------------

# Denied, a binary value turns into the other one; of anything else a denial says nothing.
_PHRASES: tuple[tuple[str, str], ...] = (
    ("Eyeglasses=yes", "glasses|eyeglasses|eye glasses|spectacles|eyewear|bespectacled"),
    ("Eyeglasses=yes & Eyes=behind sunglasses", "sunglasses|dark glasses|sun glasses"),
    ("Wearing_Hat=yes", "hat|cap|hats|headwear"),
    ("Wearing_Hat=no", "bareheaded|bare headed|hatless|head bare|nothing on head|bare head"),
    ("Wearing_Earrings=yes", "earrings|earring"),
    ("Wearing_Necklace=yes", "necklace|necklaces"),
    ("Wearing_Necktie=yes", "tie|necktie"),
    ("Wearing_Lipstick=yes", "lipstick"),
    ("Heavy_Makeup=yes", "makeup|make up|heavy makeup|heavy make up"),
    ("", "light makeup|subtle makeup|minimal makeup|natural makeup|no doubt|not only|makes up|hair tie"),
    ("Bangs=yes", "bangs|fringe"),
    ("Receding_Hairline=yes", "receding hairline|receding hair line|hairline recedes"),
    ("Bald=yes", "bald|bald head|bald headed|no hair"),
    ("Bald=no", "full head of"),
    ("Wavy_Hair=yes", "waves|in waves|falls in waves"),
    ("No_Beard=no", "beard|bearded|facial hair|beards"),
    ("No_Beard=yes", "clean shaven|beardless|cleanly shaven"),
    ("Goatee=yes", "goatee"),
    ("Goatee=yes & No_Beard=no", "goatee beard"),
    ("Mustache=yes", "mustache|mustached"),
    ("Sideburns=yes", "sideburns"),
    ("5_o_Clock_Shadow=yes", "stubble|stubbly|5 o'clock shadow|five o'clock shadow"),
    ("Bags_Under_Eyes=yes", "bags under eyes|bags beneath eyes|bags below eyes|eye bags|under eye bags"),
    ("Double_Chin=yes", "double chin"),
    ("Chubby=yes", "chubby"),
    ("Smiling=yes", "smiling|smile|smiles|smiled|grin|grins|grinning"),
    ("Smiling=no", "unsmiling"),
    ("Mouth_Slightly_Open=yes", "open mouthed"),
    ("Smiling=yes & Mouth_Slightly_Open=yes", "open mouthed smile|open mouth smile|open smile"),
    ("Smiling=yes & Mouth_Slightly_Open=no", "closed mouth smile|closed smile|closed mouthed smile"),
    ("Emotion=happiness", "happy|happily|happiness|cheerful|cheerfully|joyful|joy"),
    ("Emotion=neutral", "neutral|serious expression|serious look|serious face"),
    ("Emotion=surprise", "surprise|surprised"),
    ("Emotion=anger", "anger|angry|angrily"),
    ("Emotion=sadness", "sad|sadness|sadly"),
    ("Emotion=contempt", "contempt|contemptuous"),
    ("Emotion=disgust", "disgust|disgusted"),
    ("Emotion=fear", "fear|fearful|frightened|scared|afraid"),
    ("Head_Pose=facing forward", "facing camera|faces camera|face camera|facing forward|faces forward|face forward"),
    ("Head_Pose=facing forward", "straight ahead|at camera|into camera|towards camera|toward camera"),
    ("Head_Pose=turned to the side", "turned to side|looks to side|look to side|looking to side|turned sideways"),
    ("Head_Pose=turned to the side", "side view|head turned|turned aside|looking sideways|looks sideways"),
    ("Head_Pose=tilted up", "looking up|looks up|look up|tilted up|tilted upward|tilted upwards|looking upward"),
    ("Head_Pose=tilted down", "looking down|looks down|look down|tilted down|tilted downward|tilted downwards"),
    ("Blurry=yes", "out of focus|blurry|blurred"),
    ("Blurry=no", "in focus|in sharp focus"),
    ("Young=yes", "young|youthful"),
    ("Young=no", "older|mature|no longer young|past youth"),
    ("Age_Group=young adult", "young adult|young adults|in twenties|in twenties or early thirties|in early thirties"),
    ("Age_Group=teenager", "teenager|teenage|teen|teens|adolescent|in teens|teenage boy|teenage girl"),
    ("Age_Group=teenager", "adolescent boy|adolescent girl|teen boy|teen girl"),
    ("Age_Group=middle-aged", "middle aged|middle age|in forties|in fifties|in late thirties"),
    ("Age_Group=senior", "elderly|old|senior|in sixties|in seventies|in eighties|in sixties or older|aged"),
    ("Age_Group=child", "child|baby|infant|toddler|kid|children"),
)

# nouns of the face -> value and the words around the noun that state it
_MODIFIERS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "hair|haired",
        (
            ("Black_Hair=yes", "black"), ("Brown_Hair=yes", "brown"), ("Blond_Hair=yes", "blond|golden"),
            ("Gray_Hair=yes", "gray|silver"), ("Hair_Color=red", "red|ginger"), ("Wavy_Hair=yes", "wavy"),
            ("Straight_Hair=yes", "straight"),
        ),
    ),
    ("nose", (("Big_Nose=yes", "big|large"), ("Pointy_Nose=yes", "pointed|pointy"))),
    (
        "eyebrows|eyebrow|brows|brow",
        (("Bushy_Eyebrows=yes", "bushy|thick"), ("Arched_Eyebrows=yes", "arched")),
    ),
    ("eyes", (("Narrow_Eyes=yes", "narrow|narrowed"), ("Eyes=open", "open"))),
    (
        "lips|lip",
        (
            ("Big_Lips=yes", "full|big|plump"), ("Mouth_Slightly_Open=yes", "parted|apart"),
            ("Mouth_Slightly_Open=no", "closed|shut"),
        ),
    ),
    ("mouth", (("Mouth_Slightly_Open=yes", "open|ajar"), ("Mouth_Slightly_Open=no", "closed|shut"))),
    ("cheeks", (("Rosy_Cheeks=yes", "rosy|pink|flushed"), ("Chubby=yes", "plump"))),
    ("cheekbones|cheekbone", (("High_Cheekbones=yes", "high"),)),
    ("face", (("Oval_Face=yes", "oval"), ("Chubby=yes", "plump"))),
    (
        "skin|complexion",
        (("Pale_Skin=yes", "pale|fair"), ("Rosy_Cheeks=yes", "rosy"), ("Skin_Tone=even", "even")),
    ),
    ("hairline", (("Receding_Hairline=yes", "receding"),)),
    ("photo|picture|image|portrait|shot|photograph|it", (("Blurry=no", "sharp"),)),
)  # fmt: skip


def _several(words: str) -> frozenset[str]:
    return frozenset(words.split())


_MEN = _several("he him his himself man men male gentleman guy boy")
_WOMEN = _several("she her hers herself woman women female lady girl")

# Children, unless another age is stated: a teenage boy, a girl aged 16.
_MINORS = _several("boy girl boys girls")

# --- Words that carry no attribute but decide how far others reach -------------------------------------------

_LEFT_OUT = _several(
    "a an the his her its their this that these both slightly very rather quite fairly somewhat clearly visibly "
    "softly gently lightly noticeably naturally neatly just also particularly especially really distinctly "
    "faintly barely color colored shaped about around roughly approximately"
)
_SPELLINGS = {
    "grey": "gray", "moustache": "mustache", "moustaches": "mustache", "mustaches": "mustache", "blonde": "blond",
    "colour": "color", "coloured": "colored", "cannot": "not", "lacks": "without", "lack": "without",
    "lacking": "without", "photograph": "photo", "goatees": "goatee",
}  # fmt: skip
_DENIALS = _several("no not without neither nor never none")
_STOPS = frozenset(".;:!?()")
_BREAKS = _several(
    "and but though although while whereas yet with who which whose he she they it has have had is are was were "
    "wears wear wearing looks look looking shows show appears appear keeps keep as because where"
)
# Between a denial and what it denies.
_LEADS = _several(
    "wear wears wearing worn have has having show shows showing do does is are be been being he she they it there "
    "any of sign signs trace traces hint with see seen to look looks looking appear appears even as so"
)
_JOINTS = _several(", and or nor neither not but yet no")
_FILLERS = _several(
    "long short soft natural neat loose smooth dark light shiny flowing warm well defined clear visible thin fine "
    "shoulder length medium healthy tidy"
)
_COPULAS = _several("is are was were look looks appear appears seem seems stay stays remain remains being")
_SPLIT = re.compile(r"\d+|[a-z]+(?:'[a-z]+)?|[.,;:!?()]")


def _words(text: str) -> list[str]:
    """Lower-case words and stops; hyphens part words, "isn't" becomes "is not", "woman's" becomes "woman"."""
    text = text.lower().replace("’", "'").replace("free of", "without").replace("free from", "without")
    text = text.replace("—", ";").replace("–", ";").replace(" - ", ";").replace("-", " ")
    text = re.sub(r"n't\b", " not", text)
    text = re.sub(r"(?<!o)'(?:s|re|ve|ll|d|m)\b", "", text)
    return [_SPELLINGS.get(word, word) for word in _SPLIT.findall(text)]


# --- The tables, made ready -----------------------------------------------------------------------------------


def _meaning(spec: str) -> _Meaning:
    """ "Name=value & Name=value" as statements; one binary value also has its opposite."""
    pairs = tuple((name, value) for name, _, value in (part.partition("=") for part in spec.split(" & ") if part))
    if len(pairs) == 1 and BY_NAME[pairs[0][0]].binary:
        return pairs, ((pairs[0][0], "no" if pairs[0][1] == "yes" else "yes"),)
    return pairs, ()


_Tree = dict[str, tuple[tuple[tuple[str, ...], _Meaning], ...]]


def _phrase_tree() -> _Tree:
    """First word -> phrases that start with it, longest first."""
    tree: dict[str, list[tuple[tuple[str, ...], _Meaning]]] = {}
    for spec, phrases in _PHRASES:
        for phrase in phrases.split("|"):
            words = tuple(phrase.split())
            tree.setdefault(words[0], []).append((words, _meaning(spec)))
    return {first: tuple(sorted(found, key=lambda entry: -len(entry[0]))) for first, found in tree.items()}


def _noun_table() -> dict[str, dict[str, _Meaning]]:
    table: dict[str, dict[str, _Meaning]] = {}
    for nouns, rows in _MODIFIERS:
        meanings = {word: _meaning(spec) for spec, words in rows for word in words.split("|")}
        table |= dict.fromkeys(nouns.split("|"), meanings)
    return table


_TREE = _phrase_tree()
_NOUNS = _noun_table()


# --- Reading --------------------------------------------------------------------------------------------------


def parse(text: str) -> dict[str, str]:
    """attribute -> value of all that `text` states, in the schema's order; contradictions state nothing."""
    words = _words(text)
    kept = [word for word in words if word not in _LEFT_OUT]
    statements = [*_people(words), *_Reader(kept).statements()]
    if not any(name == "Age_Group" for name, _ in statements) and any(word in _MINORS for word in words):
        statements.append(("Age_Group", "child"))
    values: dict[str, set[str]] = {}
    for name, value in statements:
        values.setdefault(name, set()).add(value)
    return closed({name: next(iter(found)) for name, found in values.items() if len(found) == 1})


def closed(stated: Mapping[str, str]) -> dict[str, str]:
    """What is stated and what follows from it, in the schema's order."""
    full = derive(stated)
    return {name: full[name] for name in BY_NAME if name in full}


def _people(words: Sequence[str]) -> Iterator[Statement]:
    """The gender of nouns and pronouns."""
    for word in words:
        if word in _MEN or word in _WOMEN:
            yield "Male", "yes" if word in _MEN else "no"


class _Reader:
    """One text: its kept words, which of them belong to a phrase, and which of them are denied."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self.taken = [False] * len(words)
        self.found: list[tuple[int, int, _Meaning]] = []  # first word, word after the last, meaning
        self._find_ages()
        self._find_phrases()
        self.denied = self._denied()

    def statements(self) -> Iterator[Statement]:
        """Everything stated, with repetitions."""
        for start, end, (plain, opposite) in self.found:
            denied = self.denied[start] or self._denied_after(end)
            yield from opposite if denied else plain
        for place, noun in enumerate(self.words):
            if noun in _NOUNS and not self.taken[place]:
                for where in (*self._before(place), *self._after(place)):
                    plain, opposite = _NOUNS[noun][self.words[where]]
                    yield from opposite if self.denied[where] else plain

    def _take(self, start: int, end: int, meaning: _Meaning) -> None:
        self.found.append((start, end, meaning))
        self.taken[start:end] = [True] * (end - start)

    def _find_ages(self) -> None:
        """ "45 years old", "45 year old", "aged 45", "45 years of age"."""
        words = self.words
        for place, word in enumerate(words):
            if not word.isdigit() or len(word) > 3:
                continue
            rest = words[place + 1 : place + 4]
            unit = rest[0] if rest[1:2] == ["old"] or rest[1:] == ["of", "age"] else ""
            after = place > 0 and words[place - 1] in ("aged", "age")
            if after or unit in ("year", "years", "month", "months"):
                years = float(word) / (12 if unit.startswith("month") else 1)
                start, end = place - after, place + 1 + (0 if not unit else 2 if rest[1] == "old" else 3)
                self._take(start, end, ((("Age_Group", age_group(years)),), ()))

    def _find_phrases(self) -> None:
        words, place = self.words, 0
        while place < len(words):
            step = 1
            if not self.taken[place]:
                for phrase, meaning in _TREE.get(words[place], ()):
                    end = place + len(phrase)
                    if tuple(words[place:end]) == phrase and not any(self.taken[place:end]):
                        self._take(place, end, meaning)
                        step = len(phrase)
                        break
            place += step

    # --- Denials ---

    def _denied(self) -> list[bool]:
        """Which words lie in the reach of a denial."""
        denied = [False] * len(self.words)
        for place, word in enumerate(self.words):
            if word in _DENIALS and not self.taken[place]:
                start, end = self._reach(place + 1)
                denied[start:end] = [True] * (end - start)
        return denied

    def _reach(self, start: int) -> tuple[int, int]:
        """The words after a denial up to the end of its clause, or of its first item where no "or" follows."""
        words = self.words
        while start < len(words) and words[start] in _LEADS and not self.taken[start]:
            start += 1
        end = start
        while end < len(words) and (self.taken[end] or words[end] not in _BREAKS) and words[end] not in _STOPS:
            end += 1
        commas = [place for place in range(start, end) if words[place] == ","]
        if not commas:
            return start, end
        ors = [p for p in range(commas[0], end) if words[p] in ("or", "nor") and not self.taken[p]]
        if not ors:
            return start, commas[0]
        return start, next((place for place in commas if place > ors[-1]), end)

    def _denied_after(self, end: int) -> bool:
        """ "... is not visible", "... are absent"."""
        words = self.words[end : end + 3]
        if len(words) < 2 or words[0] not in _COPULAS:
            return False
        if words[1] in ("absent", "missing", "nowhere"):
            return True
        return words[1] in ("not", "never") and words[2:] in (["visible"], ["seen"], ["present"], ["worn"], ["there"])

    # --- Modifiers ---

    def _known(self, place: int, noun: str) -> bool:
        return self.words[place] in _NOUNS[noun] and not self.taken[place]

    def _passable(self, place: int) -> bool:
        return self.words[place] in _JOINTS or self.words[place] in _FILLERS

    def _before(self, place: int) -> list[int]:
        """Places of the noun's modifiers in front of it: "bushy, arched eyebrows"."""
        noun, words = self.words[place], self.words
        if place and words[place - 1] in (",", "and", "but"):
            return []
        where = place - 1
        while where >= 0 and (self._known(where, noun) or self._passable(where)):
            where -= 1
        # "the nose is big, full lips", "mouth open, narrow eyes": the first words may belong to the noun before
        owner = where - 1 if where > 0 and words[where] in _COPULAS else where
        foreign = _NOUNS.get(words[owner], {}) if owner >= 0 else {}
        start = where + 1
        joints = [joint for joint in range(start, place) if words[joint] in (",", "and", "but")]
        own = joints[0] if joints else start - 1
        return [w for w in range(start, place) if self._known(w, noun) and (w > own or words[w] not in foreign)]

    def _after(self, place: int) -> list[int]:
        """Places of the modifiers behind the noun: "hair that is wavy and brown", "mouth slightly open"."""
        noun, words = self.words[place], self.words
        where = place + 1
        if where < len(words) and words[where] == ",":
            where += 1 if words[where + 1 : where + 2] == ["which"] else 0
        if where < len(words) and words[where] == "which":
            where += 1
        verb = where < len(words) and words[where] in _COPULAS
        if not verb and where > place + 1:
            return []
        return self._run(where + verb, noun, joined=bool(verb))

    def _run(self, where: int, noun: str, joined: bool) -> list[int]:
        """Modifiers from `where` on; a last piece that leads to another noun is left to that noun."""
        words = self.words
        found: list[int] = []
        border = where
        while where < len(words) and (self._known(where, noun) or (joined and self._passable(where))):
            if words[where] in (",", "and", "but", "or", "nor"):
                border = where
            if self._known(where, noun):
                found.append(where)
            where += 1
        other = where < len(words) and words[where] in _NOUNS and words[where] != noun
        return [w for w in found if w < border] if other else found
