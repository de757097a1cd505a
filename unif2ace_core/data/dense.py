"""Captions of the data factory, each with exactly the attributes that it says.

    tags     rosy cheeks, blond hair, smiling
    short    a smiling young woman with blond hair
    medium   two or three sentences, 4-7 attributes
    dense    a paragraph of about 120 tokens, some twenty attributes where that many are known

`facts.py` chooses what to say and sorts it into topics; here these are put into the sentence plans of `plans.py`.
`parse(caption.text) == caption.attributes` holds for every caption.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from unif2ace_core.data import plans, synonyms
from unif2ace_core.data.captions import STYLES
from unif2ace_core.data.facts import (
    Facts,
    Person,
    Topic,
    Topics,
    Unit,
    absence,
    bare,
    join,
    known,
    person,
    rarity,
    topics_of,
    with_article,
)
from unif2ace_core.data.parse import closed
from unif2ace_core.data.plans import SLOTS
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.data.synonyms import VERBS, Pair
from unif2ace_core.errors import UserError

__all__ = ["STYLES", "Caption", "known", "make_caption"]

_DENSE = (19, 25)  # attributes of a dense caption, where that many can be said


@dataclass(frozen=True)
class Caption:
    """A text and what it says: attribute -> value, no more and no less, in the schema's order."""

    style: str
    text: str
    attributes: dict[str, str]


def make_caption(record: FaceRecord, style: str, rng: random.Random) -> Caption:
    """One caption of the record; the same state of `rng` gives the same caption.

    `style` is one of `STYLES`, else `UserError`. A record without labels is "a person", with no attributes.
    """
    if style not in STYLES:
        raise UserError(f"no caption style {style!r}; choose one of {', '.join(STYLES)}")
    text, said = _WRITERS[style](Facts(record, rng))
    return Caption(style, text, closed(said))


# --- Sentences ------------------------------------------------------------------------------------------------

_SLOT = re.compile(r"\{([a-z_]+)(?::([a-z_]+))?\}")
_CLAUSES = ("finite", "participle", "text")
_COMPOUND = re.compile(r",| and | but ")  # long enough for a sentence of its own
_SINGULAR = {plural: singular for singular, plural in VERBS.items()}


@cache
def _needs(plan: str) -> tuple[tuple[str, str], ...]:
    """(topic, form) of the plan's slots."""
    return tuple(SLOTS[name] for name, topic in _SLOT.findall(plan) if name in SLOTS and not topic)


def _place(plan: str, topic: str) -> int:
    """Where the plan has the topic's slot."""
    return next(slot.start() for slot in _SLOT.finditer(plan) if slot[1] in SLOTS and SLOTS[slot[1]][0] == topic)


@cache
def _start(plan: str) -> str:
    """The first words, by which a reader notices a repetition."""
    return " ".join(plan.split()[: 2 if plan.startswith("{") else 1])


@cache
def _leading(lead: str) -> tuple[str, ...]:
    """The plans that tell the topic."""
    return tuple(plan for plan in plans.PLANS if any(topic == lead for topic, _ in _needs(plan)))


