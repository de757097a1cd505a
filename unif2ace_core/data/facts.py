"""What a caption of the data factory says of a record: facts that are known and do not mislead, the person, the topics.

A *unit* is what is said together or not at all, mostly one (attribute, value); nothing is ever chosen from which
something false or unknown would follow. A *topic* is what is told in one place: the hair, what is worn, the smile.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from unif2ace_core.data import synonyms
from unif2ace_core.data.attributes import BY_NAME, age_group, derive
from unif2ace_core.data.captions import unsaid
from unif2ace_core.data.lots import by_lot
from unif2ace_core.data.parse import closed
from unif2ace_core.data.phrases import PHRASES
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.data.synonyms import DENIALS, MODIFIERS, THINGS, Pair

# --- What may be said -----------------------------------------------------------------------------------------

# A named value and the binary values that mean the same.
_SAME: dict[Pair, tuple[Pair, ...]] = {
    ("Hair_Color", "black"): (("Black_Hair", "yes"),),
    ("Hair_Color", "brown"): (("Brown_Hair", "yes"),),
    ("Hair_Color", "blond"): (("Blond_Hair", "yes"),),
    ("Hair_Color", "gray"): (("Gray_Hair", "yes"),),
    ("Hair_Color", "bald"): (("Bald", "yes"),),
    ("Skin_Tone", "pale"): (("Pale_Skin", "yes"),),
    ("Skin_Tone", "rosy"): (("Rosy_Cheeks", "yes"),),
    ("Mouth_Action", "closed"): (("Smiling", "no"), ("Mouth_Slightly_Open", "no")),
    ("Mouth_Action", "open"): (("Smiling", "no"), ("Mouth_Slightly_Open", "yes")),
    ("Mouth_Action", "closed smile"): (("Smiling", "yes"), ("Mouth_Slightly_Open", "no")),
    ("Mouth_Action", "open smile"): (("Smiling", "yes"), ("Mouth_Slightly_Open", "yes")),
    ("Eyes", "narrowed"): (("Narrow_Eyes", "yes"),),
    ("Eyes", "behind sunglasses"): (("Eyeglasses", "yes"),),
}
BEARDS = ("Goatee", "Mustache", "Sideburns", "5_o_Clock_Shadow")


def known(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels and what they mean under the schema's other names; captions say nothing beyond these."""
    full = dict(labels)
    for pair, same in _SAME.items():
        if labels.get(pair[0]) == pair[1]:
            for name, value in same:
                full.setdefault(name, value)
    return derive(full)


def misleading(labels: Mapping[str, str]) -> set[Pair]:
    """Known values that are left unsaid: true, but odd or misleading beside the others."""
    hidden = unsaid(labels) | _odd_beards(labels) | _odd_hair(labels) | _merely_derived(labels)
    if labels.get("Age_Group") in ("child", "teenager"):
        hidden |= {(name, "no") for name in ("Bags_Under_Eyes", "Double_Chin", "Wearing_Necktie")}
    return hidden


_UNDER_HAT = ("Bald", "Bangs", "Receding_Hairline")
_HAIR = (*synonyms.COLORS, *synonyms.TEXTURES, "Hair_Color", "Bangs", "Receding_Hairline")


def _bald(labels: Mapping[str, str]) -> bool:
    return labels.get("Bald") == "yes" or labels.get("Hair_Color") == "bald"


def unseen(labels: Mapping[str, str]) -> set[str]:
    """Attributes of the hair that is not there or that a hat hides."""
    names = set(_HAIR) if _bald(labels) else set()
    return names | set(_UNDER_HAT) if labels.get("Wearing_Hat") == "yes" else names


def unasked(labels: Mapping[str, str]) -> set[str]:
    """Attributes that no question is about, whatever their values, so that the answers stay balanced."""
    names = unseen(labels)
    if labels.get("Age_Group") == "child":
        names |= {"No_Beard", *BEARDS, "Heavy_Makeup", "Wearing_Lipstick"}
    return names


def _merely_derived(labels: Mapping[str, str]) -> set[Pair]:
    """ "Even" is but neither pale nor rosy, "open" but not narrow: that is what is said instead."""
    hidden: set[Pair] = set()
    if labels.get("Pale_Skin") == labels.get("Rosy_Cheeks") == "no":
        hidden.add(("Skin_Tone", "even"))
    if labels.get("Narrow_Eyes") == labels.get("Eyeglasses") == "no":
        hidden.add(("Eyes", "open"))
    return hidden


