"""Captions of a face record in the forms people type prompts in.

    tags     rosy cheeks, hoop earrings
    short    a smiling young woman with blond hair
    medium   two sentences, 4-7 attributes
    dense    three or four sentences, at most about 60 words

Each call draws attributes anew, rare and well visible ones more eagerly, so that prompts of one
attribute are met as often as prompts of many. Only known labels are said.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from unif2ace_core.data.lots import by_lot
from unif2ace_core.data.phrases import AGE_WORDS, NOUNS, PHRASES, PREFIXES, Phrase
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.errors import UserError

Item = tuple[str, str]  # slot, text

STYLES = ("tags", "short", "medium", "dense")
STYLE_ODDS = {"tags": 35, "short": 35, "medium": 20, "dense": 10}  # of "mixed"
_EAGERNESS = 1.5  # power of the phrases' weights; with 1 most captions of a face with a hat left the hat out
MAX_WORDS = 60


def caption(record: FaceRecord, rng: random.Random, style: str = "mixed") -> str:
    """One caption of the record; `style` is one of `STYLES` or "mixed", else `UserError`."""
    if style == "mixed":
        style = rng.choices(STYLES, [STYLE_ODDS[name] for name in STYLES])[0]
    if style == "tags":
        return _tags(record, rng)
    if style == "short":
        return _short(record, rng)
    if style == "medium":
        return _medium(record, rng)
    if style == "dense":
        return _dense(record, rng)
    raise UserError(f"no caption style {style!r}; choose one of {', '.join(STYLES)} or mixed")


# --- What there is to say ---------------------------------------------------------------------------


# Nobody remarks on their absence on a man.
WOMEN_LACK = ("Heavy_Makeup", "Wearing_Lipstick", "Wearing_Necklace", "Wearing_Earrings")


def unsaid(labels: Mapping[str, str]) -> set[tuple[str, str]]:
    """Values that are true but would mislead: a beard that is only stubble, a woman called clean-shaven."""
    hidden: set[tuple[str, str]] = set()
    stubble = labels.get("5_o_Clock_Shadow") == "yes"
    shaped = labels.get("Goatee") == "yes" or labels.get("Mustache") == "yes"
    man, woman = labels.get("Male") == "yes", labels.get("Male") == "no"
    child = labels.get("Age_Group") in ("child", "teenager")
    if stubble and not shaped:
        hidden.add(("No_Beard", "no"))
    if not man or child or stubble or shaped:
        hidden.add(("No_Beard", "yes"))
    if not woman or child:
        hidden |= {(name, "no") for name in WOMEN_LACK}
    if labels.get("Wearing_Lipstick") == "yes":
        hidden.add(("Heavy_Makeup", "no"))
    if not man:
        hidden.add(("Wearing_Necktie", "no"))
    if labels.get("Smiling") == "yes":
        hidden.add(("Emotion", "neutral"))
    return hidden


def _sayable(labels: Mapping[str, str]) -> dict[str, Phrase]:
    """The phrases that are true and do not mislead, by attribute, in the labels' order."""
    hidden = unsaid(labels)
    found = {key: PHRASES.get(key[0], _NOTHING).get(key[1]) for key in labels.items() if key not in hidden}
    return {name: phrase for (name, _), phrase in found.items() if phrase is not None}


def _choose(labels: Mapping[str, str], rng: random.Random, count: int) -> list[str]:
    """Names of `count` attributes worth saying, drawn without replacement by weight."""
    sayable = _sayable(labels)
    names: list[str] = []
    absences = 2 if count > 7 else 1
    for name in by_lot(sayable, lambda name: sayable[name].weight ** _EAGERNESS, rng):
        if len(names) == count:
            break
        if PHRASES[name][labels[name]].slot == "without":
            absences -= 1
            if absences < 0:
                continue
        names.append(name)
    if "Goatee" in names and labels.get("Goatee") == "yes" and "No_Beard" in names:
        names.remove("No_Beard")
    return names


_NOTHING: Mapping[str, Phrase] = {}


_RARE_AGES = {"child": 4.0, "senior": 4.0}  # ages are not phrases; every caption may say them