class _Paragraph:
    """Sentences in the making: an opening, then plans that tell the topics that are left."""

    def __init__(self, facts: Facts, topics: Mapping[str, list[Topic]]) -> None:
        self.facts, self.rng = facts, facts.rng
        self.topics = topics
        self.who = ""
        self.said: list[Pair] = []
        self.sentences: list[str] = []
        self.last = ""
        self.begun: list[str] = []
        self.they = not facts.male and self.rng.random() < 0.5
        self.nouns = facts.nouns()
        ranks = {name: number for number, name in enumerate(_ORDER)}
        spread = self.rng.choice((1.5, 3.0, 6.0))
        self.order = sorted(ranks, key=lambda name: ranks[name] + self.rng.random() * spread)

    def write(self, who: Person) -> None:
        """Tells everything; the person is introduced in the first sentence."""
        noun, after, pairs = who
        self.who = f"{with_article(noun)} {after}".strip()
        self.said += pairs
        self._tell(self._pick(plans.OPENINGS))
        while lead := next((name for name in self.order if self.topics.get(name)), None):
            self._tell(self._pick(_leading(lead)))

    def _fits(self, plan: str) -> bool:
        """Whether all that the plan tells is there, and in a wording that suits it."""
        needs = _needs(plan)
        if not all(self.topics.get(topic) for topic, _ in needs):
            return False
        for topic, form in needs:
            text = self.topics[topic][0].form(form)
            if not text or ("face" in text and "face" in plan):  # "his face shows an oval face"
                return False
            if f"{{are:{topic}}}" in plan and form == "no" and self.topics[topic][0].mixed:  # "there are no tie"
                return False
            if len(needs) > 1 and form in _CLAUSES and _COMPOUND.search(text):
                return False
        return True

    def _pick(self, choices: Sequence[str]) -> str:
        """A plan that can be used now and begins like none before it, or at least not like the last one."""
        fitting = [plan for plan in choices if self._fits(plan)]
        fresh = [plan for plan in fitting if _start(plan) not in self.begun] or fitting
        plan = self.rng.choices(fresh, [(1, 2, 3, 5)[len(_needs(plan))] for plan in fresh])[0]
        # A pronoun or a topic may begin many sentences, "in this photo" only one.
        self.begun = [start for start in self.begun if not start.startswith("{")] + [_start(plan)]
        return plan

    def _tell(self, plan: str) -> None:
        """Renders the plan and takes its topics off the list."""
        needs = _needs(plan)
        used = {topic: self.topics[topic].pop(0) for topic, _ in needs}
        start = plan
        if plan.startswith("{p} ") and self.rng.random() < 0.2:
            plan = "the" + plan[3:]
        joined = self._joins(start)
        text = _Sentence(self, used, named=joined).render(plan)
        self.said += [pair for topic in used.values() for pair in topic.pairs]
        if joined and ", " not in text:
            self.sentences[-1] = f"{self.sentences[-1][:-1]}{self.rng.choice(plans.JOINERS)}{text}."
        else:
            self.sentences.append(f"{text[0].upper()}{text[1:]}.")
        self.last = start

    def _joins(self, plan: str) -> bool:
        """Whether the plan may continue the sentence before: both are plain, and now and then only."""
        before = self.sentences[-1] if len(self.sentences) > 1 else ","
        plain = plan.startswith(("{s}", "{p}", "there")) and self.last != "{denied}" and not re.search("[,;]", before)
        return plain and self.rng.random() < 0.4

    @property
    def text(self) -> str:
        return " ".join(self.sentences)


# The order in which topics come up, before it is shaken.
_ORDER = (
    "hair", "state", "beard", "eyes", "smile", "feeling", "pose", "features", "worn", "denied",
    "lack_beard", "lack_marks", "lack_worn", "photo",
)  # fmt: skip


class _Sentence:
    """One plan being filled: pronouns agree with the subject named last."""

    def __init__(self, paragraph: _Paragraph, topics: Mapping[str, Topic], named: bool) -> None:
        self.paragraph, self.topics = paragraph, topics
        self.pronouns = synonyms.PRONOUNS[paragraph.facts.male]
        self.named = named  # whether the subject has been named in this sentence
        self.plural = paragraph.they

    def render(self, template: str) -> str:
        return _SLOT.sub(self._fill, template)

    def _fill(self, slot: re.Match[str]) -> str:
        name, topic = slot.groups()
        if topic:
            verb_first = slot.start() < _place(slot.string, topic)
            nearest = slot.string[: slot.start()].endswith("there ")  # "there is an oval face and ..."
            return name if self.topics[topic].plural(verb_first, nearest) else _SINGULAR[name]
        if name in SLOTS:
            text = self.topics[SLOTS[name][0]].form(SLOTS[name][1]) or ""
            after_with = slot.string[: slot.start()].lower().endswith("with ")
            return self.render(text.replace(" with ", " and ") if after_with else text)
        if name == "s":
            return self._subject()
        if name == "who":
            return self.paragraph.who
        if name in ("p", "o"):
            return self.pronouns[1 if name == "p" else 2]
        return VERBS[name] if self.plural else name

    def _subject(self) -> str:
        """A pronoun, or now and then a noun where the subject comes first."""
        paragraph = self.paragraph
        if not paragraph.they and (not paragraph.facts.male or paragraph.rng.random() < 0.2) and not self.named:
            self.named = True
            return paragraph.rng.choice(paragraph.nouns)
        self.named = True
        self.plural = not paragraph.facts.male
        return self.pronouns[0]


# --- The four forms -------------------------------------------------------------------------------------------

Written = tuple[str, dict[str, str]]


def _paragraph(facts: Facts, pairs: Sequence[Pair], who: Person) -> _Paragraph:
    paragraph = _Paragraph(facts, Topics(facts, pairs).found)
    paragraph.write(who)
    return paragraph


def _dense(facts: Facts) -> Written:
    """Nearly all that is there, and as much of what is not as it takes."""

    def weight(unit: Unit) -> float:
        return synonyms.WILLING.get(unit[0], 1.0 if absence(unit) else 60.0)

    who = person(facts, ageless=0.02)
    target = facts.rng.randint(*_DENSE)
    paragraph = _paragraph(facts, facts.choose(facts.shuffled(weight), target, target + 2, who[2]), who)
    return paragraph.text, dict(paragraph.said)