def _odd_beards(labels: Mapping[str, str]) -> set[Pair]:
    """Facial hair of women and children is a mistake, its absence not worth a word; a beard has no "no stubble"."""
    hidden: set[Pair] = set()
    child = labels.get("Age_Group") in ("child", "teenager")
    if labels.get("Male") == "no" or child:
        hidden |= {("No_Beard", "no"), *((name, "yes") for name in BEARDS)}
    if labels.get("Male") != "yes" or child or labels.get("No_Beard") == "no":
        hidden |= {(name, "no") for name in BEARDS}
    if labels.get("Sideburns") == "yes":
        hidden.add(("No_Beard", "yes"))
    return hidden


def _odd_hair(labels: Mapping[str, str]) -> set[Pair]:
    """No hair of a bald head; no "not wavy" of straight hair; no colour it has not where its colour is known."""
    hidden: set[Pair] = {("Straight_Hair", "no")}
    man = labels.get("Male") == "yes" and labels.get("Age_Group") not in ("child", "teenager")
    if not man or labels.get("Wearing_Hat") == "yes" or labels.get("Receding_Hairline") == "yes":
        hidden |= {("Bald", "no"), ("Receding_Hairline", "no")}
    if labels.get("Wavy_Hair") == labels.get("Straight_Hair") == "yes":
        hidden |= {("Wavy_Hair", "yes"), ("Straight_Hair", "yes")}
    if labels.get("Straight_Hair") == "yes":
        hidden.add(("Wavy_Hair", "no"))
    colors = [name for name in synonyms.COLORS if labels.get(name) == "yes"]
    if colors or "Hair_Color" in labels or labels.get("Age_Group") == "child":
        hidden |= {(name, "no") for name in synonyms.COLORS}
    if labels.get("Wearing_Hat") == "yes":  # what is seen in spite of the hat is said
        hidden |= {(name, "no") for name in _UNDER_HAT}
    if _bald(labels):
        hidden |= {(name, labels[name]) for name in _HAIR if name in labels}
    return hidden


Unit = tuple[Pair, ...]  # what is said together or not at all


@cache
def topics_of() -> dict[Pair, tuple[str, ...]]:
    """pair -> topics under which the data of `synonyms` has words for it."""
    found: dict[Pair, list[str]] = {}
    for topic, things in THINGS.items():
        for pair in things:
            found.setdefault(pair, []).append(topic)
    for pairs in DENIALS.values():
        for pair in pairs:
            found.setdefault(pair, []).append("denied")
    for name, _ in MODIFIERS:
        found.setdefault((name, "yes" if name != "Hair_Color" else "red"), []).append("hair")
    for value in ("yes", "no"):
        found[("Smiling", value)] = found[("Mouth_Slightly_Open", value)] = ["smile"]
    found |= {("Emotion", value): ["feeling"] for value in synonyms.EMOTIONS_SAID}
    found |= {("Head_Pose", value): ["pose"] for value in synonyms.POSES}
    found |= {("Eyes", "behind sunglasses"): ["worn"]}
    return {pair: tuple(topics) for pair, topics in found.items()}


class Facts:
    """One record while it is captioned: what may be said, what was chosen, and how to speak of the person."""

    def __init__(self, record: FaceRecord, rng: random.Random) -> None:
        self.rng = rng
        self.labels = known(record.labels)
        self.age = record.age
        self.male = self.labels.get("Male", "")
        self.group = self.labels.get("Age_Group", "")
        self.minor = self.group in ("child", "teenager")

    def units(self) -> list[Unit]:
        """All that may be said of the face, in the schema's order."""
        hidden = misleading(self.labels)
        topics = topics_of()
        labels = ((name, self.labels[name]) for name in BY_NAME if name in self.labels)
        pairs = [pair for pair in labels if pair in topics and pair not in hidden]
        colors = tuple(pair for pair in pairs if pair[0] in synonyms.COLORS and pair[1] == "yes")
        units: list[Unit] = [colors] if colors else []
        for pair in pairs:
            if pair in colors or pair == ("Eyes", "behind sunglasses"):
                continue
            shaded = pair[0] == "Eyeglasses" and self.labels.get("Eyes") == "behind sunglasses"
            units.append((pair, ("Eyes", "behind sunglasses")) if shaded and pair[1] == "yes" else (pair,))
        return units

    def choose(self, units: Sequence[Unit], least: int, most: int, said: Sequence[Pair] = ()) -> list[Pair]:
        """Units in their order until at least `least` attributes are said, never more than `most`.

        A unit is passed over where something false or unknown would follow from it and the others.
        """
        chosen: dict[str, str] = dict(said)
        following = closed(chosen)
        for unit in units:
            if len(following) >= least:
                break
            after = closed({**chosen, **dict(unit)})
            if len(after) <= most and all(self.labels.get(name) == value for name, value in after.items()):
                chosen |= dict(unit)
                following = after
        return [pair for pair in chosen.items() if pair not in said]

    def nouns(self) -> tuple[str, ...]:
        """Nouns for a person that is known by now, with their article."""
        if self.group == "teenager":
            return ("the teenager",)
        names = (synonyms.CHILDREN if self.minor else synonyms.GROWN)[self.male]
        return tuple(f"{article} {name}" for name in names for article in ("the", "the", "this"))

    def shuffled(self, weight: Callable[[Unit], float]) -> list[Unit]:
        """The units drawn without replacement by weight."""
        return by_lot(self.units(), weight, self.rng)