def remarkable(labels: Mapping[str, str]) -> float:
    """Weight of the most remarkable thing a caption may say: about 1.5 for a plain face, 5 for one with a hat."""
    weights = [phrase.weight for phrase in _sayable(labels).values()]
    return max(_RARE_AGES.get(labels.get("Age_Group", ""), 1.0), *weights, 1.0)


def _items(labels: Mapping[str, str], names: Iterable[str], rng: random.Random) -> list[Item]:
    """Slot and wording of the chosen attributes; hair colour and texture become one item."""
    items: list[Item] = []
    hair: dict[str, str] = {}
    for name in names:
        phrase = PHRASES[name][labels[name]]
        text = _word(name, labels, rng.choice(phrase.texts), rng)
        if phrase.slot in ("color", "texture"):
            hair[phrase.slot] = hair.get(phrase.slot, text)
        else:
            items.append((phrase.slot, text))
    if hair:
        words = [hair[slot] for slot in ("texture", "color") if slot in hair]
        items.insert(0, ("with", " ".join([*words, "hair"])))
    return items


def _word(name: str, labels: Mapping[str, str], text: str, rng: random.Random) -> str:
    """Two attributes together may have a better word than one."""
    if name == "Eyeglasses" and labels.get("Eyes") == "behind sunglasses":
        return "sunglasses"
    if name == "No_Beard" and labels.get("Gray_Hair") == "yes" and text == "a beard" and rng.random() < 0.6:
        return rng.choice(("a gray beard", "a grey beard"))
    if name == "Wearing_Hat" and text == "a cap" and labels.get("Male") == "no":
        return "a hat"
    return text


def _subject(record: FaceRecord, rng: random.Random, gender: bool = True) -> tuple[str, str]:
    """(age word, noun), true to the age and gender that are known."""
    labels = record.labels
    group = labels.get("Age_Group", "")
    if not group and "Young" in labels:
        group = "Young" if labels["Young"] == "yes" else "not Young"
    male = labels.get("Male", "") if gender else ""
    child = group == "child"
    if child and (record.age is None or record.age <= 2) and rng.random() < 0.7:
        return "", rng.choice(("baby", "baby", "infant"))
    nouns, odds = NOUNS[(not child and group != "teenager", male)]
    noun = rng.choices(nouns, odds)[0]
    if group == "teenager" and noun in ("child", "kid"):
        return "", "teenager"
    countable = noun not in ("face", "human face")
    if record.age is not None and record.age >= 3 and countable and rng.random() < 0.12:
        return f"{record.age:.0f} year old", noun
    words, odds = AGE_WORDS[group]
    return rng.choices(words, odds)[0], noun


def _a(text: str) -> str:
    """The text with its indefinite article."""
    an = text[0] in "aeiou" or text.startswith(("8", "11 ", "18 "))
    return f"an {text}" if an and not text.startswith(("unif", "uni")) else f"a {text}"


def _bare(text: str) -> str:
    """The text without its article."""
    return text[2:] if text.startswith("a ") else text[3:] if text.startswith("an ") else text


def _join(parts: list[str], last: str = "and") -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}"


# --- The four forms ---------------------------------------------------------------------------------


def _tags(record: FaceRecord, rng: random.Random) -> str:
    labels = record.labels
    count = rng.choices((1, 2, 3, 4, 5), (24, 30, 22, 14, 10))[0]
    names = _choose(labels, rng, count)
    tags = []
    joined = rng.random() < 0.6  # "wavy blond hair" rather than "wavy hair, blond hair"
    hair = [n for n in names if PHRASES[n][labels[n]].slot in ("color", "texture")] if joined else []
    for name in names:
        if name in hair[1:]:
            continue
        tags.append(_items(labels, hair, rng)[0][1] if name in hair else _tag(name, labels, rng))
    if not tags or rng.random() < 0.45:
        age, noun = _subject(record, rng)
        who = f"{age} {noun}".strip()
        tags.insert(0, _a(who) if rng.random() < 0.2 else who)
    return ", ".join(tags)