def _medium(facts: Facts) -> Written:
    """The first try that has no more than three sentences; a face of which little is known may have one."""
    target = facts.rng.randint(4, 7)
    for _ in range(20):
        who = person(facts)
        paragraph = _paragraph(facts, facts.choose(facts.shuffled(rarity), target, 7, who[2]), who)
        if 2 <= len(paragraph.sentences) <= 3:
            break
    return paragraph.text, dict(paragraph.said)


def _few(facts: Facts, odds: Sequence[int], said: Sequence[Pair]) -> list[Pair]:
    """A few facts for the short forms: 0, 1, 2, ... of them by `odds`, at most one of them an absence."""
    count = facts.rng.choices(range(len(odds)), odds)[0]
    units: list[Unit] = []
    for unit in facts.shuffled(rarity):
        if len(units) == count:
            break
        sayable = any(topic not in ("denied", "photo", "eyes") for topic in topics_of()[unit[0]])
        if sayable and not (absence(unit) and any(absence(other) for other in units)):
            units.append(unit)
    return facts.choose(units, 99, 99, said)


def _short(facts: Facts) -> Written:
    """ "a smiling young woman with blond hair wearing glasses"."""
    rng = facts.rng
    noun, after, said = person(facts, gender=rng.random() < 0.93, ageless=0.4, behind=rng.random() < 0.15)
    topics = Topics(facts, _few(facts, (5, 25, 34, 22, 14), said)).found
    front, back = _pieces(topics, rng)
    text = with_article(" ".join(part for part in (*front, noun, after, *back) if part).replace(" ,", ","))
    told = [pair for chunks in topics.values() for topic in chunks for pair in topic.pairs]
    possessive = synonyms.PRONOUNS[facts.male if ("Male", facts.male) in said else ""][1]
    return rng.choice(synonyms.PREFIXES) + text.replace("{p}", possessive), dict([*said, *told])


def _pieces(topics: Mapping[str, list[Topic]], rng: random.Random) -> tuple[list[str], list[str]]:
    """What stands before and behind the noun."""

    def parts(*names: str) -> list[str]:
        return [part for name in names for topic in topics.get(name, ()) for part in topic.parts]

    front = parts("state")
    has = [piece for part in parts("hair", "features", "beard") for piece in part.split(" with ")]
    worn, without = parts("worn"), parts("lack_worn", "lack_beard", "lack_marks")
    has += [topic.forms["noun"] for topic in topics.get("feeling", ())]
    doing = [topic.forms["participle"] for name in ("smile", "pose") for topic in topics.get(name, ())]
    if doing == ["smiling"] and rng.random() < 0.7:
        front, doing = [*front, "smiling"], []
    back = [f"with {join(has)}"] if has else []
    back += [f"{'and' if has and rng.random() < 0.3 else ''} wearing {join(worn)}".strip()] if worn else []
    back += [f"{', ' if back else ''}without {join(without, 'or')}"] if without else []
    return front, [*back, *(f", {text}" for text in doing)]


def _tags(facts: Facts) -> Written:
    """ "rosy cheeks, blond hair, smiling"; the person may be a tag too, and is where nothing else is."""
    rng = facts.rng
    who = person(facts, gender=rng.random() < 0.9, ageless=0.5, behind=False)
    named = rng.random() < 0.45
    said = who[2] if named else ()
    topics = Topics(facts, _few(facts, (0, 24, 30, 22, 14, 10), said)).found
    tags: list[str] = []
    told: list[Pair] = []
    for name, chunks in topics.items():
        for topic in chunks:
            tags += _tag(name, topic, rng)
            told += topic.pairs
    tags = rng.sample(tags, len(tags))
    if named or not tags:
        tags.insert(0, with_article(who[0]) if rng.random() < 0.2 else who[0])
        said = who[2]
    return ", ".join(tags).replace(" on {p} face", "").replace("{p} ", ""), dict([*said, *told])


def _tag(name: str, topic: Topic, rng: random.Random) -> list[str]:
    """The tags of a topic: nouns without article, "no" or "without" before what is not there."""
    if name in ("smile", "pose"):
        return [topic.forms["participle"].removeprefix("with ")]
    if name == "feeling":
        return [bare(topic.forms["noun"])]
    if name.startswith("lack"):
        return [f"no {bare(part)}" if rng.random() < 0.7 else f"without {part}" for part in topic.parts]
    worn = "wearing " if name == "worn" and rng.random() < 0.25 else ""
    return [worn + part if worn or rng.random() < 0.25 else bare(part) for part in topic.parts]


_WRITERS: dict[str, Callable[[Facts], Written]] = {"tags": _tags, "short": _short, "medium": _medium, "dense": _dense}