def rarity(unit: Unit) -> float:
    """How eagerly a few words pick the unit: the weights of the training captions."""
    phrase = PHRASES.get(unit[0][0], {}).get(unit[0][1])
    return max(phrase.weight**1.5 if phrase else 0.03, 1e-3)


def absence(unit: Unit) -> bool:
    return any(topic in ("denied", "lack_worn", "lack_beard", "lack_marks") for topic in topics_of()[unit[0]])


# --- The person -----------------------------------------------------------------------------------------------


Person = tuple[str, str, tuple[Pair, ...]]  # noun with what is before it, what is behind it, what both say


def person(facts: Facts, gender: bool = True, ageless: float = 0.1, behind: bool = True) -> Person:
    """The person without article; the age group of a minor is always said, an adult's age mostly."""
    rng = facts.rng
    male = facts.male if gender else ""
    said: tuple[Pair, ...] = (("Male", male),) if male else ()
    noun = rng.choice((synonyms.CHILDREN if facts.minor else synonyms.GROWN)[male])
    if facts.group == "teenager":
        noun = noun if male else "teenager"
    ages = _ages(facts, behind) if facts.minor or rng.random() >= ageless else []
    front, after, pairs = rng.choice(ages) if ages else ("", "", ())
    if noun == "teenager":
        front = front.replace("teenage", "").replace("adolescent", "")
    return f"{front} {noun}".strip(), after.replace("{p}", synonyms.PRONOUNS[male][1]), said + pairs


def _ages(facts: Facts, behind: bool) -> list[Person]:
    """Ways to say the age that is known."""
    group, young = facts.group, facts.labels.get("Young", "")
    aged: tuple[Pair, ...] = (("Age_Group", group),) if group else ()
    ages: list[Person] = [(word, "", aged) for word in synonyms.AGES.get(group, ())]
    if group == "child":
        ages = [("", "", aged)] * 2
    years = round(facts.age) if facts.age is not None and 2 <= facts.age < 120 else None
    after = list(synonyms.AGES_AFTER.get(group, ())) if behind and not facts.minor else []
    if years is not None and age_group(years) == group:
        ages.append((f"{years}-year-old", "", aged))
        after += [f"aged {years}", f"aged about {years}"] if behind else []
    ages += [("", text, aged) for text in after]
    if young and (young == "yes" or not facts.minor) and group != "senior":
        pair = ("Young", young)
        ages += [(word, text, (*aged, pair)) for word in synonyms.YOUNG[young] for text in after]
        if not facts.minor:
            ages += [(word, "", (pair,)) for word in synonyms.YOUNG[young]]
        elif group == "child":
            ages.append(("young", "", (*aged, pair)))
    return ages


def with_article(text: str) -> str:
    """The text with its indefinite article."""
    an = text[0] in "aeiou" or re.match(r"8|11\b|18\b", text) is not None
    return f"an {text}" if an else f"a {text}"


def bare(text: str) -> str:
    """The text without its article."""
    return re.sub(r"^an? (?!lot|pair)", "", text)


def join(parts: Sequence[str], last: str = "and") -> str:
    """ "a", "a and b", "a, b, and c"."""
    if len(parts) < 3:
        return f" {last} ".join(parts)
    return f"{', '.join(parts[:-1])}, {last} {parts[-1]}"


# --- Topics: the chosen facts as things to be put into sentences ----------------------------------------------