def _tag(name: str, labels: Mapping[str, str], rng: random.Random) -> str:
    """One tag: the noun without its article, now and then "wearing", "no" or a tag's own wording."""
    phrase = PHRASES[name][labels[name]]
    if phrase.tags and rng.random() < 0.6:
        return rng.choice(phrase.tags)
    text = _word(name, labels, rng.choice(phrase.texts), rng)
    if phrase.slot in ("color", "texture"):
        return f"{text} hair"
    if phrase.slot == "without":
        return rng.choice(("no ", "no ", "without ")) + _bare(text)
    if phrase.slot == "wear" and rng.random() < 0.3:
        return f"wearing {text}"
    return text if rng.random() < 0.25 else _bare(text)


def _noun_phrase(record: FaceRecord, items: list[Item], rng: random.Random) -> str:
    """ "smiling young woman with blond hair wearing glasses": the items around the noun, no article."""
    age, noun = _subject(record, rng, gender=rng.random() < 0.9)
    adjectives = [text for slot, text in items if slot == "adj"]
    if age and rng.random() < 0.3:
        before = [age, *adjectives]
    else:
        before = [*adjectives, age] if age else adjectives
    has = [text for slot, text in items if slot == "with"]
    worn = [text for slot, text in items if slot == "wear"]
    if worn and rng.random() < 0.5:
        has, worn = has + worn, []
        rng.shuffle(has)
    text = " ".join([*before, noun])
    if has:
        text += f" with {_join(has)}"
    if worn:
        text += f" wearing {_join(worn)}"
    absent = [text for slot, text in items if slot == "without"]
    if absent:
        text += f" without {_join(absent, 'or')}"
    after = [text for slot, text in items if slot == "is"]
    return f"{text}, {_join(after)}" if after else text


def _short(record: FaceRecord, rng: random.Random) -> str:
    count = rng.choices((0, 1, 2, 3, 4), (5, 25, 34, 22, 14))[0]
    items = _items(record.labels, _choose(record.labels, rng, count), rng)
    text = _noun_phrase(record, items, rng)
    prefix = rng.choices(*PREFIXES)[0]
    if prefix or rng.random() < 0.75:
        text = _a(text)
    return prefix + text


def _pronoun(labels: Mapping[str, str]) -> str:
    return {"yes": "He", "no": "She"}.get(labels.get("Male", ""), "The person")


def _sentences(pronoun: str, items: list[Item], rng: random.Random) -> list[str]:
    """Sentences about a person already named: what it has, wears, is, does not wear."""
    slots: dict[str, list[str]] = {"with": [], "wear": [], "adj": [], "is": [], "without": []}
    for slot, text in items:
        slots[slot].append(text)
    said = []
    if slots["with"]:
        said.append(f"{pronoun} has {_join(slots['with'])}.")
    if slots["wear"]:
        said.append(f"{pronoun} {rng.choice(('is wearing', 'wears'))} {_join(slots['wear'])}.")
    state = slots["adj"] + slots["is"]
    if state:
        said.append(f"{pronoun} is {_join(state)}.")
    absent = slots["without"]
    if absent:
        said.append(f"{pronoun} has no {_join([_bare(text) for text in absent], 'or')}.")
    return said


def _medium(record: FaceRecord, rng: random.Random) -> str:
    names = _choose(record.labels, rng, rng.choice((4, 5, 6, 7)))
    items = _items(record.labels, names, rng)
    first, rest = items[:2], items[2:]
    opening = _a(_noun_phrase(record, first, rng))
    return " ".join([opening[0].upper() + opening[1:] + ".", *_sentences(_pronoun(record.labels), rest, rng)])


def _dense(record: FaceRecord, rng: random.Random) -> str:
    names = _choose(record.labels, rng, rng.choice((8, 9, 10, 11, 12, 13)))
    order = {name: place for place, name in enumerate(PHRASES)}
    items = _items(record.labels, sorted(names, key=order.__getitem__), rng)
    age, noun = _subject(record, rng)
    opening = _a(" ".join([*(t for s, t in items if s == "adj"), age, noun]).replace("  ", " ").strip())
    sentences = [f"{rng.choice(('This is', 'A photo of', 'A portrait of'))} {opening}."]
    words = len(sentences[0].split())
    for sentence in _sentences(_pronoun(record.labels), [item for item in items if item[0] != "adj"], rng):
        words += len(sentence.split())
        if words > MAX_WORDS:
            break
        sentences.append(sentence)
    return " ".join(sentences)