@dataclass
class Topic:
    """Something to be told in one place: its parts, or its text by form, and what it says."""

    name: str
    parts: list[str] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    forms: dict[str, str] = field(default_factory=dict)

    def add(self, part: str, *pairs: Pair) -> None:
        self.parts.append(part)
        self.pairs += pairs

    def form(self, form: str) -> str | None:
        """The text in this form; `None` where it has none."""
        if not self.parts:
            return self.forms.get(form)
        if form == "and":
            return join(self.parts)
        if form == "no":
            return f"no {join([bare(part) for part in self.parts], 'or')}"
        return join(self.parts, "or") if form == "or" else self.forms.get(form)

    def plural(self, verb_first: bool, nearest: bool) -> bool:
        """Whether a verb is in the plural: of several parts or, if `nearest`, as the one beside it is."""
        if len(self.parts) > 1 and not nearest and not self.name.startswith("lack"):
            return True
        return _plural(self.parts[0 if verb_first else -1].split(" with ")[0])  # "brown hair with bangs" is one thing

    @property
    def mixed(self) -> bool:
        """Whether some parts are in the singular and some in the plural."""
        return len({_plural(part) for part in self.parts}) > 1


def _plural(part: str) -> bool:
    return part.endswith("s") and not part.startswith(("a ", "an "))


_LONGEST = {"features": (1, 2, 2, 3, 3, 4), "worn": (3, 4), "lack_worn": (3, 4), "denied": (1, 2, 2, 3)}


class Topics:
    """The chosen facts by topic, each topic in chunks of a sentence's size."""

    def __init__(self, facts: Facts, pairs: Sequence[Pair]) -> None:
        self.rng, self.facts = facts.rng, facts
        self.chosen = dict(pairs)
        self.found: dict[str, list[Topic]] = {}
        self._hair()
        self._things()
        self._denied()
        self._moods()

    def _take(self, *pairs: Pair) -> bool:
        """Whether all pairs are chosen; they count as placed then."""
        there = all(self.chosen.get(name) == value for name, value in pairs)
        for name, _ in pairs if there else ():
            del self.chosen[name]
        return there

    def _modifiers(self, names: Sequence[str]) -> tuple[list[str], list[Pair]]:
        """The words of the chosen modifiers, in the order of `names`, and what they say."""
        pairs = [(n, v) for n in names for v in ("yes", "red") if (n, v) in MODIFIERS and self._take((n, v))]
        return [self.rng.choice(MODIFIERS[pair]) for pair in pairs], pairs

    def _listed(self, name: str) -> list[tuple[str, Pair]]:
        """Wordings of the chosen things of a topic, in random order."""
        found = [(self.rng.choice(texts), pair) for pair, texts in THINGS[name].items() if self._take(pair)]
        return self.rng.sample(found, len(found))

    def _hair(self) -> None:
        """ "wavy brown hair with bangs"; texture and colour make one noun phrase."""
        topic = Topic("hair")
        textures, told = self._modifiers(synonyms.TEXTURES)
        colors, also = self._modifiers((*synonyms.COLORS, "Hair_Color"))
        words = [*textures, *([join(colors)] if colors else [])]
        topic.pairs += told + also
        if words:
            topic.forms["is"] = join([*textures, *colors])
        if words:
            topic.parts.append(" ".join([*words, "hair"]))
        for text, pair in self._listed("hair"):
            topic.forms.clear()
            topic.add(text, pair)
        if words and len(topic.parts) > 1 and self.rng.random() < 0.6:
            topic.parts = [f"{topic.parts[0]} with {join(topic.parts[1:])}"]
        self._keep(topic)

    def _keep(self, *topics: Topic) -> None:
        for topic in topics:
            if topic.pairs:
                self.found.setdefault(topic.name, []).append(topic)

    def _things(self) -> None:
        """The topics that are lists of things."""
        if self._bearded_list():
            state: list[Pair] = [pair for pair in THINGS["state"] if pair[0] != "No_Beard"]
        else:
            state = list(THINGS["state"])
        if self.rng.random() < 0.8:
            state.remove(("Wearing_Hat", "no"))
        topic = Topic("state")
        for pair in state:
            if self._take(pair):
                topic.add(self.rng.choice(THINGS["state"][pair]), pair)
        self._keep(topic)
        for name in ("features", "beard", "worn", "lack_worn", "lack_beard", "lack_marks"):
            items = self._merged() if name == "features" else []
            if name == "worn" and self._take(("Eyes", "behind sunglasses"), ("Eyeglasses", "yes")):
                pairs = (("Eyes", "behind sunglasses"), ("Eyeglasses", "yes"))
                items.append((self.rng.choice(synonyms.SUNGLASSES), pairs))
            items += [(text, (pair,)) for text, pair in self._listed(name)]
            items = self.rng.sample(items, len(items))
            # "no bangs or bags under her eyes" would put the bangs under the eyes
            apart = [item for item in items if name == "lack_marks" and "{p}" in item[0]]
            self._chunk(name, [item for item in items if item not in apart])
            self._chunk(name, apart)
        for name in ("eyes", "photo"):
            for text, pair in self._listed(name):
                self._keep(Topic(name, pairs=[pair], forms={"text": text}))

    def _bearded_list(self) -> bool:
        """Whether "no beard" belongs into a list ("no beard, mustache, or stubble") rather than "clean-shaven"."""
        others = any(self.chosen.get(name) == "no" for name in BEARDS)
        return others or self.rng.random() < 0.25

    def _merged(self) -> list[tuple[str, tuple[Pair, ...]]]:
        """Eyebrows and nose with their modifiers: "bushy, arched eyebrows", "a big nose"."""
        items: list[tuple[str, tuple[Pair, ...]]] = []
        for noun, names in (("eyebrows", ("Bushy_Eyebrows", "Arched_Eyebrows")), ("nose", ("Big_Nose", "Pointy_Nose"))):
            words, pairs = self._modifiers(names)
            if words:
                text = f"{', '.join(words)} {self.rng.choice(('eyebrows', 'brows')) if noun != 'nose' else noun}"
                items.append((with_article(text) if noun == "nose" else text, tuple(pairs)))
        return items

    def _chunk(self, name: str, items: Sequence[tuple[str, tuple[Pair, ...]]]) -> None:
        """Things of a topic in lists of a readable length."""
        place = 0
        while place < len(items):
            size = self.rng.choice(_LONGEST.get(name, (3, 4)))
            size += len(items) - place == size + 1  # no list of one left behind
            topic = Topic(name)
            for text, pairs in items[place : place + size]:
                topic.add(text, *pairs)
            self._keep(topic)
            place += size

    def _denied(self) -> None:
        """ "her nose is neither big nor pointed, and her lips are not full"."""
        clauses: list[tuple[str, tuple[Pair, ...]]] = []
        for noun, table in DENIALS.items():
            pairs = [pair for pair in table if self._take(pair)]
            words = [self.rng.choice(table[pair]) for pair in pairs]
            if len(words) == 2:
                clauses.append((f"{noun} neither {words[0]} nor {words[1]}", tuple(pairs)))
            elif words:
                clauses.append((f"{noun} not {join(words, 'or')}", tuple(pairs)))
        clauses = self.rng.sample(clauses, len(clauses))
        while clauses:
            size = self.rng.choice(_LONGEST["denied"])
            part, clauses = clauses[:size], clauses[size:]
            text = ", and ".join(clause for clause, _ in part) if size < 3 else join([clause for clause, _ in part])
            self._keep(Topic("denied", pairs=[pair for _, pairs in part for pair in pairs], forms={"text": text}))

    def _moods(self) -> None:
        """Smile and mouth, emotion, pose."""
        rng = self.rng
        told = [pair for pair in self.chosen.items() if pair[0] in ("Smiling", "Mouth_Slightly_Open")]
        if told:
            finite, participle = synonyms.MOUTHS[
                self.chosen.get("Smiling", ""), self.chosen.get("Mouth_Slightly_Open", "")
            ]
            forms = {"finite": rng.choice(finite), "participle": rng.choice(participle)}
            self._keep(Topic("smile", pairs=told, forms=forms))
        if "Emotion" in self.chosen:
            adjectives, words = synonyms.EMOTIONS_SAID[self.chosen["Emotion"]]
            noun = f"{with_article(rng.choice(words))} {rng.choice(synonyms.EXPRESSIONS)}"
            verbs = [f"{{looks}} {word}" for word in adjectives] + [f"{{has}} {noun}"]
            forms = {"finite": rng.choice(verbs), "noun": noun}
            self._keep(Topic("feeling", pairs=[("Emotion", self.chosen["Emotion"])], forms=forms))
        if "Head_Pose" in self.chosen:
            finite, participle = synonyms.POSES[self.chosen["Head_Pose"]]
            forms = {"finite": rng.choice(finite), "participle": rng.choice(participle)}
            self._keep(Topic("pose", pairs=[("Head_Pose", self.chosen["Head_Pose"])], forms=forms))
